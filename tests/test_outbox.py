from __future__ import annotations

import pytest

from streamscore import events
from streamscore.clock import VirtualClock
from streamscore.events import Event
from streamscore.outbox import Outbox
from tests.streams import MemoryRecorder, MemorySink


class JoinedSink(MemorySink):
    """Tells once that somebody joined."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self._joined = joined
        self.n_polls = 0

    def poll(self) -> bool:
        self.n_polls += 1
        joined, self._joined = self._joined, False
        return joined


class FailingSink(MemorySink):
    """Cannot be written to."""

    def write(self, event: Event, text: str) -> None:
        raise OSError("broken")


def test_numbers_count_up_without_holes_and_carry_run_and_times() -> None:
    sink = MemorySink()
    clock = VirtualClock(7.0)
    outbox = Outbox("r9", clock, [sink], MemoryRecorder())
    for k in range(5):
        outbox.send(events.StopEvent(**outbox.stamp(float(k)), reason="test"))
        clock.wait_s(1.0)
    told = [events.parse(text) for text in sink.texts]
    assert [event.seq for event in told] == list(range(5))
    assert [event.t_s for event in told] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [event.wall_s for event in told] == [7.0, 8.0, 9.0, 10.0, 11.0]
    assert {event.run for event in told} == {"r9"}


def test_the_record_and_all_sinks_get_the_same_line() -> None:
    sinks, record = [MemorySink(), MemorySink()], MemoryRecorder()
    Outbox("r1", VirtualClock(), sinks, record).notice("warning", "µ")
    assert sinks[0].texts == sinks[1].texts == record.texts
    assert len(record.texts) == 1


def test_the_record_comes_before_a_sink_that_fails() -> None:
    record = MemoryRecorder()
    outbox = Outbox("r1", VirtualClock(), [FailingSink()], record)
    with pytest.raises(OSError, match="broken"):
        outbox.notice("info", "hello")
    assert len(record.texts) == 1


def test_a_level_that_is_not_known_is_an_error() -> None:
    sink = MemorySink()
    outbox = Outbox("r1", VirtualClock(), [sink], MemoryRecorder())
    for level in ("info", "warning", "error", "catastrophe"):
        outbox.notice(level, "text")
    assert [events.parse(text).level for text in sink.texts] == ["info", "warning", "error", "error"]


def test_every_sink_is_polled_even_when_the_first_was_joined() -> None:
    sinks = [JoinedSink(True), JoinedSink(False)]
    outbox = Outbox("r1", VirtualClock(), sinks, MemoryRecorder())
    assert outbox.poll() is True
    assert outbox.poll() is False
    assert [sink.n_polls for sink in sinks] == [2, 2]
