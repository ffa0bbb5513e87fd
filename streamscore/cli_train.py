"""The command that trains; :mod:`streamscore.cli` adds it to the command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streamscore.errors import ConfigError

out = Console(highlight=False)


class DeviceName(StrEnum):
    """Where networks are trained."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class PrecisionName(StrEnum):
    """Numbers that a training computes with, as Lightning calls them."""

    full = "32-true"
    half = "16-mixed"
    brain = "bf16-mixed"


def recipes() -> None:
    """List the recipes: which published system each trains, and on which kind of data.

    Example: streamscore recipes
    """
    from offline.recipe import load_recipe, recipe_names

    table = Table(title="streamscore train RECIPE --data FOLDER")
    for column in ("recipe", "trains", "data", "stages (passes)"):
        table.add_column(column, no_wrap=column == "recipe")
    for name in recipe_names():
        recipe = load_recipe(name)
        stages = ", ".join(f"{stage.name} ({stage.passes})" for stage in recipe.stages)
        table.add_row(name, recipe.title, str(recipe.dataset.get("kind", "any")), stages)
    out.print(table)


def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe (streamscore recipes lists them), or a .yaml file.")
    ],
    data: Annotated[Path, typer.Option("--data", "-d", help="Folder of the recordings.")],
    output: Annotated[Path, typer.Option("--out", "-o", help="Run folder; one that was begun is gone on with.")],
    dataset: Annotated[str | None, typer.Option(help="Kind of data set. [recognised, or the recipe's]")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="TRAIN/VALIDATION: subjects or spans, as M1,M2/M3 or M1@0-14h/M1@14-16h. [all, a tenth chooses]"
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Bundle whose weights it starts with (fine-tuning).")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE of the recipe, such as stages.0.passes=5.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the training and of drawn subjects. [the recipe's]")] = None,
    device: Annotated[DeviceName, typer.Option(help="Where.")] = DeviceName.auto,
    devices: Annotated[int, typer.Option(min=1, help="How many GPUs (or processes) side by side.")] = 1,
    strategy: Annotated[str, typer.Option(help="Of Lightning, for several devices: ddp, fsdp …")] = "auto",
    precision: Annotated[PrecisionName | None, typer.Option(help="[the recipe's]")] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that prepare batches; 0: the trainer itself.")
    ] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch. [all cores]")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a recipe on a folder of recordings and write a bundle.

    Ctrl-C stops it; the same command goes on where it stopped and gives the same bundle.

    Example: streamscore train tinysleepnet --data ~/sleep-edf --out runs/tiny
    """
    need_training()
    from offline.recipe import load_recipe, parse_override

    overrides = dict(parse_override(text) for text in change or [])
    if seed is not None:
        overrides["seed"] = seed
    chosen = load_recipe(recipe, overrides)

    import torch  # what is misspelt is told before this takes its seconds

    from offline.folds import Split, train_all
    from offline.stages import Machine
    from offline.train import open_for
    from offline.train import train as run
    from streamscore.bundle import load_bundle

    recordings = open_for(chosen, data, dataset)
    if split is None:
        parts = train_all(recordings.subjects, seed=chosen.seed)
    else:
        names = [tuple(name.strip() for name in part.split(",") if name.strip()) for part in split.split("/")]
        if len(names) != 2:
            raise ConfigError(
                f"--split {split!r}: write TRAIN/VALIDATION, names with commas; tests are evaluate's"
            )
        parts = Split(train=names[0], validation=names[1], test=(), final=True)
    if threads:
        torch.set_num_threads(threads)
    machine = Machine(device.value, devices, strategy, workers, precision.value if precision is not None else None)
    begun = load_bundle(start) if start else None
    try:
        bundle = run(chosen, recordings, parts, output, machine=machine, start=begun, quiet=quiet)
    except KeyboardInterrupt:
        out.print("stopped; the same command goes on from the end of the last pass")
        raise typer.Exit(130) from None
    out.print(f"trained on {len(parts.train)} subjects, chosen by {len(parts.validation)}")
    out.print(f"bundle {bundle}")
    out.print(f"next: streamscore evaluate {bundle} --data FOLDER (of subjects that it never saw)", soft_wrap=True)


def need_training() -> None:
    """Raise ``ConfigError`` if the packages of the training extra are not installed."""
    import importlib.util

    missing = [
        name for name in ("lightning", "sklearn", "matplotlib", "pooch") if not importlib.util.find_spec(name)
    ]
    if missing:
        raise ConfigError(
            f'this command needs {", ".join(missing)}: pip install "streamscore[train]" (the engine does without)'
        )
