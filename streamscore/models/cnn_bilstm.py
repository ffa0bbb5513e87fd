"""CNN-BiLSTM with attention for wide-field calcium imaging: a CNN on each frame, an LSTM over frames.

Source: Zhang et al., "Attention-based CNN-BiLSTM for sleep state classification of spatiotemporal wide-field
calcium imaging data", J. Neurosci. Methods 411, 2024, and its code
(comp-imaging-sci/attention-based-bilstm-sleep-scoring, MIT); layers, constants and the side taken where paper and
code disagree from MODELS.md 1.1 to 1.6.

``published`` scores a window at its end: its normalisation, its backward LSTM and its attention all need the
whole of it. ``causal`` and ``lookahead`` get frames that the preprocessing chain has normalised, so that the
features of a frame never change: each frame goes through the CNN once, and attention looks back over cached
outputs of the LSTMs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import backward_over, keras_start, slide

#: Slope of Keras' ``LeakyReLU`` (MODELS.md 0.4).
LEAK = 0.3
#: Frames that go through the network at a time: more are no quicker, but each needs 12 MB in the first block.
PIECE_FRAMES = 32


def _example(**args: object) -> Example:
    return Example(args, "MOUSE3", 16.8, ("calcium",))


ABOUT = About(
    title="Attention CNN-BiLSTM",
    source="Zhang et al., J. Neurosci. Methods 411, 2024",
    published=(
        "Mouse wide-field calcium imaging, random 80/10/10 split of epochs pooled over mice, 1,810 test epochs: "
        "accuracy 0.84, weighted F1 0.84, kappa 0.64; precision (recall) Wake 0.89 (0.88), NREM 0.71 (0.74), "
        "REM 0.83 (0.68)",
        "One recording of a mouse held out: kappa 0.67 (two human scorers: 0.65)",
    ),
    examples={
        "cnn-bilstm": _example(),
        "cnn-bilstm-15s": _example(context_frames=42),
        "cnn-bilstm-20s": _example(context_frames=84),
        "cnn-bilstm-32-units": _example(n_hidden=32),
        "cnn-bilstm-paper-attention": _example(attention="paper"),
        "cnn-bilstm-causal": _example(variant="causal"),
        "cnn-bilstm-lookahead": _example(variant="lookahead", look_ahead_s=5.0, max_look_ahead_s=10.0),
    },
)


class Config(BaseModel):
    """Arguments of the network.

    Parameters
    ----------
    variant
        ``"published"``, ``"causal"`` or ``"lookahead"``, see the module.
    attention
        ``"code"`` compares each frame with the item that is read, ``"paper"`` weighs each frame by itself.
    sfreq
        Frames per second; it turns a look-ahead into frames.
    frame_shape
        ``(height, width)`` in pixels.
    epoch_frames
        Frames of the interval that an output describes; 168 are 10 s at 16.8 Hz.
    context_frames
        Of ``published``: frames that the window adds on each side of the epoch, 42 for the 15-s and 84 for the
        20-s window. It divides `epoch_frames`.
    attention_frames
        Of ``causal`` and ``lookahead``: frames that attention looks back over, the newest included.
    look_ahead_s, max_look_ahead_s
        Of ``lookahead``: the look-ahead chosen at the rig, and the longest that the weights were trained for.
    n_filters, n_blocks, n_hidden
        Of each convolution; pairs of convolutions; LSTM units per direction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Literal["published", "causal", "lookahead"] = "published"
    attention: Literal["code", "paper"] = "code"
    sfreq: float = Field(16.8, gt=0)
    frame_shape: tuple[int, int] = (128, 128)
    n_classes: int = Field(3, ge=2)
    epoch_frames: int = Field(168, ge=1)
    context_frames: int = Field(0, ge=0)
    attention_frames: int = Field(168, ge=2)
    look_ahead_s: float = Field(0.0, ge=0)
    max_look_ahead_s: float = Field(0.0, ge=0)
    n_filters: int = Field(64, ge=1)
    n_blocks: int = Field(5, ge=1)
    n_hidden: int = Field(64, ge=1)
    dropout: float = Field(0.2, ge=0.0, lt=1.0)

    @property
    def look_ahead_frames(self) -> int:
        """Whole frames of `look_ahead_s`; a hundredth is forgiven, as frame rates have no finite period."""
        return int(self.look_ahead_s * self.sfreq + 0.01)

    @model_validator(mode="after")
    def _frames_survive_the_pools(self) -> Config:
        smallest = 2 ** (self.n_blocks - 1)
        if min(self.frame_shape) < smallest:
            raise ValueError(
                f"frame_shape {self.frame_shape} is too small for {self.n_blocks} blocks; "
                f"give at least {smallest} pixels a side or fewer blocks"
            )
        return self

    @model_validator(mode="after")
    def _context_is_whole_steps(self) -> Config:
        if self.context_frames and self.variant != "published":
            raise ValueError(
                f"context_frames {self.context_frames} belongs to variant 'published'; "
                f"for variant {self.variant!r} leave it 0"
            )
        if self.context_frames and self.epoch_frames % self.context_frames:
            raise ValueError(
                f"context_frames {self.context_frames} does not divide epoch_frames {self.epoch_frames}; "
                "choose a divisor, so that epochs are whole steps"
            )
        return self

    @model_validator(mode="after")
    def _look_ahead_is_possible(self) -> Config:
        if self.variant != "lookahead" and (self.look_ahead_s or self.max_look_ahead_s):
            raise ValueError(
                f"look_ahead_s {self.look_ahead_s:g} and max_look_ahead_s {self.max_look_ahead_s:g} belong to "
                f"variant 'lookahead'; for variant {self.variant!r} leave them 0"
            )
        if (
            self.variant == "published"
            and self.attention_frames != type(self).model_fields["attention_frames"].default
        ):
            raise ValueError(
                "attention_frames belongs to the streaming variants and would be ignored; leave it out"
            )
        if self.look_ahead_s > self.max_look_ahead_s:
            raise ValueError(
                f"look_ahead_s {self.look_ahead_s:g} is more than max_look_ahead_s {self.max_look_ahead_s:g}; "
                "choose a smaller look_ahead_s or a bundle trained for more"
            )
        return self


