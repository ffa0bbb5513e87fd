"""The benchmark of scoring takes turns and times what it says; how fast the machine is, is not tested."""

from __future__ import annotations

import importlib.util
import io
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from streamscore.bundle import load_bundle
from streamscore.errors import ConfigError, LoopError
from streamscore.recordings.base import read_recording
from streamscore.score import score_file
from streamscore.simulate import simulate
from tools import bench_score as bench
from tools.bench_report import Report


def _append(path: Path, text: str) -> list[str]:
    """A command that writes `text` and the number of its process behind what is in `path`."""
    return [sys.executable, "-S", "-c", f"import os; open({str(path)!r}, 'a').write('{text} %d\\n' % os.getpid())"]


def test_whole_commands_take_turns_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    times_ms = bench.take_turns({"a": _append(log, "a"), "b": _append(log, "b")}, 2)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, _ in lines] == ["a", "b", "a", "b"]
    assert len({pid for _, pid in lines}) == 4
    assert {name: len(values) for name, values in times_ms.items()} == {"a": 2, "b": 2}
    assert min(times_ms["a"] + times_ms["b"]) > 0


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(LoopError, match=r"ended with 3; it said: no night here"):
        bench.timed([sys.executable, "-S", "-c", "print('no night here'); raise SystemExit(3)"])


def test_warm_work_is_done_once_before_it_is_timed(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("a", "b")}
    for folder in folders.values():
        folder.mkdir()
    works = {name: partial(tempfile.mkdtemp, dir=folder) for name, folder in folders.items()}
    times_ms = bench.take_warm_turns(works, 3)
    assert {name: len(values) for name, values in times_ms.items()} == {"a": 3, "b": 3}
    assert {name: len(list(folder.iterdir())) for name, folder in folders.items()} == {"a": 4, "b": 4}


def test_both_sides_are_given_the_eeg_of_the_night(tmp_path: Path) -> None:
    night = simulate("human", 180.0, sfreq=128.0)
    edf = read_recording(bench._write_edf(night, tmp_path / "night.edf"))
    assert (edf.channels, edf.sfreq) == (("EEG",), 128.0)
    eeg = night.data[:, night.channels.index("EEG")]
    assert np.abs(edf.data[:, 0] - eeg).max() < np.ptp(eeg) / 2**15
    bundle = load_bundle("default")
    given = score_file(bench._write_npz(night, tmp_path / "night.npz"), bundle).hypnogram
    assert score_file(tmp_path / "night.edf", bundle).hypnogram.states == given.states


def test_the_mouse_is_timed_with_its_memory(tmp_path: Path) -> None:
    report = Report(is_quick=True)
    bench._add_mouse(report, tmp_path, bench.Plan(n_cold=1, n_warm=1, n_beside=1, mouse_h=0.05))
    (rows,) = report.distributions["Whole command, a long recording"].values()
    assert rows.n == 1
    (check,) = report.checks
    assert check.value == pytest.approx(rows.p50_ms / 1e3 * 24 / 0.05)
    assert 50 < float(report.facts["mouse: highest resident memory (MB)"]) < 2000
    states = (tmp_path / "out" / "mouse-hypnogram.csv").read_text().splitlines()
    assert len(states) == 1 + 18


def test_without_yasa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"streamscore\[yasa\]"):
        bench.run(Console(file=io.StringIO()), tmp_path, quick=True)
