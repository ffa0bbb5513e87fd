"""An evaluation folder: scores, spectra, all figures, and what made them.

``scored/<session>@<look-ahead>.npz``
    :class:`offline.scored.Scored`.
``spectra/<session>.npz``
    :class:`offline.spectra.Spectra`.
``evaluation.json``
    Figures and provenance. It is written last: a folder without it is not finished.
``look-ahead.svg``, ``look-ahead.png``
    Where more than one look-ahead was evaluated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from offline.atomic import replacing
from offline.figures import figures
from offline.scored import Scored, safe_name, write_all
from offline.spectra import Spectra
from streamscore.bundle import Bundle
from streamscore.errors import RecordError, RecordingError

FILE = "evaluation.json"
FORMAT = "streamscore-evaluation"
VERSION = 1


def results_of(
    scored: Sequence[Scored],
    *,
    pairs: Sequence[tuple[str, str]] = (),
    n_draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Figures of each way of scoring (kind and lag), the bundle's by rising lag, then baselines."""

    def way(one: Scored) -> tuple[bool, str, float]:
        return one.kind == "baseline", one.kind, one.lag_s

    groups = [list(group) for _, group in groupby(sorted(scored, key=way), way)]
    return [figures(group, pairs=pairs, n_draws=n_draws, seed=seed) for group in groups]


def about_bundle(bundle: Bundle) -> dict[str, Any]:
    """What is told of the bundle that was evaluated."""
    spec = bundle.spec
    return {
        "name": spec.name,
        "sha256": bundle.sha256,
        "model": spec.model,
        "model_args": spec.model_args,
        "vocabulary": spec.vocabulary,
        "channels": list(spec.channels),
        "sfreq": spec.sfreq,
        "is_trained": bundle.is_trained,
        "card": spec.card,
    }


def write_evaluation(
    folder: Path,
    scored: Sequence[Scored],
    about: Mapping[str, Any],
    *,
    spectra: Mapping[tuple[str, str], Spectra] | None = None,
    results: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write the folder and return the path of ``evaluation.json``; what an earlier one left is replaced.

    Parameters
    ----------
    folder
        Where; it is made.
    scored
        All scores.
    about
        Everything else that is told: ``run`` (provenance), ``bundle``, ``dataset``, ``subjects``, ``split``,
        ``seed``, ``in_sample`` …
    spectra
        Of each recording, by subject and session.
    results
        Figures, where they are computed already.

    Raises
    ------
    RecordError
        If something cannot be written.
    """
    path = folder / FILE
    try:
        path.unlink(missing_ok=True)
        for stale in [*folder.glob("scored/*.npz"), *folder.glob("spectra/*.npz")]:
            stale.unlink()
    except OSError as error:
        raise RecordError(f"{folder}: cannot be replaced: {error}; choose another folder") from error
    write_all(folder / "scored", scored)
    for (subject, session), one in (spectra or {}).items():
        one.write(folder / "spectra" / f"{safe_name(subject, session)}.npz")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "labels": list(scored[0].labels),
        "epoch_s": scored[0].epoch_s,
        **about,
        "results": list(results) if results is not None else results_of(scored),
    }
    text = json.dumps(without_nan(content), indent=1, allow_nan=False)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Read ``evaluation.json`` of a folder.

    Raises
    ------
    RecordingError
        If it is absent, damaged or of another version.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordingError(
            f"{folder}: has no {FILE}, so it is no finished evaluation; run streamscore evaluate --out {folder}"
        ) from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}; evaluate again") from error
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise RecordingError(f"{path}: is not a {FORMAT} of version {VERSION}; evaluate again with this version")
    return content


def without_nan(value: Any) -> Any:
    """`value` with None for every number that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
