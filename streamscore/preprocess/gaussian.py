"""Smoothing of each frame with a Gaussian of 5 × 5 pixels.

At the border the kernel is cut and what is left of it is scaled to a sum of 1, so that a uniform frame stays
uniform. The published form (MODELS.md 1.1) smooths each frame by itself too, so that online and offline cannot
differ. The paper does not say how wide its Gaussian is.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.types import Layout

#: Pixels on each side of the middle.
RADIUS = 2


class Config(BaseModel):
    """Arguments of :class:`Gaussian`; the standard deviation of the kernel in pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigma_px: float = Field(1.0, gt=0, le=100)


class Gaussian(MovieStep):
    """Columns, then rows: sums of shifted frames, which one core does faster than a convolution."""

    def __init__(self, config: Config, layout: Layout) -> None:
        frame_shape = frames_of("gaussian", layout)
        self.layout = layout
        weights = [math.exp(-0.5 * (k / config.sigma_px) ** 2) for k in range(RADIUS + 1)]
        total = weights[0] + 2 * sum(weights[1:])
        self._weights = [weight / total for weight in weights]
        self._scale = torch.ones(1, *frame_shape)
        self._scale = 1.0 / self._smooth(self._scale)

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        y = torch.empty_like(x)
        for frame, out in zip(x, y, strict=True):
            torch.mul(self._smooth(frame), self._scale, out=out)
        return y

    def _smooth(self, frame: Tensor) -> Tensor:
        """Smooth ``(n_channels, height, width)`` as if there were zeros around it."""
        for dim in (1, 2):
            middle = frame
            frame = middle * self._weights[0]
            for k in range(1, min(RADIUS + 1, middle.shape[dim])):
                n = middle.shape[dim] - k
                frame.narrow(dim, k, n).add_(middle.narrow(dim, 0, n), alpha=self._weights[k])
                frame.narrow(dim, 0, n).add_(middle.narrow(dim, k, n), alpha=self._weights[k])
        return frame

    def reset(self) -> None:
        """Nothing is remembered."""


def build(config: Config, layout: Layout) -> Gaussian:
    """Return the step for frames of `layout`."""
    return Gaussian(config, layout)
