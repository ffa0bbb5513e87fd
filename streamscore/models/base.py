"""The seam of every network: ``model(x, state) -> (logits, state)`` and nothing else.

There is no online mode. Offline scoring is the same call with a fresh state and a long ``x``; a stream is
the same call again and again with the state of the last one. Feeding ``x`` in one piece or in any pieces of
whole steps gives the same logits.

Adding a network is adding one file to this folder with a ``Config`` (pydantic, its arguments) and a
``build(config) -> ScoringModel``, and a test class that inherits ``tests/contracts/model.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

#: Whatever a network carries from one call to the next; every tensor has the batch as its first axis.
State = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """How a network relates outputs to input samples.

    Parameters
    ----------
    step_samples
        Input samples consumed for each output, which describes exactly these samples.
    look_ahead_samples
        Samples after the end of the described step that its output depends on.
    warm_up_samples
        Samples of uninterrupted input needed before an output may be used, its own step included.
    receptive_field_samples
        Samples that an output can depend on; ``None`` for a carried state, which has no bound.
    """

    step_samples: int
    look_ahead_samples: int
    warm_up_samples: int
    receptive_field_samples: int | None


class ScoringModel(nn.Module, ABC):
    """Base of all networks.

    Attributes
    ----------
    n_channels, n_classes
        Channels in, classes out.
    timing
        See :class:`Timing`.
    """

    n_channels: int
    n_classes: int
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
            ``(batch, n_channels, n_steps * step_samples)``.
        state
            From :meth:`initial_state` or the last call. It is not modified.

        Returns
        -------
        logits
            ``(batch, n_steps, n_classes)``.
        state
            To be passed to the next call.
        """

    def check_input(self, x: Tensor) -> int:
        """Return the number of steps in `x`.

        Raises
        ------
        ValueError
            If the axes do not fit; the message names expected and got.
        """
        step = self.timing.step_samples
        if x.ndim != 3 or x.shape[1] != self.n_channels or x.shape[2] % step or x.shape[2] == 0:
            raise ValueError(
                f"{type(self).__name__} expects x as (batch, {self.n_channels} channels, "
                f"k * {step} samples), got {tuple(x.shape)}"
            )
        return x.shape[2] // step

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
