"""Networks with known answers and what they are given, for tests of :mod:`offline.explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offline.explain.given import Given, Run
from offline.explain.result import Explained
from streamscore.labels import RUNREST
from streamscore.models.base import Read, ScoringModel, State, Timing

SIDE = 32


def given(*runs: Tensor, sfreq: float = 10.0, states: Any = (), epoch_s: float = 1.0, **changes: Any) -> Given:
    """Stretches of input, one after the other with a second between them."""
    t0_s, made = 0.0, []
    for x in runs:
        made.append(Run(x, t0_s))
        t0_s += x.shape[1 if x.ndim == 4 else 2] / sfreq + 1.0
    fields: dict[str, Any] = {
        "name": "test",
        "labels": RUNREST,
        "states": np.asarray(states, np.int8),
        "states_t0_s": 0.0,
        **changes,
    }
    return Given(sfreq=sfreq, runs=tuple(made), epoch_s=epoch_s, **fields)


class Place(ScoringModel):
    """Says run where one place of the frame is bright, and rest where another is; one frame a step."""

    n_channels, n_classes = 1, 2
    frame_shape = (SIDE, SIDE)

    def __init__(self, run: tuple[slice, slice], rest: tuple[slice, slice], epoch_frames: int = 1) -> None:
        super().__init__()
        self.timing = Timing(1, (Read(0, 1),), None, epoch_samples=epoch_frames)
        self.conv = torch.nn.Conv2d(1, 1, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
        self.weight = torch.zeros(2, SIDE, SIDE)
        self.weight[1][run] = 1.0
        self.weight[0][rest] = 1.0

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        maps = torch.relu(self.conv(x.flatten(0, 1)[:, None]))
        logits = (maps * self.weight).mean(dim=(2, 3))
        return logits.reshape(x.shape[0], -1, 1, 2), (state[0] + x.shape[1],)


def written(found: Explained, folder: Path) -> dict[str, Any]:
    """Write, read the arrays back without pickles, and look at the picture's size."""
    npz, json_path, png = found.write(folder, {})
    assert json_path.stat().st_size > 50
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with np.load(npz, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
