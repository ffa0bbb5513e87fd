"""The four measurements: latency without a network, latency with one, CPU, memory.

Each starts its processes, lets them run, and returns what was measured. Compared things alternate in time in the
same run, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from streamscore.errors import LoopError
from tools.bench_engine import EngineOptions, EngineTimes, Floats, score
from tools.bench_roles import PAUSE_S, Child, PlayOptions, PushOptions, listen, play, pull, push

#: Beginning of each block that does not count: caches and clock speed settle.
SKIP_S = 0.25
#: Processes start within this time, even on a machine that is busy.
START_S = 90.0
SINKS = ({"kind": "zmq_pub", "endpoint": "tcp://127.0.0.1:*"}, {"kind": "lsl_out", "name": "bench"})
#: A busy machine holds the pusher up, too; that must not pass for lost samples or a wrong rate.
LENIENT = {"jitter_tolerance_s": 0.5, "rate_tolerance": 0.4}
N_CHANNELS, SFREQ = 8, 256.0
#: The chain and the network need 60 s and 30 s of stream before the first output.
PREFILL_S = 95.0


@dataclass(frozen=True)
class Bench:
    """Where the benchmark works.

    Parameters
    ----------
    folder
        For records and bundles; on the disk that records will be on.
    lsl_config
        Keeps LSL on this machine.
    """

    folder: Path
    lsl_config: Path

    def rig(self, source: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Content of a rig file with the sinks that ship, on ports of their own."""
        return {"source": source, "sinks": SINKS, "record": self.folder / "runs", "timebase": LENIENT, **changes}


@dataclass(frozen=True)
class Latency:
    """Latencies in ms from the stamp that precedes the push, one list a block.

    Parameters
    ----------
    floor
        Until a bare pull loop had the sample.
    published, received
        Until the engine's sinks had written the event, and until a subscriber had it.
    stages
        Parts of `published` by name, all blocks together.
    engine
        The engine's own summary.
    clock_offset_ms
        Between the pusher's stamps and the engine's idea of them; 0 on one host, but for liblsl's measurement.
    """

    floor: list[Floats]
    published: list[Floats]
    received: list[Floats]
    stages: dict[str, Floats]
    engine: dict[str, float]
    clock_offset_ms: float


def latency(bench: Bench, n_pairs: int, block_s: float) -> Latency:
    """Feed a bare loop and the engine in turn, `n_pairs` times `block_s` each, an output a sample."""
    name = f"bench-{secrets.token_hex(4)}"
    names = (f"{name}-floor", f"{name}-engine")
    rig = bench.rig(
        {"kind": "lsl", "name": names[1]},
        bundle=None,
        hop_s=1.0 / SFREQ,
        stall_s=3600.0,  # the other one's turn is no stall
    )
    options = PushOptions(names, ((0, block_s), (1, block_s)) * n_pairs, N_CHANNELS, SFREQ)
    with ExitStack() as stack:
        pusher = stack.enter_context(Child(push, options, bench.lsl_config))
        pusher.hear(START_S)
        engine = stack.enter_context(Child(score, EngineOptions(rig), bench.lsl_config))
        floor = stack.enter_context(Child(pull, names[0], bench.lsl_config))
        listener = stack.enter_context(Child(listen, engine.hear(START_S), bench.lsl_config))
        for child in (floor, listener, engine):
            child.hear(START_S)
        pusher.tell("go")
        stamps_s: list[Floats] = pusher.hear(2 * n_pairs * (block_s + PAUSE_S) + START_S)
        floor_stamps_s, floor_arrived_s = floor.stop()
        received_s = listener.stop()
        times: EngineTimes = engine.stop()
        pusher.tell("end")
    floor_s, engine_s = np.concatenate(stamps_s[::2]), np.concatenate(stamps_s[1::2])
    _expect_all("the bare loop", len(floor_stamps_s), len(floor_s))
    _expect_all("the engine", len(times.published_s), len(engine_s))
    _expect_all("the subscriber", len(received_s), len(engine_s))
    sizes, skip = [len(block) for block in stamps_s], round(SKIP_S * SFREQ)
    stages = {
        "transport": times.received_s - engine_s,
        "score": times.scored_s - times.received_s,
        "publish": times.published_s - times.scored_s,
    }
    return Latency(
        floor=_blocks_ms(floor_arrived_s - floor_s, sizes[::2], skip),
        published=_blocks_ms(times.published_s - engine_s, sizes[1::2], skip),
        received=_blocks_ms(received_s - engine_s, sizes[1::2], skip),
        stages={key: np.concatenate(_blocks_ms(values, sizes[1::2], skip)) for key, values in stages.items()},
        engine=times.summary.latency_ms,
        clock_offset_ms=1e3 * float(np.median(times.newest_s - engine_s)),
    )


