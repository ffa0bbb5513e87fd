"""A small untrained bundle, and what it must answer according to one plain call of its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamscore.bundle import Bundle, Spec, save_bundle
from streamscore.models.tinysleepnet import Config, TinySleepNet, build
from streamscore.types import FloatArray

SFREQ = 64.0
EPOCH_S = 4.0
HOP_S = 1.0
#: The same in samples.
EPOCH = round(EPOCH_S * SFREQ)
HOP = round(HOP_S * SFREQ)
N_PHASES = EPOCH // HOP

MODEL_ARGS = {"sfreq": SFREQ, "epoch_s": EPOCH_S, "n_filters": 8, "n_hidden": 8, "n_classes": 3}
CHAIN: tuple[dict[str, Any], ...] = (
    {"kind": "bandpass", "low_hz": 0.5, "high_hz": 25.0},
    {"kind": "normalise", "warm_up_s": 0.0, "tau_s": 30.0},
)


def untrained(seed: int = 5) -> TinySleepNet:
    """Return a network whose answers differ well from epoch to epoch."""
    torch.manual_seed(seed)
    model = build(Config(**MODEL_ARGS))
    with torch.no_grad():
        model.head.weight.mul_(8.0)
        model.lstm.weight_h.mul_(3.0)
        model.lstm.peephole.normal_()
    return model


def small_spec(**changes: Any) -> Spec:
    """Describe the small bundle, with `changes`."""
    fields: dict[str, Any] = {
        "name": "small",
        "model": "tinysleepnet",
        "model_args": MODEL_ARGS,
        "preprocess": CHAIN,
        "vocabulary": "MOUSE3",
        "sfreq": SFREQ,
        "channels": ("EEG",),
        "unit": "uV",
        "hop_s": HOP_S,
        "provenance": {"seed": 5, "rates": [1e-05, 0.1 + 0.2], "where": "µ"},
    }
    return Spec(**{**fields, **changes})


def write_bundle(path: Path, **changes: Any) -> str:
    """Write the small bundle and return its hash."""
    return save_bundle(path, small_spec(**changes), untrained())


def signal(n: int, seed: int = 0, n_channels: int = 1) -> FloatArray:
    """Noise in µV whose amplitude wanders, ``(n, n_channels)``."""
    rng = np.random.default_rng(seed)
    amplitude = 30.0 * np.exp(0.5 * np.sin(np.arange(n) / 300.0))
    return (amplitude[:, None] * rng.standard_normal((n, n_channels))).astype(np.float32)


def one_shot(bundle: Bundle, x: FloatArray, start: int) -> dict[int, np.ndarray]:
    """Score preprocessed `x` ``(n, channels)`` by one call with a fresh state.

    Parameters
    ----------
    bundle
        What scores.
    x
        Output of the chain.
    start
        Absolute index of its first sample.

    Returns
    -------
    dict
        Absolute index of the end of each epoch → its probabilities.
    """
    n_steps = len(x) // EPOCH
    if n_steps == 0:
        return {}
    model = bundle.model
    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(x[: n_steps * EPOCH].T))[None]
        logits, _ = model(batch, model.initial_state(1))
        probs = torch.softmax(logits[0, :, 0], dim=-1).numpy()
    return {start + (k + 1) * EPOCH: probs[k] for k in range(n_steps)}


def expected(bundle: Bundle, runs: list[tuple[int, FloatArray]]) -> dict[int, np.ndarray]:
    """Answers for runs of samples with gaps between them, every phase scored by one call a run.

    The chain keeps its amplitude across gaps, as it does online; everything else starts afresh.

    Parameters
    ----------
    bundle
        What scores; without warm-up.
    runs
        Absolute start and samples of each run.
    """
    chain = bundle.chain()
    answers: dict[int, np.ndarray] = {}
    for start, data in runs:
        x = chain.push(data, start)
        chain.reset()
        first = -(-start // HOP) * HOP
        for begin in range(first, first + EPOCH, HOP):
            if begin - start < len(x):
                answers |= one_shot(bundle, x[begin - start :], begin)
    return answers
