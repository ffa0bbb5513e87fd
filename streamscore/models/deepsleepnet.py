"""DeepSleepNet: two CNNs over one epoch, a bidirectional LSTM over epochs and a shortcut around it.

Source: Supratak, Dong, Wu and Guo, "DeepSleepNet: a model for automatic sleep stage scoring based on raw
single-channel EEG", IEEE TNSRE 2017; layers and constants from MODELS.md section 2. The two directions meet only
in the final sum, so that the CNNs, the shortcut and the forward stack are causal over epochs and are computed
once; only the backward stack is run again over what has arrived.
"""

from __future__ import annotations

from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import PeepholeLstm, SameConv1d, backward_over, same_length, same_max_pool, slide

ABOUT = About(
    title="DeepSleepNet",
    source="Supratak et al., IEEE TNSRE 25, 2017",
    published=(
        "MASS-SS3, 31-fold by subject, F4-EOG(left), 256 Hz: accuracy 0.862, macro-F1 0.817",
        "MASS-SS3, the CNNs alone: accuracy 0.815, macro-F1 0.766",
        "Sleep-EDF-39, 20-fold by subject, Fpz-Cz, 100 Hz: accuracy 0.820, macro-F1 0.769",
    ),
    examples={
        "deepsleepnet": Example({}, "AASM5", 100.0, ("EEG",), "uV"),
        "deepsleepnet-256hz": Example({"sfreq": 256.0}, "AASM5", 256.0, ("EEG",), "uV"),
        "deepsleepnet-causal": Example({"variant": "causal"}, "AASM5", 100.0, ("EEG",), "uV"),
        "deepsleepnet-lookahead": Example(
            {"variant": "lookahead", "look_ahead_s": 60.0}, "AASM5", 100.0, ("EEG",), "uV"
        ),
    },
)