def _expect_all(who: str, got: int, sent: int) -> None:
    if got != sent:
        raise LoopError(f"bench: {who} saw {got} of {sent} samples; run it again on a quieter machine")


def _blocks_ms(values_s: Floats, sizes: list[int], skip: int) -> list[Floats]:
    """Cut into blocks of `sizes`, without the first `skip` of each."""
    return [1e3 * block[skip:] for block in np.split(values_s, np.cumsum(sizes)[:-1])]


@dataclass(frozen=True)
class Cpu:
    """Use of the processor by one process, all threads, in percent of one core and times a second."""

    percent: float
    wakeups_hz: float
    preempted_hz: float
    duration_s: float


def measure_cpu(pid: int, duration_s: float) -> Cpu:
    """Watch process `pid` for `duration_s`."""
    process = psutil.Process(pid)
    begin_s, before, switches = time.perf_counter(), process.cpu_times(), _context_switches(process)
    time.sleep(duration_s)
    wall_s = time.perf_counter() - begin_s
    after, switched = process.cpu_times(), _context_switches(process)
    used_s = after.user + after.system - before.user - before.system
    voluntary, involuntary = (b - a for a, b in zip(switches, switched, strict=True))
    return Cpu(100 * used_s / wall_s, voluntary / wall_s, involuntary / wall_s, wall_s)


def _context_switches(process: psutil.Process) -> tuple[int, int]:
    """Voluntary and involuntary ones, of all threads where the system tells (psutil reads the main thread's)."""
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.is_dir():
        switches = process.num_ctx_switches()
        return switches.voluntary, switches.involuntary
    totals = [0, 0]
    for task in tasks.iterdir():
        lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        totals[0] += int(lines["voluntary_ctxt_switches"])
        totals[1] += int(lines["nonvoluntary_ctxt_switches"])
    return totals[0], totals[1]


@dataclass(frozen=True)
class Model:
    """Latencies in ms with a network, and those of the bare network in the same thread, in turn.

    Parameters
    ----------
    published
        From the stamp that precedes the push to the last sink's write.
    handled
        From the sample being in the process to the last sink's write.
    bare
        ``model(x, state)`` alone.
    """

    published: Floats
    handled: Floats
    bare: Floats


@dataclass(frozen=True)
class Paced:
    """A run at the pace of a rig."""

    model: Model
    busy: Cpu
    idle: Cpu


def paced(bench: Bench, bundle: Path, cpu_s: float, latency_s: float, idle_s: float) -> Paced:
    """One output a second from 8 channels at 256 Hz: first CPU alone, then latencies, then silence."""
    name = f"bench-{secrets.token_hex(4)}"
    rig = bench.rig(
        {"kind": "lsl", "name": name, "channels": {"EEG": "ch1"}}, bundle=str(bundle), hop_s=1.0, stall_s=3600.0
    )
    settle_s = 4.0  # so that the prefill's outputs are done before the CPU is watched
    quiet_s = settle_s + cpu_s + 1.0
    n_quiet = round(PREFILL_S + quiet_s)
    pushed = PushOptions((name,), ((0, quiet_s + latency_s),), N_CHANNELS, SFREQ, PREFILL_S)
    with ExitStack() as stack:
        pusher = stack.enter_context(Child(push, pushed, bench.lsl_config))
        pusher.hear(START_S)
        options = EngineOptions(rig, bare_gap_s=0.5, bare_from=n_quiet)
        engine = stack.enter_context(Child(score, options, bench.lsl_config))
        listener = stack.enter_context(Child(listen, engine.hear(START_S), bench.lsl_config))
        for child in (listener, engine):
            child.hear(START_S)
        pusher.tell("go")
        time.sleep(PAUSE_S + settle_s)
        busy = measure_cpu(engine.pid, cpu_s)
        pusher.hear(latency_s + START_S)
        idle = measure_cpu(engine.pid, idle_s)
        listener.stop()
        times: EngineTimes = engine.stop()
        pusher.tell("end")
    return Paced(_model(times, n_quiet), busy, idle)