class FirstConv(nn.Conv2d):
    """Convolution of frames of one channel, given a second channel of zeros.

    With one channel torch cannot tell in which order values lie in memory, and leaves the filters of a pixel
    apart, which the next layer has to undo.
    """

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(n, 1, height, width)`` to ``(n, n_filters, height, width)``, the filters of a pixel together."""
        two = F.pad(frames.permute(0, 2, 3, 1), (0, 1)).permute(0, 3, 1, 2)
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, 1)).contiguous(memory_format=torch.channels_last)
        return F.conv2d(two, weight, self.bias, padding=1)


class FrameCnn(nn.Module):
    """Blocks of two convolutions with a pool between them; the mean over the last map is the frame's feature."""

    def __init__(self, n_filters: int, n_blocks: int) -> None:
        super().__init__()
        convs: list[nn.Conv2d] = [FirstConv(1, n_filters, 3)]
        convs += [nn.Conv2d(n_filters, n_filters, 3, padding=1) for _ in range(2 * n_blocks - 1)]
        for conv in convs:
            keras_start(conv)
            # With the filters of a pixel together a CPU convolves a tenth quicker.
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.convs = nn.ModuleList(convs)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames ``(n, height, width)`` to features ``(n, n_filters)``."""
        x = frames[:, None]
        last = len(self.convs) - 1
        for k, conv in enumerate(self.convs):
            x = conv(x)
            if k % 2 and k != last:
                # Before the rectifier, which is monotone: the same values, from a quarter of them.
                x = F.max_pool2d(x, 2)
            x = F.leaky_relu_(x, LEAK)
        return x.mean(dim=(2, 3))


class QueryAttention(nn.Module):
    """The code's attention: ``score_i = scale · tanh(W1 query + W2 value_i)``, softmax over the items.

    An *entry* is a value followed by what its score needs of it, which is computed once and cached.
    """

    def __init__(self, n_values: int) -> None:
        super().__init__()
        self.n_values = n_values
        self.n_entry = 2 * n_values
        self.of_query = keras_start(nn.Linear(n_values, n_values, bias=False))
        self.of_value = keras_start(nn.Linear(n_values, n_values, bias=False))
        bound = (3.0 / n_values) ** 0.5
        self.scale = nn.Parameter(torch.empty(n_values).uniform_(-bound, bound))

    def entries(self, values: Tensor) -> Tensor:
        """Map values ``(..., n_values)`` to entries ``(..., n_entry)``."""
        return torch.cat((values, self.of_value(values)), dim=-1)

    def forward(self, query: Tensor, entries: Tensor) -> Tensor:
        """Read entries ``(..., items, n_entry)`` with a query ``(..., n_values)``; return as many values."""
        values, keys = entries.tensor_split((self.n_values,), dim=-1)
        scores = torch.tanh(self.of_query(query)[..., None, :] + keys) @ self.scale
        return (torch.softmax(scores, dim=-1)[..., None, :] @ values).squeeze(-2)


class QueryFreeAttention(nn.Module):
    """The paper's attention: ``score_i = tanh(w · value_i + b)``, softmax over the items; it has no query."""

    def __init__(self, n_values: int) -> None:
        super().__init__()
        self.n_values = n_values
        self.n_entry = n_values + 1
        self.of_value = keras_start(nn.Linear(n_values, 1))

    def entries(self, values: Tensor) -> Tensor:
        """Map values ``(..., n_values)`` to entries ``(..., n_entry)``."""
        return torch.cat((values, torch.tanh(self.of_value(values))), dim=-1)

    def forward(self, query: Tensor, entries: Tensor) -> Tensor:
        """Read entries ``(..., items, n_entry)``; return ``(..., n_values)``. The query is not looked at."""
        values, scores = entries.tensor_split((self.n_values,), dim=-1)
        return (torch.softmax(scores, dim=-2).mT @ values).squeeze(-2)


