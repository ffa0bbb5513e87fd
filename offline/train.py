"""From a recipe and a data set to a bundle: the stages of the recipe one after the other, in a run folder.

Everything in the folder is written whole or not at all, and no step that is done is done again: a training that
was killed goes on from the end of its last pass and gives the weights that it would have given. The bundle comes
last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console

from offline.atomic import replacing
from offline.card import card
from offline.chain_constants import fitted
from offline.datasets.base import Dataset, open_dataset
from offline.evaluate import training_subjects
from offline.folds import Split
from offline.lessons import grain_samples
from offline.provenance import provenance
from offline.recipe import Recipe
from offline.sequences import Sequences, kept_sequences, sequences
from offline.spans import Span, SpanDataset, with_spans
from offline.stages import Machine, build_network, run_stage
from streamscore import plugins
from streamscore.bundle import Bundle, Spec, load_bundle, save_bundle
from streamscore.errors import BundleMismatchError, ConfigError
from streamscore.labels import vocabulary
from streamscore.models.base import ScoringModel

BUNDLE_FILE = "bundle.safetensors"
_PARTS = ("train", "validation")
#: Share of the steps beyond which a person is told.
_MUCH = 0.1
#: What of a bundle decides what its network sees.
_MADE_WITH = ("preprocess", "vocabulary", "sfreq", "channels", "frame_shape")


def open_for(recipe: Recipe, folder: Path, kind: str | None = None) -> Dataset:
    """Open `folder`; if it is of the kind that the recipe names, with the options of the recipe.

    Raises
    ------
    ConfigError, RecordingError
        As :func:`offline.datasets.base.open_dataset`.
    """
    dataset = open_dataset(folder, kind)
    options = {key: value for key, value in recipe.dataset.items() if key != "kind"}
    if not options or dataset.kind != recipe.dataset.get("kind"):
        return dataset
    return open_dataset(folder, dataset.kind, **options)


def train(
    recipe: Recipe,
    dataset: Dataset,
    split: Split,
    out: Path,
    *,
    machine: Machine | None = None,
    start: Bundle | None = None,
    cache: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Train on ``split.train``, choose by ``split.validation``, and return the path of the bundle.

    Parameters
    ----------
    out
        Run folder. A training of the same recipe and split that is in it is gone on with, or returned if done.
    machine
        Where.
    start
        Bundle whose weights the first stage begins with, and whose description is taken if the recipe has none.
    cache
        Folder for what stands behind the chain, shared by folds; ``out/inputs`` by default.

    Raises
    ------
    ConfigError
        If the recipe does not fit, or the folder belongs to another training.
    RecordingError
        If a recording cannot be read or scored.
    RecordError
        If the folder cannot be written.
    """
    machine = machine or Machine()
    spec = _spec(recipe, start)
    bundle_path = out / BUNDLE_FILE
    asked = _refuse_another(out, recipe, dataset, split, start)
    if bundle_path.is_file():
        return bundle_path
    t0_s = perf_counter()
    final = build_network(spec, {})
    cut = with_spans(dataset, (*split.train, *split.validation))
    if isinstance(cut, Dataset):
        cut.of((*split.train, *split.validation))  # tells of subjects that are not there
    folder = cache or out / "inputs"
    if recipe.bundle is not None:
        chain = fitted(recipe.bundle.preprocess, spec.channels, spec.sfreq, cut, split.train)
        spec = spec.model_copy(update={"preprocess": chain})
    read = {part: _read(cut, getattr(split, part), spec, final, folder, quiet) for part in _PARTS}
    _claim(out, recipe, asked)  # what cannot be read does not make the folder this training's
    weights: dict[str, torch.Tensor] = {} if start is None else dict(start.model.state_dict())
    figures: dict[str, Any] = {}
    for number, stage in enumerate(recipe.stages):
        weights, figures[stage.name] = run_stage(
            recipe, spec, stage, number, read, weights, out / "checkpoints" / stage.name, folder, machine, quiet
        )
    missing = [name for name in final.state_dict() if name not in weights]
    if missing:
        raise ConfigError(
            f"recipe {recipe.title!r}: no stage trains {missing[0]}; the last must train the whole network"
        )
    final.load_state_dict({name: weights[name] for name in final.state_dict()})
    subjects: dict[str, list[str] | None] = {part: list(getattr(split, part)) for part in _PARTS}
    if start is not None:  # its weights remember them
        known = training_subjects(start)
        subjects["before"] = None if known is None else list(known)
    about = {
        **provenance("streamscore"),
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        "dataset": {"kind": dataset.kind, "folder": str(dataset.folder)},
        "simulated": dataset.is_simulated,
        "subjects": subjects,
        "started_from": start.sha256 if start is not None else None,
        "device": _device_name(machine),
        "seconds": round(perf_counter() - t0_s, 1),
        "validation": figures,
    }
    spec = spec.model_copy(update={"provenance": about, "card": card(recipe, spec, about)})
    with replacing(out / "training.json") as path:
        path.write_text(json.dumps(about, indent=1), encoding="utf-8")
    with replacing(bundle_path) as path:
        save_bundle(path, spec, final)
        load_bundle(path)  # what cannot be loaded must not be found out at the rig
    return bundle_path