class Config(BaseModel):
    """Arguments of :class:`DeepSleepNet`.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz; kernel and stride of the first layers are ``int(sfreq / 2)`` and ``int(sfreq / 16)``
        in the small CNN, ``int(4 * sfreq)`` and ``int(sfreq / 2)`` in the large one.
    epoch_s
        Length of an epoch, which is the step.
    n_filters
        Of the first layer of each CNN; the others have twice as many.
    n_hidden
        Units of each LSTM layer and direction.
    variant
        ``"published"``: chunks of `chunk_epochs`, exact. ``"causal"``: no backward stack. ``"lookahead"``:
        backward stack over the next `look_ahead_s`.
    chunk_epochs
        Published variant only: epochs that the backward stack goes through from zero.
    carry_backward
        Published variant only. The published code starts the backward stack not from zero but from the state it
        had when it came to the *start* of the chunk before; True does the same.
    look_ahead_s, max_look_ahead_s
        Look-ahead variant only: look-ahead at run time, and the longest one that the weights were trained for;
        720 s is what the first epoch of a published chunk sees.
    l2_on
        First convolutions that the weight decay applies to: of both CNNs (``"paper"``) or of the small one
        (``"code"``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sfreq: float = Field(100.0, ge=32.0)
    n_channels: int = Field(1, ge=1)
    n_classes: int = Field(5, ge=2)
    epoch_s: float = Field(30.0, gt=0)
    n_filters: int = Field(64, ge=1)
    n_hidden: int = Field(512, ge=1)
    variant: Literal["published", "causal", "lookahead"] = "published"
    chunk_epochs: int = Field(25, ge=1)
    carry_backward: bool = False
    look_ahead_s: float = Field(0.0, ge=0)
    max_look_ahead_s: float = Field(720.0, ge=0)
    l2_on: Literal["paper", "code"] = "paper"
    dropout: float = Field(0.5, ge=0.0, lt=1.0)

    @property
    def look_ahead_epochs(self) -> int:
        """Look-ahead in epochs."""
        return round(self.look_ahead_s / self.epoch_s)

    @model_validator(mode="after")
    def _check_variant(self) -> Self:
        if self.variant != "lookahead" and self.look_ahead_s != 0:
            raise ValueError(
                f"look_ahead_s is {self.look_ahead_s:g}, but the {self.variant} variant has none to choose; "
                "set it to 0 or choose variant: lookahead"
            )
        if self.variant != "published" and self.carry_backward:
            raise ValueError(
                f"carry_backward belongs to the published variant; the {self.variant} one has no chunks"
            )
        belongs = {"chunk_epochs": "published", "max_look_ahead_s": "lookahead"}
        for name, variant in belongs.items():
            if self.variant != variant and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} belongs to variant {variant!r} and would be ignored; leave it out")
        if self.variant == "lookahead" and self.look_ahead_s > self.max_look_ahead_s:
            raise ValueError(
                f"look_ahead_s {self.look_ahead_s:g} is beyond max_look_ahead_s {self.max_look_ahead_s:g}; "
                "choose a smaller look_ahead_s or a bundle trained for more"
            )
        if abs(self.look_ahead_s - self.look_ahead_epochs * self.epoch_s) > 1e-6:
            raise ValueError(
                f"look_ahead_s {self.look_ahead_s:g} is no whole number of epochs of {self.epoch_s:g} s"
            )
        return self


class ConvBlock(nn.Module):
    """Convolution (SAME, no bias) → batch normalisation → ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = SameConv1d(n_in, n_out, kernel, stride)
        self.norm = batch_norm(n_out)
        truncated_normal(self.conv.weight, fan_in=n_in * kernel)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Branch(nn.Module):
    """One of the two CNNs: ``(n, channels, samples)`` → ``(n, columns * filters)``, time-major."""

    def __init__(
        self, config: Config, kernel: int, stride: int, pools: tuple[int, int], later_kernel: int
    ) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.pools = pools
        n_first, n_later = config.n_filters, 2 * config.n_filters
        self.first = ConvBlock(config.n_channels, n_first, kernel, stride)
        self.later = nn.Sequential(
            ConvBlock(n_first, n_later, later_kernel),
            ConvBlock(n_later, n_later, later_kernel),
            ConvBlock(n_later, n_later, later_kernel),
        )
        self.n_features = same_length(round(config.epoch_s * config.sfreq), stride, *pools) * n_later

    def forward(self, epochs: Tensor) -> Tensor:
        x = F.dropout(same_max_pool(self.first(epochs), self.pools[0]), self.dropout, self.training)
        return same_max_pool(self.later(x), self.pools[1]).transpose(1, 2).flatten(1)


class EpochCnn(nn.Module):
    """Both CNNs: epochs ``(n, channels, samples)`` → features ``(n, n_features)``, small CNN first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        sfreq = config.sfreq
        self.small = Branch(config, int(sfreq / 2), int(sfreq / 16), pools=(8, 4), later_kernel=8)
        self.large = Branch(config, int(4 * sfreq), int(sfreq / 2), pools=(4, 2), later_kernel=6)
        self.n_features = self.small.n_features + self.large.n_features

    def forward(self, epochs: Tensor) -> Tensor:
        features = torch.cat((self.small(epochs), self.large(epochs)), dim=1)
        return F.dropout(features, self.dropout, self.training)

    def l2_kernels(self, l2_on: str) -> list[nn.Parameter]:
        """Kernels that the published training decays (coefficient 1e-3)."""
        branches = (self.small, self.large) if l2_on == "paper" else (self.small,)
        return [cast(nn.Parameter, branch.first.conv.weight) for branch in branches]


class PretrainNet(nn.Module):
    """The network of the first training step: the CNNs and a softmax layer of their own.

    It has 619,397 parameters at 100 Hz and 663,685 at 256 Hz. Hand its `cnn` to the second step by
    ``model.cnn.load_state_dict(pretrained.cnn.state_dict())``.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.l2_on = config.l2_on
        self.cnn = EpochCnn(config)
        self.head = nn.Linear(self.cnn.n_features, config.n_classes)

    def forward(self, epochs: Tensor) -> Tensor:
        """Map epochs ``(n, channels, samples)`` to logits ``(n, n_classes)``."""
        logits: Tensor = self.head(self.cnn(epochs))
        return logits

    def l2_kernels(self) -> list[nn.Parameter]:
        """Kernels that the published training decays (coefficient 1e-3)."""
        return self.cnn.l2_kernels(self.l2_on)


