"""Removal of slow trends of each pixel: bleaching of the indicator, ageing of the light.

The published form (MODELS.md 1.1; :func:`whole_recording`) fits a straight line to each pixel of the whole
recording. Here the trend is a running mean of the pixel, which follows it with a delay of its time constant. Slow
changes of the brain's state count as trend too, so that `tau_s` must be long against the bouts that are to be
told apart.

How the trend is taken off, the *mode*:

``ratio``
    y = x · level / trend. Bleaching and lamps scale the light, and with it every change that the brain makes in
    it; so dividing gives the changes of the first minute back, and keeps the ratio of two lights what it was.
``subtract``
    y = x - trend + level, as published. What is left becomes smaller as the indicator bleaches.

Both keep the level that a pixel had at the end of the warm-up, so that steps that need an intensity (ΔF/F,
ratios) may follow. Until then the frames pass unchanged.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.preprocess.layers import PixelMean, reciprocal_above
from streamscore.types import FloatArray, Layout

Mode = Literal["ratio", "subtract"]


class Config(BaseModel):
    """Arguments of :class:`Detrend`.

    Parameters
    ----------
    mode
        See the module.
    tau_s
        Time constant of the trend.
    warm_up_s
        After which the level is kept; nothing is scored until then.
    min_share
        Of the channel's mean; pixels whose trend is darker pass ``ratio`` unchanged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = "ratio"
    tau_s: float = Field(600.0, gt=0)
    warm_up_s: float = Field(60.0, gt=0)
    min_share: float = Field(0.02, ge=0, lt=1)


class Detrend(MovieStep):
    """Divide each pixel by its running mean, or subtract it, and give it its first level back."""

    def __init__(self, config: Config, layout: Layout) -> None:
        frames_of("detrend", layout)
        self.layout = layout
        self.warm_up_samples = max(round(config.warm_up_s * layout.sfreq), 1)
        self._config = config
        self._trend = PixelMean(layout.sample_shape, config.tau_s * layout.sfreq)
        self._level = torch.zeros(layout.sample_shape)

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        y = torch.empty_like(x)
        for frame, out in zip(x, y, strict=True):
            if self._trend.n_learnt < self.warm_up_samples:
                out.copy_(frame)
            else:
                self._correct(frame, out)
            self._trend.learn(frame)
            if self._trend.n_learnt == self.warm_up_samples:
                self._level.copy_(self._trend.mean)
        return y

    def _correct(self, frame: Tensor, out: Tensor) -> None:
        lost = self._level - self._trend.mean
        if self._config.mode == "ratio":
            lost.mul_(reciprocal_above(self._trend.mean, self._config.min_share)).mul_(frame)
        torch.add(frame, lost, out=out)

    def reset(self) -> None:
        """Keep the trend: losing frames bleaches nothing."""

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._trend.to(device)


def whole_recording(x: FloatArray, order: int = 1, mode: Mode = "subtract") -> FloatArray:
    """Take the least-squares polynomial of each pixel off a whole recording; the published form by default.

    Parameters
    ----------
    x
        ``(n_frames, n_channels, height, width)``.
    order
        Of the polynomial; 1 is a line.
    mode
        See the module; the level that is kept is the pixel's mean. Pixels whose polynomial falls to 0 or below
        become their mean where ``"ratio"`` cannot divide.

    Returns
    -------
    ndarray
        As `x`, float32.
    """
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, len(x)), order))
    y = np.empty(x.shape, np.float32)
    for row in range(x.shape[2]):  # row by row, for the memory
        pixels = x[:, :, row].astype(np.float64)
        trend = np.tensordot(basis, np.tensordot(basis, pixels, axes=(0, 0)), axes=(1, 0))
        level = pixels.mean(axis=0)
        if mode == "subtract":
            y[:, :, row] = pixels - trend + level
        else:
            y[:, :, row] = level * np.divide(pixels, trend, out=np.ones_like(pixels), where=trend > 0)
    return y


def build(config: Config, layout: Layout) -> Detrend:
    """Return the step for frames of `layout`."""
    return Detrend(config, layout)
