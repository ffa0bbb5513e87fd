"""Removal of the global signal: what all of the brain does at once (arousal, blood pressure, flicker of a light).

The global signal g of a frame is the mean of its pixels, or of those inside a mask. Each light has its own. How
it is taken off, the *method*:

``regression``
    y = x - β · (g - mean g), β being the slope of the pixel on g. It keeps each pixel's level, so that intensities
    may come in and steps that need an intensity may follow, as in the published order (MODELS.md 1.1).
``subtract``
    y = x - g, for ΔF/F: the mean of every frame becomes 0. It has no memory.

β and the means are of all frames before, and forget with time constant `tau_s` once that much was seen. The
published form (:func:`whole_recording`) takes those of the whole recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from streamscore.arrays import read_array
from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.preprocess.layers import PixelSlope
from streamscore.types import FloatArray, Layout


class Config(BaseModel):
    """Arguments of :class:`GlobalSignal`.

    Parameters
    ----------
    method
        See the module.
    mask
        Pixels that make the global signal: an array (:mod:`streamscore.arrays`) ``(height, width)``, not 0 inside;
        all of them if not given.
    tau_s, warm_up_s
        Of ``regression``: time constant of forgetting, and how long the output must not be scored yet.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["regression", "subtract"] = "regression"
    mask: str | Path | None = None
    tau_s: float = Field(600.0, gt=0)
    warm_up_s: float = Field(60.0, ge=0)


class GlobalSignal(MovieStep):
    """Subtract each light's mean over the pixels, as far as each pixel follows it."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self.layout = layout
        self._share = _share_of_each_pixel(config.mask, frames_of("global_signal", layout))
        self._slope: PixelSlope | None = None
        if config.method == "regression":
            self.warm_up_samples = round(config.warm_up_s * layout.sfreq)
            n_channels = len(layout.channels)
            self._slope = PixelSlope(layout.sample_shape, (n_channels, 1, 1), config.tau_s * layout.sfreq)

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        y = torch.empty_like(x)
        for frame, out in zip(x, y, strict=True):
            g = (frame * self._share).sum(dim=(1, 2), keepdim=True)
            if self._slope is None:
                torch.sub(frame, g, out=out)
            else:
                torch.sub(frame, self._slope.slope.mul_(g - self._slope.regressor.mean), out=out)
                self._slope.learn(frame, g)
        return y

    def reset(self) -> None:
        """Keep the slopes: losing frames changes neither the brain nor the lights."""

    def to(self, device: torch.device) -> None:
        super().to(device)
        if self._slope is not None:
            self._slope.to(device)


def _share_of_each_pixel(mask: str | Path | None, frame_shape: tuple[int, int]) -> Tensor:
    """Return ``(height, width)`` weights of a mean."""
    inside = np.ones(frame_shape, np.bool_)
    if mask is not None:
        inside = read_array(mask, "mask of step global_signal") != 0
        if inside.shape != frame_shape:
            raise ValueError(
                f"mask of step global_signal has shape {inside.shape}; the frames there need {frame_shape} "
                "(before the step affine these are the camera's)"
            )
        if not inside.any():
            raise ValueError("mask of step global_signal has no pixel inside; all values are 0")
    return torch.from_numpy((inside / np.count_nonzero(inside)).astype(np.float32))


def whole_recording(x: FloatArray, mask: npt.NDArray[np.bool_] | None = None) -> FloatArray:
    """Regress the global signal from each pixel of a whole recording: the published form.

    Parameters
    ----------
    x
        ``(n_frames, n_channels, height, width)``.
    mask
        ``(height, width)``, pixels that make the global signal; all if not given.

    Returns
    -------
    ndarray
        As `x`, float32; each pixel keeps its mean.
    """
    inside = np.ones(x.shape[2:], np.bool_) if mask is None else mask
    y = np.empty(x.shape, np.float32)
    for channel in range(x.shape[1]):
        pixels = x[:, channel]
        g = pixels[:, inside].mean(axis=1, dtype=np.float64)
        g -= g.mean()
        slope = np.tensordot(g, pixels, axes=(0, 0)) / max(float(g @ g), np.finfo(np.float64).tiny)
        y[:, channel] = pixels - g[:, None, None] * slope
    return y


def build(config: Config, layout: Layout) -> GlobalSignal:
    """Return the step for frames of `layout`.

    Raises
    ------
    ConfigError
        If the mask cannot be read.
    ValueError
        If it is empty or has another shape than the frames.
    """
    return GlobalSignal(config, layout)
