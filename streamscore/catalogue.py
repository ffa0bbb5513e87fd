"""What ``streamscore models`` tells: every network with its size, its timing and its cost on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from streamscore import plugins
from streamscore.errors import ConfigError
from streamscore.labels import vocabulary
from streamscore.models.base import About, Example, ScoringModel, State

#: Time spent on measuring one network, in seconds, and the least number of steps.
MEASURE_S, LEAST_STEPS = 0.4, 2


class StepTime(BaseModel):
    """Measured time of one step of one stream, in ms."""

    model_config = ConfigDict(frozen=True)

    device: str
    threads: int
    n_steps: int
    p50_ms: float
    max_ms: float


class Entry(BaseModel):
    """One network as listed.

    Parameters
    ----------
    name, kind, title, source, published
        Of the example and its network; `published` figures are the paper's.
    sfreq, channels, frame_shape, vocabulary, classes
        What it takes and gives.
    n_trainable, n_with_statistics
        Trainable parameters, and these with the running statistics of normalisations (as Keras counts).
    step_macs
        Multiply-accumulates of convolutions and matrix products in one step, with warm caches.
    step_s, epoch_s, receptive_field_s, look_ahead_s, warm_up_s
        Timing; no receptive field is a carried state, which has no bound. The warm-up is that of the final output.
    measured
        Time of a step here; empty where it was not asked for or cannot be run.
    problem
        Why the network cannot be built here, such as a library that is not installed.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    title: str
    source: str
    published: tuple[str, ...]
    sfreq: float
    channels: tuple[str, ...]
    vocabulary: str
    classes: tuple[str, ...]
    frame_shape: tuple[int, int] | None = None
    n_trainable: int = 0
    n_with_statistics: int = 0
    step_macs: int = 0
    step_s: float = 0.0
    epoch_s: float = 0.0
    receptive_field_s: float | None = None
    look_ahead_s: float = 0.0
    warm_up_s: float = 0.0
    measured: tuple[StepTime, ...] = ()
    problem: str = ""


def examples() -> Iterator[tuple[str, str, About, Example]]:
    """Yield kind, name, description and configuration of each network."""
    for kind in plugins.kinds("models"):
        about: About = plugins.load("models", kind).ABOUT
        for name, example in about.examples.items():
            yield kind, name, about, example


def describe(kind: str, name: str, about: About, example: Example, *, measure: bool) -> Entry:
    """Build a network and describe it."""
    known: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "title": about.title,
        "source": about.source,
        "published": about.published,
        "sfreq": example.sfreq,
        "channels": example.channels,
        "vocabulary": example.vocabulary,
        "classes": vocabulary(example.vocabulary),
    }
    module = plugins.load("models", kind)
    try:
        model: ScoringModel = module.build(module.Config(**example.args))
    except (ConfigError, ImportError) as error:
        return Entry(**known, problem=str(error))
    timing, sfreq = model.timing, example.sfreq
    field = timing.receptive_field_samples
    statistics = sum(
        value.numel() for key, value in model.named_buffers() if key.endswith(("running_mean", "running_var"))
    )
    return Entry(
        **known,
        frame_shape=model.frame_shape,
        n_trainable=model.n_trainable(),
        n_with_statistics=model.n_trainable() + statistics,
        step_macs=count_macs(lambda: module.build(module.Config(**example.args))),
        step_s=timing.step_samples / sfreq,
        epoch_s=timing.epoch_samples / sfreq,
        receptive_field_s=None if field is None else field / sfreq,
        look_ahead_s=timing.look_ahead_samples / sfreq,
        warm_up_s=timing.reads[-1].warm_up_samples / sfreq,
        measured=tuple(measure_step(model, device) for device in devices()) if measure else (),
    )


def devices() -> list[torch.device]:
    """CPU, and the GPU where there is one."""
    return [torch.device(name) for name in (("cpu", "cuda") if torch.cuda.is_available() else ("cpu",))]


def _step(model: ScoringModel, device: torch.device) -> tuple[torch.Tensor, State]:
    x = torch.randn(model.input_shape(1, model.timing.step_samples), device=device)
    return x, tuple(part.to(device) for part in model.initial_state(1))


