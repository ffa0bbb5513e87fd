"""Pixel-wise normalisation of a movie with causal estimates of each pixel's mean and spread.

The papers normalise a whole session, which online has not happened yet (MODELS.md 1.1, 4.2). Each frame is
normalised with what the frames *before* it were like, and then learnt from, so that the chunking cannot matter.

Where it is known from, the *estimator*:

``running``
    All frames so far; forgets with time constant `tau_s` once that much was seen.
``calibration``
    The same, frozen after `warm_up_s`.
``stored``
    Constants, `stored_mean` and `stored_scale`, of an earlier session with the same mouse, or of the whole one to
    reproduce offline what the papers did (:func:`whole_recording`).

What the difference to a pixel's mean is divided by, the *scale*:

``pixel``
    That pixel's standard deviation.
``global``
    One standard deviation for all pixels, that of all differences (Ajioka et al.): what changes more stays more.

A pixel that never changed, such as one outside a mask, becomes 0. A gap keeps all estimates.

The published CNN-BiLSTM normalises each epoch by itself; that belongs to the network, because it is known only
once the epoch is complete (``z_score`` in :mod:`streamscore.models.cnn_bilstm`), and needs no step of a chain.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from streamscore.arrays import read_array
from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.types import FloatArray, Layout, TimeArray

Scale = Literal["pixel", "global"]


class Config(BaseModel):
    """Arguments of :class:`PixelNormalise`.

    Parameters
    ----------
    estimator, scale
        See the module; `scale` is of no account for the estimator ``"stored"``.
    tau_s, warm_up_s
        Time constant of forgetting, and how long the output must not be scored yet.
    stored_mean, stored_scale
        ``(height, width)`` or ``(n_channels, height, width)``, packed or files, for the estimator ``"stored"``
        alone. Pixels whose scale is 0 become 0.
    clip
        The output is kept within ``± clip`` standard deviations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimator: Literal["running", "calibration", "stored"] = "running"
    scale: Scale = "pixel"
    tau_s: float = Field(600.0, gt=0)
    warm_up_s: float = Field(60.0, ge=0)
    stored_mean: str | None = None
    stored_scale: str | None = None
    clip: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.estimator == "calibration" and self.warm_up_s == 0:
            raise ValueError("calibration learns during warm_up_s, which is 0; give it some seconds")
        given = [value is not None for value in (self.stored_mean, self.stored_scale)]
        if self.estimator == "stored" and not all(given):
            raise ValueError("estimator 'stored' needs both stored_mean and stored_scale")
        if self.estimator != "stored" and any(given):
            raise ValueError(
                f"estimator {self.estimator!r} learns by itself; leave out stored_mean and stored_scale, or "
                "choose estimator 'stored'"
            )
        return self


class PixelNormalise(MovieStep):
    """Subtract each pixel's mean, divide by its or the common spread, clip; each channel by itself."""

    def __init__(self, config: Config, layout: Layout) -> None:
        frames_of("pixel_normalise", layout)
        self.layout = layout
        self._config = config
        self._tau_frames = config.tau_s * layout.sfreq
        self._n_learnt = 0
        # float64: near the end of a session a frame moves a mean by less than float32 can hold.
        self._mean = torch.zeros(layout.sample_shape, dtype=torch.float64)
        self._variance = torch.zeros_like(self._mean)
        self._difference = torch.zeros_like(self._mean)
        self._spread = torch.zeros_like(self._mean)
        self._gain = torch.zeros(layout.sample_shape)
        self.warm_up_samples = round(config.warm_up_s * layout.sfreq)
        if config.estimator == "stored":
            self.warm_up_samples = 0
            self._mean = _of_pixels("stored_mean", config.stored_mean, layout)
            scale = _of_pixels("stored_scale", config.stored_scale, layout)
            if bool((scale < 0).any()):
                raise ValueError("pixel_normalise: stored_scale holds negative values; a scale is 0 or more")
            self._gain = torch.where(scale > 0, 1.0 / scale, 0.0).to(torch.float32)

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        y = torch.empty_like(x)
        for frame, out in zip(x, y, strict=True):
            torch.sub(frame, self._mean, out=self._difference)
            out.copy_(self._difference).mul_(self._gain)
            if self._learns:
                self._learn(self._difference)
        return y.clamp_(-self._config.clip, self._config.clip)

    def reset(self) -> None:
        """Keep everything: losing frames changes no pixel."""

    @property
    def _learns(self) -> bool:
        match self._config.estimator:
            case "running":
                return True
            case "calibration":
                return self._n_learnt < self.warm_up_samples
            case "stored":
                return False

    def _learn(self, difference: Tensor) -> None:
        if not math.isfinite(difference.sum().item()):
            return  # one bad pixel would stay bad for ever
        self._n_learnt += 1
        weight = max(1.0 / self._n_learnt, 1.0 / self._tau_frames)
        self._mean.add_(difference, alpha=weight)
        self._variance.addcmul_(difference, difference, value=weight).mul_(1.0 - weight)
        spread = self._variance
        if self._config.scale == "global":
            spread = self._spread.copy_(spread.mean(dim=(1, 2), keepdim=True))
        # The reciprocal of 0, for what never changed, is brought back to 0.
        self._gain.copy_(torch.rsqrt(spread, out=self._spread)).nan_to_num_(posinf=0.0)


def _of_pixels(name: str, value: str | None, layout: Layout) -> Tensor:
    """Return stored constants ``(n_channels, height, width)`` float64."""
    constants = read_array(value or "", f"{name} of step pixel_normalise").astype(np.float64)
    if constants.shape not in (layout.sample_shape, layout.frame_shape):
        raise ValueError(
            f"pixel_normalise: {name} has shape {constants.shape}; give one value a pixel, {layout.frame_shape}, "
            f"or one a channel and pixel, {layout.sample_shape}"
        )
    return torch.from_numpy(np.broadcast_to(constants, layout.sample_shape).copy())


def whole_recording(x: FloatArray, scale: Scale = "pixel") -> tuple[TimeArray, TimeArray]:
    """Return mean and scale of a whole recording, as the papers use them, for `stored_mean` and `stored_scale`.

    Parameters
    ----------
    x
        ``(n_frames, n_channels, height, width)``, after the steps that precede the normaliser.
    scale
        See the module.

    Returns
    -------
    tuple of ndarray
        ``(n_channels, height, width)`` float64 each; hand them on with :func:`streamscore.arrays.pack`.

    Raises
    ------
    ValueError
        If `x` holds no frame or something that is not finite.
    """
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"{len(x)} frames hold nothing to learn from, or something that is not finite")
    mean = x.mean(axis=0, dtype=np.float64)
    variance = np.zeros_like(mean)
    for frame in x:  # one by one: a float64 copy of a session may not fit into memory
        variance += (frame - mean) ** 2
    variance /= len(x)
    if scale == "global":
        variance = np.broadcast_to(variance.mean(axis=(1, 2), keepdims=True), variance.shape)
    return mean, np.sqrt(variance)


def build(config: Config, layout: Layout) -> PixelNormalise:
    """Return the step for frames of `layout`."""
    return PixelNormalise(config, layout)
