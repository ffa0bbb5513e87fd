"""SeqSleepNet: a filter bank and a recurrent layer over the frames of an epoch, another over 20 epochs.

Source: Phan et al., "SeqSleepNet: end-to-end hierarchical recurrent neural network for sequence-to-sequence
automatic sleep staging", IEEE TNSRE 2019; layers and constants from MODELS.md 6.3.

The frame level sees one epoch at a time, so that its vectors are computed once and kept. The recurrent layer over
epochs has batch-norm statistics for each of its steps, so that its state cannot be carried on: it is run again
over the newest 20 vectors, from zero, as published.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import ShiftedFusion, check_lags, slide

ABOUT = About(
    title="SeqSleepNet",
    source="Phan et al., IEEE TNSRE 27, 2019",
    published=(
        "Sleep-EDF-39 as quoted by Jia et al., IJCAI 2021: accuracy 0.860, macro-F1 0.797",
        "Sleep-EDF-153 as quoted by Jia et al., IJCAI 2021: accuracy 0.838, macro-F1 0.782",
    ),
    examples={
        "seqsleepnet": Example({}, "AASM5", 100.0, ("EEG",), "uV"),
        "seqsleepnet-2ch": Example({"n_channels": 2}, "AASM5", 100.0, ("EEG", "EOG"), "uV"),
        "seqsleepnet-3ch": Example({"n_channels": 3}, "AASM5", 100.0, ("EEG", "EOG", "EMG"), "uV"),
        "seqsleepnet-sliding": Example({"variant": "sliding"}, "AASM5", 100.0, ("EEG",), "uV"),
        "seqsleepnet-fused": Example(
            {"variant": "sliding", "lags_epochs": (0, 4, 9, 19), "fusion": "log"}, "AASM5", 100.0, ("EEG",), "uV"
        ),
    },
)

#: Smallest amplitude whose logarithm is taken; a flat channel has none.
AMPLITUDE_FLOOR = 1e-6


class Config(BaseModel):
    """Arguments of :class:`SeqSleepNet`.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz.
    epoch_s, window_epochs
        Length of an epoch, and epochs that are scored together.
    frame_s, frame_step_s
        Hamming window of the short-time Fourier transform and its step.
    n_fft
        Points of the transform; frames are padded with zeros to it.
    high_hz
        Upper end of the filter bank, which starts at 0 Hz.
    n_filters, n_hidden, n_attention
        Filters for each channel, units of each recurrent layer and direction, units of the attention.
    variant
        ``"published"``: windows that follow one another, read at every position. ``"sliding"``: one window an
        epoch, same weights.
    lags_epochs
        Positions that ``"sliding"`` reads, counted from the newest epoch of the window.
    fusion
        ``"log"``: the mean log-probability of all shifted windows that spoke about the epoch so far; the
        published test procedure once the lag is ``window_epochs - 1``.
    dropout
        Of inputs and outputs of the recurrent cells.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sfreq: float = Field(100.0, gt=0)
    n_channels: int = Field(1, ge=1)
    n_classes: int = Field(5, ge=2)
    epoch_s: float = Field(30.0, gt=0)
    window_epochs: int = Field(20, ge=1)
    frame_s: float = Field(2.0, gt=0)
    frame_step_s: float = Field(1.0, gt=0)
    n_fft: int = Field(256, ge=2)
    high_hz: float = Field(50.0, gt=0)
    n_filters: int = Field(32, ge=1)
    n_hidden: int = Field(64, ge=1)
    n_attention: int = Field(64, ge=1)
    variant: Literal["published", "sliding"] = "published"
    lags_epochs: tuple[int, ...] = Field((0,), min_length=1)
    fusion: Literal["none", "log"] = "none"
    dropout: float = Field(0.25, ge=0.0, lt=1.0)

    @property
    def epoch_samples(self) -> int:
        return round(self.epoch_s * self.sfreq)

    @property
    def frame_samples(self) -> int:
        return round(self.frame_s * self.sfreq)

    @property
    def frame_step_samples(self) -> int:
        return round(self.frame_step_s * self.sfreq)

    @property
    def n_frames(self) -> int:
        """Frames that lie inside an epoch."""
        return 1 + (self.epoch_samples - self.frame_samples) // self.frame_step_samples

    @model_validator(mode="after")
    def _check_frames(self) -> Self:
        for name in ("epoch_s", "frame_s", "frame_step_s"):
            n_samples = getattr(self, name) * self.sfreq
            if abs(n_samples - round(n_samples)) > 1e-6 or round(n_samples) < 1:
                raise ValueError(
                    f"{name} {getattr(self, name):g} is not a whole number of samples at {self.sfreq:g} Hz"
                )
        if self.frame_samples > min(self.n_fft, self.epoch_samples):
            raise ValueError(
                f"frame_s {self.frame_s:g} is {self.frame_samples} samples, more than n_fft {self.n_fft} "
                f"or the epoch of {self.epoch_samples}"
            )
        if self.high_hz > self.sfreq / 2:
            raise ValueError(f"high_hz {self.high_hz:g} is above half of sfreq {self.sfreq:g}")
        return self

    @model_validator(mode="after")
    def _check_reads(self) -> Self:
        lags = self.lags_epochs
        if self.variant == "published" and (lags != (0,) or self.fusion != "none"):
            raise ValueError(
                "lags_epochs and fusion belong to the sliding variant; the published one reads every position once"
            )
        check_lags(lags, self.window_epochs, self.fusion)
        return self


