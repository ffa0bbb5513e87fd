"""VGG16 and its ConvLSTM relatives on coloured images of a multitaper spectrogram.

Source: Baek's study of sleep staging with a VGG16 on spectrogram images after Vilamala et al. 2017; facts from
MODELS.md section 3. The network takes the raw EEG: the columns of the spectrogram are computed once, as their
samples arrive, and each step draws one image from the newest of them.
"""

from __future__ import annotations

from itertools import islice
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from streamscore.features.image_stream import Framing, ImageStream
from streamscore.features.multitaper import Multitaper
from streamscore.features.spectrogram_image import linear_table
from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import keras_start

#: Output channels of the convolutions in units of the first; a pool (0) follows each block.
LAYOUT = (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8, 0)
#: The five pools divide the image by this.
SHRINKAGE = 32
#: Images that pass through the network at once; it bounds the memory that a whole night takes.
BLOCK = 16


def _example(**args: object) -> Example:
    return Example(args, "RK6", 100.0, ("EEG",), "uV")


ABOUT = About(
    title="VGG16 and ConvLSTM on multitaper images",
    source="Baek, after Vilamala et al., 2017; Sleep-EDF",
    published=(
        "Sleep-EDF, 6 classes, fixed validation subjects 19 and 20, Fpz-Cz: VGG16 accuracy 0.770, macro-F1 0.688, "
        "kappa 0.694; ConvLSTM accuracy 0.766, macro-F1 0.642, kappa 0.685 (from its confusion matrices; dropout "
        "was active in the test)",
        "The 0.923 and 0.922 that the paper calls accuracy are means of one-vs-rest accuracies",
    ),
    examples={
        "vgg16": _example(),
        "vgg16-causal": _example(context_epochs=0, equalisation="running", last_columns="leave_out"),
        "convlstm": _example(head="convlstm"),
        "convlstm-recurrent": _example(head="convlstm_recurrent"),
    },
)


