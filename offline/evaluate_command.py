"""``streamscore evaluate`` of one bundle: from options to an evaluation folder and what the screen shows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from offline.baseline import Baseline
from offline.datasets.base import Dataset, open_dataset
from offline.evaluate import (
    Progress,
    entries_of,
    evaluate_bundle,
    known_animals,
    refuse_training_subjects,
    training_subjects,
)
from offline.evaluation_folder import about_bundle, results_of, write_evaluation
from offline.look_ahead_curve import costs_of, curve_of, draw
from offline.provenance import provenance
from offline.scored import Scored
from offline.scoring import Settings
from offline.spectra import Spectra, spectra_of
from streamscore.bundle import Bundle, open_bundle
from streamscore.config import load_rig_file
from streamscore.errors import ConfigError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

#: Called with what a person should know.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is asked for; see ``streamscore evaluate --help``."""

    bundle: str
    data: Path
    dataset: str | None = None
    subjects: tuple[str, ...] | None = None
    look_aheads_s: tuple[float | None, ...] = (None,)
    policy: Path | None = None
    hop_s: float | None = None
    channels: Mapping[str, str] | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    merge: bool = False
    baseline: str | None = None
    baseline_subjects: tuple[str, ...] | None = None
    allow_training_subjects: bool = False
    draws: int = 1000
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Parameters
    ----------
    folder
        The evaluation folder.
    content
        What stands in its ``evaluation.json``.
    """

    folder: Path
    content: dict[str, Any]


def evaluate_command(request: Request, tell: Tell | None = None, progress: Progress | None = None) -> Evaluation:
    """Evaluate a bundle and write an evaluation folder.

    Raises
    ------
    ConfigError, BundleError, RecordingError, RecordError
        As :func:`offline.evaluate.evaluate_bundle` and its parts; before anything is scored wherever possible.
    """
    _need(request)
    camera: dict[str, Any] = {}
    if Path(request.bundle).suffix in (".yaml", ".yml"):
        camera = camera_of(load_rig_file(Path(request.bundle)).source)
    bundle = open_bundle(request.bundle)
    dataset = open_dataset(request.data, request.dataset)
    spans = list(dict.fromkeys(span for _, span in entries_of(dataset, request.subjects)))
    in_sample, seen = refuse_training_subjects(bundle, spans, allow=request.allow_training_subjects)
    settings = Settings(
        channels=request.channels,
        hop_s=request.hop_s,
        policy=policy_of(request.policy) if request.policy is not None else None,
        merge=request.merge,
        camera=camera or None,
    )
    baseline, taught = _baseline(request, bundle, dataset, [str(span) for span in spans])
    spectra: dict[tuple[str, str], Spectra] = {}
    beside: list[Scored] = []
    epoch_s = bundle.model.timing.epoch_samples / bundle.spec.sfreq
    if baseline is not None:
        baseline.fit(dataset, taught, epoch_s)

    def look(recording: Recording | Movie, scored: Scored) -> None:
        if isinstance(recording, Recording):
            found = spectra_of(recording, scored)
            if found is not None:
                spectra[scored.subject, scored.session] = found
        if baseline is not None:
            beside.append(baseline.score(recording, scored))

    left_out: list[dict[str, str]] = []

    def leave_out(subject: str, session: str, reason: str) -> None:
        left_out.append({"subject": subject, "session": session, "reason": reason})
        if tell is not None:
            tell(f"left out: {reason}")

    scored = evaluate_bundle(
        bundle,
        dataset,
        request.subjects,
        request.look_aheads_s,
        settings=settings,
        leave_out=leave_out,
        progress=progress,
        seen=look,
    )
    everything = [*scored, *beside]
    results = results_of(everything, pairs=request.pairs, n_draws=request.draws, seed=request.seed)
    costs = {cost["lag_s"]: cost for cost in costs_of(bundle, request.look_aheads_s, request.hop_s)}
    for way in results:
        if way["kind"] == "baseline":
            assert baseline is not None
            way["name"] = baseline.name
            way["trained_on"] = list(taught)
        else:
            way["compute"] = costs[way["lag_s"]]
    ways = [way for way in results if way["kind"] != "baseline"]
    curve = curve_of(
        [[one for one in scored if one.lag_s == way["lag_s"]] for way in ways],
        [way["compute"] for way in ways],
        ways,
        n_draws=request.draws,
        seed=request.seed,
    )
    folder = request.out or Path("runs") / f"evaluate-{_plain(bundle.spec.name)}-{_now()}"
    about = {
        "run": provenance("streamscore"),
        "bundle": about_bundle(bundle),
        "dataset": about_dataset(dataset),
        **about_scored(scored, left_out),
        "split": "subjects named by the user" if request.subjects is not None else "all subjects of the folder",
        "seed": request.seed,
        "in_sample": in_sample,
        "in_sample_subjects": list(seen),
        "known_animals": list(known_animals(training_subjects(bundle) or (), sorted({s.subject for s in scored}))),
        "merged": request.merge,
        "policy": dict(settings.policy) if settings.policy is not None else None,
        "look_ahead_curve": curve if len(curve) > 1 else None,
    }
    write_evaluation(folder, everything, about, spectra=spectra, results=results)
    if len(curve) > 1:
        title = f"{bundle.spec.name} on {dataset.kind}"
        title += ", SIMULATED" if dataset.is_simulated else ""
        title += ", IN SAMPLE" if in_sample else ""
        draw(curve, title, [folder / "look-ahead.png", folder / "look-ahead.svg"])
    return Evaluation(folder, {**about, "results": results, "labels": list(scored[0].labels)})


def policy_of(path: Path) -> dict[str, Any]:
    """Return the policy of a rig file.

    Raises
    ------
    ConfigError
        If the file has none.
    """
    policy = load_rig_file(path).policy
    if policy is None:
        raise ConfigError(f"{path}: has no policy section to replay; write one, or leave out --policy")
    return policy


def camera_of(source: Mapping[str, Any]) -> dict[str, Any]:
    """What the source of a rig file says of a camera that a movie does not say better."""
    from streamscore.camera.config import CameraConfig

    fields = set(CameraConfig.model_fields) - {"counter_bits"}
    return {key: value for key, value in source.items() if key in fields}


def about_dataset(dataset: Dataset) -> dict[str, Any]:
    """What is told of the folder of the recordings."""
    return {"kind": dataset.kind, "folder": str(dataset.folder), "simulated": dataset.is_simulated}


def about_scored(scored: Sequence[Scored], left_out: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What is told of whom was scored, and of recordings that were left out: subject, session and reason."""
    return {
        "subjects": sorted({one.subject for one in scored}),
        "recordings": len({(one.subject, one.session) for one in scored}),
        "left_out": [dict(one) for one in left_out],
    }


