"""Networks so simple that their answers can be written down, with every kind of timing."""

from __future__ import annotations

import torch
from torch import Tensor

from streamscore.bundle import Bundle, Spec
from streamscore.models.base import Read, ScoringModel, State, Timing
from streamscore.models.layers import slide

SFREQ = 10.0
STEP = 10


class Toy(ScoringModel):
    """Says of each step its mean, and the mean of all that has followed it up to the newest step.

    Logits of a read are ``(mean of the step described, mean of the steps after it, -1)``.
    """

    def __init__(
        self,
        lags: tuple[int, ...] = (0,),
        *,
        step: int = STEP,
        window: int = 0,
        chunk: int = 0,
        epoch: int = 0,
        frame_shape: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.n_channels, self.n_classes, self.frame_shape = 1, 3, frame_shape
        self.lags = lags
        self.timing = Timing(
            step,
            tuple(Read(lag * step, max(lag + 1, window) * step) for lag in lags),
            None,
            epoch_samples=epoch,
            chunk_steps=chunk,
        )

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, self.lags[-1]),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        means = x.reshape(x.shape[0], n_steps, -1).mean(dim=2)
        windows, past = slide(state[0], means)
        newest = self.lags[-1]
        rows = []
        for lag in self.lags:
            after = windows[..., newest - lag + 1 :]
            mean_after = after.mean(-1) if lag else torch.zeros(windows.shape[:2])
            rows.append(torch.stack((windows[..., newest - lag], mean_after, -torch.ones(windows.shape[:2])), -1))
        return torch.stack(rows, dim=2), (past,)


def toy_bundle(model: ScoringModel, hop_s: float | None = None) -> Bundle:
    """Return a bundle of `model` with no preprocessing."""
    spec = Spec(
        name="toy", model="toy", model_args={}, preprocess=(), vocabulary="MOUSE3", sfreq=SFREQ, channels=("EEG",),
        hop_s=hop_s,
    )  # fmt: skip
    return Bundle(spec, model.eval(), sha256="")
