"""Small data sets whose states can be told apart by frequency, and a recipe that learns them in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from offline.recipe import Recipe
from streamscore.labels import MOUSE3

SFREQ = 32.0
EPOCH_S = 4.0
#: Frequency of each state.
TONES_HZ = (10.0, 2.0, 6.0)


def write_toy(
    folder: Path, n_subjects: int = 4, n_epochs: int = 90, seed: int = 0, states: tuple[int, ...] = (0, 1, 2)
) -> Path:
    """Write a plain data set of mice whose states last ten epochs each, and return its folder."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    t_s = np.arange(round(n_epochs * EPOCH_S * SFREQ)) / SFREQ
    for k in range(n_subjects):
        codes = rng.choice(states, n_epochs // 10).repeat(10)
        tone_hz = np.array(TONES_HZ)[codes.repeat(round(EPOCH_S * SFREQ))]
        eeg = 30.0 * np.sin(2 * np.pi * tone_hz * t_s) + 10.0 * rng.standard_normal(len(t_s))
        described = {"sfreq": SFREQ, "channels": ["EEG"], "units": ["uV"]}
        np.savez(folder / f"m{k}.npz", data=eeg[:, None].astype(np.float32), **described)
        rows = [f"{i * EPOCH_S},{EPOCH_S},{MOUSE3[code]}" for i, code in enumerate(codes)]
        (folder / f"m{k}.labels.csv").write_text("\n".join(["start_s,duration_s,state", *rows]) + "\n")
    (folder / "dataset.json").write_text(json.dumps({"kind": "plain", "vocabulary": "MOUSE3"}))
    return folder


def toy_recipe(model_args: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A small TinySleepNet; `changes` are fields of its only stage."""
    stage = {
        "examples": {"kind": "nights", "steps": 10, "batch": 2},
        "optimizer": {"kind": "adam", "lr": 0.01, "clip_norm": 5.0},
        "passes": 6,
        "monitor": "val_kappa",
    }
    return Recipe.model_validate(
        {
            "title": "toy",
            "bundle": {
                "name": "toy",
                "model": "tinysleepnet",
                "model_args": {
                    "epoch_s": EPOCH_S,
                    "n_filters": 8,
                    "n_hidden": 8,
                    "dropout": 0.0,
                    **(model_args or {}),
                },
                "preprocess": [],
                "vocabulary": "MOUSE3",
                "sfreq": SFREQ,
                "channels": ["EEG"],
                "unit": "uV",
            },
            "stages": [{**stage, **changes}],
        }
    )
