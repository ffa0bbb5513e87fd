"""Recipes of the networks for EEG: what they build is what the papers built, and each of them learns.

The trainings here are those of the recipes on toys: same stages, lessons, sampling and losses; small networks, few
passes, epochs of 4 s at 32 Hz.
"""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offline.datasets.base import Dataset, load, open_dataset
from offline.folds import PUBLISHED, Split
from offline.recipe import Recipe, load_recipe, parse_override
from offline.sequences import Sequences
from offline.smote import with_synthetic
from offline.stages import Machine
from offline.train import train
from offline.trials import TRIALS
from offline.try_recipes import command
from streamscore import plugins
from streamscore.bundle import load_bundle
from streamscore.labels import vocabulary
from streamscore.score import score_recording
from tests.offline.toys import EPOCH_S, SFREQ, toy_recipe, write_toy

CPU = Machine(device="cpu")
SPLIT = Split(train=("m0", "m1", "m2"), validation=("m3",), test=(), final=True)
PARAMETERS = {
    "tinysleepnet": 1_516_293,
    "deepsleepnet": 22_645_637,
    "deepsleepnet-mass": 22_035_205,
    "salientsleepnet": 939_479,
    "seqsleepnet": 176_388,
    "sleepeegnet": 2_642_438,
    "utime": 1_187_569,
    "baek-vgg16": 134_285_126,
    "baek-convlstm": 117_627_718,
    "vilamala": 134_281_029,
}

_DEEP: dict[str, Any] = {
    "bundle.model_args.n_filters": 4,
    "bundle.model_args.n_hidden": 8,
    "bundle.model_args.dropout": 0.1,
    "stages.0.examples.batch": 16,
    "stages.0.optimizer.lr": 0.003,
    "stages.0.passes": 3,
    "stages.0.norm_momentum": 0.2,
    "stages.1.examples.rows": 2,
    "stages.1.examples.steps": 5,
    "stages.1.optimizer.lr": 0.01,
    "stages.1.optimizer.lr_of.cnn": 0.001,
    "stages.1.passes": 4,
    "stages.1.norm_momentum": 0.2,
}
_WINDOW: dict[str, Any] = {"bundle.model_args.window_epochs": 5, "stages.0.examples.steps": 5}
_SALIENT: dict[str, Any] = {
    "bundle.model_args.filters": (4,) * 3,
    "bundle.model_args.scale_filters": (2,) * 3,
    "bundle.model_args.u_depth": 3,
    "bundle.model_args.u_filters": 2,
    "bundle.model_args.dilations": (1,),
    "bundle.model_args.pools": (8, 4),
    "bundle.channels": ["EEG"],
    "stages.0.loss.weights": [],
    "stages.0.optimizer.lr": 0.01,
    "stages.0.norm_momentum": 0.2,
}
_VGG: dict[str, Any] = {
    "bundle.model_args.window_s": 1.0,
    "bundle.model_args.stride_s": EPOCH_S,
    "bundle.model_args.column_step_s": 0.25,
    "bundle.model_args.time_bandwidth": 2.0,
    "bundle.model_args.n_tapers": 3,
    "bundle.model_args.max_hz": SFREQ / 2,
    "bundle.model_args.image_size": 32,
    "bundle.model_args.n_filters": 4,
    "bundle.model_args.dropout": 0.1,
    "stages.0.examples.batch": 8,
    "stages.0.optimizer.lr": 0.0005,
    "stages.0.passes": 4,
}
SMALL: dict[str, dict[str, Any]] = {
    "tinysleepnet": {
        "bundle.model_args.n_filters": 8,
        "bundle.model_args.n_hidden": 8,
        "bundle.model_args.dropout": 0.1,
        "stages.0.examples.batch": 2,
        "stages.0.examples.steps": 10,
        "stages.0.loss.weights": [],
        "stages.0.optimizer.lr": 0.003,
        "stages.0.passes": 6,
    },
    "deepsleepnet": {**_DEEP, "bundle.model_args.chunk_epochs": 5},
    "deepsleepnet-mass": {**_DEEP, "bundle.model_args.chunk_epochs": 5},
    "deepsleepnet-causal": _DEEP,
    "deepsleepnet-lookahead": {
        **_DEEP,
        "bundle.model_args.look_ahead_s": EPOCH_S,
        "stages.1.look_aheads_s": [0.0, EPOCH_S, 3 * EPOCH_S],
    },
    "salientsleepnet": {**_WINDOW, **_SALIENT, "stages.0.examples.stride": 5, "stages.0.passes": 5},
    "salientsleepnet-causal": {
        **_SALIENT,
        "bundle.model_args.window_epochs": 5,
        "stages.0.examples.steps": 5,
        "stages.0.examples.batch": 2,
        "stages.0.passes": 3,
    },
    "seqsleepnet": {
        **_WINDOW,
        "bundle.model_args.frame_s": 1.0,
        "bundle.model_args.frame_step_s": 0.5,
        "bundle.model_args.n_fft": 32,
        "bundle.model_args.high_hz": SFREQ / 2,
        "bundle.model_args.n_filters": 8,
        "bundle.model_args.n_hidden": 6,
        "bundle.model_args.n_attention": 4,
        "stages.0.examples.batch": 8,
        "stages.0.examples.stride": 2,
        "stages.0.optimizer.lr": 0.02,
        "stages.0.passes": 4,
    },
    "sleepeegnet": {
        **_WINDOW,
        "bundle.model_args.n_filters": 4,
        "bundle.model_args.n_hidden": 8,
        "bundle.model_args.dropout": 0.1,
        "stages.0.examples.stride": 5,
        "stages.0.examples.batch": 5,
        "stages.0.examples.smote": 1.0,
        "stages.0.optimizer.lr": 0.005,
        "stages.0.passes": 5,
    },
    "utime": {
        **_WINDOW,
        "bundle.model_args.n_filters": 8,
        "bundle.model_args.pools": (4, 4, 2, 2),
        "stages.0.examples.batch": 4,
        "stages.0.optimizer.lr": 0.005,
        "stages.0.passes": 12,
    },
    "baek-vgg16": {**_VGG, "bundle.model_args.n_hidden": 16},
    "baek-convlstm": _VGG,
    "vilamala": {**_VGG, "bundle.model_args.n_hidden": 16},
}


