"""Settings of a recipe side by side, chosen by those who are there to choose.

In each fold the setting is taken that is best on the validation subjects of that fold, and this one alone is
tested. So no subject that is tested has had a say in what it is tested with (nested choice; Cawley & Talbot 2010,
https://jmlr.org/papers/v11/cawley10a.html), and no figure of the table is one of a test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import yaml

from offline.recipe import Recipe
from streamscore.errors import ConfigError


@dataclass(frozen=True)
class Setting:
    """Fields of a recipe with values.

    Parameters
    ----------
    name
        That a folder can have.
    fields
        Dotted field → value.
    """

    name: str
    fields: Mapping[str, Any]


def parse_sweep(texts: Sequence[str]) -> list[Setting]:
    """Turn ``FIELD=A,B`` and ``FIELD=[A, B]`` into all combinations.

    Raises
    ------
    ConfigError
        If one has no field, or fewer than two different values, or a field is named twice.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        field, _, listed = (part.strip() for part in text.partition("="))
        try:
            whole = yaml.safe_load(listed)
            values = whole if isinstance(whole, list) else [yaml.safe_load(part) for part in listed.split(",")]
        except yaml.YAMLError as error:
            raise ConfigError(f"--sweep {text!r}: {error}") from error
        if not field or len({str(value) for value in values}) < max(2, len(values)):
            raise ConfigError(
                f"--sweep {text!r}: write FIELD=A,B with different values, such as "
                "stages.0.optimizer.lr=0.001,0.0001"
            )
        if field in axes:
            raise ConfigError(f"--sweep: {field} is named twice; list all its values at once")
        axes[field] = values
    settings = []
    for combination in product(*axes.values()):
        fields = dict(zip(axes, combination, strict=True))
        name = ",".join(f"{field}={value}" for field, value in fields.items())
        settings.append(Setting(re.sub(r"[^A-Za-z0-9._=,-]", "_", name), fields))
    if len({setting.name for setting in settings}) < len(settings):
        raise ConfigError("--sweep: two settings would have the same folder; use values that differ in letters")
    return settings


def monitor_of(recipes: Sequence[Recipe]) -> str:
    """Return the figure by which settings are chosen: what the last stage monitors.

    Raises
    ------
    ConfigError
        If the settings differ in it, or it is a loss and they differ in the loss.
    """
    monitors = {recipe.stages[-1].monitor for recipe in recipes}
    losses = {recipe.stages[-1].loss for recipe in recipes}
    monitor = next(iter(monitors))
    if len(monitors) > 1 or (monitor == "val_loss" and len(losses) > 1):
        raise ConfigError(
            "--sweep: settings with different losses or monitors cannot be compared by them; add --set "
            f"stages.{len(recipes[0].stages) - 1}.monitor=val_kappa"
        )
    return str(monitor)


def choose(figures: Sequence[Sequence[float]], monitor: str) -> list[int]:
    """Return the best setting of each fold; of equals, the first.

    Parameters
    ----------
    figures
        ``[setting][fold]``, on validation subjects.
    monitor
        A loss should be small, everything else large.

    Raises
    ------
    ConfigError
        If no setting has a finite figure in some fold.
    """
    scores = np.array(figures, np.float64)
    scores = -scores if monitor == "val_loss" else scores
    scores[~np.isfinite(scores)] = -np.inf
    hopeless = np.flatnonzero(np.isinf(scores).all(axis=0))
    if len(hopeless):
        raise ConfigError(
            f"--sweep: in fold {hopeless[0]} no setting has a {monitor}; its validation subjects may have one "
            "state alone: choose others, or another monitor"
        )
    return [int(k) for k in scores.argmax(axis=0)]


def table_of(
    settings: Sequence[Setting], figures: Sequence[Sequence[float]], chosen: Sequence[int], monitor: str
) -> dict[str, Any]:
    """What ``sweep.json`` says of the validation figures ``[setting][fold]``."""
    return {
        "chosen_by": f"{monitor} of the validation subjects, in each fold",
        "settings": [
            {
                "name": setting.name,
                "fields": dict(setting.fields),
                "validation": [float(value) for value in row],
                "mean": float(np.mean(row)),
                "sd": float(np.std(row, ddof=1)) if len(row) > 1 else math.nan,
                "chosen_in_folds": [fold for fold, best in enumerate(chosen) if best == k],
            }
            for k, (setting, row) in enumerate(zip(settings, figures, strict=True))
        ],
    }
