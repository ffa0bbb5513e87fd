"""What waiting buys: agreement and onset delay against look-ahead, and against the time of computing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offline.report.agreement import bounds_of, percent, told, value_of
from offline.report.chart import ACCENT, MUTED, SECOND, Chart, Scale, legend, spanning
from offline.report.html import NONE, NOTHING, Html, duration, el, join, short, table
from offline.report.page import figure

Figures = Mapping[str, Any]


def look_ahead_figures(ways: Sequence[Figures], baseline: Figures | None, curve: Sequence[Figures]) -> Html:
    """Draw the curve of one bundle, from its figures at several look-aheads; empty for fewer than two.

    `curve` are the rows of :func:`offline.look_ahead_curve.curve_of`, which tell what is gained.
    """
    ways = sorted((way for way in ways if way.get("kind") == "final"), key=lambda way: float(way["lag_s"]))
    if len(ways) < 2:
        return NOTHING
    lags_s = np.array([float(way["lag_s"]) for way in ways])
    pictures = el("div", _kappa(ways, lags_s, baseline), _onset(ways, lags_s), class_="side")
    marks = [(ACCENT, "the scorer, with its 95 % interval")]
    if baseline is not None:
        marks.append((SECOND, "baseline"))
    read = (
        "How to read it: each dot is the same network allowed to wait so long for the signal that follows an "
        "epoch before it speaks. Left: agreement with the labels (κ: 0 is chance, 1 is full agreement). Right: "
        "time from a true change of state to the first output that names the new state, waiting included; half "
        "of the changes are told faster than the dot, the bar holds the middle half, and the dashed line is the "
        "waiting alone. What is gained on the left is paid on the right."
    )
    return join([figure(pictures, read, legend(marks)), _table(ways, curve)])


def compute_figure(ways: Sequence[Figures]) -> Html:
    """Draw agreement against time of computing for each output; empty where nothing was measured."""
    points = [(compute_ms(way), way) for way in ways if way.get("kind") == "final"]
    points = [(ms, way) for ms, way in points if np.isfinite(ms)]
    if len(points) < 2:
        return NOTHING
    ms = np.array([value for value, _ in points])
    kappas = np.array([value_of(way["pooled"].get("kappa")) for _, way in points])
    bounds = np.array([bounds_of(way["pooled"].get("kappa")) for _, way in points])
    low, high = spanning([*kappas, *bounds.ravel()])
    left, right = spanning(ms, around=0.12)
    chart = Chart(Scale(max(left, 0.0), right, "computing for each output (ms)"), Scale(low, min(high, 1.0), "κ"))
    chart.whiskers(ms, bounds[:, 0], bounds[:, 1], ACCENT)
    chart.points(ms, kappas, ACCENT, titles=[f"look-ahead {duration(float(way['lag_s']))}" for _, way in points])
    for x, kappa, (_, way) in zip(ms, kappas, points, strict=True):
        at = float(chart.across(x)) + 6, float(chart.down(kappa)) - 6
        chart.text(*at, duration(float(way["lag_s"])))
    return figure(
        chart.svg("Agreement against time of computing"),
        "How to read it: agreement against what an output costs (median) on the machine of the evaluation. The "
        "words at the dots are look-aheads.",
    )


def compute_ms(way: Figures) -> float:
    """Median time of computing for each output, in ms; NaN where it was not measured."""
    return value_of((way.get("compute") or {}).get("p50_ms"))


def _kappa(ways: Sequence[Figures], lags_s: np.ndarray, baseline: Figures | None) -> Html:
    kappas = np.array([value_of(way["pooled"].get("kappa")) for way in ways])
    bounds = np.array([bounds_of(way["pooled"].get("kappa")) for way in ways])
    plain = value_of(baseline["pooled"].get("kappa")) if baseline is not None else float("nan")
    low, high = spanning([*kappas, *bounds.ravel(), plain])
    chart = Chart(Scale(*spanning(lags_s, around=0.03), "look-ahead (s)"), Scale(low, min(high, 1.0), "κ"))
    if np.isfinite(plain):
        chart.line(spanning(lags_s, around=0.03), [plain, plain], SECOND, dash="6 4")
    chart.band(lags_s, bounds[:, 0], bounds[:, 1], ACCENT)
    chart.line(lags_s, kappas, ACCENT)
    chart.points(lags_s, kappas, ACCENT)
    return chart.svg("Agreement (κ) against look-ahead")


def _onset(ways: Sequence[Figures], lags_s: np.ndarray) -> Html:
    onsets = [way["pooled"].get("onsets", {}).get("all") or {} for way in ways]
    medians = np.array([value_of(one.get("median_s")) for one in onsets])
    quartiles = np.array([[value_of(one.get("q25_s")), value_of(one.get("q75_s"))] for one in onsets])
    if not np.isfinite(medians).any():
        return NOTHING
    top = spanning([*quartiles.ravel(), *medians, 0.0])[1]
    chart = Chart(Scale(*spanning(lags_s, around=0.03), "look-ahead (s)"), Scale(0.0, top, "onset delay (s)"))
    chart.line(lags_s, lags_s, MUTED, width=1.2, dash="4 3")
    chart.whiskers(lags_s, quartiles[:, 0], quartiles[:, 1], ACCENT)
    chart.line(lags_s, medians, ACCENT)
    chart.points(lags_s, medians, ACCENT)
    return chart.svg("Onset delay against look-ahead; the dashed line is the look-ahead itself")


def _table(ways: Sequence[Figures], curve: Sequence[Figures]) -> Html:
    gains = {row.get("look_ahead_s"): row.get("kappa_gain") for row in curve}
    rows = []
    for way in ways:
        pooled = way["pooled"]
        onset = pooled.get("onsets", {}).get("all") or {}
        rows.append(
            (
                duration(float(way["lag_s"])),
                told(pooled.get("kappa")),
                told(gains.get(way["lag_s"])) if way is not ways[0] else NONE,
                percent(pooled.get("accuracy")),
                duration(value_of(onset.get("median_s"))),
                percent(onset.get("missed_share")),
                f"{short(compute_ms(way))} ms",
            )
        )
    head = ("look-ahead", "κ", "gain in κ", "accuracy", "onset delay, median", "never told", "computing, median")
    return table(head, rows)
