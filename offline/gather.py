"""The tests of all folds as one evaluation, with figures of each fold beside those of all epochs together.

Published figures are either pooled over folds (DeepSleepNet, TinySleepNet) or means over trainings (run/rest: mean
± SD of 20 AUCs); both are told. Where a subject is tested by several trainings, each counts as a recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from offline import scored as scores
from offline.evaluate_command import about_scored
from offline.evaluation_folder import about_bundle, results_of, write_evaluation
from offline.figures import figures
from offline.look_ahead_curve import costs_of, curve_of, draw
from offline.scored import Scored
from offline.spectra import Spectra
from streamscore.bundle import load_bundle
from streamscore.errors import RecordingError

#: Figures that are told of each fold.
FOLD_FIGURES = ("accuracy", "kappa", "macro_f1", "auc")


@dataclass(frozen=True)
class Options:
    """How folds were tested, and how figures are made of the tests; see :mod:`offline.figures`."""

    look_aheads_s: tuple[float | None, ...] = (None,)
    hop_s: float | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    draws: int = 1000
    seed: int = 0


def gather(out: Path, folders: Sequence[Path], about: dict[str, Any], options: Options) -> dict[str, Any]:
    """Write the evaluation of all folds and return what it says.

    Parameters
    ----------
    out
        Evaluation folder.
    folders
        Of the tests, in the order of ``about["folds"]``.
    about
        What is told beside figures.
    options
        As the folds were tested.

    Raises
    ------
    RecordingError
        If scores of a fold cannot be read.
    RecordError
        If the folder cannot be written.
    """
    tested = [subject for fold in about["folds"] for subject in fold["test"]]
    is_repeated = len(set(tested)) < len(tested)  # such as in all pairs of validation and test
    by_fold: list[list[Scored]] = []
    spectra: dict[tuple[str, str], Spectra] = {}
    for number, folder in enumerate(folders):
        found = scores.read_folder(folder)
        for one in found:
            path = folder / "spectra" / f"{scores.safe_name(one.subject, one.session)}.npz"
            if path.is_file():
                spectra[one.subject, one.session] = _read_spectra(path)
        by_fold.append(
            [replace(one, session=f"{one.session}.fold-{number:02d}") if is_repeated else one for one in found]
        )
    everything = [one for found in by_fold for one in found]
    bundle = load_bundle(out / about["folds"][0]["training"] / "bundle.safetensors", None)
    results = results_of(everything, pairs=options.pairs, n_draws=options.draws, seed=options.seed)
    costs = {cost["lag_s"]: cost for cost in costs_of(bundle, options.look_aheads_s, options.hop_s)}
    for way in results:
        way["compute"] = costs[way["lag_s"]]
        way["folds"] = [
            {"fold": number, **_fold_figures([one for one in found if one.lag_s == way["lag_s"]])}
            for number, found in enumerate(by_fold)
        ]
        way["over_folds"] = {
            name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "n": len(values)}
            for name in FOLD_FIGURES
            if len(values := [row[name] for row in way["folds"] if row.get(name) is not None]) > 1
        }
    curve = curve_of(
        [[one for one in everything if one.lag_s == way["lag_s"]] for way in results],
        [way["compute"] for way in results],
        results,
        n_draws=options.draws,
        seed=options.seed,
    )
    about |= about_scored(everything, about.get("left_out", ()))
    about["bundle"] = {**about_bundle(bundle), "sha256": None, "card": ""}  # as many as folds, alike in kind
    about["look_ahead_curve"] = curve if len(curve) > 1 else None
    write_evaluation(out, everything, about, spectra=spectra, results=results)
    if len(curve) > 1:
        title = f"{about['recipe']}, {len(folders)} folds{', SIMULATED' if about['dataset']['simulated'] else ''}"
        draw(curve, title, [out / "look-ahead.png", out / "look-ahead.svg"])
    return {**about, "results": results, "labels": list(everything[0].labels)}


def _fold_figures(found: Sequence[Scored]) -> dict[str, Any]:
    """Subjects of a fold, and its figures; None where one is not defined."""
    pooled = figures(found, n_draws=0)["pooled"]
    values = {name: pooled[name]["value"] for name in FOLD_FIGURES if name in pooled}
    return {"subjects": list(dict.fromkeys(one.subject for one in found)), **values}


def _read_spectra(path: Path) -> Spectra:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = {name: tuple(map(str, file[name])) for name in ("states", "channels", "units")}
            return Spectra(file["f_hz"], file["psd"], epochs=file["epochs"], **names)
    except (OSError, ValueError, KeyError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}; remove its folder and evaluate again") from error


def show_folds(content: Mapping[str, Any], console: Console) -> None:
    """Print mean and standard deviation over folds."""
    for way in content["results"]:
        told = ", ".join(
            f"{name.replace('_', ' ')} {value['mean']:.3f} ± {value['sd']:.3f}"
            for name, value in way["over_folds"].items()
        )
        console.print(
            f"{way['lag_s']:g} s: mean ± SD over {len(way['folds'])} folds: {told or '–'}", soft_wrap=True
        )
