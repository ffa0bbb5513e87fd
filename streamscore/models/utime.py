"""U-Time: a one-dimensional U-Net over a window of raw EEG, averaged to one output for each epoch.

Source: Perslev et al., "U-Time: a fully convolutional network for time series segmentation applied to sleep
staging", NeurIPS 2019; layers and constants from MODELS.md 6.4.

``published`` runs it on windows that follow one another, ``sliding`` on a window that moves by one epoch, with the
same weights. All its layers are local, so that an output depends on less than the window. What the chosen reads
cannot depend on is neither kept nor computed.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import ShiftedFusion, check_lags, keras_norm, keras_start, slide

_INPUT = ("AASM5", 128.0, ("EEG",))

ABOUT = About(
    title="U-Time",
    source="Perslev et al., NeurIPS 2019",
    published=(
        "Sleep-EDF-39 as quoted by Jia et al., IJCAI 2021: macro-F1 0.790",
        "Sleep-EDF-153 as quoted by Jia et al., IJCAI 2021: macro-F1 0.760",
    ),
    examples={
        "utime": Example({}, *_INPUT),
        "utime-factor-2": Example({"complexity_factor": 2.0}, *_INPUT),
        "utime-sliding": Example({"variant": "sliding"}, *_INPUT),
        "utime-sliding-150s": Example({"variant": "sliding", "lags_epochs": (5,)}, *_INPUT),
        "utime-no-look-ahead": Example({"variant": "sliding", "lags_epochs": (0,)}, *_INPUT),
        "utime-fused": Example({"variant": "sliding", "lags_epochs": (0, 4), "fusion": "log"}, *_INPUT),
    },
)


class Config(BaseModel):
    """Arguments of :class:`UTime`.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz.
    epoch_s, window_epochs
        Length of an epoch, and epochs that are scored together.
    n_filters
        Of the outermost level; each level has twice as many as the one outside it.
    complexity_factor
        All numbers of filters are multiplied by its square root and rounded down.
    kernel, dilation
        Of the convolutions; only those of the encoder above its bottom are dilated.
    pools
        Pooling behind each level of the encoder, outermost first.
    variant
        ``"published"``: windows that follow one another, read at every position. ``"sliding"``: one window an
        epoch, same weights.
    lags_epochs
        Positions that ``"sliding"`` reads, counted from the newest epoch of the window; the centre by default.
    fusion
        ``"log"``: the mean log-probability of all shifted windows that spoke about the epoch so far.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sfreq: float = Field(128.0, gt=0)
    n_channels: int = Field(1, ge=1)
    n_classes: int = Field(5, ge=2)
    epoch_s: float = Field(30.0, gt=0)
    window_epochs: int = Field(35, ge=1)
    n_filters: int = Field(16, ge=1)
    complexity_factor: float = Field(1.0, gt=0)
    kernel: int = Field(5, ge=1)
    dilation: int = Field(2, ge=1)
    pools: tuple[PositiveInt, ...] = Field((10, 8, 6, 4), min_length=1)
    variant: Literal["published", "sliding"] = "published"
    lags_epochs: tuple[int, ...] | None = Field(None, min_length=1)
    fusion: Literal["none", "log"] = "none"

    @property
    def epoch_samples(self) -> int:
        return round(self.epoch_s * self.sfreq)

    @property
    def lags(self) -> tuple[int, ...]:
        """Lags of the reads in epochs."""
        if self.variant == "published":
            return tuple(range(self.window_epochs))
        return self.lags_epochs or (self.window_epochs // 2,)

    def scaled(self, n: int) -> int:
        """Return `n` filters times the square root of the complexity factor."""
        return max(int(n * math.sqrt(self.complexity_factor)), 1)

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if abs(self.epoch_s * self.sfreq - self.epoch_samples) > 1e-6 or self.epoch_samples < 1:
            raise ValueError(f"epoch_s {self.epoch_s:g} is not a whole number of samples at {self.sfreq:g} Hz")
        n_samples, n_pooled = self.window_epochs * self.epoch_samples, math.prod(self.pools)
        if n_samples < n_pooled:
            raise ValueError(f"the window of {n_samples} samples is shorter than the product {n_pooled} of pools")
        if (n_samples % n_pooled + 1) // 2 >= self.epoch_samples:
            raise ValueError(
                f"pools leave out a whole epoch: their product {n_pooled} must fit better into the window of "
                f"{n_samples} samples"
            )
        return self

    @model_validator(mode="after")
    def _check_reads(self) -> Self:
        lags = self.lags
        if self.variant == "published" and (self.lags_epochs is not None or self.fusion != "none"):
            raise ValueError(
                "lags_epochs and fusion belong to the sliding variant; the published one reads every position once"
            )
        check_lags(lags, self.window_epochs, self.fusion)
        return self


class Interval(NamedTuple):
    """Samples or columns from `first` to `last`, both included."""

    first: int
    last: int

    def before_conv(self, kernel: int, dilation: int, n: int) -> Interval:
        """What a SAME convolution over `n` columns needs for these."""
        span = (kernel - 1) * dilation
        return Interval(max(self.first - span // 2, 0), min(self.last + span - span // 2, n - 1))

    def before_pool(self, pool: int) -> Interval:
        return Interval(self.first * pool, self.last * pool + pool - 1)

    def before_repeat(self, times: int) -> Interval:
        return Interval(self.first // times, self.last // times)

    def shifted(self, by: int) -> Interval:
        return Interval(self.first + by, self.last + by)

    def joined(self, other: Interval) -> Interval:
        return Interval(min(self.first, other.first), max(self.last, other.last))


class Geometry:
    """Lengths of the layers for a window of `n_samples`, and what depends on what.

    Attributes
    ----------
    down
        Columns of the levels of the encoder, outermost first, and of the bottom. Pools leave out a rest.
    up
        Columns of the levels of the decoder, outermost first.
    crops
        Columns that the skip connections lose at the left; the rest goes at the right. An odd column goes at the
        right the first time from the innermost level outwards, at the left the next, and so on.
    pad
        Zeros in front of the outermost level of the decoder that bring it back into place.
    """

    def __init__(self, config: Config, n_samples: int) -> None:
        self.config = config
        self.down = [n_samples]
        for pool in config.pools:
            self.down.append(self.down[-1] // pool)
        columns = self.down[-1]
        up, crops, n_crops = [], [], 0
        for pool, n_skip in zip(reversed(config.pools), reversed(self.down[:-1]), strict=True):
            columns *= pool
            n_crops += n_skip != columns
            up.append(columns)
            crops.append((n_skip - columns + (n_crops % 2 == 0)) // 2)
        self.up, self.crops = up[::-1], crops[::-1]
        self.pad = (n_samples - columns) // 2

    def reach(self, epoch: int) -> Interval:
        """Samples of the window that the output of an epoch can depend on."""
        config = self.config
        first = epoch * config.epoch_samples - self.pad
        # Zeros stand where the decoder does not reach: they depend on nothing.
        wanted = Interval(max(first, 0), min(first + config.epoch_samples, self.up[0]) - 1)
        skipped = []
        for n_up, crop, pool in zip(self.up, self.crops, config.pools, strict=True):
            for _ in range(2):
                wanted = wanted.before_conv(config.kernel, 1, n_up)
            skipped.append(wanted.shifted(crop))
            wanted = wanted.before_conv(pool, 1, n_up).before_repeat(pool)
        for _ in range(2):
            wanted = wanted.before_conv(config.kernel, 1, self.down[-1])
        levels = list(zip(self.down[:-1], config.pools, skipped, strict=True))
        for n_down, pool, skip in reversed(levels):
            wanted = wanted.before_pool(pool).joined(skip)
            for _ in range(2):
                wanted = wanted.before_conv(config.kernel, config.dilation, n_down)
        return wanted


class ConvBlock(nn.Module):
    """Convolution (SAME, bias) → ELU → batch normalisation."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = keras_start(nn.Conv1d(n_in, n_out, kernel, dilation=dilation))
        self.norm = keras_norm(n_out)
        span = (kernel - 1) * dilation
        self.padding = (span // 2, span - span // 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(F.elu(self.conv(F.pad(x, self.padding))))
        return out


class UTime(ScoringModel):
    """The published network; 1,187,569 trainable parameters at complexity factor 1, 2,366,591 at 2.

    With its running statistics 1,190,993 and 2,371,419. That takes a bias in every convolution, with the filters
    ``int(sqrt(factor) * (16, 32, 64, 128, 256))``, and as many maps in the layer of tanh:
    ``int(sqrt(factor) * n_classes)``, 5 and 7; the two layers behind the mean have ``n_classes``. A level of `f`
    filters, with `g` in the level inside it and `e` in the one outside it, has ``5ef + f + 5ff + f + 4f`` in the
    encoder and, with its pool `p`, ``pgf + f + 5(2f)f + f + 5ff + f + 6f`` in the decoder.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = config.n_channels
        self.n_classes = config.n_classes
        self.plan = plan(config)
        self.timing = self.plan.timing
        self.fusion = ShiftedFusion(config.lags, n_full=self.plan.n_full)
        n_filters = [config.scaled(config.n_filters * 2**level) for level in range(len(config.pools) + 1)]
        dilations = [config.dilation] * len(config.pools) + [1]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                ConvBlock(n_in, n_out, config.kernel, dilation), ConvBlock(n_out, n_out, config.kernel, dilation)
            )
            for n_in, n_out, dilation in zip(
                [config.n_channels, *n_filters[:-1]], n_filters, dilations, strict=True
            )
        )
        levels = list(zip(n_filters[:-1], n_filters[1:], config.pools, strict=True))
        self.up = nn.ModuleList(ConvBlock(inner, n, pool) for n, inner, pool in levels)
        self.decoder = nn.ModuleList(
            nn.Sequential(ConvBlock(2 * n, n, config.kernel), ConvBlock(n, n, config.kernel)) for n, _, _ in levels
        )
        n_maps = config.scaled(config.n_classes)
        self.dense = keras_start(nn.Conv1d(n_filters[0], n_maps, 1))
        self.segment = keras_start(nn.Conv1d(n_maps, config.n_classes, 1))
        self.head = keras_start(nn.Conv1d(config.n_classes, config.n_classes, 1))

    def score_windows(self, windows: Tensor) -> Tensor:
        """Map ``(n, channels, samples)``, whole epochs, to logits ``(n, epochs, classes)``."""
        config, geometry = self.config, Geometry(self.config, windows.shape[2])
        x, skips = windows, []
        for k, pool in enumerate(config.pools):
            skips.append(self.encoder[k](x))
            x = F.max_pool1d(skips[k], pool)
        x = self.encoder[-1](x)
        for k in reversed(range(len(config.pools))):
            x = self.up[k](x.repeat_interleave(config.pools[k], dim=2))
            skip = skips[k].narrow(2, geometry.crops[k], geometry.up[k])
            x = self.decoder[k](torch.cat((skip, x), dim=1))
        samples = F.pad(torch.tanh(self.dense(x)), (geometry.pad, windows.shape[2] - x.shape[2] - geometry.pad))
        epochs = F.avg_pool1d(samples, config.epoch_samples)
        logits: Tensor = self.head(F.elu(self.segment(epochs)))
        return logits.transpose(1, 2)

    def initial_state(self, batch_size: int) -> State:
        config, zeros = self.config, self.head.weight.new_zeros
        if config.variant == "published":
            return (zeros(batch_size, 0),)
        epochs = zeros(batch_size, self.plan.n_held - 1, config.n_channels, config.epoch_samples)
        if config.fusion == "none":
            return (epochs,)
        return epochs, *self.fusion.initial_state(batch_size, config.n_classes, epochs)

    def read_windows(self, windows: Tensor, lags: tuple[int, ...]) -> Tensor:
        """Map ``(batch, n, epochs, channels, samples)`` to logits at `lags`, ``(batch, n, n_lags, n_classes)``."""
        rows = []
        # One window of every stream at a time: those of a night would not fit into memory.
        for window in windows.unbind(1):
            logits = self.score_windows(window.transpose(1, 2).flatten(2)).flip(1)
            rows.append(torch.stack([logits[:, lag] for lag in lags], dim=1))
        return torch.stack(rows, dim=1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        config, batch_size = self.config, x.shape[0]
        epochs = x.reshape(batch_size, self.n_channels, -1, config.epoch_samples).transpose(1, 2)
        if config.variant == "published":
            windows = epochs.reshape(batch_size, n_steps, config.window_epochs, self.n_channels, -1)
            return self.read_windows(windows, config.lags), (state[0].clone(),)
        windows, past = slide(state[0], epochs)
        if config.fusion == "none":
            n_unheard = self.plan.n_unheard
            heard = windows[:, :, : windows.shape[2] - n_unheard]
            return self.read_windows(heard, tuple(lag - n_unheard for lag in config.lags)), (past,)
        fused, said = self.fusion(self.read_windows(windows, tuple(range(config.lags[-1] + 1))), state[1:])
        return fused, (past, *said)


class Plan(NamedTuple):
    """What the chosen reads take.

    Parameters
    ----------
    timing
        Of the network.
    n_held
        Epochs of a window that are kept; older ones reach no read.
    n_unheard
        Epochs at the newest end that reach no read, so that the layers can do without them.
    n_full
        Epochs after which all reads are warm.
    """

    timing: Timing
    n_held: int
    n_unheard: int
    n_full: int


def plan(config: Config) -> Plan:
    """Return what the reads of a configuration take.

    Epochs can be left out only by whole columns of the bottom: else the pools would fall elsewhere.
    """
    epoch, n_window, lags = config.epoch_samples, config.window_epochs, config.lags
    window = n_window * epoch
    if config.variant == "published":
        reads = tuple(Read(lag * epoch, window) for lag in lags)
        timing = Timing(window, reads, receptive_field_samples=window, epoch_samples=epoch)
        return Plan(timing, n_window, 0, n_window)
    unit = math.lcm(epoch, math.prod(config.pools))
    geometry = Geometry(config, window)
    reaches = [geometry.reach(n_window - 1 - lag) for lag in range(lags[-1] + 1)]
    fields = [window - reach.first for reach in reaches]
    n_held = n_window - (window - fields[-1]) // unit * unit // epoch
    n_full = -(-fields[-1] // epoch)
    if config.fusion == "none":
        reads = tuple(Read(lag * epoch, fields[lag]) for lag in lags)
        n_unheard = (window - 1 - reaches[lags[0]].last) // unit * unit // epoch
        return Plan(Timing(epoch, reads, receptive_field_samples=fields[-1]), n_held, n_unheard, n_full)
    # At lag 0 there is one window to hear; at others the oldest of them has to be full.
    reads = tuple(Read(lag * epoch, (n_full + lag) * epoch if lag else fields[0]) for lag in lags)
    field = max(field + (lags[-1] - lag) * epoch for lag, field in enumerate(fields))
    return Plan(Timing(epoch, reads, receptive_field_samples=field), n_held, 0, n_full)


def build(config: Config) -> UTime:
    """Return an untrained network in evaluation mode."""
    return UTime(config).eval()
