"""The only readers of time.

Everything that needs "now" is given a clock, so that a test or an offline run decides what time it is.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds that never run backwards, on the time line of the stream's stamps."""

    def now_s(self) -> float:
        """Return the present time in seconds."""
        ...

    def wait_s(self, duration_s: float) -> None:
        """Let `duration_s` seconds pass."""
        ...


class LslClock:
    """LSL ``local_clock()``: the stream time of this host."""

    def __init__(self) -> None:
        import pylsl

        self._local_clock = pylsl.local_clock

    def now_s(self) -> float:
        return float(self._local_clock())

    def wait_s(self, duration_s: float) -> None:
        if duration_s > 0:
            time.sleep(duration_s)


class VirtualClock:
    """A clock that stands still until it is told to move. Used offline and in tests."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        return self._now_s

    def wait_s(self, duration_s: float) -> None:
        self.advance_to(self._now_s + max(duration_s, 0.0))

    def advance_to(self, t_s: float) -> None:
        """Move to `t_s`; a time in the past is ignored, because clocks do not run backwards."""
        self._now_s = max(self._now_s, t_s)


def utc_now_iso() -> str:
    """Return the present UTC time as ISO 8601 text, for records only."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
