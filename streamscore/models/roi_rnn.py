"""Recurrent networks over the traces of 50 regions of interest: run or rest from calcium imaging.

Source: Ajioka et al., "End-to-end deep learning approach to mouse behavior classification from cortex-wide
calcium imaging", PLoS Comput. Biol. 20(3): e1011074, 2024; layers and constants from MODELS.md 4.3, cells from
0.3. The cells are those of Keras in TensorFlow 1.15, which PyTorch's cannot express: hard sigmoid gates, and a
GRU that resets before it multiplies.

With a carried state they take any stream of features, one sample a step, and tell any number of classes: the
bundle ``mouse-bands`` scores sleep from the band powers of 4-s epochs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import keras_start, slide


def _example(**args: object) -> Example:
    return Example(args, "RUNREST", 30.0, tuple(f"ROI{k}" for k in range(1, 51)))


ABOUT = About(
    title="ROI-RNN run/rest decoders",
    source="Ajioka et al., PLoS Comput. Biol. 20(3), 2024",
    published=(
        "64 sessions of 5 mice, tested on the mouse left out (20 models): AUC GRU 0.974 ± 0.014, "
        "LSTM 0.970 ± 0.013, simple 0.953 ± 0.035",
        "the same, bidirectional: AUC GRU 0.974 ± 0.012, LSTM 0.960 ± 0.020, simple 0.967 ± 0.016",
        "the same, GRU without removal of the moving average: AUC 0.911 ± 0.057",
    ),
    examples={
        "roi-gru": _example(),
        "roi-lstm": _example(cell="lstm"),
        "roi-simple": _example(cell="simple"),
        "roi-bi-gru": _example(direction="bi"),
        "roi-bi-lstm": _example(cell="lstm", direction="bi"),
        "roi-bi-simple": _example(cell="simple", direction="bi"),
        "roi-gru-causal": _example(variant="causal"),
        "roi-lstm-causal": _example(cell="lstm", variant="causal"),
        "roi-simple-causal": _example(cell="simple", variant="causal"),
        "roi-bi-gru-lookahead": _example(direction="bi", variant="lookahead", look_ahead_s=0.5),
        "roi-bi-lstm-lookahead": _example(cell="lstm", direction="bi", variant="lookahead", look_ahead_s=0.5),
        "roi-bi-simple-lookahead": _example(cell="simple", direction="bi", variant="lookahead", look_ahead_s=0.5),
    },
)


class Config(BaseModel):
    """Arguments of :class:`RoiRnn`.

    Parameters
    ----------
    cell, direction
        The six published networks: a simple recurrent layer, a GRU or an LSTM, in one or both directions.
    variant
        ``"published"``: a window of `half_window_frames` on either side of the frame described, from a zero
        state. ``"causal"``: carried state, no look-ahead. ``"lookahead"``: carried state forwards, and backwards
        from a zero state over `look_ahead_s`.
    sfreq
        Frames a second.
    recurrent_activation
        Of the gates; the published networks have the ``"hard_sigmoid"`` ``clip(0.2 x + 0.5, 0, 1)``.
    look_ahead_s, max_look_ahead_s
        Look-ahead at run time, and the longest that the weights were trained for.
    n_classes
        Two are told by one log-odds, as published; more, with a carried state only, by a logit each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: Literal["simple", "gru", "lstm"] = "gru"
    direction: Literal["uni", "bi"] = "uni"
    variant: Literal["published", "causal", "lookahead"] = "published"
    n_channels: int = Field(50, ge=1)
    sfreq: float = Field(30.0, gt=0)
    n_hidden: int = Field(32, ge=1)
    half_window_frames: int = Field(15, ge=1)
    recurrent_activation: Literal["hard_sigmoid", "sigmoid"] = "hard_sigmoid"
    look_ahead_s: float = Field(0.0, ge=0)
    max_look_ahead_s: float = Field(0.5, ge=0)
    n_classes: int = Field(2, ge=2)

    @property
    def look_ahead_frames(self) -> int:
        """Whole frames of `look_ahead_s`; a hundredth is forgiven, as frame rates have no finite period."""
        return int(self.look_ahead_s * self.sfreq + 0.01)

    @model_validator(mode="after")
    def _check_variant(self) -> Self:
        wanted = {"causal": "uni", "lookahead": "bi"}.get(self.variant, self.direction)
        if self.direction != wanted:
            raise ValueError(f"variant {self.variant!r} is for direction {wanted!r}, not {self.direction!r}")
        if self.variant != "lookahead" and self.look_ahead_s > 0:
            raise ValueError(f"look_ahead_s is for variant 'lookahead'; it must be 0 with {self.variant!r}")
        if self.variant == "published" and self.n_classes != 2:
            raise ValueError(
                f"the published networks tell 2 classes, not {self.n_classes}; choose variant 'causal' or "
                "'lookahead'"
            )
        if self.look_ahead_s > self.max_look_ahead_s:
            raise ValueError(
                f"look_ahead_s {self.look_ahead_s:g} is longer than max_look_ahead_s {self.max_look_ahead_s:g}; "
                "choose a smaller look_ahead_s or a bundle trained for more"
            )
        return self

    @model_validator(mode="after")
    def _refuse_what_would_be_ignored(self) -> Self:
        fields, unused = type(self).model_fields, set()
        if self.variant != "published":
            unused.add("half_window_frames")
        if self.variant != "lookahead":
            unused.add("max_look_ahead_s")
        if self.cell == "simple":
            unused.add("recurrent_activation")
        given = sorted(name for name in unused if getattr(self, name) != fields[name].default)
        if given:
            raise ValueError(
                f"{', '.join(given)} would be ignored with cell {self.cell!r} and variant {self.variant!r}; "
                "leave it out"
            )
        return self


