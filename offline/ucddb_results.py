"""UCDDB: held-out figures beside baselines and YASA, and the page, card and bundle that tell them.

    python -m offline.ucddb_results --data ../shared/data/human_ucddb --crossval runs/ucddb/crossval \\
        --night "as shipped=runs/ucddb/night" --final runs/ucddb/final --out runs/ucddb/report

``--crossval`` and ``--night`` are folders of ``streamscore evaluate tinysleepnet-ucddb --folds …``, ``--final``
one of ``streamscore train tinysleepnet-ucddb``. Whatever is compared is compared on the same epochs. The files
hold most W and N3 epochs of every subject and nothing else, but for subject 018, of whom there is the whole night.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from offline import yasa_beside
from offline.atomic import replacing
from offline.baseline import Baseline
from offline.comparison import truth_on_grid
from offline.datasets.base import Dataset, open_dataset
from offline.evaluate import entries_of, evaluate_bundle, prepared
from offline.evaluation_folder import read_evaluation, without_nan
from offline.figures import figures
from offline.provenance import provenance
from offline.scored import Scored, read_folder, write_all
from offline.scoring import inside
from offline.train import BUNDLE_FILE
from offline.ucddb_pages import card, page
from streamscore.bundle import Bundle, load_bundle, save_bundle
from streamscore.errors import ConfigError
from streamscore.labels import UNKNOWN_CODE
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

#: Whose held-out figures were seen before chain, size and recipe were settled: every second subject, on which
#: they were compared, and 003, 010 and 017, which earlier versions scored badly. No network had scored the others.
TUNED_ON = tuple(f"ucddb{n:03d}" for n in (2, 3, 5, 7, 9, 10, 11, 13, 15, 17, 18, 20))
#: The only subject with all epochs and all stages.
COMPLETE = "ucddb018"
PAIR = ("W", "N3")
#: Assumed for YASA, since the unit of the files is not stated (docs/networks/yasa.md tells what others give).
STD_UV = 20.0
EPOCH_S = 30.0
LEARNERS = {"booster": "band-power booster", "logistic": "band-power logistic regression"}
#: Name of a way of scoring → its scores.
Ways = dict[str, list[Scored]]


def held_out(folder: Path) -> list[Scored]:
    """Scores of the subjects that the networks of a cross-validation had not seen."""
    return [one for one in read_folder(folder) if one.kind == "final"]


def kept(folder: Path, make: Callable[[], list[Scored]]) -> list[Scored]:
    """Return the scores in `folder`; they are made if it is absent, and appear there together."""
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix=".", dir=make_folder(folder.parent)) as beside:
            write_all(Path(beside) / "scored", make())
            (Path(beside) / "scored").rename(folder)
    return read_folder(folder)


def make_folder(folder: Path) -> Path:
    """Return `folder`, which is there afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def questions(dataset: Dataset, subjects: Sequence[str]) -> Iterator[tuple[Recording, Scored]]:
    """Yield recordings, and the epochs that are asked about, as if each had been answered with the first state."""
    for entry, span in entries_of(dataset, subjects):
        recording = prepared(dataset.read(entry))
        assert not isinstance(recording, Movie)
        t0_s, epoch_s = recording.states_t0_s, recording.epoch_s
        truth = truth_on_grid(recording, t0_s, epoch_s, 0)
        n = len(truth)
        yield (
            recording,
            Scored(
                subject=str(span),
                session=str(span),
                labels=recording.labels,
                epoch_s=epoch_s,
                t0_s=t0_s,
                lag_s=0.0,
                kind="baseline",
                truth=inside(truth, t0_s, epoch_s, span, float(recording.stamps_s[0])),
                codes=np.zeros(n, np.int8),
                probs=np.eye(1, len(recording.labels), dtype=np.float32).repeat(n, axis=0),
                stream_s=float(recording.duration_s),
                compute_s=0.0,
            ),
        )


