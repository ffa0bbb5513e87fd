"""What a simulated subject is made of: spectra, transient events, a rhythm, and a sequence of states.

:mod:`streamscore.simulate.human` and :mod:`streamscore.simulate.mouse` fill in these forms;
:mod:`streamscore.simulate.blocks` turns them into samples. Whatever depends on the state is a tuple with one
number per label, so that each line of a subject reads as a row of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from streamscore.types import TimeArray

#: Frequencies in Hz, ``(n,)`` → power density in arbitrary units, ``(n,)``.
Shape = Callable[[TimeArray], TimeArray]
#: ``(t_s, duration_s, rng)`` → waveform at the times ``t_s`` after the onset, ``(n,)``.
Waveform = Callable[[TimeArray, float, np.random.Generator], TimeArray]
#: ``(rng, cycle_s)`` → bouts without end, as (state code, number of epochs).
Bouts = Callable[[np.random.Generator, float], Iterator[tuple[int, int]]]


@dataclass(frozen=True)
class Component:
    """Gaussian noise of one spectral shape.

    Parameters
    ----------
    shape
        Power density over frequency; its scale is of no account.
    rms_uv
        One root mean square per state in µV, over all frequencies (those above Nyquist included, so that
        the density in µV²/Hz does not depend on the sampling rate).
    wander
        Standard deviation of the natural logarithm of the amplitude, which waxes and wanes over
        several seconds.
    """

    shape: Shape
    rms_uv: tuple[float, ...]
    wander: float = 0.2


@dataclass(frozen=True)
class Event:
    """A transient that comes at random (Poisson) times.

    Parameters
    ----------
    per_min
        Rate in each state.
    duration_s
        Range from which the duration is drawn.
    waveform
        Its course.
    gains
        What of it each channel receives. On the EMG channel the sum of the events is not added but
        multiplies the tone by ``1 + sum``: a contraction recruits more of the same noise.
    """

    per_min: tuple[float, ...]
    duration_s: tuple[float, float]
    waveform: Waveform
    gains: tuple[float, ...]


@dataclass(frozen=True)
class Rhythm:
    """An oscillator of the first channel whose phase never jumps: steadier than noise can be.

    Parameters
    ----------
    hz, wander_hz
        Mean frequency and the standard deviation of its slow drift.
    rms_uv
        One root mean square per state in µV.
    harmonic
        Amplitude of the second harmonic relative to the first; it sharpens the peaks.
    """

    hz: float
    wander_hz: float
    rms_uv: tuple[float, ...]
    harmonic: float


@dataclass(frozen=True)
class Subject:
    """All that distinguishes one simulated human or mouse.

    Parameters
    ----------
    channels, labels, epoch_s
        As in :class:`streamscore.recordings.base.Recording`. The last channel is the EMG.
    hop_s
        Distance of the noise frames; a change of state takes twice as long.
    noise
        For each channel its components.
    leaks
        For each channel what it picks up of each channel, ``(n_channels, n_channels)``.
    events, rhythm
        What is added to the noise.
    bouts, cycle_s, min_cycle_s
        The sequence of states, the natural length of a sleep cycle, and the shortest that leaves room
        for every state.
    """

    channels: tuple[str, ...]
    labels: tuple[str, ...]
    epoch_s: float
    hop_s: float
    noise: tuple[tuple[Component, ...], ...]
    leaks: tuple[tuple[float, ...], ...]
    events: tuple[Event, ...]
    rhythm: Rhythm | None
    bouts: Bouts
    cycle_s: float
    min_cycle_s: float


def bump(centre_hz: float, width_hz: float) -> Shape:
    """Return a Gaussian peak with standard deviation `width_hz`."""
    return lambda f_hz: np.exp(-0.5 * ((f_hz - centre_hz) / width_hz) ** 2)


def log_bump(centre_hz: float, width: float) -> Shape:
    """Return a peak that is Gaussian on a logarithmic frequency axis, `width` in natural log units."""
    return lambda f_hz: np.exp(-0.5 * (np.log(np.maximum(f_hz, 1e-3) / centre_hz) / width) ** 2)


def aperiodic(exponent: float, knee_hz: float) -> Shape:
    """Return ``1 / f**exponent``, two powers steeper above `knee_hz`, AC-coupled at 0.4 Hz."""

    def shape(f_hz: TimeArray) -> TimeArray:
        f_hz = np.maximum(f_hz, 1e-3)
        fall: TimeArray = f_hz**-exponent / (1 + (f_hz / knee_hz) ** 2)
        return fall / (1 + (0.4 / f_hz) ** 4)

    return shape


def muscle(f_hz: TimeArray) -> TimeArray:
    """Power density of a surface EMG: broad, between an edge at 18 Hz and a slow fall from 90 Hz."""
    rise = (f_hz / 18.0) ** 4
    density: TimeArray = rise / (1 + rise) / (1 + (f_hz / 90.0) ** 2)
    return density


def bell(t_s: TimeArray, duration_s: float) -> TimeArray:
    """Return the Hann envelope of an event: zero, with zero slope, at both ends."""
    hann: TimeArray = 0.5 - 0.5 * np.cos(2 * np.pi * t_s / duration_s)
    return hann


def spindle(centre_hz: float, peak: tuple[float, float]) -> Waveform:
    """Return a waxing and waning burst near `centre_hz`, its peak drawn from the range `peak`."""

    def wave(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
        hz = centre_hz + 0.35 * rng.standard_normal()
        phase = 2 * np.pi * rng.random()
        burst: TimeArray = rng.uniform(*peak) * bell(t_s, duration_s)
        return burst * np.sin(2 * np.pi * hz * t_s + phase)

    return wave


def contraction(peak: tuple[float, float]) -> Waveform:
    """Return a burst of muscle activity, its peak drawn from the range `peak`."""

    def wave(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
        burst: TimeArray = rng.uniform(*peak) * bell(t_s, duration_s)
        return burst

    return wave


def sway(peak: tuple[float, float]) -> Waveform:
    """Return one slow swing to either side, as a cable or an electrode makes when the subject moves."""

    def wave(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
        swing: TimeArray = np.sin(2 * np.pi * t_s / duration_s) * bell(t_s, duration_s)
        side: float = rng.choice((-1.0, 1.0))
        return side * rng.uniform(*peak) * swing

    return wave
