"""The engine of the benchmark: the one that ships, with a probe among its sinks.

Source, sinks, recorder and scorer are built from a rig file's content, as ``streamscore run`` builds them. The
last sink is a probe, which notes when each event had been written by the sinks before it. Between two outputs the
same thread can time the bare network, so that both see the same machine, caches and clock speed.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from streamscore import config as rig_config
from streamscore import plugins
from streamscore.assemble import build_source, new_run_id
from streamscore.bundle import Bundle, Spec, load_bundle, save_bundle
from streamscore.clock import Clock, LslClock, VirtualClock
from streamscore.config import RigConfig, plugin_config
from streamscore.engine import Engine, RecorderLike, Summary
from streamscore.events import Event, PosteriorEvent, StartEvent
from streamscore.models.tinysleepnet import Config as TinySleepNetConfig
from streamscore.models.tinysleepnet import build as build_tinysleepnet
from streamscore.record import NullRecorder, Recorder
from streamscore.sinks.base import Sink
from streamscore.sources.base import Source
from streamscore.types import Chunk, StreamInfo
from tools.bench_roles import stop_flag

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EngineOptions:
    """What the engine runs.

    Parameters
    ----------
    rig
        Content of a rig file.
    is_virtual
        Run on a virtual clock, as fast as possible.
    bare_gap_s, bare_from
        Wall time after an output at which the bare network is timed (``None``: never), and the number of outputs
        before that begins.
    rss_every
        Outputs between two looks at the resident memory, instead of times; 0 never looks.
    """

    rig: dict[str, Any]
    is_virtual: bool = False
    bare_gap_s: float | None = None
    bare_from: int = 0
    rss_every: int = 0


@dataclass(frozen=True)
class EngineTimes:
    """What the probe saw: wall times in seconds, one entry an output, or the resident memory.

    Parameters
    ----------
    newest_s
        When the newest sample that the output needed was stamped, or due in a replay, as the engine knows it.
    received_s, scored_s, published_s
        When that sample was in the process, when the output was there, and when all sinks had written it.
    is_valid
        Whether the network made it.
    bare_s
        Durations of the bare network, timed between outputs.
    rss_t_s, rss_mb
        Stream time and resident memory.
    summary
        The engine's own.
    """

    newest_s: Floats
    received_s: Floats
    scored_s: Floats
    published_s: Floats
    is_valid: npt.NDArray[np.bool_]
    bare_s: Floats
    rss_t_s: Floats
    rss_mb: Floats
    summary: Summary


class BareNetwork:
    """Time ``model(x, state)`` with nothing around it, at a given distance from the engine's own outputs."""

    def __init__(self, bundle: Bundle, clock: Clock, gap_s: float, first: int) -> None:
        self._model = bundle.model
        self._clock = clock
        self._gap_s = gap_s
        self._first = first
        self._due_s = math.inf
        self._x = torch.randn(1, bundle.model.n_channels, bundle.model.timing.step_samples)
        self._state = bundle.model.initial_state(1)
        self.durations_s = array("d")

    def after_output(self, n: int, now_s: float) -> None:
        """Plan the next run after the output number `n`."""
        if n > self._first:
            self._due_s = now_s + self._gap_s

    def run_if_due(self) -> None:
        """Run once if the time has come."""
        if self._clock.now_s() < self._due_s:
            return
        self._due_s = math.inf
        with torch.inference_mode():
            begin_s = self._clock.now_s()
            self._model(self._x, self._state)
            self.durations_s.append(self._clock.now_s() - begin_s)


class Tap(Source):
    """The source under test; notes when the last chunk came in."""

    def __init__(self, source: Source, bare: BareNetwork | None) -> None:
        self._source = source
        self._bare = bare
        self.received_s = math.nan

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        return self._source.open(wanted)

    def begin(self) -> int:
        return self._source.begin()

    def read(self, timeout_s: float) -> Chunk | None:
        if self._bare is not None:
            self._bare.run_if_due()
        chunk = self._source.read(timeout_s)
        self.ended = self._source.ended
        if chunk is not None:
            self.received_s = chunk.received_s
        return chunk

    def close(self) -> None:
        self._source.close()

    def notices(self) -> list[tuple[str, str]]:
        return self._source.notices()


