"""Ways to feed the engine without a network: a scripted source on a virtual clock, a rig and a sink in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event as StopFlag
from typing import Any

import numpy as np
from hypothesis import strategies as st

from streamscore import events
from streamscore.bundle import Bundle
from streamscore.clock import VirtualClock
from streamscore.config import RigConfig, StreamConfig
from streamscore.engine import Engine, Side, Summary
from streamscore.policies.base import Policy
from streamscore.record import NullRecorder
from streamscore.rigs.base import Rig
from streamscore.sinks.base import Sink
from streamscore.sources.base import Source
from streamscore.types import Ack, Chunk, Command, FloatArray, Gap, Segment, StreamInfo, TimeArray

#: Sizes into which a stream is cut, used again and again until its end.
sizes = st.lists(st.integers(1, 400), min_size=1, max_size=6)


def cuts(n: int, sizes: Sequence[int]) -> Iterator[slice]:
    """Cut ``range(n)`` into pieces of the given sizes, in turn."""
    begin = k = 0
    while begin < n:
        yield slice(begin, min(begin + sizes[k % len(sizes)], n))
        begin += sizes[k % len(sizes)]
        k += 1


def chunks(data: FloatArray, stamps_s: TimeArray, sizes: Sequence[int], offset_s: float = 0.0) -> list[Chunk]:
    """Cut a stream into chunks that arrive with their last sample."""
    return [
        Chunk(data[part], stamps_s[part], offset_s, float(np.nanmax(stamps_s[part], initial=0.0)))
        for part in cuts(len(data), sizes)
    ]


def joined(pieces: Sequence[Segment | Gap]) -> list[Segment | Gap]:
    """Join what follows on: neighbouring segments, and neighbouring gaps for the same reason."""
    whole: list[Segment | Gap] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        if isinstance(piece, Segment) and isinstance(last, Segment):
            data, stamps_s = (np.concatenate(pair) for pair in zip(
                (last.data, last.stamps_s), (piece.data, piece.stamps_s), strict=True))  # fmt: skip
            whole[-1] = Segment(last.start, data, stamps_s)
        elif isinstance(piece, Gap) and isinstance(last, Gap) and last.reason == piece.reason:
            whole[-1] = Gap(last.start, last.n_samples + piece.n_samples, last.t_s, last.reason)
        else:
            whole.append(piece)
    return whole


def assert_same_pieces(got: Sequence[Segment | Gap], wanted: Sequence[Segment | Gap]) -> None:
    """Both must be the same to the last bit once what follows on is joined."""
    got, wanted = joined(got), joined(wanted)
    assert [(type(p), p.start) for p in got] == [(type(p), p.start) for p in wanted]
    for a, b in zip(got, wanted, strict=True):
        if isinstance(a, Segment) and isinstance(b, Segment):
            np.testing.assert_array_equal(a.data, b.data)
            np.testing.assert_array_equal(a.stamps_s, b.stamps_s)
        else:
            assert a == b


class ScriptedSource(Source):
    """Plays a script: chunks, silences (a number of seconds), errors, and calls.

    Parameters
    ----------
    clock
        Moved to the arrival of each chunk.
    script
        What happens, in order; the source ends after it.
    info
        What `open` describes.
    """

    def __init__(
        self,
        clock: VirtualClock,
        script: Sequence[Chunk | float | BaseException | Callable[[], object]],
        info: StreamInfo,
    ) -> None:
        self._clock = clock
        self._script = list(script)
        self._info = info
        self.n_closed = 0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        return self._info

    def begin(self) -> int:
        return 0

    def read(self, timeout_s: float) -> Chunk | None:
        if not self._script:
            self.ended = True
            return None
        item = self._script.pop(0)
        if isinstance(item, Chunk):
            self._clock.advance_to(item.received_s)
            return item
        if isinstance(item, BaseException):
            raise item
        if callable(item):
            item()
        elif item > timeout_s:
            self._clock.wait_s(timeout_s)
            self._script.insert(0, item - timeout_s)
        else:
            self._clock.wait_s(item)
        return None

    def close(self) -> None:
        self.n_closed += 1


class ScriptedRig(Rig):
    """Notes commands; acknowledges each at once, refuses it, or stays silent."""

    def __init__(self, clock: VirtualClock, answer: str = "accept") -> None:
        self._clock = clock
        self.answer = answer
        self.commands: list[Command] = []
        self.n_closed = 0
        self._acks: list[Ack] = []

    def send(self, command: Command, run: str) -> None:
        assert self.n_closed == 0, "a command after the end"
        self.commands.append(command)
        if self.answer != "silence":
            self._acks.append(Ack(command.command_id, self.answer == "accept", self._clock.now_s()))

    def poll(self) -> list[Ack]:
        acks, self._acks = self._acks, []
        return acks

    def close(self) -> None:
        self.n_closed += 1

    @property
    def actions(self) -> list[str]:
        """What was ordered, in order."""
        return [command.action for command in self.commands]


class MemorySink(Sink):
    """Keeps the text of every event."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.n_closed = 0

    def write(self, event: events.Event, text: str) -> None:
        self.texts.append(text)

    def close(self) -> None:
        self.n_closed += 1


