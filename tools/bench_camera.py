"""Measure cameras: the whole way from a socket to an event, at a rig's pace, beside what it is made of.

``streamscore bench --cameras`` runs the engine in this process, fed by a camera in a process of its own over
ZeroMQ, while a bare timer loop in a third tells how long this machine stalls anybody. Random weights: what a
network costs does not depend on what it learnt.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zmq
from rich.console import Console

from streamscore.assemble import Assembly
from streamscore.camera.wire import encode
from streamscore.clock import LslClock
from streamscore.config import parse_rig
from streamscore.errors import LoopError
from streamscore.sources import zmq_frames

FOUR = ("fluorescence_470", "reflectance_523", "reflectance_595", "reflectance_640")
#: Frames that the camera sends in turn.
N_FRAMES = 64
#: An identity would be skipped by nobody, but a turn is what a rig has: five degrees about the middle.
TURN = [[0.9962, -0.0872, 5.81], [0.0872, 0.9962, -5.33]]


@dataclass(frozen=True)
class Case:
    """One kind of rig.

    Parameters
    ----------
    title
        In words.
    rate_hz, lights, shape
        Of the camera.
    model
        Network and its arguments.
    chain
        Steps before it.
    limit_ms
        What p99.9 of the latency should stay below.
    threads
        Of the network: of small ones two are no quicker than one, and wait for each other now and then.
    """

    title: str
    rate_hz: float
    lights: tuple[str, ...]
    shape: tuple[int, int]
    model: dict[str, Any]
    chain: tuple[dict[str, Any], ...]
    limit_ms: float
    threads: int = 1

    @property
    def sfreq(self) -> float:
        """Samples (cycles of all lights) a second."""
        return self.rate_hz / len(self.lights)


_END = ({"kind": "gaussian"}, {"kind": "affine", "matrix": TURN})
CASES = {
    "mesoscope": Case(
        "CNN-BiLSTM causal, 512 × 512 uint16 at 67.2 Hz, 4 lights → 128 × 128 at 16.8 Hz",
        67.2,
        FOUR,
        (512, 512),
        {"model": "cnn_bilstm", "model_args": {"variant": "causal"}},
        (
            {"kind": "dark_frame", "dark": 100.0},
            {"kind": "detrend", "warm_up_s": 5},
            {"kind": "haemoglobin", "method": "ratiometric", "warm_up_s": 5},
            {"kind": "global_signal", "warm_up_s": 5},
            *_END,
            {"kind": "pixel_normalise", "scale": "pixel", "warm_up_s": 5},
        ),
        59.5 / 2,
        threads=2,
    ),
    "run-rest": Case(
        "CNN-GRU causal, 128 × 128 uint16 at 30 Hz, one light",
        30.0,
        FOUR[:1],
        (128, 128),
        {"model": "efficientnet", "model_args": {"rnn": "gru", "variant": "causal"}},
        (
            {"kind": "dark_frame", "dark": 100.0},
            {"kind": "detrend", "warm_up_s": 5},
            {"kind": "delta_f", "warm_up_s": 5},
            *_END,
            {"kind": "pixel_normalise", "scale": "global", "warm_up_s": 5},
        ),
        1e3 / 30,
    ),
}


def rig_file(case: Case, endpoint: str) -> str:
    """Rig file of a case; JSON is YAML."""
    bundle = {
        **case.model, "channels": case.lights, "sfreq": case.sfreq, "preprocess": case.chain,
    }  # fmt: skip
    return json.dumps(
        {
            "source": {
                "kind": "zmq_frames", "endpoint": endpoint, "rate_hz": case.rate_hz, "lights": case.lights,
                "frame_shape": [128, 128], "timeout_s": 60, "stop_when_silent_s": 5,
            },
            "bundle": bundle, "threads": case.threads, "record": None, "sinks": [{"kind": "zmq_pub", "endpoint": "tcp://127.0.0.1:*"}],
        }
    )  # fmt: skip


@dataclass
class Parts:
    """Times in seconds, one a sample that was scored.

    ``latency`` runs from when the last frame of a sample was due to its event, ``handled`` from its arrival;
    ``chain`` and ``forward`` are what of that is preprocessing and network.
    """

    latency: list[float] = field(default_factory=list)
    handled: list[float] = field(default_factory=list)
    chain: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)


@dataclass
class Found:
    """What a case gave: its times, the deadlines missed, the stalls of a timer beside it."""

    case: Case
    seconds: float
    misses: int
    parts: Parts
    timer_s: np.ndarray[Any, np.dtype[np.float64]]
    counters: dict[str, int]

    @property
    def overhead_ms(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """What the engine adds to chain and forward, of each sample."""
        parts = self.parts
        handled, chain, forward = (np.array(x) for x in (parts.handled, parts.chain, parts.forward))
        n = min(map(len, (handled, chain, forward)))
        return 1e3 * (handled[-n:] - chain[-n:] - forward[-n:])


def timed(call: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    """Wrap `call` so that its times are kept."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        begin_s = time.perf_counter()
        result = call(*args, **kwargs)
        into.append(time.perf_counter() - begin_s)
        return result

    return wrapper


