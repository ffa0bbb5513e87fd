"""HTML that is escaped unless it was made here.

:func:`el` writes one element. A text is escaped; only :class:`Html` is taken as it is, and that comes from
:func:`el` alone, or from a reader that lets no markup through. A subject called ``<script>`` is then a subject,
whoever forgets what.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

#: Elements that have no end.
_VOID = {"meta", "br", "hr"}
#: What stands for a figure that is not defined.
NONE = "–"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


#: Stands for a part that a page does not have.
NOTHING = Html("")


def el(name: str, *children: str, **attributes: str | float | bool | None) -> Html:
    """Write an element.

    Parameters
    ----------
    name
        Such as ``"td"``.
    children
        Texts, which are escaped, and elements.
    attributes
        ``class_`` is written ``class``, ``stroke_width`` as ``stroke-width``; those that are ``None`` or ``False``
        are left out, and ``True`` is a name without a value.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        parts.append(f" {key}" if value is True else f' {key}="{html.escape(text)}"')
    parts.append(">")
    if name not in _VOID:
        parts += [escaped(child) for child in children]
        parts.append(f"</{name}>")
    return Html("".join(parts))


def escaped(text: str) -> Html:
    """Return `text` as markup; what is markup already stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text, quote=False))


def join(parts: Iterable[str], between: str = "") -> Html:
    """Put parts one behind the other, texts escaped."""
    return Html(escaped(between).join(escaped(part) for part in parts))


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` behind the point, a dash where it is not defined."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def short(value: float | None) -> str:
    """Return `value` with three digits that count, a dash where it is not defined."""
    if value is None or not math.isfinite(value):
        return NONE
    if value and abs(value) < 1e-3:
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return a length of time as a person would say it."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    name, length_s = _unit(seconds)
    return f"{short(seconds / length_s)} {name}"


def duration_between(seconds: float | None, low_s: float | None, high_s: float | None) -> str:
    """Return ``2.4 min (2–3.1)``: a length of time and what it lies between, all in the unit of the first."""
    told = duration(seconds)
    if seconds is None or low_s is None or high_s is None or not math.isfinite(seconds + low_s + high_s):
        return told
    unit = _unit(seconds)[1]
    return f"{told} ({short(low_s / unit)}–{short(high_s / unit)})"


def _unit(seconds: float) -> tuple[str, float]:
    """Name and length in seconds of the unit that a length of time is told in."""
    return ("s", 1.0) if seconds < 100 else ("min", 60.0) if seconds < 6000 else ("h", 3600.0)


def with_interval(value: float | None, interval: Sequence[float | None] | None, digits: int = 3) -> str:
    """Return ``0.912 (0.880–0.934)``, without the brackets where there is no interval."""
    bounds = [bound for bound in interval or () if bound is not None and math.isfinite(bound)]
    if len(bounds) != 2:
        return number(value, digits)
    return f"{number(value, digits)} ({number(bounds[0], digits)}–{number(bounds[1], digits)})"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, n_words: int = 1, total: Sequence[str] = ()
) -> Html:
    """Write a table whose first `n_words` columns are words, and the others figures; `total` is its last row."""
    lines = [_row("td", row, n_words) for row in rows]
    if total:
        lines.append(_row("td", total, n_words, "total"))
    made = el("table", el("thead", _row("th", head, n_words)), el("tbody", *lines))
    return el("div", made, class_="scroll")


def _row(cell: str, texts: Sequence[str], n_words: int, class_: str | None = None) -> Html:
    first = el("th", texts[0], scope="col" if cell == "th" else "row")
    others = [el(cell, text, class_="words" if k < n_words else None) for k, text in enumerate(texts[1:], 1)]
    return el("tr", first, *others, class_=class_)


def facts(rows: Iterable[tuple[str, str]]) -> Html:
    """Write names and what they stand for."""
    return el("dl", *(join((el("dt", name), el("dd", value))) for name, value in rows))
