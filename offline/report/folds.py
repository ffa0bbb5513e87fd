"""The trainings of a cross-validation: who was tested by which, how well, and how each training went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offline.report.agreement import value_of
from offline.report.html import NOTHING, Html, el, join, number, table
from offline.report.page import folded
from offline.report.training import curves

_FIGURES = (("kappa", "κ"), ("accuracy", "accuracy"), ("macro_f1", "macro-F1"))


def fold_table(about: Mapping[str, Any], main: Mapping[str, Any]) -> Html:
    """Show the figures of each fold and their mean, as :mod:`offline.gather` told them; empty without folds."""
    figures = {one.get("fold"): one for one in main.get("folds") or ()}
    rows = []
    for fold in about.get("folds") or ():
        one = figures.get(fold.get("fold"), {})
        setting = ", ".join(f"{key} {value}" for key, value in (fold.get("setting") or {}).items())
        tested = ", ".join(map(str, fold.get("test") or ()))
        learnt = f"{len(fold.get('train') or ())} + {len(fold.get('validation') or ())}"
        told = (number(value_of(one.get(key))) for key, _ in _FIGURES)
        rows.append((str(fold.get("fold")), tested, setting, learnt, *told))
    if not rows:
        return NOTHING
    over = main.get("over_folds") or {}
    means = (
        f"{number(over[key].get('mean'))} ± {number(over[key].get('sd'))}" if key in over else ""
        for key, _ in _FIGURES
    )
    head = ("fold", "tested on", "setting", "learnt from + chosen by", *(words for _, words in _FIGURES))
    return table(head, rows, n_words=3, total=("mean ± SD", "", "", "", *means))


def fold_curves(folder: Path, about: Mapping[str, Any]) -> Html:
    """Draw the curves of each training; the first is shown, the others are folded."""
    drawn = []
    for fold in about.get("folds") or ():
        path = (folder / str(fold.get("training", ""))).resolve()
        if path.is_relative_to(folder.resolve()) and (found := curves(path)):
            drawn.append((f"Fold {fold.get('fold')}", found))
    if not drawn:
        return NOTHING
    (title, first), *others = drawn
    return join([el("h3", title), first, *(folded(name, found) for name, found in others)])