def count_macs(build: Callable[[], ScoringModel]) -> int:
    """Multiply-accumulates of one step: convolutions and matrix products, recurrent layers included.

    Counted without data where the network allows it, because the fused kernels of a CPU are opaque to the counter.
    """
    try:
        return _count(build, "meta")
    except (
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ):  # it looks at its data
        return _count(build, "cpu")


def _count(build: Callable[[], ScoringModel], device: str) -> int:
    with torch.device(device), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model = build()
        x, state = _step(model, torch.device(device))
        model(x, state)
    return int(counter.get_total_flops() // 2)


def measure_step(model: ScoringModel, device: torch.device) -> StepTime:
    """Time steps of one stream, one after the other as in a run."""
    model = model.for_inference().to(device)
    x, state = _step(model, device)
    times_ms: list[float] = []
    with torch.inference_mode():
        for _ in range(1 if model.timing.step_samples > 1 else 3):
            _, state = model(x, state)
        end_s = time.perf_counter() + MEASURE_S
        while len(times_ms) < LEAST_STEPS or time.perf_counter() < end_s:
            t0_s = time.perf_counter()
            logits, state = model(x, state)
            logits.cpu()
            times_ms.append(1e3 * (time.perf_counter() - t0_s))
    model.to("cpu")
    times_ms.sort()
    return StepTime(
        device=str(device),
        threads=torch.get_num_threads(),
        n_steps=len(times_ms),
        p50_ms=times_ms[len(times_ms) // 2],
        max_ms=times_ms[-1],
    )


def choose(pattern: str | None) -> list[tuple[str, str, About, Example]]:
    """Networks whose kind or name is `pattern`, or whose name begins with it; all without one.

    Raises
    ------
    ConfigError
        If there is none; lists the kinds.
    """
    everything = list(examples())
    if pattern is None:
        return everything
    exact = [entry for entry in everything if pattern in entry[:2]]
    chosen = exact or [entry for entry in everything if entry[1].startswith(pattern)]
    if not chosen:
        kinds = dict.fromkeys(entry[0] for entry in everything)
        raise ConfigError(f"no network {pattern!r}; the kinds are {', '.join(kinds)}")
    return chosen


#: Narrower than this the table of networks cannot be read.
TABLE_WIDTH = 112


def cells(entry: Entry) -> tuple[str, ...]:
    """One network in words: name, input, classes, parameters, MACs, step, field, look-ahead, warm-up, time."""
    shape = "×".join(map(str, entry.frame_shape)) if entry.frame_shape else f"{len(entry.channels)} ch"
    known = (entry.name, f"{shape} {entry.sfreq:g}", str(len(entry.classes)))
    if entry.problem:
        return *known, "not installed", *[""] * 6
    return (
        *known,
        f"{entry.n_trainable:,}",
        _short(entry.step_macs),
        seconds(entry.step_s),
        "∞" if entry.receptive_field_s is None else seconds(entry.receptive_field_s),
        seconds(entry.look_ahead_s),
        seconds(entry.warm_up_s),
        " ".join(_milliseconds(time.p50_ms) for time in entry.measured) or "–",
    )


def markdown_row(entry: Entry) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells(entry))} |"


def table(entries: list[Entry]) -> Table:
    """One row a network, `TABLE_WIDTH` columns wide at most."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("network", no_wrap=True)
    table.add_column("input, Hz", no_wrap=True)
    for column in ("classes", "parameters", "MAC/step", "step", "field", "ahead", "warm-up", "ms/step"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(*cells(entry))
    return table


def publications(entries: list[Entry]) -> str:
    """What was published about the networks, with sources."""
    lines = []
    for kind in dict.fromkeys(entry.kind for entry in entries):
        entry = next(entry for entry in entries if entry.kind == kind)
        lines.append(f"{entry.title} ({kind}): {entry.source}")
        lines += [f"  published: {figure}" for figure in entry.published]
        lines += [f"  {other.name}: {other.problem}" for other in entries if other.kind == kind and other.problem]
    return "\n".join(lines)


def seconds(value_s: float) -> str:
    """A duration for a narrow column: milliseconds below one second."""
    return f"{value_s:.4g}s" if value_s >= 1 or value_s == 0 else f"{1e3 * value_s:.3g}ms"


def _short(n: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)


def _milliseconds(value_ms: float) -> str:
    return f"{value_ms:.0f}" if value_ms >= 100 else f"{value_ms:.3g}"
