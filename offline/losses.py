"""Losses over the steps of a batch that have a label.

Focal loss: Lin et al. 2017, arXiv:1708.02002, without class factors unless weights are given. ``per_class``: the
mean false error that SleepEEGNet takes up, here of the cross-entropy: each class's own mean, summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from offline.recipe import Loss
from offline.sequences import CodeArray


def class_weights(config: Loss, codes: CodeArray, n_classes: int) -> Tensor:
    """Weights ``(n_classes,)`` of the classes.

    Parameters
    ----------
    codes
        All labels to learn from, -1 where there is none; for ``weight_power`` alone. A class that does not occur
        weighs 0 then.

    Raises
    ------
    ValueError
        If there are not as many weights as classes.
    """
    if config.weights:
        if len(config.weights) != n_classes:
            raise ValueError(f"loss.weights has {len(config.weights)} entries for {n_classes} classes")
        return torch.tensor(config.weights)
    if config.weight_power == 0:
        return torch.ones(n_classes)
    known = codes[codes >= 0]
    counts = np.bincount(known, minlength=n_classes)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -config.weight_power, 0.0)
    return torch.from_numpy((weights * len(known) / (weights @ counts)).astype(np.float32))


def loss_of(config: Loss, logits: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Loss of ``(rows, steps, n_classes)`` logits against ``(rows, steps)`` codes, -1 where there is no label.

    0 where nothing has a label.
    """
    flat, truth = logits.flatten(0, 1), codes.flatten()
    known = truth >= 0
    if not known.any():
        return 0.0 * logits.sum()
    flat, truth = flat[known].float(), truth[known]
    # Symbols beyond the classes (the end that SleepEEGNet's decoder is asked for) weigh 1.
    weights = F.pad(weights, (0, flat.shape[1] - len(weights)), value=1.0)
    losses = F.cross_entropy(flat, truth, reduction="none", label_smoothing=config.smoothing)
    if config.kind == "focal":
        chance = torch.softmax(flat, dim=1).gather(1, truth[:, None])[:, 0]
        losses = (1.0 - chance) ** config.gamma * losses
    weight = weights[truth]
    if config.kind == "per_class":
        present = torch.unique(truth)
        return torch.stack([(weight * losses)[truth == k].mean() for k in present]).sum()
    if config.reduction == "weighted":
        return (weight * losses).sum() / weight.sum().clamp(min=1e-12)
    if config.reduction == "rows":
        return (weight * losses).sum() / len(codes)
    return (weight * losses).mean()


def l2_of(kernels: Sequence[Tensor]) -> Tensor:
    """½‖w‖² of all kernels."""
    return 0.5 * torch.stack([kernel.square().sum() for kernel in kernels]).sum()
