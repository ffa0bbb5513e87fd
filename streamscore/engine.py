"""The loop: one thread that takes samples in, scores, decides and tells.

Everything slow happens elsewhere: liblsl and libzmq move bytes on native threads, the recorder writes on its
own thread, screens are other processes. The loop waits for its inputs, so it costs nothing between samples.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from threading import Event as StopFlag
from typing import Any, Literal, Protocol

from streamscore import events
from streamscore.bundle import Bundle
from streamscore.clock import Clock
from streamscore.config import RigConfig, StreamConfig
from streamscore.gates import Gates
from streamscore.inputs import Inputs
from streamscore.lane import Lane
from streamscore.outbox import Outbox
from streamscore.policies.base import Policy
from streamscore.rigs.base import Rig
from streamscore.sinks.base import Sink
from streamscore.sources.base import Source
from streamscore.stimulation import Mode, Stimulation
from streamscore.types import Chunk, FloatArray, Gap, Posterior, Segment, StreamInfo

#: Time between looks at what is not driven by samples: acknowledgements, stalls, new subscribers.
TICK_S = 0.1


class RecorderLike(Protocol):
    """What the engine needs from a recorder; see :mod:`streamscore.record`."""

    @property
    def counters(self) -> dict[str, int]: ...

    def event(self, event: str) -> None: ...

    def samples(self, chunk: Chunk, lane: str = "") -> None: ...

    def take_notices(self) -> list[dict[str, Any]]: ...

    def close(self, summary: dict[str, Any] | None = None, timeout_s: float = 10.0) -> str | None: ...


@dataclass
class Summary:
    """How a run went."""

    stop_reason: str
    posteriors: int
    commands: int
    latency_ms: dict[str, float]
    deadline_ms: float
    misses: int
    counters: dict[str, int] = field(default_factory=dict)


def _show(sinks: Sequence[Sink], t_s: float, frame: FloatArray, is_valid: bool) -> None:
    for sink in sinks:
        sink.frame(t_s, frame, is_valid)


@dataclass(frozen=True)
class Side:
    """A stream beside the main one: its section of the rig file, its source, and what scores it."""

    config: StreamConfig
    source: Source
    bundle: Bundle | None


class Engine:
    """Join the parts and run them.

    Parameters
    ----------
    config
        Rig file.
    source, sinks, rig
        Plug-ins, already built.
    bundle
        ``None`` streams and records without scoring.
    sides
        Name → stream beside the main one.
    clock
        The only clock that the engine reads.
    make_policy
        Called with the labels; ``None`` for no policy.
    make_recorder
        Called with the streams by name once they are known; the main one's name is empty.
    mode
        ``monitor``, ``dry`` or ``live``.
    run_id
        Quoted in every event.
    heartbeat_s
        Time between heartbeats; infinite for offline runs.
    """

    def __init__(
        self,
        config: RigConfig,
        source: Source,
        *,
        bundle: Bundle | None,
        clock: Clock,
        make_recorder: Callable[[Mapping[str, StreamInfo]], RecorderLike],
        sides: Mapping[str, Side] | None = None,
        sinks: Sequence[Sink] = (),
        rig: Rig | None = None,
        make_policy: Callable[[tuple[str, ...]], Policy] | None = None,
        mode: Mode = "monitor",
        run_id: str = "run",
        heartbeat_s: float = 1.0,
    ) -> None:
        self._config = config
        self._clock = clock
        self._make_recorder = make_recorder
        self._sinks = sinks
        self._rig = rig
        self._make_policy = make_policy
        self._mode: Mode = mode
        self._run_id = run_id
        self._heartbeat_s = heartbeat_s
        self._main = Lane("", config, source, bundle, clock)
        self._lanes = [self._main] + [
            Lane(name, side.config, side.source, side.bundle, clock) for name, side in (sides or {}).items()
        ]
        self._gate_was_shut = False
        self._inputs = Inputs([lane.source for lane in self._lanes], clock)

    def run(self, stop: StopFlag) -> Summary:
        """Run until `stop` is set or the main source ends; stimulation is switched off whatever happens."""
        with ExitStack() as parts:  # closes each of them, whatever the others do
            parts.callback(gc.unfreeze)
            for part in (self._rig, *reversed(self._sinks), *(lane.source for lane in self._lanes)):
                if part is not None:
                    parts.callback(part.close)
            parts.callback(self._inputs.close)
            self._open(parts)
            return self._loop(stop)

    def _loop(self, stop: StopFlag) -> Summary:
        reason = "the source ended"
        try:
            while not self._inputs.ended:
                if stop.is_set():
                    reason = "stopped by request"
                    break
                arrived = self._inputs.read(TICK_S)
                if arrived is not None:
                    lane, chunk = self._lanes[arrived[0]], arrived[1]
                    self._recorder.samples(chunk, lane.name)
                    lane.take(chunk)
                    if lane is not self._main:
                        self._look_at_gates(self._clock.now_s())
                self._tick(self._clock.now_s())
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            summary = self._close(reason)
        return summary

    def _open(self, parts: ExitStack) -> None:
        """Find the inputs, refuse what differs, warm up, throw away what became stale meanwhile."""
        infos = {lane.name: lane.open() for lane in self._lanes}
        self._recorder = self._make_recorder(infos)
        parts.callback(self._recorder.close, None, 2.0)
        self._gates = Gates(self._config.gates, {name: info for name, info in infos.items() if name})
        self._outbox = Outbox(self._run_id, self._clock, self._sinks, self._recorder)
        labels = self._main.labels
        self._stimulation = Stimulation(
            self._mode,
            self._make_policy(labels) if self._make_policy and labels else None,
            self._rig,
            self._outbox,
            ack_timeout_s=self._config.ack_timeout_s,
            expiry_s=self._config.command_expiry_s,
        )
        notices = [notice for lane in self._lanes for notice in lane.warm_up()]
        if self._main.info.speed:  # a collection must not fall into a decision; offline there is none to wait for
            gc.collect()
        gc.freeze()
        shows = [sink for sink in self._sinks if type(sink).frame is not Sink.frame]
        show = partial(_show, shows) if shows else None
        self._main.begin(self._outbox, self._act, self._off_in_gap, show)
        for lane in self._lanes[1:]:
            lane.begin(self._outbox, None, partial(self._gates.push, lane.name))
        self._inputs.begin()
        now_s = self._clock.now_s()
        self._next_heartbeat_s = self._next_look_s = now_s
        starts = [lane.start_event(self._mode) for lane in self._lanes]
        for sink in self._sinks:
            sink.open(starts[0])
        for start in starts:
            self._outbox.send(start)
        for level, text in notices:
            self._outbox.notice(level, text)

    def _act(self, posterior: Posterior, age_s: float) -> None:
        """Let the policy act on an output of the main stream, if the gates are open."""
        self._stimulation.update(self._gates.apply(posterior), age_s)

    def _off_in_gap(self, piece: Segment | Gap) -> None:
        """Switch off when samples of the main stream are lost or unusable, not only at the next output."""
        if isinstance(piece, Gap):
            self._stimulation.off(self._clock.now_s(), f"gap ({piece.reason})")

    def _look_at_gates(self, now_s: float) -> None:
        """Switch off at once when a side stream shuts a gate or stops, not only at the next output."""
        if not len(self._gates) or not self._stimulation.may_be_on(now_s):
            return
        if reason := self._gates.shut_now(self._silent_s(now_s)):
            self._stimulation.off(now_s, f"gate shut: {reason}")

    def _silent_s(self, now_s: float) -> dict[str, float]:
        """Time since each stream gave samples."""
        return {lane.name: now_s - lane.last_data_s for lane in self._lanes}

    def _tick(self, now_s: float) -> None:
        """Do what samples do not drive."""
        self._stimulation.poll(now_s)
        self._look_at_gates(now_s)
        for lane in self._lanes:
            lane.check_stall(now_s)
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + self._heartbeat_s
            self._tell_heartbeats(now_s, "heartbeat")
        if now_s < self._next_look_s:
            return  # what follows is not worth its time after every sample
        self._next_look_s = now_s + TICK_S
        self._tell_notices()
        if self._outbox.poll():
            self._tell_heartbeats(now_s, "snapshot")

    def _tell_notices(self) -> None:
        for k, error in self._inputs.take_failures():
            self._outbox.notice(
                "error",
                f"stream {self._lanes[k].name!r} is no longer read ({type(error).__name__}: {error}); the run "
                "goes on without it, and gates on it stay shut",
            )
        for lane in self._lanes:
            for level, text in lane.source.notices():
                self._outbox.notice(level, text)
        for notice in self._recorder.take_notices():
            self._outbox.notice("error" if notice.get("type") == "record_failed" else "warning", str(notice))

    def _tell_heartbeats(self, now_s: float, kind: Literal["heartbeat", "snapshot"]) -> None:
        gate = self._gates.shut_now(self._silent_s(now_s)) if len(self._gates) else ""
        if bool(gate) != self._gate_was_shut:
            self._gate_was_shut = bool(gate)
            self._outbox.notice("info", f"gate shut: {gate}" if gate else "all gates are open")
        for lane in self._lanes:
            of_main = (self._recorder.counters, gate) if lane is self._main else ({}, "")
            self._outbox.send(lane.heartbeat(now_s, kind, self._mode, self._stimulation.last_command, *of_main))

    def _close(self, reason: str) -> Summary:
        """Switch off, say goodbye, and close the record."""
        now_s = self._clock.now_s()
        self._stimulation.off(now_s, reason)
        self._tell_notices()
        for lane in self._lanes:
            lane.close(now_s)
        self._tell_heartbeats(now_s, "heartbeat")
        self._outbox.send(events.StopEvent(**self._outbox.stamp(now_s), reason=reason))
        main = self._main
        summary = Summary(
            stop_reason=reason,
            posteriors=main.n_posteriors,
            commands=self._stimulation.n_commands,
            latency_ms=main.latency.total.summary_ms(),
            deadline_ms=1e3 * main.deadline_s,
            misses=main.latency.misses,
            counters=main.counters() | self._recorder.counters,
        )
        self._recorder.close(vars(summary))
        return summary
