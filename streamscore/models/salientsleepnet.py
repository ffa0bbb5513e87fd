"""SalientSleepNet: nested U-networks over the raw EEG and EOG of a whole window of epochs.

Source: Jia et al., "SalientSleepNet: Multimodal Salient Wave Detection Network for Sleep Staging", IJCAI 2021;
layers and constants from MODELS.md section 5.

The published network segments a window of 20 epochs like a picture: every output depends on all of the window.
``published`` runs it on windows that follow one another, ``sliding`` on a window that moves by one epoch, with the
same weights. ``causal`` is the same network with all layers aligned to epochs and padded with the past, so that it
computes each sample once and never waits; its weights have to be trained for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import ShiftedFusion, check_lags, keras_norm, keras_start, slide

_INPUT = ("AASM5", 100.0, ("EEG", "EOG"))

ABOUT = About(
    title="SalientSleepNet",
    source="Jia et al., IJCAI 2021",
    published=(
        "Sleep-EDF-39, 20-fold by subject, Fpz-Cz and EOG: accuracy 0.875, macro-F1 0.830",
        "Sleep-EDF-153, 20-fold by subject, Fpz-Cz and EOG: accuracy 0.841, macro-F1 0.795",
    ),
    examples={
        "salientsleepnet": Example({}, *_INPUT),
        "salientsleepnet-single": Example({"n_channels": 1}, "AASM5", 100.0, ("EEG",)),
        "salientsleepnet-no-bottleneck": Example({"bottleneck": False}, *_INPUT),
        "salientsleepnet-sliding": Example({"variant": "sliding"}, *_INPUT),
        "salientsleepnet-fused": Example(
            {"variant": "sliding", "lags_epochs": (0, 4, 9, 19), "fusion": "log"}, *_INPUT
        ),
        "salientsleepnet-causal": Example({"variant": "causal"}, *_INPUT),
    },
)

PUBLISHED_POOLS = (10, 8, 6, 4)
#: Their product divides the 3,000 samples of an epoch, which that of the published ones does not.
CAUSAL_POOLS = (10, 6, 5, 2)


class Config(BaseModel):
    """Arguments of :class:`SalientSleepNet`.

    Parameters
    ----------
    variant
        ``"published"``: windows that follow one another. ``"sliding"``: one window an epoch, same weights.
        ``"causal"``: carried state; needs its own training.
    n_channels
        2 (EEG and EOG, two streams and an attention) or 1 (one stream, no attention).
    window_epochs
        Epochs that are scored together; for ``"causal"`` the span of the attention's mean.
    lags_epochs
        Positions of the window that ``"sliding"`` reads, counted from its newest epoch.
    fusion
        ``"log"``: the mean log-probability of all shifted windows that spoke about the epoch so far.
    bottleneck
        False removes all 1x1 convolutions that halve the channels and those that narrow the multi-scale features:
        the paper's larger network.
    filters
        Channels of the U-units, outermost level first.
    pools
        Pooling between the levels; a U-unit pools by the same, the innermost by the last. By default
        (10, 8, 6, 4), for ``"causal"`` (10, 6, 5, 2).
    u_depth, u_filters
        Depth of a U-unit and channels inside it.
    scale_filters, dilations
        Of the multi-scale extraction: channels for each level, dilations of its parallel convolutions.
    attention_units
        Hidden units of the attention over channels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Literal["published", "sliding", "causal"] = "published"
    sfreq: float = Field(100.0, gt=0)
    n_channels: Literal[1, 2] = 2
    n_classes: int = Field(5, ge=2)
    epoch_s: float = Field(30.0, gt=0)
    window_epochs: int = Field(20, ge=1)
    lags_epochs: tuple[int, ...] = (0,)
    fusion: Literal["none", "log"] = "none"
    bottleneck: bool = True
    kernel: int = Field(5, ge=3)
    filters: tuple[PositiveInt, ...] = Field((16, 32, 64, 128, 256), min_length=2)
    pools: tuple[PositiveInt, ...] | None = None
    u_depth: int = Field(4, ge=2)
    u_filters: int = Field(8, ge=1)
    scale_filters: tuple[PositiveInt, ...] = (32, 24, 16, 8, 5)
    dilations: tuple[PositiveInt, ...] = Field((1, 2, 3, 4), min_length=1)
    attention_units: int = Field(4, ge=1)

    @property
    def epoch_samples(self) -> int:
        return round(self.epoch_s * self.sfreq)

    @property
    def level_pools(self) -> tuple[int, ...]:
        """Pooling between levels: one fewer than there are levels."""
        if self.pools is not None:
            return self.pools
        return CAUSAL_POOLS if self.variant == "causal" else PUBLISHED_POOLS

    def unit_pools(self, level: int) -> tuple[int, ...]:
        """Poolings inside the U-unit of a level, outermost first.

        A causal unit must end its columns with the epoch: each pool is the largest that divides what is left.
        """
        pool = self.level_pools[min(level, len(self.level_pools) - 1)]
        if self.variant != "causal":
            return (pool,) * (self.u_depth - 2)
        left = self.epoch_samples // math.prod(self.level_pools[:level])
        pools = []
        for _ in range(self.u_depth - 2):
            pools.append(max(p for p in range(1, pool + 1) if left % p == 0))
            left //= pools[-1]
        return tuple(pools)

    @model_validator(mode="after")
    def _layers_fit_together(self) -> Config:
        n_levels = len(self.filters)
        if len(self.scale_filters) != n_levels or len(self.level_pools) != n_levels - 1:
            raise ValueError(
                f"{n_levels} levels of filters need as many scale_filters and one fewer pools, "
                f"got {len(self.scale_filters)} and {len(self.level_pools)}"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} has no middle: choose an odd number")
        if self.bottleneck and any(n % 2 for n in self.filters):
            raise ValueError(f"filters {self.filters} must be even, because the bottleneck halves them")
        return self

    @model_validator(mode="after")
    def _the_window_has_columns_at_every_level(self) -> Config:
        if abs(self.epoch_s * self.sfreq - self.epoch_samples) > 1e-6 or self.epoch_samples < 1:
            raise ValueError(f"epoch_s {self.epoch_s:g} is not a whole number of samples at {self.sfreq:g} Hz")
        if self.variant == "causal":
            if self.epoch_samples % math.prod(self.level_pools):
                raise ValueError(
                    f"the product of pools {self.level_pools} must divide the epoch of {self.epoch_samples} "
                    f"samples, so that a causal column ends with it; {CAUSAL_POOLS} do for 3000"
                )
            return self
        n_columns = self.window_epochs * self.epoch_samples
        for level in range(len(self.filters)):
            if n_columns < math.prod(self.unit_pools(level)):
                raise ValueError(
                    f"level {level + 1} has {n_columns} columns, too few for its pools {self.unit_pools(level)}: "
                    "choose smaller pools or a longer window"
                )
            n_columns //= self.level_pools[min(level, len(self.level_pools) - 1)]
        return self

    @model_validator(mode="after")
    def _lags_are_positions_of_a_sliding_window(self) -> Config:
        lags = self.lags_epochs
        if self.variant != "sliding":
            if lags != (0,) or self.fusion != "none":
                raise ValueError(f"lags_epochs and fusion are for variant sliding, not {self.variant}")
            return self
        check_lags(lags, self.window_epochs, self.fusion)
        return self


