"""A simulated mouse under a wide-field camera: movies without end, with their truth.

Behaviour (:mod:`~streamscore.simulate.cortex_behaviour`) drives activity and blood
(:mod:`~streamscore.simulate.cortex_activity`), and a camera (:mod:`~streamscore.simulate.cortex_camera`) takes
pictures of them on a drawing of the cortex (:mod:`~streamscore.simulate.cortex_map`). Movies serve demos, tests
and the networks that ship as demos; whatever is learnt from them is called simulated.

A cycle of all lights is one sample. Traces are made in blocks and pictures in pieces of fixed length, so that the
movie does not depend on the sizes of the reads and the memory used does not grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamscore.errors import ConfigError
from streamscore.labels import MOUSE3
from streamscore.simulate.blocks import StateArray
from streamscore.simulate.cortex_activity import Activity, Smooth, Traces, Wander
from streamscore.simulate.cortex_behaviour import RUN_CM_S, Behaviour
from streamscore.simulate.cortex_camera import LIGHTS, Camera, CountArray
from streamscore.simulate.cortex_map import CortexMap, patches_mm
from streamscore.simulate.mouse import CYCLE_S
from streamscore.types import FloatArray

#: The usual sets of lights, in the order of the cycle.
FOUR_LIGHTS = ("fluorescence_470", "reflectance_523", "reflectance_595", "reflectance_640")
TWO_LIGHTS = ("fluorescence_470", "reference_405")
ONE_LIGHT = ("fluorescence_470",)

_BODY = 131
#: Samples in a block of traces and in a piece of the movie; a block is a whole number of pieces.
_BLOCK_SAMPLES, _PIECE_SAMPLES = 64, 8
#: Blocks before the first, in which noise and filters come into their stride.
_LEAD_BLOCKS = 4
#: Movement of the brain under the bone in mm (rms) in Wake, NREM and REM, and what running adds.
_SHAKE_MM, _RUN_SHAKE_MM = np.array((0.006, 0.002, 0.003)), 0.025
MIN_CYCLE_S = 60.0
MIN_SIDE_PX = 16


@dataclass(frozen=True)
class Movie:
    """A piece of a simulated movie with its truth.

    Parameters
    ----------
    frames
        ``(n_samples, n_lights, height, width)`` uint16 camera counts.
    states
        ``(n_samples,)`` int8 codes into ``MOUSE3``.
    running
        ``(n_samples,)`` int8 codes into ``RUNREST``: 1 above 0.5 cm/s.
    wheel_cm_s
        ``(n_samples,)`` float32 speed of the wheel.
    clean
        ``(n_samples, height, width)`` float32 true ΔF/F while the first light was on; ``None`` unless asked for.
    """

    frames: CountArray
    states: StateArray
    running: StateArray
    wheel_cm_s: FloatArray
    clean: FloatArray | None = None

    @property
    def raw(self) -> CountArray:
        """The frames as the camera gave them, light after light: ``(n_samples * n_lights, height, width)``."""
        raw: CountArray = self.frames.reshape(-1, *self.frames.shape[2:])
        return raw


class Cortex:
    """A stream of simulated frames.

    Parameters
    ----------
    seed
        Which mouse and which recording; 0 or more. ``Simulator("mouse", seed=seed, cycle_s=cycle_s)`` gives the
        EEG and EMG of the same sleep.
    lights
        Names out of ``cortex_camera.LIGHTS``, in the order of the cycle.
    sfreq
        Cycles of all lights a second; the camera takes ``sfreq * len(lights)`` frames a second.
    frame_shape
        ``(height, width)`` in pixels, 16 or more each.
    cycle_s
        Length of a sleep cycle, 60 s or more; a shorter one shortens all bouts, not the signals.
    sleeps
        False for a mouse that is awake all the time.
    runs
        False for one that never runs.
    bits
        Of a pixel: 10 to 16.
    clean
        Whether to hand out the true ΔF/F of every pixel too.
    tilt_deg, offset_mm
        How the head lies in the picture, as in :class:`~streamscore.simulate.cortex_map.CortexMap`.

    Attributes
    ----------
    mask
        ``(height, width)`` bool: the brain.
    areas, area_names
        ``(height, width)`` int16 label map, 0 outside; label k is called ``area_names[k - 1]`` (``"M2_L"`` …).
    landmarks_px
        ``bregma`` and ``lambda`` as ``(row, column)``.
    dark_frame
        ``(height, width)`` float32: mean counts with all lights off.
    labels
        ``MOUSE3``.

    Raises
    ------
    ConfigError
        If an argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        lights: Sequence[str] = FOUR_LIGHTS,
        sfreq: float = 16.8,
        frame_shape: tuple[int, int] = (128, 128),
        cycle_s: float = CYCLE_S,
        sleeps: bool = True,
        runs: bool = True,
        bits: int = 16,
        clean: bool = False,
        tilt_deg: float = 0.0,
        offset_mm: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        _check(seed, lights, sfreq, frame_shape, cycle_s, bits)
        self.seed, self.lights, self.sfreq = seed, tuple(lights), float(sfreq)
        self.frame_shape, self.labels = frame_shape, MOUSE3
        self.drawing = CortexMap(frame_shape, tilt_deg, offset_mm)
        self.mask, self.areas = self.drawing.mask, self.drawing.areas
        self.area_names, self.landmarks_px = self.drawing.area_names, self.drawing.landmarks_px
        self._keep_clean = clean
        self._hz = self.sfreq * len(self.lights)
        places = patches_mm()
        self._behaviour = Behaviour(seed, cycle_s, sleeps, runs)
        self._activity = Activity(seed, self._hz, places)
        self._camera = Camera(seed, self.drawing, places, self.lights, bits)
        self.dark_frame = self._camera.dark_frame
        rng = np.random.default_rng([seed, _BODY])
        self._inertia = Smooth(0.12, self._hz), Smooth(0.12, self._hz)
        self._pace, self._shake = Wander(0.7, self._hz, 1, rng), Wander(0.25, self._hz, 2, rng)
        self._body = rng
        self.position_samples = 0
        self._block = -_LEAD_BLOCKS
        while self._block < 0:
            self._make_block()
        self._used = _BLOCK_SAMPLES
        self._piece: Movie | None = None
        self._piece_used = 0

    def read(self, n_samples: int) -> Movie:
        """Return the next samples; any division of the stream into reads gives the same stream."""
        if n_samples < 0:
            raise ValueError(f"cannot read {n_samples} samples")
        frames = np.empty((n_samples, len(self.lights), *self.frame_shape), np.uint16)
        states, running = np.empty(n_samples, np.int8), np.empty(n_samples, np.int8)
        wheel_cm_s = np.empty(n_samples, np.float32)
        clean = np.empty((n_samples, *self.frame_shape), np.float32) if self._keep_clean else None
        filled = 0
        while filled < n_samples:
            if self._piece is None or self._piece_used == _PIECE_SAMPLES:
                self._piece, self._piece_used = self._make_piece(), 0
            take = min(n_samples - filled, _PIECE_SAMPLES - self._piece_used)
            to, come = slice(filled, filled + take), slice(self._piece_used, self._piece_used + take)
            frames[to], states[to] = self._piece.frames[come], self._piece.states[come]
            running[to], wheel_cm_s[to] = self._piece.running[come], self._piece.wheel_cm_s[come]
            if clean is not None and self._piece.clean is not None:
                clean[to] = self._piece.clean[come]
            filled += take
            self._piece_used += take
        self.position_samples += n_samples
        return Movie(frames, states, running, wheel_cm_s, clean)

    def _make_block(self) -> None:
        """Traces, behaviour and movement of the next block, by frame of the camera."""
        n = _BLOCK_SAMPLES * len(self.lights)
        self._t_s = (self._block * n + np.arange(n)) / self._hz
        # Before the start all is as at the start.
        self._states, wanted = self._behaviour.at(np.maximum(self._t_s, 0.0))
        pace = 1.0 + 0.15 * self._pace(self._body, n)[:, 0]
        speed = np.maximum(wanted * pace, 0.0)[:, None]
        for smooth in self._inertia:
            speed = smooth(speed)
        self._speed = speed[:, 0]
        self._traces = self._activity.next_block(self._t_s, self._states, self._speed)
        shake_mm = _SHAKE_MM[self._states] + _RUN_SHAKE_MM * (1.0 - np.exp(-self._speed / 4.0))
        self._shifts_mm = shake_mm[:, None] * self._shake(self._body, n)
        self._block += 1

    def _make_piece(self) -> Movie:
        if self._used == _BLOCK_SAMPLES:
            self._make_block()
            self._used = 0
        n_lights = len(self.lights)
        at = slice(self._used * n_lights, (self._used + _PIECE_SAMPLES) * n_lights)
        self._used += _PIECE_SAMPLES
        traces = Traces(self._traces.neural[at], self._traces.hbo_um[at], self._traces.hbr_um[at])
        frames, clean = self._camera.render(traces, self._t_s[at], self._shifts_mm[at])
        wheel_cm_s = self._speed[at][::n_lights].astype(np.float32)
        running = (wheel_cm_s > RUN_CM_S).astype(np.int8)
        return Movie(frames, self._states[at][::n_lights], running, wheel_cm_s, clean)


