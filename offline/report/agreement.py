"""Agreement with the labels: confusion, and figures of each state and each subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.report.html import NONE, NOTHING, Html, el, join, number, table, with_interval
from streamscore.panel.art import hypnogram_order

Estimate = Mapping[str, float | None]
#: How strongly a cell that holds all epochs of its row is coloured.
DARKEST = 0.55


def told(estimate: Any, digits: int = 3) -> str:
    """Return a figure and its interval; a dash where it is not defined."""
    if isinstance(estimate, Mapping):
        return with_interval(estimate.get("value"), (estimate.get("low"), estimate.get("high")), digits)
    return number(estimate if isinstance(estimate, int | float) else None, digits)


def percent(estimate: Any) -> str:
    """Return a share and its interval in per cent."""
    value, bounds = value_of(estimate), bounds_of(estimate)
    if not np.isfinite(value):
        return NONE
    return f"{with_interval(100 * value, [100 * bound for bound in bounds], 1)} %"


def value_of(estimate: Any) -> float:
    """Return a figure without its interval; NaN where it is not defined."""
    value = estimate.get("value") if isinstance(estimate, Mapping) else estimate
    return float(value) if isinstance(value, int | float) else float("nan")


def bounds_of(estimate: Any) -> tuple[float, float]:
    """Return the interval of a figure; NaN where there is none."""
    if not isinstance(estimate, Mapping):
        return float("nan"), float("nan")
    low, high = estimate.get("low"), estimate.get("high")
    return float("nan" if low is None else low), float("nan" if high is None else high)


def confusion(matrix: npt.ArrayLike, labels: tuple[str, ...]) -> Html:
    """Show how many epochs of each true state (row) were scored as each state (column)."""
    counts = np.asarray(matrix, np.int64)
    order = [labels.index(label) for label in hypnogram_order(labels)]
    sums = counts.sum(axis=1)
    head = el("tr", el("th", "true state", scope="col"), *(el("th", labels[k], scope="col") for k in order))
    rows = []
    for k in order:
        cells = [_cell(int(counts[k, j]), int(sums[k]), is_right=j == k) for j in order]
        rows.append(el("tr", el("th", labels[k], scope="row"), *cells))
    made = el("table", el("thead", head), el("tbody", *rows), class_="matrix")
    return el("div", made, class_="scroll")


def _cell(n: int, of: int, *, is_right: bool) -> Html:
    share = n / of if of else 0.0
    percent = f"{100 * share:.0f} %" if of else NONE
    shade = f"background:rgb(var(--cell) / {DARKEST * share:.3f})" if n else None
    return el("td", f"{n:,}", el("span", percent), style=shade, class_="right" if is_right else None)


#: Figures of a state: key, heading.
_CLASS_COLUMNS = (("precision", "precision"), ("recall", "recall"), ("f1", "F1"), ("auc", "AUC"))


def per_class(classes: Mapping[str, Mapping[str, Any]], labels: tuple[str, ...]) -> Html:
    """Show precision, recall, F1 and AUC of each state with their intervals."""
    columns = [(key, words) for key, words in _CLASS_COLUMNS if any(key in one for one in classes.values())]
    rows = []
    for label in hypnogram_order(labels):
        one = classes.get(label)
        if one is not None:
            epochs = one.get("epochs")
            n = f"{epochs:,}" if isinstance(epochs, int) else NONE
            rows.append((label, n, *(told(one.get(key)) for key, _ in columns)))
    return table(("state", "true epochs", *(words for _, words in columns)), rows) if rows else NOTHING


#: Figures of a subject: key, heading.
_SUBJECT_COLUMNS = (("accuracy", "accuracy"), ("kappa", "κ"), ("macro_f1", "macro-F1"))


def per_subject(
    subjects: Mapping[str, Mapping[str, Any]], labels: tuple[str, ...], pooled: Mapping[str, Any]
) -> Html:
    """Show accuracy, κ and F1 of each subject, and of all epochs pooled in the last row."""
    if not subjects:
        return NOTHING
    order = hypnogram_order(labels)
    head = (
        "subject",
        "labelled",
        "scored",
        *(words for _, words in _SUBJECT_COLUMNS),
        *(f"F1 {s}" for s in order),
    )
    rows = [_subject_row(name, one, order) for name, one in subjects.items()]
    return table(head, rows, total=_subject_row("all, pooled", pooled, order) if len(rows) > 1 else ())


def _subject_row(name: str, one: Mapping[str, Any], order: Sequence[str]) -> tuple[str, ...]:
    covered = one.get("coverage") or {}
    share = value_of(covered.get("share"))
    classes = one.get("classes") or {}
    return (
        name,
        f"{covered['labelled_epochs']:,}" if "labelled_epochs" in covered else NONE,
        f"{100 * share:.1f} %" if np.isfinite(share) else NONE,
        *(number(value_of(one.get(key))) for key, _ in _SUBJECT_COLUMNS),
        *(number(value_of((classes.get(label) or {}).get("f1")), 2) for label in order),
    )


def unknown_reasons(coverage: Mapping[str, Any]) -> Html:
    """Say how many of the labelled epochs were not scored, and why."""
    reasons = coverage.get("unknown") or {}
    if not reasons:
        return el("p", "Every labelled epoch was scored.", class_="small") if coverage else NOTHING
    rows = [(reason, f"{n:,}") for reason, n in reasons.items()]
    read = el("p", "Labelled epochs that were not scored, and so do not count above:", class_="small")
    return join([read, table(("why", "epochs"), rows)])
