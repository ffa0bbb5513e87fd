"""Neural activity and blood of a simulated cortex, as traces of areas and patches.

Activity is ΔF/F of a calcium indicator: a drive in each area (both hemispheres alike for the most part) and in
each patch, smoothed by the rise and decay of GCaMP6f. The drive is

* in all states: fast and infraslow noise of the areas, fast noise of the patches;
* in NREM: slow waves, about one a second, that mostly start in front and travel backwards, weaker as they go;
* in REM: theta and a raised, unsteady level of the retrosplenial and visual areas;
* in Wake: fast activity without waves, and whisks in the barrel, nose and motor areas;
* while running: the limb, trunk and motor areas, most of all at the onset, and a dip below rest after the end.

Oxygenated blood follows activity within about a second and washes out deoxygenated blood; to both are added
vasomotion near 0.1 Hz and the heartbeat. Sizes are typical ones chosen by eye; nothing is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.signal import iirpeak, lfilter

from streamscore.simulate.blocks import StateArray
from streamscore.simulate.cortex_map import AREAS
from streamscore.types import FloatArray, TimeArray

#: Streams of random numbers of a seed.
_MOUSE, _BLOCK, _WAVES = 111, 112, 113
N_AREAS = 2 * len(AREAS)
#: Part of the areas' noise that both hemispheres share.
_SHARED = 0.7

#: What each area takes of: running, theta and level in REM, whisks in Wake.
_GAINS = {
    "M2": (0.4, 0.1, 0.3), "M1": (0.8, 0.0, 0.6), "ACC": (0.1, 0.5, 0.1), "FL": (1.1, 0.0, 0.1),
    "HL": (1.3, 0.0, 0.0), "TR": (0.8, 0.1, 0.0), "NO": (0.2, 0.0, 0.9), "BF": (0.3, 0.0, 1.0),
    "S2": (0.2, 0.0, 0.5), "PPC": (0.3, 0.6, 0.1), "RSP": (0.4, 1.0, 0.0), "V1": (0.4, 0.9, 0.0),
    "VL": (0.2, 0.6, 0.0), "AUD": (0.0, 0.2, 0.0),
}  # fmt: skip
_RUN, _POSTERIOR, _WHISK = (np.tile(column, 2) for column in np.array([_GAINS[a] for a in AREAS]).T)
#: Theta travels from the retrosplenial cortex outwards: phase in rad.
_THETA_LAG = np.tile([{"RSP": 0.0, "PPC": 0.4, "ACC": 0.5, "V1": 0.6, "VL": 0.9}.get(a, 0.7) for a in AREAS], 2)

# Standard deviations or heights of the drive, as ΔF/F, in Wake, NREM and REM.
_FAST = np.array((0.017, 0.011, 0.015))
_PATCH = np.array((0.010, 0.008, 0.008))
_INFRASLOW, _GLOBAL = 0.007, 0.006
_THETA, _REM_LEVEL, _REM_SWING = 0.050, 0.007, 0.010
_WHISK_HEIGHT = 0.018
_RUN_HEIGHT, _RUN_ONSET, _GAIT = 0.030, 0.030, 0.012
_WAVE_HEIGHT = 0.085
#: Chance that a wave that would come in NREM comes in Wake, NREM, REM.
_WAVE_CHANCE = np.array((0.06, 1.0, 0.05))
_RISE_S, _DECAY_S = 0.05, 0.20
#: How fast one state gives way to the next.
_CHANGE_S = 0.6

#: Blood in µM: oxygenated and deoxygenated for a ΔF/F of 1 held for long, per unit of vasomotion and of a beat.
_COUPLING_UM, _VASOMOTION_UM, _BEAT_UM = (300.0, -110.0), (2.5, -0.8), (3.0, -0.3)
_VASOMOTION_GAIN = np.array((1.0, 1.5, 1.2))
_HEART_HZ = np.array((10.5, 8.5, 9.0))


@dataclass(frozen=True)
class Traces:
    """A piece of a cortex's course.

    Parameters
    ----------
    neural
        ``(n_frames, n_areas + n_patches)`` ΔF/F.
    hbo_um, hbr_um
        ``(n_frames, n_areas + n_patches + 1)``: change of blood in µM; last the pulse of the vessels.
    """

    neural: FloatArray
    hbo_um: FloatArray
    hbr_um: FloatArray


class Smooth:
    """First-order low-pass of unit gain that goes on where the last piece ended.

    Parameters
    ----------
    tau_s
        Time constant.
    hz
        Frames a second.
    """

    def __init__(self, tau_s: float, hz: float) -> None:
        self._pole = math.exp(-1.0 / (tau_s * hz))
        self._zi: TimeArray | None = None

    def __call__(self, x: TimeArray) -> TimeArray:
        """Filter ``(n_frames, n)``; the first piece starts as if its first frame had stood for ever."""
        if self._zi is None:
            self._zi = self._pole * x[:1]
        y, self._zi = lfilter([1.0 - self._pole], [1.0, -self._pole], x, axis=0, zi=self._zi)
        return np.asarray(y)


class Wander:
    """Noise of unit variance with correlation time `tau_s`, in `n` independent columns."""

    def __init__(self, tau_s: float, hz: float, n: int, rng: np.random.Generator) -> None:
        self._pole = math.exp(-1.0 / (tau_s * hz))
        self._zi = self._pole * rng.standard_normal((1, n))

    def __call__(self, rng: np.random.Generator, n_frames: int) -> TimeArray:
        """Return the next ``(n_frames, n)``."""
        white = rng.standard_normal((n_frames, self._zi.shape[1]))
        y, self._zi = lfilter([math.sqrt(1.0 - self._pole**2)], [1.0, -self._pole], white, axis=0, zi=self._zi)
        return np.asarray(y)


class Activity:
    """The course of one cortex, piece after piece.

    Parameters
    ----------
    seed
        Which mouse and recording.
    hz
        Frames a second of the camera, over all lights.
    patches_mm
        ``(n_patches, 2)`` places of the patches.
    """

    def __init__(self, seed: int, hz: float, patches_mm: TimeArray) -> None:
        self._seed, self._hz, self._patches_mm = seed, hz, patches_mm
        self._block = 0
        rng = np.random.default_rng([seed, _MOUSE])
        self._theta_hz = rng.uniform(6.0, 7.2)
        self._expression = rng.lognormal(0.0, 0.15)
        self._wave_size, self._theta_size, self._run_size = rng.uniform(0.8, 1.25, 3)
        self._interval_s = rng.uniform(0.85, 1.15)

        n_patches = len(patches_mm)
        self._mix, self._adapted = Smooth(_CHANGE_S, hz), Smooth(1.2, hz)
        self._fast, self._slow = (Wander(tau, hz, N_AREAS // 2 + N_AREAS, rng) for tau in (0.10, 4.0))
        self._patch = Wander(0.10, hz, n_patches, rng)
        self._swing, self._whisk = (Wander(tau, hz, 2, rng) for tau in (1.5, 0.4))
        self._global = Wander(10.0, hz, 1, rng)
        self._rise, self._decay = Smooth(_RISE_S, hz), Smooth(_DECAY_S, hz)
        self._supply = [[Smooth(tau, hz) for _ in range(3)] for tau in (0.40, 0.55)]
        self._peak = iirpeak(0.1, 1.0, fs=hz)
        impulse = lfilter(*self._peak, np.r_[1.0, np.zeros(round(60 * hz))])
        self._peak_rms = math.sqrt(float(np.sum(impulse**2)))
        self._peak_zi = np.zeros((2, 1 + N_AREAS))
        self._phases = np.zeros(2)
        self._wave_tail = np.zeros((math.ceil(3.0 * hz), n_patches))
        self._wave_times = self._waves()
        self._next_wave = next(self._wave_times)

    def next_block(self, t_s: TimeArray, states: StateArray, speed_cm_s: TimeArray) -> Traces:
        """Return the traces at the next frames.

        Parameters
        ----------
        t_s
            ``(n_frames,)`` seconds, going on from the last block.
        states
            ``(n_frames,)`` codes into ``MOUSE3``.
        speed_cm_s
            ``(n_frames,)`` of the wheel.
        """
        rng = np.random.default_rng([self._seed, _BLOCK, self._block])
        self._block += 1
        n = len(t_s)
        mix = self._mix(np.eye(3)[states])
        areas = self._noise(rng, mix) + self._rem(rng, mix) + self._wake(rng, mix, speed_cm_s)
        patches = (mix @ _PATCH)[:, None] * self._patch(rng, n) + self._render_waves(t_s, mix)
        drive = self._expression * np.concatenate([areas, patches], axis=1)
        neural = self._decay(self._rise(drive))
        hbo, hbr = self._blood(rng, mix, neural)
        return Traces(neural.astype(np.float32), hbo.astype(np.float32), hbr.astype(np.float32))

    def _noise(self, rng: np.random.Generator, mix: TimeArray) -> TimeArray:
        n = len(mix)
        fast, slow = _bilateral(self._fast(rng, n)), _bilateral(self._slow(rng, n))
        noise: TimeArray = (mix @ _FAST)[:, None] * fast + _INFRASLOW * slow + _GLOBAL * self._global(rng, n)
        return noise

    def _rem(self, rng: np.random.Generator, mix: TimeArray) -> TimeArray:
        wander = self._swing(rng, len(mix))
        phase = self._advance(0, self._theta_hz + 0.25 * wander[:, 1])
        theta = (
            self._theta_size * _THETA * np.exp(0.2 * wander[:, 0])[:, None] * np.cos(phase[:, None] - _THETA_LAG)
        )
        level = _REM_LEVEL + _REM_SWING * wander[:, :1]
        drive: TimeArray = mix[:, 2:] * (theta + level) * _POSTERIOR
        return drive

    def _wake(self, rng: np.random.Generator, mix: TimeArray, speed_cm_s: TimeArray) -> TimeArray:
        wander = self._whisk(rng, len(mix))
        whisk = _WHISK_HEIGHT * np.maximum(wander[:, :1], 0.0) * mix[:, :1]
        effort = 1.0 - np.exp(-speed_cm_s[:, None] / 4.0)
        onset = effort - self._adapted(effort)
        run = _RUN_HEIGHT * effort + _RUN_ONSET * onset + _GAIT * effort * wander[:, 1:]
        drive: TimeArray = whisk * _WHISK + self._run_size * run * _RUN
        return drive

    def _advance(self, which: int, rate_hz: TimeArray) -> TimeArray:
        """Phase in rad of an oscillator at each frame."""
        phase = self._phases[which] + 2 * np.pi * np.cumsum(rate_hz) / self._hz
        # Kept small: a phase that grew for days would lose its last digits.
        self._phases[which] = phase[-1] % (2 * np.pi)
        return np.asarray(phase)

    def _waves(self) -> Iterator[tuple[float, float, TimeArray, TimeArray, float]]:
        """Slow waves without end: time, a number from 0 to 1 that decides, delays, heights, and duration in s."""
        rng = np.random.default_rng([self._seed, _WAVES])
        x, y = self._patches_mm.T
        t_s = 0.0
        while True:
            t_s += self._interval_s * rng.gamma(8.0, 1 / 8.0)
            from_front = rng.random() < 0.85
            origin_y = rng.uniform(1.2, 3.2) if from_front else rng.uniform(-4.0, 0.0)
            distance = np.hypot(0.6 * (x - rng.uniform(-1.5, 1.5)), y - origin_y)
            reach_mm = rng.uniform(4.0, 9.0) if from_front else rng.uniform(2.0, 4.0)
            # Frontal areas take part more, wherever it starts.
            frontal = 0.4 + 0.6 / (1.0 + np.exp(-(y + 0.8) / 1.0))
            heights = (
                self._wave_size * rng.lognormal(-0.05, 0.35) * frontal * np.exp(-((distance / reach_mm) ** 2))
            )
            yield t_s, rng.random(), distance / rng.uniform(18.0, 40.0), heights, rng.uniform(0.30, 0.50)

    def _render_waves(self, t_s: TimeArray, mix: TimeArray) -> TimeArray:
        """Drive of the slow waves, ``(n_frames, n_patches)``."""
        n, tail = len(t_s), len(self._wave_tail)
        out = np.zeros((n + tail, self._wave_tail.shape[1]))
        out[:tail] = self._wave_tail
        chance = mix @ _WAVE_CHANCE
        while self._next_wave[0] < t_s[-1]:
            onset_s, lot, delays_s, heights, up_s = self._next_wave
            at = int(np.searchsorted(t_s, onset_s))
            if lot < chance[at]:
                last_s = float(delays_s.max()) + 3.0 * up_s
                frames = np.arange(min(math.ceil(last_s * self._hz), tail))
                since_s = frames[:, None] / self._hz + (t_s[at] - onset_s) - delays_s
                out[at : at + len(frames)] += _WAVE_HEIGHT * heights * _up_and_down(since_s, up_s)
            self._next_wave = next(self._wave_times)
        self._wave_tail = out[n:]
        return out[:n]

    def _blood(self, rng: np.random.Generator, mix: TimeArray, neural: TimeArray) -> tuple[TimeArray, TimeArray]:
        """Oxygenated and deoxygenated blood in µM, ``(n_frames, n_areas + n_patches + 1)`` each."""
        white = rng.standard_normal((len(mix), 1 + N_AREAS))
        vasomotion, self._peak_zi = lfilter(*self._peak, white / self._peak_rms, axis=0, zi=self._peak_zi)
        vasomotion = (mix @ _VASOMOTION_GAIN)[:, None] * (vasomotion[:, :1] + 0.5 * vasomotion[:, 1:])
        beat = np.cos(self._advance(1, mix @ _HEART_HZ))[:, None]
        both = []
        for chain, coupling, vasomotion_um, beat_um in zip(
            self._supply, _COUPLING_UM, _VASOMOTION_UM, _BEAT_UM, strict=True
        ):
            supplied = neural
            for stage in chain:
                supplied = stage(supplied)
            blood = np.concatenate([coupling * supplied, beat_um * beat], axis=1)
            blood[:, :N_AREAS] += vasomotion_um * vasomotion + 0.05 * beat_um * beat
            both.append(blood)
        return both[0], both[1]


def _bilateral(noise: TimeArray) -> TimeArray:
    """Mix what hemispheres share with what each has alone: ``(n, n_areas / 2 + n_areas)`` → ``(n, n_areas)``."""
    half = N_AREAS // 2
    shared: TimeArray = math.sqrt(_SHARED) * np.tile(noise[:, :half], 2)
    return shared + math.sqrt(1 - _SHARED) * noise[:, half:]


def _up_and_down(since_s: TimeArray, up_s: float) -> TimeArray:
    """Course of a slow wave in a patch: a bump, then a shallow trough of the same area."""
    up, down = since_s / up_s, (since_s - up_s) / (2 * up_s)
    wave: TimeArray = np.where((up > 0) & (up < 1), np.sin(np.pi * up) ** 2, 0.0)
    wave -= np.where((down > 0) & (down < 1), 0.5 * np.sin(np.pi * down) ** 2, 0.0)
    return wave
