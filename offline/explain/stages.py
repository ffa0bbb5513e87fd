"""Epochs of a recording for networks that take signals epoch by epoch, with what was and should be scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from offline.explain.given import CodeArray, Given
from streamscore.models.base import ScoringModel

TimeArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Epochs:
    """One step of a network after the other.

    Parameters
    ----------
    x
        ``(n_epochs, n_channels, epoch_samples)``.
    begin_s
        ``(n_epochs,)`` on the clock of the recording.
    run
        ``(n_epochs,)`` number of the stretch without a gap that each belongs to.
    truth
        ``(n_epochs,)`` labels of the file; -1 where there is none.
    """

    x: Tensor
    begin_s: TimeArray
    run: npt.NDArray[np.int64]
    truth: CodeArray


def epochs_of(model: ScoringModel, given: Given) -> Epochs:
    """Cut what a network for signals is given into its steps."""
    step = model.timing.step_samples
    x, begins, numbers = [], [], []
    for number, run in enumerate(given.runs):
        steps = torch.stack(torch.split(run.x[0], step, dim=1))
        x.append(steps)
        begins.append(run.t0_s + np.arange(len(steps)) * step / given.sfreq)
        numbers.append(np.full(len(steps), number))
    begin_s = np.concatenate(begins)
    return Epochs(torch.cat(x), begin_s, np.concatenate(numbers), given.truth(begin_s, step / given.sfreq))


def scored(model: ScoringModel, given: Given) -> CodeArray:
    """States ``(n_epochs,)`` that a network scores with what it knows at the end of each epoch."""
    codes = []
    with torch.inference_mode():
        for run in given.runs:
            logits, _ = model(run.x, model.initial_state(1))
            codes.append(logits[0, :, 0].argmax(dim=-1).numpy().astype(np.int8))
    return np.concatenate(codes)
