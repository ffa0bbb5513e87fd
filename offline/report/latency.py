"""How late the outputs of a run were, stage by stage, and what was lost on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offline.report.chart import ACCENT, ALARM, Chart, Scale, histogram_edges
from offline.report.html import NOTHING, Html, duration, el, join, short, table
from offline.report.page import figure

N_BINS = 60
#: What the stages of a run are, in words.
_STAGES = {
    "transport": "from the newest sample needed to its arrival in the engine",
    "score": "preprocessing and network",
    "publish": "record, broadcast, policy and command",
}
_COLUMNS = ("p50_ms", "p99_ms", "p999_ms", "max_ms")


def latency_figures(posteriors: Sequence[Mapping[str, Any]], heartbeat: Mapping[str, Any] | None) -> Html:
    """Draw how latencies are spread, and tell those of the stages.

    Parameters
    ----------
    posteriors
        Outputs of one stream, as events.
    heartbeat
        Its last heartbeat, which holds the stages; ``None`` if there was none.
    """
    values = np.array([event["latency_ms"] for event in posteriors if event.get("latency_ms") is not None], float)
    values = values[np.isfinite(values)]
    parts: list[str] = []
    if values.size:
        parts.append(_histogram(np.maximum(values, 1e-3), float((heartbeat or {}).get("deadline_ms", 0.0))))
    if heartbeat is not None and heartbeat.get("latency", {}).get("n"):
        rows = [("in all", "from the newest sample needed to the end of all this", heartbeat["latency"])]
        rows += [(name, _STAGES.get(name, ""), stage) for name, stage in heartbeat.get("stages", {}).items()]
        parts.append(
            table(
                ("time of", "which is", "half within", "99 % within", "99.9 % within", "longest"),
                [(name, words, *(f"{short(of.get(key))} ms" for key in _COLUMNS)) for name, words, of in rows],
                n_words=2,
            )
        )
    return join(parts)


def _histogram(values: np.ndarray, deadline_ms: float) -> Html:
    edges = histogram_edges([*values, *([deadline_ms] if deadline_ms > 0 else [])], N_BINS, log=True)
    counts, _ = np.histogram(values, edges)
    chart = Chart(
        Scale(edges[0], edges[-1], "latency (ms)", log=True),
        Scale(0.8, max(float(counts.max()) * 1.3, 10.0), "outputs", log=True),
        width=720,
        height=260,
    )
    chart.bars(edges[:-1], edges[1:], np.where(counts > 0, counts, np.nan), ACCENT, base=0.8)
    if deadline_ms > 0:
        chart.upright(deadline_ms, ALARM, f"deadline {short(deadline_ms)} ms")
    return figure(
        chart.svg("How often each latency occurred"),
        "How to read it: each bar counts the outputs that came so long after the last sample that they needed. "
        "Both axes are logarithmic, so that a single late output can be seen; those right of the dashed line "
        "missed the deadline.",
    )


#: Counters of a heartbeat that count what went well.
_WENT_WELL = ("samples", "frames", "cycles", "written_events", "written_chunks")


def losses(heartbeats: Mapping[str, Mapping[str, Any]]) -> Html:
    """Tell what was lost, withheld or late, by stream; the main one's name is empty."""
    rows = [
        (name or "main", key.replace("_", " "), f"{n:,}")
        for name, heartbeat in heartbeats.items()
        for key, n in heartbeat.get("counters", {}).items()
        if n and not key.startswith(_WENT_WELL)
    ]
    if not rows:
        return el("p", "Nothing was lost, withheld or late: every counter is 0.") if heartbeats else NOTHING
    return table(("stream", "what", "how many"), rows, n_words=2)


def gaps(events: Sequence[Mapping[str, Any]], rates_hz: Mapping[str, float]) -> Html:
    """Tell the gaps of all streams, by reason."""
    found: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("type") == "gap" and not event.get("open"):
            lane = str(event.get("lane", ""))
            length_s = event["n_samples"] / rates_hz[lane] if rates_hz.get(lane) else float("nan")
            found.setdefault((lane, str(event.get("reason", ""))), []).append(length_s)
    if not found:
        return NOTHING
    return table(
        ("stream", "why", "gaps", "in all", "longest"),
        [
            (lane or "main", reason or NO_REASON, str(len(all_s)), duration(sum(all_s)), duration(max(all_s)))
            for (lane, reason), all_s in found.items()
        ],
        n_words=2,
    )


NO_REASON = "no reason told"
