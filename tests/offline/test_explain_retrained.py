"""The retrained form of the cut-out importance: real trainings, with a mask at the end of the chain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offline.explain.cut_out import squares
from offline.explain.masked_training import cut_out_retrained, train_masked
from streamscore.arrays import pack
from streamscore.bundle import load_bundle
from streamscore.errors import ConfigError

SIDE = 16
RECIPE = """
title: bright or dark
source: test
bundle:
  name: tiny
  model: cnn_bilstm
  model_args: {variant: causal, attention: paper, sfreq: 10.0, frame_shape: [16, 16], n_classes: 2,
    epoch_frames: 1, attention_frames: 2, n_filters: 4, n_blocks: 2, n_hidden: 4, dropout: 0.0}
  preprocess: []
  vocabulary: RUNREST
  sfreq: 10.0
  channels: [calcium]
stages:
  - passes: 6
    examples: {kind: windows, steps: 10, stride: 10, batch: 4}
    optimizer: {kind: adam, lr: 0.03}
"""
#: Row 1 and column 4 of the eighths, where the frames are bright while the mouse runs.
PLACE = slice(2, 4), slice(8, 10)


@pytest.fixture
def mice(tmp_path: Path) -> Path:
    """Three mice, 20 s each at 10 Hz."""
    folder = tmp_path / "mice"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps({"kind": "plain"}), encoding="utf-8")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        states = rng.permutation(np.arange(20) % 2).astype(np.int8)
        frames = 0.1 * rng.standard_normal((200, SIDE, SIDE)).astype(np.float32)
        frames[:, PLACE[0], PLACE[1]] += 8.0 * np.repeat(states, 10)[:, None, None]
        labels = np.array(["rest", "run"])
        what = {"lights": np.array(["calcium"]), "states": states, "epoch_s": 1.0, "labels": labels}
        np.savez(folder / f"m{seed}.npz", data=frames, rate_hz=10.0, **what)
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def test_a_network_that_never_saw_the_place_knows_nothing(mice: Path, tmp_path: Path) -> None:
    masks, cells = squares((SIDE, SIDE), wrap=True)
    covers = int(np.flatnonzero((cells == 1 * 8 + 4).any(axis=1))[0])
    same = {
        "recipe": str(tmp_path / "recipe.yaml"), "data": str(mice), "kind": "plain", "folds": "loo", "seed": 0,
        "device": "cpu",
    }  # fmt: skip
    whole = train_masked(tmp_path / "everything", mask=None, **same)
    without = train_masked(tmp_path / "without", mask=pack((~masks[covers]).astype(np.uint8)), **same)
    assert whole > 0.85
    assert abs(without - 0.5) < 0.2
    spec = load_bundle(tmp_path / "without" / "run" / "bundle.safetensors").spec
    assert [step["kind"] for step in spec.preprocess] == ["mask"]


def test_a_recipe_for_signals_is_refused(mice: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="network 'tinysleepnet' takes signals, not frames"):
        cut_out_retrained("tinysleepnet", mice, tmp_path / "out")
