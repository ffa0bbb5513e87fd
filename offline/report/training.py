"""Curves of a training: loss and agreement, pass by pass, of each stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from offline.report.chart import ACCENT, MUTED, SECOND, Chart, Scale, legend, spanning
from offline.report.html import NOTHING, Html, el, join
from offline.report.page import figure
from streamscore.errors import RecordError

#: The recipe, and passes and kept pass of each stage, in the folder of a training.
RECIPE_FILE, PASSES_FILE, FIGURES_FILE = "recipe.yaml", "passes.jsonl", "figures.json"

Rows = Sequence[Mapping[str, Any]]


def curves(folder: Path) -> Html:
    """Draw what the training in `folder` logged; empty where it logged nothing.

    Raises
    ------
    RecordError
        If a log cannot be read.
    """
    drawn = []
    order = _stages(folder)
    found = sorted((folder / "checkpoints").glob(f"*/{PASSES_FILE}"))
    for path in sorted(
        found, key=lambda path: order.index(path.parent.name) if path.parent.name in order else len(order)
    ):
        rows = _rows(path)
        if rows:
            drawn.append(_stage(path.parent.name, rows, _chosen(path.parent / FIGURES_FILE)))
    if not drawn:
        return NOTHING
    read = (
        "How to read it: one pass goes through all training data once. Loss is what training makes small. Where "
        "the loss of the validation subjects rises while that of the training subjects still falls, the network "
        "begins to learn the training subjects by heart. The dashed line marks the pass whose weights were "
        "kept."
    )
    marks = [(ACCENT, "training subjects"), (SECOND, "validation subjects")]
    return figure(join(drawn), read, legend(marks))


def _stage(name: str, rows: Rows, chosen: int | None) -> Html:
    panels = [
        _panel(rows, {"loss": ACCENT, "val_loss": SECOND}, "loss", chosen),
        _panel(rows, {"val_kappa": SECOND}, "κ of the validation subjects", chosen),
    ]
    return join([el("h3", f"Stage {name}, {len(rows)} passes"), el("div", *panels, class_="side")])


def _panel(rows: Rows, lines: Mapping[str, str], label: str, chosen: int | None) -> Html:
    passes = np.array([float(row.get("pass", k + 1)) for k, row in enumerate(rows)])
    values = {key: np.array([_number(row.get(key)) for row in rows]) for key in lines}
    known = {key: line for key, line in values.items() if np.isfinite(line).any()}
    if not known:
        return NOTHING
    y = Scale(*spanning(np.concatenate(list(known.values()))), label)
    chart = Chart(
        Scale(float(passes[0]), float(max(passes[-1], passes[0] + 1)), "pass", whole=True), y, height=240
    )
    if chosen is not None:
        chart.upright(float(chosen), MUTED, f"kept: {chosen}")
    for key, line in known.items():
        chart.line(passes, line, lines[key])
        if len(passes) <= 40:
            chart.points(passes, line, lines[key], radius=2.2)
    return chart.svg(f"{label} by pass")


def _rows(path: Path) -> Rows:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path}: cannot be read as the log of a training: {error}; copy the folder again"
        ) from error
    return [row for row in rows if isinstance(row, dict)]


def _chosen(path: Path) -> int | None:
    """Which pass was kept, if the stage is done."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["pass"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _stages(folder: Path) -> list[str]:
    """Names of the stages in the order in which they are trained, as far as the recipe tells."""
    try:
        recipe = yaml.safe_load((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        return [str(stage["name"]) for stage in recipe["stages"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return []
