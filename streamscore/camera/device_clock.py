"""From the camera's clock to stream time.

Each frame gives one difference between arrival and device time: the offset that is looked for, plus a delay that
is never below the shortest way through the cable. Only the frames that were quickest tell the offset, so the
estimate is the *lower envelope* of the differences: a quicker frame pulls it down at once, and between such
frames it rises at :data:`MAX_DRIFT`, more than two quartz clocks ever part. A burst of late frames therefore
moves it by next to nothing, and drift is followed in both directions (the minimum filter of network time
synchronisation; Moon, Skelly and Towsley, INFOCOM 1999, do it for a whole trace).

The shortest delay itself (exposure, readout, transport) cannot be seen from here. Whoever measured it subtracts
it from the stamps.
"""

from __future__ import annotations

import math


class DeviceClock:
    """Estimate ``stream time - device time``.

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
    #: A difference that stays this far from the estimate for :data:`PATIENCE_S` is a new clock and no delay.
    STEP_S = 0.1
    PATIENCE_S = 10.0

    def __init__(self) -> None:
        self.offset_s = 0.0
        self._estimate_s = math.nan
        self._last_device_s = self._last_received_s = math.nan
        self._late_since_s = math.inf
        self._late_least_s = math.inf
        self._notices: list[tuple[str, str]] = []

    def add(self, device_s: float, received_s: float) -> None:
        """Take in one frame; a device time that is not finite is passed over.

        Parameters
        ----------
        device_s
            The frame's stamp by the device.
        received_s
            Local clock at its arrival.
        """
        difference_s = received_s - device_s
        if not math.isfinite(difference_s):
            return
        if math.isnan(self._estimate_s):
            self._learn(difference_s)
        elif device_s < self._last_device_s and abs(difference_s - self._estimate_s) > self.STEP_S:
            # Frames out of order are as far apart as before; a device that starts again is not.
            self._learn_again(difference_s)
        else:
            self._follow(difference_s, received_s)
        self._last_device_s, self._last_received_s = device_s, received_s
        if abs(self._estimate_s - self.offset_s) > self.RESOLUTION_S:
            self.offset_s = self._estimate_s

    def notices(self) -> list[tuple[str, str]]:
        """Return what a person should be told since the last call: pairs of level and text."""
        told, self._notices = self._notices, []
        return told

    def _follow(self, difference_s: float, received_s: float) -> None:
        drift_s = self.MAX_DRIFT * max(received_s - self._last_received_s, 0.0)
        if difference_s < self._estimate_s - drift_s - self.STEP_S:
            self._learn_again(difference_s)
        elif difference_s <= self._estimate_s + drift_s + self.STEP_S:
            self._late_since_s = self._late_least_s = math.inf
            self._estimate_s = min(self._estimate_s + drift_s, difference_s)
        else:
            self._estimate_s += drift_s
            self._late_since_s = min(self._late_since_s, received_s)
            self._late_least_s = min(self._late_least_s, difference_s)
            if received_s - self._late_since_s >= self.PATIENCE_S:
                self._learn_again(self._late_least_s)

    def _learn(self, difference_s: float) -> None:
        self._estimate_s = difference_s
        self._late_since_s = self._late_least_s = math.inf

    def _learn_again(self, difference_s: float) -> None:
        step_s = difference_s - self._estimate_s
        self._learn(difference_s)
        self._notices.append(
            (
                "warning",
                f"the camera's clock moved by {-step_s:+.3f} s against this computer's; its offset is learnt anew",
            )
        )
