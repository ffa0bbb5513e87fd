"""Latency, deadlines and misses, in fixed memory.

Latencies go into a histogram with logarithmic bins, so a run of a year needs as much memory as one of a minute.
A percentile is exact to the width of a bin (2 %); the maximum is exact.
"""

from __future__ import annotations

import math
from array import array

import numpy as np


class LatencyHistogram:
    """Distribution of a latency between 1 µs and 1,000 s."""

    FLOOR_S = 1e-6
    BINS_PER_E_FOLD = 50
    N_BINS = math.ceil(math.log(1e9) * BINS_PER_E_FOLD) + 1

    def __init__(self) -> None:
        # Counting in an array of numpy costs several times as much.
        self._counts = array("q", bytes(8 * self.N_BINS))
        self.n = 0
        self.max_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one latency."""
        position = math.log(max(latency_s, self.FLOOR_S) / self.FLOOR_S) * self.BINS_PER_E_FOLD
        self._counts[min(int(position), self.N_BINS - 1)] += 1
        self.n += 1
        self.max_s = max(self.max_s, latency_s)

    def percentile_s(self, percent: float) -> float:
        """Return the latency that `percent` of all do not exceed; 0 when there are none."""
        if self.n == 0:
            return 0.0
        rank = math.ceil(self.n * percent / 100)
        index = int(np.searchsorted(np.cumsum(np.frombuffer(self._counts, np.int64)), rank))
        return min(self.FLOOR_S * math.exp((index + 1) / self.BINS_PER_E_FOLD), self.max_s)

    def summary_ms(self) -> dict[str, float]:
        """Return count, p50, p99, p99.9 and maximum in milliseconds."""
        return {
            "n": float(self.n),
            "p50_ms": 1e3 * self.percentile_s(50),
            "p99_ms": 1e3 * self.percentile_s(99),
            "p999_ms": 1e3 * self.percentile_s(99.9),
            "max_ms": 1e3 * self.max_s,
        }


class Deadline:
    """Latencies of one stream against its deadline.

    Parameters
    ----------
    deadline_s
        Latest time from the newest sample needed to the event being written.
    stages
        Names of the parts of the way whose times are kept apart.
    """

    def __init__(self, deadline_s: float, stages: tuple[str, ...]) -> None:
        self.deadline_s = deadline_s
        self.misses = 0
        self.total = LatencyHistogram()
        self.stages = {stage: LatencyHistogram() for stage in stages}

    def add(self, latency_s: float) -> bool:
        """Count one output; return whether it was late."""
        self.total.add(latency_s)
        late = latency_s > self.deadline_s
        self.misses += late
        return late
