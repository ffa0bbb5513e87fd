"""What every sink must keep; see :mod:`streamscore.sinks.base`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from streamscore.events import StartEvent
from streamscore.sinks.base import Sink
from tests.examples import EVENTS


class SinkContract(ABC):
    """Inherit it in a class named ``Test…`` and say how to make the sink."""

    @abstractmethod
    def make(self) -> Sink:
        """Return a sink to which nobody listens."""

    def start(self) -> StartEvent:
        """Return the first event of a run."""
        return next(event for event in EVENTS if isinstance(event, StartEvent))

    def test_it_takes_every_kind_of_event(self) -> None:
        sink = self.make()
        sink.open(self.start())
        for event in EVENTS:
            sink.write(event, event.model_dump_json())
        sink.close()

    def test_it_does_not_wait_for_listeners(self) -> None:
        sink = self.make()
        sink.open(self.start())
        for _ in range(2000):
            sink.write(EVENTS[1], EVENTS[1].model_dump_json())
        sink.close()

    def test_nobody_listens_at_first(self) -> None:
        sink = self.make()
        sink.open(self.start())
        assert sink.poll() is False
        sink.close()

    def test_it_may_be_closed_twice_and_before_it_was_opened(self) -> None:
        unopened = self.make()
        unopened.close()
        sink = self.make()
        sink.open(self.start())
        sink.close()
        sink.close()
