"""The seam of every network: ``model(x, state) -> (logits, state)`` and nothing else.

There is no online mode. Offline scoring is the same call with a fresh state and a long ``x``; a stream is
the same call again and again with the state of the last one. Feeding ``x`` in one piece or in any pieces of
whole steps gives the same logits.

A network may say something about the past as well as about the present: each step gives one row of logits for
each of its *reads*, which differ in lag. A causal network has one read at lag 0. A network with look-ahead has a
provisional read at lag 0 and a final one at the full lag. A network that sees a whole window can be read at any
position of it. What a read gives is fixed once it is given: nothing that comes later changes it.

Adding a network is adding one file to this folder with a ``Config`` (pydantic, its arguments), a
``build(config) -> ScoringModel`` and an ``ABOUT``, and a test class that inherits ``tests/contracts/model.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

#: Whatever a network carries from one call to the next; every tensor has the batch as its first axis.
State = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """One of the outputs that a step gives.

    Parameters
    ----------
    lag_samples
        The described interval ends this long before the end of the step; whole steps or whole epochs.
    warm_up_samples
        Samples of input, up to the end of the step, that it takes before this read may be used.
    settle_samples
        The same after a gap, for a network that keeps something over it (:meth:`ScoringModel.state_after_gap`);
        by default all of the warm-up.
    """

    lag_samples: int
    warm_up_samples: int
    settle_samples: int | None = None

    def is_usable(self, n_seen: int, n_since_gap: int) -> bool:
        """Whether enough samples were seen, ever and since the last gap."""
        settle = self.warm_up_samples if self.settle_samples is None else self.settle_samples
        return n_seen >= self.warm_up_samples and n_since_gap >= settle


@dataclass(frozen=True, slots=True)
class Timing:
    """How a network relates outputs to input samples.

    Parameters
    ----------
    step_samples
        Input samples consumed for each step.
    reads
        What each step gives, in the order of the logits, with rising lag.
    receptive_field_samples
        Samples, up to the end of the step, that its outputs can depend on; ``None`` for a carried state, which
        has no bound.
    epoch_samples
        Length of the interval that an output describes, one step by default.
    chunk_steps
        Not 0 for a network that scores non-overlapping chunks of this many steps: reads that reach behind the
        chunk's start are meaningless, and all reads are final at the step that closes it.
    """

    step_samples: int
    reads: tuple[Read, ...]
    receptive_field_samples: int | None
    epoch_samples: int = 0
    chunk_steps: int = 0

    def __post_init__(self) -> None:
        if self.epoch_samples == 0:
            object.__setattr__(self, "epoch_samples", self.step_samples)
        lags = [read.lag_samples for read in self.reads]
        odd = [lag for lag in lags if lag % self.step_samples and lag % self.epoch_samples]
        if not lags or lags != sorted(set(lags)) or lags[0] < 0 or odd:
            raise ValueError(
                f"lags {lags} must rise in whole steps of {self.step_samples} or epochs of "
                f"{self.epoch_samples} samples"
            )

    @property
    def look_ahead_samples(self) -> int:
        """Longest lag: samples after the described interval that the final output depends on."""
        return self.reads[-1].lag_samples

    @property
    def final_reads(self) -> tuple[bool, ...]:
        """For each read, whether no later step says more about the same interval; not for chunks."""
        lags = [read.lag_samples for read in self.reads]
        return tuple(
            not any(other > lag and (other - lag) % self.step_samples == 0 for other in lags) for lag in lags
        )

    @property
    def warm_up_samples(self) -> int:
        """Uninterrupted input before the first output of any kind."""
        return min(read.warm_up_samples for read in self.reads)


@dataclass(frozen=True)
class Example:
    """A ready configuration of a network, as ``streamscore models`` lists it.

    Parameters
    ----------
    args
        Arguments of its ``Config``.
    vocabulary
        Of its classes.
    sfreq
        Rate of its input in Hz.
    channels
        Names of its inputs.
    unit
        That a rig must deliver; ``"any"`` where the scale is removed before or makes no difference.
    """

    args: Mapping[str, Any]
    vocabulary: str
    sfreq: float
    channels: tuple[str, ...]
    unit: str = "any"


@dataclass(frozen=True)
class About:
    """What a person should know before choosing a network.

    Parameters
    ----------
    title
        Its name in the field.
    source
        Publication.
    published
        Figures of the paper, each with set and procedure. They are the paper's, not ours.
    examples
        Name → ready configuration; the first is the one of the paper.
    """

    title: str
    source: str
    published: tuple[str, ...]
    examples: Mapping[str, Example] = field(default_factory=dict)


class ScoringModel(nn.Module, ABC):
    """Base of all networks.

    Attributes
    ----------
    n_channels, n_classes
        Channels in, classes out.
    frame_shape
        ``(height, width)`` of a movie's frames; ``None`` for signals. A movie has one channel.
    timing
        See :class:`Timing`.
    """

    n_channels: int
    n_classes: int
    frame_shape: tuple[int, int] | None = None
    timing: Timing

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Return the state of `batch_size` streams that have seen nothing.

        Its tensors share no memory: whoever carries many streams writes into them.
        """

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Score whole steps.

        Parameters
        ----------
        x
            Signals ``(batch, n_channels, n_steps * step_samples)``, or a movie
            ``(batch, n_steps * step_samples, height, width)``. It is not modified.
        state
            From :meth:`initial_state` or the last call. It is not modified.

        Returns
        -------
        logits
            ``(batch, n_steps, n_reads, n_classes)``.
        state
            To be passed to the next call.
        """

    def state_after_gap(self, state: State, n_missing_steps: int) -> State:
        """What is left of `state` when samples were lost; by default that of streams that have seen nothing.

        What describes the recording (its scale, how long it has gone on) may be kept, what describes the moment
        must not.

        Parameters
        ----------
        state
            Before the gap. It is not modified.
        n_missing_steps
            Steps of the stream that were lost, in whole or in part.
        """
        return self.initial_state(state[0].shape[0])

    def for_inference(self) -> ScoringModel:
        """This network prepared for scoring alone: the same function (1e-5), perhaps quicker, not to be trained.

        By default the network itself. It must be in evaluation mode and is not changed.
        """
        return self

    @property
    def time_axis(self) -> int:
        """Axis of `x` along which time runs: 2 for signals, 1 for movies."""
        return 2 if self.frame_shape is None else 1

    def input_shape(self, batch_size: int, n_samples: int) -> tuple[int, ...]:
        """Shape of `x` that holds `n_samples` samples."""
        if self.frame_shape is None:
            return batch_size, self.n_channels, n_samples
        return batch_size, n_samples, *self.frame_shape

    def check_input(self, x: Tensor) -> int:
        """Return the number of steps in `x`.

        Raises
        ------
        ValueError
            If the axes do not fit; the message names expected and got.
        """
        step, axis = self.timing.step_samples, self.time_axis
        n_samples = x.shape[axis] if x.ndim > axis else 0
        if tuple(x.shape) != self.input_shape(x.shape[0], n_samples) or n_samples % step or n_samples == 0:
            if self.frame_shape is None:
                expected = f"(batch, {self.n_channels} channels, k * {step} samples)"
            else:
                height, width = self.frame_shape
                expected = f"(batch, k * {step} frames, height {height}, width {width})"
            raise ValueError(f"{type(self).__name__} expects x as {expected}, got {tuple(x.shape)}")
        return n_samples // step

    def n_trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def stack_states(states: list[State]) -> State:
    """Join the states of single streams into one batch."""
    return tuple(torch.cat(parts) for parts in zip(*states, strict=True))


def split_state(state: State) -> list[State]:
    """Take a batch of streams apart into states of single streams."""
    batch_size = state[0].shape[0]
    return [tuple(part[i : i + 1] for part in state) for i in range(batch_size)]
