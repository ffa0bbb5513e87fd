"""The seam of every output.

Adding a sink is adding one file to this folder with a ``Config`` (pydantic; ``kind`` and its arguments) and a
``build(config) -> Sink``, and a test class that inherits ``tests/contracts/sink.py``.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from streamscore.events import Event, StartEvent
from streamscore.types import FloatArray


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

    def frame(self, t_s: float, frame: FloatArray, is_valid: bool) -> None:  # noqa: B027 - for sinks that show them
        """Take the newest frame ``(height, width)`` that the network was given, to be shown.

        Must neither block nor keep it longer than the call. Sinks that do not override this are not asked.

        Parameters
        ----------
        t_s
            Stream time of it.
        frame
            After the chain.
        is_valid
            Whether the state that was told last is valid.
        """

    def poll(self) -> bool:
        """Do what is due between events; return whether somebody new listens and needs a snapshot."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Release the output. May be called more than once."""


@contextmanager
def patient_threads() -> Iterator[None]:
    """Let native threads that are started inside run when the thread that decides waits, not instead of it.

    Linux hands the processor at once to a thread that is woken, here by a write, and the writer waits for
    milliseconds when all cores are busy. Threads inherit from the one that starts them that they do not do so
    (``SCHED_BATCH``). Where that is unknown or forbidden nothing changes.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
