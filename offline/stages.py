"""One stage of a recipe, from the weights before to the weights after, in a folder of its own."""

from __future__ import annotations

import json
import logging
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import nn

from offline.atomic import replacing
from offline.checkpoints import WholeCheckpoints, read_checkpoint
from offline.constants import find_constants
from offline.learner import Learner, Recordings
from offline.lessons import grain_samples, make_lesson
from offline.losses import class_weights
from offline.progress import Passes
from offline.recipe import Recipe, Stage
from offline.sequences import Sequences
from offline.smote import with_synthetic
from streamscore import plugins
from streamscore.bundle import Spec
from streamscore.errors import ConfigError, RecordError
from streamscore.models.base import ScoringModel


@dataclass(frozen=True)
class Machine:
    """Where a training runs.

    Processes that prepare batches change nothing. Several devices change results by rounding where they can share
    the rows of a batch evenly; the rows of a batch that they cannot share so (the last of a pass) weigh otherwise.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``.
    devices, strategy
        Of Lightning, for several GPUs.
    workers
        Processes that prepare batches.
    precision
        In place of that of the recipe.
    """

    device: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    workers: int = 0
    precision: str | None = None


def build_network(spec: Spec, args: Mapping[str, Any]) -> ScoringModel:
    """Build the network of a stage.

    Raises
    ------
    ConfigError
        If there is no such network, or an argument of it is wrong.
    """
    module = plugins.load("models", spec.model)
    merged = {**spec.model_args, **args}
    try:
        model: ScoringModel = module.build(module.Config(**merged))
    except ValueError as error:
        raise ConfigError(f"network {spec.model!r} with {merged}: {error}") from error
    if model.n_classes != len(spec.labels):
        raise ConfigError(
            f"network {spec.model!r} tells {model.n_classes} classes, but {spec.vocabulary} has {len(spec.labels)}"
        )
    return model


