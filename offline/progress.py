"""What a person sees of a training, and the log of its passes."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from offline.atomic import replacing
from offline.recipe import Stage

#: Figure of a pass → its name on the screen.
_TOLD = {
    "loss": "loss",
    "val_loss": "validation loss",
    "val_accuracy": "accuracy",
    "val_kappa": "κ",
    "val_macro_f1": "macro-F1",
}


class Passes(Callback):
    """One line a pass on the screen and in ``passes.jsonl``; on a terminal, also a bar with the remaining time.

    A training that goes on where it stopped keeps the lines of the passes that count.
    """

    def __init__(self, stage: Stage, folder: Path, quiet: bool) -> None:
        self._stage, self._path, self._quiet = stage, folder / "passes.jsonl", quiet
        self._console = Console(stderr=True, highlight=False)
        self._rows: list[dict[str, Any]] = []
        self._bar: Progress | None = None
        self._t0_s = self._pass_t0_s = perf_counter()
        self._compute_s = 0.0
        self._step_t0_s = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._t0_s = perf_counter()
        self._first = trainer.current_epoch
        if self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            self._rows = [json.loads(line) for line in lines[: self._first]]
        if not self._quiet and self._console.is_terminal and trainer.is_global_zero:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._stage.name, total=None)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._pass_t0_s, self._compute_s, self._n_steps = perf_counter(), 0.0, 0
        if self._bar is not None:
            n = int(trainer.num_training_batches)
            left = self._stage.passes - self._first
            self._bar.update(self._task, total=n * left, completed=n * (trainer.current_epoch - self._first))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int
    ) -> None:
        self._step_t0_s = perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        self._compute_s += perf_counter() - self._step_t0_s
        self._n_steps += int((batch.y[:, batch.n_past :] >= 0).sum())
        self._spent_s = perf_counter() - self._pass_t0_s
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning validates within the pass, so that its figures are there.
        figures = {k: float(v) for k, v in trainer.callback_metrics.items()}
        number = trainer.current_epoch
        row = {
            "pass": number + 1,
            **figures,
            "seconds": round(perf_counter() - self._pass_t0_s, 3),
            "compute_share": round(self._compute_s / max(self._spent_s, 1e-9), 4),
            "epochs_per_s": round(self._n_steps / max(self._spent_s, 1e-9), 2),
        }
        self._rows.append(row)
        if not trainer.is_global_zero:
            return
        with replacing(self._path) as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in self._rows), encoding="utf-8")
        if not self._quiet:
            done = number + 1 - self._first
            left_s = (perf_counter() - self._t0_s) / done * (self._stage.passes - number - 1)
            told = ", ".join(f"{word} {figures.get(key, 0.0):.3f}" for key, word in _TOLD.items())
            self._console.print(
                f"{self._stage.name}, pass {number + 1} of {self._stage.passes}: {told}, at most "
                f"{left_s / 60:.1f} min left",
                soft_wrap=True,
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
