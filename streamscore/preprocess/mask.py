"""The brain mask: whatever lies outside it becomes 0.

The networks for frames were trained on masked ones (MODELS.md 1.1), and what the camera sees beside the brain, the
skull's edge or a cable, must not reach them.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from streamscore.arrays import read_array
from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.types import Layout


class Config(BaseModel):
    """Arguments of :class:`Mask`.

    Parameters
    ----------
    mask
        ``(height, width)`` of the frames that arrive, packed or a file; what is not 0 is brain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mask: str


class Mask(MovieStep):
    """Set pixels outside the brain to 0."""

    def __init__(self, config: Config, layout: Layout) -> None:
        frame_shape = frames_of("mask", layout)
        brain = read_array(config.mask, "mask of step mask") != 0
        if brain.shape != frame_shape:
            raise ValueError(
                f"mask: the mask has shape {brain.shape} and the frames have {frame_shape} pixels; give a mask of "
                "the size that arrives at this step"
            )
        if not brain.any():
            raise ValueError("mask: the mask has no pixel of brain, all are 0; give one that is 1 on the brain")
        self.layout = layout
        self._outside = torch.from_numpy(~brain)

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        # Not a product: 0 times what is not finite would not be 0.
        return x.masked_fill(self._outside, 0.0)

    def reset(self) -> None:
        """Keep everything: the brain stays where it is."""


def build(config: Config, layout: Layout) -> Mask:
    """Return the step for frames of `layout`."""
    return Mask(config, layout)
