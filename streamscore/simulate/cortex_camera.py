"""What a camera sees of a simulated cortex under each light.

Light comes back attenuated by the blood in its way (Beer-Lambert, extinction of haemoglobin as tabulated by
S. Prahl, omlc.org; lengths of the ways chosen by eye for the usual sizes of the changes) and, where the indicator
shines, multiplied by its activity. The head moves by fractions of a pixel, the indicator bleaches, photons come
one by one, and the camera adds its dark level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from streamscore.simulate.cortex_activity import Traces
from streamscore.simulate.cortex_map import CENTRE_MM, CortexMap
from streamscore.types import FloatArray, TimeArray

CountArray = npt.NDArray[np.uint16]

#: Streams of random numbers of a seed.
_MOUSE, _NOISE = 121, 122
#: Extinction of oxygenated and deoxygenated haemoglobin in 1/(cm M), by wavelength in nm; GCaMP shines at 512.
_EXTINCTION = {
    405: (331458.0, 261958.0), 470: (33209.0, 16156.0), 512: (20150.0, 26937.0), 523: (27860.0, 34011.0),
    595: (6681.0, 21187.0), 640: (442.0, 4345.0),
}  # fmt: skip
#: Photons that fill a pixel, and the camera's own noise in electrons.
FULL_WELL_E, READ_NOISE_E = 30000.0, 2.5
DARK_COUNTS = 100.0
#: Share of the indicator's light that is gone in the end, and how fast it goes.
BLEACHED, BLEACH_S = 0.15, 2400.0
#: What the optics blur.
_BLUR_MM = 0.05
#: Largest movement that is drawn; the picture is expanded to second order around rest.
MAX_SHIFT_MM = 0.08


@dataclass(frozen=True)
class Light:
    """One light of the rig.

    Parameters
    ----------
    ways_cm
        Wavelength in nm → mean way through tissue.
    calcium
        How much of the indicator's ΔF/F it shows.
    shines
        Whether what comes back is fluorescence, which bleaches, and of which bone has little.
    brightness
        Of the brightest pixels, as a part of the full scale.
    vessel_depth
        How dark a sinus is: natural log.
    """

    ways_cm: dict[int, float]
    calcium: float
    shines: bool
    brightness: float
    vessel_depth: float

    @property
    def attenuation_per_um(self) -> tuple[float, float]:
        """Natural log of the loss for each µM of oxygenated and of deoxygenated blood more."""
        hbo, hbr = (
            2.303e-6 * sum(_EXTINCTION[nm][k] * way_cm for nm, way_cm in self.ways_cm.items()) for k in (0, 1)
        )
        return hbo, hbr


#: The lights that there are, by the name of the channel.
LIGHTS = {
    "fluorescence_470": Light({470: 0.028, 512: 0.028}, 1.0, True, 0.42, 0.9),
    "reference_405": Light({405: 0.003, 512: 0.028}, -0.02, True, 0.30, 1.0),
    "reflectance_523": Light({523: 0.060}, 0.0, False, 0.50, 1.0),
    "reflectance_595": Light({595: 0.090}, 0.0, False, 0.55, 0.7),
    "reflectance_640": Light({640: 0.400}, 0.0, False, 0.60, 0.35),
}


class Camera:
    """Traces to counts.

    Parameters
    ----------
    seed
        Which mouse and recording.
    drawing, patches_mm
        Where things are.
    lights
        Names out of :data:`LIGHTS`, in the order of the cycle.
    bits
        Of a pixel.

    Attributes
    ----------
    dark_frame
        ``(height, width)`` float32: mean counts without light.
    still
        ``(n_lights, height, width)`` float32: counts above dark at rest, before bleaching.
    """

    def __init__(
        self, seed: int, drawing: CortexMap, patches_mm: TimeArray, lights: tuple[str, ...], bits: int
    ) -> None:
        rng = np.random.default_rng([seed, _MOUSE])
        self._lights = [LIGHTS[name] for name in lights]
        self._full_scale = 2**bits - 1
        self._electrons_per_count = FULL_WELL_E / self._full_scale
        self._read_variance = np.float32((READ_NOISE_E / self._electrons_per_count) ** 2)
        self._px_per_mm = 1.0 / drawing.mm_per_px
        self._shape = drawing.frame_shape
        brain = drawing.mask.ravel()
        self._brain = np.flatnonzero(brain)
        vessels = drawing.vessels(rng)
        maps = np.concatenate([drawing.area_maps(), drawing.patch_maps(patches_mm), vessels[None]])
        # Only what is on the brain is computed: about half of the pixels.
        self._maps = np.ascontiguousarray(maps.reshape(len(maps), -1)[:, self._brain])

        width = drawing.frame_shape[1]
        pattern = rng.normal(0.0, 2.0, drawing.frame_shape) + np.linspace(-3.0, 3.0, width)
        self.dark_frame: FloatArray = (DARK_COUNTS + pattern).astype(np.float32)
        texture = gaussian_filter(rng.standard_normal(drawing.frame_shape), 0.25 * self._px_per_mm, mode="wrap")
        texture *= 0.08 / texture.std()
        self.still: FloatArray = np.stack(
            [self._full_scale * self._draw(light, drawing, vessels, texture, rng) for light in self._lights]
        ).astype(np.float32)
        self._taylor = np.stack([_expand(image) for image in self.still])
        self._noise = np.random.default_rng([seed, _NOISE])

    def _draw(
        self, light: Light, drawing: CortexMap, vessels: FloatArray, texture: TimeArray, rng: np.random.Generator
    ) -> TimeArray:
        """Picture of the resting brain under one light, 1 the full scale."""
        x, y = drawing.xy_mm
        centre_x, centre_y = rng.normal(0.0, 0.5, 2)
        beam = np.exp(-0.5 * ((x - centre_x) ** 2 + (y - CENTRE_MM[1] - centre_y) ** 2) / 5.0**2)
        tissue = (1.0 + texture) * np.exp(-light.vessel_depth * vessels)
        bone = 0.12 if light.shines else 0.55
        picture = light.brightness * beam * np.where(drawing.mask, tissue, bone)
        return np.asarray(gaussian_filter(picture, _BLUR_MM * self._px_per_mm))

    def render(self, traces: Traces, t_s: TimeArray, shifts_mm: TimeArray) -> tuple[CountArray, FloatArray]:
        """Return the frames of whole cycles.

        Parameters
        ----------
        traces
            Of ``n_samples * n_lights`` frames of the camera.
        t_s
            ``(n_frames,)`` seconds from the start.
        shifts_mm
            ``(n_frames, 2)``: movement downwards and to the right.

        Returns
        -------
        frames
            ``(n_samples, n_lights, height, width)`` uint16 counts.
        clean
            ``(n_samples, height, width)`` float32: true ΔF/F while the first light was on, 0 outside the brain.
        """
        n_lights, n_pixels = len(self._lights), self._shape[0] * self._shape[1]
        n = len(t_s) // n_lights
        neural, loss = self._activity_and_loss(traces, n)
        photons = np.empty((n, n_lights, n_pixels), np.float32)
        shifts_px = np.clip(shifts_mm, -MAX_SHIFT_MM, MAX_SHIFT_MM) * self._px_per_mm
        for k, light in enumerate(self._lights):
            at = slice(k, None, n_lights)
            dy, dx = shifts_px[at].T
            weights = np.stack([np.ones(n), -dy, -dx, 0.5 * dy * dy, dy * dx, 0.5 * dx * dx], axis=1)
            if light.shines:
                weights *= (1.0 - BLEACHED * -np.expm1(-t_s[at] / BLEACH_S))[:, None]
            np.matmul(weights.astype(np.float32), self._taylor[k], out=photons[:, k])
            gain = np.exp(-loss[k])
            if light.calcium:
                gain *= 1.0 + np.float32(light.calcium) * neural[k]
            photons[:, k, self._brain] *= gain
        clean = np.zeros((n, n_pixels), np.float32)
        clean[:, self._brain] = neural[0]
        return self._expose(photons).reshape(n, n_lights, *self._shape), clean.reshape(n, *self._shape)

    def _activity_and_loss(self, traces: Traces, n: int) -> tuple[dict[int, FloatArray], FloatArray]:
        """ΔF/F by light (the first, and all that show it), ``(n_samples, n_brain)``, and log attenuation."""
        n_lights = len(self._lights)
        losses = []
        for k, light in enumerate(self._lights):
            hbo, hbr = light.attenuation_per_um
            losses.append(hbo * traces.hbo_um[k::n_lights] + hbr * traces.hbr_um[k::n_lights])
        loss = (np.concatenate(losses) @ self._maps).reshape(n_lights, n, -1)
        wanted = [k for k, light in enumerate(self._lights) if k == 0 or light.calcium]
        shown = np.concatenate([traces.neural[k::n_lights] for k in wanted]) @ self._maps[:-1]
        neural = dict(zip(wanted, shown.reshape(len(wanted), n, -1), strict=True))
        return neural, loss

    def _expose(self, photons: FloatArray) -> CountArray:
        """Add noise and the dark level, and count: in place."""
        np.maximum(photons, 0.0, out=photons)
        noise = self._noise.standard_normal(photons.shape, np.float32)
        # At thousands of electrons a Poisson number is a normal one with the same variance.
        spread = np.sqrt(photons * np.float32(1 / self._electrons_per_count) + self._read_variance)
        noise *= spread
        photons += noise
        photons += self.dark_frame.ravel()
        np.rint(photons, out=photons)
        np.clip(photons, 0, self._full_scale, out=photons)
        return photons.astype(np.uint16)


def _expand(image: FloatArray) -> FloatArray:
    """Picture and its derivatives ``1, y, x, yy, xy, xx``, ``(6, n_pixels)``."""
    dy, dx = np.gradient(image)
    dyy, dyx = np.gradient(dy)
    _, dxx = np.gradient(dx)
    return np.stack([image, dy, dx, dyy, dyx, dxx]).reshape(6, -1).astype(np.float32)
