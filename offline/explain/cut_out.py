"""Cut-out importance: what a network for frames loses when a square of the cortex is taken from it.

Source: Ajioka et al. 2024 (MODELS.md 4.4). A square of a quarter of the frame's side is set to 0, which is the
mean of a normalised pixel; its score is the AUC with everything minus the AUC without it, and each cell of an 8 ×
8 grid gets the mean of the squares that cover it. The squares move by an eighth of the side. Their code masks at
inference and keeps the 49 squares inside the frame apart from the 15 that wrap around its edges; the paper trains
anew for each of the 64. Both are here: :func:`cut_out`, and :func:`retrained` with whatever trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from offline.explain.given import CodeArray, Given
from offline.explain.result import Explained, new_picture
from streamscore.errors import ConfigError, RecordingError
from streamscore.metrics import auc
from streamscore.models.base import ScoringModel
from streamscore.types import FloatArray

MaskArray = npt.NDArray[np.bool_]

#: Cells of the map in each direction; a square covers two by two.
N_CELLS = 8
#: Frames that are masked and scored at a time.
PIECE_FRAMES = 256


def squares(frame_shape: tuple[int, int], wrap: bool) -> tuple[MaskArray, npt.NDArray[np.int64]]:
    """Return the masks of the squares and the cells that they cover.

    Parameters
    ----------
    frame_shape
        Height and width, multiples of 8.
    wrap
        Also the 15 squares that begin in the last row or column and go on in the first.

    Returns
    -------
    masks
        ``(n, height, width)``, True where the square is: 64 with `wrap`, else 49.
    cells
        ``(n, 4)`` places in the flattened 8 × 8 map.

    Raises
    ------
    ConfigError
        If the frame cannot be divided so.
    """
    height, width = frame_shape
    if height % N_CELLS or width % N_CELLS:
        raise ConfigError(f"frames of {height} × {width} pixels cannot be cut into {N_CELLS} × {N_CELLS} cells")
    n = N_CELLS if wrap else N_CELLS - 1
    grid = np.arange(N_CELLS * N_CELLS).reshape(N_CELLS, N_CELLS)
    corners = [(row, column) for row in range(n) for column in range(n)]
    cells = np.array(
        [
            [grid[(row + i) % N_CELLS, (column + j) % N_CELLS] for i in (0, 1) for j in (0, 1)]
            for row, column in corners
        ]
    )
    covered = np.zeros((len(corners), N_CELLS * N_CELLS), np.bool_)
    np.put_along_axis(covered, cells, True, axis=1)
    masks = covered.reshape(-1, N_CELLS, N_CELLS).repeat(height // N_CELLS, 1).repeat(width // N_CELLS, 2)
    return masks, cells


def map_of(scores: npt.ArrayLike, cells: npt.NDArray[np.int64]) -> FloatArray:
    """Mean score of the squares that cover each cell, ``(8, 8)``."""
    total, count = (np.zeros(N_CELLS * N_CELLS) for _ in range(2))
    np.add.at(total, cells, np.asarray(scores, np.float64)[:, None])
    np.add.at(count, cells, 1.0)
    mean: FloatArray = (total / count).reshape(N_CELLS, N_CELLS).astype(np.float32)
    return mean


def area_under(probs: FloatArray, truth: CodeArray) -> float:
    """AUC of the labelled rows: of the second of two states, of more the mean over states against the rest."""
    known = (truth >= 0) & np.isfinite(probs).all(axis=1)
    states = [1] if probs.shape[1] == 2 else [k for k in range(probs.shape[1]) if (truth[known] == k).any()]
    return float(np.mean([auc(truth[known] == k, probs[known, k]) for k in states]))


def cut_out(
    model: ScoringModel, given: Given, *, wrap: bool = True, tell: Callable[[int, int], None] | None = None
) -> Explained:
    """Mask at inference: the network stays as it is.

    Parameters
    ----------
    model
        Network that takes frames.
    given
        What it is given, with labels of at least two states.
    wrap
        As in :func:`squares`.
    tell
        Told how many of how many masks are done.

    Raises
    ------
    ConfigError
        If the network takes signals.
    RecordingError
        If the recording has no labels of two states.
    """
    if model.frame_shape is None:
        raise ConfigError(f"{type(model).__name__} takes signals; squares are cut out of frames of a camera")
    truth = _truth(model, given)
    if len(np.unique(truth[truth >= 0])) < 2:
        raise RecordingError(
            f"{given.name}: an AUC takes labels of two states ({', '.join(given.labels)}), and the part that is "
            "explained has fewer; choose another part or recording"
        )
    masks, cells = squares(model.frame_shape, wrap)
    base = area_under(_probs(model, given, None), truth)
    lost = np.zeros(len(masks))
    for k, mask in enumerate(masks):
        lost[k] = base - area_under(_probs(model, given, mask), truth)
        if tell:
            tell(k + 1, len(masks))
    what = "masked at inference"
    return _explained("cut-out", given.name, what, base, lost, cells, int((truth >= 0).sum()))


def retrained(
    frame_shape: tuple[int, int],
    train_and_score: Callable[[Sequence[MaskArray | None]], Sequence[float]],
    *,
    name: str,
    wrap: bool = True,
) -> Explained:
    """Train anew for each square, as in the paper.

    Parameters
    ----------
    frame_shape
        Height and width of the frames.
    train_and_score
        Trains one network for each mask ``(height, width)`` of what is cut out, and for ``None``, and returns the
        AUC of each on recordings that it was not trained on.
    name
        Of the data, for titles.
    wrap
        As in :func:`squares`.
    """
    masks, cells = squares(frame_shape, wrap)
    base, *areas = train_and_score([None, *masks])
    return _explained(
        "cut-out-retrained", name, "trained anew for each square", base, base - np.array(areas), cells
    )


def _truth(model: ScoringModel, given: Given) -> CodeArray:
    """Codes of what each step's final output describes."""
    timing = model.timing
    codes = []
    for run in given.runs:
        ends = np.arange(1, run.x.shape[1] // timing.step_samples + 1) * timing.step_samples
        begins_s = run.t0_s + (ends - timing.look_ahead_samples - timing.epoch_samples) / given.sfreq
        truth = given.truth(begins_s, timing.epoch_samples / given.sfreq)
        truth[[not timing.reads[-1].is_usable(end, end) for end in ends.tolist()]] = -1
        codes.append(truth)
    return np.concatenate(codes)


def _probs(model: ScoringModel, given: Given, mask: MaskArray | None) -> FloatArray:
    """Probabilities ``(n_steps, n_classes)`` of the final outputs, with zeros where the mask is."""
    hidden = None if mask is None else torch.from_numpy(mask)
    step = model.timing.step_samples
    size = max(PIECE_FRAMES // step, 1) * step
    quick, found = model.for_inference(), []
    with torch.inference_mode():
        for run in given.runs:
            state = quick.initial_state(1)
            for x in torch.split(run.x, size, dim=1):
                logits, state = quick(x if hidden is None else x.masked_fill(hidden, 0.0), state)
                found.append(torch.softmax(logits[0, :, -1], dim=-1))
    probs: FloatArray = torch.cat(found).numpy()
    return probs


def _explained(
    method: str,
    name: str,
    what: str,
    base: float,
    lost: npt.NDArray[np.float64],
    cells: npt.NDArray[np.int64],
    n_scored: int | None = None,
) -> Explained:
    heat = map_of(lost, cells)
    order = np.argsort(-heat, axis=None)[:5]
    places = [tuple(int(i) for i in np.unravel_index(k, heat.shape)) for k in order]
    return Explained(
        method=method,
        title=f"Cut-out importance on {name}, {what}: AUC {base:.4f} with everything; the five foremost cells",
        arrays={"importance": heat, "lost_auc": lost, "cells": cells, "base_auc": np.array(base)},
        figures={
            "base_auc": base,
            "n_squares": len(lost),
            "n_scored": n_scored,
            "highest_loss": float(lost.max()),
            "foremost_cells": places,
        },
        columns=("row", "column", "loss of AUC"),
        rows=tuple((str(row), str(column), f"{heat[row, column]:+.4f}") for row, column in places),
        picture=_draw(heat, name, what, base),
    )


def _draw(heat: FloatArray, name: str, what: str, base: float) -> Any:
    picture = new_picture(5.6, 4.8)
    axes = picture.subplots()
    limit = float(np.abs(heat).max()) or 1e-3
    image = axes.imshow(heat, cmap="PuOr_r", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(heat):
        dark = abs(value) > 0.6 * limit
        axes.text(
            column,
            row,
            f"{1000 * value:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )
    axes.set(xlabel="column (eighths of the frame)", ylabel="row (eighths of the frame)")
    axes.set_title(f"Cut-out importance, {name}\n{what}; AUC {base:.3f} with everything", fontsize=10)
    picture.colorbar(image, ax=axes, label="loss of AUC (numbers: thousandths)")
    return picture
