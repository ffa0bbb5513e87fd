"""Measure the real path beside its floor, in one run: latency, CPU and memory.

``streamscore bench`` starts the engine that ships in a process of its own, with sinks, record and a subscriber,
and feeds it over LSL from another. What it is compared with (a bare pylsl loop, the bare network) alternates with
it in time, so that a machine that is busy is busy for both. Everything stays on this machine's loopback.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console

from streamscore.bundle import DEFAULT_BUNDLE, load_bundle, shipped_bundles
from tools import bench_parts as parts
from tools.bench_engine import make_untrained
from tools.bench_report import Check, Distribution, Report
from tools.loopback import LOOPBACK

#: Where the tables go unless told otherwise.
DEFAULT_FOLDER = Path("bench-results")


@dataclass(frozen=True)
class Plan:
    """How long each part takes.

    Parameters
    ----------
    n_pairs, block_s
        Blocks of the bare loop and of the engine, in turn.
    cpu_s, paced_s, idle_s
        CPU, latencies and silence with a network at a rig's pace.
    sped_up_s, speed
        Replay at a multiple of that pace.
    memory_h
        Stream time of the memory run.
    """

    n_pairs: int
    block_s: float
    cpu_s: float
    paced_s: float
    idle_s: float
    sped_up_s: float
    speed: float
    memory_h: float


FULL = Plan(n_pairs=6, block_s=6, cpu_s=30, paced_s=40, idle_s=10, sped_up_s=30, speed=20, memory_h=12)
QUICK = Plan(n_pairs=2, block_s=1.5, cpu_s=3, paced_s=3, idle_s=1, sped_up_s=1, speed=40, memory_h=0.1)


def run(console: Console, output: Path | None, quick: bool) -> Report:
    """Measure, write ``bench.md`` and ``bench.json`` to `output`, and print the tables.

    Parameters
    ----------
    console
        Where progress and tables go.
    output
        Folder, :data:`DEFAULT_FOLDER` by default.
    quick
        Less than a minute instead of about six; figures are rough.

    Raises
    ------
    LoopError
        If a process of the benchmark failed or samples were lost.
    """
    folder = output or DEFAULT_FOLDER
    report = measure(console, folder, QUICK if quick else FULL, is_quick=quick)
    report.show(console)
    for path in report.write(folder):
        console.print(f"wrote {path}", soft_wrap=True)
    return report


def measure(console: Console, folder: Path, plan: Plan, *, is_quick: bool) -> Report:
    """Carry out `plan`; `folder` names the disk that records are written to meanwhile."""
    report = Report(is_quick)
    begin_s = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    load_before = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as scratch:
        bench = parts.Bench(Path(scratch), Path(scratch) / "lsl_api.cfg")
        bench.lsl_config.write_text(LOOPBACK, encoding="utf-8")
        untrained = Path(scratch) / "untrained-256.safetensors"
        make_untrained(untrained, parts.SFREQ)
        bundle = DEFAULT_BUNDLE
        if bundle not in shipped_bundles():
            bundle = str(Path(scratch) / "untrained-100.safetensors")
            make_untrained(Path(bundle), 100.0)
        spec = load_bundle(bundle).spec
        report.facts["bundle of the replay and of the memory run"] = spec.name
        console.print("1 of 4: latency without a network, in turn with a bare loop")
        add_latency(report, parts.latency(bench, plan.n_pairs, plan.block_s))
        console.print("2 of 4: latency and CPU with TinySleepNet at the pace of a rig")
        add_paced(report, parts.paced(bench, untrained, plan.cpu_s, plan.paced_s, plan.idle_s))
        console.print(f"3 of 4: latency with TinySleepNet, replay at speed {plan.speed:g}")
        model = parts.sped_up(bench, bundle, spec.sfreq, plan.sped_up_s, plan.speed)
        add_model(report, f"replay at speed {plan.speed:g}", model)
        console.print(f"4 of 4: memory over {plan.memory_h:g} simulated hours")
        add_memory(report, parts.memory(bench, bundle, spec.sfreq, plan.memory_h))
    report.facts["load average before"] = load_before
    report.facts["duration of the benchmark (s)"] = time.perf_counter() - begin_s
    return report


def add_latency(report: Report, found: parts.Latency) -> None:
    """Add the part without a network."""
    floor, published, received = (Distribution.of(x) for x in (found.floor, found.published, found.received))
    report.distributions[
        "No network: 8 channels, 256 Hz, one output a sample; since the stamp before the push"
    ] = {
        "floor: bare pylsl loop has the sample": floor,
        "engine: event written by all sinks": published,
        "subscriber (ZeroMQ) has the event": received,
        **{f"engine, stage {name}": Distribution.of(values) for name, values in found.stages.items()},
    }
    note = f"push → published, {published.n} samples; {len(found.floor)} blocks of each in turn"
    report.checks += [
        Check("no network, p50 above bare loop", published.p50_ms - floor.p50_ms, "ms", 0.2, note),
        Check("no network, p99 above bare loop", published.p99_ms - floor.p99_ms, "ms", 1.0, note),
    ]
    for percent in (50, 99):
        pairs = zip(found.floor, found.published, strict=True)
        above = np.array([np.percentile(ours, percent) - np.percentile(bare, percent) for bare, ours in pairs])
        report.facts[f"no network, p{percent} above bare loop by pair of blocks (ms)"] = (
            f"median {np.median(above):.3f}, {above.min():.3f} … {above.max():.3f}"
        )
        report.facts[f"no network, subscriber, p{percent} above bare loop (ms)"] = float(
            getattr(received, f"p{percent}_ms") - getattr(floor, f"p{percent}_ms")
        )
    for key in ("p50_ms", "p99_ms", "max_ms"):
        report.facts[f"engine's own summary, {key[:-3]} (ms)"] = found.engine[key]
    report.facts["clock offset measured by liblsl on one host (ms)"] = found.clock_offset_ms


def add_model(report: Report, where: str, found: parts.Model) -> None:
    """Add a part with a network."""
    published, handled, bare = (Distribution.of(x) for x in (found.published, found.handled, found.bare))
    report.distributions[f"TinySleepNet, {where}: one output a second of stream"] = {
        "floor: bare model(x, state)": bare,
        "sample received → event written": handled,
        "push → event written": published,
    }
    note = f"push → published, {published.n} outputs; bare network timed in the same thread, in turn"
    report.checks.append(
        Check(f"{where}, p99 above bare network", published.p99_ms - bare.p99_ms, "ms", 3.0, note)
    )
    report.facts[f"{where}, p50 above bare network (ms)"] = published.p50_ms - bare.p50_ms


def add_paced(report: Report, found: parts.Paced) -> None:
    """Add the part at a rig's pace, with its CPU."""
    add_model(report, "at a rig's pace", found.model)
    busy, idle = found.busy, found.idle
    note = f"8 channels, 256 Hz, TinySleepNet once a second; all threads, {busy.duration_s:.0f} s"
    report.checks += [
        Check("CPU, of one core", busy.percent, "%", 10.0, note),
        Check("CPU without data, of one core", idle.percent, "%", 2.0, f"all threads, {idle.duration_s:.0f} s"),
        # Two threads wake for each sample: liblsl's and the one that decides. A busy loop would not sleep at all.
        Check("wake-ups a sample", busy.wakeups_hz / parts.SFREQ, "", 4.0, "voluntary context switches"),
        Check("wake-ups without data", idle.wakeups_hz, "Hz", 100.0, "voluntary context switches"),
    ]
    report.facts["preemptions with data (1/s)"] = busy.preempted_hz


def add_memory(report: Report, found: parts.Memory) -> None:
    """Add the memory run."""
    growth_mb = float(found.settled_mb[-1] - found.settled_mb[0])
    note = f"{found.n_outputs} outputs with record, sinks and a subscriber, in {found.wall_s:.0f} s"
    report.checks += [
        Check("resident memory, highest", float(found.rss_mb.max()), "MB", 600.0, note),
        Check("resident memory, growth", growth_mb, "MB", 10.0, "from the first tenth of the run to its end"),
    ]
    report.facts["resident memory, slope (MB per stream hour)"] = found.slope_mb_per_h
    report.facts["resident memory at the end (MB)"] = float(found.rss_mb[-1])
    report.facts["speed of the memory run (stream time ÷ wall time)"] = 3600 * float(found.t_h[-1]) / found.wall_s