def simulate_movie(
    duration_s: float,
    *,
    seed: int = 0,
    lights: Sequence[str] = FOUR_LIGHTS,
    sfreq: float = 16.8,
    frame_shape: tuple[int, int] = (128, 128),
    cycle_s: float = CYCLE_S,
    sleeps: bool = True,
    runs: bool = True,
    clean: bool = False,
) -> Movie:
    """Return the first `duration_s` seconds of a :class:`Cortex`; the other arguments are its."""
    cortex = Cortex(
        seed=seed, lights=lights, sfreq=sfreq, frame_shape=frame_shape, cycle_s=cycle_s, sleeps=sleeps, runs=runs,
        clean=clean,
    )  # fmt: skip
    # Samples 0 … n - 1 cover the duration; a hair less, lest a rounding error add one.
    return cortex.read(math.ceil(duration_s * sfreq - 1e-6))


def _check(
    seed: int, lights: Sequence[str], sfreq: float, frame_shape: tuple[int, int], cycle_s: float, bits: int
) -> None:
    if seed < 0:
        raise ConfigError(f"seed is {seed}; choose 0 or more")
    if unknown := [name for name in lights if name not in LIGHTS]:
        raise ConfigError(f"no such light: {', '.join(unknown)}; choose from {', '.join(LIGHTS)}")
    if not lights or len(set(lights)) != len(lights):
        raise ConfigError(f"lights are {', '.join(lights) or 'none'}; name one or more, each once")
    if not (math.isfinite(sfreq) and 2.0 <= sfreq <= 200.0):
        raise ConfigError(f"cannot simulate {sfreq:g} cycles a second; choose 2 to 200")
    if min(frame_shape) < MIN_SIDE_PX:
        raise ConfigError(f"frames of {frame_shape} pixels are too small; choose {MIN_SIDE_PX} or more a side")
    if not (math.isfinite(cycle_s) and cycle_s >= MIN_CYCLE_S):
        raise ConfigError(f"cycle_s is {cycle_s:g}; choose {MIN_CYCLE_S:g} s or more, to pass through all states")
    if not 10 <= bits <= 16:
        raise ConfigError(f"bits is {bits}; choose 10 to 16")
