"""Spectra of the true states: what the signal looked like while the expert said what it was.

Welch's method with 4-s windows, averaged over the labelled epochs of each state that are whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import signal

from offline.scored import Scored, write_npz
from offline.windows import whole_epochs
from streamscore.recordings.base import Recording
from streamscore.types import FloatArray, TimeArray

WINDOW_S = 4.0
#: Fewer samples in an epoch tell no spectrum worth showing.
FEWEST_SAMPLES = 32


@dataclass(frozen=True, eq=False)
class Spectra:
    """Power spectral density of each state.

    Parameters
    ----------
    f_hz
        ``(n_frequencies,)``.
    psd
        ``(n_states, n_channels, n_frequencies)`` in unit²/Hz; NaN for a state without a whole epoch.
    states, channels, units
        Names of the axes, and the unit of each channel.
    epochs
        ``(n_states,)`` how many epochs were averaged.
    """

    f_hz: TimeArray
    psd: FloatArray
    states: tuple[str, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    epochs: np.ndarray[tuple[int], np.dtype[np.int64]]

    def write(self, path: Path) -> None:
        """Write it as ``.npz`` without pickles.

        Raises
        ------
        RecordError
            If it cannot be written.
        """
        names = {name: np.array(getattr(self, name), np.str_) for name in ("states", "channels", "units")}
        write_npz(path, {"f_hz": self.f_hz, "psd": self.psd, "epochs": self.epochs, **names})


def spectra_of(recording: Recording, scored: Scored) -> Spectra | None:
    """Spectra of a recording by the truth of `scored`; None if its epochs are too short to have any."""
    n_samples = round(scored.epoch_s * recording.sfreq)
    if n_samples < FEWEST_SAMPLES:
        return None
    n_window = min(round(WINDOW_S * recording.sfreq), n_samples)
    f_hz = np.asarray(np.fft.rfftfreq(n_window, 1.0 / recording.sfreq), np.float64)
    sums = np.zeros((len(scored.labels), len(recording.channels), len(f_hz)))
    epochs = np.zeros(len(scored.labels), np.int64)
    labelled = np.flatnonzero(scored.truth >= 0)
    starts_s = np.asarray(scored.t0_s + labelled * scored.epoch_s, np.float64)
    for rows, samples in whole_epochs(recording, starts_s, scored.epoch_s):
        _, density = signal.welch(samples, recording.sfreq, nperseg=n_window, axis=1)
        states = scored.truth[labelled[rows]]
        np.add.at(sums, states, density.transpose(0, 2, 1))
        epochs += np.bincount(states, minlength=len(epochs))
    psd = np.full(sums.shape, np.nan, np.float32)
    np.divide(sums, epochs[:, None, None], out=psd, where=epochs[:, None, None] > 0, casting="same_kind")
    return Spectra(f_hz, psd, scored.labels, recording.channels, recording.units, epochs)
