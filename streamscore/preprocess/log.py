"""The logarithm of each value: powers, which spread over decades, become what a network can take.

Band powers of a state are spread about evenly on a logarithmic scale, and a different gain of the amplifier
becomes an offset, which a normalisation that follows takes away.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.preprocess.base import Step, signals_of
from streamscore.types import FloatArray, Layout


class Config(BaseModel):
    """Arguments of :class:`Log`.

    Parameters
    ----------
    floor
        What is less, 0 and negative values included, counts as this, in the unit of the signal. It must be a
        number that float32 tells from 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor: float = Field(1e-12, ge=float(np.finfo(np.float32).tiny), allow_inf_nan=False)


class Log(Step):
    """Take the logarithm to the base 10."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self.layout = layout
        self._floor = np.float32(config.floor)

    def push(self, x: FloatArray, start: int) -> FloatArray:
        y = np.maximum(x, self._floor)
        return np.log10(y, out=y)

    def reset(self) -> None:
        """Keep everything: there is nothing to forget."""


def build(config: Config, layout: Layout) -> Log:
    """Return the step for signals of `layout`."""
    return Log(config, signals_of("log", layout))
