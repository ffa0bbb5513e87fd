"""A simulated human sleeper: EEG (central), EOG and chin EMG in µV, AASM stages, 30-s epochs.

What each stage looks like follows the AASM manual (Berry et al., The AASM Manual for the Scoring of Sleep
and Associated Events): alpha, blinks and muscle tone in W; theta, vertex waves and slow rolling eyes in N1;
spindles and K-complexes in N2; slow waves of 0.5–2 Hz above 75 µV peak to peak in N3; sawtooth waves, rapid
eye movements and atonia in REM. The 1/f background is steeper in sleep than in wake (Lendner et al. 2020,
eLife 9:e55092). N3 shrinks and REM grows from cycle to cycle (Feinberg and Floyd 1979, Psychophysiology
16:283). Amplitudes are typical ones, chosen by eye, and the slopes of the spectra were compared with one real
night; nothing is fitted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from streamscore.labels import AASM5
from streamscore.simulate.base import (
    Component,
    Event,
    Subject,
    aperiodic,
    bell,
    bump,
    contraction,
    log_bump,
    muscle,
    spindle,
    sway,
)
from streamscore.types import TimeArray

EPOCH_S = 30.0
W, N1, N2, N3, REM = range(5)
#: Cycles after which the night begins again, so that the stream need not end.
CYCLES_A_NIGHT = 5


def human(rng: np.random.Generator) -> Subject:
    """Draw one human sleeper.

    Parameters
    ----------
    rng
        Decides gains (0.6–1.6, one a channel), alpha and spindle frequency, slope of the background and
        amplitude of alpha, slow waves and spindles.
    """
    eeg, eog, emg = rng.uniform(0.6, 1.6, 3)
    slope = rng.uniform(0.8, 1.2)
    alpha_hz, spindle_hz = rng.uniform(8.7, 11.3), rng.uniform(12.2, 14.2)
    alpha, delta, sigma = rng.uniform((0.7, 0.85, 0.8), (1.3, 1.25, 1.25))
    atonia = rng.uniform(0.7, 1.3)

    def rms_uv(gain: float, *per_state: float) -> tuple[float, ...]:
        return tuple(float(gain * value) for value in per_state)

    # Columns of every row below: W, N1, N2, N3, REM.
    brain = (
        Component(aperiodic(slope, 40.0), rms_uv(eeg, 10.5, 6.0, 0.0, 0.0, 4.0)),
        Component(aperiodic(slope + 0.6, 25.0), rms_uv(eeg, 0.0, 8.0, 13.0, 15.0, 8.0)),
        Component(log_bump(0.9, 0.5), rms_uv(eeg * delta, 4.0, 3.0, 10.0, 42.0, 3.0), 0.3),
        Component(bump(5.5, 1.3), rms_uv(eeg, 2.5, 6.5, 5.5, 8.0, 5.0), 0.3),
        Component(bump(alpha_hz, 0.7), rms_uv(eeg * alpha, 9.5, 2.2, 2.0, 3.0, 2.2), 0.5),
        Component(bump(spindle_hz, 0.9), rms_uv(eeg * sigma, 0.5, 0.5, 2.0, 1.5, 0.3)),
        Component(bump(20.0, 6.0), rms_uv(eeg, 4.5, 2.5, 1.3, 0.8, 2.3)),
    )
    eyes = (Component(aperiodic(1.2, 25.0), rms_uv(eog, 8.0, 7.0, 6.0, 6.0, 6.0)),)
    chin = (Component(muscle, rms_uv(emg, 22.0, 11.0, 8.0, 6.0, 2.5 * atonia), 0.25),)
    events = (
        Event((0, 0.3, 5, 0.8, 0), (0.5, 2.0), spindle(spindle_hz, (20, 42)), (eeg * sigma, 0, 0)),
        Event((0, 0, 1.8, 0.4, 0), (1.2, 1.6), _k_complex, (eeg, 0.4 * eeg, 0)),
        Event((0, 2.5, 0.5, 0, 0), (0.2, 0.35), _vertex_wave, (eeg, 0.2 * eeg, 0)),
        Event((0, 0, 0, 0, 3.5), (2.0, 5.0), _sawtooth, (eeg, 0.2 * eeg, 0)),
        Event((13, 0.5, 0, 0, 0), (0.25, 0.45), _blink, (0.06 * eog, eog, 0)),
        Event((12, 0.5, 0, 0, 14), (1.0, 3.0), _saccades, (0.04 * eog, eog, 0)),
        Event((0.5, 9, 0.5, 0, 0), (3.0, 8.0), _rolling, (0.03 * eog, eog, 0)),
        Event((4, 0.6, 0.15, 0.05, 0.1), (0.5, 4.0), contraction((0.8, 4.0)), (0, 0, 1)),
        Event((0.2, 0.2, 0.1, 0, 5), (0.1, 0.3), contraction((2.0, 6.0)), (0, 0, 1)),
        Event((3, 0.3, 0, 0, 0.1), (1.0, 3.0), sway((20, 70)), (eeg, eog, 0)),
    )
    return Subject(
        channels=("EEG", "EOG", "EMG"),
        labels=AASM5,
        epoch_s=EPOCH_S,
        hop_s=2.0,
        noise=(brain, eyes, chin),
        # Scalp muscles reach the EEG; slow waves reach the eye electrodes.
        leaks=((1.0, 0.0, 0.12), (0.3, 1.0, 0.05), (0.0, 0.0, 1.0)),
        events=events,
        rhythm=None,
        bouts=_night,
        cycle_s=5400.0,
        min_cycle_s=300.0,
    )


def _night(rng: np.random.Generator, cycle_s: float) -> Iterator[tuple[int, int]]:
    """Bouts of a night without end: cycles of N1, N2, N3, N2, REM, broken up by arousals."""
    for cycle in itertools.count():
        late = (cycle % CYCLES_A_NIGHT) / (CYCLES_A_NIGHT - 1)
        awake = 0.12 if late == 0 else 0.04
        deep, dream = 0.30 - 0.22 * late, 0.10 + 0.20 * late
        light = 0.94 - awake - deep - dream
        plan = ((W, awake), (N1, 0.06), (N2, 0.6 * light), (N3, deep), (N2, 0.4 * light), (REM, dream))
        for stage, fraction in plan:
            length_s = fraction * cycle_s * rng.lognormal(0.0, 0.15)
            left = max(1, round(length_s / EPOCH_S))
            while left > 0:
                stay = min(left, 2 + int(rng.geometric(1 / 14)))
                yield stage, stay
                left -= stay
                if left > 0:
                    yield _arousal(stage, rng), 1


def _arousal(stage: int, rng: np.random.Generator) -> int:
    """Stage of the one epoch that interrupts a bout of `stage`."""
    if stage == N3:
        return N2
    return W if rng.random() < 0.4 else N1


def _k_complex(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
    u = t_s / duration_s
    wave: TimeArray = -np.exp(-(((u - 0.3) / 0.09) ** 2)) + 0.55 * np.exp(-(((u - 0.58) / 0.14) ** 2))
    return rng.uniform(70, 130) * wave * bell(t_s, duration_s) ** 0.25


def _vertex_wave(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
    return -rng.uniform(40, 80) * bell(t_s, duration_s)


def _sawtooth(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
    """Notched theta of 2.5–5 Hz: three terms of the series of a sawtooth."""
    phase = 2 * np.pi * rng.uniform(2.5, 5.0) * t_s
    teeth: TimeArray = np.sin(phase) + np.sin(2 * phase) / 2 + np.sin(3 * phase) / 3
    return rng.uniform(12, 24) * teeth * bell(t_s, duration_s)


def _blink(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
    return rng.uniform(120, 240) * bell(t_s, duration_s)


def _saccades(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
    """One to four jumps of gaze; an AC-coupled amplifier lets each decay.

    A jump takes 50 ms and the decay has a time constant of 0.3 s.
    """
    wave = np.zeros_like(t_s)
    for onset_s in rng.uniform(0, 0.4 * duration_s, int(rng.integers(1, 5))):
        size = rng.choice((-1.0, 1.0)) * rng.uniform(50, 160)
        after_s = np.maximum(t_s - onset_s, 0.0)
        wave += size * (1 - np.exp(-((after_s / 0.03) ** 2))) * np.exp(-after_s / 0.3)
    fade: TimeArray = np.minimum(1.0, 5 * (1 - t_s / duration_s))
    return wave * fade


def _rolling(t_s: TimeArray, duration_s: float, rng: np.random.Generator) -> TimeArray:
    phase = 2 * np.pi * (rng.uniform(0.2, 0.45) * t_s + rng.random())
    return rng.uniform(50, 120) * np.sin(phase) * bell(t_s, duration_s)
