"""Bouts and changes of state: whether the scored night is built like the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offline.measures.bouts import bouts_of, known_to_both
from offline.report.agreement import DARKEST
from offline.report.chart import INK, Chart, Scale, legend
from offline.report.html import NONE, NOTHING, Html, duration, duration_between, el, join, number, table
from offline.report.page import figure
from offline.scored import Scored
from streamscore.panel.art import colour_of, hypnogram_order

#: Lengths of bouts that are marked on the axis.
ROUND_S = (0.01, 0.1, 1.0, 10.0, 30.0, 60.0, 300.0, 1200.0, 3600.0, 14400.0, 86400.0)


def bout_lengths(scored: Sequence[Scored], labels: tuple[str, ...]) -> Html:
    """Draw for each state which share of its bouts lasts longer than a time, true and scored."""
    charts = []
    for label in hypnogram_order(labels):
        code = labels.index(label)
        lengths = {side: _lengths_s(scored, side, code) for side in ("truth", "scored")}
        if len(lengths["truth"]) > 1:
            charts.append(el("div", el("h3", label), _survival(lengths, colour_of(label, labels), label)))
    if not charts:
        return NOTHING
    return figure(
        el("div", *charts, class_="side thirds"),
        "How to read it: a point on a line says which share of the bouts of that state (up) lasted at least so "
        "long (to the right). Where the coloured line lies left of the true one, the scorer tears bouts "
        "apart; right of it, it joins what is apart.",
        legend(
            [(INK, "true"), ("linear-gradient(90deg,#f2a93b,#4a97e8,#ec5f9e)", "scored (colour of the state)")]
        ),
    )


def _lengths_s(scored: Sequence[Scored], side: str, code: int) -> np.ndarray:
    found = []
    for one in scored:
        bouts = bouts_of(known_to_both(one, side))
        found.append((bouts.end - bouts.begin)[bouts.code == code] * one.epoch_s)
    return np.sort(np.concatenate(found))


def _survival(lengths: Mapping[str, np.ndarray], colour: str, label: str) -> Html:
    everything = np.concatenate(list(lengths.values()))
    low, high = float(everything.min()), float(everything.max())
    low, high = low / 1.2, max(high * 1.2, 3 * low)
    ticks = [(value, duration(value)) for value in ROUND_S if low <= value <= high]
    x = Scale(low, high, "length of a bout, at least", log=True, ticks=ticks)
    chart = Chart(x, Scale(0.0, 1.0, "share of bouts"), width=330, height=210)
    for side, ink in (("truth", INK), ("scored", colour)):
        values = lengths[side]
        if len(values):
            unique, counts = np.unique(values, return_counts=True)
            at_least = 1.0 - np.concatenate([[0], np.cumsum(counts)[:-1]]) / len(values)
            xs = np.repeat(unique, 2)
            ys = (
                np.concatenate([[1.0], np.repeat(at_least[1:], 2), [0.0]])
                if len(unique) > 1
                else np.array([1.0, 0.0])
            )
            chart.line(xs, ys, ink)
    return chart.svg(f"Lengths of bouts of {label}, true and scored")


def bout_table(found: Mapping[str, Any], labels: tuple[str, ...]) -> Html:
    """Compare number, mean and median length of the bouts, from :func:`offline.measures.bouts.structure`."""
    truth, scored = (found.get(side, {}).get("bouts", {}) for side in ("truth", "scored"))
    rows = [
        (label, *(text for pair in zip(_bouts(truth[label]), _bouts(scored[label]), strict=True) for text in pair))
        for label in hypnogram_order(labels)
        if label in truth and label in scored
    ]
    if not rows:
        return NOTHING
    head = ("state", "bouts, true", "scored", "mean length, true", "scored", "median, true", "scored")
    return table(head, rows)


def _bouts(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{one['n']:,}", _time(one.get("mean_s")), _time(one.get("median_s"))


def _time(estimate: Mapping[str, float | None] | None) -> str:
    if not estimate:
        return NONE
    return duration_between(estimate.get("value"), estimate.get("low"), estimate.get("high"))


def changes(found: Mapping[str, Any], labels: tuple[str, ...]) -> Html:
    """Compare changes of state an hour, from each state to each other."""
    sides = {side: found.get(side, {}).get("transitions") or {} for side in ("truth", "scored")}
    if any(not one.get("matrix_per_hour") for one in sides.values()):
        return NOTHING
    highest = max(float(np.max(one["matrix_per_hour"])) for one in sides.values())
    told = []
    for side, words in (("truth", "true"), ("scored", "scored")):
        rate = sides[side].get("per_hour") or {}
        bounds = (rate.get("low"), rate.get("high"))
        interval = f" ({number(bounds[0], 1)}–{number(bounds[1], 1)})" if None not in bounds else ""
        title = el("h3", f"{words}: {number(rate.get('value'), 1)}{interval} changes an hour")
        told.append(el("div", title, _matrix(np.asarray(sides[side]["matrix_per_hour"], float), labels, highest)))
    read = (
        "How to read it: how often an hour the state in the row was followed by the state in the column. The "
        "darker a cell, the more often; both tables share one scale."
    )
    return figure(el("div", *told, class_="side"), read)


def _matrix(rates: np.ndarray, labels: tuple[str, ...], highest: float) -> Html:
    order = [labels.index(label) for label in hypnogram_order(labels)]
    head = el("tr", el("th", "from", scope="col"), *(el("th", f"to {labels[k]}", scope="col") for k in order))
    rows = []
    for k in order:
        cells = [_cell(float(rates[k, j]), highest, is_same=j == k) for j in order]
        rows.append(el("tr", el("th", labels[k], scope="row"), *cells))
    return el("div", el("table", el("thead", head), el("tbody", *rows), class_="matrix"), class_="scroll")


def _cell(rate: float, highest: float, *, is_same: bool) -> Html:
    if is_same:
        return el("td", "")
    shade = f"background:rgb(var(--cell) / {DARKEST * rate / highest:.3f})" if rate and highest else None
    return el("td", number(rate, 1), style=shade)


def structure(scored: Sequence[Scored], found: Mapping[str, Any], labels: tuple[str, ...]) -> Html:
    """Return all of it; empty where nothing was found."""
    if not found:
        return NOTHING
    return join([bout_lengths(scored, labels), bout_table(found, labels), changes(found, labels)])
