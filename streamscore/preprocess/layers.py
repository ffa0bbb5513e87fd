"""What several steps for frames are made of: constants of each pixel, and estimates that follow each pixel.

An estimate is the plain one over all frames so far, until its time constant has passed; from then on it forgets
exponentially. So on a recording shorter than the time constant it ends at what the whole recording gives. It
advances frame by frame, so that no chunking can matter, and costs a few passes over one frame.

A pixel that is not finite teaches nothing, and spoils nothing later: its frame counts as one that lay on the mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from streamscore.arrays import Array
from streamscore.preprocess.base import frames_of
from streamscore.types import Layout

#: Below every level and variance of a pixel that was lit; keeps a division by it finite.
TINY = 1e-30


def pixel_constants(array: Array, what: str, layout: Layout) -> Tensor:
    """Return one constant for each pixel, the same for all channels or of each its own.

    Parameters
    ----------
    array
        ``(height, width)`` or ``(n_channels, height, width)``.
    what
        Names it in messages.
    layout
        Of the frames that it is for.

    Returns
    -------
    Tensor
        ``(n_channels, height, width)`` float32.

    Raises
    ------
    ValueError
        If its shape is another.
    """
    frame_shape = frames_of(what, layout)
    if array.shape not in (frame_shape, layout.sample_shape):
        raise ValueError(
            f"{what} has shape {array.shape}; the frames need {frame_shape}, or {layout.sample_shape} for one of "
            f"each of {', '.join(layout.channels)}"
        )
    return torch.from_numpy(np.broadcast_to(array, layout.sample_shape).astype(np.float32))


def reciprocal_above(level: Tensor, min_share: float) -> Tensor:
    """Return 1 / `level` ``(n_channels, height, width)``, but 0 for dark pixels.

    Dark is what does not exceed `min_share` of the mean over the channel's pixels: a quotient there is of noise
    alone.
    """
    floor = level.mean(dim=(1, 2), keepdim=True).mul_(min_share).clamp_(min=TINY)
    is_lit = torch.gt(level, floor, out=torch.empty_like(level))  # as numbers: four times faster than a choice
    return is_lit.div_(level.clamp(min=floor))


class PixelMean:
    """Mean of each pixel.

    Parameters
    ----------
    shape
        Of a frame, or whatever else comes at each step.
    tau_frames
        Time constant of forgetting.
    learns_frames
        Frozen after so many; ``None`` never.

    Attributes
    ----------
    mean
        `shape` float32, 0 before the first frame.
    n_learnt
        Frames so far.
    weight
        Of the newest frame in the mean.
    """

    def __init__(self, shape: tuple[int, ...], tau_frames: float, learns_frames: int | None = None) -> None:
        self.mean = torch.zeros(shape)
        self.n_learnt = 0
        self.weight = 0.0
        self._tau_frames = tau_frames
        self._learns_frames = learns_frames
        # Near the end of a session a frame moves a mean by less than float32 can hold. So the mean is kept as its
        # difference to the first frame, which is small.
        self._first = torch.zeros(shape)
        self._moved = torch.zeros(shape)

    @property
    def learns(self) -> bool:
        """Whether it is not frozen yet."""
        return self._learns_frames is None or self.n_learnt < self._learns_frames

    def learn(self, frame: Tensor) -> Tensor:
        """Take in a frame; return its difference to the mean before it, 0 where not finite."""
        self.n_learnt += 1
        self.weight = max(1.0 / self.n_learnt, 1.0 / self._tau_frames)
        difference = (frame - self.mean).nan_to_num_(0.0, 0.0, 0.0)
        if self.n_learnt == 1:
            self._first.copy_(difference)
        else:
            self._moved.add_(difference, alpha=self.weight)
        torch.add(self._first, self._moved, out=self.mean)
        return difference

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.mean, self._first, self._moved = (t.to(device) for t in (self.mean, self._first, self._moved))


class PixelSlope:
    """Slope of the least-squares line of each pixel on a regressor.

    Parameters
    ----------
    shape
        Of a frame.
    regressor_shape
        Of the regressor at each step: that of a frame, or one that spreads to it.
    tau_frames, learns_frames
        As of :class:`PixelMean`.

    Attributes
    ----------
    pixels, regressor
        The two means.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        regressor_shape: tuple[int, ...],
        tau_frames: float,
        learns_frames: int | None = None,
    ) -> None:
        self.pixels = PixelMean(shape, tau_frames, learns_frames)
        self.regressor = PixelMean(regressor_shape, tau_frames, learns_frames)
        self._covariance = torch.zeros(shape)
        self._variance = torch.zeros(regressor_shape)

    @property
    def learns(self) -> bool:
        """Whether it is not frozen yet."""
        return self.pixels.learns

    @property
    def slope(self) -> Tensor:
        """Of each pixel; 0 where the regressor never changed."""
        return self._covariance / self._variance.clamp(min=TINY)

    def learn(self, frame: Tensor, regressor: Tensor) -> None:
        """Take in a frame and its regressor."""
        of_pixels, of_regressor = self.pixels.learn(frame), self.regressor.learn(regressor)
        weight = self.pixels.weight
        old = of_regressor * (1.0 - weight)  # both differences are to the means before this frame
        self._covariance.lerp_(of_pixels.mul_(old), weight)
        self._variance.lerp_(of_regressor.mul_(old), weight)

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.pixels.to(device)
        self.regressor.to(device)
        self._covariance, self._variance = self._covariance.to(device), self._variance.to(device)