def messages(case: Case, seed: int = 0) -> Iterator[list[Any]]:
    """Noise under each light, as messages with exact times, without end; what it costs to send is not measured."""
    rng = np.random.default_rng(seed)
    level = 2000.0 * (1 + np.arange(N_FRAMES) % len(case.lights))
    frames = rng.normal(level[:, None, None], 40.0, (N_FRAMES, *case.shape)).astype(np.uint16)
    for k in itertools.count():
        yield encode(
            frames[k % N_FRAMES], frame=k, time_s=k / case.rate_hz, channel=case.lights[k % len(case.lights)]
        )


def be_camera(name: str, endpoint: str, seconds: float) -> None:
    """Send the frames of a case at its pace; the body of the camera's process."""
    case = CASES[name]
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, 1000)
    socket.connect(endpoint)
    clock = LslClock()
    t0_s = clock.now_s()
    for k, parts in enumerate(itertools.islice(messages(case), round(seconds * case.rate_hz))):
        clock.wait_s(t0_s + k / case.rate_hz - clock.now_s())
        socket.send_multipart(parts)
    socket.close(linger=2000)


def be_timer(period_s: float, seconds: float, output: Path) -> None:
    """Note how late a loop wakes that does nothing else; the body of the timer's process."""
    n = round(seconds / period_s)
    late_s = np.zeros(n)
    t0_s = time.perf_counter()
    for k in range(n):
        due_s = t0_s + (k + 1) * period_s
        time.sleep(max(due_s - time.perf_counter(), 0.0))
        late_s[k] = time.perf_counter() - due_s
    np.save(output, late_s)


@contextmanager
def _child(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "tools.bench_camera", *arguments])
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(10)


def measure(name: str, seconds: float) -> Found:
    """Run the engine for `seconds` at the pace of a case.

    Raises
    ------
    LoopError
        If fewer samples came than the camera sent.
    """
    case = CASES[name]
    endpoint = _free_endpoint()
    assembly = Assembly(parse_rig(rig_file(case, endpoint), "benchmark"))
    engine, parts, clock = assembly.engine, Parts(), LslClock()
    lane = engine._main
    opened = lane.open

    def open_and_watch() -> Any:
        info = opened()
        scorer: Any = lane._scorer
        scorer._chain.run = timed(scorer._chain.run, parts.chain)
        scorer.runner.step = timed(scorer.runner.step, parts.forward)
        return info

    lane.open = open_and_watch  # type: ignore[method-assign]
    decided = lane._decide

    def decide(posterior: Any, due_s: float, received_s: float) -> None:
        decided(posterior, due_s, received_s)
        if posterior.valid:
            now_s = clock.now_s()
            parts.handled.append(now_s - received_s)
            parts.latency.append(now_s - due_s)

    lane._decide = decide  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        late = Path(folder) / "late.npy"
        with (
            _child("timer", str(1 / case.sfreq), str(seconds), str(late)) as timer,
            _child("camera", name, endpoint, str(seconds + 10)) as camera,
        ):
            summary = engine.run(threading.Event())
            camera.wait(60)
            timer.wait(60)
        timer_s = np.load(late)
    if summary.posteriors < 0.9 * seconds * case.sfreq:
        raise LoopError(
            f"{name}: {summary.posteriors} outputs in {seconds:g} s at {case.sfreq:g} Hz: frames were lost; this "
            "machine is too busy or too slow for this rig"
        )
    return Found(case, seconds, summary.misses, parts, timer_s, summary.counters)


def _free_endpoint() -> str:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    socket.bind("tcp://127.0.0.1:*")
    endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    socket.close(linger=0)
    return endpoint