def beside_folds(
    dataset: Dataset, folds: Sequence[Mapping[str, Any]], bundle: Bundle, learner: str
) -> list[Scored]:
    """Score what each fold tested by a baseline that learnt from the subjects that its network learnt from."""
    scored = []
    for fold in folds:
        baseline = Baseline(bundle, learner).fit(dataset, fold["train"], EPOCH_S)
        scored += [baseline.score(recording, asked) for recording, asked in questions(dataset, fold["test"])]
    return scored


def yasa_offline(dataset: Dataset, subjects: Sequence[str]) -> list[Scored]:
    """What YASA says of whole files."""
    return [
        yasa_beside.offline(yasa_beside.at_amplitude(recording, STD_UV), asked)
        for recording, asked in questions(dataset, subjects)
    ]


def yasa_live(dataset: Dataset, subjects: Sequence[str], lag_epochs: int) -> list[Scored]:
    """What YASA says as the recordings go by."""
    return [
        yasa_beside.live(yasa_beside.at_amplitude(recording, STD_UV), asked.subject, asked.session, lag_epochs)
        for recording, asked in questions(dataset, subjects)
    ]


def on_common_epochs(ways: Ways) -> Ways:
    """Unlabel the epochs that some way did not score, so that all are compared on the same."""
    counts: dict[str, set[int]] = {}
    for scored in ways.values():
        for one in scored:
            own = set(np.flatnonzero((one.truth >= 0) & (one.codes >= 0)).tolist())
            counts[one.session] = counts.get(one.session, own) & own
    return {
        name: [_only(one, counts[one.session]) for one in scored if counts[one.session]]
        for name, scored in ways.items()
    }


def _only(one: Scored, counts: set[int]) -> Scored:
    is_asked = np.isin(np.arange(len(one.truth)), list(counts))
    return replace(one, truth=np.where(is_asked, one.truth, UNKNOWN_CODE).astype(np.int8))


def rows_of(ways: Ways, n_draws: int = 1000) -> list[dict[str, Any]]:
    """Figures of each way of scoring."""
    rows = []
    for name, scored in ways.items():
        told = figures(scored, pairs=[PAIR], n_draws=n_draws)
        pooled = told["pooled"]
        keys = ("accuracy", "kappa", "macro_f1", "classes", "confusion", "coverage")
        rows.append(
            {
                "name": name,
                "lag_s": told["lag_s"],
                "interval_over": told["interval_over"],
                **{key: pooled[key] for key in keys},
                "pair": pooled["pairs"][0],
                "subjects": [
                    {
                        "subject": row["subject"],
                        "epochs": row["pairs"][0]["epochs"],
                        "auc": row["pairs"][0]["auc"]["value"],
                        "accuracy": row["pairs"][0]["accuracy"]["value"],
                    }
                    for row in told["subjects"]
                ],
            }
        )
    return rows


def all_folds(folder: Path, dataset: Dataset, ways_folder: Path) -> dict[str, Any]:
    """The cross-validation over subjects beside baselines, for W against N3 and for all stages that there are."""
    content, network = read_evaluation(folder), held_out(folder)
    folds = content["folds"]
    ways: Ways = {"TinySleepNet": network}
    for learner, name in LEARNERS.items():
        made = partial(beside_folds, dataset, folds, bundle_of(folder, content), learner)
        ways[name] = kept(ways_folder / learner, made)
    untuned = {name: [one for one in way if one.subject not in TUNED_ON] for name, way in ways.items()}
    subjects = content["subjects"]
    with_yasa = {
        **ways,
        "YASA offline": kept(ways_folder / "yasa-offline", partial(yasa_offline, dataset, subjects)),
    }
    return {
        "run": content["run"],
        "seconds": sum(fold["seconds"] for fold in folds),
        "folds": [{part: fold[part] for part in ("train", "validation", "test")} for fold in folds],
        "rows": rows_of(on_common_epochs(ways)),
        "untuned": {row["name"]: row["pair"]["auc"] for row in rows_of(on_common_epochs(untuned))},
        "five": rows_of(on_common_epochs(with_yasa)),
        "five_coverage": {name: rows_of({name: way}, 0)[0]["coverage"] for name, way in with_yasa.items()},
    }


def bundle_of(folder: Path, content: Mapping[str, Any]) -> Bundle:
    """Network of the first fold: all have the same channels and states."""
    return load_bundle(folder / content["folds"][0]["training"] / BUNDLE_FILE)


