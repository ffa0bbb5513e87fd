"""The page of a training: what was learnt from whom, how the loss went, and what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offline.report.card import find_card
from offline.report.html import NOTHING, Html, duration, el, number, table
from offline.report.page import Page, Section, folded
from offline.report.provenance import is_simulated, provenance
from offline.report.training import RECIPE_FILE, curves
from streamscore.errors import RecordError

SPLIT_FILE, ABOUT_FILE, BUNDLE_FILE = "split.json", "training.json", "bundle.safetensors"


def training_page(folder: Path) -> Page:
    """Return the page of the training in `folder`, also of one that is under way or was killed.

    Raises
    ------
    RecordError
        If a file of it is damaged.
    """
    asked = _read(folder / SPLIT_FILE)
    about = _read(folder / ABOUT_FILE) if (folder / ABOUT_FILE).is_file() else {}
    recipe = asked.get("recipe") or {}
    title = str(recipe.get("title") or folder.name)
    card = find_card([folder / BUNDLE_FILE] if (folder / BUNDLE_FILE).is_file() else [], "")
    parts = (asked.get("split") or {}).items()
    split = {str(part): names for part, names in parts if isinstance(names, list)}
    warnings = []
    if is_simulated(about):
        warnings.append("SIMULATED: the recordings were made by a program.")
    notes = []
    if not about:
        notes.append(
            "This training is not finished: it is under way or was stopped. The same command goes on with it."
        )
    else:
        notes.append(
            "Validation figures chose the weights, so that they are too good. streamscore evaluate tells how "
            "other subjects are scored."
        )
    return Page(
        title=f"Training: {title}",
        lead=_lead(about, split),
        warnings=warnings,
        notes=notes,
        cards=_cards(about),
        sections=[
            Section("Training", "How training went, pass by pass.", curves(folder)),
            Section(
                "Stages",
                "The pass whose weights were kept, by its figures on the validation subjects.",
                _stages(about),
            ),
            Section(
                "Subjects",
                "Who was learnt from, and who chose the weights. No subject is in two rows.",
                _split(split),
            ),
            Section("Recipe", "Everything that was asked for, defaults included.", _recipe(folder)),
            Section(
                "Model card", "What the network is, on what it was trained, and what it is not for.", card.body
            ),
            Section(
                "Provenance",
                "What made it, and how to make it again.",
                provenance(about, folder) if about else NOTHING,
            ),
        ],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read: {error}; train again, or copy the folder again") from error
    if not isinstance(found, dict):
        raise RecordError(f"{path}: holds no object of JSON; train again, or copy the folder again")
    return found


def _lead(about: Mapping[str, Any], split: Mapping[str, Any]) -> str:
    n = {part: len(split.get(part) or ()) for part in ("train", "validation")}
    text = f"Learnt from {_count(n['train'])}, with weights chosen by {_count(n['validation'])}"
    if about.get("seconds"):
        text += f", in {duration(float(about['seconds']))} on {about.get('device', 'this machine')}"
    return f"{text}."


def _count(n: int) -> str:
    return f"{n} subject{'s' if n != 1 else ''}"


def _cards(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    stages = list((about.get("validation") or {}).values())
    if not stages:
        return []
    names = (("val_kappa", "κ"), ("val_accuracy", "accuracy"), ("val_macro_f1", "macro-F1"))
    return [(number(stages[-1].get(key)), f"{words} of the validation subjects") for key, words in names]


def _stages(about: Mapping[str, Any]) -> Html:
    columns = ("val_loss", "val_accuracy", "val_kappa", "val_macro_f1")
    rows = [
        (name, f"{one.get('pass')} of {one.get('passes')}", *(number(one.get(key)) for key in columns))
        for name, one in (about.get("validation") or {}).items()
    ]
    return table(("stage", "pass", "loss", "accuracy", "κ", "macro-F1"), rows) if rows else NOTHING


def _split(split: Mapping[str, Any]) -> Html:
    rows = [(part, str(len(names)), ", ".join(map(str, names))) for part, names in split.items() if names]
    return table(("part", "how many", "who"), rows, n_words=3) if rows else NOTHING


def _recipe(folder: Path) -> Html:
    try:
        text = (folder / RECIPE_FILE).read_text(encoding="utf-8")
    except OSError:
        return NOTHING
    return folded(RECIPE_FILE, el("pre", text))
