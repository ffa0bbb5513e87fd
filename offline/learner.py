"""A stage of a recipe as Lightning runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from offline.examples import Batch, Cut, Pass, Plan, plan, plan_in_order
from offline.lessons import Lesson, past_steps
from offline.losses import l2_of, loss_of
from offline.recipe import Optimizer, Stage
from offline.sequences import Sequences
from streamscore import metrics
from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel, State

#: Labelled steps of a validation recording that go through the network at a time, and recordings side by side.
_VALIDATED_STEPS = 64
_VALIDATED_ROWS = 8


class Learner(L.LightningModule):
    """Moves the weights of a lesson.

    Parameters
    ----------
    lesson
        What is asked.
    stage
        How it is trained.
    weights
        ``(n_classes,)`` of the classes.
    seed
        Of dropout, with pass and batch.
    views
        Networks with the same weights, one for each of the stage's look-aheads; none: that of the lesson.
    """

    weights: Tensor

    def __init__(
        self, lesson: Lesson, stage: Stage, weights: Tensor, seed: int, views: Sequence[ScoringModel] = ()
    ) -> None:
        super().__init__()
        self.lesson = lesson
        self.stage = stage
        self.seed = seed
        self.register_buffer("weights", weights)
        # In a tuple, so that their weights are not registered, saved and moved a second time.
        self._views = tuple(views)
        if stage.norm_momentum:
            for module in (module for network in (lesson, *views) for module in network.modules()):
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.momentum = stage.norm_momentum
        self._state: State | None = None
        self._confusion = np.zeros((lesson.model.n_classes,) * 2, np.int64)
        self._loss_sum, self._n_labels = 0.0, 0

    def view(self, number: int) -> ScoringModel:
        """The network with the look-ahead of this number; -1 is the last."""
        return self._views[number] if self._views else self.lesson.model

    def training_step(self, batch: Batch, index: int) -> Tensor:
        model = self.view(batch.look_ahead)
        logits, codes, self._state = self.lesson.ask(model, batch, self._state)
        loss = loss_of(self.stage.loss, logits, codes, self.weights)
        if not torch.isfinite(loss):
            raise ConfigError(
                f"stage {self.stage.name!r}: the loss became NaN or infinite in pass {self.current_epoch + 1}; "
                "lower optimizer.lr, set optimizer.clip_norm, or look for odd values with streamscore data check"
            )
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch.x))
        if self.stage.loss.l2:
            loss = loss + self.stage.loss.l2 * l2_of(self.lesson.kernels())
        return loss

    def on_fit_start(self) -> None:
        for model in self._views:
            model.to(self.device)

    def on_train_epoch_start(self) -> None:
        self._state = None
        # Networks are built for scoring, and Lightning leaves every module in the mode that it finds.
        self.train()
        for model in self._views:
            model.train()
        for module in self._still():
            module.eval()

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        # Dropout is a function of pass and batch, so that a resumed training is the same training.
        key = (self.seed, self.current_epoch, index, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        n_batches = max(int(self.trainer.num_training_batches), 1)
        progress = (self.current_epoch + index / n_batches) / self.stage.passes
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        for group in optimizer.param_groups:
            follow(self.stage.optimizer, group, progress)

    def on_validation_epoch_start(self) -> None:
        self._state = None
        self._confusion[:] = 0
        self._loss_sum, self._n_labels = 0.0, 0
        for model in self._views:
            model.eval()

    def validation_step(self, batch: Batch, index: int) -> None:
        if not bool((batch.seen > 0).any()):
            self._state = None
        logits, codes, self._state = self.lesson.ask(self.view(-1), batch, self._state)
        known = codes >= 0
        if not known.any():
            return
        n_labels = int(known.sum())
        self._loss_sum += n_labels * float(loss_of(self.stage.loss, logits, codes, self.weights))
        self._n_labels += n_labels
        n = self.lesson.model.n_classes
        said, truth = logits[known][:, :n].argmax(dim=1).cpu().numpy(), codes[known].cpu().numpy()
        inside = truth < n
        self._confusion += metrics.confusion_matrix(truth[inside], said[inside], n)

    def on_validation_epoch_end(self) -> None:
        # Where several processes train, each validates all recordings, so that there is nothing to gather.
        counts = self._confusion
        found = {
            "val_loss": self._loss_sum / self._n_labels if self._n_labels else math.inf,
            "val_accuracy": metrics.accuracy(counts),
            "val_kappa": metrics.cohen_kappa(counts),
            "val_macro_f1": metrics.macro_f1(counts),
        }
        # An undefined agreement (only one state in the validation recordings) counts as none; a loss never does.
        counted = {k: 0.0 if math.isnan(v) and k != "val_loss" else v for k, v in found.items()}
        self.log_dict({key: torch.tensor(value, dtype=torch.float32) for key, value in counted.items()})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.lesson, self.stage.optimizer)

    def _still(self) -> list[nn.Module]:
        """Parts whose learning rate is 0: their dropout and their statistics stand still, too."""
        prefixes = tuple(p for p, lr in self.stage.optimizer.lr_of.items() if lr == 0)
        if not prefixes:
            return []
        models = self._views or (self.lesson.model,)
        return [m for model in models for name, m in model.named_modules() if name and name.startswith(prefixes)]


def make_optimizer(lesson: Lesson, config: Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer; parameters of the network are grouped by learning rate, and by decay for AdamW."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    named = [(name.removeprefix("model."), p) for name, p in lesson.named_parameters()]
    for name, parameter in named:
        prefixes = [prefix for prefix in config.lr_of if name.startswith(prefix)]
        lr = config.lr_of[max(prefixes, key=len)] if prefixes else config.lr
        parameter.requires_grad_(lr > 0)
        decay = config.weight_decay if parameter.ndim > 1 and "norm" not in name else 0.0
        if lr > 0:
            groups.setdefault((lr, decay), []).append(parameter)
    listed = [
        {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]
    if config.kind == "rmsprop":
        return torch.optim.RMSprop(listed, lr=config.lr, alpha=config.betas[1], eps=config.eps)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(listed, lr=config.lr, betas=config.betas, eps=config.eps)


def follow(config: Optimizer, group: dict[str, Any], progress: float) -> None:
    """Set learning rate and momentum of a group for a share `progress` of the training."""
    peak = group["peak_lr"]
    if config.schedule == "cosine":
        rise = min(1.0, 0.05 + 20.0 * progress)
        group["lr"] = peak * rise * 0.5 * (1.0 + math.cos(math.pi * progress))
    elif config.schedule == "one_cycle":
        if progress < 0.25:
            lr, momentum = _cosine(peak / 25.0, peak, 4.0 * progress), _cosine(0.95, 0.85, 4.0 * progress)
        else:
            rest = (progress - 0.25) / 0.75
            lr, momentum = _cosine(peak, peak / 1e5, rest), _cosine(0.85, 0.95, rest)
        group["lr"] = lr
        if "betas" in group:
            group["betas"] = (momentum, config.betas[1])


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))


class Recordings(L.LightningDataModule):
    """Training and validation recordings of a stage; plans each pass anew.

    Parameters
    ----------
    train, validation
        See :class:`~offline.sequences.Sequences`.
    stage
        How examples are cut and altered.
    models
        All that may be asked, which differ in look-ahead.
    sfreq
        Of the signals.
    key
        (seed, number of the stage).
    workers
        Processes that prepare batches; 0: this one.
    """

    def __init__(
        self,
        train: Sequence[Sequences],
        validation: Sequence[Sequences],
        stage: Stage,
        models: Sequence[ScoringModel],
        sfreq: float,
        key: tuple[int, int],
        workers: int = 0,
    ) -> None:
        super().__init__()
        self._train, self._validation, self._stage = train, validation, stage
        self._n_past = max(past_steps(model.timing) for model in models)
        # A window of a network that takes many labelled steps at once must be whole.
        timing = models[-1].timing
        self._grains = max(timing.step_samples // timing.epoch_samples, 1)
        self._sfreq, self._key, self._workers = sfreq, key, workers

    def train_dataloader(self) -> DataLoader[Batch]:
        number = self.trainer.current_epoch if self.trainer else 0
        stage = self._stage
        key = (*self._key, number)
        batches = plan(self._train, stage.examples, np.random.default_rng((*key, 0)))
        made = Pass(
            self._train,
            self._whole(batches),
            self._n_past,
            stage.examples.context,
            stage.augment,
            self._sfreq,
            key,
            len(stage.look_aheads_s),
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1),
        )
        return DataLoader(made, batch_size=None, num_workers=self._workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        examples = self._stage.examples
        n = max(_VALIDATED_STEPS // self._grains, 1) * self._grains
        if self._stage.lesson in ("chunks", "decoder"):
            n = examples.steps
        if self._stage.lesson == "primed":
            batches = [[Cut(i, a, min(a + n, z))] for i, d in enumerate(self._validation)
                       for begin, z in d.runs for a in range(begin, z - examples.context, n)]  # fmt: skip
            first = examples.context
        else:
            whole = self._stage.lesson == "chunks"
            batches, first = self._whole(plan_in_order(self._validation, n, _VALIDATED_ROWS, whole)), 0
        return DataLoader(Pass(self._validation, batches, self._n_past, first), batch_size=None)

    def _whole(self, batches: Plan) -> Plan:
        """Cut rows down to whole steps of the network; what is left of a run is too short to be scored."""
        if self._grains == 1:
            return batches
        cut = [
            [
                Cut(c.recording, c.begin, c.end - (c.end - c.begin) % self._grains, c.seen, c.joined, c.shift)
                for c in b
            ]
            for b in batches
        ]
        return [batch for batch in cut if any(c.end > c.begin for c in batch)]