def one_night(named: Mapping[str, Path], dataset: Dataset, ways_folder: Path) -> dict[str, Any]:
    """Five stages in hours of one night: trainings that saw its other hours, baselines, and YASA."""
    ways: Ways = {}
    trainings = []
    for name, folder in named.items():
        ways[f"TinySleepNet, {name}"] = held_out(folder)
        content = read_evaluation(folder)
        about = json.loads((folder / content["folds"][0]["training"] / "training.json").read_text("utf-8"))
        trainings.append({"name": name, "run": content["run"], "validation": about["validation"]})
    first = next(iter(named.values()))
    content = read_evaluation(first)
    (fold,) = content["folds"]
    for learner, name in LEARNERS.items():
        made = partial(beside_folds, dataset, [fold], bundle_of(first, content), learner)
        ways[name] = kept(ways_folder / f"night-{learner}", made)
    ways["YASA offline"] = kept(ways_folder / "night-yasa-offline", partial(yasa_offline, dataset, fold["test"]))
    for lag in (0, 7):
        made = partial(yasa_live, dataset, fold["test"], lag)
        ways[f"YASA live, lag {lag} epochs"] = kept(ways_folder / f"night-yasa-live-{lag}", made)
    return {"trainings": trainings, "fold": fold, "rows": rows_of(on_common_epochs(ways))}


def parse_night(text: str) -> tuple[str, Path]:
    """Turn ``NAME=FOLDER`` into both; raises ``ConfigError``."""
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise ConfigError(f"--night {text!r}: write NAME=FOLDER, for example 'as shipped=runs/ucddb/night'")
    return name, Path(folder)


def _texts(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "page.md", page(content)
    yield "card.md", card(content)
    yield "figures.json", json.dumps(content, indent=1, allow_nan=False)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the recordings.")],
    crossval: Annotated[Path, typer.Option(help="Evaluation folder of the folds over subjects.")],
    night: Annotated[list[str], typer.Option(help="NAME=FOLDER of a training tested on hours of 018.")],
    final: Annotated[Path, typer.Option(help="Run folder of the training that is to ship.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for page, card, bundle and figures.json; what is under ways in it is not done again."
        ),
    ],
) -> None:
    """Put baselines and YASA beside what was evaluated, and write page, card and bundle."""
    dataset, bundle = open_dataset(data, "ucddb"), load_bundle(final / BUNDLE_FILE)
    folds = all_folds(crossval, dataset, out / "ways")
    # What the final network has seen cannot test it; these figures only show that it was trained.
    seen = kept(out / "ways" / f"in-sample-{bundle.sha256[:12]}", partial(evaluate_bundle, bundle, dataset))
    content = without_nan(
        {
            "run": provenance("offline.ucddb_results"),
            "labels": list(bundle.spec.labels),
            "std_uv": STD_UV,
            "tuned_on": list(TUNED_ON),
            "folds": folds,
            "night": one_night(dict(map(parse_night, night)), dataset, out / "ways"),
            "training": dict(bundle.spec.provenance),
            "in_sample": rows_of({"TinySleepNet": seen}, 0)[0],
            "in_sample_complete": rows_of({"": [one for one in seen if one.subject == COMPLETE]}, 0)[0],
        }
    )
    for name, text in _texts(content):
        with replacing(out / name) as path:
            path.write_text(text, encoding="utf-8")
    told = {row["name"]: {"auc": row["pair"]["auc"], "subjects": row["subjects"]} for row in folds["rows"]}
    nights = {row["name"]: row["kappa"] for row in content["night"]["rows"]}
    about = {**bundle.spec.provenance, "held_out": told, "within_018_kappa": nights}
    spec = bundle.spec.model_copy(update={"card": card(content), "provenance": without_nan(about)})
    with replacing(out / f"{spec.name}.safetensors") as path:
        sha256 = save_bundle(path, spec, bundle.model)
    typer.echo(f"wrote {out}/page.md, card.md and {spec.name}.safetensors ({sha256[:12]})")


if __name__ == "__main__":
    typer.run(main)