def sped_up(bench: Bench, bundle: str, sfreq: float, duration_s: float, speed: float) -> Model:
    """One output a stream second from a replay `speed` times as fast, for `duration_s` of wall time."""
    name = f"bench-{secrets.token_hex(4)}"
    played = PlayOptions(name, sfreq, duration_s * speed + PREFILL_S, speed)
    rig = bench.rig({"kind": "lsl", "name": name}, bundle=bundle, hop_s=1.0)
    with ExitStack() as stack:
        player = stack.enter_context(Child(play, played, bench.lsl_config))
        player.hear(START_S)
        options = EngineOptions(rig, bare_gap_s=0.5 / speed, bare_from=round(PREFILL_S))
        engine = stack.enter_context(Child(score, options, bench.lsl_config))
        listener = stack.enter_context(Child(listen, engine.hear(START_S), bench.lsl_config))
        player.tell("go")
        for child in (listener, engine):
            child.hear(START_S)
        player.hear(played.duration_s / speed + START_S)
        listener.stop()
        times: EngineTimes = engine.stop()
        player.tell("end")
    return _model(times, round(PREFILL_S))


def _model(times: EngineTimes, first: int) -> Model:
    live = times.is_valid & (np.arange(len(times.is_valid)) >= first)
    if not live.any() or not len(times.bare_s):
        raise LoopError("bench: the network made no output; run it again on a quieter machine")
    return Model(
        published=1e3 * (times.published_s - times.newest_s)[live],
        handled=1e3 * (times.published_s - times.received_s)[live],
        bare=1e3 * times.bare_s,
    )


@dataclass(frozen=True)
class Memory:
    """Resident memory in MB over stream time in hours, after warm-up."""

    t_h: Floats
    rss_mb: Floats
    n_outputs: int
    wall_s: float

    @property
    def settled_mb(self) -> Floats:
        """Resident memory after the first tenth, in which caches fill."""
        return self.rss_mb[self.t_h >= self.t_h[-1] / 10]

    @property
    def slope_mb_per_h(self) -> float:
        """Slope of the line through all but the first tenth."""
        return float(np.polyfit(self.t_h[-len(self.settled_mb) :], self.settled_mb, 1)[0])


def memory(bench: Bench, bundle: str, sfreq: float, duration_h: float) -> Memory:
    """Run the whole engine on a virtual clock, as fast as it can, with record, sinks and a subscriber."""
    source = {
        "kind": "synthetic", "sfreq": sfreq, "duration_s": 3600 * duration_h, "speed": 0.0, "chunk_s": 1.0
    }  # fmt: skip
    rig = bench.rig(source, bundle=bundle, hop_s=1.0)
    with ExitStack() as stack:
        options = EngineOptions(rig, is_virtual=True, rss_every=30)
        engine = stack.enter_context(Child(score, options, bench.lsl_config))
        listener = stack.enter_context(Child(listen, engine.hear(START_S), bench.lsl_config))
        listener.hear(START_S)
        engine.tell("go")
        engine.hear(START_S)
        begin_s = time.perf_counter()
        times: EngineTimes = engine.hear(60 * duration_h + START_S)
        wall_s = time.perf_counter() - begin_s
        listener.stop()
    return Memory(times.rss_t_s / 3600, times.rss_mb, times.summary.posteriors, wall_s)
