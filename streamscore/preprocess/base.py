"""The preprocessing chain: the same steps, in the same order, online and offline.

A step maps samples to as many samples, uses only the past, and gives the same output for any chunking.
Steps that estimate something key their estimates to the absolute sample index, never to the chunk. A step may
answer late: with `lag_samples` n, its output at index i describes sample i - n.

A step for frames (:class:`MovieStep`) computes with torch, so that a chain runs on a CPU or a GPU; several in a
row hand their frames on without a copy.

Adding a step is adding one file to this folder with a ``Config`` (pydantic, its arguments) and a
``build(config, layout) -> Step``, and a test class that inherits ``tests/contracts/step.py``.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from streamscore import plugins
from streamscore.types import FloatArray, Layout

CPU = torch.device("cpu")


class Step(ABC):
    """One stage of a chain.

    Attributes
    ----------
    layout
        What its output is made of; a step may take channels away or turn frames into regions.
    warm_up_samples
        Samples at the start of a run whose output must not be scored yet.
    settle_samples
        Samples after a gap whose output must not be scored yet.
    lag_samples
        Its output at index i describes sample ``i - lag_samples``.
    """

    layout: Layout
    warm_up_samples: int = 0
    settle_samples: int = 0
    lag_samples: int = 0

    @abstractmethod
    def push(self, x: FloatArray, start: int) -> FloatArray:
        """Process samples.

        Parameters
        ----------
        x
            ``(n_samples, *sample_shape)`` float32; not modified.
        start
            Absolute index of ``x[0]``.

        Returns
        -------
        ndarray
            ``(n_samples, *self.layout.sample_shape)`` float32.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget what a gap made meaningless (filter memory), keep what it did not (amplitude)."""


class MovieStep(Step):
    """A stage that takes frames, in torch.

    Attributes
    ----------
    device
        Where its constants and memory are.
    """

    device: torch.device = CPU

    @abstractmethod
    def push_frames(self, x: Tensor, start: int) -> Tensor:
        """Process frames.

        Parameters
        ----------
        x
            ``(n_frames, n_channels, height, width)`` float32 on :attr:`device`; not modified.
        start
            Absolute index of ``x[0]``.

        Returns
        -------
        Tensor
            ``(n_frames, *self.layout.sample_shape)`` float32, on the same device.
        """

    def to(self, device: torch.device) -> None:
        """Move to a device, before the first frame: every tensor that is an attribute goes there."""
        self.device = device
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))

    def push(self, x: FloatArray, start: int) -> FloatArray:
        """As :meth:`push_frames`, from and to memory of numpy's."""
        frames = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(self.device)
        with torch.inference_mode():
            y: FloatArray = self.push_frames(frames, start).cpu().numpy()
        return y


def frames_of(kind: str, layout: Layout) -> tuple[int, int]:
    """Return ``(height, width)``.

    Raises
    ------
    ValueError
        If `layout` has signals and not frames.
    """
    if layout.frame_shape is None:
        raise ValueError(f"{kind} takes frames of a camera, and {len(layout.channels)} signals come to it")
    return layout.frame_shape


def signals_of(kind: str, layout: Layout) -> Layout:
    """Return `layout`; raises ``ValueError`` if it has frames and not signals."""
    if layout.frame_shape is not None:
        raise ValueError(f"{kind} takes signals, and what comes to it are frames of {layout.frame_shape} pixels")
    return layout


def _in_words(error: ValidationError, config: type[BaseModel]) -> str:
    """What is wrong with the arguments of a step."""
    told = []
    for item in error.errors():
        name = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            told.append(f"unknown argument {name!r}, choose from {', '.join(config.model_fields) or 'none'}")
        else:
            told.append(f"{name} {item['msg'].removeprefix('Value error, ')}".strip())
    return "; ".join(told)


class Chain:
    """Steps in order, built from the description that a bundle carries.

    Parameters
    ----------
    description
        One mapping per step: its ``kind`` and the arguments of its ``Config``.
    layout
        Of the samples that go in.
    calibration
        Kind of a step → arguments that belong to the rig and not to the network (a dark frame, a transform to
        the atlas); they win over those of `description`.
    device
        Where steps for frames compute.

    Attributes
    ----------
    layout
        Of what comes out.
    """

    def __init__(
        self,
        description: Sequence[Mapping[str, Any]],
        layout: Layout,
        calibration: Mapping[str, Mapping[str, Any]] | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.steps: list[Step] = []
        for entry in description:
            kind = str(entry.get("kind", ""))
            module = plugins.load("preprocess", kind)
            arguments = {**entry, **(calibration or {}).get(kind, {})}
            arguments.pop("kind", None)
            try:
                step: Step = module.build(module.Config(**arguments), layout)
            except ValidationError as error:
                raise ValueError(f"step {kind}: {_in_words(error, module.Config)}") from error
            if isinstance(step, MovieStep):
                step.to(device)
            layout = step.layout
            self.steps.append(step)
        self.layout = layout
        self._device = device
        self._has_frames = any(isinstance(step, MovieStep) for step in self.steps)
        self.lag_samples = sum(step.lag_samples for step in self.steps)
        self.warm_up_samples = self.lag_samples + max((step.warm_up_samples for step in self.steps), default=0)
        self.settle_samples = self.lag_samples + max((step.settle_samples for step in self.steps), default=0)

    def push(self, x: FloatArray, start: int) -> FloatArray:
        """Run `x` ``(n_samples, *sample_shape)`` with absolute index `start` through all steps."""
        y = self.run(x, start)
        if isinstance(y, Tensor):
            y = y.cpu().numpy()
        return np.ascontiguousarray(y, dtype=np.float32)

    def run(self, x: FloatArray, start: int) -> FloatArray | Tensor:
        """As :meth:`push`, but leave what a step for frames gave last where it is."""
        y: FloatArray | Tensor = x
        with torch.inference_mode(), self._threads():
            for step in self.steps:
                if isinstance(step, MovieStep):
                    if not isinstance(y, Tensor):
                        y = torch.from_numpy(np.ascontiguousarray(y, dtype=np.float32)).to(self._device)
                    y = step.push_frames(y, start)
                else:
                    y = step.push(y.cpu().numpy() if isinstance(y, Tensor) else y, start)
        return y

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """One thread for frames on a CPU: there is too little work to share out.

        A second thread gains nothing for four frames of 128 × 128 (median 0.75 to 0.83 ms, without it 0.82,
        on a quiet machine), and on a busy one the step waits until it runs.
        """
        n = torch.get_num_threads()
        if not self._has_frames or self._device.type != "cpu" or n == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n)

    def reset(self) -> None:
        """Tell every step that a gap follows."""
        for step in self.steps:
            step.reset()