class Stack(nn.Module):
    """Two LSTM layers of one direction; dropout on the output of each."""

    def __init__(self, n_in: int, n_hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.lower = PeepholeLstm(n_in, n_hidden)
        self.upper = PeepholeLstm(n_hidden, n_hidden)

    def initial_state(self, batch_size: int) -> State:
        """Return cell and output of the lower layer, then of the upper one, each ``(batch, n_hidden)``."""
        return *self.lower.initial_state(batch_size), *self.upper.initial_state(batch_size)

    def forward(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """Run over what ``lower.project`` gave; return ``(batch, steps, n_hidden)`` and the new state."""
        lower_cell, lower_hidden, upper_cell, upper_hidden = state
        x, lower = self.lower.recur(projected, (lower_cell, lower_hidden))
        x = self.upper.project(F.dropout(x, self.dropout, self.training))
        x, upper = self.upper.recur(x, (upper_cell, upper_hidden))
        return F.dropout(x, self.dropout, self.training), (*lower, *upper)


class DeepSleepNet(ScoringModel):
    """The published network for any sampling rate; 22,645,637 parameters at 100 Hz, 22,035,205 at 256 Hz.

    Its state holds the four tensors of the forward stack; except in the causal variant, for each of the epochs
    that the backward stack will see again, the input side of its lower layer and the sum that its output is added
    to; and with `carry_backward` the four tensors of the backward stack and the position in the chunk.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels, self.n_classes = config.n_channels, config.n_classes
        if config.variant == "published":
            lags = list(range(config.chunk_epochs))
        else:
            lags = sorted({0, config.look_ahead_epochs})
        step = round(config.epoch_s * config.sfreq)
        self.timing = Timing(
            step_samples=step,
            reads=tuple(Read(lag_samples=lag * step, warm_up_samples=(lag + 1) * step) for lag in lags),
            receptive_field_samples=None,
            chunk_steps=config.chunk_epochs if config.variant == "published" else 0,
        )
        self.n_window = lags[-1] + 1
        self.read_spacing = max(lags[1:2], default=1)
        self.cnn = EpochCnn(config)
        n_features, n_hidden = self.cnn.n_features, config.n_hidden
        self.forward_stack = Stack(n_features, n_hidden, config.dropout)
        self.backward_stack = None
        if config.variant != "causal":
            self.backward_stack = Stack(n_features, n_hidden, config.dropout)
        n_sum = n_hidden * (1 if self.backward_stack is None else 2)
        self.shortcut = nn.Linear(n_features, n_sum, bias=False)
        self.shortcut_norm = batch_norm(n_sum)
        truncated_normal(self.shortcut.weight, fan_in=n_features)
        self.head = nn.Linear(n_sum, config.n_classes)

    def initial_state(self, batch_size: int) -> State:
        state = self.forward_stack.initial_state(batch_size)
        if self.backward_stack is None:
            return state
        past = self.head.weight.new_zeros(batch_size, self.n_window - 1, 6 * self.config.n_hidden)
        if not self.config.carry_backward:
            return *state, past
        position = torch.zeros(batch_size, 1, dtype=torch.int64, device=past.device)
        return *state, past, *self.backward_stack.initial_state(batch_size), position

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        batch_size, n_hidden = x.shape[0], self.config.n_hidden
        epochs = x.reshape(batch_size, self.n_channels, n_steps, -1).transpose(1, 2).flatten(0, 1)
        features = self.cnn(epochs)
        shortcut = F.relu(self.shortcut_norm(self.shortcut(features))).reshape(batch_size, n_steps, -1)
        features = features.reshape(batch_size, n_steps, -1)
        hidden, forward_state = self.forward_stack(self.forward_stack.lower.project(features), state[:4])
        if self.backward_stack is None:
            return self.classify((shortcut + hidden)[:, :, None]), forward_state

        forward_sum = shortcut[..., :n_hidden] + hidden
        projected = self.backward_stack.lower.project(features)
        items = torch.cat((projected, forward_sum, shortcut[..., n_hidden:]), dim=2)
        windows, past = slide(state[4], items)
        hidden, backward_state = self.look_back(self.backward_stack, windows[..., : 4 * n_hidden], state[5:])
        sums = windows[:, :, :: self.read_spacing, 4 * n_hidden :]
        hidden = hidden[:, :, :: self.read_spacing]
        summed = torch.cat((sums[..., :n_hidden], sums[..., n_hidden:] + hidden), dim=3)
        # Windows run from the oldest item to the newest, lags the other way.
        return self.classify(summed.flip(2)), (*forward_state, past, *backward_state)

    def score_chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Score the epochs of one whole chunk at its end, as in training.

        What :meth:`forward` says when the chunk closes, without what it says before: the backward stack is run
        once. Only the forward stack's part of the state is read and renewed; `carry_backward` is not followed.

        Returns
        -------
        logits
            ``(batch, n_epochs, n_classes)``.
        state
            To be passed with the next chunk.
        """
        n_steps, batch_size = self.check_input(x), x.shape[0]
        epochs = x.reshape(batch_size, self.n_channels, n_steps, -1).transpose(1, 2).flatten(0, 1)
        features = self.cnn(epochs)
        summed = F.relu(self.shortcut_norm(self.shortcut(features))).reshape(batch_size, n_steps, -1)
        features = features.reshape(batch_size, n_steps, -1)
        outputs, forward_state = self.forward_stack(self.forward_stack.lower.project(features), state[:4])
        if self.backward_stack is not None:
            stack = self.backward_stack
            projected = stack.lower.project(features.flip(1))
            outputs = torch.cat((outputs, stack(projected, stack.initial_state(batch_size))[0].flip(1)), dim=2)
        return self.classify(summed + outputs), (*forward_state, *state[4:])

    def look_back(self, stack: Stack, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the backward stack over windows ``(batch, n_steps, n_window, 4 * n_hidden)``, newest item first.

        Without `state` each window starts from zero. Else `state` is what the last chunk to close left, and the
        position of the next step in its chunk: windows of one chunk start from what the chunk before it left.
        """
        if not state:
            return backward_over(projected, lambda items: stack(items, stack.initial_state(items.shape[0]))[0]), ()
        *carried, position = state
        outputs = []
        for window in projected.unbind(1):
            hidden, left = stack(window.flip(1), tuple(carried))
            outputs.append(hidden.flip(1))
            position = (position + 1) % self.config.chunk_epochs
            carried = [torch.where(position == 0, new, old) for new, old in zip(left, carried, strict=True)]
        return torch.stack(outputs, dim=1), (*carried, position)

    def classify(self, summed: Tensor) -> Tensor:
        """Map sums ``(batch, n_steps, n_reads, n_sum)`` to logits."""
        logits: Tensor = self.head(F.dropout(summed, self.config.dropout, self.training))
        return logits

    def l2_kernels(self) -> list[nn.Parameter]:
        """Kernels that the published training decays (coefficient 1e-3)."""
        return self.cnn.l2_kernels(self.config.l2_on)


def batch_norm(n_features: int) -> nn.BatchNorm1d:
    """Batch normalisation with the published constants: decay 0.999, eps 1e-5, gain around 1."""
    norm = nn.BatchNorm1d(n_features, eps=1e-5, momentum=0.001)
    nn.init.normal_(norm.weight, mean=1.0, std=0.002)
    return norm


def truncated_normal(weight: Tensor, fan_in: int) -> None:
    """Initialise as published: normal with variance ``2 / fan_in``, cut at two standard deviations."""
    std = (2.0 / fan_in) ** 0.5
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def build(config: Config) -> DeepSleepNet:
    """Return an untrained network in evaluation mode."""
    return DeepSleepNet(config).eval()
