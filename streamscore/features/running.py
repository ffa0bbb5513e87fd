"""Running estimates of where a recording lies and how wide it is, learnt block by block in bounded memory.

An estimate is the plain one over all blocks so far, until `tau_blocks` have been seen; from then on it forgets
with that time constant. So each of them ends, on a recording shorter than the time constant, at what the whole
recording gives (:func:`whole`), exactly or, for quantiles, to the width of a bin.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamscore.types import FloatArray

Statistic = Literal["scale", "zscore", "robust", "minmax"]
DoubleArray = npt.NDArray[np.float64]

#: Floor of a scale, so that a silent channel cannot produce infinities.
SCALE_FLOOR = 1e-12
QUARTILES = (0.25, 0.5, 0.75)


class Running(ABC):
    """One estimate for each channel.

    Attributes
    ----------
    n_blocks
        Blocks learnt so far.
    offset, scale
        ``(n_channels,)``; 0 and 1 until the first block.
    """

    def __init__(self, n_channels: int, tau_blocks: float) -> None:
        self.n_blocks = 0
        self.offset: DoubleArray = np.zeros(n_channels)
        self.scale: DoubleArray = np.ones(n_channels)
        self._tau_blocks = tau_blocks

    def begin_at(self, offset: npt.ArrayLike, scale: npt.ArrayLike) -> None:
        """Begin as if blocks with this offset and scale had been seen for the whole time constant.

        Raises
        ------
        ValueError
            If the estimate is made of more than these two.
        """
        raise ValueError("only the statistics 'scale' and 'zscore' can begin with stored constants")

    def learn(self, block: FloatArray) -> None:
        """Take in ``(n_samples, n_channels)``; all blocks have as many samples."""
        self.learn_all(block[None])

    def learn_all(self, blocks: FloatArray) -> tuple[DoubleArray, DoubleArray]:
        """Take in ``(n_blocks, n_samples, n_channels)``, one after the other.

        Returns
        -------
        offsets, scales
            After each of them, ``(n_blocks, n_channels)``.
        """
        offsets, scales = self._follow(blocks)
        if len(blocks):
            self.offset, self.scale = offsets[-1], scales[-1]
        return offsets, scales

    def _next_weight(self) -> float:
        """Count a block; return its weight in the estimate, in which all before it have the rest."""
        self.n_blocks += 1
        return max(1.0 / self.n_blocks, 1.0 / self._tau_blocks)

    @property
    def _forgets(self) -> bool:
        return self.n_blocks > self._tau_blocks

    @abstractmethod
    def _follow(self, blocks: FloatArray) -> tuple[DoubleArray, DoubleArray]:
        """Do what :meth:`learn_all` does, but for keeping the last offset and scale."""


def _by_channel(blocks: FloatArray) -> DoubleArray:
    """Return ``(n_blocks, n_channels, n_samples)``: sums then run in the same order for one block and for many."""
    return np.ascontiguousarray(blocks.transpose(0, 2, 1), dtype=np.float64)


class RunningScale(Running):
    """No offset; geometric mean of the blocks' standard deviations, which a few artefacts hardly move."""

    def __init__(self, n_channels: int, tau_blocks: float) -> None:
        super().__init__(n_channels, tau_blocks)
        self._log_scale = [0.0] * n_channels

    def begin_at(self, offset: npt.ArrayLike, scale: npt.ArrayLike) -> None:
        self.scale = np.array(scale, np.float64)
        self._log_scale = np.log(self.scale).tolist()
        self.n_blocks = math.ceil(self._tau_blocks)

    def _follow(self, blocks: FloatArray) -> tuple[DoubleArray, DoubleArray]:
        # (Plain numbers: a night has ten thousands of blocks, and array arithmetic on a few values is slow.)
        log_stds = np.log(np.maximum(_by_channel(blocks).std(axis=2), SCALE_FLOOR)).tolist()
        for k, log_std in enumerate(log_stds):
            weight = self._next_weight()
            pairs = zip(self._log_scale, log_std, strict=True)
            self._log_scale = log_stds[k] = [old + weight * (new - old) for old, new in pairs]
        scales = np.exp(np.array(log_stds).reshape(-1, len(self.scale)))
        return np.zeros_like(scales), scales


class RunningMoments(Running):
    """Mean, and standard deviation around it."""

    def __init__(self, n_channels: int, tau_blocks: float) -> None:
        super().__init__(n_channels, tau_blocks)
        self._variance = np.zeros(n_channels)

    def begin_at(self, offset: npt.ArrayLike, scale: npt.ArrayLike) -> None:
        self.offset, self.scale = np.array(offset, np.float64), np.array(scale, np.float64)
        self._variance = self.scale**2
        self.n_blocks = math.ceil(self._tau_blocks)

    def _follow(self, blocks: FloatArray) -> tuple[DoubleArray, DoubleArray]:
        z = _by_channel(blocks)
        means, within = z.mean(axis=2), z.var(axis=2)
        offsets, variances = np.empty_like(means), np.empty_like(means)
        offset = self.offset
        for k, mean in enumerate(means):
            weight = self._next_weight()
            step = mean - offset
            self._variance = (1.0 - weight) * (self._variance + weight * step**2) + weight * within[k]
            offset = offset + weight * step
            offsets[k], variances[k] = offset, self._variance
        return offsets, np.maximum(np.sqrt(variances), SCALE_FLOOR)


