"""How long it takes until a scorer names a new state.

The delay of a true change of state at `t` is the time from `t` until the first output that names the new state and
describes an epoch that lies in the new bout at least in part; the lag of the output is included, the time of
computing is not. A bout that no such output describes is *missed*. Bouts whose beginning nobody scored (at the
start of a recording, behind unlabelled epochs) have no known onset and are not counted.

A scorer that named the state before it began has the least delay that its outputs allow, which is no merit: such
onsets are counted as *early* too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.measures.bouts import bouts_of
from offline.measures.resampling import Floats, Units, estimate, from_sums, median_draws, number
from offline.scored import Scored

#: Part of an epoch by which an output must reach into a bout, so that decimals do not count.
_REACH = 1e-3


def delays_of(one: Scored, code: int | None = None) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Delay of each onset in seconds, NaN where missed, and whether it is early; of one state, or of all.

    Returns
    -------
    delays
        ``(n_onsets,)``.
    is_early
        ``(n_onsets,)``, whether the last output about the time before the onset named the state already.
    """
    given_s, stop_s, named = one.outputs()
    bouts = bouts_of(one.truth)
    reach_s = _REACH * one.epoch_s
    delays, early = [], []
    for state, begin, end in zip(bouts.code, bouts.begin, bouts.end, strict=True):
        if code is not None and state != code:
            continue
        at_s, until_s = one.t0_s + begin * one.epoch_s, one.t0_s + end * one.epoch_s
        if begin == 0 or one.truth[begin - 1] < 0:
            continue
        inside = (stop_s > at_s + reach_s) & (stop_s - one.epoch_s < until_s - reach_s) & (named == state)
        delays.append(float(given_s[inside].min() - at_s) if inside.any() else np.nan)
        before = np.flatnonzero(stop_s <= at_s + reach_s)
        early.append(len(before) > 0 and named[before[np.argmax(stop_s[before])]] == state)
    return np.array(delays, np.float64), np.array(early, bool)


def onsets(units: Units, labels: tuple[str, ...]) -> dict[str, Any]:
    """Delay of the onsets of each state, and of all (``"all"``)."""
    told = {}
    for name, code in (("all", None), *((label, k) for k, label in enumerate(labels))):
        found = [[delays_of(one, code) for one in part] for part in units.parts]
        delays = [np.concatenate([*(some for some, _ in unit), np.zeros(0)]) for unit in found]
        told[name] = describe(units, delays)
        told[name]["early"] = sum(int(is_early.sum()) for unit in found for _, is_early in unit)
    return told


def describe(units: Units, delays: Sequence[Floats]) -> dict[str, Any]:
    """Number of onsets, those missed, and quartiles of the delay of the others; `delays` is one array a unit."""
    found = [values[np.isfinite(values)] for values in delays]
    pooled = np.concatenate([*found, np.zeros(0)])
    quartiles = np.percentile(pooled, (25, 50, 75)) if len(pooled) else (np.nan,) * 3
    sums = np.array([[len(values) - len(some), len(values)] for values, some in zip(delays, found, strict=True)])
    missed, draws = from_sums(units, sums, lambda total: float(total[0] / total[1]) if total[1] else np.nan)
    return {
        "n": int(sums[:, 1].sum()),
        "missed": int(sums[:, 0].sum()),
        "missed_share": estimate(float(missed), draws),
        "median_s": estimate(float(quartiles[1]), median_draws(units, found)),
        "q25_s": number(float(quartiles[0])),
        "q75_s": number(float(quartiles[2])),
    }
