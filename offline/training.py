"""How networks of this project are trained: cut, augment, fit, score.

Unlike TinySleepNet's published recipe (MODELS.md 6.1): a higher learning rate for few passes, cosine decay,
averaged weights, augmentation of gain and spectral slope, softened labels, and sequences across gaps.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
import typer

from offline.sequences import Sequences
from streamscore.models.tinysleepnet import Config, TinySleepNet, build
from streamscore.types import FloatArray

#: Recording (by its place in the list), first row, row after the last.
Cut = tuple[int, int, int]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    passes
        Times that the data are gone through.
    lr
        Peak learning rate of Adam; it rises over the first twentieth and then falls as half a cosine.
    batch_steps, sequence_steps
        Epochs in a batch, and in a sequence at most.
    joined
        Part of the recordings, drawn anew in each pass, whose gaps are ignored. The files lack most of N1, N2
        and REM, so that their runs hardly ever change state; a network that saw only these would learn that
        nothing ever changes.
    weight_power, smoothing
        A class weighs ``count ** -weight_power``; labels are softened by `smoothing`.
    weight_decay, clip_norm
        L2 of the convolution kernels (½‖w‖²) and limit of the gradient's norm, as published.
    average
        Each step moves the averaged weights, which are the result, by ``1 - average``.
    gain, tilt, noise, shift
        Augmentation of a sequence: standard deviations of the log gain and of the log gain per octave, highest
        standard deviation of the added noise, largest circular shift in steps.
    """

    passes: int = 6
    lr: float = 1e-3
    batch_steps: int = 32
    sequence_steps: int = 8
    joined: float = 0.5
    weight_power: float = 0.25
    smoothing: float = 0.1
    weight_decay: float = 1e-3
    clip_norm: float = 5.0
    average: float = 0.98
    gain: float = 0.2
    tilt: float = 0.07
    noise: float = 0.02
    shift: float = 0.1


