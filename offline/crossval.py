"""Cross-validation of a recipe: trained anew for each fold, tested by the engine on the subjects left out.

The folder is an evaluation (:mod:`offline.evaluation_folder`) with all tests in it, and

``folds/<k>``
    The training of each fold.
``sweep/<setting>/<k>``, ``sweep.json``
    Instead, the trainings of each setting, and what was chosen.
``tests/<how>/<k>``
    Scores of each fold; `how` stands for look-aheads and settings, so that new ones need no new training.

Everything that is done stays done: the same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from offline.atomic import replacing
from offline.cluster import Size, map_jobs
from offline.datasets.base import Dataset
from offline.evaluate import known_animals
from offline.evaluate_command import about_dataset
from offline.evaluation_folder import without_nan
from offline.evaluation_tables import show
from offline.fold_jobs import score_fold, train_fold
from offline.folds import Split, make_folds
from offline.gather import Options, gather, show_folds
from offline.provenance import provenance
from offline.recipe import Recipe, load_recipe
from offline.scoring import Settings
from offline.spans import Span
from offline.sweep import Setting, choose, monitor_of, parse_sweep, table_of
from offline.train import open_for
from streamscore.errors import ConfigError, RecordingError, SourceError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording


def crossval_command(
    *,
    recipe: str,
    data: Path,
    folds: str,
    dataset: str | None = None,
    look_aheads_s: Sequence[float | None] = (None,),
    cluster: str | None = None,
    only_fold: int | None = None,
    sweep: Sequence[str] = (),
    change: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    draws: int = 1000,
    seed: int = 0,
    device: str = "auto",
    size: Size | None = None,
    out: Path | None = None,
) -> Path:
    """Train and test `recipe` on folds, and return the evaluation folder.

    Parameters
    ----------
    recipe
        Name or file.
    data, dataset
        Folder of the recordings, and its kind.
    folds
        As :func:`offline.folds.make_folds` takes it; ``"recipe"`` takes those that the recipe names.
    look_aheads_s
        At which each fold is tested; None is the bundle's own.
    cluster, size
        Where folds are done, and what one needs, see :func:`offline.cluster.map_jobs`.
    only_fold
        Do this one alone, from 0, and gather nothing: for array jobs. Without it, what they did is gathered.
    sweep
        ``FIELD=A,B`` of the recipe, see :mod:`offline.sweep`.
    change
        Field → value of the recipe, for all folds.
    settings
        How recordings are scored.
    pairs, draws
        Of the figures, see :func:`offline.figures.figures`.
    seed
        Of the folds and the bootstrap; that of the training is the recipe's.
    device
        ``auto``, ``cpu`` or ``cuda``.
    out
        Evaluation folder; ``runs/crossval-RECIPE`` by default.

    Raises
    ------
    ConfigError
        If the recipe, the folds or the cluster cannot be used, or the folder holds other ones.
    RecordingError
        If recordings cannot be used; before anything is trained.
    StreamscoreError
        If folds failed; the others are done.
    """
    variants = parse_sweep(sweep) if sweep else [Setting("", {})]
    recipes = [load_recipe(recipe, {**(change or {}), **variant.fields}) for variant in variants]
    monitor = monitor_of(recipes) if sweep else ""
    recordings = open_for(recipes[0], data, dataset)
    folds = recipes[0].folds if folds == "recipe" else folds
    splits = make_folds(recordings.subjects, folds, seed=seed)
    if only_fold is not None and not 0 <= only_fold < len(splits):
        raise ConfigError(f"--only-fold {only_fold}: {folds} makes folds 0 to {len(splits) - 1}")
    numbers = range(len(splits)) if only_fold is None else [only_fold]
    out = (out or Path("runs") / f"crossval-{Path(recipe).stem}").absolute()
    settings, size = settings or Settings(), size or Size()
    console = Console(stderr=True, highlight=False)
    _refuse_damaged(recordings, recipes[0], splits, console)

    def asked(number: int, chosen: Recipe) -> dict[str, Any]:
        return {
            "recipe": chosen.model_dump(mode="json"),
            "data": str(data.absolute()),
            "kind": recordings.kind,
            "split": asdict(splits[number]),
            "device": device,
        }

    places = {number: f"folds/{number:02d}" for number in numbers}
    chosen = dict.fromkeys(numbers, 0)
    if sweep:
        names = {
            (k, number): f"sweep/{variant.name}/{number:02d}"
            for k, variant in enumerate(variants)
            for number in numbers
        }
        trained = map_jobs(
            train_fold,
            {name: asked(number, recipes[k]) for (k, number), name in names.items()},
            out,
            cluster,
            size=size,
            console=console,
        )
        rows = [
            [_figure(trained[names[k, number]], recipes[k], monitor) for number in numbers]
            for k in range(len(variants))
        ]
        chosen = dict(zip(numbers, choose(rows, monitor), strict=True))
        places = {number: names[chosen[number], number] for number in numbers}
        if only_fold is None:
            table = table_of(variants, rows, list(chosen.values()), monitor)
            _write(out / "sweep.json", table)
            _show_sweep(table, console)
    how = _digest({"look_aheads_s": list(look_aheads_s), "settings": asdict(settings)})
    tests = {
        f"tests/{how}/{number:02d}": {
            **asked(number, recipes[chosen[number]]),
            "training": f"../../../{places[number]}",
            "look_aheads_s": list(look_aheads_s),
            "settings": asdict(settings),
        }
        for number in numbers
    }
    done = map_jobs(score_fold, tests, out, cluster, size=size, console=console)
    if only_fold is not None:
        console.print(
            f"fold {only_fold} is done; the same command without --only-fold gathers all", soft_wrap=True
        )
        return out
    about = {
        "run": provenance("streamscore"),
        "recipe": recipes[0].title if not sweep else f"{recipes[0].title}, settings chosen in each fold",
        "dataset": about_dataset(recordings),
        "left_out": [one for result in done.values() for one in result.get("left_out", ())],
        "split": f"{folds}, by subject: {len(splits)} trainings, each tested on subjects that it never saw",
        "seed": seed,
        "in_sample": False,
        "in_sample_subjects": [],
        "known_animals": sorted(
            {name for split in splits for name in known_animals((*split.train, *split.validation), split.test)}
        ),
        "merged": settings.merge,
        "policy": settings.policy,
        "folds": [
            {
                "fold": number,
                "train": list(split.train),
                "validation": list(split.validation),
                "test": list(split.test),
                "training": places[number],
                "setting": dict(variants[chosen[number]].fields),
                "bundle_sha256": result["sha256"],
                "seconds": result["seconds"],
            }
            for (number, split), result in zip(enumerate(splits), done.values(), strict=True)
        ],
    }
    options = Options(tuple(look_aheads_s), settings.hop_s, tuple(pairs), draws, seed)
    content = gather(out, [out / name for name in tests], about, options)
    show(content, Console(highlight=False))
    show_folds(content, Console(highlight=False))
    return out


def _refuse_damaged(dataset: Dataset, recipe: Recipe, splits: Sequence[Split], console: Console) -> None:
    """Read each recording of the folds once, so that one that cannot be used is told before hours of training."""
    subjects = {
        Span.parse(subject).subject
        for split in splits
        for subject in (*split.train, *split.validation, *split.test)
    }
    entries = dataset.of(sorted(subjects))
    bad: list[str] = []
    with console.status("reading") as status:
        for number, entry in enumerate(entries, 1):
            status.update(f"reading {entry.session} ({number} of {len(entries)})")
            try:
                recording = dataset.read(entry)
                if isinstance(recording, Movie):
                    recording.close()
                _refuse_another_kind(recording, recipe, entry.signal)
            except SourceError as error:
                bad.append(str(error))
    if bad:
        raise RecordingError(
            f"{len(bad)} of {len(entries)} recordings cannot be used, so no fold is trained:\n"
            + "\n".join(f"  {text}" for text in bad)
            + "\nMend or move them; streamscore data check looks at all of them"
        )


def _refuse_another_kind(recording: Recording | Movie, recipe: Recipe, path: Path) -> None:
    """Compare what the recipe says that its network takes with a recording."""
    spec = recipe.bundle
    if spec is None or isinstance(recording, Movie):
        return
    missing = [name for name in spec.channels if name not in recording.channels]
    if missing:
        raise RecordingError(
            f"{path}: has no channel {missing[0]!r} but {', '.join(recording.channels)}; say in dataset.json "
            f'which it is: "channels": {{"{missing[0]}": "LABEL"}}'
        )
    if abs(recording.sfreq - spec.sfreq) > 1e-6 * spec.sfreq:
        raise RecordingError(
            f"{path}: has {recording.sfreq:g} Hz, but the recipe takes {spec.sfreq:g} Hz; resample it, or change "
            f"the recipe with --set bundle.sfreq={recording.sfreq:g}"
        )


def _figure(trained: Mapping[str, Any], recipe: Recipe, monitor: str) -> float:
    """What the validation subjects say of a training."""
    value = trained["validation"][recipe.stages[-1].name].get(monitor)
    return math.nan if value is None else float(value)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(without_nan(content), indent=1, allow_nan=False), encoding="utf-8")


def _show_sweep(table: Mapping[str, Any], console: Console) -> None:
    shown = Table("setting", "mean", "SD", "chosen in folds", title=f"chosen by {table['chosen_by']}")
    for row in table["settings"]:
        in_folds = ", ".join(map(str, row["chosen_in_folds"])) or "–"
        shown.add_row(row["name"], f"{row['mean']:.4f}", f"{row['sd']:.4f}", in_folds)
    console.print(shown)
