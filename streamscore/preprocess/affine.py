"""To the atlas: frames are turned, scaled and moved so that every mouse's cortex lies on the same pixels.

The published chain registers each mouse to the atlas by an affine transform from bregma and lambda (MODELS.md
1.1). ``streamscore register`` finds it once for each mouse, and the rig file names its file::

    calibration: {affine: {path: mouse12.json}}

Each pixel of the output is interpolated between four pixels of the frame (bilinear, without smoothing: reduce
large frames first). What the camera does not see is 0, and a transform under which it does not see the brain is
refused.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from streamscore.arrays import read_array
from streamscore.errors import ConfigError
from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.transform import Matrix, Shape, Transform, read_transform
from streamscore.types import Layout

#: Four pixels speak for so many times so many; beyond, most of the light would be thrown away.
_MAX_REDUCTION = 3.0


class Config(BaseModel):
    """Arguments of :class:`Affine`.

    Parameters
    ----------
    path
        File that ``streamscore register`` wrote. It is used for reduced frames too, if their proportions are those
        of the registered one.
    matrix
        Instead of a file: 2 rows of 3 numbers that map ``(x, y, 1)`` of the frames that arrive at this step to
        ``(x, y)`` of the output, in pixels; the centre of the first pixel is (0, 0).
    frame_shape
        ``(height, width)`` of the output; that of the file, or of the frames that arrive, if not given.
    mask
        Brain on the output's pixels, packed or a file; that of the file if not given.
    max_outside
        Share of the brain (without a mask: of the output) that may lie outside the camera's frame.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = None
    matrix: Matrix | None = None
    frame_shape: Shape | None = None
    mask: str | None = None
    max_outside: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.path is not None and self.matrix is not None:
            raise ValueError("affine takes its transform from path or matrix, not from both; leave one out")
        return self


class Affine(MovieStep):
    """Interpolate at positions that are worked out beforehand."""

    def __init__(self, config: Config, layout: Layout) -> None:
        transform = _transform_of(config, frames_of("affine", layout))
        _check_sight(transform, config)
        self.layout = Layout(layout.sfreq, layout.channels, transform.atlas_shape)
        height, width = transform.frame_shape
        # What torch calls a grid: -1 and 1 are the outer borders of the frame.
        grid = (2.0 * transform.sources() + 1.0) / np.array([width, height]) - 1.0
        self._grid = torch.from_numpy(grid.astype(np.float32))[None]
        self._sees = torch.from_numpy(transform.inside().astype(np.float32))

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        n, n_channels, height, width = x.shape
        if n == 0:
            return x.new_zeros((0, *self.layout.sample_shape))
        # Frames as channels of one picture: weights are then worked out once for all of them.
        flat = x.reshape(1, n * n_channels, height, width)
        y = F.grid_sample(flat, self._grid, mode="bilinear", padding_mode="border", align_corners=False)
        return y.mul_(self._sees).view(n, *self.layout.sample_shape)

    def reset(self) -> None:
        """Keep everything: the head stays where it is."""


def _transform_of(config: Config, frame_shape: Shape) -> Transform:
    if config.matrix is not None:
        matrix = np.array(config.matrix)
        transform = Transform(matrix, frame_shape, config.frame_shape or frame_shape)
    elif config.path is not None:
        transform = read_transform(config.path).for_frames(frame_shape)
        if config.frame_shape not in (None, transform.atlas_shape):
            raise ConfigError(
                f"affine: {config.path} maps to an atlas of {transform.atlas_shape} pixels and not of "
                f"{config.frame_shape}; register again with an atlas of that size"
            )
    else:
        raise ConfigError(
            "affine needs the transform from your camera to the atlas, which differs from mouse to mouse: run "
            "`streamscore register FRAME --bregma X,Y --lambda X,Y -o mouse.json` and write "
            "`calibration: {affine: {path: mouse.json}}` in the rig file"
        )
    if config.mask is None:
        return transform
    mask = read_array(config.mask, "affine: mask").astype(bool)
    return Transform(transform.matrix, transform.frame_shape, transform.atlas_shape, mask)


def _check_sight(transform: Transform, config: Config) -> None:
    """Refuse a transform under which frames of the brain cannot come out."""
    outside = transform.share_outside()
    if outside > config.max_outside:
        what = "the output (no mask says where the brain is)" if transform.mask is None else "the atlas' brain"
        raise ValueError(
            f"affine: {outside:.0%} of {what} lies outside the camera's frame of {transform.frame_shape} pixels, "
            f"more than {config.max_outside:.0%}; check bregma and lambda on the overlay picture and run "
            "`streamscore register` again"
        )
    if 1.0 / transform.scale > _MAX_REDUCTION:
        raise ValueError(
            f"affine: a pixel of the output covers {1.0 / transform.scale:.1f} pixels of the camera in each "
            f"direction and would be interpolated between 2; reduce the frames first (frame_shape of the source)"
        )


def build(config: Config, layout: Layout) -> Affine:
    """Return the step for frames of `layout`."""
    return Affine(config, layout)
