"""Keep some of the channels, by name and in a given order: a light of a camera, some regions, some electrodes."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from streamscore.preprocess.base import MovieStep
from streamscore.types import Layout


class Config(BaseModel):
    """Arguments of :class:`Select`.

    Parameters
    ----------
    channels
        Names of those that stay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[str, ...] = Field(min_length=1)


class Select(MovieStep):
    """Take channels out of samples of any kind, signals or frames."""

    def __init__(self, config: Config, layout: Layout) -> None:
        absent = [name for name in config.channels if name not in layout.channels]
        if absent:
            raise ValueError(
                f"select: there is no channel {absent[0]!r}; choose from {', '.join(layout.channels)}"
            )
        if len(set(config.channels)) < len(config.channels):
            raise ValueError(f"select: a channel stands twice in {config.channels}; name each once")
        self.layout = Layout(layout.sfreq, config.channels, layout.frame_shape)
        self._index = torch.tensor([layout.channels.index(name) for name in config.channels])

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        return x.index_select(1, self._index)

    def reset(self) -> None:
        """Keep everything: there is nothing to forget."""


def build(config: Config, layout: Layout) -> Select:
    """Return the step for samples of `layout`."""
    return Select(config, layout)
