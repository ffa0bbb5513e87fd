"""Constants of a chain that are found in the training recordings: ``constants: training`` in a recipe.

A normaliser that knows beforehand where signals of this rig lie is right from the first sample; with the estimator
``running`` it begins there and follows. Only the recordings that are learnt from are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from offline.datasets.base import Dataset
from offline.spans import SpanDataset
from streamscore.errors import ConfigError
from streamscore.movies.base import Movie
from streamscore.preprocess.base import Chain
from streamscore.preprocess.normalise import whole_recording
from streamscore.sources.base import select_channels
from streamscore.types import FloatArray, Layout

KEY = "constants"


def fitted(
    chain: Sequence[dict[str, Any]],
    channels: tuple[str, ...],
    sfreq: float,
    dataset: Dataset | SpanDataset,
    subjects: Sequence[str],
) -> tuple[dict[str, Any], ...]:
    """Return `chain` with the constants that it asks for, found in the recordings of `subjects`.

    Raises
    ------
    ConfigError
        If a step asks for them that is no normaliser of signals, or in another way.
    """
    found: list[dict[str, Any]] = []
    for step in chain:
        if KEY not in step:
            found.append(dict(step))
            continue
        described = {key: value for key, value in step.items() if key != KEY}
        if step[KEY] != "training" or step.get("kind") != "normalise":
            raise ConfigError(
                f"preprocess: {KEY}: {step[KEY]!r} of {step.get('kind')!r}; only normalise takes them, as "
                f"{KEY}: training"
            )
        statistic = described.get("statistic", "scale")
        x = _behind(found, channels, sfreq, dataset, subjects)
        offset, scale = whole_recording(x, statistic, sfreq)
        if statistic != "scale":
            described["stored_offset"] = [float(f"{value:.6g}") for value in offset]
        described["stored_scale"] = [float(f"{value:.6g}") for value in scale]
        found.append(described)
    return tuple(found)


def _behind(
    steps: Sequence[dict[str, Any]],
    channels: tuple[str, ...],
    sfreq: float,
    dataset: Dataset | SpanDataset,
    subjects: Sequence[str],
) -> FloatArray:
    """What stands behind `steps`, ``(n_samples, n_channels)``; samples that are not finite are left out."""
    parts = []
    for entry in dataset.entries:
        if entry.subject not in subjects:
            continue
        recording = dataset.read(entry)
        if isinstance(recording, Movie):
            recording.close()
            raise ConfigError(f"{entry.signal}: is a movie; constants are found in signals alone")
        _, columns = select_channels(recording.name, recording.channels, channels, None)
        data = recording.data[:, columns]
        data = np.ascontiguousarray(data[np.isfinite(data).all(axis=1)])
        parts.append(Chain(steps, Layout(sfreq, channels)).push(data, 0))
    return np.concatenate(parts)
