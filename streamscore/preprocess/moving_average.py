"""Removal of a moving average: slow changes go, what is quicker than the window stays.

The published ROI decoders subtract a *centred* average over 1,000 frames at 30 Hz, MATLAB's ``movmean``: 500
frames before, the frame itself and 499 after, fewer where the session starts or ends (MODELS.md 4.3).

``centred``
    Exactly those values, late: the output at index i describes sample i - 499 (``lag_samples``). Until so many
    samples have come, also after a gap, the output is 0 and must not be scored. Only the end differs, where online
    nobody knows that the session will end.
``trailing``
    The average over the newest 1,000 samples, with no lag. It is another high-pass, which shifts what changes
    slowly in phase; a network has to be trained on it.

A lost sample is left out of the averages that would hold it, as ``omitnan`` does; the rest of the window is
kept over a gap, as it tells where the baseline lies. Sums are exact: float64, and none is older than two
windows. A window's sum is what is left of the last block of that length plus what has come of the present one
(van Herk 1992), so that nothing is ever subtracted from a sum and no rounding can pile up.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamscore.preprocess.base import Step, signals_of
from streamscore.types import FloatArray, Layout, TimeArray


class Config(BaseModel):
    """Arguments of :class:`MovingAverage`.

    Parameters
    ----------
    form
        See the module.
    window_samples, window_s
        Length of the window, in samples or in seconds; one of the two. 1,000 samples are published, at 30 Hz.
    warm_up_s, settle_s
        How long the output must not be scored, at the start of a run while the window fills and after a gap;
        the lag comes on top.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["trailing", "centred"] = "trailing"
    window_samples: int | None = Field(None, ge=2, le=10**6)
    window_s: float | None = Field(None, gt=0, le=1e5)
    warm_up_s: float = Field(10.0, ge=0)
    settle_s: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if (self.window_samples is None) == (self.window_s is None):
            raise ValueError("moving_average needs its length, window_samples or window_s, and not both")
        return self


class MovingAverage(Step):
    """Subtract from each sample the average of the window around or before it; each channel by itself."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self.layout = layout
        n = config.window_samples or round((config.window_s or 0.0) * layout.sfreq)
        if n < 2:
            raise ValueError(f"moving_average: window_s {config.window_s} holds {n} samples; give it 2 or more")
        n_channels = len(layout.channels)
        self._n = n
        self.lag_samples = after(n) if config.form == "centred" else 0
        self.warm_up_samples = round(config.warm_up_s * layout.sfreq)
        self.settle_samples = round(config.settle_s * layout.sfreq)
        self._block_index = 0
        self._x = np.zeros((n, n_channels))
        self._is_there = np.zeros(n, np.int64)
        self._sum: TimeArray = np.zeros(n_channels)
        self._count = 0
        # Of the block before: its samples, and their sums from each of them to its end.
        self._last_x = np.zeros((n, n_channels))
        self._last_sums = np.zeros((n + 1, n_channels))
        self._last_counts = np.zeros(n + 1, np.int64)
        self._first: int | None = None

    def push(self, x: FloatArray, start: int) -> FloatArray:
        y = np.empty_like(x)
        if self._first is None and len(x):
            self._first = start
        done = 0
        while done < len(x):
            block, offset = divmod(start + done, self._n)
            self._turn_to(block)
            n = min(self._n - offset, len(x) - done)
            y[done : done + n] = self._add(x[done : done + n], offset)
            done += n
        if self._first is not None:
            y[: max(self._first + self.lag_samples - start, 0)] = 0.0
        return y

    def reset(self) -> None:
        # The window stays; but what lies before the gap is described no more.
        self._first = None

    def _add(self, x: FloatArray, offset: int) -> TimeArray:
        """Take in samples of the present block and return what the step says at them, ``(n, n_channels)``."""
        part = slice(offset, offset + len(x))
        self._x[part] = x
        self._is_there[part] = 1
        sums = np.cumsum(np.concatenate((self._sum[None], self._x[part])), axis=0)[1:]
        counts = self._count + np.arange(1, len(x) + 1)
        self._sum, self._count = sums[-1], int(counts[-1])
        rest = slice(offset + 1, offset + len(x) + 1)
        average = (sums + self._last_sums[rest]) / (counts + self._last_counts[rest])[:, None]
        if self.lag_samples == 0:
            return self._x[part] - average
        at = np.arange(offset, offset + len(x)) - self.lag_samples
        described = np.where((at >= 0)[:, None], self._x[at], self._last_x[at])  # negative ones count from the end
        return described - average

    def _turn_to(self, block: int) -> None:
        """Make `block` the present one."""
        if block == self._block_index:
            return
        if block == self._block_index + 1:
            self._last_x, self._x = self._x, self._last_x
            self._last_sums[:-1] = np.cumsum(self._last_x[::-1], axis=0)[::-1]
            self._last_counts[:-1] = np.cumsum(self._is_there[::-1])[::-1]
        else:
            self._last_sums[:] = 0.0
            self._last_counts[:] = 0
        self._x[:] = 0.0
        self._is_there[:] = 0
        self._sum, self._count = np.zeros_like(self._sum), 0
        self._block_index = block


def after(window_samples: int) -> int:
    """Samples after its own that a centred window of MATLAB's holds: one less than before, if it is even."""
    return (window_samples - 1) // 2


def whole_recording(x: FloatArray, window_samples: int) -> TimeArray:
    """Return a whole recording less its centred moving average, as published.

    Parameters
    ----------
    x
        ``(n_samples, n_channels)``.
    window_samples
        Length of the window; shorter at both ends.

    Returns
    -------
    ndarray
        ``(n_samples, n_channels)`` float64: ``x - movmean(x, window_samples)`` of MATLAB.
    """
    sums = np.concatenate((np.zeros((1, x.shape[1])), np.cumsum(x, axis=0, dtype=np.float64)))
    index = np.arange(len(x))
    stop = np.minimum(index + after(window_samples) + 1, len(x))
    begin = np.maximum(index + after(window_samples) + 1 - window_samples, 0)
    averages: TimeArray = (sums[stop] - sums[begin]) / (stop - begin)[:, None]
    return x - averages


def build(config: Config, layout: Layout) -> MovingAverage:
    """Return the step for signals of `layout`."""
    return MovingAverage(config, signals_of("moving_average", layout))