def keras_lstm(n_in: int, n_hidden: int) -> nn.LSTM:
    """LSTM with Keras' start values and its single bias: the second one that PyTorch has stays 0, untrained."""
    lstm = nn.LSTM(n_in, n_hidden, batch_first=True)
    nn.init.xavier_uniform_(lstm.get_parameter("weight_ih_l0"))
    nn.init.orthogonal_(lstm.get_parameter("weight_hh_l0"))
    bias = nn.init.zeros_(lstm.get_parameter("bias_ih_l0"))
    nn.init.ones_(bias[n_hidden : 2 * n_hidden])  # of the forget gate
    nn.init.zeros_(lstm.get_parameter("bias_hh_l0").requires_grad_(False))
    return lstm


def z_score(windows: Tensor) -> Tensor:
    """Standardise each pixel of ``(n, frames, height, width)`` over the frames, with the population's variance.

    Pixels that do not vary, or are not numbers, become 0.
    """
    centred = windows - windows.mean(dim=1, keepdim=True)
    std = centred.square().mean(dim=1, keepdim=True).sqrt()
    # Rounding gives a constant pixel a variance, so that it has to be told by its extremes.
    varies = (windows.amax(dim=1, keepdim=True) > windows.amin(dim=1, keepdim=True)) & (std > 0)
    return torch.where(varies, centred / std, 0.0)


class CnnBilstm(ScoringModel):
    """The layers, which all variants share; ``causal`` has no backward LSTM."""

    n_channels = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_classes = config.n_classes
        self.frame_shape = config.frame_shape
        self.cnn = FrameCnn(config.n_filters, config.n_blocks)
        self.forward_lstm = keras_lstm(config.n_filters, config.n_hidden)
        n_values = config.n_hidden
        if config.variant != "causal":
            self.backward_lstm = keras_lstm(config.n_filters, config.n_hidden)
            n_values *= 2
        self.attention = QueryAttention(n_values) if config.attention == "code" else QueryFreeAttention(n_values)
        self.head = keras_start(nn.Linear(n_values, config.n_classes))

    def features(self, movie: Tensor) -> Tensor:
        """Map a movie ``(batch, frames, height, width)`` to the features of its frames."""
        pieces = torch.split(movie.flatten(0, 1), PIECE_FRAMES)
        features = torch.cat([self.cnn(piece) for piece in pieces])
        return features.reshape(*movie.shape[:2], -1)

    def feature_mask(self, batch_size: int) -> Tensor:
        """Dropout of features ``(batch, 1, n_filters)``: the same ones for all time steps."""
        ones = self.head.weight.new_ones(batch_size, 1, self.config.n_filters)
        return F.dropout(ones, self.config.dropout, self.training)

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros of the network's type and device."""
        return self.head.weight.new_zeros(shape)

    def backward_from_zero(self, items: Tensor) -> Tensor:
        """Run the backward LSTM over ``(n, items, n_filters)`` in the order given."""
        hidden: Tensor = self.backward_lstm(items)[0]
        return hidden

    def read(self, query: Tensor, entries: Tensor) -> Tensor:
        """Logits ``(..., n_classes)`` of what attention finds among `entries`."""
        context = self.attention(query, entries)
        logits: Tensor = self.head(F.dropout(context, self.config.dropout, self.training))
        return logits


