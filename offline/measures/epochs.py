"""Agreement epoch by epoch: confusion, κ, precision, recall, F1, AUC, coverage.

Everything is summed over units (see :mod:`offline.measures.resampling`), so that a draw costs no second look at
the epochs. The AUC of pooled epochs is summed too: the number of pairs (positive epoch of one unit, negative epoch
of another) that are in order is counted once for each two units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.measures.resampling import Estimate, Floats, Units, estimate, from_sums
from offline.scored import NO_OUTPUT, Scored
from streamscore import metrics

#: Keeps logarithms of probabilities finite; below the least float32.
_LEAST_PROB = 1e-46


def confusion_of(scored: Sequence[Scored]) -> metrics.IntMatrix:
    """Pooled confusion matrix, ``(k, k)``, row = truth."""
    k = len(scored[0].labels)
    total = np.zeros((k, k), np.int64)
    for one in scored:
        total += metrics.confusion_matrix(one.truth, one.codes, k)
    return total


def precision(confusion: npt.ArrayLike) -> Floats:
    """Part of the epochs scored as each class that are of it, ``(k,)``; NaN for one that was never scored."""
    counts = np.asarray(confusion, np.float64)
    return _share(np.diag(counts), counts.sum(axis=0))


def recall(confusion: npt.ArrayLike) -> Floats:
    """Part of the epochs of each class that were scored as it, ``(k,)``; NaN for one that does not occur."""
    counts = np.asarray(confusion, np.float64)
    return _share(np.diag(counts), counts.sum(axis=1))


def agreement(units: Units, labels: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, κ, macro-F1 and the figures of each class, with intervals."""
    sums = np.stack([confusion_of(part) for part in units.parts]).astype(np.float64)
    told: dict[str, Any] = {"confusion": sums.sum(axis=0).astype(int).tolist()}
    for name, figure in (
        ("accuracy", metrics.accuracy),
        ("kappa", kappa),
        ("macro_f1", metrics.macro_f1),
    ):
        value, draws = from_sums(units, sums, figure)
        told[name] = estimate(float(value), draws)
    told["classes"] = {label: {} for label in labels}
    for name, per_class in (
        ("precision", precision),
        ("recall", recall),
        ("f1", metrics.f1_per_class),
        ("one_vs_rest_accuracy", metrics.one_vs_rest_accuracy),
    ):
        values, draws = from_sums(units, sums, per_class)
        for k, label in enumerate(labels):
            told["classes"][label][name] = estimate(np.asarray(values)[k], draws[:, k] if len(draws) else ())
    areas = [class_auc(units, k) for k in range(len(labels))]
    for label, (value, draws), k in zip(labels, areas, range(len(labels)), strict=True):
        told["classes"][label]["auc"] = estimate(value, draws)
        told["classes"][label]["epochs"] = sum(int((one.truth == k).sum()) for part in units.parts for one in part)
    return told


def class_auc(units: Units, k: int) -> tuple[float, Floats]:
    """AUC of class `k` against all others, by its probability, and its draws."""
    positive = [[one.probs[one.truth == k, k] for one in part] for part in units.parts]
    negative = [[one.probs[(one.truth >= 0) & (one.truth != k), k] for one in part] for part in units.parts]
    return _pooled_auc(units, positive, negative)


def pair(units: Units, labels: tuple[str, ...], first: str, second: str) -> dict[str, Any]:
    """Two classes alone: AUC by the ratio of their probabilities, accuracy of the more probable of the two."""
    a, b = labels.index(first), labels.index(second)
    positive = [[_log_ratio(one, b, a)[one.truth == b] for one in part] for part in units.parts]
    negative = [[_log_ratio(one, b, a)[one.truth == a] for one in part] for part in units.parts]
    right = np.array(
        [
            sum(int((values > 0).sum()) for values in positive[u])
            + sum(int((values < 0).sum()) for values in negative[u])
            for u in range(len(units.parts))
        ]
    )
    known = np.array(
        [
            sum(int(np.isfinite(values).sum()) for values in positive[u] + negative[u])
            for u in range(len(units.parts))
        ]
    )
    value, draws = _pooled_auc(units, positive, negative)
    share, shares = from_sums(units, np.stack([right, known], axis=1).astype(np.float64), _first_by_second)
    return {
        "states": [first, second],
        "epochs": [sum(len(v) for unit in side for v in unit) for side in (negative, positive)],
        "auc": estimate(value, draws),
        "accuracy": estimate(float(share), shares),
    }


