"""How well two hypnograms agree.

All but :func:`auc` are computed from a confusion matrix (rows: expert, columns: scorer), so that nights or
folds are pooled by adding their matrices. Epochs that either side left unknown (-1) are not in it;
:func:`coverage` tells how many were compared. A measure that is not defined is NaN, never 0.

Sources: Cohen 1960, doi:10.1177/001316446002000104; Hanley & McNeil 1982 (AUC as a rank statistic),
doi:10.1148/radiology.143.1.7063747.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntMatrix = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """All measures of one comparison; ``(k,)`` arrays are in the order of `labels`."""

    labels: tuple[str, ...]
    confusion: IntMatrix
    coverage: float
    accuracy: float
    kappa: float
    macro_f1: float
    f1: Floats
    one_vs_rest_accuracy: Floats
    auc: Floats


def compare(
    expert: npt.ArrayLike,
    scored: npt.ArrayLike,
    labels: tuple[str, ...],
    probs: npt.ArrayLike | None = None,
) -> Agreement:
    """Compare two hypnograms on the same grid.

    Parameters
    ----------
    expert, scored
        ``(n,)`` integer codes into `labels`, negative where unknown.
    labels
        Vocabulary of both.
    probs
        ``(n, len(labels))`` probabilities of the scorer for the AUC, NaN where unknown.

    Raises
    ------
    ValueError
        If lengths differ or a code is not of the vocabulary.
    """
    confusion = confusion_matrix(expert, scored, len(labels))
    true = np.asarray(expert)
    areas = np.full(len(labels), np.nan)
    if probs is not None:
        values = np.asarray(probs, np.float64)
        if values.shape != (len(true), len(labels)):
            raise ValueError(f"probs are {values.shape}; {len(true)} epochs need ({len(true)}, {len(labels)})")
        known = true >= 0
        areas = np.array([auc(true[known] == k, values[known, k]) for k in range(len(labels))])
    return Agreement(
        labels=labels,
        confusion=confusion,
        coverage=coverage(expert, scored),
        accuracy=accuracy(confusion),
        kappa=cohen_kappa(confusion),
        macro_f1=macro_f1(confusion),
        f1=f1_per_class(confusion),
        one_vs_rest_accuracy=one_vs_rest_accuracy(confusion),
        auc=areas,
    )


def confusion_matrix(expert: npt.ArrayLike, scored: npt.ArrayLike, n_labels: int) -> IntMatrix:
    """Count epochs by both codes, ``(n_labels, n_labels)``, row = expert; epochs unknown to either are left out.

    Raises
    ------
    ValueError
        If lengths differ or a code is `n_labels` or more.
    """
    true, guess = _codes(expert, scored)
    for name, codes in (("expert", true), ("scored", guess)):
        if len(codes) and codes.max() >= n_labels:
            raise ValueError(
                f"{name} has code {codes.max()}, but there are {n_labels} labels; check the vocabulary"
            )
    both = (true >= 0) & (guess >= 0)
    cells = np.bincount(true[both] * n_labels + guess[both], minlength=n_labels * n_labels)
    return cells.reshape(n_labels, n_labels).astype(np.int64)


def coverage(expert: npt.ArrayLike, scored: npt.ArrayLike) -> float:
    """Part of the epochs scored by the expert that the scorer scored as well, 0 to 1."""
    true, guess = _codes(expert, scored)
    return _ratio(float(((true >= 0) & (guess >= 0)).sum()), float((true >= 0).sum()))


def accuracy(confusion: npt.ArrayLike) -> float:
    """Part of the epochs on which both agree."""
    counts = _counts(confusion)
    return _ratio(float(np.trace(counts)), float(counts.sum()))


def cohen_kappa(confusion: npt.ArrayLike) -> float:
    """Agreement beyond chance; NaN where chance alone agrees on everything."""
    counts = _counts(confusion)
    total = float(counts.sum())
    by_chance = _ratio(float(counts.sum(axis=1) @ counts.sum(axis=0)), total * total)
    return _ratio(accuracy(counts) - by_chance, 1.0 - by_chance)


def f1_per_class(confusion: npt.ArrayLike) -> Floats:
    """F1 of each class, ``(k,)``; NaN for a class that neither side ever gave."""
    counts = _counts(confusion)
    given = counts.sum(axis=1) + counts.sum(axis=0)
    return np.array([_ratio(2.0 * hit, n) for hit, n in zip(np.diag(counts), given, strict=True)])


def macro_f1(confusion: npt.ArrayLike) -> float:
    """Mean F1 of the classes that either side gave."""
    f1 = f1_per_class(confusion)
    return _ratio(float(np.nansum(f1)), float(np.isfinite(f1).sum()))


def one_vs_rest_accuracy(confusion: npt.ArrayLike) -> Floats:
    """Accuracy of each class against all others, ``(k,)``.

    Papers print its mean as "accuracy". It is far higher than :func:`accuracy`, since every class is right
    about most epochs of the others.
    """
    counts = _counts(confusion)
    total = float(counts.sum())
    wrong = counts.sum(axis=1) + counts.sum(axis=0) - 2.0 * np.diag(counts)
    return np.array([_ratio(total - n, total) for n in wrong])


def auc(positive: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: chance that a positive epoch scores above a negative one, ties half.

    Parameters
    ----------
    positive
        ``(n,)`` truth, boolean.
    scores
        ``(n,)`` numbers that are higher where positive is likelier; entries of NaN are left out.

    Returns
    -------
    float
        NaN unless there are both positive and negative epochs.

    Raises
    ------
    ValueError
        If lengths differ.
    """
    truth, values = np.asarray(positive, bool), np.asarray(scores, np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"positive is {truth.shape} and scores {values.shape}; both must be (n,)")
    known = ~np.isnan(values)
    truth, values = truth[known], values[known]
    n_positive = int(truth.sum())
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(sizes) - (sizes - 1) / 2.0  # the mean rank of tied scores, from 1
    rank_sum = float(mean_ranks[group][truth].sum())
    return _ratio(rank_sum - n_positive * (n_positive + 1) / 2.0, n_positive * (len(truth) - n_positive))


def _codes(expert: npt.ArrayLike, scored: npt.ArrayLike) -> tuple[IntMatrix, IntMatrix]:
    true, guess = np.asarray(expert), np.asarray(scored)
    for name, codes in (("expert", true), ("scored", guess)):
        if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
            raise ValueError(f"{name} is {codes.dtype} of shape {codes.shape}; give (n,) integer codes")
    if len(true) != len(guess):
        raise ValueError(
            f"expert has {len(true)} epochs and scored {len(guess)}; put both on the same grid of epochs first"
        )
    return true.astype(np.int64), guess.astype(np.int64)


def _counts(confusion: npt.ArrayLike) -> Floats:
    counts = np.asarray(confusion, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a confusion matrix is square, but this is {counts.shape}")
    return counts


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
