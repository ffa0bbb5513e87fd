"""What YASA makes of recordings of one EEG channel, beside what a bundle made of them.

Offline, as its authors run it, on the whole file at once; and live (:mod:`streamscore.models.yasa`), by the
engine. YASA wants µV and looks at absolute amplitudes. Where the unit of a file is not known, an amplitude is
assumed: the standard deviation of all samples. YASA offline knows nothing of gaps: the epochs on either side of
one follow each other for it.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from offline.evaluate import prepared
from offline.scored import Scored
from offline.scoring import Settings, score_one
from offline.spans import Span
from offline.windows import whole_epochs
from offline.yasa_table import yasa_offline
from streamscore.bundle import open_bundle
from streamscore.errors import RecordingError
from streamscore.features.yasa_features import EPOCH_S
from streamscore.labels import AASM5
from streamscore.recordings.base import Recording


def at_amplitude(recording: Recording, std_uv: float) -> Recording:
    """Return its first channel in µV, if its standard deviation is `std_uv`.

    Raises
    ------
    RecordingError
        If it is flat.
    """
    signal = recording.data[:, :1].astype(np.float64)
    std = float(np.nanstd(signal))
    if not std > 0:
        raise RecordingError(f"{recording.name}: its first channel is flat, so that no amplitude can be assumed")
    data = (signal * (std_uv / std)).astype(np.float32)
    return replace(recording, data=data, channels=recording.channels[:1], units=("uV",))


def offline(recording: Recording, beside: Scored) -> Scored:
    """Return what YASA offline says of the epochs of `beside` in which no sample is missing.

    Parameters
    ----------
    recording
        In µV, at a whole rate.
    beside
        Says which epochs are asked about, and what is true.

    Raises
    ------
    RecordingError
        If the states, epochs or rate are not YASA's.
    """
    if beside.labels != AASM5 or beside.epoch_s != EPOCH_S or recording.sfreq != round(recording.sfreq):
        raise RecordingError(
            f"{beside.session}: YASA scores AASM stages of 30 s at a whole rate; this is different"
        )
    begun_s = time.perf_counter()
    starts_s = np.asarray(beside.t0_s + np.arange(len(beside.truth)) * beside.epoch_s, np.float64)
    rows, epochs = [], []
    for some, samples in whole_epochs(recording, starts_s, beside.epoch_s, [0]):
        rows.append(some)
        epochs.append(samples[:, :, 0])
    whole = np.concatenate(rows)
    probs = np.full(beside.probs.shape, np.nan, np.float32)
    signal = np.concatenate(epochs).astype(np.float64).reshape(1, -1)
    probs[whole] = yasa_offline(signal, round(recording.sfreq))
    return said(beside, probs, time.perf_counter() - begun_s)


def live(recording: Recording, subject: str, session: str, lag_epochs: int) -> Scored:
    """Return what YASA live says `lag_epochs` later, scored by the engine.

    Parameters
    ----------
    recording
        In µV; its channel is taken, whatever it is called.
    subject, session
        As in :func:`offline.scoring.score_one`; `subject` may be hours of one, which alone count.
    """
    bundle = open_bundle(
        {"model": "yasa", "sfreq": round(recording.sfreq), "model_args": {"lag_epochs": lag_epochs}}
    )
    settings = Settings(channels={bundle.spec.channels[0]: recording.channels[0]})
    return score_one(
        prepared(recording), bundle, settings, subject=subject, session=session, span=Span.parse(subject)
    )


def said(beside: Scored, probs: np.ndarray[tuple[int, ...], np.dtype[np.float32]], compute_s: float) -> Scored:
    """Return `beside` with other probabilities ``(n, n_labels)``, rows of NaN where unknown, and no lag."""
    return beside.answered_by(probs, compute_s=compute_s, reasons=("samples of the epoch are missing",))
