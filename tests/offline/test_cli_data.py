"""``streamscore data …`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from offline.datasets.base import KINDS, open_dataset
from streamscore import cli_data
from streamscore.errors import ConfigError, LoopError, SourceError
from tests.offline.datasets.layouts import epochs, write_npz, write_table

app = typer.Typer()
app.command("list")(cli_data.list_)
app.command()(cli_data.check)
app.command()(cli_data.fetch)
app.command()(cli_data.simulate)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def consoles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consoles that look up their stream when they print, and wide enough not to wrap."""
    from rich.console import Console

    monkeypatch.setattr(cli_data, "out", Console(highlight=False, width=200))
    monkeypatch.setattr(cli_data, "err", Console(stderr=True, highlight=False, width=200))


def folder_of(tmp_path: Path, words: list[str]) -> Path:
    write_npz(tmp_path / "m1.npz", 12)
    write_table(tmp_path / "m1.labels.csv", epochs(words, 4))
    return tmp_path


def test_list_tells_all_kinds_and_one_in_full() -> None:
    every = invoke("list")
    assert every.exit_code == 0
    assert all(kind in every.stdout for kind in KINDS)
    one = invoke("list", "sleep_edf")
    assert "https://physionet.org/content/sleep-edfx/1.0.0/" in one.stdout
    assert "drop_then_trim" in one.stdout
    assert set(json.loads(invoke("list", "--json").stdout)) == set(KINDS)
    assert isinstance(invoke("list", "cats").exception, ConfigError)


def test_check_tells_a_table(tmp_path: Path) -> None:
    done = invoke("check", folder_of(tmp_path, ["Wake", "NREM", "REM", "REM"]))
    assert done.exit_code == 0
    assert "Wake 1 NREM 1 REM 1 (4 s)" in done.stdout
    assert "1 subjects, 1 recordings" in done.stdout
    assert "note  m1: 1 scored epochs of 4 s lie behind the end" in done.stdout


def test_check_fails_with_the_errors_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["Wake", "NREMM"])
    done = invoke("check", folder)
    assert isinstance(done.exception, LoopError)
    assert done.exception.exit_code == 6
    assert "unusable" in done.stdout
    assert "error m1: " in done.stdout
    assert "line 3: 'NREMM'" in done.stdout
    mapped = invoke("check", folder, "--label", "NREMM=NREM", "--vocabulary", "MOUSE3", "--json")
    assert mapped.exit_code == 0
    assert json.loads(mapped.stdout)["recordings"][0]["states"] == {"Wake": 1, "NREM": 1, "REM": 0}


def test_check_takes_channels_and_options_of_the_kind(tmp_path: Path) -> None:
    write_npz(tmp_path / "2024_m1.npz", 12, channels=("a", "b"))
    write_table(tmp_path / "labels.csv", [(0, 4, "Wake"), (4, 4, "NREM")])
    options = ("--channel", "EEG=b", "--option", "subject_pattern=_(m1)", "--dataset", "plain", "--json")
    told = json.loads(invoke("check", tmp_path, *options).stdout)
    assert (told["subjects"], told["recordings"][0]["channels"]) == (["m1"], ["EEG"])
    assert isinstance(invoke("check", tmp_path, "--channel", "EEG").exception, ConfigError)


def test_simulate_writes_a_set_that_check_finds_sound(tmp_path: Path) -> None:
    folder = tmp_path / "sim"
    options = ("--to", folder, "--subjects", 2, "--hours", 0.03, "--seed", 5, "--sfreq", 50, "--cycle-s", 60)
    done = invoke("simulate", "mouse", *options)
    assert done.exit_code == 0
    assert "2 SIMULATED recordings" in done.stdout
    assert open_dataset(folder).subjects == ("sim00005", "sim00006")
    checked = invoke("check", folder)
    assert checked.exit_code == 0
    assert "plain SIMULATED" in checked.stdout


def test_fetch_tells_what_cannot_be_fetched(tmp_path: Path) -> None:
    assert isinstance(invoke("fetch", "mass", "--to", tmp_path).exception, ConfigError)
    away = invoke("fetch", "ucddb", "--to", tmp_path, "--base-url", "http://127.0.0.1:9", "--retries", 0)
    assert isinstance(away.exception, SourceError)
