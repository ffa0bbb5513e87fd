"""The seam of every output.

Adding a sink is adding one file to this folder with a ``Config`` (pydantic; ``kind`` and its arguments) and a
``build(config) -> Sink``, and a test class that inherits ``tests/contracts/sink.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from streamscore.events import Event, StartEvent


class Sink(ABC):
    """Where events go. Sinks broadcast; commands to a rig travel over :class:`CommandLink`."""

    def open(self, start: StartEvent) -> None:  # noqa: B027 - most sinks need nothing here
        """Prepare for a run described by its first event."""

    @abstractmethod
    def write(self, event: Event, text: str) -> None:
        """Send one event. Must neither block nor touch the disk.

        Parameters
        ----------
        event
            The event.
        text
            The same as one line of JSON, encoded once for all sinks.
        """

    def poll(self) -> bool:
        """Do what is due between events; return whether somebody new listens and needs a snapshot."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Release the output. May be called more than once."""
