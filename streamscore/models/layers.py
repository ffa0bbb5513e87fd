"""Layers with TensorFlow's conventions, which the published networks of the field were built with.

Sources: MODELS.md sections 0.1 to 0.3, checked there against TensorFlow 2.21.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: Cell and output of an LSTM layer, each ``(batch, n_hidden)``.
Cell = tuple[Tensor, Tensor]


def same_padding(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow "SAME" padding of `n` samples: ``(left, right)``; the odd sample goes to the right.

    It depends on `n`, so a strided layer has to compute it from the real length.
    """
    n_out = math.ceil(n / stride)
    total = max((n_out - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2


def same_length(n: int, *strides: int) -> int:
    """Length that is left of `n` samples after "SAME" layers with these strides, one after the other."""
    for stride in strides:
        n = math.ceil(n / stride)
    return n


Layer = TypeVar("Layer", bound=nn.Conv1d | nn.Conv2d | nn.Linear)


def keras_start(layer: Layer) -> Layer:
    """Give a layer the initial weights of Keras and TensorFlow, and return it: Glorot, and biases of 0."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def keras_norm(n_features: int) -> nn.BatchNorm1d:
    """Keras' batch normalisation: momentum 0.99, which is PyTorch's 0.01, and eps 1e-3 (MODELS.md 0.2)."""
    return nn.BatchNorm1d(n_features, eps=1e-3, momentum=0.01)


class SameConv1d(nn.Conv1d):
    """``Conv1d`` with TensorFlow "SAME" zero padding for any stride."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__(n_in, n_out, kernel, stride=stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        left, right = same_padding(x.shape[-1], self.kernel_size[0], self.stride[0])
        if left == right:  # the convolution pads by itself, without a copy
            return F.conv1d(x, self.weight, self.bias, self.stride, left)
        return super().forward(F.pad(x, (left, right)))


def same_max_pool(x: Tensor, kernel: int) -> Tensor:
    """Max pooling with stride `kernel` and TensorFlow "SAME" padding, which never wins the maximum."""
    left, right = same_padding(x.shape[-1], kernel, kernel)
    if left or right:
        x = F.pad(x, (left, right), value=-math.inf)
    return F.max_pool1d(x, kernel)


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


class TfLstm(nn.Module):
    """LSTM as TensorFlow 1's ``LSTMCell``: gates i, j (candidate), f, o with one bias, 1 added to f at run time.

    See MODELS.md 0.3. Parameters: ``(in + hidden) * 4 * hidden + 4 * hidden``.
    """

    FORGET_BIAS = 1.0

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.weight_x = nn.Parameter(torch.empty(n_in, 4 * n_hidden))
        self.weight_h = nn.Parameter(torch.empty(n_hidden, 4 * n_hidden))
        self.bias = nn.Parameter(torch.zeros(4 * n_hidden))
        # Glorot over the joint (in + hidden) kernel, TensorFlow's default for this cell.
        bound = math.sqrt(6.0 / (n_in + n_hidden + 4 * n_hidden))
        nn.init.uniform_(self.weight_x, -bound, bound)
        nn.init.uniform_(self.weight_h, -bound, bound)

    def initial_state(self, batch_size: int) -> Cell:
        """Return cell and output of streams that have seen nothing: two ``(batch, n_hidden)`` of zeros."""
        cell = self.bias.new_zeros(batch_size, self.n_hidden)
        return cell, torch.zeros_like(cell)

    def project(self, x: Tensor) -> Tensor:
        """Map ``(..., n_in)`` to the input side of the gates, ``(..., 4 * n_hidden)``; it needs no state."""
        return x @ self.weight_x + self.bias

    def step(self, projected: Tensor, state: Cell) -> Cell:
        """Take one step of ``(batch, 4 * n_hidden)``; the output is the second of what it returns."""
        cell, hidden = state
        i, j, f, o = torch.addmm(projected, hidden, self.weight_h).chunk(4, dim=1)
        cell = torch.sigmoid(f + self.FORGET_BIAS) * cell + torch.sigmoid(i) * torch.tanh(j)
        return cell, torch.sigmoid(o) * torch.tanh(cell)

    def recur(self, projected: Tensor, state: Cell) -> tuple[Tensor, Cell]:
        """Run over what :meth:`project` gave, ``(batch, steps, 4 * n_hidden)``; return as :meth:`forward`."""
        outputs = []
        for gates in projected.unbind(1):
            state = self.step(gates, state)
            outputs.append(state[1])
        return torch.stack(outputs, dim=1), state

    def forward(self, x: Tensor, state: Cell) -> tuple[Tensor, Cell]:
        """Run ``x`` (batch, steps, n_in) from `state`; return (batch, steps, n_hidden) and the new state."""
        return self.recur(self.project(x), state)


class PeepholeLstm(TfLstm):
    """The same with diagonal peepholes (``use_peepholes=True``), ``3 * hidden`` parameters more.

    Those of i and f look at the old cell, that of o at the new one.
    """

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__(n_in, n_hidden)
        self.peephole = nn.Parameter(torch.zeros(3, n_hidden))

    def step(self, projected: Tensor, state: Cell) -> Cell:
        cell, hidden = state
        peep_i, peep_f, peep_o = self.peephole
        i, j, f, o = torch.addmm(projected, hidden, self.weight_h).chunk(4, dim=1)
        keep = torch.sigmoid(f + peep_f * cell + self.FORGET_BIAS)
        cell = keep * cell + torch.sigmoid(i + peep_i * cell) * torch.tanh(j)
        return cell, torch.sigmoid(o + peep_o * cell) * torch.tanh(cell)


def fold_norms(module: nn.Module) -> None:
    """Fold each 2-D batch normalisation of `module` into the convolution registered right before it, in place.

    In evaluation mode the two are one affine map; a normalisation becomes the identity.
    """
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child)
        before = name, child


def slide(past: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Windows over the newest items of a stream of features, each computed once.

    Parameters
    ----------
    past
        ``(batch, n_window - 1, ...)``, the items before `new`.
    new
        ``(batch, n_new, ...)``.

    Returns
    -------
    windows
        ``(batch, n_new, n_window, ...)``, a view; the last item of window `j` is ``new[:, j]``.
    past
        For the next call; it shares no memory with the arguments.
    """
    n_past = past.shape[1]
    items = torch.cat((past, new), dim=1)
    windows = items.unfold(1, n_past + 1, 1).movedim(-1, 2)
    return windows, items[:, items.shape[1] - n_past :].clone()


def backward_over(windows: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Run a recurrent layer from the newest item of each window back to the oldest, from a zero state.

    What stands at an item depends only on the items from it to the newest: the backward half of a bidirectional
    layer with a look-ahead of as many items as follow.

    Parameters
    ----------
    windows
        ``(batch, n_steps, n_window, n_features)``, oldest item first.
    run
        Maps ``(n, n_window, n_features)`` to ``(n, n_window, n_hidden)`` from a zero state, in the order given.

    Returns
    -------
    Tensor
        ``(batch, n_steps, n_window, n_hidden)``, in the order of `windows`.
    """
    out = run(windows.flatten(0, 1).flip(1)).flip(1)
    return out.reshape(*windows.shape[:3], -1)


def fuse_shifted(
    past: tuple[Tensor, Tensor], log_probs: Tensor, is_full: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Combine what shifted windows say about the same step: the mean of their log-probabilities.

    A window that slides by one step speaks about each step once at every position. The read at lag `l` combines
    the windows that ended 0 … `l` steps after the step described, as far as they were full.

    Parameters
    ----------
    past
        Log-probabilities ``(batch, n_reads - 1, n_reads, n_classes)`` of the steps before and whether their
        windows were full, ``(batch, n_reads - 1)`` of 0 and 1; zeros at the start.
    log_probs
        ``(batch, n_steps, n_reads, n_classes)``, reads at lags of 0, 1, 2 … steps.
    is_full
        ``(batch, n_steps)`` of 0 and 1, as floats.

    Returns
    -------
    fused
        As `log_probs`, normalised.
    past
        For the next call.
    """
    n_reads = log_probs.shape[2]
    windows, past_probs = slide(past[0], log_probs * is_full[:, :, None, None])
    weights, past_full = slide(past[1], is_full)
    fused = []
    for lag in range(n_reads):
        position = torch.arange(lag + 1, device=log_probs.device)
        step = n_reads - 1 - lag + position
        total = windows[:, :, step, position].sum(dim=2)
        n_windows = weights[:, :, step].sum(dim=2)
        # Before any window was full there is nothing to combine; the read is not usable then.
        mean = total / n_windows.clamp(min=1.0)[..., None]
        fused.append(torch.where(n_windows[..., None] > 0, mean, log_probs[:, :, lag]))
    return torch.log_softmax(torch.stack(fused, dim=2), dim=-1), (past_probs, past_full)


def check_lags(lags: tuple[int, ...], n_window: int, fusion: str) -> None:
    """Refuse lags that are no positions of a window, and fusion where there is nothing to fuse.

    Raises
    ------
    ValueError
        In words for the user of ``lags_epochs`` and ``fusion``.
    """
    if not lags or lags[0] < 0 or lags[-1] >= n_window or any(b <= a for a, b in pairwise(lags)):
        raise ValueError(f"lags_epochs {lags} must rise from 0 or more to less than {n_window}")
    if fusion == "log" and lags == (0,):
        raise ValueError("at lag 0 no shifted windows have spoken: for fusion choose lags_epochs above 0")


class ShiftedFusion:
    """:func:`fuse_shifted` for reads at chosen lags, with the state that it takes.

    Parameters
    ----------
    lags
        Of the reads in steps, rising. Windows have to be read at all lags from 0 to the last of them.
    n_full
        Steps after which a window is full; those before do not count.
    """

    def __init__(self, lags: tuple[int, ...], n_full: int) -> None:
        self.lags = lags
        self.n_full = n_full

    def initial_state(self, batch_size: int, n_classes: int, like: Tensor) -> tuple[Tensor, ...]:
        """Return what windows said, whether they were full, and how many steps were seen, as yet nothing."""
        max_lag = self.lags[-1]
        return (
            like.new_zeros(batch_size, max_lag, max_lag + 1, n_classes),
            like.new_zeros(batch_size, max_lag),
            torch.zeros(batch_size, 1, dtype=torch.int64, device=like.device),
        )

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Map logits ``(batch, n_steps, lags[-1] + 1, n_classes)`` to those of the reads, and the new state."""
        past_probs, past_full, n_seen = state
        n_seen = n_seen + torch.arange(1, logits.shape[1] + 1, device=logits.device)
        is_full = (n_seen >= self.n_full).to(logits.dtype)
        fused, past = fuse_shifted((past_probs, past_full), torch.log_softmax(logits, dim=-1), is_full)
        return fused[:, :, list(self.lags)], (*past, n_seen[:, -1:].clamp(max=self.n_full))