class Past:
    """What each convolution of a causal network has to remember of its input.

    Parameters
    ----------
    convs
        Those with a kernel longer than 1.
    packed
        ``(batch, n_values)`` of :meth:`pack`, or zeros at the start.
    """

    def __init__(self, convs: Sequence[Conv], packed: Tensor) -> None:
        parts = torch.split_with_sizes(packed, [conv.in_channels * conv.n_past for conv in convs], dim=1)
        self._tails = {
            conv: part.reshape(-1, conv.in_channels, conv.n_past) for conv, part in zip(convs, parts, strict=True)
        }

    def before(self, conv: Conv, x: Tensor) -> Tensor:
        """Return `x` with what came before it, and remember its end."""
        joined = torch.cat((self._tails[conv], x), dim=2)
        # A clone, because a view would keep all of `joined` in memory.
        self._tails[conv] = joined[:, :, joined.shape[2] - conv.n_past :].clone()
        return joined

    def pack(self) -> Tensor:
        """Return the state to begin the next call with, as one tensor."""
        return torch.cat([tail.flatten(1) for tail in self._tails.values()], dim=1)


class Conv(nn.Conv1d):
    """Convolution that keeps the length: zeros on both sides, or the past on the left."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__(n_in, n_out, kernel, dilation=dilation)
        self.n_past = (kernel - 1) * dilation

    def reset_parameters(self) -> None:
        keras_start(self)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        if past is None or self.n_past == 0:
            return F.conv1d(x, self.weight, self.bias, padding=self.n_past // 2, dilation=self.dilation)
        return F.conv1d(past.before(self, x), self.weight, self.bias, dilation=self.dilation)


def max_pool(x: Tensor, pool: int) -> Tensor:
    """Pool without padding: what does not fill the last window is dropped."""
    return F.max_pool1d(x, pool) if pool > 1 else x


def resize(x: Tensor, length: int, past: Past | None) -> Tensor:
    """Stretch the time axis; a causal network holds each column, so as not to look at the next epoch's first."""
    if x.shape[2] == length:
        return x
    if past is None:
        return F.interpolate(x, length, mode="linear", align_corners=False)
    return F.interpolate(x, length, mode="nearest")


