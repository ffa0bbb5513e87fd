"""Scoring a file offline, side by side with YASA on the same file in the same run.

``streamscore bench --score``. *Cold* is a whole command: a new process, from its start to its end, with imports,
the check of the bundle's golden vectors, reading, scoring and writing. *Warm* is the same work again in a process
that has done it once. The two sides take turns, so that a machine that is busy is busy for both.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from edfio import Edf, EdfSignal
from rich.console import Console

from streamscore.bundle import DEFAULT_BUNDLE
from streamscore.errors import ConfigError, LoopError
from streamscore.recordings.base import Recording, read_recording
from streamscore.score import score_command
from streamscore.simulate import simulate
from tools import yasa_night
from tools.bench_report import Check, Distribution, Report

DEFAULT_FOLDER = Path("bench-results")
#: Longest time of one command.
TIMEOUT_S = 900.0
#: Runs a command and says its highest resident memory in kB; a process of its own, because the memory of whoever
#: starts a program counts as the program's until it has begun.
_TELL_MEMORY = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""

OURS, YASA = "streamscore score", "YASA"
AS_GIVEN, EVERY_SECOND, OUR_YASA = "streamscore, file as given", "streamscore, hop 1 s", "streamscore, bundle yasa"
MOUSE = "24 h of mouse EEG and EMG at 200 Hz, 10-s epochs"

METHOD = """\
One night, one channel. Both sides read the same EDF file, which is written before anything is timed, and write a
hypnogram. *Cold* is a whole command, from the start of a new process to its end (for YASA: `import mne, yasa`,
`read_raw_edf`, `SleepStaging(raw, eeg_name="EEG").predict()`, one stage a line written). *Warm* is the same work
in a process that has done it once, files read and bundle loaded anew each time; modules, and what YASA's libraries
compiled, are there already. The sides take turns. The rows beside the two are for information: the file as it was
given; an output every second instead of every epoch (30 times the work); YASA's classifier in our engine, epoch
by epoch."""


@dataclass(frozen=True)
class Plan:
    """How often each part is run, and how long the mouse is.

    Parameters
    ----------
    n_cold, n_warm
        Turns of both sides; one warm turn more goes before, untimed.
    n_beside
        Runs of what stands beside.
    mouse_h
        Hours of the mouse.
    """

    n_cold: int
    n_warm: int
    n_beside: int
    mouse_h: float


FULL = Plan(n_cold=7, n_warm=15, n_beside=3, mouse_h=24.0)
QUICK = Plan(n_cold=1, n_warm=2, n_beside=1, mouse_h=0.5)


def run(console: Console, output: Path | None, quick: bool, recording: Path | None = None) -> Report:
    """Measure, write ``bench-score.md`` and ``.json`` to `output`, and print the tables.

    Parameters
    ----------
    console
        Where progress and tables go.
    output
        Folder, :data:`DEFAULT_FOLDER` by default.
    quick
        A few runs; figures are rough.
    recording
        The night: a recording that the default bundle scores. A simulated one of seven hours without.

    Raises
    ------
    ConfigError
        If YASA is not installed.
    LoopError
        If a command that is timed fails.
    """
    if importlib.util.find_spec("yasa") is None:
        raise ConfigError(
            'bench --score compares with YASA, which is not installed; pip install "streamscore[yasa]"'
        )
    folder = output or DEFAULT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as scratch:
        report = measure(console, Path(scratch), QUICK if quick else FULL, recording, is_quick=quick)
    report.show(console)
    for path in report.write(folder):
        console.print(f"wrote {path}", soft_wrap=True)
    return report


def measure(console: Console, scratch: Path, plan: Plan, recording: Path | None, *, is_quick: bool) -> Report:
    """Carry out `plan`; `scratch` takes what is written."""
    report = Report(is_quick, name="bench-score", method=METHOD)
    night = _night(recording)
    given = recording or _write_npz(night, scratch / "night.npz")
    edf = _write_edf(night, scratch / "night-as-edf.edf")
    yasa_rig = _write_rig(scratch / "yasa.yaml", {"model": "yasa", "sfreq": night.sfreq})
    report.facts["night"] = f"{night.name}, {night.duration_s / 3600:.2f} h, 1 channel at {night.sfreq:g} Hz"
    report.facts["bundle"] = DEFAULT_BUNDLE
    report.facts["CPU threads"] = os.environ.get("OMP_NUM_THREADS", "as the libraries choose")

    console.print(f"1 of 4: {plan.n_cold} whole commands of both sides")
    out = scratch / "out"
    ours = {
        OURS: _score(edf, out),
        YASA: [sys.executable, "-m", "tools.yasa_night", str(edf), str(scratch / "yasa.csv")],
    }
    report.distributions["Whole command"] = _of(take_turns(ours, plan.n_cold))
    console.print("2 of 4: beside them")
    beside = {
        AS_GIVEN: _score(given, out),
        EVERY_SECOND: _score(edf, out, "--hop-s", "1"),
        OUR_YASA: _score(edf, out, "--bundle", str(yasa_rig)),
    }
    report.distributions["Whole command, for information"] = _of(take_turns(beside, plan.n_beside))
    console.print(f"3 of 4: {plan.n_warm} times in warm processes")
    warm = {
        OURS: partial(_score_here, edf, out),
        YASA: partial(yasa_night.stage, edf, scratch / "yasa.csv"),
        AS_GIVEN: partial(_score_here, given, out),
    }
    report.distributions["Warm process"] = _of(take_warm_turns(warm, plan.n_warm))
    for part in ("Whole command", "Warm process"):
        rows = report.distributions[part]
        mine, theirs = rows[OURS], rows[YASA]
        ratio = mine.p50_ms / theirs.p50_ms
        note = f"p50 / p50, {mine.n} runs of each in turn; p99 / p99 {mine.p99_ms / theirs.p99_ms:.2f}"
        report.checks.append(Check(f"{part.lower()}, share of YASA's time", ratio, "", 1.0, note))
    console.print(f"4 of 4: a mouse, {plan.mouse_h:g} h")
    _add_mouse(report, scratch, plan)
    return report


def take_turns(commands: Mapping[str, Sequence[str]], n: int) -> dict[str, list[float]]:
    """Run each command `n` times in turn; return the times from start to end in ms."""
    times_ms: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(n):
        for name, command in commands.items():
            times_ms[name].append(1e3 * timed(command)[0])
    return times_ms


def timed(command: Sequence[str]) -> tuple[float, str]:
    """Run a command; return its time from start to end in s, and what it said.

    Raises
    ------
    LoopError
        If it fails; quotes what it said last.
    """
    begin_s = time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S
    )
    duration_s = time.perf_counter() - begin_s
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise LoopError(f"{' '.join(command)} ended with {done.returncode}; it said: {said[-2000:]}")
    return duration_s, said


def take_warm_turns(works: Mapping[str, Callable[[], object]], n: int) -> dict[str, list[float]]:
    """Do each work once untimed and `n` times timed, in turn, each in a process of its own; return ms."""
    context = multiprocessing.get_context("spawn")
    times_ms: dict[str, list[float]] = {name: [] for name in works}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(ProcessPoolExecutor(1, context)) for name in works}
        for k in range(-1, n):
            for name, work in works.items():
                took_s = workers[name].submit(yasa_night.duration_s, work).result(TIMEOUT_S)
                if k >= 0:
                    times_ms[name].append(1e3 * took_s)
    return times_ms


def _score_here(file: Path, out: Path) -> None:
    score_command(file, None, None, None, None, out)


def _score(file: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "streamscore", "score", str(file), "--output", str(out), *options]


def _add_mouse(report: Report, scratch: Path, plan: Plan) -> None:
    """Add a long recording of another species, with its memory."""
    file = _write_npz(simulate("mouse", plan.mouse_h * 3600, sfreq=200.0), scratch / "mouse.npz")
    network = {
        "model": "tinysleepnet",
        "model_args": {"sfreq": 200.0, "n_channels": 2, "n_classes": 3, "epoch_s": 10.0},
        "preprocess": [{"kind": "bandpass", "low_hz": 0.5, "high_hz": 60.0}, {"kind": "normalise"}],
        "vocabulary": "MOUSE3",
        "sfreq": 200.0,
        "channels": ["EEG", "EMG"],
    }
    rig = _write_rig(scratch / "mouse.yaml", network)
    command = [sys.executable, "-c", _TELL_MEMORY, *_score(file, scratch / "out", "--bundle", str(rig))]
    found = [timed(command) for _ in range(plan.n_beside)]
    name = f"{MOUSE}: TinySleepNet as published, random weights"
    rows = Distribution.of(np.array([1e3 * duration_s for duration_s, _ in found]))
    report.distributions["Whole command, a long recording"] = {name: rows}
    note = f"whole command, p50 of {rows.n}; {plan.mouse_h:g} h simulated"
    report.checks.append(Check("24 h of a mouse", rows.p50_ms / 1e3 * 24.0 / plan.mouse_h, "s", 20.0, note))
    size_mb = file.stat().st_size / 1e6
    report.facts["mouse: file (MB)"] = size_mb
    report.facts["mouse: highest resident memory (MB)"] = max(int(said.split()[-1]) for _, said in found) / 1024


def _of(times_ms: Mapping[str, Sequence[float]]) -> dict[str, Distribution]:
    return {name: Distribution.of(np.array(values)) for name, values in times_ms.items()}


def _night(recording: Path | None) -> Recording:
    return simulate("human", 7 * 3600.0, sfreq=128.0) if recording is None else read_recording(recording)


def _write_edf(night: Recording, path: Path) -> Path:
    """Write the EEG; what a gap separates is joined, the same for both sides."""
    eeg = night.data[:, night.channels.index("EEG")].astype(np.float64)
    Edf([EdfSignal(eeg, night.sfreq, label="EEG", physical_dimension="uV")]).write(path)
    return path


def _write_npz(recording: Recording, path: Path) -> Path:
    np.savez(path, data=recording.data, sfreq=recording.sfreq, channels=recording.channels, unit="uV")
    return path


def _write_rig(path: Path, bundle: Mapping[str, object]) -> Path:
    path.write_text(yaml.safe_dump({"source": {"kind": "noise"}, "bundle": dict(bundle)}), encoding="utf-8")
    return path
