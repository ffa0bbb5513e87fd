"""How a run/rest network is trained on the traces of one mouse.

A few minutes hold a handful of bouts of running, which a network of 48 regions can learn by heart. So each
sequence is altered: noise, an offset of every region and one of all (a baseline that drifts), and regions left
out. Sequences are drawn around as many frames of running as of rest. The number of steps is fixed: there is too
little to hold a part back for early stopping. MODELS.md 4.3 has Adam at 1e-3, label smoothing of 0.001 and best
of 30 passes over windows drawn as they come; it trained on three mice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from offline.parcels import CodeArray
from streamscore.models.roi_rnn import Config, RoiRnn, build
from streamscore.types import FloatArray


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    steps, batch
        Steps of the optimiser, and sequences in each: half of them hold a frame of running, half one of rest.
    sequence_s
        Length of a sequence; the state is fresh at its start.
    lr, weight_decay, clip_norm
        AdamW: the highest learning rate, which rises over 20 steps and falls as half a cosine; its decay of
        weights; the limit of the gradient's norm.
    noise, offset, left_out
        Alterations in standard deviations of a region: of the noise and of the two offsets; and the part of the
        regions that are left out.
    smoothing
        Of the labels.
    """

    steps: int = 150
    batch: int = 32
    sequence_s: float = 5.0
    lr: float = 3e-3
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    noise: float = 0.5
    offset: float = 0.2
    left_out: float = 0.2
    smoothing: float = 0.02


def fit(parts: Sequence[tuple[FloatArray, CodeArray]], config: Config, recipe: Recipe, seed: int) -> RoiRnn:
    """Train a network from scratch.

    Parameters
    ----------
    parts
        Stretches of recording, each with its traces ``(n_frames, n_channels)`` float32 after the chain, and its
        codes ``(n_frames,)``: 0 rest, 1 run, -1 unlabelled. Those shorter than a sequence are left out.
    config, recipe
        The network and how to train it.
    seed
        Decides initial weights, order and alterations: same seed, same machine, same network.

    Raises
    ------
    ValueError
        If there is no frame of running or none of rest to learn from.
    """
    n_frames = round(recipe.sequence_s * config.sfreq)
    parts = [part for part in parts if len(part[0]) >= n_frames]
    codes = np.concatenate([np.zeros(0, np.int8), *(part[1] for part in parts)])
    where = [np.flatnonzero(codes == code) for code in (0, 1)]
    if not all(len(frames) for frames in where):
        raise ValueError(
            f"{len(where[1])} frames of running and {len(where[0])} of rest in parts of {n_frames} frames or "
            "more; training takes some of both"
        )
    ends = np.cumsum([len(part[0]) for part in parts])
    part_of = np.repeat(np.arange(len(parts)), np.diff(ends, prepend=0))
    last_begin = ends[part_of] - n_frames
    first_begin = (ends - np.diff(ends, prepend=0))[part_of]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    lag = model.timing.look_ahead_samples
    traces = torch.from_numpy(np.concatenate([part[0] for part in parts]))
    truth = torch.from_numpy(codes.astype(np.int64))
    for step in range(recipe.steps):
        falling = 0.5 * (1.0 + np.cos(np.pi * step / recipe.steps))
        optimizer.param_groups[0]["lr"] = recipe.lr * falling * min(1.0, (step + 1) / 20)
        centres = np.concatenate([rng.choice(frames, recipe.batch // 2) for frames in where])
        begins = centres - rng.integers(0, n_frames, len(centres))
        begins = np.clip(begins, first_begin[centres], last_begin[centres])
        rows = torch.from_numpy(begins[:, None] + np.arange(n_frames))
        logits, _ = model(_altered(traces[rows], recipe).transpose(1, 2), model.initial_state(len(rows)))
        # What a step says is about the frame `lag` before, and nothing before the window is full.
        first = 2 * lag
        loss = F.cross_entropy(
            logits[:, first:, -1].flatten(0, 1),
            truth[rows][:, first - lag : n_frames - lag].flatten(),
            ignore_index=-1,
            label_smoothing=recipe.smoothing,
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
    return model.eval()


def _altered(x: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Noise, offsets and left-out regions for sequences ``(n, n_frames, n_channels)``."""
    n, _, n_channels = x.shape
    offset = recipe.offset * (torch.randn(n, 1, n_channels) + torch.randn(n, 1, 1))
    kept = torch.rand(n, 1, n_channels) >= recipe.left_out
    return (x + recipe.noise * torch.randn_like(x) + offset) * kept / (1.0 - recipe.left_out)
