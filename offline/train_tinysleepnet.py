"""Train TinySleepNet on the UCDDB recordings: cross-validation over subjects, then the bundle that ships.

    python -m offline.train_tinysleepnet --data ../shared/data/human_ucddb --out runs/ucddb

The network is the published one with true batch normalisation, as its paper describes; with the affine map of
its code it did not learn in as few passes. It has half the filters and units, which trains three times as fast.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import torch
import typer

from offline import bandpower, ucddb, ucddb_report
from offline.provenance import provenance
from offline.sequences import Sequences
from offline.training import Progress, Recipe, fit, score
from streamscore.bundle import save_bundle
from streamscore.labels import AASM5
from streamscore.models.tinysleepnet import Config, TinySleepNet

NAME = "tinysleepnet-ucddb"
CONFIG = Config(sfreq=ucddb.SFREQ, epoch_s=ucddb.EPOCH_S, n_filters=64, n_hidden=64, norm="batch")


def train(what: str, data: Sequence[Sequences], seed: int, progress: Progress) -> TinySleepNet:
    """Fit one network and report each pass as `what`."""
    n_steps = sum(len(recording.y) for recording in data)
    return fit(data, CONFIG, Recipe(), seed, lambda loss: progress.say(what, n_steps, loss))


def cross_validate(subjects: list[Sequences], n_folds: int, seed: int, progress: Progress) -> dict[str, Any]:
    """Score every subject once by a network, and by a baseline, that never saw the subject."""
    held: dict[str, list[ucddb.HeldOut]] = {"gap": [], "step": [], "never": [], "baseline": []}
    powers = [bandpower.features(subject, ucddb.SFREQ) for subject in subjects]
    for fold, out in enumerate(ucddb.split(len(subjects), n_folds)):
        rest = [i for i in range(len(subjects)) if i not in out]
        what = f"fold {fold + 1} of {n_folds}"
        model = train(what, [subjects[i] for i in rest], seed + fold, progress)
        plain = bandpower.fit([powers[i] for i in rest], [subjects[i].y for i in rest])
        for i in out:
            held["gap"].append(ucddb.HeldOut(subjects[i], fold, score(model, subjects[i], "gap")))
            held["step"].append(ucddb.HeldOut(subjects[i], fold, score(model, subjects[i], "step")))
            held["never"].append(ucddb.HeldOut(subjects[i], fold, score(model, subjects[i], "never")))
            logs = bandpower.scores(plain, powers[i], len(AASM5))
            held["baseline"].append(ucddb.HeldOut(subjects[i], fold, logs))
        areas = [f"{h.data.name} {ucddb.pooled_auc([h]):.4f}" for h in held["gap"][-len(out) :]]
        typer.echo(f"{what}: held-out AUC {', '.join(areas)}")
    network = ucddb.figures(held["gap"])
    network["auc_pooled_fresh_each_epoch"] = ucddb.pooled_auc(held["step"])
    network["auc_pooled_gaps_ignored"] = ucddb.pooled_auc(held["never"])
    return {"network": network, "baseline": ucddb.figures(held["baseline"])}


def within_night(subjects: list[Sequences], seed: int, progress: Progress) -> dict[str, Any]:
    """Five stages in the second half of the complete night, after training on its first half and all others."""
    night = next(subject for subject in subjects if subject.name == ucddb.COMPLETE)
    half = len(night.y) // 2
    first, second = ucddb.part(night, 0, half), ucddb.part(night, half, len(night.y))
    known = [*(subject for subject in subjects if subject is not night), first]
    model = train("within one night", known, seed, progress)
    plain = bandpower.fit([bandpower.features(s, ucddb.SFREQ) for s in known], [s.y for s in known])
    logs = bandpower.scores(plain, bandpower.features(second, ucddb.SFREQ), len(AASM5))
    return {
        "network": ucddb.night_figures(second, score(model, second)),
        "baseline": ucddb.night_figures(second, logs),
    }


def export(subjects: list[Sequences], seed: int, progress: Progress, results: dict[str, Any], out: Path) -> None:
    """Train on all subjects and write bundle and card."""
    model = train("final", subjects, seed, progress)
    # What the final network has seen cannot test it; these figures only show that it was trained.
    results["final_in_sample"] = ucddb.figures(
        [ucddb.HeldOut(subject, 0, score(model, subject)) for subject in subjects]
    )
    night = next(subject for subject in subjects if subject.name == ucddb.COMPLETE)
    results["final_018_in_sample"] = ucddb.night_figures(night, score(model, night))
    card = ucddb_report.card(results)
    kept = {key: value for key, value in results.items() if key != "final_in_sample"}
    spec = ucddb.spec(NAME, CONFIG.model_dump()).model_copy(update={"provenance": kept, "card": card})
    sha256 = save_bundle(out / f"{NAME}.safetensors", spec, model)
    (out / f"{NAME}.md").write_text(card, encoding="utf-8")
    typer.echo(f"wrote {out / NAME}.safetensors, sha256 {sha256[:12]}")


def main(
    data: Annotated[Path, typer.Option(help="Folder of the ucddb*.npz files.")],
    out: Annotated[Path, typer.Option(help="Folder for results, bundle and card.")],
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the first fold; the others count on.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    cv_only: Annotated[bool, typer.Option("--cv-only", help="Stop before the final network.")] = False,
    final: Annotated[bool, typer.Option("--final", help="Take the results of an earlier --cv-only.")] = False,
) -> None:
    """Cross-validate over subjects, train the final network on all of them, write bundle, card and results."""
    if cv_only and final:
        raise typer.BadParameter("--cv-only and --final exclude each other; leave both out to do both")
    t0_s = perf_counter()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    subjects = ucddb.load(data)
    total = sum(len(subject.y) for subject in subjects)
    typer.echo(f"{len(subjects)} subjects, {total} epochs, {perf_counter() - t0_s:.0f} s to load")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    # In passes over all subjects, a cross-validation is folds - 1 trainings; the split night is about one.
    n_trainings = (0 if final else folds) + (0 if cv_only else 1)
    progress = Progress(Recipe().passes * total * n_trainings)
    if final:
        results = json.loads(path.read_text(encoding="utf-8"))
    else:
        results = {
            "runs": {"cross_validation": provenance("offline.train_tinysleepnet")},
            "seed": seed,
            "folds": [[subjects[i].name for i in fold] for fold in ucddb.split(len(subjects), folds)],
            "recipe": asdict(Recipe()),
            "chain": list(ucddb.CHAIN),
            "cross_validation": cross_validate(subjects, folds, seed, progress),
            "within_018": within_night(subjects, seed, progress),
        }
        results["runs"]["cross_validation"]["wall_s"] = round(perf_counter() - t0_s)
    if not cv_only:
        t0_s = perf_counter()
        results["runs"]["final"] = provenance("offline.train_tinysleepnet")
        export(subjects, seed, progress, results, out)
        results["runs"]["final"]["wall_s"] = round(perf_counter() - t0_s)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    (out / "results-ucddb.md").write_text(ucddb_report.results_page(results), encoding="utf-8")
    typer.echo(ucddb_report.table(results))


if __name__ == "__main__":
    typer.run(main)
