"""``streamscore explain`` writes its files and tells what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streamscore.cli_explain import app
from streamscore.errors import ConfigError
from tests.bundles import EPOCH, EPOCH_S, SFREQ, signal

METHODS = {
    *("grad-cam", "attention", "cut-out", "shap", "sensitivity", "filters", "memory", "salience"),
    *("regions", "window-length", "label-shift"),
}


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Six labelled epochs for the small bundle, under another channel name."""
    path = tmp_path / "night.npz"
    np.savez(
        path, data=signal(6 * EPOCH), sfreq=SFREQ, channels=np.array(["C3-A2"]), unit="uV",
        states=np.arange(6) % 3, epoch_s=EPOCH_S, labels=np.array(["Wake", "NREM", "REM"]),
    )  # fmt: skip
    return path


@pytest.mark.parametrize("method", ["filters", "memory"])
def test_a_method_writes_arrays_figures_and_a_picture(
    method: str, night: Path, small_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why"
    arguments = [
        method,
        str(small_path),
        str(night),
        "--out",
        str(out),
        "--channel",
        "EEG=C3-A2",
        "--seconds",
        "20",
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [f"{method}.{kind}" for kind in ("json", "npz", "png")]
    assert "night" in result.output
    told = json.loads((out / f"{method}.json").read_text(encoding="utf-8"))
    assert told["method"] == method
    assert told["bundle"]["name"] == "small"
    assert len(told["bundle"]["sha256"]) == 64
    assert told["seconds"] == 20.0
    assert told["run"]["git_commit"]
    assert told["run"]["command"].startswith("streamscore ")  # as it was typed, and the method not twice
    assert told["marks"] == []
    with np.load(out / f"{method}.npz", allow_pickle=False) as arrays:
        assert arrays["truth"].tolist() == [0, 1, 2, 0, 1]


def test_every_method_is_a_command_with_an_example() -> None:
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == METHODS
    for command in app.registered_commands:
        assert "Example: streamscore explain" in (command.callback.__doc__ or "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filters", "BUNDLE", "NIGHT", "--channel", "C3"], "write INPUT=LABEL"),
        (["salience", "BUNDLE", "NIGHT", "--channel", "EEG=C3-A2"], "TinySleepNet marks no waves"),
        (["grad-cam", "BUNDLE", "NIGHT"], None),
        (["cut-out"], "takes a bundle and a recording with labels, or --retrain"),
        (["cut-out", "BUNDLE", "NIGHT", "--retrain", "recipe"], "give --data FOLDER, and no bundle"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], message: str | None, night: Path, small_path: Path, tmp_path: Path
) -> None:
    real = {"BUNDLE": str(small_path), "NIGHT": str(night)}
    result = CliRunner().invoke(app, [*(real.get(a, a) for a in arguments), "--out", str(tmp_path / "why")])
    if message is None:  # the bundle's channel is not in the file
        assert "EEG" in str(result.exception)
        return
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not (tmp_path / "why").exists()


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, streamscore.cli_explain; "
        "print(*sorted({'torch', 'matplotlib', 'captum', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
