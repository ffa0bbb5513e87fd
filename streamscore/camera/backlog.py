"""Whether frames wait longer than they should before they are taken, and who is to blame."""

from __future__ import annotations

import math


class Backlog:
    """Tell a person when frames stay late."""

    #: Frames that are later than this, all of them for :data:`PATIENCE_S`, are told.
    LIMIT_S = 0.5
    PATIENCE_S = 1.0
    #: Time between two notices.
    INTERVAL_S = 30.0

    def __init__(self) -> None:
        self._since_s = math.inf
        self._told_s = -math.inf
        self._waited = False  # whether the engine waited for any of the late frames
        self._notices: list[tuple[str, str]] = []

    def add(self, late_s: float, now_s: float, fresh: bool) -> None:
        """Take in the newest frame of a read.

        Parameters
        ----------
        late_s
            Local clock less the frame's stamp in stream time.
        now_s
            Local clock.
        fresh
            Whether the engine had waited for it.
        """
        if late_s <= self.LIMIT_S:
            self._since_s, self._waited = math.inf, False
            return
        self._since_s = min(self._since_s, now_s)
        self._waited |= fresh
        if now_s - self._since_s < self.PATIENCE_S or now_s - self._told_s < self.INTERVAL_S:
            return
        self._told_s = now_s
        text = (
            f"frames come {late_s:.1f} s later than at best, although the engine waits for them: the camera's "
            "program is behind, or the camera's clock stood still; if it did, start the run anew"
            if self._waited
            else f"falling behind: frames wait {late_s:.1f} s before they are taken. Score less often (hop_s), "
            "take a smaller network, or let the camera send fewer or smaller frames"
        )
        self._notices.append(("warning", text))

    def notices(self) -> list[tuple[str, str]]:
        """Return what a person should be told since the last call: pairs of level and text."""
        told, self._notices = self._notices, []
        return told
