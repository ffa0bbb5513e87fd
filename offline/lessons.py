"""What of a network is asked in training, and about which labelled steps.

``stream`` is the network as the engine runs it: ``model(x, state)``, and each of its reads is compared with the
step that it describes. Where the paper trains a part first, or trains what the engine never runs (a decoder that
is told the true stages), there is a lesson of its own. Adding one is adding a class to :data:`LESSONS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offline.examples import Batch
from offline.pictures import draw
from offline.sequences import Sequences
from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel, State, Timing
from streamscore.models.deepsleepnet import DeepSleepNet, PretrainNet
from streamscore.models.sleepeegnet import SleepEegNet
from streamscore.models.vgg16 import BLOCK, Vgg16


def grain_samples(timing: Timing) -> int:
    """Samples of a labelled step: the interval that an output describes, or a step where that is shorter."""
    return min(timing.epoch_samples, timing.step_samples)


def past_steps(timing: Timing) -> int:
    """Labelled steps that an output may describe before the one that is given with it."""
    return -(-timing.look_ahead_samples // grain_samples(timing))


class Lesson(nn.Module, ABC):
    """Asks a network about a batch.

    Attributes
    ----------
    model
        The network.
    carries
        Whether the answer depends on a state.
    needs
        Kind of network that it is for.
    """

    needs: ClassVar[type[ScoringModel]] = ScoringModel  # type: ignore[type-abstract]
    carries = False

    def __init__(self, model: ScoringModel) -> None:
        super().__init__()
        if not isinstance(model, self.needs):
            raise ConfigError(f"lesson for {self.needs.__name__} cannot teach {type(model).__name__}")
        self.model = model

    @abstractmethod
    def ask(self, model: ScoringModel, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        """Return logits ``(rows, m, n_classes)``, codes ``(rows, m)`` that they should tell, and the new state.

        Parameters
        ----------
        model
            The network of the lesson, or the same weights with another look-ahead.
        state
            Of the batch before; ``None`` where nothing came before.
        """

    def prepare(self, recordings: Sequence[Sequences], folder: Path) -> Sequence[Sequences]:
        """Return what batches are cut from.

        That is the recordings, or what a part of the network that has nothing to learn makes of them, kept in
        `folder`.
        """
        return recordings

    def kernels(self) -> list[Tensor]:
        """Weights that the L2 term is about."""
        named = getattr(self.model, "l2_kernels", None)
        return list(named()) if named else [p for p in self.model.parameters() if p.ndim > 1]


def _rows_afresh(model: ScoringModel, state: State | None, batch: Batch) -> State:
    """The state of a batch: carried where its rows go on, fresh where they begin."""
    fresh = model.initial_state(len(batch.x))
    # Other rows, or another look-ahead: all of them begin.
    if state is None or any(old.shape != new.shape for old, new in zip(state, fresh, strict=True)):
        return fresh
    begins = batch.seen == 0
    return tuple(
        torch.where(begins.reshape(-1, *(1,) * (old.ndim - 1)), new, old.detach())
        for old, new in zip(state, fresh, strict=True)
    )


class Stream(Lesson):
    """All reads of ``model(x, state)``, each against the step that it describes."""

    carries = True

    def ask(self, model: ScoringModel, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        timing, grain = model.timing, grain_samples(model.timing)
        logits, new = model(batch.x, _rows_afresh(model, state, batch))
        n_steps = logits.shape[1]
        ends = (torch.arange(n_steps, device=batch.x.device) + 1) * timing.step_samples  # (n_steps,)
        answers, codes = [], []
        for number, read in enumerate(timing.reads):
            described = (ends - read.lag_samples) // grain - 1 + batch.n_past  # column of y
            heard = batch.seen[:, None] * grain + ends >= read.warm_up_samples
            asked = ends > batch.first * grain
            if batch.length is not None:  # nothing is said about a step by the zeros behind it
                asked = asked & (ends <= batch.length[:, None] * grain)
            if timing.chunk_steps:
                chunk = timing.chunk_steps
                asked = asked & (ends // timing.step_samples % chunk == 0)
            told = batch.y[:, described.clamp(min=0)]
            codes.append(torch.where(heard & asked & (described >= 0), told, -1))
            answers.append(logits[:, :, number])
        return torch.cat(answers, dim=1), torch.cat(codes, dim=1), new


class Chunks(Lesson):
    """DeepSleepNet's chunks: the backward stack is run once over each, from the end, as it closes."""

    needs = DeepSleepNet
    carries = True

    def ask(self, model: ScoringModel, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        assert isinstance(model, DeepSleepNet)
        logits, new = model.score_chunk(batch.x, _rows_afresh(model, state, batch))
        return logits, batch.y[:, batch.n_past :], new


class EpochCnn(Lesson):
    """DeepSleepNet's first step: the CNNs alone, with a softmax layer that is thrown away afterwards."""

    needs = DeepSleepNet

    def __init__(self, model: ScoringModel) -> None:
        super().__init__(model)
        assert isinstance(model, DeepSleepNet)
        self.net = PretrainNet(model.config)
        self.net.cnn = model.cnn

    def ask(self, model: ScoringModel, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        rows, n_steps = len(batch.x), batch.n_steps
        epochs = batch.x.reshape(rows, batch.x.shape[1], n_steps, -1).transpose(1, 2).flatten(0, 1)
        return self.net(epochs).reshape(rows, n_steps, -1), batch.y[:, batch.n_past :], None

    def kernels(self) -> list[Tensor]:
        return list(self.net.l2_kernels())


class Decoder(Lesson):
    """SleepEEGNet's windows with the true stages told to the decoder; in validation it decodes by itself."""

    needs = SleepEegNet

    def ask(self, model: ScoringModel, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        assert isinstance(model, SleepEegNet)
        codes = batch.y[:, batch.n_past :]
        if not self.training:
            return Stream.ask(self, model, batch, None)  # type: ignore[arg-type]
        complete = (codes >= 0).all(dim=1)
        # A window with an unlabelled epoch cannot be told to the decoder; it is not asked about.
        told = torch.where(complete[:, None], codes, 0)
        logits = model.teach(batch.x, told)
        end = torch.where(complete, model.n_classes + 1, -1)[:, None]
        wanted = torch.where(complete[:, None], codes, -1)
        return logits, torch.cat((wanted, end), dim=1), None


class Primed(Lesson):
    """Frames before those asked about enter by the state, so that no image is computed for nothing."""

    def ask(self, model: ScoringModel, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        lag = model.timing.look_ahead_samples
        fresh = model.initial_state(len(batch.x))
        before, asked = batch.x[:, : batch.first], batch.x[:, batch.first :]
        if fresh[0].shape != before.shape:
            raise ConfigError(
                f"lesson primed: the network keeps {fresh[0].shape[1]} frames; set examples.context to that"
            )
        logits, _ = model(asked, (before, *fresh[1:]))
        n = logits.shape[1]
        last = batch.y.shape[1] - lag
        return logits[:, :, 0], batch.y[:, last - n : last], None


class Images(Lesson):
    """VGG16's pictures, each drawn once and kept on the disk: multitaper spectra have nothing to learn."""

    needs = Vgg16

    def __init__(self, model: ScoringModel) -> None:
        super().__init__(model)
        assert isinstance(model, Vgg16)
        if model.remembers:
            raise ConfigError(
                "lesson images: single pictures cannot teach head convlstm_recurrent, which steps from epoch to "
                "epoch; choose lesson stream, or head convlstm"
            )

    def prepare(self, recordings: Sequence[Sequences], folder: Path) -> Sequence[Sequences]:
        assert isinstance(self.model, Vgg16)
        return [draw(self.model, recording, folder) for recording in recordings]

    def ask(self, model: ScoringModel, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, State | None]:
        assert isinstance(model, Vgg16)
        pictures = batch.x.reshape(-1, 3, *batch.x.shape[2:])
        # What is not learnt from goes through in blocks, which bounds memory.
        blocks = torch.split(pictures, len(pictures) if self.training else BLOCK)
        logits = torch.cat([model.score_images(block) for block in blocks])
        return logits.reshape(len(batch.x), batch.n_steps, -1), batch.y[:, batch.n_past :], None


LESSONS: dict[str, type[Lesson]] = {
    "stream": Stream,
    "chunks": Chunks,
    "epoch_cnn": EpochCnn,
    "decoder": Decoder,
    "images": Images,
    "primed": Primed,
}


def make_lesson(kind: str, model: ScoringModel) -> Lesson:
    """Return the lesson called `kind`; raises ``ConfigError`` if there is none or it is not for this network."""
    if kind not in LESSONS:
        raise ConfigError(f"unknown lesson {kind!r}; choose one of {', '.join(LESSONS)}")
    return LESSONS[kind](model)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax in float32."""
    return F.softmax(logits.float(), dim=-1)
