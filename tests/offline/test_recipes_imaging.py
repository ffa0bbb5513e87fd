"""Recipes of the networks for imaging: what they build is what the papers built, and each of them learns.

The trainings here are those of the recipes on toys: same stages, lessons, sampling and losses; small networks, few
passes, frames of 8 pixels a side at 8 Hz.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from offline.datasets.base import Dataset, load, open_dataset
from offline.folds import PUBLISHED, Split
from offline.recipe import Recipe, load_recipe, parse_override
from offline.stages import Machine
from offline.train import train
from offline.trials import TRIALS
from offline.try_recipes import command
from streamscore import plugins
from streamscore.bundle import load_bundle
from streamscore.labels import vocabulary
from streamscore.movies.base import Movie
from streamscore.score import score_recording
from tests.offline import toy_cortex
from tests.offline.toy_cortex import EPOCH_FRAMES, SFREQ

CPU = Machine(device="cpu")
SPLIT = Split(train=("m0", "m1"), validation=("m2",), test=(), final=True)
ROIS = ("ROI6", "ROI8", "ROI31", "ROI33")
PARCELS = ("parcel-2", "parcel-3", "parcel-22", "parcel-23")
PARAMETERS = {
    "calcium-sleep": 432_323,
    "calcium-sleep-causal": 374_467,
    "calcium-sleep-lookahead": 432_323,
    "mvg-cnn": 103_139,
    "run-rest-cnn": 4_008_829,
    "run-rest-cnn-gru": 4_649_470 - 1_281,  # without the output layer that it never uses
    "run-rest-cnn-lstm": 4_862_974 - 1_281,
    "roi-rnn": 8_001,
    "roi-rnn-causal": 8_001,
    "roi-rnn-lookahead": 16_001,
}

_BILSTM: dict[str, Any] = {
    "bundle.sfreq": SFREQ,
    "bundle.model_args.epoch_frames": EPOCH_FRAMES,
    "bundle.model_args.frame_shape": (8, 8),
    "bundle.model_args.n_filters": 8,
    "bundle.model_args.n_blocks": 2,
    "bundle.model_args.n_hidden": 8,
    "stages.0.optimizer.lr": 0.02,
    "stages.0.passes": 5,
}
_STREAMING: dict[str, Any] = {
    **_BILSTM,
    "bundle.preprocess.0.warm_up_s": EPOCH_FRAMES / SFREQ,
    "bundle.model_args.attention_frames": EPOCH_FRAMES,
    "stages.0.examples.context": EPOCH_FRAMES,
    "stages.0.examples.steps": 16,
    "stages.0.examples.batch": 8,
    "stages.0.examples.per_pass": 48,
}
_EFFICIENT: dict[str, Any] = {
    "bundle.sfreq": SFREQ,
    "bundle.preprocess.0.warm_up_s": 4.0,
    "bundle.model_args.frame_shape": (8, 8),
    "bundle.model_args.width": 0.1,
    "bundle.model_args.depth": 0.1,
    "stages.0.examples.stride": 2,
    "stages.0.examples.batch": 32,
    "stages.0.optimizer.lr": 0.01,
    "stages.0.norm_momentum": 0.2,
}
_RECURRENT: dict[str, Any] = {
    **_EFFICIENT,
    "bundle.model_args.n_hidden": 8,
    "bundle.model_args.half_window_frames": 2,
    "stages.0.passes": 2,
    "stages.1.examples.context": 6,
    "stages.1.examples.stride": 4,
    "stages.1.optimizer.lr": 0.01,
    "stages.1.norm_momentum": 0.2,
    "stages.1.passes": 2,
}
_ROI: dict[str, Any] = {
    "bundle.sfreq": SFREQ,
    "bundle.channels": ROIS,
    "bundle.preprocess.1.warm_up_s": 4.0,
    "bundle.model_args.n_hidden": 8,
    "stages.0.optimizer.lr": 0.02,
    "stages.0.passes": 4,
}
_ROI_STREAMING: dict[str, Any] = {
    **_ROI,
    "stages.0.examples.steps": 30,
    "stages.0.examples.batch": 8,
    "stages.0.examples.per_pass": 32,
    "stages.0.passes": 8,
}
#: Recipe → what it is trained on, and its changes.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "calcium-sleep": ("sleep movies", _BILSTM),
    "calcium-sleep-causal": ("sleep movies", _STREAMING),
    "calcium-sleep-lookahead": (
        "sleep movies",
        {
            **_STREAMING,
            "bundle.model_args.look_ahead_s": 0.5,
            "bundle.model_args.max_look_ahead_s": 1.0,
            "stages.0.examples.context": EPOCH_FRAMES + 8,
            "stages.0.look_aheads_s": [0.0, 1.0],
        },
    ),
    "mvg-cnn": (
        "sleep traces",
        {
            "bundle.sfreq": SFREQ,
            "bundle.channels": PARCELS,
            "bundle.model_args.window_frames": EPOCH_FRAMES,
            "bundle.model_args.n_filters": (8, 8, 8),
            "stages.0.optimizer.lr": 0.01,
            "stages.0.passes": 6,
        },
    ),
    "run-rest-cnn": ("run movies", _EFFICIENT),
    "run-rest-cnn-gru": ("run movies", _RECURRENT),
    "run-rest-cnn-lstm": ("run movies", _RECURRENT),
    "roi-rnn": (
        "run traces",
        {
            **_ROI,
            "bundle.model_args.half_window_frames": 4,
            "stages.0.examples.context": 8,
            "stages.0.examples.steps": 32,
            "stages.0.examples.stride": 32,
            "stages.0.passes": 12,
        },
    ),
    "roi-rnn-causal": ("run traces", _ROI_STREAMING),
    "roi-rnn-lookahead": (
        "run traces",
        {
            **_ROI_STREAMING,
            "bundle.model_args.look_ahead_s": 0.25,
            "bundle.model_args.max_look_ahead_s": 0.5,
            "stages.0.look_aheads_s": [0.0, 0.5],
        },
    ),
}


def small(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    return load_recipe(name, {**SMALL[name][1], **(changes or {})})


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    folder = tmp_path_factory.mktemp("toys")
    written = {
        "sleep movies": toy_cortex.write_sleep_movies(folder / "sleep-movies"),
        "run movies": toy_cortex.write_run_movies(folder / "run-movies"),
        "sleep traces": toy_cortex.write_sleep_traces(folder / "sleep-traces", PARCELS),
        "run traces": toy_cortex.write_run_traces(folder / "run-traces", ROIS),
    }
    return {name: open_dataset(path) for name, path in written.items()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands behind the chains, as folds share it."""
    return tmp_path_factory.mktemp("inputs")


