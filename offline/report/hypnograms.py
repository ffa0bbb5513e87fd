"""Hypnograms one above the other on one axis of time, with the probabilities of the scorer below (hypnodensity).

A short bout is seen however long the night: no bout is drawn narrower than a hairline. Hypnodensity as in
Stephansen et al. 2018, doi:10.1038/s41467-018-07229-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.report.chart import MUTED, legend, picture, time_ticks
from offline.report.html import Html, duration, el
from streamscore.panel.art import colour_of, hypnogram_order

WIDTH, LEFT, RIGHT = 1000.0, 84.0, 8.0
ROW, GAP, DENSITY = 11.0, 26.0, 54.0
#: Least width of a bout, and the grid that its ends are put on, so that a day has no more of them than an hour.
HAIR, STEP = 0.8, 0.5
#: Most times on the axis: ``24:00:00`` is 55 wide, and the last one stands left of its mark.
N_TICKS = 9
#: Columns that probabilities are averaged over.
N_COLUMNS = 480

Codes = npt.NDArray[np.int8]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Track:
    """One hypnogram: `name`, when each code begins and ends ``(n,)`` in seconds, and ``(n,)`` codes."""

    name: str
    starts_s: Numbers
    stops_s: Numbers
    codes: Codes


def hypnograms(
    title: str,
    labels: tuple[str, ...],
    tracks: Sequence[Track],
    probs: npt.NDArray[np.floating] | None = None,
    events_s: Sequence[tuple[float, str]] = (),
) -> Html:
    """Draw tracks, the probabilities of the last of them, and events under it.

    Parameters
    ----------
    title
        What is shown, for those who cannot see it.
    labels
        Names of the states.
    tracks
        From top to bottom, on one clock. Negative codes are unknown, and drawn grey.
    probs
        ``(n, n_labels)`` of the last track, NaN where unknown.
    events_s
        When something happened, and what.
    """
    start_s = min(float(track.starts_s[0]) for track in tracks if len(track.codes))
    stop_s = max(float(track.stops_s[-1]) for track in tracks if len(track.codes))
    across = _Across(start_s, stop_s)
    parts: list[Html] = []
    top = 4.0
    for track in tracks:
        parts += _track(track, labels, across, top)
        top += GAP + ROW * len(labels)
    if probs is not None and np.isfinite(probs).any():
        parts += _density(tracks[-1], probs, labels, across, top)
        top += DENSITY + 10.0
    if events_s:
        parts += _events(events_s, across, top)
        top += 18.0
    for value, word in time_ticks(start_s, stop_s, N_TICKS):
        at = float(across(value))
        anchor = "start" if at < LEFT + 9 else "end" if at > WIDTH - RIGHT - 30 else "middle"
        parts.append(el("text", word, x=f"{at:.1f}", y=top + 14, text_anchor=anchor))
        parts.append(el("path", d=f"M{at:.1f} {top:.1f}v4", style=f"stroke:{MUTED}"))
    parts.append(el("path", d=f"M{LEFT} {top:.1f}H{WIDTH - RIGHT}", style=f"stroke:{MUTED}"))
    return picture(WIDTH, top + 20, parts, title)


def state_legend(labels: tuple[str, ...], *, unknown: bool = True) -> Html:
    """Name the colours of the states."""
    entries = [(colour_of(label, labels), label) for label in hypnogram_order(labels)]
    return legend([*entries, ("var(--unknown)", "unknown")] if unknown else entries)


def unknown_text(reasons: Sequence[tuple[str, int]], epoch_s: float) -> str:
    """Say how long it was unknown, and why."""
    told = [f"{reason or 'no reason told'} ({duration(n * epoch_s)})" for reason, n in reasons if n]
    return f"Unknown: {', '.join(told)}." if told else ""


class _Across:
    """Pixels from the left of a time."""

    def __init__(self, start_s: float, stop_s: float) -> None:
        self._start_s, self._scale = start_s, (WIDTH - LEFT - RIGHT) / max(stop_s - start_s, 1e-9)

    def __call__(self, times_s: npt.ArrayLike) -> Numbers:
        at: Numbers = LEFT + (np.asarray(times_s, np.float64) - self._start_s) * self._scale
        return at


def _bouts(track: Track) -> tuple[Numbers, Numbers, Codes]:
    """Join neighbours of the same state: begin, end and code of each bout."""
    codes = track.codes
    apart = np.abs(track.starts_s[1:] - track.stops_s[:-1]) > 1e-3 * (track.stops_s[1:] - track.starts_s[1:])
    first = np.flatnonzero(np.concatenate([[True], (codes[1:] != codes[:-1]) | apart]))
    last = np.concatenate([first[1:] - 1, [len(codes) - 1]])
    return track.starts_s[first], track.stops_s[last], codes[first]


def _track(track: Track, labels: tuple[str, ...], across: _Across, top: float) -> list[Html]:
    order = hypnogram_order(labels)
    row_of = np.array([order.index(label) for label in labels])
    parts = [el("text", track.name, x=LEFT, y=top + 10, class_="name")]
    top += 16.0
    middles = top + (np.arange(len(labels)) + 0.5) * ROW
    parts.append(el("path", d="".join(f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}" for y in middles), class_="grid"))
    parts += [
        el("text", label, x=LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end")
        for y, label in zip(middles, order, strict=True)
    ]
    if not len(track.codes):
        return parts
    starts_s, stops_s, codes = _bouts(track)
    lefts, rights = (np.round(across(times) / STEP) * STEP for times in (starts_s, stops_s))
    rights = np.maximum(rights, lefts + HAIR)
    grey = {
        f"M{a:g} {top:.1f}H{b:g}V{top + ROW * len(labels):.1f}H{a:g}Z" for a, b in _pairs(lefts, rights, codes < 0)
    }
    parts.append(el("path", d="".join(sorted(grey)), style="fill:var(--unknown);fill-opacity:0.3"))
    ups = {
        f"M{at:g} {middles[row_of[a]]:.1f}V{middles[row_of[b]]:.1f}"
        for at, a, b in zip(lefts[1:], codes[:-1], codes[1:], strict=True)
        if a >= 0 and b >= 0
    }
    parts.append(el("path", d="".join(sorted(ups)), style=f"stroke:{MUTED};stroke-width:0.6", fill="none"))
    for code, label in enumerate(labels):
        y = middles[row_of[code]]
        d = "".join(f"M{a:g} {y:.1f}H{b:g}" for a, b in sorted(set(_pairs(lefts, rights, codes == code))))
        if d:
            parts.append(el("path", d=d, style=f"stroke:{colour_of(label, labels)};stroke-width:7", fill="none"))
    return parts


def _pairs(lefts: Numbers, rights: Numbers, which: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    return list(zip(lefts[which].tolist(), rights[which].tolist(), strict=True))


def _density(
    track: Track, probs: npt.NDArray[np.floating], labels: tuple[str, ...], across: _Across, top: float
) -> list[Html]:
    """Stack the probabilities, averaged over columns; a column in which nothing is known stays empty."""
    order = hypnogram_order(labels)
    n = min(N_COLUMNS, len(probs))
    first = np.linspace(0, len(probs), n + 1).astype(np.intp)
    known = np.isfinite(probs).all(axis=1)
    sums = np.add.reduceat(np.where(known[:, None], probs, 0.0), first[:-1], axis=0)
    counts = np.add.reduceat(known.astype(np.float64), first[:-1])
    means = np.divide(sums, counts[:, None], out=np.full(sums.shape, np.nan), where=counts[:, None] > 0)
    heights = np.cumsum(means[:, [labels.index(label) for label in reversed(order)]], axis=1)
    lefts, rights = across(track.starts_s[first[:-1]]), across(track.stops_s[first[1:] - 1])
    floor = top + DENSITY
    parts = [
        el("text", "p", x=LEFT - 6, y=top + DENSITY / 2 + 4, text_anchor="end"),
        el("text", "1", x=LEFT - 6, y=top + 9, text_anchor="end"),
        el("text", "0", x=LEFT - 6, y=floor, text_anchor="end"),
    ]
    has = counts > 0
    for k in reversed(range(len(labels))):  # each covers the lower part of the one before
        d, is_open = [], False
        for column in range(n):
            if not has[column]:
                d.append(f"V{floor:.1f}Z" if is_open else "")
                is_open = False
                continue
            y = floor - DENSITY * min(float(heights[column, k]), 1.0)
            d.append(f"V{y:.1f}" if is_open else f"M{lefts[column]:.1f} {floor:.1f}V{y:.1f}")
            d.append(f"H{rights[column]:.1f}")
            is_open = True
        d.append(f"V{floor:.1f}Z" if is_open else "")
        label = order[len(labels) - 1 - k]
        parts.append(el("path", d="".join(d), style=f"fill:{colour_of(label, labels)}"))
    return parts


def _events(events_s: Sequence[tuple[float, str]], across: _Across, top: float) -> list[Html]:
    return [
        el(
            "path",
            el("title", what),
            d=f"M{float(across(t_s)):.1f} {top:.1f}l4 10h-8z",
            style="fill:var(--ink)",
        )
        for t_s, what in events_s
    ]
