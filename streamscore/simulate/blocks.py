"""Turns a simulated subject into blocks of samples of fixed length.

Every random number of a block comes from a generator keyed by (seed, block, part), and what reaches over a
border (the noise frame that overlaps it, an event under way, the phase of a rhythm) is carried along, so
that no border can be seen in the output.

Noise is made in frames of ``2 * hop_s`` that overlap by half: random phases under the spectrum of the
state, faded in and out by a power-complementary window. Its variance is constant within a state and passes
smoothly from one to the next.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from streamscore.simulate.base import Rhythm, Subject
from streamscore.types import TimeArray

StateArray = npt.NDArray[np.int8]

_FRAMES_PER_BLOCK = 30
#: Frame-to-frame correlation of what waxes and wanes: a time constant of five frames.
_PERSISTENCE = math.exp(-1 / 5)
#: Parts of a block that own a random generator; noise of channel c is part ``_NOISE + c``.
_SUBJECT, _BOUTS, _EVENTS, _RHYTHM, _NOISE = range(5)
#: Frequencies over which a component's power adds up to its rms.
_GRID_STEP_HZ = 0.05
_GRID_HZ = np.arange(_GRID_STEP_HZ, 300.0, _GRID_STEP_HZ)


def subject_rng(seed: int) -> np.random.Generator:
    """Return the generator that draws the subject of recording `seed`."""
    return np.random.default_rng([seed, 0, _SUBJECT])


def bouts_rng(seed: int) -> np.random.Generator:
    """Return the generator that draws the sequence of states of recording `seed`."""
    return np.random.default_rng([seed, 0, _BOUTS])


class Blocks:
    """The blocks of one simulated recording, in order.

    Parameters
    ----------
    subject
        Whose signals.
    sfreq
        Sampling rate in Hz.
    seed
        Which recording; 0 or more.
    cycle_s
        Length of a sleep cycle.
    """

    def __init__(self, subject: Subject, sfreq: float, seed: int, cycle_s: float) -> None:
        self._subject = subject
        self._sfreq = sfreq
        self._seed = seed
        self._n_channels = len(subject.channels)
        self._hop = round(subject.hop_s * sfreq)
        self._block_len = _FRAMES_PER_BLOCK * self._hop
        self._epoch_len = subject.epoch_s * sfreq
        self._window = _power_complementary(2 * self._hop)
        self._densities = [self._component_densities(c) for c in range(self._n_channels)]

        self._bouts = subject.bouts(bouts_rng(seed), cycle_s)
        self._first_epoch = 0
        self._epoch_states = np.zeros(0, np.int8)

        longest_s = max(event.duration_s[1] for event in subject.events)
        self._frame_tail = np.zeros((self._hop, self._n_channels))
        self._event_tail = np.zeros((math.ceil(longest_s * sfreq), self._n_channels))
        self._levels = [np.zeros((1, len(components))) for components in subject.noise]
        self._rhythm_level = np.zeros((1, 2))
        self._rhythm_knot = np.zeros((1, 2))
        self._phase = 0.0
        # A block before the first fills what is carried, so that the stream does not fade in.
        self._block = -1
        self.next_block()

    def next_block(self) -> tuple[TimeArray, StateArray]:
        """Return the next block: ``(block_len, n_channels)`` µV and ``(block_len,)`` state codes."""
        start = self._block * self._block_len
        self._plan_states(start)
        signal = np.stack([self._render_noise(start, c) for c in range(self._n_channels)], axis=1)
        events = self._render_events(start)
        signal[:, :-1] += events[:, :-1]
        signal[:, -1] *= 1.0 + events[:, -1]
        if self._subject.rhythm is not None:
            signal[:, 0] += self._render_rhythm(start, self._subject.rhythm)
        self._block += 1
        states = self._states_at(np.arange(start, start + self._block_len))
        return signal @ np.array(self._subject.leaks).T, states

    def _rng(self, block: int, part: int) -> np.random.Generator:
        # Blocks count from -1; keys must not be negative.
        return np.random.default_rng([self._seed, block + 1, part])

    def _component_densities(self, channel: int) -> TimeArray:
        """Power density of each component at an rms of 1 µV, ``(n_components, n_freqs)``, µV²/Hz."""
        f_hz = np.arange(self._hop + 1) * self._sfreq / (2 * self._hop)
        rows = []
        for component in self._subject.noise[channel]:
            total = float(component.shape(_GRID_HZ).sum()) * _GRID_STEP_HZ
            rows.append(component.shape(f_hz) / total)
        densities: TimeArray = np.stack(rows)
        # Neither DC nor Nyquist has the two quadratures that a random phase needs.
        densities[:, [0, -1]] = 0.0
        return densities

    def _states_at(self, samples: TimeArray | npt.NDArray[np.int64]) -> StateArray:
        """States at the given absolute sample positions; before the stream, the first state."""
        # A hair above, lest a rounding error put the first sample of an epoch into the one before.
        epochs = np.floor(samples / self._epoch_len + 1e-9).astype(np.int64)
        states: StateArray = self._epoch_states[np.maximum(epochs, 0) - self._first_epoch]
        return states

    def _plan_states(self, start: int) -> None:
        """Draw the epochs that the block at `start` needs, and forget those before it."""
        first = max(0, int((start - 1) / self._epoch_len) - 1)
        states = self._epoch_states[first - self._first_epoch :]
        while first + len(states) < (start + self._block_len) / self._epoch_len + 2:
            state, n_epochs = next(self._bouts)
            states = np.concatenate([states, np.full(n_epochs, state, np.int8)])
        self._first_epoch, self._epoch_states = first, states

    def _frame_powers(self, start: int, rms_uv: TimeArray) -> TimeArray:
        """Mean square of each column of `rms_uv` ``(n_states, n)`` at each frame's centre."""
        centres = start + self._hop * np.arange(1.0, _FRAMES_PER_BLOCK + 1)
        before, after = self._states_at(centres - 0.5), self._states_at(centres + 0.5)
        # A frame centred on the border of two states is half of each: the change is centred on the label.
        powers: TimeArray = 0.5 * (rms_uv[before] ** 2 + rms_uv[after] ** 2)
        return powers

    def _render_noise(self, start: int, channel: int) -> TimeArray:
        """Noise of one channel, ``(block_len,)`` µV."""
        rng = self._rng(self._block, _NOISE + channel)
        components = self._subject.noise[channel]
        rms_uv = np.array([component.rms_uv for component in components]).T
        spread = np.array([component.wander for component in components])
        level = _wander(rng, self._levels[channel])
        self._levels[channel] = level[-1:]
        # The second term keeps the mean power at rms_uv² whatever the spread.
        powers = self._frame_powers(start, rms_uv) * np.exp(2 * spread * level - 2 * spread**2)
        frame_len = 2 * self._hop
        density = powers @ self._densities[channel]
        quadratures = rng.standard_normal((2, *density.shape))
        amplitude = np.sqrt(density * self._sfreq / frame_len) * (frame_len / 2)
        frames = np.fft.irfft(amplitude * (quadratures[0] + 1j * quadratures[1]), frame_len)
        frames *= self._window
        out: TimeArray = frames[:, : self._hop].copy()
        out[0] += self._frame_tail[:, channel]
        out[1:] += frames[:-1, self._hop :]
        self._frame_tail[:, channel] = frames[-1, self._hop :]
        return out.ravel()

    def _render_events(self, start: int) -> TimeArray:
        """Sum of the transients on each channel, ``(block_len, n_channels)``."""
        rng = self._rng(self._block, _EVENTS)
        tail_len = len(self._event_tail)
        out = np.zeros((self._block_len + tail_len, self._n_channels))
        out[:tail_len] = self._event_tail
        block_min = self._block_len / self._sfreq / 60
        for event in self._subject.events:
            # A Poisson process at the highest rate, thinned to that of the state at each onset.
            rates = np.array(event.per_min)
            onsets = rng.integers(0, self._block_len, rng.poisson(rates.max() * block_min))
            rate = rates[self._states_at(start + onsets)]
            for onset in onsets[rng.random(len(onsets)) * rates.max() < rate]:
                duration_s = rng.uniform(*event.duration_s)
                t_s = np.arange(int(duration_s * self._sfreq)) / self._sfreq
                wave = event.waveform(t_s, duration_s, rng)
                for channel, gain in enumerate(event.gains):
                    if gain:
                        out[onset : onset + len(wave), channel] += gain * wave
        self._event_tail = out[self._block_len :]
        return out[: self._block_len]

    def _render_rhythm(self, start: int, rhythm: Rhythm) -> TimeArray:
        """Oscillator of the first channel, ``(block_len,)`` µV."""
        level = _wander(self._rng(self._block, _RHYTHM), self._rhythm_level)
        self._rhythm_level = level[-1:]
        power = self._frame_powers(start, np.array(rhythm.rms_uv)[:, None])[:, 0]
        peak_uv = np.sqrt(2 * power / (1 + rhythm.harmonic**2)) * np.exp(0.15 * level[:, 1])
        knots = np.stack([rhythm.hz + rhythm.wander_hz * level[:, 0], peak_uv], axis=1)
        knots = np.concatenate([self._rhythm_knot, knots])
        self._rhythm_knot = knots[-1:]
        samples = np.arange(1, self._block_len + 1)
        at = self._hop * np.arange(len(knots))
        phase = self._phase + 2 * np.pi * np.cumsum(np.interp(samples, at, knots[:, 0])) / self._sfreq
        # Kept small: a phase that grew for days would lose its last digits.
        self._phase = float(phase[-1] % (2 * np.pi))
        wave: TimeArray = np.interp(samples, at, knots[:, 1])
        return wave * (np.cos(phase) + rhythm.harmonic * np.cos(2 * phase))


def _power_complementary(n: int) -> TimeArray:
    """Window whose square and the square of itself half a length later add up to one."""
    half_sine: TimeArray = np.sin(np.pi * (np.arange(n) + 0.5) / n)
    # Squaring inside the second sine takes the kinks out of both ends.
    window: TimeArray = np.sin(np.pi / 2 * half_sine**2)
    return window


def _wander(rng: np.random.Generator, last: TimeArray) -> TimeArray:
    """Continue unit-variance random walks with a pull to 0: ``(1, n)`` → ``(frames, n)``."""
    steps = math.sqrt(1 - _PERSISTENCE**2) * rng.standard_normal((_FRAMES_PER_BLOCK, last.shape[1]))
    walk = [last[0]]
    for step in steps:
        walk.append(_PERSISTENCE * walk[-1] + step)
    return np.stack(walk[1:])
