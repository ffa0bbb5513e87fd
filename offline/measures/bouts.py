"""Bouts and transitions: whether a scorer's night has the structure of the true one.

A scorer may agree on nine epochs of ten and yet tear every bout apart. Truth and scorer are compared on the same
epochs, those that both know; an unknown epoch ends a bout. A bout that lies at the edge of such a stretch is cut,
and counts with the length that is seen; figures say how many were cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.measures.resampling import Floats, Units, estimate, from_sums, median_draws
from offline.scored import Scored

Codes = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bouts:
    """Runs of one state, in order; each array is ``(n_bouts,)``.

    Parameters
    ----------
    code
        State of each.
    begin, end
        First epoch, and epoch after the last.
    has_onset, has_end
        Whether the epoch before and that behind it are known, so that it really begins and ends there.
    """

    code: Codes
    begin: Ints
    end: Ints
    has_onset: npt.NDArray[np.bool_]
    has_end: npt.NDArray[np.bool_]

    @property
    def is_whole(self) -> npt.NDArray[np.bool_]:
        """Whether both ends are seen."""
        return self.has_onset & self.has_end


def bouts_of(codes: npt.ArrayLike) -> Bouts:
    """Find the bouts of `codes` ``(n,)``; negative ones are unknown."""
    array = np.asarray(codes, np.int8)
    edges = np.flatnonzero(np.diff(array)) + 1
    begin = np.concatenate([[0], edges]).astype(np.int64) if len(array) else np.zeros(0, np.int64)
    end = np.concatenate([edges, [len(array)]]).astype(np.int64) if len(array) else np.zeros(0, np.int64)
    known = array[begin] >= 0
    before = np.concatenate([[False], known[:-1]]) if len(known) else known
    behind = np.concatenate([known[1:], [False]]) if len(known) else known
    return Bouts(array[begin][known], begin[known], end[known], before[known], behind[known])


def transitions_of(codes: npt.ArrayLike, n_labels: int) -> Ints:
    """Changes from each state (row) to each other (column), ``(n_labels, n_labels)``, diagonal 0."""
    array = np.asarray(codes, np.int64)
    before, behind = array[:-1], array[1:]
    change = (before >= 0) & (behind >= 0) & (before != behind)
    cells = np.bincount(before[change] * n_labels + behind[change], minlength=n_labels * n_labels)
    return cells.reshape(n_labels, n_labels).astype(np.int64)


def structure(units: Units, labels: tuple[str, ...]) -> dict[str, Any]:
    """Bout lengths and changes of state, of truth and scorer, on the epochs that both know."""
    return {
        side: {
            "bouts": {label: _lengths(units, side, k) for k, label in enumerate(labels)},
            "transitions": _changes(units, side, len(labels)),
        }
        for side in ("truth", "scored")
    }


def known_to_both(one: Scored, side: str) -> Codes:
    """Codes of one side, unknown where the other side is."""
    both = (one.truth >= 0) & (one.codes >= 0)
    return np.where(both, one.truth if side == "truth" else one.codes, -1).astype(np.int8)


def _lengths(units: Units, side: str, code: int) -> dict[str, Any]:
    """Number, mean and median of the bouts of a state."""
    lengths, n_cut = [], 0
    for part in units.parts:
        of_unit: list[Floats] = []
        for one in part:
            bouts = bouts_of(known_to_both(one, side))
            chosen = bouts.code == code
            of_unit.append((bouts.end - bouts.begin)[chosen] * one.epoch_s)
            n_cut += int((~bouts.is_whole[chosen]).sum())
        lengths.append(np.concatenate(of_unit))
    pooled = np.concatenate(lengths)
    sums = np.array([[values.sum(), len(values)] for values in lengths])
    mean, draws = from_sums(units, sums, lambda total: float(total[0] / total[1]) if total[1] else np.nan)
    return {
        "n": len(pooled),
        "n_cut": n_cut,
        "mean_s": estimate(float(mean), draws),
        "median_s": estimate(float(np.median(pooled)) if len(pooled) else np.nan, median_draws(units, lengths)),
    }


def _changes(units: Units, side: str, n_labels: int) -> dict[str, Any]:
    """Changes an hour of known epochs, all and from each state to each other."""
    sums = np.array([_changes_of(part, side, n_labels) for part in units.parts])
    rate, draws = from_sums(units, sums, _per_hour)
    total = sums.sum(axis=0)
    hours = total[-1]
    counts = total[:-1].reshape(n_labels, n_labels)
    return {
        "per_hour": estimate(float(rate), draws),
        "hours": float(hours),
        "counts": counts.astype(int).tolist(),
        "matrix_per_hour": (counts / hours).tolist() if hours else None,
    }


def _changes_of(part: Sequence[Scored], side: str, n_labels: int) -> Floats:
    """Changes of a unit, flattened, and behind them its known hours."""
    total = np.zeros(n_labels * n_labels + 1)
    for one in part:
        codes = known_to_both(one, side)
        total[:-1] += transitions_of(codes, n_labels).ravel()
        total[-1] += (codes >= 0).sum() * one.epoch_s / 3600.0
    return total


def _per_hour(sums: Floats) -> float:
    return float(sums[:-1].sum() / sums[-1]) if sums[-1] else float("nan")
