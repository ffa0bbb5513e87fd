"""Samples of the epochs of a grid, where all of them are there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamscore.recordings.base import Recording
from streamscore.types import FloatArray, IndexArray, TimeArray

#: Samples that are copied at a time, which bounds memory.
_MOST_SAMPLES = 2**21


def whole_epochs(
    recording: Recording, starts_s: TimeArray, length_s: float, columns: list[int] | None = None
) -> Iterator[tuple[IndexArray, FloatArray]]:
    """Yield epochs in which no sample is missing or non-finite, some at a time.

    Parameters
    ----------
    recording
        Signals.
    starts_s
        ``(n,)`` start of each epoch on the clock of the stamps.
    length_s
        Of an epoch.
    columns
        Channels to take; None takes all.

    Yields
    ------
    rows
        ``(k,)`` which of `starts_s`.
    samples
        ``(k, n_samples, n_channels)``.
    """
    data = recording.data if columns is None else recording.data[:, columns]
    stamps_s, half_s = recording.stamps_s, 0.5 / recording.sfreq
    n_samples = max(round(length_s * recording.sfreq), 1)
    first = stamps_s.searchsorted(starts_s - half_s)
    inside = np.flatnonzero(first + n_samples <= len(stamps_s))
    at = first[inside]
    spans_s = stamps_s[at + n_samples - 1] - stamps_s[at]
    bad = np.concatenate([[0], np.cumsum(~np.isfinite(data).all(axis=1))])
    whole = (
        (np.abs(stamps_s[at] - starts_s[inside]) < 2.0 * half_s)
        & (np.abs(spans_s - (n_samples - 1) / recording.sfreq) < half_s)
        & (bad[at + n_samples] == bad[at])
    )
    rows = inside[whole]
    batch = max(_MOST_SAMPLES // (n_samples * data.shape[1]), 1)
    for k in range(0, len(rows), batch):
        some = rows[k : k + batch]
        index = first[some][:, None] + np.arange(n_samples)
        yield some.astype(np.int64), data[index]
