"""What made the figures, and what they do not say.

Agreement of two people: Lee et al. 2022, J Clin Sleep Med 18(1):193-202, doi:10.5664/jcsm.9538.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offline.datasets.base import OPTIONS_FILE
from offline.report.agreement import value_of
from offline.report.html import NONE, Html, el, facts, join, number
from streamscore.labels import AASM5, RK6

About = Mapping[str, Any]
#: Fewer subjects, or true epochs of a state, are told as few.
FEW_SUBJECTS, FEW_EPOCHS = 5, 100


def is_simulated(about: About) -> bool:
    """Whether the recordings were made by a program: the run says so, or the description of the data set."""
    dataset = about.get("dataset") or {}
    if dataset.get("simulated") or not dataset.get("folder"):
        return bool(dataset.get("simulated"))
    try:
        described = json.loads((Path(str(dataset["folder"])) / OPTIONS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and bool(described.get("simulated"))


def provenance(about: About, folder: Path) -> Html:
    """Tell what :func:`offline.evaluation_folder.write_evaluation` or a training noted of itself."""
    run: About = about.get("run") or about
    dataset, bundle = about.get("dataset") or {}, about.get("bundle") or {}
    rows = [
        ("command", run.get("command")),
        ("date", run.get("date")),
        ("commit", run.get("git_commit")),
        ("machine", run.get("machine")),
        ("device", about.get("device")),
        ("versions", ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items())),
        ("bundle", bundle.get("name")),
        ("SHA-256 of the bundle", bundle.get("sha256")),
        ("started from", about.get("started_from")),
        ("data set", " in ".join(str(dataset[key]) for key in ("kind", "folder") if dataset.get(key))),
        ("subjects", _names(about.get("subjects"))),
        ("split", _names(about.get("split"))),
        ("seed", about.get("seed")),
        ("folder of the run", str(folder.resolve())),
    ]
    return facts([(name, str(value)) for name, value in rows if value not in (None, "", [], {})])


def _names(value: Any) -> str:
    """Say lists and mappings of names as a person would."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_names(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or NONE
    return "" if value is None else str(value)


def limits(about: About, main: About, *, simulated: bool) -> Html:
    """Say what a reader could wrongly take from the figures."""
    pooled, subjects = main["pooled"], main.get("subjects") or ()
    texts = [
        "The truth is what the simulator did. Real recordings hold artefacts, and states between states."
        if simulated
        else "The truth is the labels that came with the recordings. Where people would disagree, no scorer "
        "can agree with all of them."
    ]
    if not simulated and tuple(main["labels"]) in (AASM5, RK6):
        texts.append(
            "Two people who score human sleep agree at κ 0.76 on average (Lee et al. 2022, a meta-analysis)."
        )
    if about.get("in_sample"):
        texts.append("The figures are in sample: they say that training worked, and nothing about other subjects.")
    if len(subjects) < FEW_SUBJECTS:
        n = len(subjects)
        texts.append(
            f"There {'is one subject' if n == 1 else f'are {n} subjects'}: other subjects may differ from these."
        )
    if any("@" in str(one.get("subject")) for one in subjects):
        texts.append(
            "What stands for subjects are hours of recordings (NAME@FROM-TOh): nothing follows for other animals."
        )
    few = [
        f"{label} ({one['epochs']:,})"
        for label, one in (pooled.get("classes") or {}).items()
        if one.get("epochs") is not None and 0 < one["epochs"] < FEW_EPOCHS
    ]
    none = [label for label, one in (pooled.get("classes") or {}).items() if one.get("epochs") == 0]
    if few:
        texts.append(f"Few true epochs, so that their figures are uncertain: {', '.join(few)}.")
    if none:
        texts.append(
            f"Not in these recordings at all: {', '.join(none)}. Nothing is known of how they are scored."
        )
    share = value_of((pooled.get("coverage") or {}).get("share"))
    if np.isfinite(share) and share < 1.0:
        texts.append(
            f"{number(100 * (1 - share), 1)} % of the labelled epochs were not scored and count neither for nor "
            "against."
        )
    if _few_holders(subjects):
        texts.append(f"Present in one subject alone: {', '.join(_few_holders(subjects))}.")
    texts.append("Research software: not for any medical use.")
    return join([el("ul", *(el("li", text) for text in texts))])


def _few_holders(subjects: Sequence[About]) -> list[str]:
    """States that a single one of several subjects has."""
    if len(subjects) < 2:
        return []
    holders: dict[str, int] = {}
    for one in subjects:
        for label, figures in (one.get("classes") or {}).items():
            holders[label] = holders.get(label, 0) + bool(figures.get("epochs"))
    return [label for label, n in holders.items() if n == 1]
