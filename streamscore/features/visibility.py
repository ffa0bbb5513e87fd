"""Natural visibility graphs of traces, from scratch or extended by the newest samples.

Two samples of a trace are linked when the straight line between them passes above every sample in between
(Lacasa et al., PNAS 2008; MODELS.md 1.5). An edge depends on nothing outside its two ends, so that a sliding
window keeps the edges among the samples it keeps, and only its newest samples have to look back.
"""

from __future__ import annotations

import torch
from torch import Tensor


def visibility_graph(samples: Tensor) -> Tensor:
    """Return the adjacency of every trace.

    Parameters
    ----------
    samples
        ``(..., n)``, evenly sampled, in any unit: no affine change of a trace changes its graph.

    Returns
    -------
    Tensor
        ``(..., n, n)`` of bool, symmetric, with a diagonal of False.
    """
    nothing = torch.zeros(*samples.shape[:-1], 0, 0, dtype=torch.bool, device=samples.device)
    return extend_graph(nothing, samples)


def extend_graph(graph: Tensor, samples: Tensor) -> Tensor:
    """Add the newest samples of every trace to the graph of those before.

    To slide a window by `k`, drop its `k` oldest nodes: ``extend_graph(graph[..., k:, k:], samples)``.

    Parameters
    ----------
    graph
        ``(..., m, m)`` of bool, of the first `m` of `samples`. It is not modified.
    samples
        ``(..., n)`` with ``n >= m``.

    Returns
    -------
    Tensor
        ``(..., n, n)`` of bool: what :func:`visibility_graph` gives for `samples`.
    """
    n, n_kept = samples.shape[-1], graph.shape[-1]
    seen = _seen_looking_back(samples, n - n_kept)
    extended = torch.zeros(*samples.shape, n, dtype=torch.bool, device=samples.device)
    extended[..., :n_kept, :n_kept] = graph
    extended[..., n_kept:, :] = seen
    extended[..., :, n_kept:] |= seen.mT
    return extended


def _seen_looking_back(samples: Tensor, n_new: int) -> Tensor:
    """Return ``(..., n_new, n)``: which earlier samples each of the newest `n_new` sees.

    Looking back from a sample, one sees those whose slope to it is lower than that of every nearer one. Slopes
    are compared in float64, where they are exact enough for float32 samples to tell a tie from a near tie as
    long as the largest magnitude in a trace is less than some 2**12 times the smallest.
    """
    n = samples.shape[-1]
    index = torch.arange(n, device=samples.device)
    distance = index[n - n_new :, None] - index
    values = samples.double()
    slope = (values[..., n - n_new :, None] - values[..., None, :]) / distance.clamp(min=1)
    slope = slope.masked_fill(distance <= 0, torch.inf)
    # The lowest slope of all nearer samples: none is nearer than the neighbour.
    lowest = slope.flip(-1).cummin(dim=-1).values.flip(-1)
    of_nearer = torch.nn.functional.pad(lowest[..., 1:], (0, 1), value=torch.inf)
    return slope < of_nearer
