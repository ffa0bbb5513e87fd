"""Frames that must not be scored: non-finite, saturated, black and frozen ones become gaps.

A camera that is dazzled, whose light has failed or whose grabber sends the same frame again and again delivers
numbers that look like any other to a network. Such frames are treated as if they had been lost, as samples are in
`quality.py`; the reason names the light and what is wrong. The first cause in the order above is told.

Nothing can be taken back that was already given on: of frames that are all the same, those before the
`frozen_frames`-th have gone through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.types import FloatArray, Gap, Layout, Segment


class Config(BaseModel):
    """When a frame counts as bad.

    Parameters
    ----------
    full_scale
        Pixel value at which the camera saturates; ``None`` takes what the source says, if it does.
    saturated_level, saturated_fraction
        A frame is saturated if more than this fraction of its pixels is at this part of full scale or above. A
        pixel may be the mean of several of the camera, which need not all be quite full.
    black_fraction
        A frame is black if its mean is below this part of what is usual under its light, or if all its pixels are
        the same. What is usual is learnt from good frames; see :class:`FrameQuality`.
    frozen_frames
        So many frames that are exactly the same count as frozen from the last of them on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    full_scale: float | None = Field(None, gt=0)
    saturated_level: float = Field(0.99, gt=0, le=1)
    saturated_fraction: float = Field(0.05, ge=0, lt=1)
    black_fraction: float = Field(0.25, ge=0, lt=1)
    frozen_frames: int = Field(3, ge=2)


@dataclass
class Counters:
    """Samples withheld from scoring, by cause."""

    nonfinite_frames: int = 0
    saturated_frames: int = 0
    black_frames: int = 0
    frozen_frames: int = 0


class _Light:
    """What is usual under one light, and for how many frames nothing has changed."""

    #: Samples before anything counts as usual, and the time constant with which it is followed after.
    LEARN_SAMPLES = 16
    TRACKING_SAMPLES = 1000
    #: The mean of an intensity is so many times as large as its standard deviation; that of a ΔF/F is not.
    INTENSITY_RATIO = 4.0

    def __init__(self, black_fraction: float) -> None:
        self._black_fraction = black_fraction
        self._n = 0
        self._mean = self._variance = 0.0
        self.black_below = -math.inf
        self.n_same = 1
        self.last_mean = math.nan

    def learn(self, mean: float) -> None:
        """Take in the mean of a good frame."""
        self._n += 1
        weight = 1.0 / min(self._n, self.TRACKING_SAMPLES)
        change = mean - self._mean
        self._mean += weight * change
        self._variance = (1.0 - weight) * (self._variance + weight * change * change)
        is_intensity = self._mean > self.INTENSITY_RATIO * math.sqrt(self._variance)
        known = self._n >= self.LEARN_SAMPLES and is_intensity
        self.black_below = self._black_fraction * self._mean if known else -math.inf


class FrameQuality:
    """Cut unusable frames out of segments.

    What is usual is the running mean of good frames under each light (1000 samples, one minute at 16.8 Hz). It is
    kept over gaps, since it describes the rig. Movies whose mean is not clearly positive, such as corrected ones,
    have no usual brightness and are never called black for it.

    Parameters
    ----------
    config
        See :class:`Config`.
    layout
        Of a camera: ``frame_shape`` is not ``None``.
    full_scale
        Pixel value at which the camera saturates, as the source knows it; ``None`` if it does not.

    Attributes
    ----------
    counters
        Running totals.
    """

    def __init__(self, config: Config, layout: Layout, full_scale: float | None = None) -> None:
        self._names = layout.channels
        self._frozen_frames = config.frozen_frames
        self._lights = [_Light(config.black_fraction) for _ in layout.channels]
        height, width = layout.frame_shape or (1, 1)
        self._n_pixels = height * width
        scale = config.full_scale or full_scale
        self._saturated_from = math.inf if scale is None else config.saturated_level * scale
        self._saturated_pixels = config.saturated_fraction * self._n_pixels
        self._is_full = np.empty(self._n_pixels, bool)
        self._last: FloatArray | None = None  # (n_channels, n_pixels), the frame before
        self.counters = Counters()

    def push(self, segment: Segment) -> list[Segment | Gap]:
        """Return the usable parts of `segment` and a gap for each part that is not.

        Parameters
        ----------
        segment
            Data of shape ``(n_samples, n_channels, height, width)``.
        """
        frames = segment.data.reshape(len(segment.data), len(self._names), self._n_pixels)
        with np.errstate(all="ignore"):  # infinite pixels, which are looked for
            means = frames.mean(axis=2, dtype=np.float32).tolist()
        faults = [self._fault(frame, mean) for frame, mean in zip(frames, means, strict=True)]
        if not any(faults):
            return [segment]
        pieces: list[Segment | Gap] = []
        begin = 0
        for fault, run in groupby(faults):
            end = begin + len(list(run))
            if fault:
                pieces.append(Gap(segment.start + begin, end - begin, float(segment.stamps_s[begin]), fault))
            else:
                part = slice(begin, end)
                pieces.append(Segment(segment.start + begin, segment.data[part], segment.stamps_s[part]))
            begin = end
        return pieces

    def _fault(self, frame: FloatArray, means: list[float]) -> str:
        """Return what is wrong with a sample ``(n_channels, n_pixels)``, empty if nothing is."""
        frozen = self._frozen(frame, means)
        if bad := [k for k, mean in enumerate(means) if not self._is_finite(frame[k], mean)]:
            self.counters.nonfinite_frames += 1
            return self._reason("non-finite", bad)
        if bad := [k for k in range(len(means)) if self._is_saturated(frame[k])]:
            self.counters.saturated_frames += 1
            return self._reason("saturated", bad)
        if bad := [k for k, mean in enumerate(means) if self._is_black(self._lights[k], frame[k], mean)]:
            self.counters.black_frames += 1
            return self._reason("black", bad)
        if frozen:
            self.counters.frozen_frames += 1
            return self._reason("frozen", frozen)
        for light, mean in zip(self._lights, means, strict=True):
            light.learn(mean)
        return ""

    def _frozen(self, frame: FloatArray, means: list[float]) -> list[int]:
        """Return the lights that have shown the same for long enough."""
        last, self._last = self._last, frame
        # Pixels are compared only where means are equal, which two frames with noise never are.
        for k, (light, mean) in enumerate(zip(self._lights, means, strict=True)):
            same = last is not None and mean == light.last_mean and np.array_equal(frame[k], last[k])
            light.n_same = light.n_same + 1 if same else 1
            light.last_mean = mean
        return [k for k, light in enumerate(self._lights) if light.n_same >= self._frozen_frames]

    @staticmethod
    def _is_finite(pixels: FloatArray, mean: float) -> bool:
        return math.isfinite(mean) or bool(np.isfinite(pixels).all())  # a sum may overflow without fault

    def _is_saturated(self, pixels: FloatArray) -> bool:
        if self._saturated_from == math.inf:
            return False
        np.greater_equal(pixels, self._saturated_from, out=self._is_full)
        return bool(np.count_nonzero(self._is_full) > self._saturated_pixels)

    @staticmethod
    def _is_black(light: _Light, pixels: FloatArray, mean: float) -> bool:
        if mean < light.black_below:
            return True
        # A look at a few pixels is enough for nearly all frames.
        few = pixels[:: max(len(pixels) // 16, 1)]
        return bool((few == few[0]).all()) and bool((pixels == pixels[0]).all())

    def _reason(self, what: str, lights: list[int]) -> str:
        return f"{what}: {', '.join(self._names[k] for k in lights)}"
