"""One stream on its way through the engine: its place in time, its ring and network, its deadline, its state.

A run has one lane for each stream. The *main* lane, whose name is empty, is the one that a policy acts on; the
others are scored and told beside it, and may open and close gates. Each lane is complete in itself, so that
nothing that happens to one stream changes what is decided about another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from streamscore import events
from streamscore.bundle import Bundle
from streamscore.clock import Clock
from streamscore.config import StreamConfig
from streamscore.frame_quality import FrameQuality
from streamscore.labels import UNKNOWN
from streamscore.latency import Deadline
from streamscore.outbox import Outbox
from streamscore.outputs import hop_in_samples
from streamscore.quality import Quality
from streamscore.scorer import PosteriorSource, Scorer, Unscored
from streamscore.sources.base import Source
from streamscore.timebase import Timebase
from streamscore.types import Chunk, FloatArray, Gap, Posterior, PosteriorKind, Segment, StreamInfo

STAGES = ("transport", "score", "publish")
#: Called with each posterior that was told and its age in seconds.
OnPosterior = Callable[[Posterior, float], None]
#: Called with each run of usable samples, and with each gap.
OnSamples = Callable[[Segment | Gap], None]
#: Called with the stream time of a frame, what the network was given of it, and whether the state is valid.
OnFrame = Callable[[float, FloatArray, bool], None]


class Lane:
    """One stream.

    Parameters
    ----------
    name
        Of the stream in the rig file (``streams``); empty for the main one.
    config
        Its section of the rig file.
    source, bundle
        Where its samples come from, and what scores them (``None``: nothing).
    clock
        The engine's.

    Attributes
    ----------
    info
        The stream, once it is open.
    last_data_s
        Wall time of the newest chunk.
    """

    def __init__(
        self, name: str, config: StreamConfig, source: Source, bundle: Bundle | None, clock: Clock
    ) -> None:
        self.name = name
        self.source = source
        self._config = config
        self._bundle = bundle
        self._clock = clock
        self._sha256 = bundle.sha256 if bundle else ""
        self._state, self._valid, self._reason = UNKNOWN, False, "no data yet"
        self._probs: tuple[float, ...] = ()
        self._tracks: dict[PosteriorKind, tuple[str, bool]] = {}
        self._open_gap: Gap | None = None
        self._offset_s = math.nan
        self._n_chunks = 0
        self._flushed = 0
        self._stalled = False
        self._on_posterior: OnPosterior | None = None
        self._on_samples: OnSamples | None = None
        self._on_frame: OnFrame | None = None
        self.n_posteriors = 0
        self.last_data_s = 0.0

    def open(self) -> StreamInfo:
        """Find the input, refuse what differs from the bundle, build the parts."""
        bundle, config = self._bundle, self._config
        info = self.info = self.source.open(bundle.spec.channels if bundle else None)
        self._scorer: PosteriorSource
        if bundle is not None:
            bundle.check(info)
            self._scorer = Scorer(
                bundle, config.hop_s, revise=config.revise, device=config.device, precision=config.precision
            )
        else:
            about_a_second = max(round(info.sfreq), 1)  # a camera's rate need not be whole
            hop = hop_in_samples(config.hop_s, info.sfreq, None) if config.hop_s else about_a_second
            self._scorer = Unscored(hop, info.sfreq)
        self.hop_s = self._scorer.hop_samples / info.sfreq
        self.labels, self.kinds = self._scorer.labels, self._scorer.kinds
        self._timebase = Timebase(config.timebase, info.sfreq)
        self._quality = (
            FrameQuality(config.frame_quality, info.layout, info.full_scale)
            if info.frame_shape
            else Quality(config.quality, info.sfreq, info.channels)
        )
        # A replay at speed 20 has to be 20 times as quick.
        self.deadline_s = config.deadline_ms / 1e3 if config.deadline_ms else self.hop_s / (info.speed or 1.0)
        self._deadline = Deadline(self.deadline_s, STAGES)
        # Time until a sample is due: band powers of 4-s epochs come every 4 s, which is no silence.
        self._period_s = 1.0 / (info.sfreq * (info.speed or 1.0))
        return info

    def warm_up(self) -> list[tuple[Any, str]]:
        """Run the network once, unless nothing waits for its first output; return what a person should know."""
        if self.info.speed:
            self._scorer.warm_up()
        return self._scorer.notices()  # they take time, which samples must not wait for

    def begin(
        self,
        outbox: Outbox,
        on_posterior: OnPosterior | None = None,
        on_samples: OnSamples | None = None,
        on_frame: OnFrame | None = None,
    ) -> int:
        """Throw away what became stale, and start; return how many samples that were."""
        self._outbox = outbox
        self._on_posterior, self._on_samples, self._on_frame = on_posterior, on_samples, on_frame
        self._flushed = self.source.begin()
        self.last_data_s = self._clock.now_s()
        return self._flushed

    def start_event(self, mode: str) -> events.StartEvent:
        """What begins now, for subscribers."""
        now_s = self._clock.now_s()
        return events.StartEvent(
            **self._outbox.stamp(now_s),
            lane=self.name,
            stream=self.info.name,
            sfreq=self.info.sfreq,
            channels=list(self.info.channels),
            labels=list(self.labels),
            kinds=list(self.kinds),
            bundle=self._bundle.spec.name if self._bundle else "",
            bundle_sha256=self._sha256,
            mode=mode,
            hop_s=self.hop_s,
            deadline_ms=1e3 * self.deadline_s,
            flushed_samples=self._flushed,
        )

    def take(self, chunk: Chunk) -> None:
        """Place a chunk in time, score it, tell what is due."""
        if self._config.delay_s:
            # What happened is older than its stamp by what the device took before it stamped.
            chunk = replace(chunk, clock_offset_s=chunk.clock_offset_s - self._config.delay_s)
        if self._n_chunks == 0:
            self._anchor(chunk)
        self._n_chunks += 1
        self.last_data_s = chunk.received_s
        self._stalled = False
        for placed in self._timebase.push(chunk):
            pieces = self._quality.push(placed) if isinstance(placed, Segment) else [placed]
            for piece in pieces:
                if self._on_samples is not None:
                    self._on_samples(piece)
                if isinstance(piece, Gap):
                    self._note_gap(piece)
                    for posterior in self._scorer.gap(piece):
                        self._decide(posterior, chunk.received_s, chunk.received_s)
                    continue
                self._end_gap(piece)
                for posterior in self._scorer.push(piece):
                    newest_s = posterior.t_stop_s + posterior.lag_s - 1.0 / self.info.sfreq
                    # A stamp ahead of this clock cannot make a latency negative.
                    due_s = min(self.info.wall_time_s(newest_s), chunk.received_s)
                    self._decide(posterior, due_s, chunk.received_s)
                if self._on_frame is not None and (frame := self._scorer.newest_frame()) is not None:
                    self._on_frame(float(piece.stamps_s[-1]), frame, self._valid)

    def _anchor(self, chunk: Chunk) -> None:
        """Fix when a replay's stamps are due: the first chunk is taken to be in time."""
        speed = self.info.speed
        if speed in (0.0, 1.0):
            return
        last_s = float(chunk.stamps_s[-1]) + chunk.clock_offset_s
        self.info = replace(self.info, wall_t0_s=(chunk.received_s * speed - last_s) / (speed - 1.0))

    def _decide(self, posterior: Posterior, due_s: float, received_s: float) -> None:
        """Tell the posterior, a change of state, and let the policy act on it."""
        scored_s = self._clock.now_s()
        latency_s = scored_s - due_s
        age_s = posterior.lag_s + latency_s
        self.n_posteriors += 1
        timing: dict[str, Any] = {"lag_s": posterior.lag_s, "latency_ms": 1e3 * latency_s, "age_s": age_s}
        self._outbox.send(
            events.PosteriorEvent(
                **self._outbox.stamp(posterior.t_stop_s + posterior.lag_s),
                **timing,
                lane=self.name,
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
        if self._on_posterior is not None:
            self._on_posterior(posterior, age_s)
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
                    lane=self.name,
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
                lane=self.name,
                open=is_open,
                start=gap.start,
                n_samples=gap.n_samples,
                reason=gap.reason,
            )
        )

    def check_stall(self, now_s: float) -> None:
        """Make the state unknown when no samples came for too long."""
        if self._stalled or now_s - self.last_data_s - self._period_s <= self._config.stall_s:
            return
        self._stalled = True
        reason = f"stalled: no samples for {self._config.stall_s:g} s"
        self._outbox.notice("warning", f"stream {self.info.name!r} {reason}")
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
            **self.source.counters,
            "nonfinite_outputs": nonfinite,
            "flushed_samples": self._flushed,
        }

    def heartbeat(
        self, now_s: float, kind: Any, mode: str, last_command: str, counters: dict[str, int], gate: str = ""
    ) -> events.HeartbeatEvent:
        """The present state; `counters` are those of the record, `gate` says why one is shut."""
        return events.HeartbeatEvent(
            **self._outbox.stamp(now_s),
            type=kind,
            lane=self.name,
            state=self._state,
            valid=self._valid,
            reason=self._reason,
            probs=list(self._probs),
            labels=list(self.labels),
            stream=self.info.name,
            sfreq=self.info.sfreq,
            hop_s=self.hop_s,
            mode=mode,
            stalled_s=max(now_s - self.last_data_s, 0.0),
            latency=self._deadline.total.summary_ms(),
            stages={name: histogram.summary_ms() for name, histogram in self._deadline.stages.items()},
            deadline_ms=1e3 * self._deadline.deadline_s,
            misses=self._deadline.misses,
            counters=self.counters() | counters,
            stamps=self._timebase.stamps,
            measured_sfreq=self._timebase.measured_sfreq,
            last_command=last_command,
            gate=gate,
            bundle=self._bundle.spec.name if self._bundle else "",
            bundle_sha256=self._sha256,
        )

    @property
    def latency(self) -> Deadline:
        """Latencies and misses so far."""
        return self._deadline

    def close(self, now_s: float) -> None:
        """Tell the end of a gap that is still open."""
        if self._open_gap:
            self._tell_gap(self._open_gap, now_s, is_open=False)
            self._open_gap = None
