"""Subtraction of the dark frame: what the camera gives without light.

Whatever is divided later (ΔF/F, the ratio of two lights) must be proportional to light first, and a camera adds an
offset to every pixel, often of 100 counts. The dark frame is the mean of frames that were taken without
illumination, before the experiment; it belongs to the rig, which gives it in its ``calibration``. Differences may
be negative and stay so: cutting them at 0 would lift the mean of dark pixels.

The published form (MODELS.md 1.1) is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from streamscore.arrays import Array, read_array
from streamscore.camera.reduce import Reducer
from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.preprocess.layers import pixel_constants
from streamscore.types import Layout

DARK = "dark of step dark_frame"


class Config(BaseModel):
    """Arguments of :class:`DarkFrame`.

    Parameters
    ----------
    dark
        The offset in the unit of the frames, one number; or an array (:mod:`streamscore.arrays`)
        ``(height, width)`` for all lights, ``(n_channels, height, width)`` for each its own. One of the camera's
        full size is averaged to the size of the frames, as these were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dark: Annotated[float, Field(allow_inf_nan=False)] | str | Path | None = None


class DarkFrame(MovieStep):
    """Subtract a constant from each pixel."""

    def __init__(self, dark: Tensor, layout: Layout) -> None:
        self.layout = layout
        self._dark = dark

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        return x - self._dark

    def reset(self) -> None:
        """Nothing is remembered."""


def build(config: Config, layout: Layout) -> DarkFrame:
    """Return the step for frames of `layout`.

    Raises
    ------
    ConfigError
        If the dark frame cannot be read.
    ValueError
        If none is given, or one of another shape.
    """
    frame_shape = frames_of("dark_frame", layout)
    if config.dark is None:
        raise ValueError(
            "dark_frame needs the dark frame of this rig; take one without light and write "
            "calibration: {dark_frame: {dark: dark.npy}}, or a number of counts, in the rig file"
        )
    if isinstance(config.dark, float):
        return DarkFrame(torch.full((), config.dark), layout)
    array = _of_the_size(read_array(config.dark, DARK), frame_shape)
    return DarkFrame(pixel_constants(array, DARK, layout), layout)


def _of_the_size(array: Array, frame_shape: tuple[int, int]) -> Array:
    """Average larger frames of the same proportions; leave others for the message about their shape."""
    (height, width), (raw_height, raw_width) = frame_shape, array.shape[-2:]
    if array.ndim not in (2, 3) or raw_height <= height or raw_height * width != raw_width * height:
        return array
    reduce = Reducer((raw_height, raw_width), array.dtype, frame_shape, "area")
    y = np.empty((*array.shape[:-2], height, width), np.float32)
    for raw, out in zip(array.reshape(-1, raw_height, raw_width), y.reshape(-1, height, width), strict=True):
        reduce(raw, out)
    return y
