"""Scores made by hand, and a network whose answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from offline.scored import Scored
from streamscore.bundle import Bundle, Spec
from streamscore.labels import MOUSE3
from streamscore.models.base import Read, ScoringModel, State, Timing
from streamscore.recordings.base import Recording

EPOCH_S = 4.0
SFREQ = 16.0


def scored(
    truth: npt.ArrayLike,
    codes: npt.ArrayLike | None = None,
    probs: npt.ArrayLike | None = None,
    labels: tuple[str, ...] = MOUSE3,
    **changes: Any,
) -> Scored:
    """Scores of epochs of 4 s; probabilities are certain unless given, NaN where unknown."""
    true = np.asarray(truth, np.int8)
    said = true if codes is None else np.asarray(codes, np.int8)
    if probs is None:
        certain = np.eye(len(labels), dtype=np.float32)[said]
        certain[said < 0] = np.nan
        probs = certain
    fields: dict[str, Any] = {
        "subject": "m1",
        "session": "m1_day",
        "labels": labels,
        "epoch_s": EPOCH_S,
        "t0_s": 0.0,
        "lag_s": 0.0,
        "kind": "final",
        "truth": true,
        "codes": said,
        "probs": np.asarray(probs, np.float32),
        "stream_s": len(true) * EPOCH_S,
        "compute_s": 0.01,
    }
    return Scored(**{**fields, **changes})


def from_confusion(matrix: Sequence[Sequence[int]], labels: tuple[str, ...], **changes: Any) -> Scored:
    """Scores that have this confusion matrix (rows: truth)."""
    counts = np.asarray(matrix)
    true, said = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return scored(true, said, labels=labels, **changes)


class Level(ScoringModel):
    """Names the state whose number is nearest to the mean of the epoch, at lag 0 or one epoch later."""

    def __init__(self, ahead: bool = False) -> None:
        super().__init__()
        self.n_channels, self.n_classes = 1, 3
        step = round(EPOCH_S * SFREQ)
        reads = (Read(0, step), Read(step, 2 * step)) if ahead else (Read(0, step),)
        self.timing = Timing(step, reads, 2 * step)

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n = self.check_input(x)
        means = x[:, 0].reshape(x.shape[0], n, -1).mean(dim=2)
        before = torch.cat([state[0], means], dim=1)[:, :-1]
        told = torch.stack([means, before], dim=2)[:, :, : len(self.timing.reads)]
        logits = -8.0 * (told[..., None] - torch.arange(3.0)) ** 2
        return logits, (means[:, -1:],)


def level_bundle(ahead: bool = False, **changes: Any) -> Bundle:
    """A bundle of :class:`Level`."""
    fields: dict[str, Any] = {
        "name": "level",
        "model": "tinysleepnet",
        "model_args": {},
        "preprocess": (),
        "vocabulary": "MOUSE3",
        "sfreq": SFREQ,
        "channels": ("EEG",),
        "hop_s": EPOCH_S,
    }
    return Bundle(Spec(**{**fields, **changes}), Level(ahead).eval(), sha256="0" * 64)


def signal_of(codes: npt.ArrayLike, seed: int = 0) -> npt.NDArray[np.float32]:
    """Samples ``(n, 1)`` that :class:`Level` names as `codes`."""
    rng = np.random.default_rng(seed)
    levels = np.repeat(np.asarray(codes, np.float32), round(EPOCH_S * SFREQ))
    return (levels + 0.1 * rng.standard_normal(len(levels)))[:, None].astype(np.float32)


def recording(
    said: npt.ArrayLike, truth: npt.ArrayLike | None = None, name: str = "m1_day", **changes: Any
) -> Recording:
    """A recording that :class:`Level` scores as `said`, and whose labels are `truth`."""
    data = signal_of(said)
    fields: Mapping[str, Any] = {
        "name": name,
        "data": data,
        "stamps_s": np.arange(len(data)) / SFREQ,
        "sfreq": SFREQ,
        "channels": ("EEG",),
        "units": ("uV",),
        "labels": MOUSE3,
        "states": np.asarray(said if truth is None else truth, np.int8),
        "epoch_s": EPOCH_S,
    }
    return Recording(**{**fields, **changes})


def night(seed: int, n: int = 300) -> npt.NDArray[np.int8]:
    """States in bouts of 3 to 12 epochs."""
    rng = np.random.default_rng(seed)
    codes: list[int] = []
    while len(codes) < n:
        states = [k for k in range(3) if not codes or k != codes[-1]]
        codes += [int(rng.choice(states))] * int(rng.integers(3, 13))
    return np.array(codes[:n], np.int8)


def with_errors(truth: npt.ArrayLike, share: float, seed: int) -> npt.NDArray[np.int8]:
    """`truth` with a share of the epochs given to another state."""
    rng = np.random.default_rng(seed)
    codes = np.asarray(truth, np.int8).copy()
    wrong = rng.random(len(codes)) < share
    codes[wrong] = (codes[wrong] + rng.integers(1, 3, wrong.sum())) % 3
    return codes
