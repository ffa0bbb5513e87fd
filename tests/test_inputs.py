from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from streamscore.clock import LslClock, VirtualClock
from streamscore.inputs import Inputs
from streamscore.sources.base import Source
from streamscore.types import Chunk, StreamInfo
from tests.streams import ScriptedSource

INFO = StreamInfo("x", 10.0, ("a",), ("",))


def chunk(t_s: float, offset_s: float = 0.0) -> Chunk:
    return Chunk(np.zeros((1, 1), np.float32), np.array([t_s]), offset_s, t_s + offset_s)


def read_all(inputs: Inputs) -> list[tuple[int, float]]:
    told = []
    while not inputs.ended:
        arrived = inputs.read(0.1)
        if arrived is not None:
            told.append((arrived[0], float(arrived[1].stamps_s[0] + arrived[1].clock_offset_s)))
    return told


class Live(Source):
    """Gives what another thread puts in, as a native driver would."""

    def __init__(self) -> None:
        self.items: list[Chunk | BaseException] = []
        self.come = threading.Condition()

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        return INFO

    def begin(self) -> int:
        return 0

    def put(self, item: Chunk | BaseException) -> None:
        with self.come:
            self.items.append(item)
            self.come.notify()

    def read(self, timeout_s: float) -> Chunk | None:
        with self.come:
            self.come.wait_for(lambda: self.items or self.ended, timeout_s)
            item = self.items.pop(0) if self.items else None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        with self.come:
            self.ended = True
            self.come.notify()


def test_against_a_virtual_clock_chunks_come_in_order_of_stream_time() -> None:
    clock = VirtualClock()
    main = ScriptedSource(clock, [chunk(t) for t in (1.0, 2.0, 3.0)], INFO)
    side = ScriptedSource(clock, [chunk(t, 100.0) for t in (-99.5, -98.5, -98.0)], INFO)
    inputs = Inputs([main, side], clock)
    inputs.begin()
    told = read_all(inputs)
    # Of equal times the side stream comes first.
    assert told == [(1, 0.5), (0, 1.0), (1, 1.5), (1, 2.0), (0, 2.0), (0, 3.0)]


def test_live_sources_are_taken_in_order_of_arrival() -> None:
    sources = [Live(), Live()]
    inputs = Inputs(sources, LslClock())
    inputs.begin()
    try:
        for k, t_s in ((1, 5.0), (0, 1.0), (1, 6.0)):
            sources[k].put(chunk(t_s))
            arrived = inputs.read(5.0)
            assert arrived is not None
            assert (arrived[0], arrived[1].stamps_s[0]) == (k, t_s)
        assert inputs.read(0.0) is None
        assert not inputs.ended
    finally:
        for source in sources:
            source.close()
        inputs.close()
    assert inputs.ended


def test_an_error_of_the_main_source_is_raised_where_decisions_are_made_and_others_are_told() -> None:
    sources = [Live(), Live()]
    inputs = Inputs(sources, LslClock())
    inputs.begin()
    sources[1].put(OSError("wheel"))
    assert inputs.read(5.0) is None
    ((k, error),) = inputs.take_failures()
    assert (k, str(error)) == (1, "wheel")
    assert inputs.take_failures() == []
    sources[0].put(OSError("cable"))
    with pytest.raises(OSError, match="cable"):
        inputs.read(5.0)
    for source in sources:
        source.close()
    inputs.close()


def test_a_full_queue_holds_the_sources_back_and_still_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inputs, "MAX_WAITING", 2)
    sources = [Live(), Live()]
    inputs = Inputs(sources, LslClock())
    for k in range(10):
        sources[0].put(chunk(float(k)))
    inputs.begin()
    end_s = time.monotonic() + 5.0
    while len(sources[0].items) > 7 and time.monotonic() < end_s:
        threading.Event().wait(0.001)
    assert len(sources[0].items) == 7  # two in the queue, one in the hand of the thread
    for source in sources:
        source.close()
    inputs.close()
    assert not any(thread.is_alive() for thread in inputs._threads)
