"""Amplitude normalisation with a causal estimate of what "the recording" is like.

Networks are trained on normalised nights, but online the night has not happened yet. Two choices are made apart.

What is normalised, the *statistic*:

``scale``
    Divide by the geometric mean of the per-second standard deviations.
``zscore``
    Subtract the mean, divide by the standard deviation (SalientSleepNet's nights).
``robust``
    Subtract the median, divide by the distance of the quartiles (U-Time, which clips at 20 of them).
``minmax``
    Map smallest and largest value to 0 and 1, each channel by itself (ROI-RNN's sessions).

Where it is known from, the *estimator*:

``running``
    All seconds seen so far; forgets with time constant `tau_s` once that much was seen. Never looks ahead, follows
    electrodes as they age.
``calibration``
    The same, frozen after `warm_up_s`.
``stored``
    Constants from the bundle, `stored_offset` and `stored_scale` per channel, for calibrated amplifiers, or to
    reproduce offline what the papers did (:func:`whole_recording`).

The estimate advances by whole seconds of the absolute index and is applied to the *next* second, so that the
chunking cannot matter. A gap keeps it: losing samples does not change an electrode's gain.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamscore.features.running import RUNNING, DoubleArray, Statistic, whole
from streamscore.preprocess.base import Step, signals_of
from streamscore.types import FloatArray, Layout

#: Clips at so many scales where `clip` is not given.
DEFAULT_CLIP = 20.0


class Config(BaseModel):
    """Arguments of :class:`Normalise`.

    Parameters
    ----------
    estimator, statistic
        See the module.
    tau_s, warm_up_s
        Time constant of forgetting, and how long the output must not be scored yet.
    stored_offset, stored_scale
        One value a channel, for the estimator ``"stored"`` alone; the statistic ``"scale"`` has no offset.
    clip
        The output is kept within ``± clip``, 20 if not given. ``"minmax"`` is kept within 0 and 1 instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimator: Literal["running", "calibration", "stored"] = "running"
    statistic: Statistic = "scale"
    tau_s: float = Field(3600.0, gt=0)
    warm_up_s: float = Field(60.0, ge=0)
    stored_offset: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    stored_scale: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    clip: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.estimator != "stored" and (self.stored_offset or self.stored_scale):
            raise ValueError(
                f"estimator {self.estimator!r} learns by itself; leave out stored_offset and stored_scale, "
                "or choose estimator 'stored'"
            )
        if self.estimator == "stored" and self.statistic == "scale" and self.stored_offset:
            raise ValueError(
                "statistic 'scale' has no offset; leave out stored_offset or choose another statistic"
            )
        if self.estimator == "calibration" and self.warm_up_s < 1.0:
            raise ValueError(f"calibration learns from whole seconds; warm_up_s {self.warm_up_s:g} holds none")
        if self.statistic == "minmax" and self.clip is not None:
            raise ValueError("statistic 'minmax' always stays within 0 and 1; leave out clip")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest output."""
        if self.statistic == "minmax":
            return 0.0, 1.0
        clip = DEFAULT_CLIP if self.clip is None else self.clip
        return -clip, clip


class Normalise(Step):
    """Subtract the estimated offset, divide by the estimated scale, clip."""

    def __init__(self, config: Config, layout: Layout) -> None:
        sfreq, n_channels = layout.sfreq, len(layout.channels)
        self.layout = layout
        self._config = config
        self._block_samples = max(round(sfreq), 1)
        self._running = RUNNING[config.statistic](n_channels, config.tau_s)  # a block is a second
        self._offset = np.zeros(n_channels, np.float32)
        self._scale = np.ones(n_channels, np.float32)
        self._block = np.empty((self._block_samples, n_channels), np.float32)
        self._n_filled = 0
        self.warm_up_samples = round(config.warm_up_s * sfreq)
        if config.estimator == "stored":
            self.warm_up_samples = 0
            self._scale[:] = _of_channels("stored_scale", config.stored_scale, n_channels)
            if config.statistic != "scale":
                self._offset[:] = _of_channels("stored_offset", config.stored_offset, n_channels)

    def push(self, x: FloatArray, start: int) -> FloatArray:
        y = np.empty_like(x)
        done = 0
        while done < len(x):
            offset = (start + done) % self._block_samples
            n = min(self._block_samples - offset, len(x) - done)
            part, out = x[done : done + n], y[done : done + n]
            np.subtract(part, self._offset, out=out)
            np.divide(out, self._scale, out=out)
            if self._n_filled == offset:  # otherwise the block began inside a gap and is not complete
                self._block[offset : offset + n] = part
                self._n_filled += n
            if offset + n == self._block_samples:
                if self._n_filled == self._block_samples:
                    self._learn()
                self._n_filled = 0
            done += n
        return np.clip(y, *self._config.limits, out=y)

    def reset(self) -> None:
        self._n_filled = 0

    def _learn(self) -> None:
        config = self._config
        if config.estimator == "stored":
            return
        if (
            config.estimator == "calibration"
            and self._running.n_blocks * self._block_samples >= self.warm_up_samples
        ):
            return
        if not np.isfinite(self._block).all():
            return  # one bad second would spoil the estimate for ever
        self._running.learn(self._block)
        self._offset = self._running.offset.astype(np.float32)
        self._scale = self._running.scale.astype(np.float32)


def _of_channels(name: str, values: tuple[float, ...], n_channels: int) -> tuple[float, ...]:
    if len(values) != n_channels:
        raise ValueError(f"{name} has {len(values)} values for {n_channels} channels")
    return values


def whole_recording(
    x: FloatArray, statistic: Statistic, sfreq: float | None = None
) -> tuple[DoubleArray, DoubleArray]:
    """Return offset and scale ``(n_channels,)`` of a whole recording, for `stored_offset` and `stored_scale`.

    Parameters
    ----------
    x
        ``(n_samples, n_channels)``, after the steps that precede the normaliser.
    statistic
        See the module.
    sfreq
        In Hz; needed for ``"scale"``, which is made of whole seconds.

    Raises
    ------
    ValueError
        If `x` holds no sample (no whole second for ``"scale"``) or something that is not finite.
    """
    if statistic == "scale" and sfreq is None:
        raise ValueError("statistic 'scale' is made of whole seconds; give sfreq")
    block_samples = 1 if statistic != "scale" or sfreq is None else max(round(sfreq), 1)
    if len(x) < block_samples or not np.isfinite(x).all():
        raise ValueError(f"{len(x)} samples hold nothing to learn from, or some that are not finite")
    return whole(x, statistic, block_samples)


def build(config: Config, layout: Layout) -> Normalise:
    """Return the step for signals of `layout`."""
    return Normalise(config, signals_of("normalise", layout))
