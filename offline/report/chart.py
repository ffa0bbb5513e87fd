"""Charts as SVG inside the page: axes, lines, bands, bars and points, in the colours of the page.

Colours that change with the page (ink, grid, accent) are CSS variables, so that a chart follows dark mode and
print; those of the states are the same as on the screen of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from offline.report.html import Html, el, short
from streamscore.panel.art import TICKS_S, clock

INK, MUTED, GRID, ACCENT, SECOND, ALARM = (
    f"var(--{name})" for name in ("ink", "muted", "grid", "accent", "second", "alarm")
)
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Most ticks of an axis.
N_TICKS = 7

Ticks = list[tuple[float, str]]
Numbers = npt.ArrayLike


@dataclass(frozen=True)
class Scale:
    """An axis: the values from `low` to `high`, in equal steps or equal ratios.

    Parameters
    ----------
    label
        What it shows, with the unit.
    ticks
        Values and what is written there; chosen from the range where there are none.
    whole
        Whether it counts, so that there is nothing between two whole numbers.
    """

    low: float
    high: float
    label: str = ""
    log: bool = False
    ticks: Ticks | None = None
    whole: bool = False

    def share(self, values: Numbers) -> npt.NDArray[np.float64]:
        """Part of the axis at which `values` lie, 0 at its start and 1 at its end; limited to the axis."""
        array = np.asarray(values, np.float64)
        low, high = self.low, self.high
        if self.log:
            array, low, high = np.log(np.maximum(array, 1e-300)), math.log(low), math.log(high)
        shares: npt.NDArray[np.float64] = np.clip((array - low) / ((high - low) or 1.0), 0.0, 1.0)
        return shares

    @property
    def marks(self) -> Ticks:
        """Ticks as drawn."""
        if self.ticks is not None:
            return self.ticks
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high, whole=self.whole)


def linear_ticks(low: float, high: float, *, whole: bool = False) -> Ticks:
    """Round values between `low` and `high`."""
    if not high > low:
        return [(low, short(low))]
    rough = (high - low) / N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
    if whole:
        step = max(step, 1.0)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(k * step, f"{k * step:.{digits}f}".replace("-", "−")) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> Ticks:
    """Powers of ten between `low` and `high`, with 2 and 5 where these are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    values = [factor * 10.0**decade for decade in decades for factor in factors]
    return [(value, _power(value)) for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _power(value: float) -> str:
    """Write a value plainly, far from 1 as a power of ten."""
    if 1e-3 < value < 1e5:
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10.0**exponent)
    return ("" if factor == 1 else f"{factor}·") + "10" + str(exponent).translate(_RAISED)


