"""When frames without a device time arrived, although some of them waited to be taken.

A frame that was *fresh* (the engine waited for it, and nothing newer was there) arrived when it was taken. A frame
that waited in a queue is counted on from the last fresh one, one period for each frame, and is at most as late as
the time at which it was taken. So a backlog shows in the stamps, and a burst is spread over the time that it took.
"""

from __future__ import annotations

import math

from streamscore.camera.frame import RawFrame


class Arrivals:
    """Stamp frames by their positions in the sequence.

    Parameters
    ----------
    rate_hz
        Frames per second.
    """

    #: What is further from the expectation is no jitter; the same as `timebase.jitter_tolerance_s` by default.
    TOLERANCE_S = 0.1
    #: Time constant with which the expectation follows arrivals.
    TRACKING_S = 2.0

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._fresh_s, self._fresh_position = math.nan, 0
        self._expected_s, self._expected_position = math.nan, 0

    def error_s(self, position: int, received_s: float) -> float:
        """Return by how much a frame is later than the expectation; NaN before the first one."""
        return received_s - (self._expected_s + (position - self._expected_position) / self._rate_hz)

    def stamp_s(self, position: int, frame: RawFrame) -> float:
        """Take in a frame and return the local clock at its arrival, in seconds."""
        counted_s = self._fresh_s + (position - self._fresh_position) / self._rate_hz
        if not frame.fresh and not math.isnan(counted_s):
            return min(counted_s, frame.received_s)
        error_s = self.error_s(position, frame.received_s)
        if abs(error_s) <= self.TOLERANCE_S:
            waited_s = (position - self._expected_position) / self._rate_hz
            self._expected_s = frame.received_s - error_s * max(1.0 - waited_s / self.TRACKING_S, 0.0)
        else:
            self._expected_s = frame.received_s
        self._expected_position = self._fresh_position = position
        self._fresh_s = frame.received_s
        return frame.received_s