def _log_ratio(one: Scored, above: int, below: int) -> Floats:
    logs = np.log(np.maximum(one.probs.astype(np.float64), _LEAST_PROB))  # NaN stays NaN
    return np.asarray(logs[:, above] - logs[:, below], np.float64)


def _first_by_second(sums: Floats) -> float:
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


def _pooled_auc(
    units: Units, positive: Sequence[Sequence[npt.ArrayLike]], negative: Sequence[Sequence[npt.ArrayLike]]
) -> tuple[float, Floats]:
    """AUC over all epochs of all units, ties half, and its draws."""
    high = [_finite(values) for values in positive]
    low = [np.sort(_finite(values)) for values in negative]
    n_high, n_low = (np.array([len(values) for values in side], np.float64) for side in (high, low))
    pooled, owner = np.concatenate(high), np.repeat(np.arange(len(high)), [len(values) for values in high])
    order = np.argsort(pooled)  # looking up values in order is several times as quick
    pooled, owner = pooled[order], owner[order]
    ordered = np.zeros((len(high), len(low)))
    for v, values in enumerate(low):
        below = 0.5 * (np.searchsorted(values, pooled, "left") + np.searchsorted(values, pooled, "right"))
        ordered[:, v] = np.bincount(owner, below, minlength=len(high))
    value = _ratio(ordered.sum(), n_high.sum() * n_low.sum())
    counts = units.counts
    drawn = np.einsum("du,uv,dv->d", counts, ordered, counts)
    pairs = (counts @ n_high) * (counts @ n_low)
    return value, _share(drawn, pairs)


def _finite(parts: Sequence[npt.ArrayLike]) -> Floats:
    values = np.concatenate([np.asarray(part, np.float64) for part in parts] + [np.zeros(0)])
    return values[np.isfinite(values)]


def coverage(units: Units) -> dict[str, Any]:
    """Labelled epochs, how many of them were scored, and why the others were not."""
    sums = np.zeros((len(units.parts), 2))
    why: Counter[str] = Counter()
    for u, part in enumerate(units.parts):
        for one in part:
            unknown = (one.truth >= 0) & (one.codes < 0)
            sums[u] += (((one.truth >= 0) & (one.codes >= 0)).sum(), one.n_labelled)
            if len(one.reason):
                why.update(one.reasons[k] if k >= 0 else NO_OUTPUT for k in one.reason[unknown])
            else:
                why["not told"] += int(unknown.sum())
    value, draws = from_sums(units, sums, _first_by_second)
    scored, labelled = sums.sum(axis=0)
    return {
        "labelled_epochs": int(labelled),
        "scored_epochs": int(scored),
        "share": estimate(float(value), draws),
        "unknown": {reason: n for reason, n in why.most_common() if n},
    }


def kappa(confusion: npt.ArrayLike) -> float:
    """Cohen's κ; NaN where the truth is a single state, since whoever guesses then has a κ of 0 however right."""
    counts = np.asarray(confusion)
    return metrics.cohen_kappa(counts) if np.count_nonzero(counts.sum(axis=1)) > 1 else float("nan")


def kappa_gain(units: Units, other: Units) -> Estimate:
    """κ of `units` minus that of `other`, which holds the same recordings in the same order; draws are paired."""
    draws, values = [], []
    for side in (units, other):
        sums = np.stack([confusion_of(part) for part in side.parts]).astype(np.float64)
        value, drawn = from_sums(side, sums, kappa)
        values.append(float(value))
        draws.append(drawn)
    return estimate(values[0] - values[1], draws[0] - draws[1])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _share(part: Floats, whole: Floats) -> Floats:
    shares = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=shares, where=np.asarray(whole) > 0)
    return shares
