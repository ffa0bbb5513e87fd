"""From the camera's clock to stream time.

Each frame gives one difference between arrival and device time: the offset that is looked for, plus a delay that
is never below the shortest way through the cable. Only the frames that were quickest tell the offset, so the
estimate is the *lower envelope* of the differences: a quicker frame pulls it down at once, and between such
frames it rises at :data:`MAX_DRIFT`, more than two quartz clocks ever part. A burst of late frames therefore
moves it by next to nothing, and drift is followed in both directions (the minimum filter of network time
synchronisation; Moon, Skelly and Towsley, INFOCOM 1999, do it for a whole trace).

Frames that wait in a queue are late too, all of them and for as long as the engine is behind, and must not pass
for fresh. The estimate therefore rises with *fresh* frames alone, those that the engine waited for, and leaps up
only after the device's clock itself was seen to step: backwards, or against the frame counter.

The shortest delay itself (exposure, readout, transport) cannot be seen from here. Whoever measured it subtracts
it from the stamps.
"""

from __future__ import annotations

import math


class DeviceClock:
    """Estimate ``stream time - device time``.

    Parameters
    ----------
    rate_hz
        Frames per second.
    counter_bits
        After how many bits the frame counter wraps, ``None`` if it does not.

    Attributes
    ----------
    offset_s
        What to add to device stamps. It moves in steps of :data:`RESOLUTION_S` or more, so that a record of its
        changes stays short; 0 until the first frame with a device time.
    """

    #: Rise of the estimate in seconds a second. Quartz clocks part by some 1e-5 to 1e-4.
    MAX_DRIFT = 2e-4
    #: The estimate may be off what is told by this much.
    RESOLUTION_S = 0.5e-3
    #: Differences that are further apart than this are no delay, where the device's clock was seen to step.
    STEP_S = 0.1
    #: The rate may be off by this part; longer losses say the less about steps.
    RATE_TOLERANCE = 0.03

    def __init__(self, rate_hz: float, counter_bits: int | None = None) -> None:
        self.offset_s = 0.0
        self._rate_hz = rate_hz
        self._counter_period = 2**counter_bits if counter_bits is not None else 0
        self._estimate_s = math.nan
        self._last_device_s = self._last_difference_s = math.nan
        self._last_counter: int | None = None
        self._last_fresh_s = math.nan
        self._stepped = False  # and no fresh frame has told since by how much
        self._notices: list[tuple[str, str]] = []

    def add(self, device_s: float, received_s: float, counter: int | None = None, *, fresh: bool = True) -> None:
        """Take in one frame; a device time that is not finite is passed over.

        Parameters
        ----------
        device_s
            The frame's stamp by the device.
        received_s
            Local clock when it was taken.
        counter
            Its frame counter.
        fresh
            Whether it was taken as soon as it came; see :class:`RawFrame`.
        """
        difference_s = received_s - device_s
        if not math.isfinite(difference_s):
            return
        if math.isnan(self._estimate_s):
            self._estimate_s = difference_s
        else:
            self._watch(device_s, difference_s, counter)
            if fresh and self._stepped:
                self._stepped = False
                if abs(difference_s - self._estimate_s) > self.STEP_S:
                    self._learn_again(difference_s)
            self._follow(difference_s, received_s, fresh)
        self._last_device_s, self._last_difference_s, self._last_counter = device_s, difference_s, counter
        if fresh:
            self._last_fresh_s = received_s
        if abs(self._estimate_s - self.offset_s) > self.RESOLUTION_S:
            self.offset_s = self._estimate_s

    def notices(self) -> list[tuple[str, str]]:
        """Return what a person should be told since the last call: pairs of level and text."""
        told, self._notices = self._notices, []
        return told

    def _watch(self, device_s: float, difference_s: float, counter: int | None) -> None:
        """See whether the device's clock stepped; until a fresh frame comes, assume what makes frames older."""
        if device_s < self._last_device_s and abs(difference_s - self._last_difference_s) > self.STEP_S:
            # Frames out of order are as far apart as before; a device that starts again is not. In a queue the
            # frame waited about as long as the one before it.
            self._stepped = True
            self._learn_again(difference_s - max(self._last_difference_s - self._estimate_s, 0.0))
            return
        if counter is None or self._last_counter is None:
            return
        n_frames = counter - self._last_counter
        n_frames = n_frames % self._counter_period if self._counter_period else n_frames
        counted_s = n_frames / self._rate_hz
        ahead_s = device_s - self._last_device_s - counted_s
        if n_frames > 0 and abs(ahead_s) > self.STEP_S + self.RATE_TOLERANCE * counted_s:
            self._stepped = True
            # (If time went by as the device says, then frames were lost that the counter does not know.)
            if ahead_s > 0 and difference_s < self._last_difference_s - self.STEP_S:
                self._learn_again(self._estimate_s - ahead_s)

    def _follow(self, difference_s: float, received_s: float, fresh: bool) -> None:
        drift_s = 0.0
        if fresh and not math.isnan(self._last_fresh_s):
            drift_s = self.MAX_DRIFT * max(received_s - self._last_fresh_s, 0.0)
        if difference_s < self._estimate_s - self.STEP_S - drift_s:
            self._learn_again(difference_s)
        else:
            self._estimate_s = min(self._estimate_s + drift_s, difference_s)

    def _learn_again(self, difference_s: float) -> None:
        step_s = difference_s - self._estimate_s
        self._estimate_s = difference_s
        self._notices.append(
            (
                "warning",
                f"the camera's clock moved by {-step_s:+.3f} s against this computer's; its offset is learnt anew",
            )
        )