def triangular_filters(n_filters: int, n_fft: int, sfreq: float, high_hz: float) -> Tensor:
    """Return linear triangular filters from 0 to `high_hz`, ``(n_fft // 2 + 1, n_filters)``.

    Corners lie at bins ``floor((n_fft + 1) * f / sfreq)``; a slope takes the bins from its lower corner up to,
    not including, its upper one.
    """
    corners = np.floor((n_fft + 1) * np.linspace(0.0, high_hz, n_filters + 2) / sfreq)
    bins = np.arange(n_fft // 2 + 1)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    # A slope without bins is never taken; the 1 keeps its division defined.
    up = (bins - low) / np.maximum(peak - low, 1.0)
    down = (high - bins) / np.maximum(high - peak, 1.0)
    filters = np.where((bins >= low) & (bins < peak), up, np.where((bins >= peak) & (bins < high), down, 0.0))
    return torch.from_numpy(filters.astype(np.float32))


class StepNorm(nn.Module):
    """Batch normalisation with population statistics of its own for each step of a sequence.

    In training it uses those of the batch; the population keeps 0.95 of its value. The variance is the biased one.
    """

    EPS = 1e-5
    DECAY = 0.95
    INITIAL_SCALE = 0.1

    mean: Tensor
    var: Tensor

    def __init__(self, n_steps: int, n_features: int, offset: Tensor | None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_features,), self.INITIAL_SCALE))
        self.offset = None if offset is None else nn.Parameter(offset)
        self.register_buffer("mean", torch.zeros(n_steps, n_features))
        self.register_buffer("var", torch.ones(n_steps, n_features))

    def forward(self, x: Tensor, first: int) -> Tensor:
        """Normalise ``x`` (batch, k, n_features), which are the steps `first` to ``first + k``."""
        steps = slice(first, first + x.shape[1])
        if self.training:
            var, mean = torch.var_mean(x, dim=0, correction=0)
            with torch.no_grad():
                self.mean[steps].lerp_(mean, 1.0 - self.DECAY)
                self.var[steps].lerp_(var, 1.0 - self.DECAY)
        else:
            mean, var = self.mean[steps], self.var[steps]
        y = (x - mean) * (self.scale * torch.rsqrt(var + self.EPS))
        return y if self.offset is None else y + self.offset


