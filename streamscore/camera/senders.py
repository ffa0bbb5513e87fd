"""Whether two cameras send to one address.

A PUSH socket takes in turn what its senders give. Of two cameras alike, each frame of one is a repeated or late
frame beside those of the other; dropping these would score whichever happens to be ahead, or a mixture of both. A
burst of late frames is dropped in one go; those of a second camera are dropped here and there.
"""

from __future__ import annotations


class Senders:
    """Follow how often dropping begins: frames repeated or out of order after one that was not.

    Parameters
    ----------
    rate_hz
        Frames per second.
    """

    #: Frames of this many seconds are looked at, but no fewer than the second.
    WINDOW_S, LEAST_FRAMES = 2.0, 64
    #: Shares of frames from which on two cameras are suspected, and below which they no longer are.
    MIXED, CLEAR = 0.15, 0.03

    def __init__(self, rate_hz: float) -> None:
        self._weight = 1.0 / max(self.WINDOW_S * rate_hz, self.LEAST_FRAMES)
        self._share = 0.0
        self._was_dropped = False
        self.are_two = False

    def add(self, dropped: bool) -> None:
        """Take in a frame that was, or was not, dropped as repeated or out of order."""
        self._share += self._weight * ((dropped and not self._was_dropped) - self._share)
        self._was_dropped = dropped
        self.are_two = self._share > (self.CLEAR if self.are_two else self.MIXED)
