"""The throughput that is told is that of a training; how fast the machine is, is not tested."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from offline.datasets.simulated import Plan
from offline.stages import Machine
from offline.trials import TRIALS
from streamscore.errors import ConfigError
from tools import bench_training as bench

_RUN = {
    "command": "python -m tools.bench_training",
    "date": "2026-01-01",
    "machine": "m",
    "versions": {"torch": "2"},
}


def test_a_recipe_keeps_its_network_and_goes_through_the_passes_asked_for() -> None:
    recipe = bench.shortened("deepsleepnet", 2, small=False)
    assert [(stage.passes, stage.patience) for stage in recipe.stages] == [(2, 0), (2, 0)]
    assert recipe.bundle is not None
    assert "n_filters" not in recipe.bundle.model_args
    small = bench.shortened("deepsleepnet", 2, small=True)
    assert small.bundle is not None
    assert small.bundle.model_args["n_filters"] == TRIALS["deepsleepnet"].changes["bundle.model_args.n_filters"]
    assert [stage.passes for stage in small.stages] == [2, 2]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"recipe 'finetune'; choose from tinysleepnet"):
        bench.shortened("finetune", 3, small=False)
    with pytest.raises(ConfigError, match="1 passes leave none"):
        bench.shortened("tinysleepnet", 1, small=False)


def test_the_figures_are_those_of_the_passes_after_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiny = replace(TRIALS["tinysleepnet"], plan=Plan(4, 0.2, cycle_s=300.0))
    monkeypatch.setitem(TRIALS, "tinysleepnet", tiny)
    recipe = bench.shortened("tinysleepnet", 2, small=True)
    (found,) = bench.measure("tinysleepnet", recipe, tmp_path, Machine("cpu"))
    log = tmp_path / "tinysleepnet" / "checkpoints" / recipe.stages[0].name / "passes.jsonl"
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert (found.recipe, found.stage) == ("tinysleepnet", recipe.stages[0].name)
    assert (found.epochs_per_s, found.compute_share) == (second["epochs_per_s"], second["compute_share"])
    assert found.epochs_per_s > 0
    assert 0 < found.compute_share <= 1
    assert first["pass"] == 1


def test_a_share_below_nine_tenths_is_told() -> None:
    rows = [bench.Throughput("a", "train", 1234.5, 0.95), bench.Throughput("b", "cnn", 10.0, 0.5)]
    text = bench.as_markdown(rows, _RUN)
    assert "| a | train | 1234 | 95.0 % | met |" in text
    assert "| b | cnn | 10 | 50.0 % | NOT MET |" in text
