"""The seam of every rig that takes commands.

Commands are sent to one rig, which acknowledges each; they are never broadcast. Adding a rig is adding one
file to this folder with a ``Config`` (pydantic; ``kind`` and its arguments) and a ``build(config) -> Rig``, and
a test class that inherits ``tests/contracts/rig.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from streamscore.types import Ack, Command


class Rig(ABC):
    """A device at the end of the cable."""

    @abstractmethod
    def send(self, command: Command, run: str) -> None:
        """Send a command without waiting for the answer."""

    @abstractmethod
    def poll(self) -> list[Ack]:
        """Return the acknowledgements that have arrived since the last call; never waits."""

    @abstractmethod
    def close(self) -> None:
        """Release the connection. May be called more than once."""
