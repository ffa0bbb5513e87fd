"""The moments at which a network for frames decides, each with the frames that it describes in one call.

The state is carried from one moment to the next as in a run, without gradients; what decides is called again with
them, if asked. A network with look-ahead is called when it has seen it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from offline.explain.given import Given
from streamscore.errors import ConfigError, RecordingError
from streamscore.models.base import ScoringModel, State

#: Networks that score single frames are asked this often.
LEAST_SPACING_S = 1.0


@dataclass(frozen=True, eq=False)
class Moment:
    """One interval that a network is about to score.

    Parameters
    ----------
    model
        The network.
    begin_s
        Start of the interval on the clock of the recording.
    x
        ``(1, n, height, width)``: the frames of the interval, behind the chain, then those of the look-ahead.
    state
        Of the network before them.
    """

    model: ScoringModel
    begin_s: float
    x: Tensor
    state: State

    def decide(self) -> Tensor:
        """Logits ``(n_classes,)`` of the final output about the interval."""
        logits, _ = self.model(self.x, self.state)
        last: Tensor = logits[0, -1, -1]
        return last


def moments(model: ScoringModel, given: Given) -> Iterator[Moment]:
    """Yield the moments of a recording: one an epoch, and at most one a second.

    Raises
    ------
    ConfigError
        If the network takes signals.
    RecordingError
        If the recording has none.
    """
    if model.frame_shape is None:
        raise ConfigError(
            f"{type(model).__name__} takes signals; this explains networks that take frames of a camera"
        )
    timing = model.timing
    n_epoch, read, step = timing.epoch_samples, timing.reads[-1], timing.step_samples
    n_call = n_epoch + read.lag_samples
    every = max(n_epoch, math.ceil(LEAST_SPACING_S * given.sfreq / step) * step)
    n_moments = 0
    for run in given.runs:
        state = model.initial_state(1)
        begins = range(0, run.x.shape[1] - n_call + 1, every)
        for begin in begins:
            if read.is_usable(begin + n_call, begin + n_call):
                n_moments += 1
                begin_s = run.t0_s + begin / given.sfreq
                yield Moment(model, begin_s, run.x[:, begin : begin + n_call], state)
            if begin != begins[-1]:
                with torch.no_grad():
                    _, state = model(run.x[:, begin : begin + every], state)
    if not n_moments:
        longest = max(run.x.shape[1] for run in given.runs)
        raise RecordingError(
            f"{given.name}: no output of the network is final in it; it has {longest} frames without a gap, and "
            f"the first takes {max(n_call, read.warm_up_samples)}"
        )