class MemoryRecorder(NullRecorder):
    """Keeps what a recorder is given."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.chunks: list[Chunk] = []
        self.summaries: list[Any] = []

    def event(self, event: str) -> None:
        self.texts.append(event)

    def samples(self, chunk: Chunk, lane: str = "") -> None:
        self.chunks.append(chunk)

    def close(self, summary: Any = None, timeout_s: float = 10.0) -> str | None:
        self.summaries.append(summary)
        return None


@dataclass
class Run:
    """A run of the engine and everything that it left behind.

    Attributes
    ----------
    summary
        ``None`` if the run ended with `error`.
    """

    source: ScriptedSource
    sink: MemorySink
    recorder: MemoryRecorder
    rig: ScriptedRig | None
    summary: Summary | None = None
    error: BaseException | None = None
    events: list[Any] = field(default_factory=list)

    def of(self, kind: str) -> list[Any]:
        """Events of one type."""
        return [event for event in self.events if event.type == kind]


def run_engine(
    bundle: Bundle | None,
    script: Sequence[Any],
    *,
    clock: VirtualClock | None = None,
    sfreq: float = 64.0,
    channels: tuple[str, ...] = ("EEG",),
    policy: Callable[[tuple[str, ...]], Policy] | None = None,
    rig: ScriptedRig | None = None,
    mode: Any = "monitor",
    stop: StopFlag | None = None,
    heartbeat_s: float = float("inf"),
    sink: MemorySink | None = None,
    sides: Mapping[str, tuple[StreamInfo, Sequence[Any], Bundle | None]] | None = None,
    info: StreamInfo | None = None,
    **config: Any,
) -> Run:
    """Run the engine over `script`; an exception that leaves it is kept in ``error``.

    `sides` are streams beside the main one, each with its script; `config` may hold their sections (``streams``).
    """
    clock = clock or VirtualClock()
    info = info or StreamInfo("scripted", sfreq, channels, ("uV",) * len(channels))
    sections = {name: StreamConfig(source={}) for name in sides or {}} | config.pop("streams", {})
    run = Run(ScriptedSource(clock, script, info), sink or MemorySink(), MemoryRecorder(), rig)
    engine = Engine(
        RigConfig(source={"kind": "scripted"}, streams=sections, **config),
        run.source,
        bundle=bundle,
        sides={
            name: Side(sections[name], ScriptedSource(clock, side_script, side_info), side_bundle)
            for name, (side_info, side_script, side_bundle) in (sides or {}).items()
        },
        clock=clock,
        make_recorder=lambda _: run.recorder,
        sinks=[run.sink],
        rig=rig,
        make_policy=policy,
        mode=mode,
        run_id="r1",
        heartbeat_s=heartbeat_s,
    )
    try:
        run.summary = engine.run(stop or StopFlag())
    except (Exception, KeyboardInterrupt) as error:
        run.error = error
    run.events = [events.parse(text) for text in run.sink.texts]
    return run
