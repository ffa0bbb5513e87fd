"""ΔF/F: the change of each pixel relative to its baseline, (x - F0) / F0.

For rigs with one light; where a second light measures the blood, the step ``haemoglobin`` gives ΔF/F itself.
Where F0 is known from, the *estimator*:

``running``
    The mean of all frames before; forgets with time constant `tau_s` once that much was seen.
``calibration``
    The same, frozen after `warm_up_s`.
``stored``
    An image, `stored`; offline that of the whole recording gives the published form (:func:`whole_recording`).

Where F0 is dark, outside of the brain, a quotient would be of noise alone; such pixels become 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from streamscore.arrays import read_array
from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.preprocess.layers import PixelMean, pixel_constants, reciprocal_above
from streamscore.types import FloatArray, Layout

STORED = "stored of step delta_f"


class Config(BaseModel):
    """Arguments of :class:`DeltaF`.

    Parameters
    ----------
    estimator
        See the module.
    tau_s, warm_up_s
        Time constant of forgetting, and how long the output must not be scored yet.
    stored
        F0, an array (:mod:`streamscore.arrays`) ``(height, width)`` or ``(n_channels, height, width)``, for the
        estimator ``"stored"`` alone.
    min_share
        Pixels whose F0 does not exceed this share of the channel's mean F0 become 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimator: Literal["running", "calibration", "stored"] = "running"
    tau_s: float = Field(600.0, gt=0)
    warm_up_s: float = Field(60.0, ge=0)
    stored: str | Path | None = None
    min_share: float = Field(0.02, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.stored is not None and self.estimator != "stored":
            raise ValueError(
                f"estimator {self.estimator!r} learns F0 by itself; leave out stored, or choose estimator 'stored'"
            )
        if self.stored is None and self.estimator == "stored":
            raise ValueError("estimator 'stored' needs an image of F0 in stored")
        if self.estimator == "calibration" and self.warm_up_s == 0:
            raise ValueError("calibration learns during warm_up_s, which is 0; give it some seconds")
        return self


class DeltaF(MovieStep):
    """Subtract F0 from each pixel and divide by it."""

    def __init__(self, config: Config, layout: Layout) -> None:
        frames_of("delta_f", layout)
        self.layout = layout
        self._min_share = config.min_share
        self.warm_up_samples = round(config.warm_up_s * layout.sfreq)
        learns_frames = None
        if config.estimator == "calibration":
            learns_frames = self.warm_up_samples = max(self.warm_up_samples, 1)
        if config.estimator == "stored":
            learns_frames = self.warm_up_samples = 0
        self._f0 = PixelMean(layout.sample_shape, config.tau_s * layout.sfreq, learns_frames)
        if config.stored is not None:
            self._f0.mean = pixel_constants(read_array(config.stored, STORED), STORED, layout)
        self._gain = reciprocal_above(self._f0.mean, self._min_share)

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        y = torch.empty_like(x)
        for frame, out in zip(x, y, strict=True):
            torch.sub(frame, self._f0.mean, out=out)
            out.mul_(self._gain)
            if self._f0.learns:
                self._f0.learn(frame)
                self._gain = reciprocal_above(self._f0.mean, self._min_share)
        return y

    def reset(self) -> None:
        """Keep F0: losing frames changes no pixel."""

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._f0.to(device)


def whole_recording(x: FloatArray, min_share: float = 0.02) -> FloatArray:
    """Return ΔF/F of a whole recording, F0 being the mean of each pixel over it: the published form.

    Parameters
    ----------
    x
        ``(n_frames, n_channels, height, width)``.
    min_share
        As of :class:`Config`.

    Returns
    -------
    ndarray
        As `x`, float32.
    """
    f0 = x.mean(axis=0, dtype=np.float64)
    is_lit = f0 > np.maximum(min_share * f0.mean(axis=(1, 2), keepdims=True), 0.0)
    gain = np.divide(1.0, f0, out=np.zeros_like(f0), where=is_lit)
    y: FloatArray = ((x - f0.astype(np.float32)) * gain.astype(np.float32)).astype(np.float32)
    return y


def build(config: Config, layout: Layout) -> DeltaF:
    """Return the step for frames of `layout`.

    Raises
    ------
    ConfigError
        If `stored` cannot be read.
    ValueError
        If it has another shape than the frames.
    """
    return DeltaF(config, layout)
