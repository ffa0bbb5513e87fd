"""Baseline: logistic regression on band powers of single epochs, behind the same chain.

A network that carries a state and holds 1.5 million weights has to be worth it. This is what 28 numbers of one
epoch give, with no memory of the epochs before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import signal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from offline.sequences import Sequences
from streamscore.types import FloatArray

EDGES_HZ = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 25.0, 30.0)
#: Keeps logarithms finite where a band is empty; far below any real power of normalised EEG.
FLOOR = 1e-8
#: Log probability of a class that the training subjects do not have.
NEVER = -30.0


def features(data: Sequences, sfreq: float) -> FloatArray:
    """Log power of each band, absolute and relative, total, and three quantiles of the 2-s amplitudes."""
    x = data.x[:, 0]
    f_hz, density = signal.welch(x, sfreq, nperseg=round(4 * sfreq), axis=1)
    bands = [density[:, (f_hz >= low) & (f_hz < high)].mean(axis=1) for low, high in pairwise(EDGES_HZ)]
    power = np.log(np.stack(bands, axis=1) + FLOOR)
    inside = (f_hz >= EDGES_HZ[0]) & (f_hz < EDGES_HZ[-1])
    total = np.log(density[:, inside].mean(axis=1, keepdims=True) + FLOOR)
    pieces = x.reshape(len(x), -1, round(2 * sfreq)).std(axis=2)
    spread = np.log(np.percentile(pieces, (10, 50, 90), axis=1).T + FLOOR)
    return np.concatenate([power, power - total, total, spread], axis=1).astype(np.float32)


def fit(data: Sequence[FloatArray], labels: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> Pipeline:
    """Train on the features of several subjects."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, class_weight="balanced", max_iter=2000))
    return model.fit(np.concatenate(data), np.concatenate(labels))


def scores(model: Pipeline, x: FloatArray, n_classes: int) -> FloatArray:
    """Log probabilities ``(n_steps, n_classes)``."""
    out = np.full((len(x), n_classes), NEVER, np.float32)
    out[:, model.classes_] = np.log(np.maximum(model.predict_proba(x), np.exp(NEVER)))
    return out
