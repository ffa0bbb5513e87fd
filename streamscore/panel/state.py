"""What a screen knows about a run: fed with events, in fixed memory, without any input or output.

Time is told in *elapsed* seconds, the absolute sample index over the sampling rate. Unlike stamps, it is the same
axis live and in a replay, and agrees with the recording that is replayed.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from streamscore import events
from streamscore.labels import UNKNOWN

#: Widths that a column of the strip may have, in seconds; doubled beyond.
COLUMN_WIDTHS_S = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 600, 900, 1800, 3600)
#: A final output outvotes any number of provisional ones of the same column.
FINAL_WEIGHT = 1_000_000


def _column_widths_s() -> Iterator[float]:
    yield from COLUMN_WIDTHS_S
    for doublings in itertools.count(1):
        yield COLUMN_WIDTHS_S[-1] * 2**doublings


@dataclass(frozen=True)
class Columns:
    """A strip cut into columns: column `k` covers ``start_s + k * width_s`` and on.

    ``shares`` holds, for each column, the part of its outputs that each state has. A column without any
    output, between others, is all ``UNKNOWN``.
    """

    start_s: float
    width_s: float
    shares: list[dict[str, float]]


class Strip:
    """States over time. When full, neighbouring bins are merged, so that a year fits too.

    Attributes
    ----------
    bin_s
        Present length of a bin in seconds.
    """

    MAX_BINS = 4096

    def __init__(self) -> None:
        self.bin_s = 1.0
        self._bins: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._bins)

    def add(self, elapsed_s: float, state: str, weight: int = 1) -> None:
        """Count one output that speaks of the time up to `elapsed_s`."""
        index = max(math.ceil(elapsed_s / self.bin_s - 1e-6) - 1, 0)
        votes = self._bins.setdefault(index, {})
        votes[state] = votes.get(state, 0) + weight
        while len(self._bins) > self.MAX_BINS:
            self._halve()

    def columns(self, n_columns: int, least_width_s: float = 1.0) -> Columns:
        """Cut everything so far into at most `n_columns` columns of at least `least_width_s`."""
        if not self._bins:
            return Columns(0.0, least_width_s, [])
        first_s, last_s = min(self._bins) * self.bin_s, max(self._bins) * self.bin_s
        least_s = max(least_width_s, self.bin_s)
        width_s = next(
            width_s
            for width_s in _column_widths_s()
            if width_s >= least_s and last_s // width_s - first_s // width_s < max(n_columns, 1)
        )
        first = int(first_s // width_s)
        counts: list[dict[str, int]] = [{} for _ in range(int(last_s // width_s) - first + 1)]
        for index, votes in self._bins.items():
            column = counts[int(index * self.bin_s // width_s) - first]
            for state, n in votes.items():
                column[state] = column.get(state, 0) + n
        shares = [
            {state: n / sum(column.values()) for state, n in column.items()} if column else {UNKNOWN: 1.0}
            for column in counts
        ]
        return Columns(first * width_s, width_s, shares)

    def _halve(self) -> None:
        merged: dict[int, dict[str, int]] = {}
        for index, votes in self._bins.items():
            into = merged.setdefault(index // 2, {})
            for state, n in votes.items():
                into[state] = into.get(state, 0) + n
        self._bins = merged
        self.bin_s *= 2


class PanelState:
    """The present state of a run, as far as its events tell.

    Another run on the same endpoint (an engine that was started again) clears everything.

    Attributes
    ----------
    elapsed_s
        Stream time since the first sample.
    since_s
        Elapsed time at which the present state began; ``None`` if that was before this screen joined.
    wall_s
        Time of the engine's clock at which the newest event was made.
    n_missed
        Messages that never reached this screen, from holes in ``seq``.
    newly_missed
        The same, before the newest event alone.
    n_unreadable
        Messages that were no event.
    """

    MAX_NOTICES = 3

    def __init__(self) -> None:
        self.n_unreadable = 0
        self.clear("")

    def clear(self, run: str) -> None:
        """Forget everything and expect the events of `run`."""
        self.run = run
        self.seq = -1
        self.n_missed = self.newly_missed = 0
        self.stream = self.mode = self.bundle = self.bundle_sha256 = ""
        self.labels: tuple[str, ...] = ()
        self.sfreq = self.hop_s = self.deadline_ms = 0.0
        self.state, self.valid, self.reason = UNKNOWN, False, "no data yet"
        self.probs: tuple[float, ...] = ()
        self.lag_s = self.age_s = 0.0
        self.elapsed_s = self.wall_s = 0.0
        self.since_s: float | None = None
        self.start: events.StartEvent | None = None
        self.heartbeat: events.HeartbeatEvent | None = None
        self.gap: events.GapEvent | None = None
        self.command: events.CommandEvent | None = None
        self.ack: events.AckEvent | None = None
        self.n_refused = 0
        self.notices: deque[tuple[float, events.NoticeEvent]] = deque(maxlen=self.MAX_NOTICES)
        self.stop: events.StopEvent | None = None
        self.strip = Strip()
        self._knows_state = False
        self._speaks_twice = False

    @property
    def probability(self) -> float:
        """Probability of the present state; 0 while there is none."""
        if self.state in self.labels and len(self.probs) == len(self.labels):
            return self.probs[self.labels.index(self.state)]
        return 0.0

    @property
    def losses(self) -> dict[str, int]:
        """Whatever was lost, withheld or late, by name; only what is not zero."""
        counters = self.heartbeat.counters if self.heartbeat else {}
        fine = ("samples", "gaps", "written_", "frames", "cycles")
        return {name: n for name, n in counters.items() if n and not name.startswith(fine)}

    def is_on(self, now_s: float) -> bool:
        """Whether a rig was told to be on and may still be at `now_s` of the engine's clock."""
        command = self.command
        if command is None or command.action != "on" or not command.sent:
            return False
        refused = self.ack is not None and not self.ack.accepted
        return not refused and now_s < command.wall_s + command.duration_s

    def update(self, event: events.AnyEvent) -> None:
        """Take in one event."""
        if event.run != self.run:
            self.clear(event.run)
        self.newly_missed = max(event.seq - self.seq - 1, 0) if self.seq >= 0 else 0
        self.n_missed += self.newly_missed
        self.seq = event.seq
        self.wall_s = max(self.wall_s, event.wall_s)
        if getattr(event, "lane", ""):
            return  # of a stream beside the main one
        if isinstance(event, events.PosteriorEvent):
            self._posterior(event)
        elif isinstance(event, events.HeartbeatEvent):
            self._heartbeat(event)
        elif isinstance(event, events.StateEvent):
            if self._is_present(event.kind):
                self._set_state(event.state, event.valid, event.reason, self.elapsed_s)
                self.since_s = self.elapsed_s
        elif isinstance(event, events.StartEvent):
            self._start(event)
        elif isinstance(event, events.GapEvent):
            self.gap = event
            self._advance(event.start + (0 if event.open else event.n_samples))
        elif isinstance(event, events.CommandEvent):
            self.command, self.ack = event, None
        elif isinstance(event, events.AckEvent):
            self.n_refused += not event.accepted
            if self.command is not None and event.command_id == self.command.command_id:
                self.ack = event
        elif isinstance(event, events.NoticeEvent):
            self.notices.append((self.elapsed_s, event))
        else:
            self.stop = event

    def _start(self, event: events.StartEvent) -> None:
        self.start = event
        self._speaks_twice = "provisional" in event.kinds
        self.since_s, self._knows_state = self.elapsed_s, True
        self.stream, self.mode, self.bundle = event.stream, event.mode, event.bundle
        self.bundle_sha256 = event.bundle_sha256
        self.labels = tuple(event.labels)
        self.sfreq, self.hop_s, self.deadline_ms = event.sfreq, event.hop_s, event.deadline_ms

    def _heartbeat(self, event: events.HeartbeatEvent) -> None:
        self.heartbeat = event
        self.stream, self.mode, self.bundle = event.stream, event.mode, event.bundle
        self.bundle_sha256 = event.bundle_sha256
        self.labels, self.probs = tuple(event.labels), tuple(event.probs)
        self.deadline_ms, self.hop_s = event.deadline_ms, event.hop_s
        if self.sfreq == 0.0:  # joined late: the first event was not seen
            self.sfreq = event.sfreq
            self._advance(event.counters.get("samples", 0) + event.counters.get("missing_samples", 0))
        self._set_state(event.state, event.valid, event.reason, None)
        if self.elapsed_s == 0.0:
            self.since_s = 0.0  # without a sample there was no other state

    def _posterior(self, event: events.PosteriorEvent) -> None:
        self._advance(event.stop)
        self._speaks_twice |= event.kind == "provisional"
        if self._is_present(event.kind):
            self.lag_s, self.age_s, self.probs = event.lag_s, event.age_s, tuple(event.probs)
            self._set_state(event.state, event.valid, event.reason, self.elapsed_s)
        if self.sfreq == 0.0 or event.start == event.stop:
            return  # joined just now, or a stall in which nothing was scored
        is_final = event.kind == "final"
        known = event.valid and event.state in self.labels
        weight = FINAL_WEIGHT if is_final else 1
        self.strip.add(event.stop / self.sfreq, event.state if known else UNKNOWN, weight)

    def _is_present(self, kind: str) -> bool:
        """Whether this kind of output has the least lag of those that the network gives."""
        return kind == ("provisional" if self._speaks_twice else "final")

    def _advance(self, index: int) -> None:
        if self.sfreq > 0.0:
            self.elapsed_s = max(self.elapsed_s, index / self.sfreq)

    def _set_state(self, state: str, valid: bool, reason: str, since_s: float | None) -> None:
        """Note the state; a change that this screen did not see itself has no known beginning."""
        if (state, valid) != (self.state, self.valid) or not self._knows_state:
            self.since_s = since_s if self._knows_state else None
        self.state, self.valid, self.reason = state, valid, reason
        self._knows_state = True
