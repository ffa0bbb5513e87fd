"""Pixel-wise normalisation of a movie with causal estimates of each pixel's mean and spread.

The papers normalise a whole session, which online has not happened yet (MODELS.md 1.1, 4.2). Each frame is
normalised with what the frames *before* it were like, and then learnt from, so that the chunking cannot matter.

Where it is known from, the *estimator*:

``running``
    All frames so far; forgets with time constant `tau_s` once that much was seen.
``calibration``
    The same, frozen after `warm_up_s`.

What the difference to a pixel's mean is divided by, the *scale*:

``pixel``
    That pixel's standard deviation.
``global``
    One standard deviation for all pixels, that of all differences (Ajioka et al.): what changes more stays more.

A pixel that never changed, such as one outside a mask, becomes 0. A gap keeps all estimates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamscore.preprocess.base import Step
from streamscore.types import FloatArray


class Config(BaseModel):
    """Arguments of :class:`PixelNormalise`.

    Parameters
    ----------
    estimator, scale
        See the module.
    tau_s, warm_up_s
        Time constant of forgetting, and how long the output must not be scored yet.
    clip
        The output is kept within ``± clip`` standard deviations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimator: Literal["running", "calibration"] = "running"
    scale: Literal["pixel", "global"] = "pixel"
    tau_s: float = Field(600.0, gt=0)
    warm_up_s: float = Field(60.0, ge=0)
    clip: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.estimator == "calibration" and self.warm_up_s == 0:
            raise ValueError("calibration learns during warm_up_s, which is 0; give it some seconds")
        return self


class PixelNormalise(Step):
    """Subtract each pixel's mean, divide by its or the common standard deviation, clip.

    Frames are ``(n_frames, height, width)``; memory is made at the first of them.
    """

    def __init__(self, config: Config, sfreq: float, n_channels: int) -> None:
        if n_channels != 1:
            raise ValueError(f"pixel_normalise is for movies, which have one channel and not {n_channels}")
        self._config = config
        self._tau_frames = config.tau_s * sfreq
        self._n_learnt = 0
        # float64: near the end of a session a frame moves a mean by less than float32 can hold.
        self._mean: npt.NDArray[np.float64] = np.zeros(())
        self._variance: npt.NDArray[np.float64] = np.zeros(())
        self._gain: npt.NDArray[np.float64] = np.zeros(())
        self.warm_up_samples = round(config.warm_up_s * sfreq)

    def push(self, x: FloatArray, start: int) -> FloatArray:
        shape = x.shape[1:]
        if len(shape) != 2:
            raise ValueError(
                f"pixel_normalise expects (n_frames, height, width), got {x.shape}; signals: normalise"
            )
        if self._n_learnt == 0:
            self._mean, self._variance, self._gain = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        elif shape != self._mean.shape:
            raise ValueError(f"frames of {shape} pixels cannot follow frames of {self._mean.shape}")
        y = np.empty(x.shape, np.float32)
        for frame, out in zip(x, y, strict=True):
            difference = frame - self._mean
            np.multiply(difference, self._gain, out=out, casting="same_kind")
            if self._learns:
                self._learn(difference)
        return np.clip(y, -self._config.clip, self._config.clip, out=y)

    def reset(self) -> None:
        """Keep everything: losing frames changes no pixel."""

    @property
    def _learns(self) -> bool:
        return self._config.estimator == "running" or self._n_learnt < self.warm_up_samples

    def _learn(self, difference: npt.NDArray[np.float64]) -> None:
        if not np.isfinite(difference).all():
            return  # one bad pixel would stay bad for ever
        self._n_learnt += 1
        weight = max(1.0 / self._n_learnt, 1.0 / self._tau_frames)
        step = weight * difference
        self._mean += step
        step *= difference
        self._variance += step
        self._variance *= 1.0 - weight
        spread = self._variance if self._config.scale == "pixel" else np.full((), self._variance.mean())
        self._gain = np.zeros_like(spread)
        np.divide(1.0, np.sqrt(spread), out=self._gain, where=spread > 0)


def build(config: Config, sfreq: float, n_channels: int) -> PixelNormalise:
    """Return the step for a movie at `sfreq` frames per second; a movie has one channel, of any frame size."""
    return PixelNormalise(config, sfreq, n_channels)