class Probe(Sink):
    """The last sink: whatever it sees has been written by all the others."""

    def __init__(
        self, clock: Clock, tap: Tap, bare: BareNetwork | None, rss_every: int, ready: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._tap = tap
        self._bare = bare
        self._rss_every = rss_every
        self._ready = ready
        self._process = psutil.Process()
        self.rows = array("d")
        self.rss = array("d")
        self._n = 0

    def open(self, start: StartEvent) -> None:
        self._ready()

    def write(self, event: Event, text: str) -> None:
        if not isinstance(event, PosteriorEvent):
            return
        self._n += 1
        if self._rss_every:  # then nothing is kept of each output, because it would be taken for a leak
            if self._n % self._rss_every == 0:
                self.rss.extend((event.t_stop_s, self._process.memory_info().rss / 1e6))
            return
        now_s = self._clock.now_s()
        newest_s = event.wall_s - 1e-3 * event.latency_ms
        self.rows.extend((newest_s, self._tap.received_s, event.wall_s, now_s, event.valid))
        if self._bare is not None:
            self._bare.after_output(self._n, now_s)

    def close(self) -> None:
        pass


def score(connection: Connection, options: EngineOptions) -> None:
    """Run the engine until told to stop; sends its endpoint, ``"ready"``, and :class:`EngineTimes`."""
    config = RigConfig(**options.rig)
    torch.set_num_threads(config.threads)
    clock: Clock = VirtualClock() if options.is_virtual else LslClock()
    bundle = load_bundle(config.bundle) if config.bundle else None
    bare = None
    if bundle is not None and options.bare_gap_s is not None:
        bare = BareNetwork(bundle, clock, options.bare_gap_s, options.bare_from)
    tap = Tap(build_source(config.source, clock), bare)
    sinks: list[Sink] = []
    for section in config.sinks:
        sinks.append(plugins.load("sinks", section["kind"]).build(plugin_config("sinks", section)))
    connection.send(next((getattr(sink, "endpoint", "") for sink in sinks), ""))
    if options.is_virtual:
        connection.recv()  # a run that does not wait for time waits for its listeners
    probe = Probe(clock, tap, bare, options.rss_every, lambda: connection.send("ready"))
    run_id = new_run_id()

    def make_recorder(streams: Mapping[str, StreamInfo]) -> RecorderLike:
        if config.record is None:
            return NullRecorder()
        return Recorder(
            config.record / run_id,
            run_id=run_id,
            streams=streams,
            clock=clock,
            config_text=rig_config.dump(config),
            bundle_hash=bundle.sha256 if bundle else "",
        )

    engine = Engine(
        config, tap, bundle=bundle, clock=clock, make_recorder=make_recorder, sinks=[*sinks, probe], run_id=run_id
    )
    summary = engine.run(stop_flag(connection))
    rows = np.asarray(probe.rows).reshape(-1, 5).T
    rss = np.asarray(probe.rss).reshape(-1, 2).T
    bare_s = np.asarray(bare.durations_s if bare else [])
    connection.send(EngineTimes(*rows[:4], rows[4] > 0, bare_s, *rss, summary))


def make_untrained(path: Path, sfreq: float) -> None:
    """Write an untrained TinySleepNet with the usual chain; weights do not change how long a network takes."""
    torch.manual_seed(0)
    model = build_tinysleepnet(TinySleepNetConfig(sfreq=sfreq))
    spec = Spec(
        name=f"untrained-{sfreq:g}",
        model="tinysleepnet",
        model_args={"sfreq": sfreq},
        preprocess=(
            {"kind": "bandpass", "low_hz": 0.3, "high_hz": 35.0},
            {"kind": "normalise", "estimator": "running", "warm_up_s": 60.0},
        ),
        vocabulary="AASM5",
        sfreq=sfreq,
        channels=("EEG",),
    )
    save_bundle(path, spec, model)
