"""SMOTE over raw epochs, as SleepEEGNet's training balances its states.

Chawla et al., "SMOTE: synthetic minority over-sampling technique", JAIR 16, 2002: a synthetic example lies at a
random place on the line from an example to one of its five nearest neighbours of the same class. Between raw
signals that line is a mixture whose phases cancel, so that synthetic epochs are weaker than real ones; it is done
here because the paper did it, and for no other reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.neighbors import NearestNeighbors

from offline.sequences import Sequences

N_NEIGHBOURS = 5


def with_synthetic(recordings: Sequence[Sequences], share: float, rng: np.random.Generator) -> list[Sequences]:
    """Return `recordings` and, for each rare state, one of synthetic steps that fills it up.

    Parameters
    ----------
    share
        States with fewer steps than this share of the most frequent state's are filled up to it.
    """
    y = np.concatenate([recording.y for recording in recordings])
    codes, counts = np.unique(y[y >= 0], return_counts=True)
    wanted = int(share * counts.max())
    made = list(recordings)
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        if not 1 < count < wanted:
            continue  # with one example there is no line
        real = np.concatenate([recording.x[recording.y == code] for recording in recordings])
        flat = real.reshape(count, -1)
        nearest = (
            NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, count - 1)).fit(flat).kneighbors(return_distance=False)
        )
        base = rng.integers(count, size=wanted - count)
        other = nearest[base, rng.integers(nearest.shape[1], size=len(base))]
        place = rng.random((len(base), 1), dtype=np.float32)
        x = (flat[base] + place * (flat[other] - flat[base])).reshape(-1, *real.shape[1:])
        y_of = np.full(len(x), code, np.int64)
        made.append(Sequences(f"synthetic-{code}", x, y_of, np.arange(len(x)), ((0, len(x)),), len(x)))
    return made
