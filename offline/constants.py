"""What a network knows of its training set that no gradient teaches, found before the first pass.

Means and tables: SeqSleepNet standardises each frequency bin by the training set; a VGG16 with a stored
equalisation spreads the levels of its pictures evenly over it. What came with the weights that a training starts
from is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from offline.sequences import Sequences
from streamscore.features.spectrogram_image import N_BINS, count_values, linear_table, log_power, table_from_counts
from streamscore.models.base import ScoringModel
from streamscore.models.seqsleepnet import SeqSleepNet
from streamscore.models.vgg16 import Vgg16

#: Steps of a recording that are looked at together, which bounds memory.
_STEPS = 64


@torch.no_grad()
def find_constants(model: ScoringModel, recordings: Sequence[Sequences]) -> None:
    """Fill the constants of `model` that are still as it was built."""
    if isinstance(model, SeqSleepNet):
        encoder = model.encoder
        if bool((encoder.bin_std == 1).all()) and bool((encoder.bin_mean == 0).all()):
            mean, std = _bin_moments(model, recordings)
            encoder.bin_mean.copy_(mean)
            encoder.bin_std.copy_(std)
    elif isinstance(model, Vgg16) and model.config.equalisation == "stored":
        table = model.images.table
        if torch.equal(table, linear_table(0.0, 1.0)):
            table.copy_(table_from_counts(_histogram(model, recordings)))


def _blocks(recordings: Sequence[Sequences]) -> Iterator[Tensor]:
    """Steps that follow each other, ``(n, n_channels, step_samples)``."""
    for recording in recordings:
        for begin, end in recording.runs:
            for at in range(begin, end, _STEPS):
                yield torch.from_numpy(np.asarray(recording.x[at : min(at + _STEPS, end)], np.float32))


def _bin_moments(model: SeqSleepNet, recordings: Sequence[Sequences]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(n_channels, n_bins)`` over all frames of the log spectra."""
    n, total, squares = 0, torch.zeros(()), torch.zeros(())
    for epochs in _blocks(recordings):
        spectra = model.encoder.log_spectra(epochs).double()
        n += spectra.shape[0] * spectra.shape[2]
        total = total + spectra.sum(dim=(0, 2))
        squares = squares + spectra.square().sum(dim=(0, 2))
    mean = total / n
    # A bin that never changes (beyond a filter's reach) has no spread to divide by.
    std = (squares / n - mean.square()).clamp(min=0.0).sqrt()
    return mean, torch.where(std > 1e-6, std, torch.ones_like(std))


def _histogram(model: Vgg16, recordings: Sequence[Sequences]) -> Tensor:
    """Counts of log power, columns inside blocks of steps alone."""
    counts = torch.zeros(N_BINS, dtype=torch.int64)
    spectrogram = model.images.spectrogram
    for steps in _blocks(recordings):
        columns, _ = spectrogram.push(steps[:, 0].reshape(1, -1), *spectrogram.initial_state(1))
        counts += count_values(log_power(columns[0]))
    return counts
