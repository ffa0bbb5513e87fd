"""TinySleepNet: a CNN over one epoch and a unidirectional LSTM over epochs.

Source: Supratak and Guo, "TinySleepNet: an efficient deep learning model for sleep stage scoring based on raw
single-channel EEG", EMBC 2020; layers and constants from MODELS.md 6.1. The published test runs one epoch at a
time with the state carried, so that the published model *is* a streaming model: its look-ahead is 0.
"""

from __future__ import annotations

from typing import Literal, cast

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import (
    FrozenStatisticsNorm,
    PeepholeLstm,
    SameConv1d,
    keras_norm,
    same_length,
    same_max_pool,
)

ABOUT = About(
    title="TinySleepNet",
    source="Supratak & Guo, EMBC 2020",
    published=(
        "Sleep-EDF-39, 20-fold by subject, Fpz-Cz: accuracy 0.854, macro-F1 0.805",
        "Sleep-EDF-153, by subject, Fpz-Cz: accuracy 0.831, macro-F1 0.781",
    ),
    examples={"tinysleepnet": Example({}, "AASM5", 100.0, ("EEG",), "uV")},
)


class Config(BaseModel):
    """Arguments of :class:`TinySleepNet`.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz; kernel and stride of the first layer are ``int(sfreq / 2)`` and
        ``int(sfreq / 16)``.
    norm
        ``"affine"`` is what the published code does, ``"batch"`` what the paper describes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sfreq: float = Field(100.0, ge=32.0)
    n_channels: int = Field(1, ge=1)
    n_classes: int = Field(5, ge=2)
    epoch_s: float = Field(30.0, gt=0)
    n_filters: int = Field(128, ge=1)
    n_hidden: int = Field(128, ge=1)
    norm: Literal["affine", "batch"] = "affine"
    dropout: float = Field(0.5, ge=0.0, lt=1.0)


class ConvBlock(nn.Module):
    """Convolution (SAME, no bias) → normalisation → ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv = SameConv1d(n_in, n_out, kernel, stride)
        self.norm: nn.Module = FrozenStatisticsNorm(n_out) if norm == "affine" else keras_norm(n_out)
        nn.init.normal_(self.conv.weight, std=(n_in * kernel) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class TinySleepNet(ScoringModel):
    """The published network for any sampling rate; 1,516,293 trainable parameters at 100 Hz."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = config.n_channels
        self.n_classes = config.n_classes
        epoch_samples = round(config.epoch_s * config.sfreq)
        self.timing = Timing(
            step_samples=epoch_samples,
            reads=(Read(lag_samples=0, warm_up_samples=epoch_samples),),
            receptive_field_samples=None,
        )
        n_filters = config.n_filters
        kernel, stride = int(config.sfreq / 2), int(config.sfreq / 16)
        self.conv1 = ConvBlock(config.n_channels, n_filters, kernel, stride, config.norm)
        self.conv2 = ConvBlock(n_filters, n_filters, 8, 1, config.norm)
        self.conv3 = ConvBlock(n_filters, n_filters, 8, 1, config.norm)
        self.conv4 = ConvBlock(n_filters, n_filters, 8, 1, config.norm)
        self.lstm = PeepholeLstm(same_length(epoch_samples, stride, 8, 4) * n_filters, config.n_hidden)
        self.head = nn.Linear(config.n_hidden, config.n_classes)

    def initial_state(self, batch_size: int) -> State:
        return self.lstm.initial_state(batch_size)

    def features(self, epochs: Tensor) -> Tensor:
        """Map epochs ``(n, channels, samples)`` to features ``(n, columns * filters)``, time-major."""
        p = self.config.dropout
        x = F.dropout(same_max_pool(self.conv1(epochs), 8), p, self.training)
        x = same_max_pool(self.conv4(self.conv3(self.conv2(x))), 4)
        return F.dropout(x.transpose(1, 2).flatten(1), p, self.training)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        batch_size = x.shape[0]
        epochs = x.reshape(batch_size, self.n_channels, n_steps, -1).transpose(1, 2).flatten(0, 1)
        features = self.features(epochs).reshape(batch_size, n_steps, -1)
        hidden, new_state = self.lstm(features, cast(tuple[Tensor, Tensor], state))
        logits = self.head(F.dropout(hidden, self.config.dropout, self.training))
        return logits[:, :, None], new_state

    def l2_kernels(self) -> list[nn.Parameter]:
        """The four convolution kernels, which the published training decays (coefficient 1e-3)."""
        blocks = (self.conv1, self.conv2, self.conv3, self.conv4)
        return [cast(nn.Parameter, block.conv.weight) for block in blocks]


def build(config: Config) -> TinySleepNet:
    """Return an untrained network in evaluation mode."""
    return TinySleepNet(config).eval()