def draw_batches(data: Sequence[Sequences], recipe: Recipe, rng: np.random.Generator) -> list[list[Cut]]:
    """Cut all recordings into sequences, differently in each pass, and batch those of the same length."""
    by_length: dict[int, list[Cut]] = {}
    for i, recording in enumerate(data):
        is_joined = rng.random() < recipe.joined
        for begin, end in ((0, len(recording.y)),) if is_joined else recording.runs:
            stop = begin + int(rng.integers(1, recipe.sequence_steps + 1))
            while begin < end:
                stop = min(stop, end)
                by_length.setdefault(stop - begin, []).append((i, begin, stop))
                begin, stop = stop, stop + recipe.sequence_steps
    batches = []
    for n_steps, cuts in sorted(by_length.items()):
        order = rng.permutation(len(cuts))
        size = max(recipe.batch_steps // n_steps, 1)
        batches += [[cuts[k] for k in order[at : at + size]] for at in range(0, len(cuts), size)]
    return [batches[k] for k in rng.permutation(len(batches))]


def augment(x: FloatArray, sfreq: float, step_s: float, recipe: Recipe, rng: np.random.Generator) -> FloatArray:
    """Change gain, spectral slope, alignment and noise of sequences ``(n, n_channels, n_samples)``."""
    n, n_channels, n_samples = x.shape
    f_hz = np.fft.rfftfreq(n_samples, 1.0 / sfreq)
    octaves = np.log2(np.maximum(f_hz, 0.3) / 4.0)
    gain, tilt = (std * rng.standard_normal((n, n_channels, 1)) for std in (recipe.gain, recipe.tilt))
    shift_s = recipe.shift * step_s * rng.uniform(-1.0, 1.0, (n, 1, 1))
    log_response = gain + tilt * octaves - 2j * np.pi * f_hz * shift_s
    response = torch.from_numpy(np.exp(log_response).astype(np.complex64))
    y: FloatArray = torch.fft.irfft(torch.fft.rfft(torch.from_numpy(x)) * response, n_samples).numpy()
    std = recipe.noise * rng.random((n, n_channels, 1), dtype=np.float32)
    return y + std * rng.standard_normal(y.shape, dtype=np.float32)


def class_weights(data: Sequence[Sequences], n_classes: int, power: float) -> torch.Tensor:
    """Weights of the classes, 1 on average over the labelled epochs; 0 for a class that does not occur."""
    codes = np.concatenate([d.y[d.y >= 0] for d in data])
    counts = np.bincount(codes, minlength=n_classes)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
    return torch.from_numpy((weights * len(codes) / (weights @ counts)).astype(np.float32))


def fit(
    data: Sequence[Sequences],
    config: Config,
    recipe: Recipe,
    seed: int,
    after_pass: Callable[[float], None] | None = None,
) -> TinySleepNet:
    """Train a network from scratch and return its averaged weights, in evaluation mode.

    Parameters
    ----------
    data
        Recordings to learn from.
    config, recipe
        The network and how to train it.
    seed
        Decides initial weights, order, dropout and augmentation: same seed, same machine, same network.
    after_pass
        Told the mean loss of each pass.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(config).train()
    averaged = copy.deepcopy(model).eval()
    weight = class_weights(data, config.n_classes, recipe.weight_power)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    step = 0
    for done in range(recipe.passes):
        losses = []
        batches = draw_batches(data, recipe, rng)
        for at, batch in enumerate(batches):
            progress = (done + at / len(batches)) / recipe.passes
            warm = min(1.0, 0.05 + 20.0 * progress)
            optimizer.param_groups[0]["lr"] = recipe.lr * warm * 0.5 * (1.0 + np.cos(np.pi * progress))
            x = np.stack([_flat(data[i].x[a:z]) for i, a, z in batch])  # (n, n_channels, steps * step_samples)
            y = torch.from_numpy(np.stack([data[i].y[a:z] for i, a, z in batch]))  # (n, steps)
            x = augment(x, config.sfreq, config.epoch_s, recipe, rng)
            logits, _ = model(torch.from_numpy(x), model.initial_state(len(batch)))
            if not (y >= 0).any():
                continue
            loss = F.cross_entropy(
                logits[:, :, 0].flatten(0, 1),
                y.flatten(),
                weight,
                ignore_index=-1,
                label_smoothing=recipe.smoothing,
            )
            losses.append(loss.item())
            decay = torch.stack([kernel.square().sum() for kernel in model.l2_kernels()]).sum()
            optimizer.zero_grad()
            (loss + 0.5 * recipe.weight_decay * decay).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            step += 1
            # The first steps are forgotten faster, or they would weigh for ever in short trainings.
            _move(averaged, model, 1.0 - min(recipe.average, step / (step + 10)))
        if after_pass is not None:
            after_pass(float(np.mean(losses)))
    return averaged


def _flat(steps: FloatArray) -> FloatArray:
    """``(steps, n_channels, step_samples)`` → ``(n_channels, steps * step_samples)``."""
    return steps.swapaxes(0, 1).reshape(steps.shape[1], -1)


def _move(averaged: TinySleepNet, model: TinySleepNet, by: float) -> None:
    """Move weights and normalisation statistics of `averaged` towards those of `model`."""
    for old, new in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new.detach(), by)
        else:
            old.copy_(new)


def score(model: TinySleepNet, data: Sequences, fresh: Literal["gap", "step", "never"] = "gap") -> FloatArray:
    """Logits ``(n_steps, n_classes)``; the state is fresh after each gap as in the engine.

    The other two choices of `fresh` show what the carried state is worth: fresh for each epoch, or never again,
    as if the recording had no gaps.
    """
    everything = len(data.y)
    runs = {"gap": data.runs, "step": [(k, k + 1) for k in range(everything)], "never": [(0, everything)]}[fresh]
    with torch.inference_mode():
        parts = [
            model(torch.from_numpy(_flat(data.x[a:z])[None]), model.initial_state(1))[0][0, :, 0].numpy()
            for a, z in runs
        ]
    logits: FloatArray = np.concatenate(parts)
    return logits


class Progress:
    """Counts passes and tells how long the rest will take, weighing each by its epochs."""

    def __init__(self, total_steps: int) -> None:
        self._total, self._done, self._t0_s = total_steps, 0, time.perf_counter()

    def say(self, what: str, n_steps: int, loss: float) -> None:
        """Note a pass over `n_steps` epochs."""
        self._done += n_steps
        spent_s = time.perf_counter() - self._t0_s
        left_s = spent_s * (self._total - self._done) / self._done
        typer.echo(f"{what}: loss {loss:.3f}, {spent_s / 60:.1f} min gone, about {left_s / 60:.1f} min left")
