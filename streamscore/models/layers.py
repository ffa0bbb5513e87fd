"""Layers with TensorFlow's conventions, which the published networks of the field were built with.

Sources: MODELS.md sections 0.1 to 0.3, checked there against TensorFlow 2.21.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow "SAME" padding of `n` samples: ``(left, right)``; the odd sample goes to the right.

    It depends on `n`, so a strided layer has to compute it from the real length.
    """
    n_out = math.ceil(n / stride)
    total = max((n_out - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2


class SameConv1d(nn.Conv1d):
    """``Conv1d`` with TensorFlow "SAME" zero padding for any stride."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__(n_in, n_out, kernel, stride=stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        left, right = same_padding(x.shape[-1], self.kernel_size[0], self.stride[0])
        return super().forward(F.pad(x, (left, right)))


def same_max_pool(x: Tensor, kernel: int) -> Tensor:
    """Max pooling with stride `kernel` and TensorFlow "SAME" padding, which never wins the maximum."""
    left, right = same_padding(x.shape[-1], kernel, kernel)
    return F.max_pool1d(F.pad(x, (left, right), value=-math.inf), kernel)


class FrozenStatisticsNorm(nn.Module):
    """Batch normalisation whose moving statistics stayed at mean 0 and variance 1.

    TinySleepNet's code calls batch normalisation without the training flag, so that it never learns
    statistics: what remains is an affine map ``gamma * x / sqrt(1 + eps) + beta`` (MODELS.md 6.1).
    """

    def __init__(self, n_features: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.gain = 1.0 / math.sqrt(1.0 + eps)
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.weight * self.gain)[:, None] + self.bias[:, None]


class PeepholeLstm(nn.Module):
    """LSTM with diagonal peepholes, as TensorFlow 1's ``LSTMCell(use_peepholes=True)``.

    Gates in the order i, j (candidate), f, o with one bias; 1 is added to f at run time. Peepholes of i and
    f look at the old cell, that of o at the new one (MODELS.md 0.3). Parameters:
    ``(in + hidden) * 4 * hidden + 4 * hidden + 3 * hidden``.
    """

    FORGET_BIAS = 1.0

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.weight_x = nn.Parameter(torch.empty(n_in, 4 * n_hidden))
        self.weight_h = nn.Parameter(torch.empty(n_hidden, 4 * n_hidden))
        self.bias = nn.Parameter(torch.zeros(4 * n_hidden))
        self.peephole = nn.Parameter(torch.zeros(3, n_hidden))
        # Glorot over the joint (in + hidden) kernel, TensorFlow's default for this cell.
        bound = math.sqrt(6.0 / (n_in + n_hidden + 4 * n_hidden))
        nn.init.uniform_(self.weight_x, -bound, bound)
        nn.init.uniform_(self.weight_h, -bound, bound)

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return cell and output of streams that have seen nothing: two ``(batch, n_hidden)`` of zeros."""
        cell = self.bias.new_zeros(batch_size, self.n_hidden)
        return cell, torch.zeros_like(cell)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run ``x`` (batch, steps, n_in) from `state`; return (batch, steps, n_hidden) and the new state."""
        cell, hidden = state
        peep_i, peep_f, peep_o = self.peephole
        # The input side needs no state: one product for all steps.
        projected = x @ self.weight_x + self.bias
        outputs = []
        for step in range(x.shape[1]):
            gates = projected[:, step] + hidden @ self.weight_h
            i, j, f, o = gates.chunk(4, dim=1)
            keep = torch.sigmoid(f + peep_f * cell + self.FORGET_BIAS)
            cell = keep * cell + torch.sigmoid(i + peep_i * cell) * torch.tanh(j)
            hidden = torch.sigmoid(o + peep_o * cell) * torch.tanh(cell)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (cell, hidden)