def time_ticks(start_s: float, stop_s: float, n_ticks: int = 12) -> Ticks:
    """Round times from `start_s` on, told from there."""
    span_s = stop_s - start_s
    step_s = next(
        (step for step in TICKS_S if span_s / step <= n_ticks), math.ceil(span_s / n_ticks / 86400) * 86400
    )
    return [(start_s + k * step_s, clock(k * step_s)) for k in range(int(span_s // step_s) + 1)]


def spanning(values: Numbers, *, around: float = 0.05) -> tuple[float, float]:
    """Return a range that holds `values` (those that are numbers) with some air around them."""
    array = np.asarray(values, np.float64).ravel()
    array = array[np.isfinite(array)]
    if not array.size:
        return 0.0, 1.0
    low, high = float(array.min()), float(array.max())
    air = around * (high - low) or 0.05 * abs(high) or 1.0
    return low - air, high + air


@dataclass
class Chart:
    """One pair of axes; parts are added from back to front, and :meth:`svg` writes them.

    Parameters
    ----------
    x, y
        The axes.
    width, height
        Of the whole picture in pixels; the page shrinks it to its own width.
    left, top, right, bottom
        Room around the axes, for what is written there.
    """

    x: Scale
    y: Scale
    width: float = 460.0
    height: float = 300.0
    left: float = 58.0
    top: float = 12.0
    right: float = 14.0
    bottom: float = 44.0
    parts: list[Html] = field(default_factory=list)

    def across(self, values: Numbers) -> npt.NDArray[np.float64]:
        """Pixels from the left."""
        return self.left + self.x.share(values) * (self.width - self.left - self.right)

    def down(self, values: Numbers) -> npt.NDArray[np.float64]:
        """Pixels from the top."""
        return self.height - self.bottom - self.y.share(values) * (self.height - self.top - self.bottom)

    def line(self, xs: Numbers, ys: Numbers, colour: str, *, width: float = 2.0, dash: str = "") -> None:
        """Join points by a line, which is broken where a value is not a number."""
        x, y = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
        known = np.isfinite(x) & np.isfinite(y)
        pieces, start = [], 0
        for stop in [*np.flatnonzero(~known), len(known)]:
            if stop - start > 1:
                pieces.append(_polyline(self.across(x[start:stop]), self.down(y[start:stop])))
            start = int(stop) + 1
        self._add(
            el("path", d="".join(pieces), style=_stroke(colour, width), fill="none", stroke_dasharray=dash or None)
        )

    def band(self, xs: Numbers, lows: Numbers, highs: Numbers, colour: str) -> None:
        """Shade what lies between two lines."""
        x, low, high = (np.asarray(values, np.float64) for values in (xs, lows, highs))
        known = np.isfinite(low) & np.isfinite(high)
        if known.sum() < 2:
            return
        across = self.across(x[known])
        outline = _polyline(
            np.concatenate([across, across[::-1]]),
            np.concatenate([self.down(low[known]), self.down(high[known])[::-1]]),
        )
        self._add(el("path", d=outline + "Z", style=f"fill:{colour};fill-opacity:0.18"))

    def points(
        self, xs: Numbers, ys: Numbers, colour: str, *, radius: float = 3.5, titles: Sequence[str] = ()
    ) -> None:
        """Draw dots; `titles` are shown by a browser under the mouse."""
        for k, (x, y) in enumerate(zip(self.across(xs), self.down(ys), strict=True)):
            if np.isfinite(x) and np.isfinite(y):
                told = (el("title", titles[k]),) if titles else ()
                self._add(el("circle", *told, cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius, style=f"fill:{colour}"))

    def whiskers(self, xs: Numbers, lows: Numbers, highs: Numbers, colour: str) -> None:
        """Draw an interval at each point."""
        pieces = [
            f"M{x:.1f} {low:.1f}V{high:.1f}"
            for x, low, high in zip(self.across(xs), self.down(lows), self.down(highs), strict=True)
            if np.isfinite(x + low + high)
        ]
        self._add(el("path", d="".join(pieces), style=_stroke(colour, 1.5), fill="none"))

    def bars(self, lefts: Numbers, rights: Numbers, heights: Numbers, colour: str, *, base: float = 0.0) -> None:
        """Draw bars from `base` up."""
        floor = float(self.down(base))
        pieces = [
            f"M{left:.1f} {floor:.1f}V{top:.1f}H{max(right, left + 0.6):.1f}V{floor:.1f}Z"
            for left, right, top in zip(self.across(lefts), self.across(rights), self.down(heights), strict=True)
            if np.isfinite(top) and top < floor
        ]
        self._add(el("path", d="".join(pieces), style=f"fill:{colour}"))

    def upright(self, x: float, colour: str, label: str = "") -> None:
        """Mark a place on the axis below, with words."""
        at = float(self.across(x))
        path = f"M{at:.1f} {self.top:.1f}V{self.height - self.bottom:.1f}"
        self._add(el("path", d=path, style=_stroke(colour, 1.5), stroke_dasharray="4 3", fill="none"))
        if label:
            ends = at > self.width - self.right - 90
            anchor, dx = ("end", -4) if ends else ("start", 4)
            self.text(at + dx, self.top + 11, label, anchor=anchor)

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", class_: str = "") -> None:
        """Write at a place in pixels."""
        self._add(el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_ or None))

    def svg(self, title: str) -> Html:
        """Return the picture; `title` says in words what it shows."""
        axes = [*self._x_axis(), *self._y_axis()]
        return picture(self.width, self.height, [*axes, *self.parts], title)

    def _x_axis(self) -> list[Html]:
        floor, middle = self.height - self.bottom, (self.left + self.width - self.right) / 2
        marks = list(zip(self.across([value for value, _ in self.x.marks]), self.x.marks, strict=True))
        grid = "".join(f"M{at:.1f} {self.top:.1f}V{floor:.1f}" for at, _ in marks)
        parts = [el("path", d=grid, class_="grid")]
        parts += [
            el("text", word, x=f"{at:.1f}", y=f"{floor + 16:.1f}", text_anchor="middle") for at, (_, word) in marks
        ]
        if self.x.label:
            parts.append(
                el("text", self.x.label, x=middle, y=self.height - 6, text_anchor="middle", class_="axis")
            )
        return parts

    def _y_axis(self) -> list[Html]:
        marks = list(zip(self.down([value for value, _ in self.y.marks]), self.y.marks, strict=True))
        grid = "".join(f"M{self.left:.1f} {at:.1f}H{self.width - self.right:.1f}" for at, _ in marks)
        parts = [el("path", d=grid, class_="grid")]
        parts += [
            el("text", word, x=self.left - 6, y=f"{at + 4:.1f}", text_anchor="end") for at, (_, word) in marks
        ]
        if self.y.label:
            middle = (self.top + self.height - self.bottom) / 2
            turned = f"rotate(-90 13 {middle:.1f})"
            parts.append(
                el("text", self.y.label, x=13, y=middle, transform=turned, text_anchor="middle", class_="axis")
            )
        return parts

    def _add(self, part: Html) -> None:
        self.parts.append(part)


def picture(width: float, height: float, parts: Sequence[Html], title: str) -> Html:
    """Return an SVG of `parts`."""
    return el(
        "svg",
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        role="img",
        aria_label=title,
    )


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """Name the colours of a chart: pairs of colour and words."""
    return el(
        "p",
        *(
            el("span", el("i", style=f"background:{colour}"), f" {words}", class_="key")
            for colour, words in entries
        ),
        class_="legend",
    )


def histogram_edges(values: Numbers, n_bins: int, *, log: bool = False) -> npt.NDArray[np.float64]:
    """Return `n_bins` + 1 edges that hold all `values`, in equal steps or ratios."""
    array = np.asarray(values, np.float64)
    low, high = float(array.min()), float(array.max())
    if log:
        low, high = max(low, 1e-12), max(high, 1e-12)
        make: Callable[..., npt.NDArray[np.float64]] = np.geomspace
        high = high if high > low * 1.01 else low * 1.01
    else:
        make = np.linspace
        high = high if high > low else low + 1.0
    return make(low, high, n_bins + 1)


def _polyline(across: npt.NDArray[np.float64], down: npt.NDArray[np.float64]) -> str:
    points = [f"{x:.1f} {y:.1f}" for x, y in zip(across, down, strict=True)]
    return "M" + "L".join(points)


def _stroke(colour: str, width: float) -> str:
    return f"stroke:{colour};stroke-width:{width:g}"
