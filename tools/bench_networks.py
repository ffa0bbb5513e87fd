"""Steps of the networks, side by side in one run: what streaming saves, what a step costs, how near the limit.

``streamscore bench --networks``. Subjects take turns, so that a machine that is busy is busy for all of them.
Every subject is the :class:`streamscore.runner.Runner` that the engine uses, with random weights, which cost the
same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from streamscore import plugins
from streamscore.catalogue import count_macs
from streamscore.models.base import ScoringModel
from streamscore.runner import Device, Precision, Runner
from tools.bench_report import Check, Distribution, Report

#: CPU threads of all subjects.
THREADS = 2
DEFAULT_FOLDER = Path("bench-results")

METHOD = """\
One step of one stream at a time through the `Runner` that the engine uses: from the samples on the host to the
probabilities on the host. Subjects of one table take turns step by step. Weights are random. Multiply-accumulates
are counted by torch (convolutions and matrix products); the machine's rate is that of a 1024 × 1024 float32 matrix
product with as many threads, measured in the same run. Percentiles are interpolated linearly."""


@dataclass(frozen=True)
class Subject:
    """Something to time.

    Parameters
    ----------
    model, args
        Kind of network and its arguments.
    every
        It takes part in one of so many rounds.
    precision
        Of the runner.
    """

    model: str
    args: dict[str, Any]
    every: int = 1
    precision: Precision = "float32"

    def build(self) -> ScoringModel:
        """Return the network with random weights."""
        torch.manual_seed(0)
        module = plugins.load("models", self.model)
        model: ScoringModel = module.build(module.Config(**self.args))
        return model


WINDOW = "whole window of 168 frames (published)"
FRAME = "causal, one frame"
GRU = "CNN-GRU, one frame"
ELEVEN = "eleven images through the CNN"

#: Table → name → subject.
TABLES: dict[str, dict[str, Subject]] = {
    "CNN-BiLSTM, 128 × 128 at 16.8 Hz: a decision a frame": {
        FRAME: Subject("cnn_bilstm", {"variant": "causal"}),
        "causal, one frame, bfloat16": Subject(
            "cnn_bilstm", {"variant": "causal"}, every=10, precision="bfloat16"
        ),
        "look-ahead of 2.5 s, provisional + final": Subject(
            "cnn_bilstm", {"variant": "lookahead", "look_ahead_s": 2.5, "max_look_ahead_s": 10.0}
        ),
        WINDOW: Subject("cnn_bilstm", {}, every=70),
    },
    "EfficientNet-B0, 128 × 128 at 30 Hz: a decision a frame": {
        "CNN, one frame": Subject("efficientnet", {}),
        GRU: Subject("efficientnet", {"rnn": "gru"}),
        "CNN-GRU causal, one frame": Subject("efficientnet", {"rnn": "gru", "variant": "causal"}),
    },
    "EEG, one 30-s epoch": {
        "TinySleepNet": Subject("tinysleepnet", {}),
        "DeepSleepNet, provisional + final": Subject("deepsleepnet", {}),
        "DeepSleepNet causal": Subject("deepsleepnet", {"variant": "causal"}),
        "SeqSleepNet, sliding": Subject("seqsleepnet", {"variant": "sliding"}),
        "SleepEEGNet, sliding": Subject("sleepeegnet", {"variant": "sliding"}, every=2),
        "U-Time, sliding, centre": Subject("utime", {"variant": "sliding"}, every=5),
        "SalientSleepNet, window of 20 epochs": Subject("salientsleepnet", {}, every=10),
    },
    "Other inputs": {
        "ROI-GRU, one frame": Subject("roi_rnn", {}),
        "MVG-CNN, one epoch of 10 s": Subject("mvg_cnn", {}, every=5),
        "VGG16, one image": Subject("vgg16", {}, every=20),
    },
}

#: Table, name, which percentile, limit in ms.
TARGETS = (
    (0, FRAME, "p99_ms", 20.0),
    (1, GRU, "p99_ms", 30.0),
    (2, "TinySleepNet", "p50_ms", 3.0),
    (2, "DeepSleepNet, provisional + final", "p50_ms", 40.0),
    (2, "SalientSleepNet, window of 20 epochs", "p50_ms", 400.0),
)


def run(console: Console, output: Path | None, quick: bool) -> Report:
    """Measure, write ``bench-networks.md`` and ``.json`` to `output`, and print the tables."""
    folder = output or DEFAULT_FOLDER
    report = measure(console, quick)
    report.show(console)
    for path in report.write(folder):
        console.print(f"wrote {path}", soft_wrap=True)
    return report


def measure(console: Console, is_quick: bool) -> Report:
    """Time all subjects on the CPU, and on the GPU where there is one."""
    report = Report(is_quick, name="bench-networks", method=METHOD)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        report.facts["CPU threads"] = THREADS
        _on_device(console, report, "cpu", is_quick)
        if torch.cuda.is_available():
            report.facts["GPU"] = torch.cuda.get_device_name()
            _on_device(console, report, "cuda", is_quick)
            report.facts["30-Hz streams of EfficientNet CNN-GRU on the GPU in 33.3 ms"] = streams_in_budget("cuda")
    finally:
        torch.set_num_threads(before)
    return report


def _on_device(console: Console, report: Report, device: Device, is_quick: bool) -> None:
    rate = machine_rate(device)
    report.facts[f"{device}: matrix product, GMAC/s"] = rate / 1e9
    for k, (table, subjects) in enumerate(TABLES.items()):
        title = f"{table}, {device}"
        console.print(f"timing: {title}")
        times_ms = take_turns(subjects, device, rounds=5 if is_quick else 200)
        report.distributions[title] = {name: Distribution.of(np.array(found)) for name, found in times_ms.items()}
        for name, subject in subjects.items():
            p50_s = report.distributions[title][name].p50_ms / 1e3
            macs = count_macs(subject.build)
            report.facts[f"{device}: {name}, GMAC a step"] = macs / 1e9
            report.facts[f"{device}: {name}, share of the machine's rate"] = f"{100 * macs / p50_s / rate:.0f} %"
            if subject.precision != "float32":
                agreement = Runner(subject.build(), device=device, precision=subject.precision).agreement(30)
                report.facts[f"{device}: {name}, largest difference from float32"] = agreement.largest_difference
        if device == "cpu":
            for at, name, quantile, limit_ms in TARGETS:
                if at == k:
                    found = report.distributions[title][name]
                    what = f"{name}, {quantile.removesuffix('_ms')}"
                    report.checks.append(Check(what, getattr(found, quantile), "ms", limit_ms, f"{found.n} steps"))
    if device == "cpu":
        _add_savings(report)


def _add_savings(report: Report) -> None:
    """What carrying state saves against computing the window again, as shares that must be small."""
    calcium, run_rest = list(report.distributions.values())[:2]
    ratio = calcium[WINDOW].p50_ms / calcium[FRAME].p50_ms
    report.facts["CNN-BiLSTM: window / causal frame, p50"] = ratio
    report.checks.append(Check("causal CNN-BiLSTM, share of the window's cost", 1 / ratio, "", 0.01, "p50 / p50"))
    eleven_ms = 11 * run_rest["CNN, one frame"].p50_ms
    report.facts["CNN-GRU: eleven CNN passes / cached, p50"] = eleven_ms / run_rest[GRU].p50_ms
    report.checks.append(
        Check("CNN-GRU, share of eleven CNN passes", run_rest[GRU].p50_ms / eleven_ms, "", 0.2, "p50 / 11 p50")
    )


def take_turns(subjects: dict[str, Subject], device: Device, rounds: int) -> dict[str, list[float]]:
    """Step all subjects in turn; return the times in ms."""
    steps: dict[str, Callable[[], object]] = {}
    for name, subject in subjects.items():
        model = subject.build()
        runner = Runner(model, 1, device=device, precision=subject.precision)
        rng = np.random.default_rng(0)
        shape = model.input_shape(1, model.timing.step_samples)
        x = torch.from_numpy(rng.standard_normal(shape, np.float32))
        runner.warm_up()
        steps[name] = lambda runner=runner, x=x: runner.step(x, [0])
    times_ms: dict[str, list[float]] = {name: [] for name in subjects}
    for k in range(-1, rounds):
        for name, step in steps.items():
            if k % subjects[name].every == 0 or k < 0:
                t0_s = time.perf_counter()
                step()
                if k >= 0:
                    times_ms[name].append(1e3 * (time.perf_counter() - t0_s))
    return times_ms


def machine_rate(device: Device, n: int = 1024, seconds: float = 0.5) -> float:
    """Multiply-accumulates a second of an n × n float32 matrix product."""
    a = torch.randn(n, n, device=device)
    best_s = float("inf")
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        t0_s = time.perf_counter()
        b = a @ a
        b[0, 0].item()
        best_s = min(best_s, time.perf_counter() - t0_s)
    return n**3 / best_s


def streams_in_budget(device: Device, budget_ms: float = 1e3 / 30, limit: int = 4096) -> int:
    """Largest power of two of 30-Hz frame streams whose joint step has a p99 inside the budget."""
    fits, n = 0, 1
    while n <= limit:
        model = Subject("efficientnet", {"rnn": "gru"}).build()
        runner = Runner(model, n, device=device)
        x = torch.randn(model.input_shape(n, 1))
        times_ms = []
        for k in range(60):
            t0_s = time.perf_counter()
            runner.step(x, list(range(n)))
            if k >= 10:
                times_ms.append(1e3 * (time.perf_counter() - t0_s))
        if Distribution.of(np.array(times_ms)).p99_ms > budget_ms:
            break
        fits, n = n, 2 * n
    return fits
