"""The loop: one thread that takes samples in, scores, decides and tells.

Everything slow happens elsewhere: liblsl and libzmq move bytes on native threads, the recorder writes on its
own thread, screens are other processes. The loop waits inside the source, so it costs nothing between samples.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from threading import Event as StopFlag
from typing import Any, Protocol

from streamscore import events
from streamscore.bundle import Bundle
from streamscore.clock import Clock
from streamscore.config import RigConfig
from streamscore.labels import UNKNOWN
from streamscore.latency import Deadline
from streamscore.outbox import Outbox
from streamscore.outputs import hop_in_samples
from streamscore.policies.base import Policy
from streamscore.quality import Quality
from streamscore.rigs.base import Rig
from streamscore.scorer import PosteriorSource, Scorer, Unscored
from streamscore.sinks.base import Sink
from streamscore.sources.base import Source
from streamscore.stimulation import Mode, Stimulation
from streamscore.timebase import Timebase
from streamscore.types import Chunk, Gap, Posterior, PosteriorKind, Segment, StreamInfo

#: Time between looks at what is not driven by samples: acknowledgements, stalls, new subscribers.
TICK_S = 0.1
STAGES = ("transport", "score", "publish")


class RecorderLike(Protocol):
    """What the engine needs from a recorder; see :mod:`streamscore.record`."""

    @property
    def counters(self) -> dict[str, int]: ...

    def event(self, event: str) -> None: ...

    def samples(self, chunk: Chunk) -> None: ...

    def clock_offset(self, time_s: float, offset_s: float) -> None: ...

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
    clock
        The only clock that the engine reads.
    make_policy
        Called with the labels; ``None`` for no policy.
    make_recorder
        Called with the stream once it is known.
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
        make_recorder: Callable[[StreamInfo], RecorderLike],
        sinks: Sequence[Sink] = (),
        rig: Rig | None = None,
        make_policy: Callable[[tuple[str, ...]], Policy] | None = None,
        mode: Mode = "monitor",
        run_id: str = "run",
        heartbeat_s: float = 1.0,
    ) -> None:
        self._config = config
        self._source = source
        self._bundle = bundle
        self._clock = clock
        self._make_recorder = make_recorder
        self._sinks = sinks
        self._rig = rig
        self._make_policy = make_policy
        self._mode: Mode = mode
        self._run_id = run_id
        self._heartbeat_s = heartbeat_s
        self._sha256 = bundle.sha256 if bundle else ""
        self._state, self._valid, self._reason = UNKNOWN, False, "no data yet"
        self._probs: tuple[float, ...] = ()
        self._tracks: dict[PosteriorKind, tuple[str, bool]] = {}
        self._open_gap: Gap | None = None
        self._offset_s = math.nan
        self._n_chunks = 0
        self._n_posteriors = 0
        self._flushed = 0
        self._stalled = False

    def run(self, stop: StopFlag) -> Summary:
        """Run until `stop` is set or the source ends; stimulation is switched off whatever happens."""
        with ExitStack() as parts:  # closes each of them, whatever the others do
            parts.callback(gc.unfreeze)
            for part in (self._rig, *reversed(self._sinks), self._source):
                if part is not None:
                    parts.callback(part.close)
            self._open(parts)
            return self._loop(stop)

    def _loop(self, stop: StopFlag) -> Summary:
        reason = "the source ended"
        try:
            while not self._source.ended:
                if stop.is_set():
                    reason = "stopped by request"
                    break
                chunk = self._source.read(TICK_S)
                if chunk is not None:
                    self._ingest(chunk)
                self._tick(self._clock.now_s())
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            summary = self._close(reason)
        return summary

    def _open(self, parts: ExitStack) -> None:
        """Find the input, refuse what differs, warm up, throw away what became stale meanwhile."""
        bundle = self._bundle
        info = self._source.open(bundle.spec.channels if bundle else None)
        self._info = info
        self._scorer: PosteriorSource
        if bundle is not None:
            bundle.check(info)
            config = self._config
            self._scorer = Scorer(
                bundle, config.hop_s, revise=config.revise, device=config.device, precision=config.precision
            )
        else:
            hop_samples = hop_in_samples(self._config.hop_s or 1.0, info.sfreq, None)
            self._scorer = Unscored(hop_samples, info.sfreq)
        hop_s = self._scorer.hop_samples / info.sfreq
        self._timebase = Timebase(self._config.timebase, info.sfreq)
        self._quality = Quality(self._config.quality, info.sfreq, info.channels)
        # A replay at speed 20 has to be 20 times as quick.
        deadline_s = self._config.deadline_ms / 1e3 if self._config.deadline_ms else hop_s / (info.speed or 1.0)
        self._deadline = Deadline(deadline_s, STAGES)
        self._recorder = self._make_recorder(info)
        parts.callback(self._recorder.close, None, 2.0)
        self._outbox = Outbox(self._run_id, self._clock, self._sinks, self._recorder)
        self._stimulation = Stimulation(
            self._mode,
            self._make_policy(self._scorer.labels) if self._make_policy and self._scorer.labels else None,
            self._rig,
            self._outbox,
            ack_timeout_s=self._config.ack_timeout_s,
            expiry_s=self._config.command_expiry_s,
        )
        self._scorer.warm_up()
        notices = self._scorer.notices()  # they take time, which samples must not wait for
        gc.collect()
        gc.freeze()
        self._flushed = self._source.begin()
        now_s = self._clock.now_s()
        self._last_data_s = now_s
        self._next_heartbeat_s = self._next_look_s = now_s
        start = events.StartEvent(
            **self._outbox.stamp(now_s),
            stream=info.name,
            sfreq=info.sfreq,
            channels=list(info.channels),
            labels=list(self._scorer.labels),
            kinds=list(self._scorer.kinds),
            bundle=bundle.spec.name if bundle else "",
            bundle_sha256=self._sha256,
            mode=self._mode,
            hop_s=hop_s,
            deadline_ms=1e3 * deadline_s,
            flushed_samples=self._flushed,
        )
        for sink in self._sinks:
            sink.open(start)
        self._outbox.send(start)
        for level, text in notices:
            self._outbox.notice(level, text)

    def _ingest(self, chunk: Chunk) -> None:
        if self._n_chunks == 0:
            self._anchor(chunk)
        self._n_chunks += 1
        self._last_data_s = chunk.received_s
        self._stalled = False
        self._recorder.samples(chunk)
        if chunk.clock_offset_s != self._offset_s:
            self._offset_s = chunk.clock_offset_s
            self._recorder.clock_offset(float(chunk.stamps_s[0]), self._offset_s)
        for placed in self._timebase.push(chunk):
            pieces = self._quality.push(placed) if isinstance(placed, Segment) else [placed]
            for piece in pieces:
                if isinstance(piece, Gap):
                    self._note_gap(piece)
                    for posterior in self._scorer.gap(piece):
                        self._decide(posterior, chunk.received_s, chunk.received_s)
                    continue
                self._end_gap(piece)
                for posterior in self._scorer.push(piece):
                    newest_s = posterior.t_stop_s + posterior.lag_s - 1.0 / self._info.sfreq
                    # A stamp ahead of this clock cannot make a latency negative.
                    due_s = min(self._info.wall_time_s(newest_s), chunk.received_s)
                    self._decide(posterior, due_s, chunk.received_s)

    def _anchor(self, chunk: Chunk) -> None:
        """Fix when a replay's stamps are due: the first chunk is taken to be in time."""
        speed = self._info.speed
        if speed in (0.0, 1.0):
            return
        last_s = float(chunk.stamps_s[-1]) + chunk.clock_offset_s
        self._info = replace(self._info, wall_t0_s=(chunk.received_s * speed - last_s) / (speed - 1.0))

    def _decide(self, posterior: Posterior, due_s: float, received_s: float) -> None:
        """Tell the posterior, a change of state, and let the policy act on it."""
        scored_s = self._clock.now_s()
        latency_s = scored_s - due_s
        age_s = posterior.lag_s + latency_s
        self._n_posteriors += 1
        timing: dict[str, Any] = {"lag_s": posterior.lag_s, "latency_ms": 1e3 * latency_s, "age_s": age_s}
        self._outbox.send(
            events.PosteriorEvent(
                **self._outbox.stamp(posterior.t_stop_s + posterior.lag_s),
                **timing,
                kind=posterior.kind,
                start=posterior.start,
                stop=posterior.stop,
                t_start_s=posterior.t_start_s,
                t_stop_s=posterior.t_stop_s,
                state=posterior.state,
                probs=list(posterior.probs),
                valid=posterior.valid,
                reason=posterior.reason,
                late=latency_s > self._deadline.deadline_s,
                bundle_sha256=self._sha256,
            )
        )
        if posterior.kind != "revised":
            self._tell_change(posterior, timing)
        self._stimulation.update(posterior, age_s)
        published_s = self._clock.now_s()
        self._deadline.add(published_s - due_s)
        stages = self._deadline.stages
        stages["transport"].add(received_s - due_s)
        stages["score"].add(scored_s - received_s)
        stages["publish"].add(published_s - scored_s)

    def _tell_change(self, posterior: Posterior, timing: dict[str, Any]) -> None:
        """Tell a change of state; provisional and final outputs are two tracks of states."""
        now = (posterior.state, posterior.valid)
        before = self._tracks.get(posterior.kind, (UNKNOWN, False))
        if now != before:
            self._outbox.send(
                events.StateEvent(
                    **self._outbox.stamp(posterior.t_stop_s + posterior.lag_s),
                    **timing,
                    kind="provisional" if posterior.kind == "provisional" else "final",
                    state=posterior.state,
                    previous=before[0],
                    valid=posterior.valid,
                    reason=posterior.reason,
                    probability=max(posterior.probs, default=0.0),
                    t_start_s=posterior.t_start_s,
                    t_stop_s=posterior.t_stop_s,
                    bundle_sha256=self._sha256,
                )
            )
        self._tracks[posterior.kind] = now
        if posterior.kind == self._scorer.kinds[0]:  # the present state is the one with the least lag
            self._state, self._valid, self._reason = posterior.state, posterior.valid, posterior.reason
            self._probs = posterior.probs

    def _note_gap(self, gap: Gap) -> None:
        """Tell the onset of a gap, and let pieces of one gap count as one."""
        known = self._open_gap
        if known and known.reason == gap.reason and known.start + known.n_samples == gap.start:
            self._open_gap = Gap(known.start, known.n_samples + gap.n_samples, known.t_s, known.reason)
            return
        if known:
            self._tell_gap(known, gap.t_s, is_open=False)
        self._open_gap = gap
        self._tell_gap(gap, gap.t_s, is_open=True)

    def _end_gap(self, segment: Segment) -> None:
        if self._open_gap:
            self._tell_gap(self._open_gap, float(segment.stamps_s[0]), is_open=False)
            self._open_gap = None

    def _tell_gap(self, gap: Gap, t_s: float, *, is_open: bool) -> None:
        self._outbox.send(
            events.GapEvent(
                **self._outbox.stamp(t_s),
                open=is_open,
                start=gap.start,
                n_samples=gap.n_samples,
                reason=gap.reason,
            )
        )

    def _tick(self, now_s: float) -> None:
        """Do what samples do not drive."""
        self._stimulation.poll(now_s)
        if not self._stalled and now_s - self._last_data_s > self._config.stall_s:
            self._stalled = True
            self._stall(now_s)
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + self._heartbeat_s
            self._outbox.send(self._heartbeat(now_s, "heartbeat"))
        if now_s < self._next_look_s:
            return  # what follows is not worth its time after every sample
        self._next_look_s = now_s + TICK_S
        self._tell_notices()
        if self._outbox.poll():
            self._outbox.send(self._heartbeat(now_s, "snapshot"))

    def _tell_notices(self) -> None:
        for level, text in self._source.notices():
            self._outbox.notice(level, text)
        for notice in self._recorder.take_notices():
            self._outbox.notice("error" if notice.get("type") == "record_failed" else "warning", str(notice))

    def _stall(self, now_s: float) -> None:
        """No samples for too long: the state is unknown, whatever it was."""
        reason = f"stalled: no samples for {self._config.stall_s:g} s"
        self._outbox.notice("warning", f"stream {self._info.name!r} {reason}")
        stop = self._timebase.next_index
        for kind in self._scorer.kinds:
            # On the same track of stream time as what came before, or a policy would take it for the future.
            lag_s = self._scorer.lag_s(kind)
            t_s = now_s - lag_s
            self._decide(Posterior(stop, stop, t_s, t_s, (), UNKNOWN, False, reason, kind, lag_s), now_s, now_s)

    def counters(self) -> dict[str, int]:
        """Everything that was lost, withheld or late, by name."""
        nonfinite = self._scorer.n_nonfinite_outputs if isinstance(self._scorer, Scorer) else 0
        return {
            **vars(self._timebase.counters),
            **vars(self._quality.counters),
            **self._recorder.counters,
            "nonfinite_outputs": nonfinite,
            "flushed_samples": self._flushed,
        }

    def _heartbeat(self, now_s: float, kind: Any) -> events.HeartbeatEvent:
        return events.HeartbeatEvent(
            **self._outbox.stamp(now_s),
            type=kind,
            state=self._state,
            valid=self._valid,
            reason=self._reason,
            probs=list(self._probs),
            labels=list(self._scorer.labels),
            stream=self._info.name,
            sfreq=self._info.sfreq,
            hop_s=self._scorer.hop_samples / self._info.sfreq,
            mode=self._mode,
            stalled_s=max(now_s - self._last_data_s, 0.0),
            latency=self._deadline.total.summary_ms(),
            stages={name: histogram.summary_ms() for name, histogram in self._deadline.stages.items()},
            deadline_ms=1e3 * self._deadline.deadline_s,
            misses=self._deadline.misses,
            counters=self.counters(),
            stamps=self._timebase.stamps,
            measured_sfreq=self._timebase.measured_sfreq,
            last_command=self._stimulation.last_command,
            bundle=self._bundle.spec.name if self._bundle else "",
            bundle_sha256=self._sha256,
        )

    def _close(self, reason: str) -> Summary:
        """Switch off, say goodbye, and close the record."""
        now_s = self._clock.now_s()
        self._stimulation.off(now_s, reason)
        self._tell_notices()
        if self._open_gap:
            self._tell_gap(self._open_gap, now_s, is_open=False)
        self._outbox.send(self._heartbeat(now_s, "heartbeat"))
        self._outbox.send(events.StopEvent(**self._outbox.stamp(now_s), reason=reason))
        summary = Summary(
            stop_reason=reason,
            posteriors=self._n_posteriors,
            commands=self._stimulation.n_commands,
            latency_ms=self._deadline.total.summary_ms(),
            deadline_ms=1e3 * self._deadline.deadline_s,
            misses=self._deadline.misses,
            counters=self.counters(),
        )
        self._recorder.close(vars(summary))
        return summary
