"""Training with a square of every frame cut out, for the retrained form of the cut-out importance.

The mask stands at the end of the chain, so that the pixels are 0 in training and test. Each mask is a job
(:mod:`offline.cluster`): a study of 65 trainings that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offline.cluster import map_jobs
from offline.evaluate import evaluate_bundle
from offline.explain.cut_out import MaskArray, area_under, retrained
from offline.explain.result import Explained
from offline.folds import make_folds
from offline.recipe import load_recipe
from offline.stages import Machine
from offline.train import open_for, train
from streamscore import plugins
from streamscore.arrays import pack
from streamscore.bundle import load_bundle
from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel


def train_masked(
    folder: Path, *, recipe: str, data: str, kind: str | None, folds: str, seed: int, mask: str | None, device: str
) -> float:
    """Train with a mask and return the AUC on the subjects that were held out.

    Parameters
    ----------
    folder
        Of the job; the run folder of the training is in it.
    recipe, data, kind
        Name or path of the recipe; folder and kind of the data set.
    folds, seed
        Of :func:`offline.folds.make_folds`; the first fold is taken.
    mask
        Packed array, 0 where pixels are cut out; None to cut nothing out.
    device
        Of :class:`offline.train.Machine`.
    """
    plan = load_recipe(recipe)
    if plan.bundle is None:
        raise ConfigError(f"recipe {recipe}: names no bundle, so that no mask can be put behind its chain")
    if mask is not None:
        steps = (*plan.bundle.preprocess, {"kind": "mask", "mask": mask})
        plan = plan.model_copy(update={"bundle": plan.bundle.model_copy(update={"preprocess": steps})})
    dataset = open_for(plan, Path(data), kind)
    split = make_folds(dataset.subjects, folds, seed=seed)[0]
    bundle = load_bundle(train(plan, dataset, split, folder / "run", machine=Machine(device), quiet=True))
    scored = evaluate_bundle(bundle, dataset, split.test)
    return area_under(np.concatenate([one.probs for one in scored]), np.concatenate([one.truth for one in scored]))


def cut_out_retrained(
    recipe: str,
    data: Path,
    out: Path,
    *,
    kind: str | None = None,
    folds: str = "loo",
    seed: int = 0,
    wrap: bool = True,
    device: str = "auto",
    cluster: str | None = None,
) -> Explained:
    """Train once with everything and once for each square; parameters as in :func:`train_masked`.

    Raises
    ------
    ConfigError
        If the recipe is for signals.
    """
    plan = load_recipe(recipe)
    if plan.bundle is None:
        raise ConfigError(f"recipe {recipe}: names no bundle; choose one that does")
    module = plugins.load("models", plan.bundle.model)
    model: ScoringModel = module.build(module.Config(**plan.bundle.model_args))
    if model.frame_shape is None:
        raise ConfigError(f"recipe {recipe}: network {plan.bundle.model!r} takes signals, not frames of a camera")
    same: dict[str, Any] = {
        "recipe": recipe,
        "data": str(data.absolute()),
        "kind": kind,
        "folds": folds,
        "seed": seed,
        "device": device,
    }

    def train_and_score(masks: Sequence[MaskArray | None]) -> list[float]:
        # The step keeps what is not 0.
        jobs = {
            f"square-{k:02d}" if mask is not None else "everything": {
                **same,
                "mask": None if mask is None else pack((~mask).astype(np.uint8)),
            }
            for k, mask in enumerate(masks)
        }
        return list(map_jobs(train_masked, jobs, out / "trainings", cluster).values())

    return retrained(model.frame_shape, train_and_score, name=data.name, wrap=wrap)
