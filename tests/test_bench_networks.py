from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from streamscore import plugins
from tools import bench_networks as bench
from tools.bench_networks import FRAME, GRU, TABLES, WINDOW, Subject

TINY_CNN = {"n_filters": 4, "n_hidden": 4, "frame_shape": (16, 16), "epoch_frames": 8}
TINY_NETS = {"frame_shape": (32, 32), "width": 0.25, "depth": 0.1}


def test_every_subject_can_be_built() -> None:
    for subjects in TABLES.values():
        for subject in subjects.values():
            module = plugins.load("models", subject.model)
            module.Config(**subject.args)


def test_targets_are_of_subjects_that_exist() -> None:
    tables = list(TABLES.values())
    for table, name, quantile, limit_ms in bench.TARGETS:
        assert name in tables[table]
        assert quantile in ("p50_ms", "p99_ms")
        assert limit_ms > 0


def test_a_run_times_what_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fields = plugins.load("models", "efficientnet").Config.model_fields
    tiny_nets = {key: value for key, value in TINY_NETS.items() if key in fields}
    tables = {
        "frames": {
            FRAME: Subject("cnn_bilstm", {**TINY_CNN, "variant": "causal", "attention_frames": 8}),
            "reduced": Subject(
                "cnn_bilstm", {**TINY_CNN, "variant": "causal", "attention_frames": 8}, precision="bfloat16"
            ),
            WINDOW: Subject("cnn_bilstm", TINY_CNN, every=5),
        },
        "run and rest": {
            "CNN, one frame": Subject("efficientnet", tiny_nets),
            GRU: Subject("efficientnet", {**tiny_nets, "rnn": "gru"}),
        },
    }
    monkeypatch.setattr(bench, "TABLES", tables)
    monkeypatch.setattr(bench, "TARGETS", ((0, FRAME, "p99_ms", 1e9),))
    report = bench.run(Console(file=io.StringIO()), tmp_path, quick=True)
    frames = report.distributions["frames, cpu"]
    assert frames[FRAME].n == 5
    assert frames[WINDOW].n == 1
    assert frames[WINDOW].p50_ms > 0
    assert report.facts["cpu: reduced, largest difference from float32"] > 0
    assert report.facts["CNN-BiLSTM: window / causal frame, p50"] == pytest.approx(
        frames[WINDOW].p50_ms / frames[FRAME].p50_ms
    )
    assert [check.what for check in report.checks] == [
        f"{FRAME}, p99",
        "causal CNN-BiLSTM, share of the window's cost",
        "CNN-GRU, share of eleven CNN passes",
    ]
    text = (tmp_path / "bench-networks.md").read_text(encoding="utf-8")
    assert "One step of one stream at a time" in text
    assert (tmp_path / "bench-networks.json").is_file()
