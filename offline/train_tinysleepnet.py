"""Train."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from offline.sequences import CodeArray, Sequences
from streamscore.labels import UNKNOWN_CODE
from streamscore.models.tinysleepnet import Config, TinySleepNet, build
from streamscore.types import FloatArray


@dataclass(frozen=True)
class Recipe:
    passes: int = 6
    lr: float = 1e-3
    batch_steps: int = 32
    sequence_steps: int = 8
    joined: float = 0.5
    weight_power: float = 0.5
    smoothing: float = 0.0
    weight_decay: float = 1e-3
    clip_norm: float = 5.0
    average: float = 0.98
    gain: float = 0.3
    tilt: float = 0.2
    noise: float = 0.05
    flip: bool = True
    shift: float = 0.1


def cut(data: Sequence[Sequences], recipe: Recipe, rng: np.random.Generator) -> list[list[tuple[int, int, int]]]:
    by_length: dict[int, list[tuple[int, int, int]]] = {}
    for i, d in enumerate(data):
        runs = ((0, len(d.y)),) if rng.random() < recipe.joined else d.runs
        for begin, end in runs:
            at = begin
            stop = begin + int(rng.integers(1, recipe.sequence_steps + 1))
            while at < end:
                stop = min(stop, end)
                by_length.setdefault(stop - at, []).append((i, at, stop))
                at, stop = stop, stop + recipe.sequence_steps
    batches = []
    for n_steps, cuts in sorted(by_length.items()):
        order = rng.permutation(len(cuts))
        size = max(1, recipe.batch_steps // n_steps)
        batches += [[cuts[k] for k in order[a : a + size]] for a in range(0, len(cuts), size)]
    return [batches[k] for k in rng.permutation(len(batches))]


def augment(x: FloatArray, sfreq: float, recipe: Recipe, rng: np.random.Generator) -> FloatArray:
    """(n_seq, n_channels, n_samples)"""
    n, n_channels, n_samples = x.shape
    f_hz = np.fft.rfftfreq(n_samples, 1 / sfreq)
    octaves = np.log2(np.maximum(f_hz, 0.3) / 4.0)
    log_gain = recipe.gain * rng.standard_normal((n, n_channels, 1))
    log_gain = log_gain + recipe.tilt * rng.standard_normal((n, n_channels, 1)) * octaves
    shift_s = recipe.shift * rng.uniform(-30, 30, (n, 1, 1))
    sign = rng.choice((-1.0, 1.0), (n, 1, 1)) if recipe.flip else 1.0
    response = sign * np.exp(log_gain - 2j * np.pi * f_hz * shift_s)
    t = torch.fft.irfft(torch.fft.rfft(torch.from_numpy(x)) * torch.from_numpy(response.astype(np.complex64)), n_samples).numpy()
    t += recipe.noise * rng.random((n, n_channels, 1)).astype(np.float32) * rng.standard_normal(t.shape, dtype=np.float32)
    return t


def fit(data: Sequence[Sequences], config: Config, recipe: Recipe, seed: int, say: Callable[[str], None]) -> TinySleepNet:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(config).train()
    averaged = copy.deepcopy(model).eval()
    counts = np.bincount(np.concatenate([d.y[d.y >= 0] for d in data]), minlength=config.n_classes)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -recipe.weight_power, 0.0)
    weight = torch.tensor(weights / (weights * counts).sum() * counts.sum(), dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    t0 = time.perf_counter()
    step = 0
    for p in range(recipe.passes):
        batches = cut(data, recipe, rng)
        total = 0.0
        for b, batch in enumerate(batches):
            progress = (p + b / len(batches)) / recipe.passes
            optimizer.param_groups[0]["lr"] = recipe.lr * min(1.0, 20 * progress + 0.05) * 0.5 * (1 + np.cos(np.pi * progress))
            x = np.stack([data[i].x[a:z].swapaxes(0, 1).reshape(config.n_channels, -1) for i, a, z in batch])
            y = torch.from_numpy(np.stack([data[i].y[a:z] for i, a, z in batch]))
            logits, _ = model(torch.from_numpy(augment(x, config.sfreq, recipe, rng)), model.initial_state(len(batch)))
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), weight=weight, ignore_index=-1, label_smoothing=recipe.smoothing)
            total += loss.item()
            loss = loss + 0.5 * recipe.weight_decay * sum((k**2).sum() for k in model.l2_kernels())
            optimizer.zero_grad(); loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            step += 1
            keep = min(recipe.average, step / (step + 10))
            with torch.no_grad():
                for a_, v in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
                    if a_.is_floating_point():
                        a_.lerp_(v, 1 - keep)
                    else:
                        a_.copy_(v)
        el = time.perf_counter() - t0
        say(f"pass {p + 1}/{recipe.passes} n {len(batches)} loss {total / len(batches):.3f}  {el:.0f} s")
    return averaged


def score(model: TinySleepNet, d: Sequences, reset: str = "run") -> FloatArray:
    out = np.zeros((len(d.y), model.n_classes), np.float32)
    runs = {"run": d.runs, "step": tuple((k, k + 1) for k in range(len(d.y))), "never": ((0, len(d.y)),)}[reset]
    with torch.inference_mode():
        for a, z in runs:
            x = torch.from_numpy(np.ascontiguousarray(d.x[a:z].swapaxes(0, 1).reshape(1, model.n_channels, -1)))
            out[a:z] = model(x, model.initial_state(1))[0][0].numpy()
    return out
