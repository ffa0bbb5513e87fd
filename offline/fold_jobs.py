"""What is done for one fold, wherever it is done: train, and score the subjects that were held out.

Arguments are plain JSON, because another machine may be the one that does it (:mod:`offline.cluster`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offline.datasets.base import Dataset
from offline.evaluate import Settings, evaluate_bundle
from offline.folds import Split
from offline.recipe import Recipe
from offline.scored import Scored, safe_name, write_all
from offline.spectra import spectra_of
from offline.stages import Machine
from offline.train import open_for, train
from streamscore.bundle import load_bundle
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording


def train_fold(
    folder: Path,
    *,
    recipe: Mapping[str, Any],
    data: str,
    kind: str,
    split: Mapping[str, Any],
    device: str = "auto",
    training: str | None = None,
) -> dict[str, Any]:
    """Train on a split in `training`, seen from `folder`, or in `folder`; what is trained there already is taken.

    Returns
    -------
    dict
        ``bundle``: path; ``seconds``: of the training; ``validation``: figures of each stage.
    """
    asked = Recipe.model_validate(recipe)
    dataset = _open(asked, data, kind)
    out = folder if training is None else (folder / training).resolve()
    # Folds look at the same movies: what stands behind the chain is kept once for all of them.
    bundle = train(asked, dataset, _split(split), out, machine=Machine(device), cache=out.parent.parent / "inputs")
    about = json.loads((out / "training.json").read_text(encoding="utf-8"))
    return {"bundle": str(bundle), "seconds": about["seconds"], "validation": about["validation"]}


def score_fold(
    folder: Path,
    *,
    look_aheads_s: Sequence[float | None] = (None,),
    settings: Mapping[str, Any] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Train as :func:`train_fold` does, and score the subjects held out into ``scored`` and ``spectra``.

    Returns
    -------
    dict
        What :func:`train_fold` returns, ``sha256`` of the bundle, and ``left_out``: subject, session and reason of
        recordings that could not be compared.
    """
    left_out: list[dict[str, str]] = []
    done = train_fold(folder, **training)
    bundle = load_bundle(done["bundle"], None)
    dataset = _open(Recipe.model_validate(training["recipe"]), training["data"], training["kind"])

    def note_spectra(recording: Recording | Movie, scored: Scored) -> None:
        if isinstance(recording, Recording):
            spectra = spectra_of(recording, scored)
            if spectra is not None:
                spectra.write(folder / "spectra" / f"{safe_name(scored.subject, scored.session)}.npz")

    scored = evaluate_bundle(
        bundle,
        dataset,
        _split(training["split"]).test,
        look_aheads_s,
        settings=Settings(**(settings or {})),
        leave_out=lambda subject, session, reason: left_out.append(
            {"subject": subject, "session": session, "reason": reason}
        ),
        seen=note_spectra,
    )
    write_all(folder / "scored", scored)
    return {**done, "sha256": bundle.sha256, "left_out": left_out}


def _open(recipe: Recipe, data: str, kind: str) -> Dataset:
    return open_for(recipe, Path(data), kind)


def _split(content: Mapping[str, Any]) -> Split:
    return Split(*(tuple(content[part]) for part in ("train", "validation", "test")))  # type: ignore[arg-type]
