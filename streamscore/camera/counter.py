"""From a frame counter, which wraps, repeats, runs backwards and begins anew, to a number of frames gone by.

A step ahead of up to :data:`FrameCounter.PLAUSIBLE_S` is believed at once. A counter that fell, or leapt
further, is believed once a number of frames have come that follow on from it; until then they are strays and
are dropped. So a late frame, or the frames of a second sender, change nothing, and a camera that was restarted
is taken up again.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Step(NamedTuple):
    """How far a frame is from the last one that was taken.

    Parameters
    ----------
    n_frames
        Frames from one to the other, at least 1; the nearest guess after a restart.
    new_run
        The counter began anew (or is the first), so that what it said before tells nothing about this frame.
    """

    n_frames: int
    new_run: bool = False


class FrameCounter:
    """Follow a counter.

    Parameters
    ----------
    rate_hz
        Frames per second.
    bits
        After how many bits the counter wraps, ``None`` if it does not.
    confirm_frames
        How many frames must follow on before an implausible counter is believed.

    Attributes
    ----------
    period
        Number of counts after which the counter is the same again; 0 if it never is.
    """

    #: Longest step, in seconds of frames, that is believed at once; and the most by which a frame can be late.
    PLAUSIBLE_S = 10.0
    LATE_S = 1.0
    #: A leap beyond this is no loss but another count.
    LONGEST_LOSS_S = 86_400.0

    def __init__(self, rate_hz: float, bits: int | None, confirm_frames: int) -> None:
        self.confirm_frames = confirm_frames
        self.period = 2**bits if bits is not None else 0
        self._plausible_frames = max(round(self.PLAUSIBLE_S * rate_hz), confirm_frames)
        self._late_frames = max(round(self.LATE_S * rate_hz), confirm_frames)
        self._longest_frames = round(self.LONGEST_LOSS_S * rate_hz)
        self._last: int | None = None
        self._stray = 0
        self._n_strays = 0

    def is_counter(self, counter: int) -> bool:
        """Whether a camera with so many bits can have sent this."""
        return 0 <= counter < (self.period or 2**63)

    def step(self, counter: int, elapsed_frames: float | None) -> Step | str:
        """Place a frame, or say why it has no place: ``"repeated"`` or ``"out of order"``.

        Parameters
        ----------
        counter
            As sent; see :meth:`is_counter`.
        elapsed_frames
            Time since the last frame taken, in frames, where a clock tells it. It counts the wraps of a long
            silence.
        """
        if self._last is None:
            self._last = counter
            return Step(1, new_run=True)
        ahead = counter - self._last
        if self.period:
            ahead = (ahead + self.period // 2) % self.period - self.period // 2
            if elapsed_frames is not None:
                ahead += self.period * max(round((elapsed_frames - ahead) / self.period), 0)
        if ahead == 0:
            return "repeated"
        if not 0 < ahead <= self._plausible_frames and not self._is_confirmed(counter, ahead, elapsed_frames):
            return "out of order"
        self._last, self._n_strays = counter, 0
        if 0 < ahead <= self._longest_frames:
            return Step(ahead)
        return Step(max(self.confirm_frames, math.ceil(elapsed_frames or 0.0)), new_run=True)

    def _is_confirmed(self, counter: int, ahead: int, elapsed_frames: float | None) -> bool:
        """Whether enough frames have followed on since the counter ceased to be plausible."""
        if -self._late_frames <= ahead < 0 and elapsed_frames is not None and elapsed_frames < ahead / 2:
            return False  # its clock says too that it is late
        follows = self._n_strays and counter == (self._stray + 1) % (self.period or 2**63)
        self._stray = counter
        self._n_strays = self._n_strays + 1 if follows else 1
        return self._n_strays >= self.confirm_frames
