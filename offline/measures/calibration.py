"""Whether a probability means what it says: of epochs scored with 80 %, are four of five right?

Epochs are put into bins of equal width by the probability of the state that was named. The expected calibration
error is the mean distance between that probability and the part that was right, over all epochs.

Source: Guo et al. 2017, https://proceedings.mlr.press/v70/guo17a.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from offline.measures.resampling import Floats, Units, estimate, from_sums, number
from offline.scored import Scored

N_BINS = 15


def bins_of(scored: Sequence[Scored], n_bins: int = N_BINS) -> Floats:
    """Sums ``(n_bins, 3)`` over the epochs of each bin: epochs, probability of the state named, right ones."""
    sums = np.zeros((n_bins, 3))
    for one in scored:
        known = (one.truth >= 0) & (one.codes >= 0) & np.isfinite(one.probs).all(axis=1)
        confidence = one.probs[known, one.codes[known]].astype(np.float64)
        right = one.codes[known] == one.truth[known]
        place = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
        for column, values in enumerate((np.ones(len(place)), confidence, right.astype(np.float64))):
            sums[:, column] += np.bincount(place, values, minlength=n_bins)
    return sums


def error(sums: Floats) -> float:
    """Expected calibration error from the sums of :func:`bins_of`; NaN without epochs."""
    n = sums[:, 0].sum()
    return float(np.abs(sums[:, 1] - sums[:, 2]).sum() / n) if n else float("nan")


def calibration(units: Units, n_bins: int = N_BINS) -> dict[str, Any]:
    """The error with its interval, and the bins of the diagram."""
    sums = np.stack([bins_of(part, n_bins) for part in units.parts])
    value, draws = from_sums(units, sums, error)
    rows = []
    for k, (n, confidence, right) in enumerate(sums.sum(axis=0)):
        rows.append(
            {
                "low": k / n_bins,
                "high": (k + 1) / n_bins,
                "epochs": int(n),
                "probability": number(confidence / n) if n else None,
                "accuracy": number(right / n) if n else None,
            }
        )
    return {"ece": estimate(float(value), draws), "bins": rows}
