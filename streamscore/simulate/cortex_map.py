"""Our own drawing of the mouse's dorsal cortex: outline, areas, landmarks and vessels, at any frame size.

Coordinates are millimetres from bregma: `x` to the animal's right, `y` to the front. The outline and the centres
and extents of the areas were set by hand from common knowledge of where things lie; no atlas was traced. Every
pixel inside the outline belongs to the nearest area, distances measured in extents. Good enough for a movie with
known truth, no substitute for an atlas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from streamscore.types import FloatArray, TimeArray

BREGMA_MM = (0.0, 0.0)
LAMBDA_MM = (0.0, -4.2)
#: What the smaller side of a frame spans: pixels of 78 µm at 128.
FIELD_MM = 10.0
#: Centre of the frame.
CENTRE_MM = (0.0, -0.55)
#: Half of the width of the midline, which belongs to no area.
MIDLINE_MM = 0.08

#: Right half of the outline, from the front to the back.
_OUTLINE_MM = (
    (0.10, 3.75), (0.70, 3.95), (1.45, 3.65), (2.10, 2.95), (2.70, 2.05), (3.30, 1.05), (3.85, -0.10),
    (4.25, -1.30), (4.40, -2.50), (4.20, -3.60), (3.60, -4.40), (2.70, -4.80), (1.80, -4.80), (1.05, -4.50),
    (0.50, -4.15), (0.10, -3.95),
)  # fmt: skip
#: Area → centre ``x, y`` and extent ``x, y`` in mm.
_AREAS = {
    "M2": ((0.85, 2.50), (0.85, 1.70)),  # secondary motor
    "M1": ((1.75, 1.55), (0.75, 1.30)),  # primary motor
    "ACC": ((0.25, 0.65), (0.40, 1.25)),  # anterior cingulate
    "FL": ((2.25, 0.25), (0.65, 0.60)),  # forelimb
    "HL": ((1.50, -0.65), (0.60, 0.60)),  # hindlimb
    "TR": ((1.65, -1.75), (0.60, 0.42)),  # trunk
    "NO": ((2.95, 0.75), (0.60, 0.95)),  # nose and mouth
    "BF": ((2.95, -1.30), (0.80, 1.05)),  # barrel field
    "S2": ((3.85, -0.85), (0.50, 1.00)),  # secondary somatosensory
    "PPC": ((1.65, -2.35), (0.85, 0.40)),  # posterior parietal
    "RSP": ((0.45, -2.60), (0.55, 1.75)),  # retrosplenial
    "V1": ((2.35, -3.75), (0.90, 0.95)),  # primary visual
    "VL": ((3.45, -3.05), (0.50, 0.75)),  # lateral visual
    "AUD": ((4.10, -2.45), (0.45, 0.75)),  # auditory
}
#: Names of the areas of one hemisphere.
AREAS = tuple(_AREAS)


@dataclass(frozen=True)
class CortexMap:
    """The drawing on one camera.

    Parameters
    ----------
    frame_shape
        ``(height, width)`` in pixels.
    tilt_deg
        How far the head is turned in the picture, clockwise.
    offset_mm
        How far the head is moved, to the right and to the top of the picture.
    """

    frame_shape: tuple[int, int] = (128, 128)
    tilt_deg: float = 0.0
    offset_mm: tuple[float, float] = (0.0, 0.0)

    @property
    def mm_per_px(self) -> float:
        """Side of a pixel."""
        return FIELD_MM / min(self.frame_shape)

    @cached_property
    def xy_mm(self) -> TimeArray:
        """Position of every pixel, ``(2, height, width)``."""
        height, width = self.frame_shape
        row, column = np.mgrid[:height, :width].astype(np.float64)
        right = (column - (width - 1) / 2) * self.mm_per_px - self.offset_mm[0]
        up = ((height - 1) / 2 - row) * self.mm_per_px - self.offset_mm[1]
        turn = math.radians(self.tilt_deg)
        x = math.cos(turn) * right - math.sin(turn) * up
        y = math.sin(turn) * right + math.cos(turn) * up
        return np.stack([x + CENTRE_MM[0], y + CENTRE_MM[1]])

    def pixel_of(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """Return ``(row, column)`` of a place, with fractions; the centre of the first pixel is (0, 0)."""
        height, width = self.frame_shape
        turn = math.radians(self.tilt_deg)
        x, y = x_mm - CENTRE_MM[0], y_mm - CENTRE_MM[1]
        right = math.cos(turn) * x + math.sin(turn) * y + self.offset_mm[0]
        up = -math.sin(turn) * x + math.cos(turn) * y + self.offset_mm[1]
        return (height - 1) / 2 - up / self.mm_per_px, (width - 1) / 2 + right / self.mm_per_px

    @property
    def landmarks_px(self) -> dict[str, tuple[float, float]]:
        """``bregma`` and ``lambda`` as ``(row, column)``."""
        return {"bregma": self.pixel_of(*BREGMA_MM), "lambda": self.pixel_of(*LAMBDA_MM)}

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """``(height, width)``, true on the brain."""
        x, y = self.xy_mm
        edge = _smooth_outline()
        # The outline is a function of neither x nor y, but it is one of the angle around the centre.
        angle = np.arctan2(np.abs(x), y - CENTRE_MM[1])
        radius = np.hypot(x, y - CENTRE_MM[1])
        edge_angle = np.arctan2(edge[:, 0], edge[:, 1] - CENTRE_MM[1])
        edge_radius = np.hypot(edge[:, 0], edge[:, 1] - CENTRE_MM[1])
        inside: npt.NDArray[np.bool_] = radius < np.interp(angle, edge_angle, edge_radius)
        return inside

    @cached_property
    def areas(self) -> npt.NDArray[np.int16]:
        """``(height, width)``: 0 outside and on the midline, else 1 + index into :attr:`area_names`."""
        x, y = self.xy_mm
        side = np.abs(x)
        distances = [((side - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 for (cx, cy), (rx, ry) in _AREAS.values()]
        nearest = np.argmin(distances, axis=0) + 1 + len(AREAS) * (x > 0)
        labels: npt.NDArray[np.int16] = np.where(self.mask & (side > MIDLINE_MM), nearest, 0).astype(np.int16)
        return labels

    @property
    def area_names(self) -> tuple[str, ...]:
        """Names of the labels 1, 2 …: the left hemisphere first."""
        return tuple(f"{name}_{side}" for side in "LR" for name in AREAS)

    def area_maps(self, blur_mm: float = 0.15) -> FloatArray:
        """Areas with soft borders, ``(n_areas, height, width)``, about 1 inside."""
        sharp = np.arange(1, 1 + 2 * len(AREAS))[:, None, None] == self.areas
        sigma_px = blur_mm / self.mm_per_px
        soft: FloatArray = gaussian_filter(sharp.astype(np.float32), (0, sigma_px, sigma_px)) * self.mask
        return soft

    def patch_maps(self, patches_mm: TimeArray, width_mm: float = 0.6) -> FloatArray:
        """Smooth weights from places ``(n, 2)`` to pixels, ``(n, height, width)``; their sum is 1 on the brain."""
        x, y = self.xy_mm
        squared = (x - patches_mm[:, :1, None]) ** 2 + (y - patches_mm[:, 1:, None]) ** 2
        bumps = np.exp(-0.5 * squared / width_mm**2)
        return np.asarray(self.mask * bumps / np.maximum(bumps.sum(axis=0), 1e-6), np.float32)

    def vessels(self, rng: np.random.Generator) -> FloatArray:
        """Draw the vessels of one mouse: ``(height, width)``, 0 none to about 1 the sinus of the midline."""
        x, _ = self.xy_mm
        drawn = np.exp(-0.5 * (x / 0.09) ** 2) * self.mask
        for side in (-1.0, 1.0):
            for _ in range(9):
                for at_mm, width_mm, depth in _branch(rng, side):
                    self._stamp(drawn, at_mm, width_mm, depth)
        return np.asarray(drawn, np.float32)

    def _stamp(self, drawn: TimeArray, at_mm: TimeArray, width_mm: float, depth: float) -> None:
        """Draw a dot into `drawn`, where it is the darker."""
        row, column = self.pixel_of(*at_mm)
        sigma_px = width_mm / self.mm_per_px
        rows = np.arange(max(math.floor(row - 4 * sigma_px), 0), min(row + 4 * sigma_px + 1, self.frame_shape[0]))
        columns = np.arange(
            max(math.floor(column - 4 * sigma_px), 0), min(column + 4 * sigma_px + 1, self.frame_shape[1])
        )
        if len(rows) and len(columns):
            window = drawn[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
            squared = (rows[:, None] - row) ** 2 + (columns - column) ** 2
            np.maximum(window, depth * np.exp(-0.5 * squared / sigma_px**2), out=window)


def patches_mm(spacing_mm: float = 1.0) -> TimeArray:
    """Places on a grid over both hemispheres, ``(n, 2)``, the same for every camera."""
    grid = CortexMap((100, 100))
    x, y = (side[grid.mask] for side in grid.xy_mm)
    wanted = np.arange(-4.5, 4.6, spacing_mm)
    return np.array(
        [
            (cx, cy)
            for cy in np.arange(-4.5, 3.6, spacing_mm)
            for cx in wanted
            if np.hypot(x - cx, y - cy).min() < 0.3 * spacing_mm
        ]
    )


def _smooth_outline(n: int = 400) -> TimeArray:
    """Points ``(n, 2)`` of the right half of the outline, by angle from the front."""
    corners = np.array(_OUTLINE_MM)
    steps = np.hypot(*np.diff(corners, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    points: TimeArray = CubicSpline(along, corners)(np.linspace(0.0, along[-1], n))
    return points


def _branch(rng: np.random.Generator, side: float) -> Iterator[tuple[TimeArray, float, float]]:
    """Walk along one vessel, from the rim inwards: place ``(2,)`` in mm, width in mm, and depth, ever less."""
    n_steps, step_mm = 40, 0.09
    at = np.array([side * rng.uniform(2.4, 4.0), rng.uniform(-4.3, 2.4)])
    heading = math.atan2(-0.6 - at[1], -at[0]) + rng.normal(0.0, 0.4)
    bend = 0.0
    for step in range(n_steps):
        bend = 0.7 * bend + rng.normal(0.0, 0.05)
        heading += bend
        at = at + step_mm * np.array([math.cos(heading), math.sin(heading)])
        yield at, 0.10 * (1.0 - 0.7 * step / n_steps), 0.75 * (1.0 - 0.6 * step / n_steps)