class RunningRange(Running):
    """Smallest value, and distance to the largest.

    Forgetting, a limit that the blocks no longer reach moves towards theirs.
    """

    def __init__(self, n_channels: int, tau_blocks: float) -> None:
        super().__init__(n_channels, tau_blocks)
        self._low = np.full(n_channels, np.inf)
        self._high = np.full(n_channels, -np.inf)

    def _follow(self, blocks: FloatArray) -> tuple[DoubleArray, DoubleArray]:
        lows, highs = blocks.min(axis=1).astype(np.float64), blocks.max(axis=1).astype(np.float64)
        for k, (low, high) in enumerate(zip(lows, highs, strict=True)):
            weight = self._next_weight()
            if self._forgets:
                self._low += weight * (low - self._low)
                self._high += weight * (high - self._high)
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
            lows[k], highs[k] = self._low, self._high
        return lows, np.maximum(highs - lows, SCALE_FLOOR)


class RunningQuartiles(Running):
    """Median and distance of the quartiles, from a histogram of fixed size.

    Bins grow by 2 % with the distance from an anchor, the median of the first block, on either side of it from
    1e-9 to 1e9, so that any unit and any amplitude fit. A quantile is interpolated within its bin: it is off by
    at most 2 % of its distance from the anchor, and for a smooth distribution by much less. A channel whose offset
    wanders far from the anchor, compared with its width, should be high-passed first. About 34 kB a channel.
    """

    GROWTH = 1.02
    SMALLEST, LARGEST = 1e-9, 1e9

    def __init__(self, n_channels: int, tau_blocks: float) -> None:
        super().__init__(n_channels, tau_blocks)
        self._log_growth = np.log(self.GROWTH)
        self._n_side = int(np.ceil(np.log(self.LARGEST / self.SMALLEST) / self._log_growth))
        borders = self.SMALLEST * self.GROWTH ** np.arange(self._n_side + 1)
        self._borders = np.concatenate((-borders[::-1], borders))
        self._share = np.zeros((n_channels, len(self._borders) - 1))
        self._anchor: DoubleArray | None = None

    def _follow(self, blocks: FloatArray) -> tuple[DoubleArray, DoubleArray]:
        offsets, scales = np.empty((2, len(blocks), len(self._share)))
        for k, block in enumerate(blocks):
            if self._anchor is None:
                self._anchor = np.median(block.astype(np.float64), axis=0)
            self._share += self._next_weight() * (self._histogram(block - self._anchor) - self._share)
            below = np.cumsum(self._share, axis=1)
            low, middle, high = (self._quantile(q, below) for q in QUARTILES)
            offsets[k], scales[k] = middle + self._anchor, np.maximum(high - low, SCALE_FLOOR)
        return offsets, scales

    def _histogram(self, distance: DoubleArray) -> DoubleArray:
        """Share ``(n_channels, n_bins)`` of the samples ``(n_samples, n_channels)`` in each bin."""
        n_samples, n_channels = distance.shape
        size = np.clip(np.abs(distance), self.SMALLEST, None)
        # The bin in the middle, of what is closer than the smallest border, is one step from either side.
        steps = np.minimum(np.log(size / self.SMALLEST) // self._log_growth + 1, self._n_side)
        steps[np.abs(distance) < self.SMALLEST] = 0
        n_bins = self._share.shape[1]
        bins = self._n_side + (np.sign(distance) * steps).astype(np.int64) + n_bins * np.arange(n_channels)
        counts = np.bincount(bins.ravel(), minlength=n_bins * n_channels)
        shares: DoubleArray = counts.reshape(n_channels, n_bins) / n_samples
        return shares

    def _quantile(self, q: float, below: DoubleArray) -> DoubleArray:
        """Distance ``(n_channels,)`` from the anchor below which the share `q` lies; `below` sums the shares."""
        wanted = q * below[:, -1]
        bin_ = (below < wanted[:, None]).sum(axis=1)
        channel = np.arange(len(below))
        share = self._share[channel, bin_]
        inside = (wanted - (below[channel, bin_] - share)) / share
        low, high = self._borders[bin_], self._borders[bin_ + 1]
        value: DoubleArray = low + inside * (high - low)
        return value


RUNNING: dict[Statistic, type[Running]] = {
    "scale": RunningScale,
    "zscore": RunningMoments,
    "robust": RunningQuartiles,
    "minmax": RunningRange,
}


def whole(x: FloatArray, statistic: Statistic, block_samples: int) -> tuple[DoubleArray, DoubleArray]:
    """Return offset and scale ``(n_channels,)`` of a whole recording ``(n_samples, n_channels)``.

    `block_samples` matters for ``"scale"`` alone; samples after the last whole block are left out there.
    """
    z = x.astype(np.float64)
    offset, scale = np.zeros(z.shape[1]), np.ones(z.shape[1])
    if statistic == "scale":
        blocks = z[: len(z) // block_samples * block_samples].reshape(-1, block_samples, z.shape[1])
        scale = np.exp(np.log(np.maximum(blocks.std(axis=1), SCALE_FLOOR)).mean(axis=0))
    elif statistic == "zscore":
        offset, scale = z.mean(axis=0), z.std(axis=0)
    elif statistic == "robust":
        low, offset, high = np.quantile(z, QUARTILES, axis=0)
        scale = high - low
    else:
        offset, scale = z.min(axis=0), np.ptp(z, axis=0)
    return offset, np.maximum(scale, SCALE_FLOOR)
