"""Traces of memory cells through a night: what a recurrent network remembers beside the hypnogram.

Source: Supratak et al. 2017, who found cells of DeepSleepNet's forward LSTMs that follow how long sleep has lasted
or when the next REM is due (MODELS.md 2). A cell is ranked by η², the part of its variance that lies between
stages; the labels of the file are the stages where it has any, else what the network scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from offline.explain.given import CodeArray, Given
from offline.explain.result import Explained, decided, draw_states, new_picture, state_colour
from offline.explain.stages import epochs_of, scored
from streamscore.errors import ConfigError, RecordingError
from streamscore.models.base import ScoringModel
from streamscore.models.deepsleepnet import DeepSleepNet
from streamscore.models.tinysleepnet import TinySleepNet
from streamscore.types import FloatArray

#: Epochs that go through the CNN at a time.
BLOCK = 64
#: Cells that are drawn; and the correlation from which on two of them count as one.
N_DRAWN, ALIKE = 6, 0.85


def cells_of(model: ScoringModel, x: Tensor) -> dict[str, FloatArray]:
    """Run over the epochs ``(n_epochs, n_channels, samples)`` of one stretch; return cells by layer.

    Returns
    -------
    dict
        Layer → contents of its memory cells after each epoch, ``(n_epochs, n_hidden)``.

    Raises
    ------
    ConfigError
        If the network is neither DeepSleepNet nor TinySleepNet.
    """
    with torch.inference_mode():
        if isinstance(model, DeepSleepNet):
            stack = model.forward_stack
            features = torch.cat([model.cnn(block) for block in torch.split(x, BLOCK)])
            state = stack.initial_state(1)
            lower, upper = [], []
            for projected in torch.split(stack.lower.project(features)[None], 1, dim=1):
                _, state = stack(projected, state)
                lower.append(state[0])
                upper.append(state[2])
            return {"lower layer": torch.cat(lower).numpy(), "upper layer": torch.cat(upper).numpy()}
        if isinstance(model, TinySleepNet):
            features = torch.cat([model.features(block) for block in torch.split(x, BLOCK)])
            cell = model.lstm.initial_state(1)
            traces = []
            for projected in torch.split(model.lstm.project(features)[None], 1, dim=1):
                _, cell = model.lstm.recur(projected, cell)
                traces.append(cell[0])
            return {"LSTM": torch.cat(traces).numpy()}
    raise ConfigError(
        f"{type(model).__name__} has no memory cells that are known here; give a bundle of deepsleepnet or "
        "tinysleepnet"
    )


def eta_squared(traces: FloatArray, codes: CodeArray) -> npt.NDArray[np.float64]:
    """Part of the variance of ``(n_epochs, n_cells)`` that lies between stages, 0 … 1; unknown epochs left out."""
    values, known = traces[codes >= 0].astype(np.float64), codes[codes >= 0]
    centred = values - values.mean(axis=0)
    between = np.zeros(values.shape[1])
    for code in np.unique(known):
        between += (known == code).sum() * centred[known == code].mean(axis=0) ** 2
    total = (centred**2).sum(axis=0)
    eta: npt.NDArray[np.float64] = np.divide(between, total, out=np.zeros_like(between), where=total > 0)
    return eta


def memory(model: ScoringModel, given: Given) -> Explained:
    """Trace the memory cells of a network through a recording.

    Parameters
    ----------
    model
        DeepSleepNet (its forward LSTMs) or TinySleepNet.
    given
        What it is given.

    Returns
    -------
    Explained
        For each layer ``…_cells`` (n_epochs, n_hidden) and ``…_eta_squared`` (n_hidden,); ``codes``, ``truth``,
        ``begin_s`` (n_epochs,).

    Raises
    ------
    ConfigError
        If the network is another.
    RecordingError
        If nothing changes in it.
    """
    epochs = epochs_of(model, given)
    parts = [cells_of(model, epochs.x[epochs.run == number]) for number in np.unique(epochs.run)]
    layers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    codes = scored(model, given)
    by, by_words = decided(codes, epochs.truth)
    arrays: dict[str, npt.NDArray[Any]] = {"codes": codes, "truth": epochs.truth, "begin_s": epochs.begin_s}
    arrays["labels"] = np.array(given.labels)
    figures: dict[str, Any] = {"sorted_by": by_words, "n_epochs": len(codes)}
    ranked: list[tuple[float, str, int]] = []
    for name, traces in layers.items():
        eta = eta_squared(traces, by)
        key = name.replace(" ", "_")
        arrays |= {f"{key}_cells": traces, f"{key}_eta_squared": eta}
        figures[name] = {"highest_eta_squared": float(eta.max()), "median_eta_squared": float(np.median(eta))}
        ranked += [(float(value), name, cell) for cell, value in enumerate(eta)]
    best = _different(sorted(ranked, key=lambda item: -item[0]), layers)
    rows = []
    for value, name, cell in best:
        means = [
            layers[name][by == code, cell].mean() if (by == code).any() else np.nan
            for code in range(len(given.labels))
        ]
        rows.append((name, str(cell), f"{value:.2f}", *("–" if np.isnan(m) else f"{m:+.2f}" for m in means)))
    if not best:
        raise RecordingError(
            f"{given.name}: no memory cell ever changes in its {len(codes)} epochs; give more of it"
        )
    figures["foremost"] = [{"layer": name, "cell": cell, "eta_squared": value} for value, name, cell in best]
    return Explained(
        method="memory",
        title=f"Memory cells through {given.name}, ranked by η² between {by_words}",
        arrays=arrays,
        figures=figures,
        columns=("layer", "cell", "η²", *(f"mean in {label}" for label in given.labels)),
        rows=tuple(rows),
        picture=_draw(layers, best, epochs.begin_s, epochs.run, by, by_words, given),
    )


def _different(
    ranked: list[tuple[float, str, int]], layers: dict[str, FloatArray]
) -> list[tuple[float, str, int]]:
    """The foremost cells, without those that say nearly the same as one before them."""
    best: list[tuple[float, str, int]] = []
    chosen: list[FloatArray] = []
    for value, name, cell in ranked:
        trace = layers[name][:, cell]
        if trace.std() == 0:
            continue
        if all(abs(np.corrcoef(trace, other)[0, 1]) < ALIKE for other in chosen):
            best.append((value, name, cell))
            chosen.append(trace)
        if len(best) == N_DRAWN:
            break
    return best


def _stretches(run: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Rows of each stretch without a gap."""
    edges = [0, *(np.flatnonzero(np.diff(run)) + 1), len(run)]
    for begin, end in pairwise(edges):
        yield slice(begin, end)


