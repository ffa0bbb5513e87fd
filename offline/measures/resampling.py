"""How sure a figure is: whole subjects are redrawn, because epochs of one night are not independent.

A bootstrap draw takes as many subjects as there are, with replacement, and computes the figure again from all
their epochs; the interval holds the middle 95 % of draws. With a single subject its recordings are redrawn, with a
single recording its hours: such intervals say nothing about other animals, and figures name what was redrawn.

Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from offline.scored import Scored, by_subject
from streamscore.labels import UNKNOWN_CODE

Floats = npt.NDArray[np.float64]
#: A figure with its interval, as it stands in JSON; None is undefined.
Estimate = dict[str, float | None]

LEVEL = 0.95
#: An interval is undefined if the figure is in more than this part of the draws.
UNDEFINED_DRAWS = 0.05
#: Fewest hours of a single recording that are worth redrawing, and most; where there are more, several are one.
FEWEST_HOURS, MOST_HOURS = 4, 48


@dataclass(frozen=True)
class Units:
    """What is redrawn.

    Parameters
    ----------
    name
        ``"subjects"``, ``"recordings"``, ``"hours"`` or, where there is nothing to redraw, ``""``.
    parts
        The recordings of each unit, or an hour of the only one.
    counts
        ``(n_draws, n_units)`` how often each unit is in each draw.
    """

    name: str
    parts: tuple[tuple[Scored, ...], ...]
    counts: Floats

    @property
    def keeps_recordings(self) -> bool:
        """Whether recordings are whole, so that bouts may be counted in a draw."""
        return self.name != "hours"


def units_of(scored: Sequence[Scored], n_draws: int = 1000, seed: int = 0) -> Units:
    """Choose what to redraw, and draw."""
    subjects = by_subject(scored)
    if len(subjects) > 1:
        name, parts = "subjects", [tuple(group) for group in subjects.values()]
    elif len(scored) > 1:
        name, parts = "recordings", [(one,) for one in scored]
    else:
        hours = _hours(scored[0])
        name, parts = ("hours", hours) if len(hours) >= FEWEST_HOURS else ("", [tuple(scored)])
    rng = np.random.default_rng(seed)
    n_units = len(parts)
    counts = rng.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=n_draws if name else 0)
    return Units(name, tuple(parts), counts.astype(np.float64))


def _hours(one: Scored) -> list[tuple[Scored, ...]]:
    """Hours of a recording that hold labels, each with all other epochs unlabelled."""
    hour = np.arange(len(one.truth)) * one.epoch_s // 3600.0
    hour //= -(-(hour.max(initial=0.0) + 1) // MOST_HOURS)
    labelled = np.unique(hour[one.truth >= 0])
    return [(replace(one, truth=np.where(hour == k, one.truth, UNKNOWN_CODE).astype(np.int8)),) for k in labelled]


def estimate(value: float, draws: npt.ArrayLike = ()) -> Estimate:
    """Return a figure with the interval of its draws; NaN becomes None."""
    low, high = interval(draws)
    return {"value": number(value), "low": number(low), "high": number(high)}


def interval(draws: npt.ArrayLike) -> tuple[float, float]:
    """Middle 95 % of `draws`; NaN if there are none, or too many in which the figure is undefined."""
    values = np.asarray(draws, np.float64)
    known = values[np.isfinite(values)]
    if len(values) == 0 or len(known) < (1.0 - UNDEFINED_DRAWS) * len(values):
        return math.nan, math.nan
    low, high = np.quantile(known, ((1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0))
    return float(low), float(high)


def number(value: float) -> float | None:
    """`value` for JSON, which has no NaN: None."""
    return float(value) if math.isfinite(value) else None


def from_sums(
    units: Units, sums: Floats, figure: Callable[[Floats], Floats | float]
) -> tuple[Floats | float, Floats]:
    """Return a figure that depends on sums over units, and its draws.

    Parameters
    ----------
    units
        What is redrawn.
    sums
        ``(n_units, …)`` what each unit adds.
    figure
        Takes the sum over units.

    Returns
    -------
    value
        Of all units once.
    draws
        ``(n_draws, …)``.
    """
    drawn = np.tensordot(units.counts, sums, axes=1)
    return figure(sums.sum(axis=0)), np.array([figure(one) for one in drawn])


def median_draws(units: Units, values: Sequence[Floats]) -> Floats:
    """Median of pooled `values` (one array a unit) in each draw; NaN where a draw has none."""
    pooled = np.concatenate([*values, np.zeros(0)])
    if len(pooled) == 0:
        return np.full(len(units.counts), np.nan)
    owner = np.repeat(np.arange(len(values)), [len(array) for array in values])
    order = np.argsort(pooled, kind="stable")
    ordered, owner = pooled[order], owner[order]
    medians = np.full(len(units.counts), np.nan)
    for k, counts in enumerate(units.counts):
        weight = np.cumsum(counts[owner])
        if weight[-1] > 0:
            # The two middle values, as with each value repeated as often as it was drawn.
            n = weight[-1]
            low = np.searchsorted(weight, math.ceil(n / 2) - 0.5)
            high = np.searchsorted(weight, math.floor(n / 2) + 0.5)
            medians[k] = 0.5 * (ordered[low] + ordered[high])
    return medians