def run_stage(
    recipe: Recipe,
    spec: Spec,
    stage: Stage,
    number: int,
    read: Mapping[str, Sequence[Sequences]],
    weights: Mapping[str, torch.Tensor],
    folder: Path,
    inputs: Path,
    machine: Machine,
    quiet: bool,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Train one stage, unless it is done; return the weights of the network and the figures of its best pass."""
    done = folder / "weights.safetensors"
    if done.is_file():
        figures: dict[str, Any] = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        return load_file(done), figures
    torch.manual_seed(recipe.seed + number)
    model = build_network(spec, stage.model_args)
    _take_over(model, weights, stage)
    learnt = list(read["train"])
    find_constants(model, learnt)
    if stage.examples.smote:
        learnt = with_synthetic(learnt, stage.examples.smote, np.random.default_rng((recipe.seed, number)))
    views = [_shared(spec, stage, model, ahead_s) for ahead_s in stage.look_aheads_s]
    _refuse_too_short(stage, number, model)
    lesson = make_lesson(stage.lesson, model)
    codes = np.concatenate([d.y for d in read["train"]])
    try:
        class_weight = class_weights(stage.loss, codes, len(spec.labels))
    except ValueError as error:
        raise ConfigError(f"stage {stage.name!r}: {error}") from error
    if len(np.unique(codes[codes >= 0])) < 2:
        raise ConfigError(
            f"stage {stage.name!r}: the training recordings hold one state alone ({_names(codes, spec)}); nothing "
            "can be learnt from them. Add subjects, or label the other states"
        )
    seed = recipe.seed * 1009 + number
    taught, watched = (lesson.prepare(recordings, inputs) for recordings in (learnt, read["validation"]))
    learner = Learner(lesson, stage, class_weight, seed, views)
    data = Recordings(
        taught,
        watched,
        stage,
        views or [model],
        spec.sfreq,
        (recipe.seed, number),
        machine.workers,
    )
    keep = ModelCheckpoint(
        folder,
        filename="best",
        monitor=stage.monitor,
        mode="min" if stage.monitor == "val_loss" else "max",
        save_last=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [keep, Passes(stage, folder, quiet)]
    if stage.patience:
        callbacks.append(EarlyStopping(stage.monitor, patience=stage.patience, mode=keep.mode))
    if stage.optimizer.average:
        callbacks.append(EMAWeightAveraging(decay=stage.optimizer.average))
    last = folder / "last.ckpt"
    with _calm():
        trainer = L.Trainer(
            accelerator={"cuda": "gpu"}.get(machine.device, machine.device),
            devices=machine.devices,
            strategy=machine.strategy,
            precision=machine.precision or recipe.precision,  # type: ignore[arg-type]
            max_epochs=stage.passes,
            gradient_clip_val=stage.optimizer.clip_norm or None,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=folder,
            plugins=[WholeCheckpoints()],
        )
        try:
            trainer.fit(learner, data, ckpt_path=last if last.is_file() else None)
        except SystemExit:  # Lightning's answer to Ctrl-C, which it switches off
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        except OSError as error:
            raise RecordError(
                f"{folder}: cannot be written: {error}; make room or choose another folder"
            ) from error
    kept = Path(keep.best_model_path) if stage.keep == "best" else last
    content = read_checkpoint(kept)
    prefix = "lesson.model."
    state = {
        k.removeprefix(prefix): v.contiguous() for k, v in content["state_dict"].items() if k.startswith(prefix)
    }
    bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise ConfigError(
            f"stage {stage.name!r}: weights became NaN or infinite ({bad[0]}); lower "
            f"stages.{number}.optimizer.lr or set clip_norm"
        )
    trainer.strategy.barrier()  # the others have read, too
    figures = {
        "pass": int(content["epoch"]) + 1,
        "passes": trainer.current_epoch,
        **_figures(folder, content["epoch"]),
    }
    if trainer.is_global_zero:
        with replacing(folder / "figures.json") as path:
            path.write_text(json.dumps(figures), encoding="utf-8")
        with replacing(done) as path:
            save_file(state, path)
        for checkpoint in folder.glob("*.ckpt"):
            checkpoint.unlink()
    return state, figures


def _refuse_too_short(stage: Stage, number: int, model: ScoringModel) -> None:
    """Refuse examples at whose end the network has not said anything yet: nothing would be learnt from them."""
    timing, grain, examples = model.timing, grain_samples(model.timing), stage.examples
    least = timing.step_samples * max(timing.chunk_steps, 1)
    if examples.kind == "windows":  # from night to night the state is carried
        least = max(least, timing.warm_up_samples)
    if stage.lesson == "stream" and (examples.context + examples.steps) * grain < least:
        raise ConfigError(
            f"stage {stage.name!r}: the network says nothing before it has seen {-(-least // grain)} steps, but "
            f"examples have {examples.context + examples.steps}; add --set stages.{number}.examples.steps="
            f"{-(-least // grain) - examples.context}"
        )


def _take_over(model: ScoringModel, weights: Mapping[str, torch.Tensor], stage: Stage) -> None:
    """Begin with the weights of the stage before, where names and shapes are the same."""
    own = model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if weights and not fitting:
        raise ConfigError(
            f"stage {stage.name!r}: no weights of the stage before fit its network; check model_args"
        )
    model.load_state_dict({**own, **fitting})


def _shared(spec: Spec, stage: Stage, model: ScoringModel, look_ahead_s: float) -> ScoringModel:
    """The network with another look-ahead and the very same parameters."""
    if "look_ahead_s" not in plugins.load("models", spec.model).Config.model_fields:
        raise ConfigError(
            f"stage {stage.name!r}: network {spec.model!r} has no look-ahead; leave look_aheads_s out"
        )
    view = build_network(spec, {**stage.model_args, "look_ahead_s": look_ahead_s})
    twins = dict(view.named_modules())
    for name, module in model.named_modules():
        twin = twins[name]
        twin._parameters = module._parameters
        if twin._buffers.keys() == module._buffers.keys():
            twin._buffers = module._buffers
        if isinstance(module, nn.RNNBase) and isinstance(twin, nn.RNNBase):
            twin._flat_weights = module._flat_weights  # PyTorch's recurrent layers keep a list of their own
    return view


def _names(codes: np.ndarray[Any, Any], spec: Spec) -> str:
    return ", ".join(spec.labels[k] for k in np.unique(codes[codes >= 0])) or "none"


def _figures(folder: Path, number: int) -> dict[str, float]:
    """What the log says of a pass."""
    rows = [json.loads(line) for line in (folder / "passes.jsonl").read_text(encoding="utf-8").splitlines()]
    return {k: v for k, v in rows[number].items() if k.startswith(("val_", "loss"))}


@contextmanager
def _calm() -> Iterator[None]:
    """Keep Lightning's advice and advertisements from the screen; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