def _spec(recipe: Recipe, start: Bundle | None) -> Spec:
    if recipe.bundle is None:
        if start is None:
            raise ConfigError(
                f"recipe {recipe.title!r} describes no bundle; give one to start from: --from BUNDLE"
            )
        spec = start.spec
        name = spec.name if spec.name.endswith("-tuned") else f"{spec.name}-tuned"
        return spec.model_copy(update={"name": name, "provenance": {}, "card": ""})
    section = recipe.bundle
    fields = plugins.load("models", section.model).Config.model_fields
    known = {"n_classes": len(vocabulary(section.vocabulary)), "sfreq": section.sfreq}
    if section.frame_shape is None:
        known["n_channels"] = len(section.channels)
    args = {**{name: value for name, value in known.items() if name in fields}, **section.model_args}
    spec = Spec(**{**section.model_dump(), "model_args": args})
    if start is not None and start.spec.model != spec.model:
        raise BundleMismatchError(
            f"bundle {start.spec.name!r} is a {start.spec.model}, the recipe trains a {spec.model}; choose a "
            "recipe for its network, or leave --from out"
        )
    return spec


def _refuse_another(
    out: Path, recipe: Recipe, dataset: Dataset, split: Split, start: Bundle | None
) -> dict[str, Any]:
    """Return what is asked for; refuse a folder that holds another training."""
    asked = {
        "recipe": recipe.model_dump(mode="json"),
        "split": asdict(split),
        "dataset": {"kind": dataset.kind, "sessions": _sessions(dataset, split)},
        "started_from": start.sha256 if start is not None else None,
    }
    written: dict[str, Any] = json.loads(json.dumps(asked))
    path = out / "split.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != written:
        raise ConfigError(
            f"{out}: holds a training of another recipe, split, start or data; choose another folder with --out, "
            "or remove this one"
        )
    return written


def _sessions(dataset: Dataset, split: Split) -> list[str]:
    """Recordings that are learnt from and that choose, with their sizes."""
    wanted = {Span.parse(subject).subject for part in _PARTS for subject in getattr(split, part)}
    return [f"{e.session} ({e.signal.stat().st_size} bytes)" for e in dataset.entries if e.subject in wanted]


def _claim(out: Path, recipe: Recipe, asked: Mapping[str, Any]) -> None:
    """Make the folder this training's."""
    path = out / "split.json"
    if path.is_file():
        return
    with replacing(out / "recipe.yaml") as beside:
        recipe.write(beside)
    with replacing(path) as beside:
        beside.write_text(json.dumps(asked, indent=1), encoding="utf-8")


def _read(
    dataset: Dataset | SpanDataset,
    subjects: Sequence[str],
    spec: Spec,
    model: ScoringModel,
    folder: Path,
    quiet: bool,
) -> list[Sequences]:
    """Return the recordings of some subjects as the network will see them; tell what is odd about one."""
    grain_s = grain_samples(model.timing) / spec.sfreq
    found = []
    for entry in dataset.entries:
        if entry.subject not in subjects:
            continue
        path = None
        if model.frame_shape is not None:
            files = [
                (str(file), file.stat().st_size, file.stat().st_mtime_ns)
                for file in (entry.signal, entry.labels)
                if file
            ]
            made_with = {key: value for key, value in spec.model_dump(mode="json").items() if key in _MADE_WITH}
            labelled_by = [dataset.kind, dataset.config.model_dump(mode="json"), entry.subject]
            key = json.dumps([entry.session, files, labelled_by, made_with, model.frame_shape, grain_s])
            path = folder / f"{entry.session}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
            if (kept := kept_sequences(path)) is not None:
                found.append(kept)
                continue
        found.append(
            sequences(
                dataset.read(entry),
                spec,
                grain_s,
                model_channels=model.n_channels,
                frame_shape=model.frame_shape,
                path=path,
                subject=entry.subject,
            )
        )
        if not quiet:
            _tell(found[-1], entry.signal, spec)
    silent = sorted(set(subjects) - {d.subject for d in found if (d.y >= 0).any()})
    if silent:
        raise ConfigError(
            f"{dataset.folder}: subjects {', '.join(silent)} have no labelled step that can be scored; run "
            "streamscore data check on the folder, and leave them out or label them"
        )
    return found


def _tell(found: Sequences, signal: Path, spec: Spec) -> None:
    """Say what a person should know before hours are spent on a recording."""
    counts = np.bincount(found.y[found.y >= 0], minlength=len(spec.labels))
    notes = []
    if (n_unlabelled := int((found.y < 0).sum())) > _MUCH * len(found.y):
        notes.append(f"{n_unlabelled} of {len(found.y)} steps have no label")
    if (n_lost := found.n_labelled - int(counts.sum())) > _MUCH * max(found.n_labelled, 1):
        notes.append(f"{n_lost} labelled steps cannot be scored (warm-up, gaps, NaN)")
    if (counts > 0).sum() == 1:
        notes.append(f"one state alone, {spec.labels[int(counts.argmax())]}")
    if notes:
        Console(stderr=True, highlight=False).print(f"{signal}: {'; '.join(notes)}", markup=False, soft_wrap=True)


def _device_name(machine: Machine) -> str:
    if machine.device != "cpu" and torch.cuda.is_available():
        return f"{machine.devices} × {torch.cuda.get_device_name()}"
    return f"CPU, {torch.get_num_threads()} threads"
