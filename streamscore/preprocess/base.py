"""The preprocessing chain: the same steps, in the same order, online and offline.

A step maps samples to as many samples, uses only the past, and gives the same output for any chunking.
Steps that estimate something key their estimates to the absolute sample index, never to the chunk.

Adding a step is adding one file to this folder with a ``Config`` (pydantic, its arguments) and a
``build(config, sfreq, n_channels) -> Step``, and a test class that inherits ``tests/contracts/step.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from streamscore import plugins
from streamscore.types import FloatArray


class Step(ABC):
    """One stage of a chain.

    Attributes
    ----------
    warm_up_samples
        Samples at the start of a run whose output must not be scored yet.
    settle_samples
        Samples after a gap whose output must not be scored yet.
    """

    warm_up_samples: int = 0
    settle_samples: int = 0

    @abstractmethod
    def push(self, x: FloatArray, start: int) -> FloatArray:
        """Process samples.

        Parameters
        ----------
        x
            ``(n_samples, n_channels)`` float32; not modified.
        start
            Absolute index of ``x[0]``.

        Returns
        -------
        ndarray
            ``(n_samples, n_channels)`` float32.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget what a gap made meaningless (filter memory), keep what it did not (amplitude)."""


class Chain:
    """Steps in order, built from the description that a bundle carries.

    Parameters
    ----------
    description
        One mapping per step: its ``kind`` and the arguments of its ``Config``.
    sfreq
        Sampling rate in Hz.
    n_channels
        Number of channels.
    """

    def __init__(self, description: Sequence[dict[str, object]], sfreq: float, n_channels: int) -> None:
        self.steps: list[Step] = []
        for entry in description:
            arguments = dict(entry)
            module = plugins.load("preprocess", str(arguments.pop("kind", "")))
            self.steps.append(module.build(module.Config(**arguments), sfreq, n_channels))
        self.warm_up_samples = max((step.warm_up_samples for step in self.steps), default=0)
        self.settle_samples = max((step.settle_samples for step in self.steps), default=0)

    def push(self, x: FloatArray, start: int) -> FloatArray:
        """Run `x` ``(n_samples, n_channels)`` with absolute index `start` through all steps."""
        for step in self.steps:
            x = step.push(x, start)
        return np.ascontiguousarray(x, dtype=np.float32)

    def reset(self) -> None:
        """Tell every step that a gap follows."""
        for step in self.steps:
            step.reset()