class ConvBlock(nn.Module):
    """Convolution → ReLU → batch normalisation, in this order."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = Conv(n_in, n_out, kernel, dilation)
        self.norm = keras_norm(n_out)

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        return cast(Tensor, self.norm(F.relu_(self.conv(x, past))))


class UUnit(nn.Module):
    """A small U-network in place of a convolution, with a residual connection around it."""

    def __init__(self, n_in: int, n_out: int, pools: tuple[int, ...], config: Config) -> None:
        super().__init__()
        n, kernel = config.u_filters, config.kernel
        self.pools = (1, *pools)
        self.outer = ConvBlock(n_in, n_out, kernel)
        self.down = nn.ModuleList(ConvBlock(n if k else n_out, n, kernel) for k in range(len(self.pools)))
        self.bottom = ConvBlock(n, n, kernel)
        n_up = [n] * len(pools) + [n_out]
        self.up = nn.ModuleList(ConvBlock(2 * n, n_filters, kernel) for n_filters in n_up)

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        outer: Tensor = self.outer(x, past)
        x = outer
        skips: list[Tensor] = []
        for pool, block in zip(self.pools, self.down, strict=True):
            x = block(max_pool(x, pool), past)
            skips.append(x)
        x = self.bottom(x, past)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(torch.cat((resize(x, skip.shape[2], past), skip), dim=1), past)
        return x + outer


class MultiScale(nn.Module):
    """Parallel dilated convolutions, then a bottleneck that narrows their concatenation."""

    def __init__(self, n_in: int, n_filters: int, config: Config) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            ConvBlock(n_in, n_filters, config.kernel, dilation) for dilation in config.dilations
        )
        n_wide = len(config.dilations) * n_filters
        self.n_out = n_filters if config.bottleneck else n_wide
        widths = (n_wide, 2 * n_filters, n_filters) if config.bottleneck else ()
        self.narrow = nn.ModuleList(
            Conv(n_before, n_after, config.kernel) for n_before, n_after in pairwise(widths)
        )
        self.norm = keras_norm(self.n_out)

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        x = torch.cat([scale(x, past) for scale in self.scales], dim=1)
        for conv in self.narrow:
            x = F.relu_(conv(x, past))
        return cast(Tensor, self.norm(x))


def narrowing(n_channels: int, config: Config) -> nn.Module:
    """Return the 1x1 convolution behind a U-unit that halves its channels, if there is a bottleneck."""
    if not config.bottleneck:
        return nn.Identity()
    return nn.Sequential(Conv(n_channels, n_channels // 2), nn.ReLU(inplace=True))


class Stream(nn.Module):
    """One channel ``(batch, 1, samples)`` to features of every sample ``(batch, filters[0], samples)``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        filters = config.filters
        levels = range(len(filters))
        widths = [n // 2 if config.bottleneck else n for n in filters]
        scales = [MultiScale(widths[k], config.scale_filters[k], config) for k in levels]
        self.pools = (1, *config.level_pools)
        self.encoder = nn.ModuleList(
            UUnit(n_in, filters[k], config.unit_pools(k), config) for k, n_in in enumerate((1, *widths[:-1]))
        )
        self.narrow_encoder = nn.ModuleList(narrowing(n, config) for n in filters)
        self.scales = nn.ModuleList(scales)
        # Innermost level first. The outermost keeps all its channels.
        self.decoder, self.narrow_decoder = nn.ModuleList(), nn.ModuleList()
        n_below = scales[-1].n_out
        for k in reversed(levels[:-1]):
            self.decoder.append(UUnit(n_below + scales[k].n_out, filters[k], config.unit_pools(k), config))
            self.narrow_decoder.append(narrowing(filters[k], config) if k else nn.Identity())
            n_below = widths[k]

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        maps: list[Tensor] = []
        for pool, unit, narrow, scale in zip(
            self.pools, self.encoder, self.narrow_encoder, self.scales, strict=True
        ):
            x = narrow(unit(max_pool(x, pool), past))
            maps.append(scale(x, past))
        x = maps.pop()
        for unit, narrow in zip(self.decoder, self.narrow_decoder, strict=True):
            beside = maps.pop()
            x = narrow(unit(torch.cat((resize(x, beside.shape[2], past), beside), dim=1), past))
        return x


class SalientSleepNet(ScoringModel):
    """The layers that all variants share, under the same names; 948,795 parameters with running statistics.

    Variants differ in how they cut the signal and in what they carry.
    """

    def __init__(
        self, config: Config, step_epochs: int, reads: tuple[Read, ...], field_epochs: int | None
    ) -> None:
        super().__init__()
        self.config = config
        self.n_channels = config.n_channels
        self.n_classes = config.n_classes
        self.epoch_samples = config.epoch_samples
        self.timing = Timing(
            step_samples=step_epochs * self.epoch_samples,
            reads=reads,
            receptive_field_samples=None if field_epochs is None else field_epochs * self.epoch_samples,
            epoch_samples=self.epoch_samples,
        )
        n_features = config.filters[0]
        self.streams = nn.ModuleList(Stream(config) for _ in range(config.n_channels))
        if config.n_channels == 2:
            self.squeeze = keras_start(nn.Linear(n_features, config.attention_units))
            self.excite = keras_start(nn.Linear(config.attention_units, n_features))
        self.mix = Conv(n_features, n_features)
        self.over_epochs = Conv(n_features, config.n_classes, config.kernel)

    def features(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Map ``(batch, channels, samples)`` to ``(batch, filters, epochs, epoch_samples)``."""
        fused: Tensor = self.streams[0](x[:, :1], past)
        if self.n_channels == 2:
            other = self.streams[1](x[:, 1:], past)
            fused = fused + other + fused * other
        return fused.reshape(*fused.shape[:2], -1, self.epoch_samples)

    def gains(self, means: Tensor) -> Tensor:
        """Attention over channels: ``(..., filters)`` of mean features to as many factors from 0 to 1."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))

    def classify(self, features: Tensor, past: Past | None = None) -> Tensor:
        """Map features ``(batch, filters, epochs, epoch_samples)`` to logits ``(batch, epochs, n_classes)``."""
        mixed = torch.tanh_(self.mix(features.flatten(2), past))
        means = mixed.reshape(features.shape).mean(dim=3)
        return cast(Tensor, self.over_epochs(means, past)).transpose(1, 2)

    def score_window(self, x: Tensor) -> Tensor:
        """Map a window ``(batch, channels, samples)`` to logits ``(batch, lags, n_classes)``, newest first."""
        features = self.features(x)
        if self.n_channels == 2:
            features = features * self.gains(features.mean(dim=(2, 3)))[:, :, None, None]
        return self.classify(features).flip(1)


class PublishedSalientSleepNet(SalientSleepNet):
    """Windows that follow one another, each scored when it ends."""

    def __init__(self, config: Config) -> None:
        n, epoch = config.window_epochs, config.epoch_samples
        super().__init__(config, n, tuple(Read(lag * epoch, n * epoch) for lag in range(n)), n)

    def initial_state(self, batch_size: int) -> State:
        # Nothing is carried; a tensor without columns still tells the number of streams.
        return (self.mix.weight.new_zeros(batch_size, 0),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        # One window after the other: each fills hundreds of megabytes.
        logits = [self.score_window(window) for window in torch.split(x, self.timing.step_samples, dim=2)]
        return torch.stack(logits, dim=1), (state[0].clone(),)


class SlidingSalientSleepNet(SalientSleepNet):
    """A window that moves by one epoch, computed anew each time, because every output depends on all of it."""

    def __init__(self, config: Config) -> None:
        n, epoch, lags = config.window_epochs, config.epoch_samples, config.lags_epochs
        # A fused read waits for the windows before, so that it never changes with the length of the past.
        n_before = lags if config.fusion == "log" else (0,) * len(lags)
        reads = tuple(Read(lag * epoch, (n + before) * epoch) for lag, before in zip(lags, n_before, strict=True))
        super().__init__(config, 1, reads, n + max(n_before))
        self.fusion = ShiftedFusion(lags, n_full=n) if config.fusion == "log" else None

    def initial_state(self, batch_size: int) -> State:
        """Epochs before the newest; with fusion also what their windows said."""
        n_past = self.config.window_epochs - 1
        epochs = self.mix.weight.new_zeros(batch_size, n_past, self.n_channels, self.epoch_samples)
        if self.fusion is None:
            return (epochs,)
        return epochs, *self.fusion.initial_state(batch_size, self.n_classes, epochs)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        epochs = x.reshape(-1, self.n_channels, n_steps, self.epoch_samples).transpose(1, 2)
        windows, past = slide(state[0], epochs)
        logits = torch.stack(
            [self.score_window(windows[:, k].transpose(1, 2).flatten(2)) for k in range(n_steps)], dim=1
        )
        lags = self.config.lags_epochs
        if self.fusion is None:
            return logits[:, :, list(lags)], (past,)
        fused, said = self.fusion(logits[:, :, : lags[-1] + 1], state[1:])
        return fused, (past, *said)


class CausalSalientSleepNet(SalientSleepNet):
    """Layers padded with their past, columns that end with the epoch, and an attention to the trailing mean.

    Inside its epoch a column may look ahead, since nothing is said before the epoch ends. Streams begin on zeros,
    in training as at a rig, so that the first epoch can be scored already.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config, 1, (Read(0, config.epoch_samples),), None)
        self.remembering = [m for m in self.modules() if isinstance(m, Conv) and m.n_past > 0]

    def initial_state(self, batch_size: int) -> State:
        """Ends of all convolutions' inputs; with two streams also the trailing mean and its weight in epochs."""
        zeros = self.mix.weight.new_zeros
        ends = zeros(batch_size, sum(conv.in_channels * conv.n_past for conv in self.remembering))
        if self.n_channels == 1:
            return (ends,)
        return ends, zeros(batch_size, self.config.filters[0]), zeros(batch_size, 1)

    def trailing_means(self, means: Tensor, mean: Tensor, weight: Tensor) -> tuple[Tensor, State]:
        """Average ``(batch, filters, epochs)`` over the past.

        It is the mean of all epochs for the first `window_epochs`, then forgets by one part in as many.
        """
        trailing = []
        for k in range(means.shape[2]):
            weight = (weight + 1.0).clamp(max=self.config.window_epochs)
            mean = mean + (means[:, :, k] - mean) / weight
            trailing.append(mean)
        return torch.stack(trailing, dim=1), (mean, weight)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        logits = []
        # In blocks, so that a long recording needs no more memory than a window.
        for block in torch.split(x, self.config.window_epochs * self.epoch_samples, dim=2):
            past = Past(self.remembering, state[0])
            features = self.features(block, past)
            attention: State = ()
            if self.n_channels == 2:
                means, attention = self.trailing_means(features.mean(dim=3), *state[1:])
                features = features * self.gains(means).transpose(1, 2)[..., None]
            logits.append(self.classify(features, past))
            state = (past.pack(), *attention)
        return torch.cat(logits, dim=1)[:, :, None], state


VARIANTS: dict[str, type[PublishedSalientSleepNet | SlidingSalientSleepNet | CausalSalientSleepNet]] = {
    "published": PublishedSalientSleepNet,
    "sliding": SlidingSalientSleepNet,
    "causal": CausalSalientSleepNet,
}


def build(config: Config) -> SalientSleepNet:
    """Return an untrained network in evaluation mode."""
    return VARIANTS[config.variant](config).eval()
