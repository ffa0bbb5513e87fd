"""Amplitude normalisation with a causal estimate of "the recording's" scale.

Networks are trained on normalised nights, but online the night has not happened yet. Three estimators:

``running``
    Geometric mean of the per-second standard deviations seen so far; becomes an exponential mean with time
    constant `tau_s` once that much was seen. Never looks ahead, follows electrodes as they age.
``calibration``
    The same, frozen after `warm_up_s`.
``stored``
    Constants from the bundle, `stored_scale` per channel, for calibrated amplifiers.

The estimate advances by whole seconds of the absolute index and is applied to the *next* second, so that the
chunking cannot matter. A gap keeps it: losing samples does not change an electrode's gain.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.preprocess.base import Step
from streamscore.types import FloatArray


class Config(BaseModel):
    """Arguments of :class:`Normalise`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimator: Literal["running", "calibration", "stored"] = "running"
    tau_s: float = Field(3600.0, gt=0)
    warm_up_s: float = Field(60.0, ge=0)
    stored_scale: tuple[float, ...] = ()
    clip: float = Field(20.0, gt=0)


class Normalise(Step):
    """Divide by the estimated scale, then clip to ``± clip``."""

    #: Floor of a block's standard deviation, so that a silent second cannot produce infinities.
    SCALE_FLOOR = 1e-12

    def __init__(self, config: Config, sfreq: float, n_channels: int) -> None:
        self._config = config
        self._block_samples = max(round(sfreq), 1)
        self._n_blocks = 0
        self._log_scale = np.zeros(n_channels)
        self._scale = np.ones(n_channels, np.float32)
        self._block = np.empty((self._block_samples, n_channels), np.float32)
        self._n_filled = 0
        self.warm_up_samples = round(config.warm_up_s * sfreq)
        if config.estimator == "stored":
            if len(config.stored_scale) != n_channels:
                raise ValueError(f"stored_scale has {len(config.stored_scale)} values for {n_channels} channels")
            self._scale[:] = config.stored_scale
            self.warm_up_samples = 0

    def push(self, x: FloatArray, start: int) -> FloatArray:
        y = np.empty_like(x)
        done = 0
        while done < len(x):
            offset = (start + done) % self._block_samples
            n = min(self._block_samples - offset, len(x) - done)
            part = x[done : done + n]
            np.divide(part, self._scale, out=y[done : done + n])
            if self._n_filled == offset:  # otherwise the block began inside a gap and is not complete
                self._block[offset : offset + n] = part
                self._n_filled += n
            if offset + n == self._block_samples:
                if self._n_filled == self._block_samples:
                    self._learn()
                self._n_filled = 0
            done += n
        return np.clip(y, -self._config.clip, self._config.clip, out=y)

    def reset(self) -> None:
        self._n_filled = 0

    def _learn(self) -> None:
        config = self._config
        if config.estimator == "stored":
            return
        if config.estimator == "calibration" and self._n_blocks * self._block_samples >= self.warm_up_samples:
            return
        std = np.maximum(self._block.std(axis=0, dtype=np.float64), self.SCALE_FLOOR)
        self._n_blocks += 1
        weight = max(1.0 / self._n_blocks, 1.0 / config.tau_s)  # a block is a second
        self._log_scale += weight * (np.log(std) - self._log_scale)
        self._scale = np.exp(self._log_scale).astype(np.float32)


def build(config: Config, sfreq: float, n_channels: int) -> Normalise:
    """Return the step for `n_channels` channels at `sfreq` Hz."""
    return Normalise(config, sfreq, n_channels)