def hard_sigmoid(x: Tensor) -> Tensor:
    """The piecewise linear gate of TensorFlow 1's Keras; Keras 3 and PyTorch give its name to another function."""
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


class KerasCell(nn.Module, ABC):
    """A recurrent cell of Keras, with its input side apart, so that each input is projected once.

    ``weight_x`` (n_in, gates * n_hidden), ``weight_h`` (n_hidden, gates * n_hidden) and ``bias`` are the arrays
    of Keras as they are. The first tensor of a cell's state is its output.
    """

    n_gates: int
    n_state = 1

    def __init__(self, n_in: int, n_hidden: int, recurrent_activation: str) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.gate = hard_sigmoid if recurrent_activation == "hard_sigmoid" else torch.sigmoid
        self.weight_x = nn.Parameter(torch.empty(n_in, self.n_gates * n_hidden))
        self.weight_h = nn.Parameter(torch.empty(n_hidden, self.n_gates * n_hidden))
        self.bias = nn.Parameter(torch.zeros(self.n_gates * n_hidden))
        nn.init.xavier_uniform_(self.weight_x)
        nn.init.orthogonal_(self.weight_h)

    @property
    def n_projected(self) -> int:
        """Width of :meth:`project`."""
        return self.n_gates * self.n_hidden

    def initial_state(self, batch_size: int) -> State:
        """Zeros, each ``(batch, n_hidden)``."""
        return tuple(self.bias.new_zeros(batch_size, self.n_hidden) for _ in range(self.n_state))

    def project(self, x: Tensor) -> Tensor:
        """What `x` (..., n_in) adds to the gates, ``(..., n_gates * n_hidden)``."""
        return x @ self.weight_x + self.bias

    @abstractmethod
    def step(self, projected: Tensor, state: State) -> State:
        """Take in one projected input ``(..., n_gates * n_hidden)``."""

    def last_output(self, inputs: Sequence[Tensor]) -> Tensor:
        """Take in projected inputs, each ``(..., n_gates * n_hidden)``, from a zero state; return the output."""
        zero = inputs[0].new_zeros(*inputs[0].shape[:-1], self.n_hidden)
        state: State = (zero,) * self.n_state
        for projected in inputs:
            state = self.step(projected, state)
        return state[0]


class SimpleCell(KerasCell):
    """``h' = tanh(x W + h U + b)``."""

    n_gates = 1

    def step(self, projected: Tensor, state: State) -> State:
        return (torch.tanh(projected + state[0] @ self.weight_h),)


class GruCell(KerasCell):
    """GRU with ``reset_after=False``; gates in the order z (update), r (reset), candidate."""

    n_gates = 3

    def step(self, projected: Tensor, state: State) -> State:
        (hidden,) = state
        n_inner = 2 * self.n_hidden
        update, reset = self.gate(projected[..., :n_inner] + hidden @ self.weight_h[:, :n_inner]).chunk(2, dim=-1)
        candidate = torch.tanh(projected[..., n_inner:] + (reset * hidden) @ self.weight_h[:, n_inner:])
        return (update * hidden + (1.0 - update) * candidate,)


class LstmCell(KerasCell):
    """LSTM; gates in the order i, f, candidate, o. The bias of f starts at 1."""

    n_gates = 4
    n_state = 2

    def __init__(self, n_in: int, n_hidden: int, recurrent_activation: str) -> None:
        super().__init__(n_in, n_hidden, recurrent_activation)
        nn.init.ones_(self.bias[n_hidden : 2 * n_hidden])

    def step(self, projected: Tensor, state: State) -> State:
        hidden, memory = state
        i, f, candidate, o = (projected + hidden @ self.weight_h).chunk(4, dim=-1)
        memory = self.gate(f) * memory + self.gate(i) * torch.tanh(candidate)
        return self.gate(o) * torch.tanh(memory), memory


CELLS: dict[str, type[SimpleCell] | type[GruCell] | type[LstmCell]] = {
    "simple": SimpleCell,
    "gru": GruCell,
    "lstm": LstmCell,
}


