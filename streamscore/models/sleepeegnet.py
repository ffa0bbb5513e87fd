"""SleepEEGNet: a CNN over each epoch, then a sequence-to-sequence network with attention over ten epochs.

Source: Mousavi, Afghah and Acharya, "SleepEEGNet: automated sleep stage scoring with sequence to sequence deep
learning approach", PLoS ONE 2019; layers and constants from MODELS.md 6.2. An encoder LSTM reads the window; a
decoder LSTM then names its stages one by one, told each time the stage that it named before (greedy decoding).

Trainable parameters of the published size, H = 128 with a unidirectional encoder (256 for the decoder's units
with a bidirectional one); an LSTM layer has ``4 * units * (inputs + units + 1)``:

==================================================  =========  =============
part                                                      uni  bidirectional
==================================================  =========  =============
small CNN, kernels 50, 8, 8, 8, with bias             331,328        331,328
large CNN, kernels 400, 6, 6, 6, with bias            271,808        271,808
encoder, 3072 → 128 → 128 units per direction       1,770,496      3,540,992
decoder, 10 + 64 → H → H units                        235,520        864,256
memory layer of the attention, H × H                   16,384         65,536
attention layer, (H + H) × 64                          16,384         32,768
label embedding, 7 × 10                                    70             70
output, 64 × 7                                            448            448
total                                               2,642,438      5,107,206
==================================================  =========  =============
"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import Cell, SameConv1d, TfLstm, keras_start, same_length, same_max_pool, slide

ABOUT = About(
    title="SleepEEGNet",
    source="Mousavi et al., PLoS ONE 14, 2019",
    published=(
        "Sleep-EDF-39, 20-fold by subject, Fpz-Cz: accuracy 0.843, macro-F1 0.797",
        "Sleep-EDF-153, by subject, Fpz-Cz: accuracy 0.828, macro-F1 0.770",
        "both as quoted by SalientSleepNet's paper; training kept the epoch that was best on the test set",
    ),
    examples={
        "sleepeegnet": Example({}, "AASM5", 100.0, ("EEG",)),
        "sleepeegnet-bidirectional": Example({"bidirectional": True}, "AASM5", 100.0, ("EEG",)),
        "sleepeegnet-sliding": Example({"variant": "sliding"}, "AASM5", 100.0, ("EEG",)),
    },
)


class Config(BaseModel):
    """Arguments of :class:`SleepEegNet`.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz; kernel and stride of the first layers are ``int(sfreq / 2)`` and ``int(sfreq / 16)``
        in the small CNN, ``int(4 * sfreq)`` and ``int(sfreq / 2)`` in the large one. Published for 100 Hz.
    epoch_s, window_epochs
        Length of an epoch, and epochs of a window.
    n_filters
        Of the first layer of each CNN; the others have twice as many.
    n_hidden
        Units of each encoder layer and direction.
    n_attention, n_embedding
        Sizes of the attention layer and of the embedding of a stage.
    bidirectional
        False is the published code's default, True what the paper describes.
    variant
        ``"published"``: windows side by side, each scored once it is full. ``"sliding"``: the window ends at each
        epoch.
    lags_epochs
        Sliding variant only: which positions of the window are read, counted back from the newest, rising.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sfreq: float = Field(100.0, ge=32.0)
    n_channels: int = Field(1, ge=1)
    n_classes: int = Field(5, ge=2)
    epoch_s: float = Field(30.0, gt=0)
    window_epochs: int = Field(10, ge=1)
    n_filters: int = Field(64, ge=1)
    n_hidden: int = Field(128, ge=1)
    n_attention: int = Field(64, ge=1)
    n_embedding: int = Field(10, ge=1)
    bidirectional: bool = False
    variant: Literal["published", "sliding"] = "published"
    lags_epochs: tuple[int, ...] = (0,)
    dropout: float = Field(0.5, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _check_lags(self) -> Self:
        lags = list(self.lags_epochs)
        if self.variant == "published" and lags != [0]:
            raise ValueError("lags_epochs belongs to variant: sliding; the published one reads all positions")
        if not lags or lags != sorted(set(lags)) or lags[0] < 0 or lags[-1] >= self.window_epochs:
            raise ValueError(f"lags_epochs {lags} must rise, from 0 to {self.window_epochs - 1} at most")
        return self


class Branch(nn.Module):
    """One of the two CNNs: ``(n, channels, samples)`` → ``(n, columns * filters)``, time-major."""

    def __init__(self, config: Config, kernels: tuple[int, int], stride: int, pools: tuple[int, int]) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.pools = pools
        n_first, n_later = config.n_filters, 2 * config.n_filters
        self.first = SameConv1d(config.n_channels, n_first, kernels[0], stride, bias=True)
        self.later = nn.ModuleList(
            SameConv1d(n_in, n_later, kernels[1], bias=True) for n_in in (n_first, n_later, n_later)
        )
        self.n_features = same_length(round(config.epoch_s * config.sfreq), stride, *pools) * n_later

    def forward(self, epochs: Tensor) -> Tensor:
        x = same_max_pool(F.relu(self.first(epochs)), self.pools[0])
        x = F.dropout(x, self.dropout, self.training)
        for conv in self.later:
            x = F.relu(conv(x))
        return same_max_pool(x, self.pools[1]).transpose(1, 2).flatten(1)


class EpochCnn(nn.Module):
    """Both CNNs over standardised epochs: ``(n, channels, samples)`` → ``(n, n_features)``, small CNN first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        sfreq = config.sfreq
        self.small = Branch(config, (int(sfreq / 2), 8), int(sfreq / 16), pools=(8, 4))
        self.large = Branch(config, (int(4 * sfreq), 6), int(sfreq / 2), pools=(4, 2))
        self.n_features = self.small.n_features + self.large.n_features

    def forward(self, epochs: Tensor) -> Tensor:
        std, mean = torch.std_mean(epochs, dim=2, correction=0, keepdim=True)
        # A flat epoch has no spread to divide by.
        x = (epochs - mean) / torch.where(std > 0, std, torch.ones_like(std))
        features = torch.cat((self.small(x), self.large(x)), dim=1)
        return F.dropout(features, self.dropout, self.training)


class Stack(nn.Module):
    """The two encoder layers of one direction."""

    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.lower = TfLstm(n_in, n_hidden)
        self.upper = TfLstm(n_hidden, n_hidden)

    def forward(self, projected: Tensor) -> tuple[Tensor, Cell, Cell]:
        """Run over what ``lower.project`` gave; return the outputs and the last state of each layer."""
        x, lower_state = self.lower.recur(projected, self.lower.initial_state(len(projected)))
        x, upper_state = self.upper(x, self.upper.initial_state(len(projected)))
        return x, lower_state, upper_state


class Encoder(nn.Module):
    """One direction or both, which never mix: each is stacked on its own."""

    def __init__(self, n_in: int, n_hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.ahead = Stack(n_in, n_hidden)
        self.back = Stack(n_in, n_hidden) if bidirectional else None
        n_directions = 2 if bidirectional else 1
        self.n_projected = n_directions * 4 * n_hidden
        self.n_out = n_directions * n_hidden

    def project(self, features: Tensor) -> Tensor:
        """Map ``(..., n_in)`` to what windows share, ``(..., n_projected)``."""
        ahead = self.ahead.lower.project(features)
        return ahead if self.back is None else torch.cat((ahead, self.back.lower.project(features)), dim=-1)

    def forward(self, projected: Tensor) -> tuple[Tensor, Cell, Cell]:
        """Read windows ``(n, window, n_projected)``.

        Returns
        -------
        memory
            ``(n, window, n_out)``.
        lower, upper
            State of each layer after its last step, ``(n, n_out)`` each.
        """
        if self.back is None:
            encoded: tuple[Tensor, Cell, Cell] = self.ahead(projected)
            return encoded
        forwards, backwards = projected.chunk(2, dim=2)
        ahead, *ahead_states = self.ahead(forwards)
        back, *back_states = self.back(backwards.flip(1))
        lower, upper = (
            (torch.cat((a[0], b[0]), dim=1), torch.cat((a[1], b[1]), dim=1))
            for a, b in zip(ahead_states, back_states, strict=True)
        )
        return torch.cat((ahead, back.flip(1)), dim=2), lower, upper


class Decoder(nn.Module):
    """Two LSTM layers with multiplicative attention (Luong) over what the encoder wrote.

    Its symbols are the classes, then start, then end.
    """

    def __init__(self, config: Config, n_memory: int) -> None:
        super().__init__()
        self.n_classes = config.n_classes
        n_symbols, n_attention = config.n_classes + 2, config.n_attention
        self.embedding = nn.Parameter(torch.empty(n_symbols, config.n_embedding))
        self.lower = TfLstm(config.n_embedding + n_attention, n_memory)
        self.upper = TfLstm(n_memory, n_memory)
        self.memory_layer = nn.Linear(n_memory, n_memory, bias=False)
        self.attention_layer = nn.Linear(2 * n_memory, n_attention, bias=False)
        self.output = nn.Linear(n_attention, n_symbols, bias=False)
        nn.init.uniform_(self.embedding, -1.0, 1.0)

    def forward(self, memory: Tensor, lower: Cell, upper: Cell, labels: Tensor | None = None) -> Tensor:
        """Name the symbols of windows.

        Parameters
        ----------
        memory, lower, upper
            From the encoder.
        labels
            True classes ``(n, window)``: the decoder is told these (teacher forcing), and is asked for one symbol
            more, the end. Without them it is told what it named itself.

        Returns
        -------
        Tensor
            Logits of all symbols, ``(n, window, n_symbols)``; with labels ``(n, window + 1, n_symbols)``.
        """
        keys = self.memory_layer(memory)
        symbol = torch.full(memory.shape[:1], self.n_classes, dtype=torch.int64, device=memory.device)
        attention = memory.new_zeros(memory.shape[0], self.attention_layer.out_features)
        outputs: list[Tensor] = []
        for position in range(memory.shape[1] + (labels is not None)):
            if position:
                symbol = outputs[-1].argmax(dim=1) if labels is None else labels[:, position - 1]
            x = torch.cat((self.embedding[symbol], attention), dim=1)
            lower = self.lower.step(self.lower.project(x), lower)
            upper = self.upper.step(self.upper.project(lower[1]), upper)
            query = upper[1]
            weights = torch.softmax((keys @ query[:, :, None])[:, :, 0], dim=1)
            context = (weights[:, None] @ memory)[:, 0]
            attention = self.attention_layer(torch.cat((query, context), dim=1))
            outputs.append(self.output(attention))
        return torch.stack(outputs, dim=1)


class SleepEegNet(ScoringModel):
    """The published network for any sampling rate; see the head of this file for its parameters.

    Published: a step is a window, nothing is carried. Sliding: a step is an epoch, and the state holds the input
    side of the encoder for the epochs that later windows will see again.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels, self.n_classes = config.n_channels, config.n_classes
        epoch = round(config.epoch_s * config.sfreq)
        window = config.window_epochs
        self.is_sliding = config.variant == "sliding"
        self.lags = config.lags_epochs if self.is_sliding else tuple(range(window))
        self.timing = Timing(
            step_samples=epoch if self.is_sliding else window * epoch,
            reads=tuple(Read(lag_samples=lag * epoch, warm_up_samples=window * epoch) for lag in self.lags),
            receptive_field_samples=window * epoch,
            epoch_samples=epoch,
        )
        self.cnn = EpochCnn(config)
        self.encoder = Encoder(self.cnn.n_features, config.n_hidden, config.bidirectional)
        self.decoder = Decoder(config, self.encoder.n_out)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                keras_start(module)

    def initial_state(self, batch_size: int) -> State:
        # The published variant carries nothing; a tensor without columns still tells the number of streams.
        shape = (self.config.window_epochs - 1, self.encoder.n_projected) if self.is_sliding else (0,)
        return (self.decoder.embedding.new_zeros(batch_size, *shape),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps, batch_size = self.check_input(x), x.shape[0]
        projected = self.read_epochs(x)
        if self.is_sliding:
            windows, past = slide(state[0], projected)
        else:
            windows = projected.reshape(batch_size, n_steps, self.config.window_epochs, -1)
            past = state[0].clone()
        logits = self.decoder(*self.encoder(windows.flatten(0, 1)))[:, :, : self.n_classes]
        newest = self.config.window_epochs - 1
        reads = torch.stack([logits[:, newest - lag] for lag in self.lags], dim=1)
        return reads.reshape(batch_size, n_steps, len(self.lags), self.n_classes), (past,)

    def read_epochs(self, x: Tensor) -> Tensor:
        """Map signals to what the encoder makes of each epoch alone, ``(batch, n_epochs, n_projected)``."""
        n_epochs = x.shape[2] // self.timing.epoch_samples
        epochs = x.reshape(x.shape[0], self.n_channels, n_epochs, -1).transpose(1, 2).flatten(0, 1)
        return self.encoder.project(self.cnn(epochs)).reshape(x.shape[0], n_epochs, -1)

    def teach(self, x: Tensor, labels: Tensor) -> Tensor:
        """Score whole windows with the true stages told, as in training.

        Parameters
        ----------
        x
            ``(n, n_channels, window samples)``.
        labels
            ``(n, window_epochs)``, classes.

        Returns
        -------
        Tensor
            Logits ``(n, window_epochs + 1, n_classes + 2)`` of the classes, start and end; after the stages the
            end is wanted, which is symbol ``n_classes + 1``.
        """
        logits: Tensor = self.decoder(*self.encoder(self.read_epochs(x)), labels=labels)
        return logits

    def l2_kernels(self) -> list[nn.Parameter]:
        """All weights but the biases, which the published training decays (coefficient 1e-3)."""
        return [weight for name, weight in self.named_parameters() if not name.endswith("bias")]


def build(config: Config) -> SleepEegNet:
    """Return an untrained network in evaluation mode."""
    return SleepEegNet(config).eval()
