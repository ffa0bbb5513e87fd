"""Which light a frame shows, told from its mean brightness: the last resort, without tags and a known counter.

The rig file says in which order the lights are bright, nothing else. Their levels are learnt from the first
frames, which must fall into as many groups as there are lights, and are followed while they drift. A frame that
is not clearly nearer to one level than to all others tells nothing. Levels are compared on a logarithmic scale,
because noise and drift go with brightness.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class Brightness:
    """Tell lights apart.

    Parameters
    ----------
    brightest_first
        Numbers of the lights, in the order of their brightness.

    Attributes
    ----------
    problem
        Why the last frame that was not told was not; empty while the levels are being learnt.
    """

    #: Levels are learnt from so many cycles, and anew when as many went by without one frame that fits.
    LEARN_CYCLES = 8
    #: Lights whose levels are nearer to each other than this are not told apart.
    LEAST_RATIO = 1.1
    #: How far a level moves towards each frame that fits it.
    TRACKING = 1 / 8
    #: Pixels a side that are looked at.
    SIDE_PIXELS = 64

    def __init__(self, brightest_first: Sequence[int]) -> None:
        self._order = list(brightest_first)
        self._recent: deque[float] = deque(maxlen=self.LEARN_CYCLES * len(self._order))
        self._logs: list[float] | None = None  # in the order of `_order`, so descending
        self._n_unclear = 0
        self.problem = ""

    def light(self, data: npt.NDArray[Any]) -> int | None:
        """Return the number of the light of a frame ``(height, width)``, ``None`` if it cannot be told."""
        height, width = data.shape
        sample = data[:: max(height // self.SIDE_PIXELS, 1), :: max(width // self.SIDE_PIXELS, 1)]
        mean = float(sample.mean(dtype=np.float64))
        if not 0.0 < mean < math.inf:
            return None
        value = math.log(mean)
        self._recent.append(value)
        n_recent = self._recent.maxlen or 0
        if self._logs is None:
            if len(self._recent) == n_recent:
                self._logs = self._learn()
                self.problem = (
                    "" if self._logs else f"frames do not fall into {len(self._order)} levels of brightness"
                )
            return None
        distances = [abs(value - log) for log in self._logs]
        best = min(range(len(distances)), key=distances.__getitem__)
        nearest = min(abs(log - self._logs[best]) for k, log in enumerate(self._logs) if k != best)
        if nearest < math.log(self.LEAST_RATIO) or distances[best] > nearest / 3:
            self.problem = f"a mean brightness of {mean:.4g} is near to none of the known, or to two of them"
            self._n_unclear += 1
            if self._n_unclear >= n_recent:
                self._logs, self._n_unclear = None, 0
                self._recent.clear()
            return None
        self._n_unclear = 0
        self._logs[best] += self.TRACKING * (value - self._logs[best])
        return self._order[best]

    def _learn(self) -> list[float] | None:
        """Divide recent frames at the widest steps of brightness; ``None`` unless that is clear."""
        n = len(self._order)
        values = np.sort(np.array(self._recent))[::-1]
        steps = values[:-1] - values[1:]
        cuts = np.sort(np.argsort(steps)[::-1][: n - 1]) + 1
        groups = np.split(values, cuts)
        least_step = max(math.log(self.LEAST_RATIO), *(2 * float(np.ptp(group)) for group in groups))
        if steps[cuts - 1].min() < least_step or min(map(len, groups)) < self.LEARN_CYCLES // 2:
            return None
        return [float(np.median(group)) for group in groups]