def _draw(
    layers: dict[str, FloatArray],
    best: list[tuple[float, str, int]],
    begin_s: npt.NDArray[np.float64],
    run: npt.NDArray[np.int64],
    by: CodeArray,
    by_words: str,
    given: Given,
) -> Any:
    """Hypnogram above, the foremost cells below it; dots in the colours of the stages."""
    picture = new_picture(10.0, 1.9 + 1.15 * len(best))
    above, *panels = picture.subplots(
        1 + len(best), 1, sharex=True, height_ratios=(1.5, *(1.0 for _ in best)), squeeze=False
    )[:, 0]
    for rows in _stretches(run):
        draw_states(above, begin_s[rows], by[rows], given.labels)
    above.set_title(f"Memory cells through {given.name}; stages are {by_words}", fontsize=11)
    hours = begin_s / 3600.0
    for axes, (value, name, cell) in zip(panels, best, strict=True):
        trace = layers[name][:, cell]
        for rows in _stretches(run):
            axes.plot(hours[rows], trace[rows], color="#999999", linewidth=0.6)
        for code in np.unique(by[by >= 0]):
            axes.plot(hours[by == code], trace[by == code], ".", color=state_colour(int(code)), markersize=2.5)
        axes.set_ylabel(f"cell {cell}", fontsize=9)
        axes.text(1.005, 0.5, f"{name}\nη² {value:.2f}", transform=axes.transAxes, va="center", fontsize=8)
    for code, label in enumerate(given.labels):
        above.plot([], [], "o", color=state_colour(code), markersize=4, label=label)
    above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    panels[-1].set_xlabel("time of the recording (h)")
    return picture
