"""What a policy would have done, and how soon changes of state are told: the figures of closed-loop users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offline.measures.triggers import catches
from offline.report.agreement import percent, told, value_of
from offline.report.chart import ACCENT, Chart, Scale, histogram_edges
from offline.report.html import NONE, NOTHING, Html, duration_between, el, facts, join, table
from offline.report.page import figure
from offline.scored import Scored
from streamscore.panel.art import hypnogram_order

N_BINS = 30


def trigger_figures(
    scored: Sequence[Scored], found: Mapping[str, Any] | None, policy: Mapping[str, Any] | None
) -> Html:
    """Tell what :func:`offline.measures.triggers.triggers` found, and draw the delays; empty without a policy."""
    if not found:
        return NOTHING
    onset = found.get("onset") or {}
    n, n_missed = int(onset.get("n", 0)), int(onset.get("missed", 0))
    rows = [
        ("target", ", ".join(map(str, found.get("states", ()))) or NONE),
        (
            "bouts of the target",
            f"{n:,}, of which {n_missed:,} had no trigger ({percent(onset.get('missed_share'))})",
        ),
        ("triggers in the target", f"{found.get('true', 0):,}"),
        ("false triggers", f"{found.get('false', 0):,}, {told(found.get('false_per_hour'), 2)} an hour"),
        ("delay from onset to trigger", f"{_quartiles(onset)}"),
        ("on-time that lay in the target", percent(found.get("time_on_target"))),
        ("time of the target that was on", percent(found.get("time_covered"))),
    ]
    if policy:
        rows.insert(0, ("policy", ", ".join(f"{key} {_plain(value)}" for key, value in policy.items())))
    return join([facts(rows), _delays(scored)])


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _delays(scored: Sequence[Scored]) -> Html:
    delays_s = np.concatenate([*(catches(one) for one in scored if one.target), np.zeros(0)])
    delays_s = delays_s[np.isfinite(delays_s)]
    if len(delays_s) < 2:
        return NOTHING
    edges = histogram_edges([0.0, *delays_s], N_BINS)
    counts, _ = np.histogram(delays_s, edges)
    chart = Chart(
        Scale(0.0, float(edges[-1]), "time from the true onset to the trigger (s)"),
        Scale(0.0, float(counts.max()) * 1.08, "bouts", whole=True),
        width=720,
        height=240,
    )
    chart.bars(edges[:-1], edges[1:], counts, ACCENT)
    return figure(
        chart.svg("Delays from the onset of the target to the trigger"),
        "How to read it: each bar counts the bouts of the target that were first acted on so long after they "
        "began. Look-ahead and the dwell time of the policy are in it, the time of computing is not.",
    )


def onset_table(onsets: Mapping[str, Mapping[str, Any]], labels: tuple[str, ...]) -> Html:
    """Tell for each state how long after its true onset it was first named."""
    names = [*hypnogram_order(labels), "all"]
    rows = [
        (
            name if name != "all" else "all changes",
            f"{onsets[name].get('n', 0):,}",
            f"{onsets[name].get('missed', 0):,} ({percent(onsets[name].get('missed_share'))})",
            _quartiles(onsets[name]),
        )
        for name in names
        if name in onsets and onsets[name].get("n")
    ]
    if not rows:
        return NOTHING
    read = el(
        "p",
        "The delay runs from a true change to the first output that names the new state; look-ahead is in it. A "
        "change is never named if its bout ends before an output names the state.",
        class_="small",
    )
    head = ("change to", "changes", "never named", "delay: median (middle half)")
    return join([table(head, rows), read])


def _quartiles(onset: Mapping[str, Any]) -> str:
    return duration_between(*(value_of(onset.get(key)) for key in ("median_s", "q25_s", "q75_s")))
