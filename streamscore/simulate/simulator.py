"""Simulated sleep: physiological signals without end, with the true state of every sample.

The signal serves demos, soak runs and tests; it is no substitute for recordings. It is made in blocks of
fixed length (:mod:`streamscore.simulate.blocks`), so that the output does not depend on the sizes of the
reads and the memory used does not grow.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from streamscore.errors import ConfigError
from streamscore.recordings.base import Recording
from streamscore.simulate.blocks import Blocks, StateArray, subject_rng
from streamscore.simulate.human import human
from streamscore.simulate.mouse import mouse
from streamscore.types import FloatArray

Species = Literal["human", "mouse"]

SPECIES = {"human": human, "mouse": mouse}
DEFAULT_SFREQ = {"human": 100.0, "mouse": 200.0}
#: Below it the spindle band does not fit under Nyquist with room to spare.
MIN_SFREQ = 50.0


class Simulator:
    """A stream of simulated signals.

    Parameters
    ----------
    species
        ``"human"`` (EEG, EOG, EMG; AASM stages; 30-s epochs) or ``"mouse"`` (EEG, EMG; Wake, NREM and
        REM; 4-s epochs).
    sfreq
        Sampling rate in Hz, 50 or more; by default 100 for a human and 200 for a mouse. The power density
        does not depend on it.
    seed
        Which subject and which recording; 0 or more.
    duration_s
        Where the stream ends; by default it does not.
    cycle_s
        Length of a sleep cycle; by default the natural one (human 5400 s, mouse 600 s). A shorter one
        shortens all bouts, not the signals: ``cycle_s=1200`` shows all five human stages within 40 min.

    Attributes
    ----------
    species, sfreq, channels, units, labels, epoch_s
        As in :class:`~streamscore.recordings.base.Recording`. All units are µV.
    n_samples
        Length of the stream, ``None`` without end.

    Raises
    ------
    ConfigError
        If an argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        species: Species = "human",
        sfreq: float | None = None,
        seed: int = 0,
        duration_s: float | None = None,
        cycle_s: float | None = None,
    ) -> None:
        if species not in SPECIES:
            raise ConfigError(f"unknown species {species!r}; choose one of {', '.join(SPECIES)}")
        sfreq = DEFAULT_SFREQ[species] if sfreq is None else float(sfreq)
        if not (math.isfinite(sfreq) and sfreq >= MIN_SFREQ):
            raise ConfigError(f"cannot simulate at sfreq {sfreq:g} Hz; choose {MIN_SFREQ:g} Hz or more")
        if seed < 0:
            raise ConfigError(f"seed is {seed}; choose 0 or more")
        if duration_s is not None and not (math.isfinite(duration_s) and duration_s > 0):
            raise ConfigError(f"duration_s is {duration_s:g}; choose more than 0, or None for no end")
        subject = SPECIES[species](subject_rng(seed))
        cycle_s = subject.cycle_s if cycle_s is None else cycle_s
        if not (math.isfinite(cycle_s) and cycle_s >= subject.min_cycle_s):
            raise ConfigError(
                f"cycle_s is {cycle_s:g}; a {species} needs {subject.min_cycle_s:g} s or more to pass "
                f"through all states"
            )
        self.species = species
        self.sfreq = sfreq
        self.channels = subject.channels
        self.units = ("uV",) * len(subject.channels)
        self.labels = subject.labels
        self.epoch_s = subject.epoch_s
        # Samples 0 … n - 1 cover the duration; a hair less, lest a rounding error add one.
        self.n_samples = None if duration_s is None else math.ceil(duration_s * sfreq - 1e-6)
        self._position = 0
        self._blocks = Blocks(subject, sfreq, seed, cycle_s)
        self._data, self._states = self._blocks.next_block()
        self._used = 0

    @property
    def position_samples(self) -> int:
        """Absolute index of the sample that the next read begins with."""
        return self._position

    def read(self, n_samples: int) -> tuple[FloatArray, StateArray]:
        """Return the next samples and their true states.

        Parameters
        ----------
        n_samples
            How many; any division of the stream into reads gives the same stream.

        Returns
        -------
        data
            ``(n, n_channels)`` float32 in µV. ``n`` is `n_samples`, or less at the end of the stream.
        state_codes
            ``(n,)`` int8, codes into `labels`.
        """
        if n_samples < 0:
            raise ValueError(f"cannot read {n_samples} samples")
        n = n_samples if self.n_samples is None else min(n_samples, self.n_samples - self._position)
        data = np.empty((n, len(self.channels)), np.float32)
        states = np.empty(n, np.int8)
        filled = 0
        while filled < n:
            if self._used == len(self._data):
                self._data, self._states = self._blocks.next_block()
                self._used = 0
            take = min(n - filled, len(self._data) - self._used)
            data[filled : filled + take] = self._data[self._used : self._used + take]
            states[filled : filled + take] = self._states[self._used : self._used + take]
            filled += take
            self._used += take
        self._position += n
        return data, states


def simulate(
    species: Species,
    duration_s: float,
    sfreq: float | None = None,
    seed: int = 0,
    cycle_s: float | None = None,
) -> Recording:
    """Return the first `duration_s` seconds of a :class:`Simulator` as a recording.

    Parameters
    ----------
    species, sfreq, seed, cycle_s
        As for :class:`Simulator`.
    duration_s
        Length; epochs that do not end within it are not labelled.

    Returns
    -------
    Recording
        ``data`` is ``(n_samples, n_channels)`` float32 in µV, ``stamps_s`` starts at 0, ``states`` holds
        one true code an epoch.
    """
    stream = Simulator(species, sfreq, seed, duration_s, cycle_s)
    data, codes = stream.read(math.ceil(duration_s * stream.sfreq))
    n_epochs = int(len(data) / stream.sfreq / stream.epoch_s + 1e-9)
    middles = ((np.arange(n_epochs) + 0.5) * stream.epoch_s * stream.sfreq).astype(np.int64)
    return Recording(
        name=f"simulated_{species}_{seed}",
        data=data,
        stamps_s=np.arange(len(data)) / stream.sfreq,
        sfreq=stream.sfreq,
        channels=stream.channels,
        units=stream.units,
        labels=stream.labels,
        states=codes[middles],
        epoch_s=stream.epoch_s,
    )