class RoiRnn(ScoringModel):
    """Weights of all variants; what each does with them is in its own class below.

    Parameters by cell: simple 2,689, GRU 8,001, LSTM 10,657; bidirectional 5,377, 16,001 and 21,313.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = config.n_channels
        self.n_classes = config.n_classes
        sizes = config.n_channels, config.n_hidden, config.recurrent_activation
        self.forward_cell = CELLS[config.cell](*sizes)
        if config.direction == "bi":
            self.backward_cell = CELLS[config.cell](*sizes)
        n_features = config.n_hidden * (2 if config.direction == "bi" else 1)
        self.head = keras_start(nn.Linear(n_features, config.n_classes if config.n_classes > 2 else 1))

    def carry_on(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the forward cell from `state` over frames ``(batch, n, n_channels)``; return its outputs."""
        cell, outputs = self.forward_cell, []
        for projected in cell.project(frames).unbind(1):
            state = cell.step(projected, state)
            outputs.append(state[0])
        return torch.stack(outputs, dim=1), state

    def logits(self, hidden: Tensor) -> Tensor:
        """One logit a class; of two classes, those whose softmax is the logistic of the log-odds of the second."""
        if self.n_classes > 2:
            logits: Tensor = self.head(hidden)
            return logits
        log_odds = self.head(hidden)
        return torch.cat((-log_odds / 2, log_odds / 2), dim=-1)


class WindowedRoiRnn(RoiRnn):
    """The published form: each frame is scored in the middle of a window that is run from a zero state.

    So the recurrent part is run anew for each frame; the projections of the frames are kept.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        half = config.half_window_frames
        window = 2 * half + 1
        self.timing = Timing(1, (Read(half, warm_up_samples=window),), receptive_field_samples=window)

    def initial_state(self, batch_size: int) -> State:
        """Projections of the frames of the windows to come."""
        width = sum(cell.n_projected for cell in self._cells())
        return (self.head.bias.new_zeros(batch_size, 2 * self.config.half_window_frames, width),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        frames = x.transpose(1, 2)
        cells = self._cells()
        windows, past = slide(state[0], torch.cat([cell.project(frames) for cell in cells], dim=-1))
        inputs = [part.unbind(2) for part in torch.split(windows, [cell.n_projected for cell in cells], dim=-1)]
        # Keras joins the output that each direction gives last: the backward one at the oldest frame.
        hidden = [cells[0].last_output(inputs[0])]
        if len(cells) == 2:
            hidden.append(cells[1].last_output(inputs[1][::-1]))
        return self.logits(torch.cat(hidden, dim=-1))[:, :, None], (past,)

    def _cells(self) -> list[KerasCell]:
        return [self.forward_cell, self.backward_cell] if self.config.direction == "bi" else [self.forward_cell]


class CausalRoiRnn(RoiRnn):
    """A carried state and no look-ahead."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.timing = Timing(1, (Read(0, warm_up_samples=1),), receptive_field_samples=None)

    def initial_state(self, batch_size: int) -> State:
        return self.forward_cell.initial_state(batch_size)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        hidden, state = self.carry_on(x.transpose(1, 2), state)
        return self.logits(hidden)[:, :, None], state


class LookAheadRoiRnn(RoiRnn):
    """A carried forward state, and a backward run from zero over the look-ahead.

    A frame is read twice: provisionally as the newest, with a backward run over itself alone, and finally when
    the look-ahead has come in.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        lags = sorted({0, config.look_ahead_frames})
        self.timing = Timing(1, tuple(Read(lag, lag + 1) for lag in lags), receptive_field_samples=None)

    def initial_state(self, batch_size: int) -> State:
        """State of the forward cell; of the frames within the look-ahead, its outputs and what runs backwards."""
        width = self.config.n_hidden + self.backward_cell.n_projected
        past = self.head.bias.new_zeros(batch_size, self.config.look_ahead_frames, width)
        return *self.forward_cell.initial_state(batch_size), past

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        *carried, past = state
        frames = x.transpose(1, 2)
        outputs, new = self.carry_on(frames, tuple(carried))
        windows, past = slide(past, torch.cat((outputs, self.backward_cell.project(frames)), dim=-1))
        described, ahead = torch.split(windows, [self.config.n_hidden, self.backward_cell.n_projected], dim=-1)
        newest_first = ahead.unbind(2)[::-1]
        reads = []
        for lag in (read.lag_samples for read in self.timing.reads):
            hidden = described[:, :, -1 - lag], self.backward_cell.last_output(newest_first[: lag + 1])
            reads.append(self.logits(torch.cat(hidden, dim=-1)))
        return torch.stack(reads, dim=2), (*new, past)


VARIANTS: dict[str, type[RoiRnn]] = {
    "published": WindowedRoiRnn,
    "causal": CausalRoiRnn,
    "lookahead": LookAheadRoiRnn,
}


def build(config: Config) -> RoiRnn:
    """Return an untrained network in evaluation mode."""
    return VARIANTS[config.variant](config).eval()
