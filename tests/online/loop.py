"""An LSL outlet and an engine that reads it, in one process, over real sockets."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pylsl

from streamscore.bundle import Bundle
from streamscore.clock import LslClock
from streamscore.config import RigConfig
from streamscore.engine import Engine, RecorderLike, Summary
from streamscore.events import Event, PosteriorEvent
from streamscore.record import NullRecorder
from streamscore.sinks.base import Sink
from streamscore.sources import lsl
from streamscore.types import StreamInfo

#: How long a condition may take to come true before a test fails. Nothing waits longer than it has to.
PATIENCE_S = 30.0


class Collect(Sink):
    """Keeps all events and lets a test wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def write(self, event: Event, text: str) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def close(self) -> None:
        pass

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[Event]], bool], what: str) -> None:
        """Return as soon as `condition` holds for the events so far."""
        with self._changed:
            held = self._changed.wait_for(lambda: condition(self.events), PATIENCE_S)
        assert held, f"never happened: {what}; last events: {self.events[-3:]}"


def make_outlet(
    name: str,
    sfreq: float = 64.0,
    labels: tuple[str, ...] = ("EEG",),
    units: tuple[str, ...] | None = None,
    source_id: str = "",
    stream_type: str = "EEG",
) -> pylsl.StreamOutlet:
    """Open an outlet with labels and units."""
    info = pylsl.StreamInfo(name, stream_type, len(labels), sfreq, "float32", source_id or name)
    info.set_channel_labels(list(labels))
    info.set_channel_units(list(units or ("uV",) * len(labels)))
    return pylsl.StreamOutlet(info, max_buffered=100_000)


def no_record(info: StreamInfo) -> NullRecorder:
    """Keep no record of `info`."""
    del info
    return NullRecorder()


class Loop:
    """One stream through one engine.

    Parameters
    ----------
    bundle
        ``None`` only streams.
    sfreq
        Rate that the outlet declares.
    labels
        Channels of the outlet.
    make_recorder, config
        As in the engine; `config` overrides keys of the rig file.
    """

    def __init__(
        self,
        bundle: Bundle | None,
        sfreq: float = 64.0,
        labels: tuple[str, ...] = ("EEG",),
        make_recorder: Callable[[Any], RecorderLike] | None = None,
        source: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.sfreq = sfreq
        self.labels = labels
        self.outlet: pylsl.StreamOutlet | None = make_outlet(self.name, sfreq, labels)
        self.collect = Collect()
        self._stop = threading.Event()
        self.summary: Summary | None = None
        self.error: BaseException | None = None
        section = {"kind": "lsl", "name": self.name, "timeout_s": 10.0, **(source or {})}
        clock = LslClock()
        self.engine = Engine(
            RigConfig(source=section, **config),
            lsl.build(lsl.Config(**section), clock),
            bundle=bundle,
            clock=clock,
            make_recorder=make_recorder or no_record,
            sinks=[self.collect],
        )
        self._thread = threading.Thread(target=self._run, name="engine")
        self._thread.start()
        self.collect.wait_for(
            lambda events: self.error is not None or any(e.type == "start" for e in events), "the engine started"
        )
        if self.error is not None:
            raise self.error
        assert self.outlet.wait_for_consumers(PATIENCE_S)
        self.t0_s = pylsl.local_clock()

    def _run(self) -> None:
        try:
            self.summary = self.engine.run(self._stop)
        except BaseException as error:
            self.error = error
            self.collect.wake()

    @property
    def events(self) -> list[Event]:
        """All events so far."""
        return self.collect.events

    def of(self, kind: str) -> list[Any]:
        """Events of one type."""
        return [event for event in self.events if event.type == kind]

    def times(self, n: int, start: int = 0) -> np.ndarray:
        """Exact stamps of samples ``start …`` on the loop's own time line."""
        return self.t0_s + (start + np.arange(n)) / self.sfreq

    def push(self, data: np.ndarray, stamps_s: np.ndarray) -> None:
        """Push samples with their stamps."""
        assert self.outlet is not None
        data = np.asarray(data, np.float32).reshape(len(stamps_s), -1)
        for begin in range(0, len(data), 512):
            self.outlet.push_chunk(data[begin : begin + 512], list(stamps_s[begin : begin + 512]))

    def wait_for_posterior(self, stop: int) -> None:
        """Wait until the output that ends at sample `stop` was published."""
        self.collect.wait_for(
            lambda events: any(isinstance(e, PosteriorEvent) and e.stop >= stop for e in reversed(events)),
            f"the output at sample {stop}",
        )

    def wait_for(self, kind: str, match: Callable[[Any], bool] = bool) -> Any:
        """Wait for an event of a type, and return it."""
        found: list[Any] = []

        def seen(events: list[Event]) -> bool:
            found[:] = [e for e in events if e.type == kind and match(e)]
            return bool(found)

        self.collect.wait_for(seen, f"an event {kind!r}")
        return found[0]

    def finish(self) -> Summary:
        """Stop the engine and return its summary."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the engine did not stop"
        if self.error is not None:
            raise self.error
        assert self.summary is not None
        return self.summary

    def close(self) -> None:
        """Take everything down, whatever state it is in."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        self.outlet = None


def noise(n: int, seed: int = 0, n_channels: int = 1) -> np.ndarray:
    """Seeded noise in µV, ``(n, n_channels)``."""
    return (30 * np.random.default_rng(seed).standard_normal((n, n_channels))).astype(np.float32)
