"""A simulated mouse: epidural EEG and nuchal EMG in µV, Wake / NREM / REM, 4-s epochs.

NREM has delta waves of 1–4 Hz and spindles; REM has regular theta of 6–9 Hz and an atonia that twitches
break; Wake has mixed theta and gamma and a muscle tone in bursts (Franken et al. 1998, Am J Physiol
275:R1127, for spectra of inbred mice). Bouts of sleep have a typical length and those of Wake have none (Lo
et al. 2004, PNAS 101:17545), for which brief and long ones in equal number stand in. The chance that NREM
passes into REM grows with the NREM slept since the last REM. Amplitudes are typical ones, chosen by eye, and
the slopes of the spectra were compared with one real mouse; nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamscore.labels import MOUSE3
from streamscore.simulate.base import (
    Component,
    Event,
    Rhythm,
    Subject,
    aperiodic,
    bump,
    contraction,
    log_bump,
    muscle,
    spindle,
    sway,
)

EPOCH_S = 4.0
#: Mean time from one REM bout to the next with the bout lengths below.
CYCLE_S = 600.0
WAKE, NREM, REM = range(3)


def mouse(rng: np.random.Generator) -> Subject:
    """Draw one mouse.

    Parameters
    ----------
    rng
        Decides gains (0.6–1.6, one a channel), theta and spindle frequency, slope of the background and
        amplitude of delta, theta and spindles.
    """
    eeg, emg = rng.uniform(0.6, 1.6, 2)
    slope = rng.uniform(0.9, 1.3)
    theta_hz, delta_hz = rng.uniform(7.0, 8.2), rng.uniform(2.1, 2.9)
    spindle_hz, gamma_hz = rng.uniform(10.5, 12.5), rng.uniform(45.0, 60.0)
    delta, theta, sigma = rng.uniform(0.8, 1.25, 3)
    atonia = rng.uniform(0.7, 1.3)

    def rms_uv(gain: float, *per_state: float) -> tuple[float, ...]:
        return tuple(float(gain * value) for value in per_state)

    # Columns of every row below: Wake, NREM, REM.
    brain = (
        Component(aperiodic(slope, 40.0), rms_uv(eeg, 36.0, 0.0, 24.0)),
        Component(aperiodic(slope + 0.3, 30.0), rms_uv(eeg, 0.0, 42.0, 14.0)),
        Component(log_bump(delta_hz, 0.55), rms_uv(eeg * delta, 20.0, 85.0, 24.0), 0.35),
        Component(bump(6.8, 1.6), rms_uv(eeg * theta, 32.0, 22.0, 14.0), 0.35),
        Component(bump(spindle_hz, 1.5), rms_uv(eeg * sigma, 5.0, 14.0, 8.0)),
        Component(bump(20.0, 5.0), rms_uv(eeg, 11.0, 11.0, 9.0)),
        Component(bump(gamma_hz, 12.0), rms_uv(eeg, 11.0, 4.0, 10.0), 0.25),
    )
    neck = (Component(muscle, rms_uv(emg, 40.0, 16.0, 7.0 * atonia), 0.3),)
    events = (
        Event((0, 6, 0.5), (0.5, 1.5), spindle(spindle_hz, (60, 120)), (eeg * sigma, 0)),
        Event((25, 0.4, 0), (0.3, 3.0), contraction((0.8, 5.0)), (0, 1)),
        Event((6, 1.0, 14), (0.05, 0.2), contraction((2.0, 8.0)), (0, 1)),
        Event((5, 0, 0), (0.5, 1.5), sway((50, 150)), (eeg, 0)),
    )
    return Subject(
        channels=("EEG", "EMG"),
        labels=MOUSE3,
        epoch_s=EPOCH_S,
        hop_s=1.0,
        noise=(brain, neck),
        leaks=((1.0, 0.05), (0.0, 1.0)),
        events=events,
        rhythm=Rhythm(theta_hz, 0.4, rms_uv(eeg * theta, 12.0, 0.0, 54.0), 0.25),
        bouts=_bouts,
        cycle_s=CYCLE_S,
        min_cycle_s=60.0,
    )


def _bouts(rng: np.random.Generator, cycle_s: float) -> Iterator[tuple[int, int]]:
    """Bouts without end; `cycle_s` scales all their lengths."""

    def epochs(median_s: float, spread: float) -> int:
        length_s = median_s * rng.lognormal(0.0, spread) * cycle_s / CYCLE_S
        return max(1, round(length_s / EPOCH_S))

    pressure_s = 0.0
    while True:
        brief = rng.random() < 0.5
        yield WAKE, epochs(8.0, 0.4) if brief else epochs(120.0, 0.7)
        asleep = epochs(80.0, 0.5)
        yield NREM, asleep
        pressure_s += asleep * EPOCH_S
        # NREM makes up near half of a cycle: by then REM is almost certain.
        if rng.random() < (pressure_s / (0.5 * cycle_s)) ** 1.5:
            yield REM, epochs(40.0, 0.5)
            pressure_s = 0.0