def small(name: str) -> Recipe:
    common = {"bundle.vocabulary": "MOUSE3", "bundle.sfreq": SFREQ, "bundle.model_args.epoch_s": EPOCH_S}
    return load_recipe(name, {**common, **SMALL[name]})


@pytest.fixture(scope="module")
def mice(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_toy(tmp_path_factory.mktemp("mice")))


def passes(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Rows of each stage's log."""
    return {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "checkpoints").glob("*/passes.jsonl")
    }


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_learns_and_its_bundle_scores(name: str, mice: Dataset, tmp_path: Path) -> None:
    recipe = small(name)
    path = train(recipe, mice, SPLIT, tmp_path / "run", machine=CPU, quiet=True)
    logs = passes(tmp_path / "run")
    assert sorted(logs) == sorted(stage.name for stage in recipe.stages)
    for rows in logs.values():
        assert rows[-1]["loss"] < rows[0]["loss"]
    last = logs[recipe.stages[-1].name]
    assert max(row["val_kappa"] for row in last) > 0.2  # chance is 0
    bundle = load_bundle(path)
    assert bundle.spec.name == recipe.bundle.name  # type: ignore[union-attr]
    assert list(recipe.differs) == bundle.spec.provenance["recipe"]["differs"]
    recording = mice.read(mice.entries[-1])
    for ahead_s in recipe.stages[-1].look_aheads_s or (None,):
        chosen = bundle if ahead_s is None else bundle.at_look_ahead(ahead_s)
        codes = score_recording(recording, chosen).hypnogram.codes
        assert (codes >= 0).mean() > 0.5


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_builds_the_published_network(name: str) -> None:
    bundle = load_recipe(name).bundle
    assert bundle is not None
    module = plugins.load("models", bundle.model)
    args = {"n_classes": len(vocabulary(bundle.vocabulary)), "sfreq": bundle.sfreq, **bundle.model_args}
    if "n_channels" in module.Config.model_fields:
        args["n_channels"] = len(bundle.channels)
    with torch.device("meta"):  # shapes alone: the largest has half a gigabyte of weights
        model = module.build(module.Config(**args))
    assert model.n_trainable() == PARAMETERS[name]


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_names_data_and_folds_that_exist(name: str) -> None:
    recipe = load_recipe(name)
    options = {key: value for key, value in recipe.dataset.items() if key != "kind"}
    config = load(recipe.dataset["kind"]).Config(**options)
    assert set(recipe.bundle.channels) <= set(config.channels)  # type: ignore[union-attr]
    assert recipe.folds.removeprefix("published:") in PUBLISHED
    assert recipe.source
    assert recipe.differs


