"""Train small forms of the recipes on simulated recordings, and write a table of what they learnt.

    python -m offline.try_recipes --out runs/trials --table docs/results-recipes.md

What a trial changes in a recipe stands in :mod:`offline.trials`. Trials that are done are not done again, and one
that was stopped goes on.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from offline.atomic import replacing
from offline.datasets.base import Dataset
from offline.datasets.simulated import Plan
from offline.recipe import Recipe, load_recipe
from offline.stages import Machine
from offline.train import train
from offline.trials import TRIALS, Trial, folder_of, open_trial
from streamscore.errors import ConfigError
from streamscore.labels import UNKNOWN_CODE
from streamscore.movies.base import Movie

HEAD = """\
# Recipes on simulated recordings

**Simulated, not real.** Each row is a small form of a recipe (fewer filters, fewer passes, a higher learning rate,
all told by its command) that learnt from simulated subjects, and was asked about the last two, which it had not
learnt from. It shows that data, stages, lessons, losses and the bundle work together; the figures say nothing of
brains, and nothing of the published network, whose own figure stands beside. How each recipe is trained in
earnest: [recipes.md](recipes.md).

Made by `python -m offline.try_recipes --out runs/trials --table docs/results-recipes.md`. Chance is the accuracy
of always saying the most frequent state; its kappa is 0. In their small forms `baek-vgg16` and
`vilamala` are one training. Seconds are those of the whole training on {device};
{disturbed}.

| recipe | simulated | passes | seconds | loss, first → last pass | accuracy (chance) | κ | published |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Result:
    """What a trial gave.

    Parameters
    ----------
    recipe, trial
        What was tried.
    stages
        Name of each stage → its passes: first and last loss.
    figures
        Of the validation subjects, at the pass that was kept.
    chance
        Accuracy of always saying the most frequent state.
    about
        Provenance of the training.
    """

    recipe: Recipe
    trial: Trial
    stages: Mapping[str, Sequence[Mapping[str, float]]]
    figures: Mapping[str, float]
    chance: float
    about: Mapping[str, Any]


def try_recipe(name: str, out: Path) -> Result:
    """Train the trial of a recipe in a folder of its own in `out`, where the simulated recordings are too.

    Raises
    ------
    ConfigError
        If there is no trial of the recipe.
    """
    if name not in TRIALS:
        raise ConfigError(f"no trial of recipe {name!r}; choose one of {', '.join(TRIALS)}")
    trial = TRIALS[name]
    recipe = load_recipe(name, dict(trial.changes))
    dataset, split = open_trial(trial, out / folder_of(trial))
    train(recipe, dataset, split, out / name, machine=Machine(device="cpu"), quiet=True)
    return read_result(name, out)


def read_result(name: str, out: Path) -> Result:
    """Return what a trial gave that is done.

    Raises
    ------
    ConfigError
        If it was done with another recipe than that of today, which its command would not tell.
    """
    trial = TRIALS[name]
    recipe = load_recipe(out / name / "recipe.yaml")
    if recipe.stages != load_recipe(name, dict(trial.changes)).stages:
        raise ConfigError(f"{out / name}: holds a trial of another recipe; remove the folder, and try it again")
    dataset, split = open_trial(trial, out / folder_of(trial))
    about = json.loads((out / name / "training.json").read_text(encoding="utf-8"))
    stages = {}
    for stage in recipe.stages:
        lines = (out / name / "checkpoints" / stage.name / "passes.jsonl").read_text(encoding="utf-8").splitlines()
        stages[stage.name] = [json.loads(line) for line in lines]
    chance = _chance(dataset, split.validation)
    return Result(recipe, trial, stages, about["validation"][recipe.stages[-1].name], chance, about)


def _chance(dataset: Dataset, subjects: Sequence[str]) -> float:
    """Share of the most frequent state of some subjects."""
    states = []
    for entry in dataset.of(subjects):
        recording = dataset.read(entry)
        states.append(recording.states)
        if isinstance(recording, Movie):
            recording.close()
    told = np.concatenate(states)
    counts = np.bincount(told[told != UNKNOWN_CODE])
    return float(counts.max() / counts.sum())


def command(name: str, trial: Trial) -> str:
    """The commands that give the same bundle."""
    plan = trial.plan
    subjects = [f"sim{plan.seed + k:05d}" for k in range(plan.n_subjects)]
    folder = folder_of(trial)
    rate = ["--sfreq", f"{plan.sfreq:g}"] if plan.sfreq else []
    cycle = ["--cycle-s", f"{plan.cycle_s:g}"] if plan.cycle_s else []
    side = ["--side", f"{plan.side_px}"] if plan.side_px != Plan.side_px else []
    simulated = ["streamscore", "data", "simulate", trial.simulated, "--to", folder, "--subjects"]
    simulated += [str(plan.n_subjects), "--hours", f"{plan.hours:g}", *rate, *cycle, *side]
    trained = ["streamscore", "train", name, "--data", folder, "--out", f"trials/{name}", "--device", "cpu"]
    trained += ["--split", f"{','.join(subjects[:-2])}/{','.join(subjects[-2:])}"]
    for field, value in trial.changes.items():
        trained += ["--set", f"{field}={json.dumps(value)}"]
    return f"{shlex.join(simulated)}\n{shlex.join(trained)}"


def table(results: Mapping[str, Result], disturbed: str) -> str:
    """The page, as Markdown."""
    devices = sorted({str(r.about["device"]) for r in results.values()})
    text = HEAD.format(device=", ".join(devices), disturbed=disturbed)
    for name, result in results.items():
        passes = " + ".join(str(len(rows)) for rows in result.stages.values())
        losses = ", ".join(f"{rows[0]['loss']:.3g} → {rows[-1]['loss']:.3g}" for rows in result.stages.values())
        plan, figures = result.trial.plan, result.figures
        published = result.recipe.published[0] if result.recipe.published else "none: the variant is ours"
        text += (
            f"| {name} | {plan.n_subjects} × {plan.hours:g} h {result.trial.simulated} | {passes} | "
            f"{result.about['seconds']:.0f} | {losses} | {figures['val_accuracy']:.3f} ({result.chance:.3f}) | "
            f"{figures['val_kappa']:.3f} | {published} |\n"
        )
    text += "\n## Commands\n"
    for name, result in results.items():
        text += f"\n### {name}\n\n```sh\n{command(name, result.trial)}\n```\n"
    return text


def main(
    out: Annotated[Path, typer.Option(help="Folder for simulated recordings and trainings.")],
    recipe: Annotated[list[str] | None, typer.Option(help="Recipes to try. [all that have a trial]")] = None,
    to: Annotated[Path | None, typer.Option("--table", help="Page to write, from all trials done in OUT.")] = None,
    disturbed: Annotated[
        str, typer.Option(help="What else ran on the machine, for the page.")
    ] = "nothing else ran on the machine",
) -> None:
    """Try recipes on simulated recordings, one after the other on one core."""
    torch.set_num_threads(1)
    for name in recipe or TRIALS:
        result = try_recipe(name, out)
        typer.echo(f"{name}: kappa {result.figures['val_kappa']:.3f}, {result.about['seconds']:.0f} s")
    if to is not None:
        done = {name: read_result(name, out) for name in TRIALS if (out / name / "training.json").is_file()}
        with replacing(to) as path:
            path.write_text(table(done, disturbed), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
