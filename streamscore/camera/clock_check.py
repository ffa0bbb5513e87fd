"""Whether the device's clock passed as many frames as the frame counter did.

A frame that was lost before it was counted leaves the counter one behind for good, and with it the lights that are
told by it. The clock shows it at once: it is then ahead of the counter by a whole frame, against what it was over
the frames before. A single wrong stamp goes by; frames that contradict must not be used meanwhile.
"""

from __future__ import annotations

import statistics
from collections import deque

from streamscore.camera.frame import RawFrame


class ClockCheck:
    """Compare positions, as counted, with device stamps.

    Parameters
    ----------
    rate_hz
        Frames per second.

    Attributes
    ----------
    n_contradicted
        Frames in a row that contradicted, up to now.
    """

    #: Clock and counter contradict each other beyond this part of a frame, or of a long loss.
    TOLERANCE_FRAMES = 0.75
    RATE_TOLERANCE = 0.03
    #: If they contradict each other for so long, they do not come together again.
    SUSTAINED_S = 1.0
    #: The clock is judged against so many frames before.
    N_BEFORE = 8
    #: A step of the clock of this size is told from lost frames by the times of arrival.
    STEP_S = 0.2

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._ahead: deque[float] = deque(maxlen=self.N_BEFORE)  # of the clock, in frames
        self.n_contradicted = 0

    @property
    def is_lasting(self) -> bool:
        """Whether the contradiction has come to stay."""
        return self.n_contradicted >= self.SUSTAINED_S * self._rate_hz

    def forget(self) -> None:
        """Begin anew, because positions do."""
        self._ahead.clear()
        self.n_contradicted = 0

    def contradiction(self, before: RawFrame, frame: RawFrame, position: int, n_frames: int) -> str:
        """Take in a frame with a finite device time.

        Parameters
        ----------
        before, frame
            The frame before it, and the frame.
        position, n_frames
            Of the frame, and how many frames after the one before it, as counted.

        Returns
        -------
        contradiction
            In words; empty if there is none.
        """
        ahead = frame.device_s * self._rate_hz - position
        by_rate = self.RATE_TOLERANCE * (n_frames + self.N_BEFORE)  # what a rate that is a little off accounts for
        if self._ahead:
            off = ahead - statistics.median(self._ahead)
            late = (frame.received_s - before.received_s) * self._rate_hz - n_frames
            is_step = abs(off) > self.STEP_S * self._rate_hz and abs(late) < abs(off) / 2
            if is_step and frame.fresh and before.fresh and not self.n_contradicted:
                self._ahead.clear()  # the clock was set: frames came as the counter says
            elif abs(off) > max(self.TOLERANCE_FRAMES, by_rate):
                self.n_contradicted += 1
                return (
                    f"time_s says that {abs(off):.1f} frames {'more' if off > 0 else 'fewer'} went by than counted"
                )
        if by_rate > self.TOLERANCE_FRAMES:
            self._ahead.clear()
        self._ahead.append(ahead)
        self.n_contradicted = 0
        return ""
