"""What a policy would have done: triggers, missed bouts, false triggers, time on target.

Posteriors are played through the real policy object, in order, at the time at which they are given (end of the
epoch plus lag; computing is not in it). As in the engine, an output that is not valid switches off, and a rig
switches itself off after the policy's `duration_s`.

A *trigger* is the moment of switching on. It is true if the epoch of truth in which it falls is of the target,
false if that epoch is of another state; at an unlabelled epoch it is not counted. A bout of the target is a run of
labelled epochs of its states whose beginning is known; it is *caught* by the first trigger between its beginning
and its end, and the time from its beginning to that trigger is its onset delay. A bout without a trigger inside is
*missed*, however short. False triggers are counted per hour of labelled time. Time on target is the part of the
labelled on-time that lies in the target; time covered is the part of the target's time that was on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.measures.bouts import Bouts, bouts_of
from offline.measures.onsets import describe
from offline.measures.resampling import Floats, Units, estimate, from_sums
from offline.scored import Scored
from streamscore.policies.base import Policy
from streamscore.types import Posterior, TimeArray


def replay(posteriors: Iterable[Posterior], policy: Policy) -> TimeArray:
    """Return when `policy` would have switched on, and when it was off again, ``(n, 2)`` in seconds."""
    intervals: list[tuple[float, float]] = []
    on_s: float | None = None
    off_at_s = last_s = 0.0
    for posterior in posteriors:
        if posterior.kind != policy.uses:
            continue
        now_s = last_s = posterior.t_stop_s + posterior.lag_s
        if on_s is not None and now_s >= off_at_s:
            intervals.append((on_s, off_at_s))
            on_s = None
        decision = policy.update(posterior, posterior.lag_s)
        ends = decision is not None or not posterior.valid
        if on_s is not None and ends:
            intervals.append((on_s, now_s))
            on_s = None
        if decision is not None and decision.action == "on":
            on_s, off_at_s = now_s, now_s + decision.duration_s
    if on_s is not None:
        intervals.append((on_s, max(on_s, min(off_at_s, last_s))))
    return np.array(intervals, np.float64).reshape(-1, 2)


def triggers(units: Units) -> dict[str, Any]:
    """Figures of the policy that was replayed; see the module for what each means."""
    sums = np.stack([_counts(part) for part in units.parts])
    delays = [np.concatenate([*(catches(one) for one in part), np.zeros(0)]) for part in units.parts]
    told: dict[str, Any] = {"states": list(units.parts[0][0].target), "onset": describe(units, delays)}
    n_true, n_false, n_uncounted, hours = sums.sum(axis=0)[:4]
    told |= {"true": int(n_true), "false": int(n_false), "uncounted": int(n_uncounted), "hours": float(hours)}
    for name, part, whole in (
        ("false_per_hour", 1, 3),
        ("time_on_target", 4, 5),
        ("time_covered", 4, 6),
    ):
        value, draws = from_sums(units, sums, _ratio_of(part, whole))
        told[name] = estimate(float(value), draws)
    return told


def catches(one: Scored) -> Floats:
    """Delay from the beginning of each bout of the target to its first trigger ``(n,)``, NaN where missed."""
    bouts = _target_bouts(one)
    delays = []
    for begin, end in zip(bouts.begin[bouts.has_onset], bouts.end[bouts.has_onset], strict=True):
        at_s, until_s = one.t0_s + begin * one.epoch_s, one.t0_s + end * one.epoch_s
        inside = one.actions_s[:, 0][(one.actions_s[:, 0] >= at_s) & (one.actions_s[:, 0] < until_s)]
        delays.append(float(inside[0] - at_s) if len(inside) else np.nan)
    return np.array(delays, np.float64)


def _target(one: Scored) -> npt.NDArray[np.int8]:
    """1 in the target, 0 in other states, -1 where unlabelled, ``(n,)``."""
    codes = [one.labels.index(state) for state in one.target]
    return np.where(one.truth < 0, -1, np.isin(one.truth, codes)).astype(np.int8)


def _target_bouts(one: Scored) -> Bouts:
    bouts = bouts_of(_target(one))
    chosen = bouts.code == 1
    return Bouts(*(getattr(bouts, name)[chosen] for name in ("code", "begin", "end", "has_onset", "has_end")))


def _counts(part: Sequence[Scored]) -> Floats:
    """True, false and uncounted triggers, labelled hours, seconds on in the target, on, and in the target."""
    total = np.zeros(7)
    for one in part:
        target = _target(one)
        at = np.floor((one.actions_s[:, 0] - one.t0_s) / one.epoch_s).astype(int)
        inside = (at >= 0) & (at < len(target))
        said = np.where(inside, target[np.clip(at, 0, len(target) - 1)], -1)
        total[:3] += (said == 1).sum(), (said == 0).sum(), (said < 0).sum()
        on_s = _on_seconds(one)
        total[3] += one.n_labelled * one.epoch_s / 3600.0
        total[4:] += on_s[target == 1].sum(), on_s[target >= 0].sum(), (target == 1).sum() * one.epoch_s
    return total


def _on_seconds(one: Scored) -> Floats:
    """Seconds of each epoch that were on, ``(n,)``."""
    edges_s = one.t0_s + np.arange(len(one.truth) + 1) * one.epoch_s
    lengths_s = one.actions_s[:, 1] - one.actions_s[:, 0]
    # On-time up to each edge: intervals do not overlap.
    knots = one.actions_s.ravel()
    levels = np.repeat(np.cumsum(lengths_s), 2) - np.stack([lengths_s, np.zeros_like(lengths_s)], 1).ravel()
    up_to = np.interp(edges_s, knots, levels) if len(knots) else np.zeros(len(edges_s))
    return np.asarray(np.diff(up_to), np.float64)


def _ratio_of(part: int, whole: int) -> Any:
    return lambda sums: float(sums[part] / sums[whole]) if sums[whole] else np.nan