class Config(BaseModel):
    """Arguments of :class:`Vgg16`.

    Parameters
    ----------
    head
        ``"cnn"`` is VGG16's own, ``"convlstm"`` the ConvLSTM as published (one step from a zero state, no memory),
        ``"convlstm_recurrent"`` carries its state over consecutive epochs.
    context_epochs
        Epochs that the image shows before and after the one described: 2 as in the published code, 0 as in the
        text of the paper.
    last_columns
        A column is complete half a window after its centre. ``"wait"`` gives the image of the paper, later by
        half a window, rounded up to whole steps; ``"leave_out"`` stretches the columns that are complete.
    equalisation
        ``"stored"``: by a table in the weights, fitted on recordings; ``"calibration"``: fitted on the first
        `calibration_s` of the stream; ``"running"``: fitted on all that was seen so far; ``"fixed"``: linear
        between the limits `fixed_db` of ``10 log10(power + 1)``.
    stride_s
        From one output to the next; it divides `epoch_s`.
    column_step_s
        From one column to the next; ``None`` is 0.67 s with context and 0.13 s without.
    window_s, time_bandwidth, n_tapers, max_hz
        Of the spectrogram, see :class:`~streamscore.features.multitaper.Multitaper`.
    image_size
        Height and width of the image, a multiple of 32.
    n_filters
        Of the first convolutions; the last have 8 times as many.
    n_hidden
        Of the two hidden layers of the head ``"cnn"``; ``None`` is 4096.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: Literal["cnn", "convlstm", "convlstm_recurrent"] = "cnn"
    context_epochs: int = Field(2, ge=0)
    last_columns: Literal["wait", "leave_out"] = "wait"
    equalisation: Literal["stored", "calibration", "running", "fixed"] = "stored"
    calibration_s: float | None = Field(None, gt=0)
    fixed_db: tuple[float, float] | None = None
    n_classes: int = Field(6, ge=2)
    sfreq: float = Field(100.0, gt=0)
    epoch_s: float = Field(30.0, gt=0)
    stride_s: float = Field(30.0, gt=0)
    window_s: float = Field(3.0, gt=0)
    column_step_s: float | None = Field(None, gt=0)
    time_bandwidth: float = Field(3.0, gt=0)
    n_tapers: int = Field(5, ge=1)
    max_hz: float = Field(30.0, gt=0)
    image_size: int = Field(224, ge=SHRINKAGE, multiple_of=SHRINKAGE)
    n_filters: int = Field(64, ge=1)
    n_hidden: int | None = Field(None, ge=1)
    dropout: float = Field(0.5, ge=0.0, lt=1.0)

    def samples(self, seconds: float) -> int:
        """Whole samples nearest to a duration."""
        return round(seconds * self.sfreq)

    @property
    def column_step_samples(self) -> int:
        """Samples from one column to the next."""
        if self.column_step_s is not None:
            return self.samples(self.column_step_s)
        return self.samples(0.67 if self.context_epochs else 0.13)

    @model_validator(mode="after")
    def _arguments_belong_together(self) -> Self:
        for name, value, kind in (
            ("calibration_s", self.calibration_s, "calibration"),
            ("fixed_db", self.fixed_db, "fixed"),
        ):
            if (value is not None) != (self.equalisation == kind):
                raise ValueError(f"give {name} with equalisation {kind!r}, and only with it")
        if self.n_hidden is not None and self.head != "cnn":
            raise ValueError(f"n_hidden belongs to head 'cnn', the head is {self.head!r}: leave it out")
        if self.fixed_db is not None and self.fixed_db[0] >= self.fixed_db[1]:
            raise ValueError(f"fixed_db {self.fixed_db} must rise: (darkest, brightest)")
        return self

    @model_validator(mode="after")
    def _durations_fit(self) -> Self:
        for name in ("epoch_s", "stride_s"):
            n_samples = getattr(self, name) * self.sfreq
            if n_samples < 1 or abs(n_samples - round(n_samples)) > 1e-6:
                raise ValueError(
                    f"{name} {getattr(self, name)} is not a whole number of samples at {self.sfreq} Hz"
                )
        epoch, stride = self.samples(self.epoch_s), self.samples(self.stride_s)
        if epoch % stride:
            raise ValueError(f"stride_s {self.stride_s} must divide epoch_s {self.epoch_s}")
        window, step = self.samples(self.window_s), self.column_step_samples
        if not 1 <= step <= window or window + step > epoch:
            raise ValueError(
                f"a window of {window} samples every {step} samples must overlap and fit into an epoch of {epoch}"
            )
        if self.calibration_s is not None and self.calibration_s < self.epoch_s:
            raise ValueError(f"calibration_s {self.calibration_s} must be at least an epoch, {self.epoch_s} s")
        if self.n_tapers > 2 * self.time_bandwidth:
            raise ValueError(
                f"n_tapers {self.n_tapers} exceeds 2 * time_bandwidth: further tapers leak out of the band"
            )
        if self.max_hz > self.sfreq / 2:
            raise ValueError(f"max_hz {self.max_hz} is above half the sampling rate, {self.sfreq / 2} Hz")
        return self


def vgg_features(n_filters: int) -> nn.Sequential:
    """The 13 convolutions of VGG16-D, named as in torchvision (``0.weight`` … ``28.bias``)."""
    layers: list[nn.Module] = []
    n_in = 3
    for multiple in LAYOUT:
        if multiple:
            conv = nn.Conv2d(n_in, multiple * n_filters, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, conv.bias))
            layers += [conv, nn.ReLU()]
            n_in = multiple * n_filters
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class CnnHead(nn.Module):
    """VGG16's three fully connected layers, written as convolutions."""

    def __init__(self, n_in: int, map_size: int, n_hidden: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.fc6 = keras_start(nn.Conv2d(n_in, n_hidden, map_size))
        self.fc7 = keras_start(nn.Conv2d(n_hidden, n_hidden, 1))
        self.fc8 = keras_start(nn.Conv2d(n_hidden, n_classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, map_size, map_size)`` to logits ``(n, n_classes)``."""
        x = F.dropout(F.relu(self.fc6(features)), self.dropout, self.training)
        x = F.dropout(F.relu(self.fc7(x)), self.dropout, self.training)
        logits: Tensor = self.fc8(x).flatten(1)
        return logits


class ConvLstmHead(nn.Module):
    """ConvLSTM (kernel 7, gates i, j, f, o, forget bias 1 added at run time) and one fully connected layer."""

    FORGET_BIAS = 1.0
    PADDING = 3

    def __init__(self, n_in: int, map_size: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.n_in = n_in
        self.dropout = dropout
        self.gates = keras_start(nn.Conv2d(2 * n_in, 4 * n_in, 7, padding=self.PADDING))
        self.fc = keras_start(nn.Linear(n_in * map_size**2, n_classes))

    def project(self, features: Tensor) -> Tensor:
        """The features' part of the gates ``(n, 4 * n_in, map_size, map_size)``; it needs no state."""
        return F.conv2d(features, self.gates.weight[:, : self.n_in], self.gates.bias, padding=self.PADDING)

    def remember(self, projected: Tensor, cell: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One step: new cell and output, each ``(n, n_in, map_size, map_size)``."""
        recalled = F.conv2d(hidden, self.gates.weight[:, self.n_in :], padding=self.PADDING)
        i, j, f, o = (projected + recalled).chunk(4, dim=1)
        cell = torch.sigmoid(f + self.FORGET_BIAS) * cell + torch.sigmoid(i) * torch.tanh(j)
        return cell, torch.sigmoid(o) * torch.tanh(cell)

    def classify(self, hidden: Tensor) -> Tensor:
        """Map the output of the ConvLSTM to logits ``(n, n_classes)``."""
        logits: Tensor = self.fc(F.dropout(hidden, self.dropout, self.training).flatten(1))
        return logits

    def forward(self, features: Tensor) -> Tensor:
        """Logits of single images: one step from a zero state, where half of the gates' kernel has no effect."""
        i, j, _, o = self.project(features).chunk(4, dim=1)
        return self.classify(torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(j)))


class Vgg16(ScoringModel):
    """VGG16-D on spectrogram images; 134,285,126 parameters, with the ConvLSTM 117,627,718.

    Its state is that of :class:`~streamscore.features.image_stream.ImageStream` and, if the ConvLSTM remembers,
    its cell and output: a pair for each of the ``epoch_s / stride_s`` phases, since it steps from epoch to epoch.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = 1
        self.n_classes = config.n_classes
        self.images = _image_stream(config)
        framing = self.images.framing
        self.n_phases = framing.epoch // framing.stride
        self.remembers = config.head == "convlstm_recurrent"
        warm_up = max(framing.field, config.samples(config.calibration_s or 0.0))
        self.timing = Timing(
            step_samples=framing.stride,
            reads=(Read(framing.lag, warm_up),),
            receptive_field_samples=None if self.images.fits or self.remembers else framing.field,
            epoch_samples=framing.epoch,
        )
        self.features = vgg_features(config.n_filters)
        self.n_maps, self.map_size = max(LAYOUT) * config.n_filters, config.image_size // SHRINKAGE
        self.head: CnnHead | ConvLstmHead = (
            CnnHead(self.n_maps, self.map_size, config.n_hidden or 4096, config.n_classes, config.dropout)
            if config.head == "cnn"
            else ConvLstmHead(self.n_maps, self.map_size, config.n_classes, config.dropout)
        )

    def initial_state(self, batch_size: int) -> State:
        state = self.images.initial_state(batch_size)
        if not self.remembers:
            return state
        shape = (batch_size, self.n_phases, self.n_maps, self.map_size, self.map_size)
        cell = torch.zeros(shape, device=state[0].device)
        return *state, cell, torch.zeros_like(cell)

    def state_after_gap(self, state: State, n_missing_steps: int) -> State:
        """Keep the running counts: they describe the recording's power, not the moment."""
        fresh = self.initial_state(len(state[0]))
        if not self.images.counts_on:
            return fresh
        return *fresh[:3], state[3].clone(), *fresh[4:]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        # Levels have no gradient.
        images, image_state = self.images.push(x[:, 0].detach(), state)
        blocks = iter(lambda: list(islice(images, BLOCK)), [])
        per_image = torch.cat([self.score_images(torch.stack(block)) for block in blocks])
        per_step = per_image.reshape(x.shape[0], n_steps, *per_image.shape[1:])
        if not self.remembers:
            return per_step[:, :, None], image_state
        logits, memory = self._remember(per_step, n_seen=state[1][:, 0], memory=(state[-2], state[-1]))
        return logits[:, :, None], (*image_state, *memory)

    def score_images(self, images: Tensor) -> Tensor:
        """Map images ``(n, 3, image_size, image_size)`` to logits, or to gates if the ConvLSTM remembers.

        Values of 0 … 255 enter as they are, without subtraction of a mean, as published.
        """
        features = self.features(images)
        if self.remembers and isinstance(self.head, ConvLstmHead):
            return self.head.project(features)
        logits: Tensor = self.head(features)
        return logits

    def _remember(
        self, projected: Tensor, n_seen: Tensor, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the ConvLSTM from epoch to epoch in each phase; incomplete images leave no trace in it.

        Parameters
        ----------
        projected
            ``(batch, n_steps, 4 * n_maps, map_size, map_size)``.
        n_seen
            Samples seen before, ``(batch,)``.
        memory
            Cells and outputs, each ``(batch, n_phases, n_maps, map_size, map_size)``.
        """
        assert isinstance(self.head, ConvLstmHead)
        cells, outputs = (part.clone() for part in memory)
        rows = torch.arange(projected.shape[0], device=projected.device)
        phases = torch.arange(self.n_phases, device=projected.device)
        step, warm_up = self.timing.step_samples, self.timing.warm_up_samples
        logits = []
        for j in range(projected.shape[1]):
            end = n_seen + (j + 1) * step
            phase = end // step % self.n_phases
            cell, output = self.head.remember(projected[:, j], cells[rows, phase], outputs[rows, phase])
            logits.append(self.head.classify(output))
            is_kept = ((phases == phase[:, None]) & (end >= warm_up)[:, None])[:, :, None, None, None]
            cells = torch.where(is_kept, cell[:, None], cells)
            outputs = torch.where(is_kept, output[:, None], outputs)
        return torch.stack(logits, dim=1), (cells, outputs)


def _image_stream(config: Config) -> ImageStream:
    spectrogram = Multitaper(
        config.samples(config.window_s),
        config.column_step_samples,
        config.sfreq,
        config.max_hz,
        config.time_bandwidth,
        config.n_tapers,
    )
    epoch = config.samples(config.epoch_s)
    framing = Framing(
        epoch=epoch,
        context=config.context_epochs * epoch,
        stride=config.samples(config.stride_s),
        window=spectrogram.window_samples,
        column_step=spectrogram.step_samples,
        waits=config.last_columns == "wait",
    )
    low_db, high_db = config.fixed_db or (0.0, 10.0)
    return ImageStream(
        spectrogram,
        framing,
        config.image_size,
        table=linear_table(low_db / 10, high_db / 10),
        is_fitted=config.equalisation == "stored",
        fit_samples=None if config.equalisation == "running" else config.samples(config.calibration_s or 0.0),
    )


def build(config: Config) -> Vgg16:
    """Return an untrained network in evaluation mode."""
    return Vgg16(config).eval()
