"""What goes wrong many times, told in few words: the first of a kind at once, the rest as a number at times."""

from __future__ import annotations

from collections.abc import Callable


class Complaints:
    """Count what was refused, by cause.

    Parameters
    ----------
    now_s
        The local clock.

    Attributes
    ----------
    counts
        How often each cause was met.
    """

    #: Time between two notices of one cause.
    INTERVAL_S = 30.0

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.counts: dict[str, int] = {}
        self._told: dict[str, tuple[int, float]] = {}  # cause → the count that was told last, and when
        self._newest: dict[str, tuple[str, str]] = {}  # cause → level and text of the newest one

    def add(self, cause: str, level: str, text: str) -> None:
        """Note one; causes must be a closed set."""
        self.counts[cause] = self.counts.get(cause, 0) + 1
        self._newest[cause] = (level, text)

    def notices(self) -> list[tuple[str, str]]:
        """Return what is due to be told: pairs of level and text."""
        told = []
        for cause, (level, text) in list(self._newest.items()):
            n_told, told_s = self._told.get(cause, (0, -float("inf")))
            now_s = self._now_s()
            if now_s - told_s < self.INTERVAL_S:
                continue
            n_new = self.counts[cause] - n_told
            told.append((level, text if n_new == 1 else f"{text} ({n_new} times)"))
            self._told[cause] = (self.counts[cause], now_s)
            del self._newest[cause]
        return told
