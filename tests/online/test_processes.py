"""Bad input, full disks and signals against the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pylsl
import pytest

from streamscore.record import read_run
from streamscore.recordings.base import read_recording
from tests.online.conftest import EPOCH_S, SFREQ, write_tiny_bundle
from tests.online.loop import make_outlet, noise
from tests.online.process import Running, streamscore, wait_until

EPOCH = round(EPOCH_S * SFREQ)


@pytest.fixture
def running() -> Iterator[list[Running]]:
    """Processes that are killed at the end, whatever happened."""
    made: list[Running] = []
    yield made
    for item in made:
        item.close()


def test_an_absent_stream_is_exit_code_4_and_lists_the_visible() -> None:
    outlet = make_outlet("the-other-amp")
    result = streamscore(
        "run", "--source", "lsl", "--name", "none-such", "--timeout-s", "1", "--bundle", "none", "-q"
    )
    assert result.returncode == 4
    assert "none-such" in result.stderr
    assert "the-other-amp" in result.stderr
    del outlet


def test_another_unit_is_exit_code_5(tiny_path: Path) -> None:
    name = f"volts-{uuid.uuid4().hex[:6]}"
    outlet = make_outlet(name, units=("V",))
    result = streamscore("run", "--source", "lsl", "--name", name, "-b", tiny_path, "-q", "--no-record")
    assert result.returncode == 5
    assert "unit of EEG: expected uV, got V" in result.stderr
    del outlet


def test_an_unknown_key_is_exit_code_3_with_file_and_line(tmp_path: Path) -> None:
    rig = tmp_path / "rig.yaml"
    rig.write_text("source: {kind: synthetic}\nbundle: null\ndeadlin_ms: 5\n")
    result = streamscore("run", "--config", rig, "-q")
    assert result.returncode == 3
    assert f"{rig}:3: unknown key 'deadlin_ms' (did you mean 'deadline_ms'?)" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_altered_bundle_is_exit_code_5(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "tiny.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x40
    path.write_bytes(content)
    result = streamscore("run", "--source", "synthetic", "-b", path, "-q", "--no-record")
    assert result.returncode == 5
    assert "altered" in result.stderr


def test_a_pickled_npz_is_exit_code_4_and_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(trap),))

    path = tmp_path / "evil.npz"
    np.savez(path, data=np.array([Trap()], dtype=object), sfreq=64.0)
    result = streamscore("score", path)
    assert result.returncode == 4
    assert "pickle" in result.stderr
    assert not trap.exists()


def test_a_truncated_edf_is_exit_code_4(tmp_path: Path) -> None:
    from edfio import Edf, EdfSignal

    path = tmp_path / "night.edf"
    Edf([EdfSignal(noise(6400)[:, 0], 64, label="EEG", physical_dimension="uV")]).write(path)
    path.write_bytes(path.read_bytes()[:-1000])
    result = streamscore("score", path)
    assert result.returncode == 4
    assert "night.edf" in result.stderr


def _synthetic_run(runs: Path) -> Running:
    return Running(
        "run", "--source", "synthetic", "--bundle", "none", "--hop-s", "0.5", "--record", runs, "-q",
        "--announce", "--endpoint", "tcp://127.0.0.1:*",
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_cleanly(number: signal.Signals, tmp_path: Path, running: list[Running]) -> None:
    running.append(_synthetic_run(tmp_path))
    folder = Path(running[0].wait_for("assembled")["run_folder"])
    log = folder / "events.jsonl"
    wait_until(lambda: log.is_file() and b'"posterior"' in log.read_bytes(), "an output on record")
    running[0].process.send_signal(number)
    assert running[0].end() == 0, running[0].text
    record = read_run(folder)
    assert record.events[-1]["type"] == "stop"
    assert record.events[-1]["reason"] == "stopped by request"
    assert record.run["end"] is not None
    assert record.n_damaged_lines == 0
    n = record.run["end"]["summary"]["counters"]["samples"]
    assert len(read_recording(record.raw_path).data) == n > 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("delay_s", [0.05, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 3.0])
def test_a_signal_at_any_moment_leaves_no_traceback(
    delay_s: float, tmp_path: Path, running: list[Running]
) -> None:
    running.append(_synthetic_run(tmp_path))
    with pytest.raises(subprocess.TimeoutExpired):
        running[0].process.wait(delay_s)
    running[0].process.send_signal(signal.SIGINT)
    code = running[0].end()
    text = "".join(running[0].text)
    # Before Python itself can listen, the signal ends the process as it would any other.
    assert code in (0, 130, -signal.SIGINT), text
    if delay_s > 0.3:
        assert "Traceback" not in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_event_log_is_announced_and_scoring_goes_on(
    tiny_path: Path, tmp_path: Path, running: list[Running]
) -> None:
    import zmq

    name = f"full-{uuid.uuid4().hex[:6]}"
    outlet = make_outlet(name)
    running.append(
        Running(
            "run", "--source", "lsl", "--name", name, "-b", tiny_path, "--record", tmp_path, "-q", "--announce",
            "--endpoint", "tcp://127.0.0.1:*",
        )
    )  # fmt: skip
    announced = running[0].wait_for("assembled")
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.setsockopt(zmq.RCVTIMEO, 20_000)
    socket.connect(announced["endpoint"])
    try:
        assert outlet.wait_for_consumers(30.0)
        log = Path(announced["run_folder"]) / "events.jsonl"
        wait_until(log.exists, "the event log")
        # What is in the open file is lost to us; from now on its disk is full.
        limit_file_size(running[0].process.pid, log.stat().st_size)
        t0_s, n = pylsl.local_clock(), 0
        notice, scored_after = None, 0
        while not (notice and scored_after > 5):
            data = noise(EPOCH, n)
            outlet.push_chunk(data, list(t0_s + (n + np.arange(EPOCH)) / SFREQ))
            n += EPOCH
            event = json.loads(socket.recv())
            if event["type"] == "notice" and event["level"] == "error":
                notice = event
            scored_after += notice is not None and event["type"] == "posterior" and event["valid"]
        assert "events.jsonl" in notice["text"] or "raw.xdf" in notice["text"]
    finally:
        socket.close(0)
    running[0].process.send_signal(signal.SIGINT)
    assert running[0].end() == 0, running[0].text


def limit_file_size(pid: int, n_bytes: int) -> None:
    """Let process `pid` write no file beyond `n_bytes`, as on a full disk (EFBIG)."""
    import resource

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def test_check_tells_right_from_wrong(tiny_path: Path, tmp_path: Path, running: list[Running]) -> None:
    name = f"check-{uuid.uuid4().hex[:6]}"
    path = tmp_path / "night.npz"
    np.savez(path, data=noise(6400), sfreq=SFREQ, channels=np.array(["C3-A2"]), units=np.array(["uV"]))
    running.append(Running("replay", path, "--name", name))
    running[0].wait_for("visible")
    rig = tmp_path / "rig.yaml"
    text = f"source: {{kind: lsl, name: {name}, channels: {{EEG: LABEL}}}}\nbundle: {tiny_path}\n"
    rig.write_text(text.replace("LABEL", "Cz"))
    wrong = streamscore("check", rig, "--listen-s", "0")
    assert wrong.returncode == 6
    assert "C3-A2" in wrong.stdout
    assert "WRONG" in wrong.stdout
    rig.write_text(text.replace("LABEL", "C3-A2"))
    right = streamscore("check", rig, "--listen-s", "2")
    assert right.returncode == 0, right.stdout + right.stderr
    assert "all" in right.stdout
    assert "WRONG" not in right.stdout


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "replay",
        "score",
        "check",
        "bench",
        "demo",
        "watch",
        "rig",
        "bundles",
        "schema",
        "camera",
        "register",
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    result = streamscore(command, "--help")
    assert result.returncode == 0
    assert "Usage: streamscore" in result.stdout
    assert "Exit codes" in result.stdout


def test_version_and_wrong_usage() -> None:
    from streamscore import __version__

    assert streamscore("--version").stdout.strip() == f"streamscore {__version__}"
    assert streamscore("run", "--no-such-option").returncode == 2
