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
    electrodes as they age. With stored constants it begins there, as if that much had been seen: right at once
    where they fit, and slowly moving to where they do not.
``calibration``
    The same, frozen after `warm_up_s`.
``stored``
    Constants from the bundle, `stored_offset` and `stored_scale` per channel, for calibrated amplifiers, or to
    reproduce offline what the papers did (:func:`whole_recording`).

The estimate advances by whole seconds of the absolute index (by samples where they are longer) and is applied to
the *next* one, so that the chunking cannot matter. A gap keeps it: losing samples does not change an electrode's
gain.
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
        One value a channel: what the estimator ``"stored"`` always takes, and ``"running"`` may begin with. The
        statistic ``"scale"`` has no offset.
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
        has_constants = bool(self.stored_offset or self.stored_scale)
        if self.estimator == "calibration" and has_constants:
            raise ValueError(
                "estimator 'calibration' learns by itself; leave out stored_offset and stored_scale, or choose "
                "estimator 'stored'"
            )
        if self.estimator == "running" and has_constants and self.statistic not in ("scale", "zscore"):
            raise ValueError(
                f"a running {self.statistic!r} cannot begin with stored constants; leave out stored_offset and "
                "stored_scale, or choose statistic 'scale' or 'zscore'"
            )
        if self.statistic == "scale" and self.stored_offset:
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
        if config.statistic == "scale" and self._block_samples < 2 and config.estimator != "stored":
            raise ValueError(
                f"statistic 'scale' is made of the seconds of a signal, and at {sfreq:g} Hz one holds no spread; "
                "choose statistic 'zscore' or 'robust'"
            )
        tau_blocks = config.tau_s * sfreq / self._block_samples
        self._running = RUNNING[config.statistic](n_channels, tau_blocks)
        self._offset = np.zeros(n_channels, np.float32)
        self._scale = np.ones(n_channels, np.float32)
        self._block = np.empty((self._block_samples, n_channels), np.float32)
        self._n_filled = 0
        self.warm_up_samples = round(config.warm_up_s * sfreq)
        if config.estimator == "stored" or config.stored_scale or config.stored_offset:
            self._scale[:] = _of_channels("stored_scale", config.stored_scale, n_channels)
            if config.statistic != "scale":
                self._offset[:] = _of_channels("stored_offset", config.stored_offset, n_channels)
            if config.estimator == "running":
                self._running.begin_at(self._offset, self._scale)
        if config.estimator == "stored":
            self.warm_up_samples = 0

    def push(self, x: FloatArray, start: int) -> FloatArray:
        y = np.empty_like(x)
        n_block = self._block_samples
        at = min(-start % n_block, len(x))
        self._push_part(x[:at], y[:at], start)
        n_whole = (len(x) - at) // n_block
        if n_whole:
            end = at + n_whole * n_block
            shape = (n_whole, n_block, x.shape[1])
            offsets, scales = self._learn(x[at:end].reshape(shape))
            whole = y[at:end].reshape(shape)
            np.subtract(x[at:end].reshape(shape), offsets, out=whole)
            np.divide(whole, scales, out=whole)
            at = end
        self._push_part(x[at:], y[at:], start + at)
        return np.clip(y, *self._config.limits, out=y)

    def _push_part(self, part: FloatArray, out: FloatArray, start: int) -> None:
        """Take in samples that lie in one block and do not fill it alone."""
        if len(part) == 0:
            return
        np.subtract(part, self._offset, out=out)
        np.divide(out, self._scale, out=out)
        first = start % self._block_samples
        end = first + len(part)
        if self._n_filled == first:  # otherwise the block began inside a gap and is not complete
            self._block[first:end] = part
            self._n_filled = end
        if end == self._block_samples:
            if self._n_filled == end:
                self._learn(self._block[None])
            self._n_filled = 0

    def reset(self) -> None:
        self._n_filled = 0

    def _learn(self, blocks: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Learn whole blocks; one that is not finite is left out, as it would spoil the estimate for ever.

        Parameters
        ----------
        blocks
            ``(n, n_block, n_channels)``.

        Returns
        -------
        offsets, scales
            What was known before each, ``(n, 1, n_channels)``.
        """
        usable = np.flatnonzero(np.isfinite(blocks).all(axis=(1, 2)))[: self._n_to_learn(len(blocks))]
        new_offsets, new_scales = self._running.learn_all(blocks[usable])
        offsets = np.concatenate((self._offset[None], new_offsets.astype(np.float32)))
        scales = np.concatenate((self._scale[None], new_scales.astype(np.float32)))
        self._offset, self._scale = offsets[-1], scales[-1]
        n_learnt = np.searchsorted(usable, np.arange(len(blocks)))
        return offsets[n_learnt, None], scales[n_learnt, None]

    def _n_to_learn(self, n_blocks: int) -> int:
        """How many of the next `n_blocks` the estimator takes in."""
        if self._config.estimator == "running":
            return n_blocks
        if self._config.estimator == "stored":
            return 0
        return max(-(-self.warm_up_samples // self._block_samples) - self._running.n_blocks, 0)


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