class BatchNormLstm(nn.Module):
    """LSTM with batch normalisation of both products and of the cell, from a zero state.

    Gates in the order f, i, o, j (candidate). There is no bias but the offset of the normalised recurrent product,
    whose f part starts at 1. Parameters: ``(in + hidden) * 4 * hidden`` weights, ``3 * 4 * hidden`` for scale and
    offset of ``hidden @ weight_h`` and scale of ``x @ weight_x``, ``2 * hidden`` for those of the cell.
    """

    def __init__(self, n_in: int, n_hidden: int, n_steps: int, dropout: float) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.dropout = dropout
        self.weight_x = nn.Parameter(nn.init.orthogonal_(torch.empty(n_in, 4 * n_hidden)))
        self.weight_h = nn.Parameter(nn.init.orthogonal_(torch.empty(n_hidden, 4 * n_hidden)))
        forget_one = torch.cat((torch.ones(n_hidden), torch.zeros(3 * n_hidden)))
        self.norm_x = StepNorm(n_steps, 4 * n_hidden, offset=None)
        self.norm_h = StepNorm(n_steps, 4 * n_hidden, offset=forget_one)
        self.norm_cell = StepNorm(n_steps, n_hidden, offset=torch.zeros(n_hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (batch, k, n_in), the first `k` steps, to (batch, k, n_hidden)."""
        x = F.dropout(x, self.dropout, self.training)
        projected = self.norm_x(x @ self.weight_x, 0)
        cell = hidden = x.new_zeros(x.shape[0], self.n_hidden)
        outputs = []
        for step in range(x.shape[1]):
            recurrent = self.norm_h((hidden @ self.weight_h)[:, None], step)[:, 0]
            f, i, o, j = (projected[:, step] + recurrent).chunk(4, dim=1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(j)
            hidden = torch.sigmoid(o) * torch.tanh(self.norm_cell(cell[:, None], step)[:, 0])
            outputs.append(hidden)
        return F.dropout(torch.stack(outputs, dim=1), self.dropout, self.training)


class EpochEncoder(nn.Module):
    """One epoch of signal → one vector: log spectra, filter bank, recurrent layer over frames, attention."""

    bin_mean: Tensor
    bin_std: Tensor
    hamming: Tensor
    triangles: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        n_bins, n_hidden = config.n_fft // 2 + 1, config.n_hidden
        triangles = triangular_filters(config.n_filters, config.n_fft, config.sfreq, config.high_hz)
        self.register_buffer("triangles", triangles, persistent=False)
        self.register_buffer(
            "hamming", torch.hamming_window(config.frame_samples, periodic=False), persistent=False
        )
        self.register_buffer("bin_mean", torch.zeros(config.n_channels, n_bins))
        self.register_buffer("bin_std", torch.ones(config.n_channels, n_bins))
        self.filter_weight = nn.Parameter(torch.randn(config.n_channels, n_bins, config.n_filters))
        n_in = config.n_channels * config.n_filters
        self.forwards = BatchNormLstm(n_in, n_hidden, config.n_frames, config.dropout)
        self.backwards = BatchNormLstm(n_in, n_hidden, config.n_frames, config.dropout)
        self.attention = nn.Linear(2 * n_hidden, config.n_attention)
        self.context = nn.Parameter(0.1 * torch.randn(config.n_attention))
        nn.init.normal_(self.attention.weight, std=0.1)
        nn.init.normal_(self.attention.bias, std=0.1)

    def log_spectra(self, epochs: Tensor) -> Tensor:
        """Map epochs ``(n, channels, samples)`` to decibels ``(n, channels, frames, bins)``."""
        frames = epochs.unfold(-1, self.config.frame_samples, self.config.frame_step_samples)
        spectrum = torch.fft.rfft(frames * self.hamming, n=self.config.n_fft)
        return 20.0 * torch.log10(spectrum.abs().clamp(min=AMPLITUDE_FLOOR))

    def forward(self, epochs: Tensor) -> Tensor:
        """Map epochs ``(n, channels, samples)`` to vectors ``(n, 2 * n_hidden)``."""
        spectra = (self.log_spectra(epochs) - self.bin_mean[:, None]) / self.bin_std[:, None]
        filters = torch.sigmoid(self.filter_weight) * self.triangles
        frames = (spectra @ filters).transpose(1, 2).flatten(2)
        hidden = torch.cat((self.forwards(frames), self.backwards(frames.flip(1)).flip(1)), dim=2)
        weights = torch.softmax(torch.tanh(self.attention(hidden)) @ self.context, dim=1)
        return (hidden * weights[..., None]).sum(dim=1)


class SeqSleepNet(ScoringModel):
    """The published network; 176,388 trainable parameters for one channel, 196,900 for two, 217,412 for three.

    For `c` channels: filter bank ``c * 129 * 32``; recurrent layer over frames
    ``2 * ((32 * c + 64) * 256 + 3 * 256 + 2 * 64)``; attention ``128 * 64 + 64 + 64``; recurrent layer over epochs
    ``2 * ((128 + 64) * 256 + 3 * 256 + 2 * 64)``; one head for each position, ``20 * (128 * 5 + 5)``.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = config.n_channels
        self.n_classes = config.n_classes
        self.timing = _timing(config)
        self.fusion = ShiftedFusion(config.lags_epochs, n_full=config.window_epochs)
        n_window, n_hidden = config.window_epochs, config.n_hidden
        self.encoder = EpochEncoder(config)
        self.forwards = BatchNormLstm(2 * n_hidden, n_hidden, n_window, config.dropout)
        self.backwards = BatchNormLstm(2 * n_hidden, n_hidden, n_window, config.dropout)
        self.head_weight = nn.Parameter(torch.empty(n_window, 2 * n_hidden, config.n_classes))
        self.head_bias = nn.Parameter(torch.zeros(n_window, config.n_classes))
        for weight in self.head_weight:
            nn.init.xavier_uniform_(weight)

    def initial_state(self, batch_size: int) -> State:
        config, zeros = self.config, self.head_bias.new_zeros
        if config.variant == "published":
            return (zeros(batch_size, 0),)
        vectors = zeros(batch_size, config.window_epochs - 1, 2 * config.n_hidden)
        if config.fusion == "none":
            return (vectors,)
        return vectors, *self.fusion.initial_state(batch_size, config.n_classes, vectors)

    def score_windows(self, windows: Tensor, lags: tuple[int, ...]) -> Tensor:
        """Map windows ``(batch, n, window_epochs, 2 * n_hidden)`` to logits ``(batch, n, n_lags, n_classes)``."""
        flat = windows.flatten(0, 1)
        positions = [self.config.window_epochs - 1 - lag for lag in lags]
        before = self.forwards(flat[:, : positions[0] + 1])
        # Backwards the newest epoch comes first: what lies behind the longest lag is not needed.
        after = self.backwards(flat.flip(1)[:, : lags[-1] + 1])
        logits = [
            torch.cat((before[:, position], after[:, lag]), dim=1) @ self.head_weight[position]
            + self.head_bias[position]
            for position, lag in zip(positions, lags, strict=True)
        ]
        return torch.stack(logits, dim=1).reshape(*windows.shape[:2], len(lags), self.n_classes)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        config, batch_size = self.config, x.shape[0]
        epochs = x.reshape(batch_size, self.n_channels, -1, config.epoch_samples).transpose(1, 2).flatten(0, 1)
        vectors = self.encoder(epochs).reshape(batch_size, -1, 2 * config.n_hidden)
        if config.variant == "published":
            windows = vectors.reshape(batch_size, n_steps, config.window_epochs, -1)
            return self.score_windows(windows, tuple(range(config.window_epochs))), (state[0].clone(),)
        windows, past = slide(state[0], vectors)
        if config.fusion == "none":
            return self.score_windows(windows, config.lags_epochs), (past,)
        logits = self.score_windows(windows, tuple(range(config.lags_epochs[-1] + 1)))
        fused, said = self.fusion(logits, state[1:])
        return fused, (past, *said)

    def l2_kernels(self) -> list[nn.Parameter]:
        """All weights but the filter bank's, which the published training decays (coefficient 1e-3)."""
        return [weight for name, weight in self.named_parameters() if name != "encoder.filter_weight"]


def _timing(config: Config) -> Timing:
    epoch, n_window = config.epoch_samples, config.window_epochs
    if config.variant == "published":
        window = n_window * epoch
        reads = tuple(Read(lag * epoch, window) for lag in range(n_window))
        return Timing(window, reads, receptive_field_samples=window, epoch_samples=epoch)
    # Fused, the read at a lag has heard all windows that it can once the first of them is full.
    n_shifts = config.lags_epochs if config.fusion == "log" else (0,) * len(config.lags_epochs)
    reads = tuple(
        Read(lag * epoch, (n_window + shifts) * epoch)
        for lag, shifts in zip(config.lags_epochs, n_shifts, strict=True)
    )
    return Timing(epoch, reads, receptive_field_samples=reads[-1].warm_up_samples)


def build(config: Config) -> SeqSleepNet:
    """Return an untrained network in evaluation mode."""
    return SeqSleepNet(config).eval()