@pytest.mark.parametrize("name", SMALL)
def test_a_trial_of_a_recipe_is_told_by_its_command(name: str) -> None:
    trial = TRIALS[name]
    recipe = load_recipe(name, dict(trial.changes))
    assert [stage.lesson for stage in recipe.stages] == [stage.lesson for stage in load_recipe(name).stages]
    simulated, trained = (shlex.split(line) for line in command(name, trial).splitlines())
    told = dict(parse_override(word) for before, word in pairwise(trained) if before == "--set")
    assert load_recipe(name, told) == recipe
    assert simulated[:4] == ["streamscore", "data", "simulate", trial.simulated]


def test_smote_fills_rare_states_with_what_lies_between_their_own() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, -1], [40, 8, 1, 5])
    x = (rng.standard_normal((len(y), 1, 6)) + 10.0 * y[:, None, None]).astype(np.float32)
    night = Sequences("night", x, y, np.arange(len(y)), ((0, len(y)),), 49)
    first, made = with_synthetic([night], 0.5, np.random.default_rng(1))
    assert first is night
    assert set(made.y.tolist()) == {1}  # of state 2 there is only one
    assert len(made.y) == 20 - 8
    real = x[y == 1].reshape(8, 6)
    for synthetic in made.x.reshape(-1, 6):
        between = np.abs(
            np.linalg.norm(real - synthetic, axis=1)[:, None] + np.linalg.norm(real - synthetic, axis=1)
        )
        apart = np.linalg.norm(real[:, None] - real, axis=2)
        assert np.isclose(between, apart, atol=1e-4)[apart > 0].any()  # on the line from one to another


def test_finetuning_makes_a_network_familiar_with_another_animal(mice: Dataset, tmp_path: Path) -> None:
    adam = {"kind": "adam", "lr": 0.01, "clip_norm": 5.0}
    base = load_bundle(
        train(toy_recipe(passes=6, optimizer=adam), mice, SPLIT, tmp_path / "base", machine=CPU, quiet=True)
    )
    path = write_toy(tmp_path / "other", n_subjects=1, n_epochs=360, seed=3) / "m0.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "data": 0.1 * arrays["data"]})  # a worse electrode
    other = open_dataset(path.parent)
    split = Split(("m0@0-0.15h",), ("m0@0.15-0.2h",), (), final=True)
    recipe = load_recipe("finetune", {"stages.0.optimizer.lr": 0.01, "stages.0.passes": 30})
    tuned = load_bundle(train(recipe, other, split, tmp_path / "tuned", machine=CPU, start=base, quiet=True))
    recording = other.read(other.entries[0])
    rest = slice(round(0.2 * 3600 / EPOCH_S), len(recording.states))
    right = [
        (score_recording(recording, bundle).hypnogram.codes[rest] == recording.states[rest]).mean()
        for bundle in (base, tuned)
    ]
    assert right[1] > right[0] + 0.1
    old, new = base.model.state_dict(), tuned.model.state_dict()
    # First layers stay, but for the rounding of the average.
    torch.testing.assert_close(new["conv1.conv.weight"], old["conv1.conv.weight"], atol=1e-6, rtol=1e-5)
    assert (new["head.weight"] - old["head.weight"]).abs().max() > 1e-3
    assert tuned.spec.name == "toy-tuned"
    assert tuned.spec.provenance["started_from"] == base.sha256