class Published(CnnBilstm):
    """The paper's network: a window, of an epoch and its context, each time an epoch can end.

    Its state is the raw frames that the next window shares with this one: their features are of no use there,
    as every window has a normalisation of its own. Frames before the start of the stream are zeros, as in the
    published code, and take part in the normalisation.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.window_frames = config.epoch_frames + 2 * config.context_frames
        self.timing = Timing(
            step_samples=config.context_frames or config.epoch_frames,
            reads=(Read(config.context_frames, warm_up_samples=self.window_frames),),
            receptive_field_samples=self.window_frames,
            epoch_samples=config.epoch_frames,
        )

    def initial_state(self, batch_size: int) -> State:
        n_past = self.window_frames - self.timing.step_samples
        return (self.zeros(batch_size, n_past, *self.config.frame_shape),)

    def score(self, windows: Tensor) -> Tensor:
        """Map windows ``(n, frames, height, width)`` to logits ``(n, n_classes)``."""
        features = self.features(z_score(windows)) * self.feature_mask(windows.shape[0])
        forwards: Tensor = self.forward_lstm(features)[0]
        backwards = self.backward_from_zero(features.flip(1)).flip(1)
        # Each direction's final output: that of the forward one at the newest frame, of the other at the oldest.
        query = torch.cat((forwards[:, -1], backwards[:, 0]), dim=1)
        return self.read(query, self.attention.entries(torch.cat((forwards, backwards), dim=2)))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        (past,) = state
        step = self.timing.step_samples
        rows = []
        for new in torch.split(x, step, dim=1):
            window = torch.cat((past, new), dim=1)
            rows.append(self.score(window))
            past = window[:, step:]
        return torch.stack(rows, dim=1)[:, :, None], (past.clone(),)


class Streaming(CnnBilstm):
    """What ``causal`` and ``lookahead`` share: one frame a step, each through the CNN once."""

    @abstractmethod
    def advance(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """Map features ``(batch, frames, n_filters)`` of new frames to what :meth:`forward` returns."""

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        mask = self.feature_mask(x.shape[0])
        rows = []
        for piece in torch.split(x, PIECE_FRAMES, dim=1):
            logits, state = self.advance(self.features(piece) * mask, state)
            rows.append(logits)
        return torch.cat(rows, dim=1), state

    def run_forward(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the forward LSTM on; return its outputs and the new ``(batch, n_hidden)`` output and cell."""
        outputs, (hidden, cell) = self.forward_lstm(features, (hidden[None], cell[None]))
        return outputs, hidden[0], cell[0]


class Causal(Streaming):
    """No look-ahead: the newest output of the LSTM asks what the trailing window holds.

    State: output and cell of the LSTM; the cached entries of the window.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.timing = Timing(
            step_samples=1,
            reads=(Read(0, warm_up_samples=config.attention_frames),),
            receptive_field_samples=None,
            epoch_samples=config.epoch_frames,
        )

    def initial_state(self, batch_size: int) -> State:
        n_hidden, n_past = self.config.n_hidden, self.config.attention_frames - 1
        return (
            self.zeros(batch_size, n_hidden),
            self.zeros(batch_size, n_hidden),
            self.zeros(batch_size, n_past, self.attention.n_entry),
        )

    def advance(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, cell, past = state
        outputs, hidden, cell = self.run_forward(features, hidden, cell)
        windows, past = slide(past, self.attention.entries(outputs))
        return self.read(outputs, windows)[:, :, None], (hidden, cell, past)


class LookAhead(Streaming):
    """A carried forward LSTM, and a backward one from zero over the frames that follow.

    The item of a frame, both outputs side by side, is final when the frames of its look-ahead have come; it is
    then cached. The final read asks with the newest final item what the window that ends there holds. The
    provisional read does the same at the newest frame: its window ends with items whose backward half saw fewer
    frames.

    State: output and cell of the forward LSTM; features and forward outputs of the frames whose items are not
    final; the cached entries of those that are.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        n_frames, lag = config.attention_frames, config.look_ahead_frames
        reads = (Read(0, warm_up_samples=n_frames), Read(lag, warm_up_samples=n_frames + lag))
        self.timing = Timing(
            step_samples=1,
            reads=reads if lag else reads[:1],
            receptive_field_samples=None,
            epoch_samples=config.epoch_frames,
        )

    def initial_state(self, batch_size: int) -> State:
        config = self.config
        return (
            self.zeros(batch_size, config.n_hidden),
            self.zeros(batch_size, config.n_hidden),
            self.zeros(batch_size, config.look_ahead_frames, config.n_filters + config.n_hidden),
            self.zeros(batch_size, config.attention_frames - 1, self.attention.n_entry),
        )

    def advance(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, cell, pending, past = state
        outputs, hidden, cell = self.run_forward(features, hidden, cell)
        frames, pending = slide(pending, torch.cat((features, outputs), dim=2))
        frame_features, forwards = frames.tensor_split((self.config.n_filters,), dim=3)
        values = torch.cat((forwards, backward_over(frame_features, self.backward_from_zero)), dim=3)
        entries = self.attention.entries(values)
        windows, past = slide(past, entries[:, :, 0])
        logits = [self.read(values[:, :, 0], windows)]
        if self.config.look_ahead_frames:
            newest = torch.cat((windows, entries[:, :, 1:]), dim=2)[:, :, -self.config.attention_frames :]
            logits.insert(0, self.read(values[:, :, -1], newest))
        return torch.stack(logits, dim=2), (hidden, cell, pending, past)


VARIANTS: dict[str, type[CnnBilstm]] = {"published": Published, "causal": Causal, "lookahead": LookAhead}


def build(config: Config) -> CnnBilstm:
    """Return an untrained network in evaluation mode."""
    return VARIANTS[config.variant](config).eval()
