"""The command that evaluates; :mod:`streamscore.cli` adds it to the command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamscore.cli_options import parse_channels
from streamscore.cli_train import need_training
from streamscore.errors import ConfigError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class DeviceName(StrEnum):
    """Where networks are trained."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class LearnerName(StrEnum):
    """What stands beside a bundle."""

    auto = "auto"
    booster = "booster"
    logistic = "logistic"


def evaluate(
    bundle: Annotated[
        str, typer.Argument(help="Bundle file or name, a rig file; with --folds: a recipe that is trained anew.")
    ],
    data: Annotated[Path, typer.Option("--data", "-d", help="Folder of the recordings with their labels.")],
    dataset: Annotated[str | None, typer.Option(help="Kind of data set. [recognised]")] = None,
    subjects: Annotated[
        str | None, typer.Option(help="A,B: whom to evaluate on; M1@16-24h counts these hours alone. [all]")
    ] = None,
    look_ahead: Annotated[
        str | None, typer.Option(help="Seconds, as 0,4,8: the same weights at each. [the bundle's]")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Rig file whose policy is replayed: delays, missed and false triggers.")
    ] = None,
    hop_s: Annotated[
        float | None, typer.Option(help="Seconds between outputs. [one epoch; with --policy the bundle's]")
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="INPUT=LABEL: which channel of the recordings is which.")
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option("--pair", help="A,B: also compare these two states alone (AUC).")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Join states where labels are finer or coarser (S3 and S4 are N3 …).")
    ] = False,
    baseline: Annotated[
        LearnerName | None, typer.Option(help="Put a simple scorer of single epochs beside it: auto chooses.")
    ] = None,
    baseline_subjects: Annotated[
        str | None, typer.Option(help="A,B or M1@0-16h: whom the baseline learns from. [those not evaluated on]")
    ] = None,
    allow_training_subjects: Annotated[
        bool,
        typer.Option(
            "--allow-training-subjects", help="Evaluate on whom it was trained; figures are marked in sample."
        ),
    ] = False,
    draws: Annotated[int, typer.Option(min=0, help="Of the bootstrap behind the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap, the baseline and drawn folds.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Evaluation folder. [runs/evaluate-BUNDLE-TIME]")
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(help="Cross-validate a recipe: a number, loo, published:NAME or TRAIN/VALIDATION/TEST."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="With --folds: train them on Ray, auto or an address. [here, in turn]")
    ] = None,
    only_fold: Annotated[
        int | None, typer.Option(help="With --folds: this one alone, from 0 (array jobs of a cluster).")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="With --folds: FIELD=A,B of the recipe, chosen by validation figures."),
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="With --folds: FIELD=VALUE of the recipe.")
    ] = None,
    device: Annotated[DeviceName, typer.Option(help="With --folds: where to train.")] = DeviceName.auto,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --cluster auto: folds at once. [as many as cores]")
    ] = None,
    fold_cpus: Annotated[int, typer.Option(min=1, help="With --cluster: cores of a fold.")] = 1,
    fold_gpus: Annotated[float, typer.Option(min=0, help="With --cluster: GPUs of a fold, or a part.")] = 0.0,
) -> None:
    """Score recordings as a rig would and compare with their labels; writes an evaluation folder.

    Example: streamscore evaluate mouse-bands --data ~/mice --subjects M3,M4 --look-ahead 0,4,8,16
    """
    if folds is None and (cluster, only_fold, sweep, change) != (None, None, None, None):
        raise ConfigError("--cluster, --only-fold, --sweep and --set are for trainings; say which with --folds")
    if folds is not None and (subjects, baseline, baseline_subjects) != (None, None, None):
        raise ConfigError("--folds: folds say who is tested; leave out --subjects and --baseline")
    look_aheads_s = parse_look_aheads(look_ahead)
    pairs = tuple(_parse_pair(text) for text in pair or ())
    channels = parse_channels(channel)
    for option, example, texts in (("--set", "stages.0.passes=5", change), ("--sweep", "seed=1,2", sweep)):
        for text in texts or ():
            if not text.partition("=")[0].strip() or "=" not in text:  # before seconds of imports
                raise ConfigError(f"{option} {text!r}: write FIELD=VALUE, for example {option} {example}")
    if folds is not None:
        need_training()
        from offline.cluster import Size
        from offline.crossval import crossval_command
        from offline.evaluate_command import policy_of
        from offline.recipe import parse_override
        from offline.scoring import Settings

        folder = crossval_command(
            recipe=bundle,
            data=data,
            dataset=dataset,
            folds=folds,
            look_aheads_s=look_aheads_s,
            cluster=cluster,
            only_fold=only_fold,
            sweep=sweep or (),
            change=dict(parse_override(text) for text in change or ()),
            settings=Settings(channels, hop_s, policy_of(policy) if policy else None, merge),
            pairs=pairs,
            draws=draws,
            seed=seed,
            device=device.value,
            size=Size(fold_cpus, fold_gpus, workers),
            out=output,
        )
        _tell_folder(folder)
        return
    _refuse_recipe(bundle)
    from offline.evaluate_command import Request, evaluate_command
    from offline.evaluation_tables import show

    request = Request(
        bundle=bundle,
        data=data,
        dataset=dataset,
        subjects=parse_names(subjects),
        look_aheads_s=look_aheads_s,
        policy=policy,
        hop_s=hop_s,
        channels=channels,
        pairs=pairs,
        merge=merge,
        baseline=baseline.value if baseline is not None else None,
        baseline_subjects=parse_names(baseline_subjects),
        allow_training_subjects=allow_training_subjects,
        draws=draws,
        seed=seed,
        out=output,
    )
    with err.status("reading") as status:
        done = evaluate_command(
            request,
            tell=lambda text: err.print(text, markup=False, soft_wrap=True),
            progress=lambda name, k, n: status.update(f"scoring {name} ({k + 1} of {n})"),
        )
    show(done.content, out)
    _tell_folder(done.folder)


def _tell_folder(folder: Path) -> None:
    out.print(f"wrote {folder}", soft_wrap=True)
    out.print(f"next: streamscore report {folder}", soft_wrap=True)


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Turn ``A,B`` into names; None stays None."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def parse_look_aheads(text: str | None) -> tuple[float | None, ...]:
    """Turn ``0,4,8`` into seconds; None is the bundle's own. Raises ``ConfigError``."""
    if text is None:
        return (None,)
    try:
        seconds = [float(part) for part in text.split(",")]
    except ValueError:
        seconds = [-1.0]
    if min(seconds) < 0 or not all(value < float("inf") for value in seconds):
        raise ConfigError(f"--look-ahead {text!r}: write seconds from 0 on, for example --look-ahead 0,4,8")
    return tuple(sorted(set(seconds)))


def _parse_pair(text: str) -> tuple[str, str]:
    first, _, second = (part.strip() for part in text.partition(","))
    if not first or not second or first == second:
        raise ConfigError(f"--pair {text!r}: write two states, for example --pair W,N3")
    return first, second


def _refuse_recipe(name: str) -> None:
    """A recipe has no weights: say how it is evaluated."""
    from streamscore.bundle import find_bundle
    from streamscore.errors import BundleError

    recipe = Path(__file__).parents[1] / "offline" / "recipes" / f"{name}.yaml"
    if recipe.is_file():
        try:
            find_bundle(name)
        except BundleError:
            raise ConfigError(
                f"{name!r} is a recipe, which has no weights: add --folds 5 to train it and test it on "
                f"others, or train it with streamscore train {name} and evaluate the bundle"
            ) from None