def passes(folder: Path, stage: str) -> list[dict[str, float]]:
    """Rows of a stage's log."""
    lines = (folder / "checkpoints" / stage / "passes.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_learns_and_its_bundle_scores(
    name: str, toys: dict[str, Dataset], cache: Path, tmp_path: Path
) -> None:
    recipe, dataset = small(name), toys[SMALL[name][0]]
    path = train(recipe, dataset, SPLIT, tmp_path / "run", machine=CPU, cache=cache, quiet=True)
    for stage in recipe.stages:
        rows = passes(tmp_path / "run", stage.name)
        assert rows[-1]["loss"] < rows[0]["loss"]
    assert max(row["val_kappa"] for row in rows) > 0.3  # chance is 0
    bundle = load_bundle(path)
    assert list(recipe.differs) == bundle.spec.provenance["recipe"]["differs"]
    for ahead_s in recipe.stages[-1].look_aheads_s or (None,):
        chosen = bundle if ahead_s is None else bundle.at_look_ahead(ahead_s)
        recording = dataset.read(dataset.entries[-1])
        codes = score_recording(recording, chosen, hop_s=recording.epoch_s).hypnogram.codes
        truth = recording.states[: len(codes)]  # nothing is said yet about the last frames
        if isinstance(recording, Movie):
            recording.close()
        scored = (codes >= 0) & (truth >= 0)
        assert scored.mean() > 0.5
        assert (codes[scored] == truth[scored]).mean() > 0.5


def test_the_recurrent_network_starts_from_the_images_that_were_learnt_before(
    toys: dict[str, Dataset], cache: Path, tmp_path: Path
) -> None:
    still: dict[str, Any] = {"stages.0.passes": 1, "stages.1.passes": 1, "stages.1.optimizer.lr": 1e-12}
    still |= {"stages.0.examples.stride": 16, "stages.1.examples.stride": 32}
    recipe = small("run-rest-cnn-gru", still)
    train(recipe, toys["run movies"], SPLIT, tmp_path, machine=CPU, cache=cache, quiet=True)
    first, second = (load_file(tmp_path / "checkpoints" / k / "weights.safetensors") for k in ("cnn", "cnn-rnn"))
    counted = ("running_mean", "running_var", "num_batches_tracked")  # these go on with every batch
    shared = [name for name in second if name in first and not name.endswith(counted)]
    assert len(shared) > 50
    for name in shared:
        torch.testing.assert_close(second[name], first[name], atol=1e-6, rtol=0)
    assert not [name for name in first if name.startswith("rnn")]
    assert [name for name in second if name.startswith("rnn")]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_builds_the_published_network(name: str) -> None:
    bundle = load_recipe(name).bundle
    assert bundle is not None
    module = plugins.load("models", bundle.model)
    known = {"n_classes": len(vocabulary(bundle.vocabulary)), "sfreq": bundle.sfreq}
    known["n_channels"] = len(bundle.channels)
    args = {key: value for key, value in known.items() if key in module.Config.model_fields}
    model = module.build(module.Config(**args, **bundle.model_args))
    assert model.n_trainable() == PARAMETERS[name]


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_names_data_and_folds_that_exist(name: str) -> None:
    recipe = load_recipe(name)
    options = {key: value for key, value in recipe.dataset.items() if key != "kind"}
    load(recipe.dataset["kind"]).Config(**options)
    assert recipe.folds == "loo" or recipe.folds.removeprefix("published:") in PUBLISHED
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
