"""Removal of what blood does to the fluorescence, as a second light sees it; gives ΔF/F of the fluorescence.

Haemoglobin absorbs the light on its way in and out, so that blood volume and oxygenation write themselves into the
fluorescence. Frames under a reference light, which sees the blood and not the indicator, tell how much. With F
and R the intensities of a pixel under the two lights, and F0 and R0 their baselines, the *method* is:

``ratiometric``
    y = (F / F0) / (R / R0) - 1, with the reflectance at 523 nm, near the light that the indicator emits (Wright et
    al. 2017, MODELS.md 1.1).
``regression``
    y = ΔF/F0 - β · ΔR/R0, β being the slope of each pixel's ΔF/F0 on its ΔR/R0: for two-colour rigs, whose
    reference is fluorescence at 405 nm, where the indicator does not see calcium, at another brightness and path.

What comes in are intensities (after the dark frame and the trend), not ΔF/F: this step knows its own baselines,
and makes the step ``delta_f`` unnecessary. Where these are known from, the *estimator*:

``running``
    The means (and β) of all frames before; they forget with time constant `tau_s` once that much was seen.
``calibration``
    The same, frozen after `warm_up_s`.

With the means and β of the whole recording, which online are not known yet, it is the published form
(:func:`whole_recording`). Pixels that are dark under the first light become 0, and those that are dark under the
reference where it is divided by.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.preprocess.layers import PixelMean, PixelSlope, reciprocal_above
from streamscore.types import FloatArray, Layout

Method = Literal["ratiometric", "regression"]
#: Reference light where none is named.
REFERENCE: dict[Method, str] = {"ratiometric": "reflectance_523", "regression": "reference_405"}


class Config(BaseModel):
    """Arguments of :class:`Haemoglobin`.

    Parameters
    ----------
    method, estimator
        See the module.
    signal, reference
        Channels; the reference is ``reflectance_523`` or, for ``regression``, ``reference_405`` if not given.
    tau_s, warm_up_s
        Time constant of forgetting, and how long the output must not be scored yet.
    min_share
        Pixels that do not exceed this share of a light's mean over the pixels become 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = "ratiometric"
    estimator: Literal["running", "calibration"] = "running"
    signal: str = "fluorescence_470"
    reference: str | None = None
    tau_s: float = Field(600.0, gt=0)
    warm_up_s: float = Field(60.0, ge=0)
    min_share: float = Field(0.02, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.estimator == "calibration" and self.warm_up_s == 0:
            raise ValueError("calibration learns during warm_up_s, which is 0; give it some seconds")
        if self.signal == self.reference:
            raise ValueError(f"signal and reference are both {self.signal!r}; nothing would be left")
        return self


class Haemoglobin(MovieStep):
    """Two lights in, ΔF/F of one out."""

    def __init__(self, config: Config, layout: Layout) -> None:
        frame_shape = frames_of("haemoglobin", layout)
        self._signal = _index(config.signal, layout)
        self._reference = _index(config.reference or REFERENCE[config.method], layout)
        self.layout = Layout(layout.sfreq, (config.signal,), frame_shape)
        self._min_share = config.min_share
        self.warm_up_samples = round(config.warm_up_s * layout.sfreq)
        learns_frames = None
        if config.estimator == "calibration":
            learns_frames = self.warm_up_samples = max(self.warm_up_samples, 1)
        shape, tau_frames = self.layout.sample_shape, config.tau_s * layout.sfreq
        self._slope: PixelSlope | None = None
        if config.method == "regression":
            self._slope = PixelSlope(shape, shape, tau_frames, learns_frames)
            self._f0, self._r0 = self._slope.pixels, self._slope.regressor
        else:
            self._f0, self._r0 = (PixelMean(shape, tau_frames, learns_frames) for _ in range(2))

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        y = x.new_empty((len(x), *self.layout.sample_shape))
        for frame, out in zip(x, y, strict=True):
            f = frame[self._signal : self._signal + 1]
            r = frame[self._reference : self._reference + 1]
            self._correct(f, r, out)
            if self._f0.learns:
                self._learn(f, r)
        return y

    def _correct(self, f: Tensor, r: Tensor, out: Tensor) -> None:
        f0, r0 = self._f0.mean, self._r0.mean
        if self._slope is None:  # multiplied out, so that the two quotients are of lit pixels alone
            torch.mul(f, r0, out=out)
            out.sub_(f0 * r).mul_(reciprocal_above(r, self._min_share))
        else:  # of intensities; the baselines that make ΔF/F of them cancel but for F0
            torch.sub(f, f0, out=out)
            out.sub_((r - r0).mul_(self._slope.slope))
        out.mul_(reciprocal_above(f0, self._min_share))

    def _learn(self, f: Tensor, r: Tensor) -> None:
        if self._slope is None:
            self._f0.learn(f)
            self._r0.learn(r)
        else:
            self._slope.learn(f, r)

    def reset(self) -> None:
        """Keep baselines and slopes: losing frames changes neither the brain nor the lights."""

    def to(self, device: torch.device) -> None:
        super().to(device)
        if self._slope is not None:
            self._slope.to(device)
        else:
            self._f0.to(device)
            self._r0.to(device)


def _index(channel: str, layout: Layout) -> int:
    if channel not in layout.channels:
        raise ValueError(
            f"haemoglobin needs the channel {channel!r}, and what comes to it are {', '.join(layout.channels)}; "
            "name the rig's lights so, or give signal and reference"
        )
    return layout.channels.index(channel)


def whole_recording(
    f: FloatArray, r: FloatArray, method: Method = "ratiometric", min_share: float = 0.02
) -> FloatArray:
    """Correct a whole recording with its own means and slopes: the published form.

    Parameters
    ----------
    f, r
        ``(n_frames, height, width)``: intensities under the light of the indicator and under the reference.
    method
        See the module. A ratio is 0 in a frame whose reference is not above 0.
    min_share
        As of :class:`Config`.

    Returns
    -------
    ndarray
        ΔF/F as `f`, float32.
    """
    f0, r0 = (z.mean(axis=0, dtype=np.float64) for z in (f, r))
    is_lit = f0 > max(min_share * f0.mean(), 0.0)
    y = np.zeros(f.shape, np.float32)
    if method == "ratiometric":
        is_lit &= r0 > max(min_share * r0.mean(), 0.0)
        a, b = f[:, is_lit] / f0[is_lit], r[:, is_lit] / r0[is_lit]
        y[:, is_lit] = np.divide(a, b, out=np.ones_like(a), where=b > 0) - 1.0
    else:
        a, b = f[:, is_lit] - f0[is_lit], r[:, is_lit] - r0[is_lit]
        variance = np.einsum("np,np->p", b, b)
        slope = np.divide(np.einsum("np,np->p", a, b), variance, out=np.zeros_like(variance), where=variance > 0)
        y[:, is_lit] = (a - slope * b) / f0[is_lit]
    return y


def build(config: Config, layout: Layout) -> Haemoglobin:
    """Return the step for frames of `layout`.

    Raises
    ------
    ValueError
        If one of the two lights is not among the channels.
    """
    return Haemoglobin(config, layout)
