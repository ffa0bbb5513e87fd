"""A preallocated ring of samples with absolute cursors.

Every sample is written twice, half a buffer apart, so that any window no longer than the capacity is one
contiguous view and reading never copies. Memory is fixed at construction.
"""

from __future__ import annotations

import numpy as np

from streamscore.types import FloatArray, TimeArray


class Ring:
    """The newest `capacity` samples of a stream, addressed by absolute index.

    Parameters
    ----------
    capacity
        Samples held.
    sample_shape
        Shape of one sample: ``(n_channels,)``, ``(height, width)`` of a frame, or ``()`` where only stamps are
        looked up.

    Attributes
    ----------
    stop
        Absolute index after the newest sample.
    run_start
        Absolute index of the first sample after the last gap; nothing before it can be read.
    """

    def __init__(self, capacity: int, sample_shape: tuple[int, ...]) -> None:
        self.capacity = capacity
        self.stop = 0
        self.run_start = 0
        self._data = np.zeros((2 * capacity, *sample_shape), np.float32)
        self._stamps_s = np.zeros(2 * capacity, np.float64)

    @property
    def oldest(self) -> int:
        """Absolute index of the oldest sample that can still be read."""
        return max(self.run_start, self.stop - self.capacity)

    def append(self, data: FloatArray, stamps_s: TimeArray) -> None:
        """Write samples after the newest one.

        Raises
        ------
        ValueError
            If there are more of them than the ring holds: whoever writes must read in between.
        """
        n = len(data)
        if n > self.capacity:
            raise ValueError(f"{n} samples do not fit a ring of {self.capacity}")
        at = self.stop % self.capacity
        first = min(n, self.capacity - at)
        for half in (0, self.capacity):
            self._data[half + at : half + at + first] = data[:first]
            self._stamps_s[half + at : half + at + first] = stamps_s[:first]
            self._data[half : half + n - first] = data[first:]
            self._stamps_s[half : half + n - first] = stamps_s[first:]
        self.stop += n

    def skip_to(self, index: int) -> None:
        """Continue at absolute `index` after a gap; what came before can no longer be read."""
        self.stop = max(index, self.stop)
        self.run_start = self.stop

    def window(self, start: int, stop: int) -> FloatArray:
        """Return ``(stop - start, *sample_shape)``, a view that is valid until the next write.

        Raises
        ------
        IndexError
            If part of it was overwritten, lies across a gap, or has not arrived.
        """
        self._check(start, stop)
        at = start % self.capacity
        return self._data[at : at + stop - start]

    def stamp_s(self, index: int) -> float:
        """Stream time of the sample with absolute `index`."""
        self._check(index, index + 1)
        return float(self._stamps_s[index % self.capacity])

    def _check(self, start: int, stop: int) -> None:
        if not self.oldest <= start < stop <= self.stop:
            raise IndexError(f"samples [{start}, {stop}) asked for, the ring holds [{self.oldest}, {self.stop})")