def _baseline(
    request: Request, bundle: Bundle, dataset: Dataset, evaluated: Sequence[str]
) -> tuple[Baseline | None, tuple[str, ...]]:
    """Return the baseline that was asked for, and whom it learns from."""
    if not request.baseline:
        return None, ()
    taught = request.baseline_subjects
    if taught is None:
        names = {name.partition("@")[0] for name in evaluated}
        taught = tuple(subject for subject in dataset.subjects if subject not in names)
        if not taught:
            raise ConfigError(
                "--baseline: all subjects are evaluated, and none is left to learn from; name those to evaluate "
                "with --subjects, or hours to learn from with --baseline-subjects, such as "
                f"{dataset.subjects[0]}@0-16h"
            )
    from offline.folds import Split

    Split(train=taught, validation=("(none)",), test=tuple(evaluated))  # refuses a subject in both
    made = Baseline(bundle, request.baseline, channels=request.channels, merge=request.merge, seed=request.seed)
    return made, tuple(taught)


def _need(request: Request) -> None:
    """Refuse before hours of scoring what a missing package would refuse after them."""
    wanted = {"sklearn": bool(request.baseline), "matplotlib": len(request.look_aheads_s) > 1}
    missing = [name for name, is_needed in wanted.items() if is_needed and not importlib.util.find_spec(name)]
    if missing:
        raise ConfigError(f'this needs {", ".join(missing)}: pip install "streamscore[train]"')


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
