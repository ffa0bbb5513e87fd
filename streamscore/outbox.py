"""Number events, encode each once, and hand it to the record and to every sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from streamscore.clock import Clock
from streamscore.events import Event, NoticeEvent
from streamscore.sinks.base import Sink


class EventLog(Protocol):
    """Whatever keeps events; see :mod:`streamscore.record`."""

    def event(self, event: str) -> None: ...


class Outbox:
    """The only way out for events.

    Parameters
    ----------
    run_id
        Quoted in every event.
    clock
        Gives the wall time.
    sinks, log
        Where events go. The log comes first: what was told is always on record.
    """

    def __init__(self, run_id: str, clock: Clock, sinks: Sequence[Sink], log: EventLog) -> None:
        self.run_id = run_id
        self._clock = clock
        self._sinks = sinks
        self._log = log
        self._seq = -1

    def stamp(self, t_s: float) -> dict[str, Any]:
        """Fields that every event has; takes the next sequence number."""
        self._seq += 1
        return {"run": self.run_id, "seq": self._seq, "t_s": t_s, "wall_s": self._clock.now_s()}

    def send(self, event: Event) -> None:
        """Record and broadcast `event`."""
        text = event.model_dump_json()
        self._log.event(text)
        for sink in self._sinks:
            sink.write(event, text)

    def notice(self, level: str, text: str) -> None:
        """Tell a person something."""
        known: Literal["info", "warning", "error"] = "error"
        if level == "info" or level == "warning":
            known = level  # type: ignore[assignment]
        self.send(NoticeEvent(**self.stamp(self._clock.now_s()), level=known, text=text))

    def poll(self) -> bool:
        """Let sinks do their chores; return whether somebody new listens."""
        joined = [sink.poll() for sink in self._sinks]
        return any(joined)