def ingest(shape: tuple[int, int], frame_shape: tuple[int, int] | None, seconds: float) -> float:
    """Megabytes of frames a second that a source takes from a socket into samples."""
    case = Case("", 67.2, FOUR, shape, {}, (), 0.0)
    config = zmq_frames.Config(
        endpoint="tcp://127.0.0.1:*", rate_hz=67.2, lights=FOUR, frame_shape=frame_shape, high_water_mark=64
    )
    source = zmq_frames.build(config, LslClock())
    stop = threading.Event()

    def send(endpoint: str) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        socket.setsockopt(zmq.SNDHWM, 64)
        socket.setsockopt(zmq.SNDTIMEO, 200)
        socket.connect(endpoint)
        for parts in messages(case):
            while not stop.is_set():
                try:
                    socket.send_multipart(parts, copy=False)
                    break
                except zmq.Again:
                    continue
            if stop.is_set():
                break
        socket.close(linger=0)

    source._socket = source._make_socket()
    endpoint, source._make_socket = source.endpoint, lambda: source._socket  # type: ignore[assignment,return-value]
    thread = threading.Thread(target=send, args=(endpoint,), daemon=True)
    thread.start()
    source.open(None)
    source.begin()
    n_cycles, begin_s = 0, time.perf_counter()
    while time.perf_counter() - begin_s < seconds:
        chunk = source.read(0.1)
        n_cycles += 0 if chunk is None else len(chunk.data)
    took_s = time.perf_counter() - begin_s
    stop.set()
    source.close()
    thread.join(5)
    return n_cycles * len(FOUR) * shape[0] * shape[1] * 2 / took_s / 1e6


def percentiles(values_ms: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """p50, p99, p99.9 and maximum in words."""
    p50, p99, p999 = np.percentile(values_ms, (50, 99, 99.9))
    return f"{p50:.2f} | {p99:.2f} | {p999:.2f} | {values_ms.max():.2f}"


def report(found: list[Found], rates: dict[str, float]) -> str:
    """The tables as Markdown."""
    lines = [
        f"Measured {time.strftime('%Y-%m-%d')} on {platform.machine()}, torch {torch.__version__}; milliseconds.",
        "",
    ]
    for one in found:
        latency, chain, forward = (
            1e3 * np.array(x) for x in (one.parts.latency, one.parts.chain, one.parts.forward)
        )
        late_ms = 1e3 * one.timer_s
        budget_ms, limit_ms = 1e3 / one.case.sfreq, one.case.limit_ms
        verdict = "met" if np.percentile(latency, 99.9) < limit_ms else "MISSED"
        stalls = int((late_ms > budget_ms / 2).sum())
        lines += [
            f"### {one.case.title}",
            "",
            f"{one.seconds:g} s at the camera's pace, {len(latency)} scored samples, {one.case.threads} threads.",
            "",
            "| | p50 | p99 | p99.9 | max |",
            "|---|---|---|---|---|",
            f"| frame → event | {percentiles(latency)} |",
            f"| chain | {percentiles(chain)} |",
            f"| network | {percentiles(forward)} |",
            f"| engine beside these two | {percentiles(one.overhead_ms)} |",
            f"| a bare timer loop wakes late by | {percentiles(late_ms)} |",
            "",
            f"Target: p99.9 below {limit_ms:.1f} ms: {verdict}. Deadline of {budget_ms:.1f} ms missed "
            f"{one.misses} times; the timer loop woke later than half of it {stalls} times. Samples lost: "
            f"{one.counters.get('missing_samples', 0)}.",
            "",
        ]
    lines += [
        "| ingest alone | MB/s |",
        "|---|---|",
        *(f"| {what} | {rate:.0f} |" for what, rate in rates.items()),
    ]
    return "\n".join(lines) + "\n"


def run(console: Console, output: Path | None, seconds: float, only: str | None = None) -> str:
    """Measure all, print, and write ``cameras.md`` to `output`."""
    rates = {
        "512 × 512 uint16 → 128 × 128": ingest((512, 512), (128, 128), min(seconds, 5.0)),
        "512 × 512 uint16, not reduced": ingest((512, 512), None, min(seconds, 5.0)),
    }
    found = []
    for name in CASES:
        if only in (None, name):
            console.print(f"{CASES[name].title}: {seconds:g} s")
            found.append(measure(name, seconds))
    text = report(found, rates)
    console.print(text)
    folder = output or Path("bench-results")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.md").write_text(text, encoding="utf-8")
    console.print(f"wrote {folder / 'cameras.md'}", soft_wrap=True)
    return text


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):  # threads that are pinned hand that down to what they start
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    role, *rest = sys.argv[1:]
    if role == "camera":
        be_camera(rest[0], rest[1], float(rest[2]))
    else:
        be_timer(float(rest[0]), float(rest[1]), Path(rest[2]))
