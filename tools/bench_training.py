"""Throughput of training: labelled epochs a second, and the share of step time that is compute, recipe by recipe.

``python -m tools.bench_training [RECIPE ...]`` trains each recipe for a few passes, as ``streamscore train`` does,
on recordings that are simulated for it, and reads what the training itself wrote into ``passes.jsonl``. The first
pass of a stage, in which libraries warm up, does not count. What is not compute is the wait for the next batch and
the loop around it: validation and checkpoints come after the steps and are in neither figure.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from offline.provenance import provenance
from offline.recipe import Recipe, load_recipe
from offline.stages import Machine
from offline.train import train
from offline.trials import TRIALS, folder_of, open_trial
from streamscore.errors import ConfigError

#: Least share of step time that should be compute.
WANTED_SHARE = 0.9
#: Fields of a stage that are changed: nothing ends a pass early.
_ENDLESS = {"patience": 0}


@dataclass(frozen=True)
class Throughput:
    """How fast a stage of a recipe trained.

    Parameters
    ----------
    recipe, stage
        Their names.
    epochs_per_s
        Labelled epochs (of frames: outputs) a second; median over the passes that count.
    compute_share
        Share of the time of steps that was not waiting for data, likewise.
    """

    recipe: str
    stage: str
    epochs_per_s: float
    compute_share: float


def measure(name: str, recipe: Recipe, folder: Path, machine: Machine) -> list[Throughput]:
    """Train `recipe` on what its trial simulates; return the throughput of each stage.

    Parameters
    ----------
    name
        Of the recipe, one of :data:`offline.trials.TRIALS`.
    recipe
        As it is to be trained; two passes or more in each stage.
    folder
        Takes recordings and the run; recordings of an earlier call are used again.
    """
    trial = TRIALS[name]
    dataset, split = open_trial(trial, folder / folder_of(trial))
    run = folder / name
    shutil.rmtree(run, ignore_errors=True)
    train(recipe, dataset, split, run, machine=machine, quiet=True)
    found = []
    for stage in recipe.stages:
        lines = (run / "checkpoints" / stage.name / "passes.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines][1:]
        figures = {key: statistics.median(row[key] for row in rows) for key in ("epochs_per_s", "compute_share")}
        found.append(Throughput(name, stage.name, **figures))
    return found


def shortened(name: str, passes: int, small: bool) -> Recipe:
    """The recipe `name` with `passes` passes in each stage; `small` takes the smaller network of its trial.

    Raises
    ------
    ConfigError
        If nothing is simulated for it, or there are too few passes to leave one out.
    """
    if name not in TRIALS:
        raise ConfigError(f"no recordings are simulated for recipe {name!r}; choose from {', '.join(TRIALS)}")
    if passes < 2:
        raise ConfigError(f"{passes} passes leave none to measure, as the first does not count; choose 2 or more")
    changes: dict[str, Any] = dict(TRIALS[name].changes) if small else {}
    for number in range(len(load_recipe(name).stages)):
        changes |= {f"stages.{number}.{field}": value for field, value in {**_ENDLESS, "passes": passes}.items()}
    return load_recipe(name, changes)


def as_markdown(found: list[Throughput], run: dict[str, Any]) -> str:
    """Return the table, with what made it."""
    lines = [
        f"`{run['command']}`, {run['date']}, {run['machine']}, torch {run['versions']['torch']}.",
        "",
        "| recipe | stage | epochs a second | compute, share of step time | |",
        "|---|---|---:|---:|---|",
    ]
    for row in found:
        met = "met" if row.compute_share >= WANTED_SHARE else "NOT MET"
        share = f"{100 * row.compute_share:.1f} %"
        lines.append(f"| {row.recipe} | {row.stage} | {row.epochs_per_s:.4g} | {share} | {met} |")
    return "\n".join(lines) + "\n"


def main(
    recipes: Annotated[
        list[str] | None, typer.Argument(help="Names of recipes. [all that can be simulated]")
    ] = None,
    passes: Annotated[int, typer.Option(help="Passes of each stage; the first does not count.")] = 3,
    small: Annotated[bool, typer.Option("--small", help="The smaller networks of offline/trials.py.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where recordings are kept. [a temporary folder]")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Markdown file for the table.")] = None,
) -> None:
    """Measure the throughput of training and print a table.

    Example: python -m tools.bench_training tinysleepnet seqsleepnet --device cpu
    """
    chosen = {name: shortened(name, passes, small) for name in recipes or TRIALS}
    found: list[Throughput] = []
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch:
        for name, recipe in chosen.items():
            typer.echo(f"training {name}", err=True)
            found += measure(name, recipe, folder or Path(scratch), Machine(device, workers=workers))
    text = as_markdown(found, provenance("tools.bench_training"))
    typer.echo(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
