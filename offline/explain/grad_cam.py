"""Grad-CAM of networks for frames: where in the cortex lies what speaks for the state that was scored.

Source: Selvaraju et al., ICCV 2017, in the form of Zhang et al. 2024 (MODELS.md 1.4): maps of the last
convolution, each weighted with the mean over space of the gradient of the logit, rectified, scaled to 0 … 1 in
each frame and enlarged. The heat is that of the live panel (:mod:`streamscore.panel.importance`); here it is taken
from the final output about an epoch, for all its frames, and averaged by state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from offline.explain.given import CodeArray, Given
from offline.explain.moments import Moment, moments
from offline.explain.result import Explained, new_picture
from streamscore.models.base import ScoringModel
from streamscore.panel.importance import LastMaps, heat_of
from streamscore.types import FloatArray


def grad_cam(model: ScoringModel, given: Given) -> Explained:
    """Map what the decisions over a recording rest on.

    Parameters
    ----------
    model
        Network that takes frames and has a convolution over them.
    given
        What it is given.

    Returns
    -------
    Explained
        ``heat`` (n_epochs, height, width): the mean over the frames of an epoch (and of its context and
        look-ahead), for the state that was scored;
        ``mean_heat`` (n_states, height, width): the mean over the epochs scored so, NaN for a state that was
        never scored; ``codes``, ``truth``, ``begin_s`` (n_epochs,).

    Raises
    ------
    ConfigError
        If the network takes signals or has no convolution.
    RecordingError
        If the recording is too short for one decision.
    """
    last_maps = LastMaps(model)
    heats, codes, begins_s = [], [], []
    for moment in moments(model, given):
        heat, code = _heat(moment, last_maps)
        heats.append(heat)
        codes.append(code)
        begins_s.append(moment.begin_s)
    heat, scored = np.stack(heats), np.array(codes, np.int8)
    truth = given.truth(begins_s, model.timing.epoch_samples / given.sfreq)
    mean_heat = np.full((len(given.labels), *heat.shape[1:]), np.nan, np.float32)
    rows, figures = [], {}
    for code, label in enumerate(given.labels):
        is_so = scored == code
        if is_so.any():
            mean_heat[code] = heat[is_so].mean(axis=0)
        right = float((truth[is_so & (truth >= 0)] == code).mean()) if (is_so & (truth >= 0)).any() else None
        figures[label] = {"n_epochs": int(is_so.sum()), "precision": right, **_peak(mean_heat[code])}
        peak = figures[label]["peak"]
        where = "–" if peak is None else f"{peak[0]}, {peak[1]}"
        rows.append((label, str(int(is_so.sum())), "–" if right is None else f"{right:.2f}", where))
    return Explained(
        method="grad-cam",
        title=f"Grad-CAM of {len(heat)} epochs of {given.name}",
        arrays={
            "heat": heat,
            "mean_heat": mean_heat,
            "codes": scored,
            "truth": truth,
            "begin_s": np.array(begins_s),
            "labels": np.array(given.labels),
        },
        figures=figures,
        columns=("state scored", "epochs", "precision", "hottest pixel (row, column)"),
        rows=tuple(rows),
        picture=_draw(mean_heat, scored, given, _mean_frame(given)),
    )


def _heat(moment: Moment, last_maps: LastMaps) -> tuple[FloatArray, int]:
    """Mean heat ``(height, width)`` over the frames of the moment, and the state scored."""
    with last_maps.kept() as kept:
        logits = moment.decide()
        code = int(logits.detach().argmax())
        gradients = torch.autograd.grad(logits[code], kept, allow_unused=True)
    frame_shape = moment.x.shape[2], moment.x.shape[3]
    heats = [torch.zeros(1, *frame_shape)]
    for maps, gradient in zip(kept, gradients, strict=True):
        if gradient is not None:
            # A network may have looked at more frames than this decision depends on.
            is_used = gradient.flatten(1).any(dim=1)
            heats.append(heat_of(maps[is_used], gradient[is_used], frame_shape))
    frames = torch.cat(heats)
    of_frames: FloatArray = (frames.sum(dim=0) / max(len(frames) - 1, 1)).numpy()
    return of_frames, code


def _peak(heat: FloatArray) -> dict[str, Any]:
    """Row and column of the hottest pixel, and its heat."""
    if not (heat > 0).any():  # nothing speaks for the state, or it was never scored
        return {"peak": None, "peak_heat": None}
    row, column = np.unravel_index(int(np.nanargmax(heat)), heat.shape)
    return {"peak": [int(row), int(column)], "peak_heat": float(heat[row, column])}


def _mean_frame(given: Given) -> FloatArray:
    """How much each pixel varies, which shows the brain."""
    longest = max((run.x for run in given.runs), key=lambda x: x.shape[1])
    spread: FloatArray = longest[0].std(dim=0).numpy()
    return spread


def _draw(mean_heat: FloatArray, codes: CodeArray, given: Given, spread: FloatArray) -> Any:
    """One map a state, one scale for all; the outline is that of the pixels that vary."""
    n = len(given.labels)
    picture = new_picture(3.1 * n + 1.2, 3.9)
    highest = float(np.nanmax(mean_heat, initial=0.0)) or 1.0
    panels = picture.subplots(1, n, squeeze=False)[0]
    for code, (axes, label) in enumerate(zip(panels, given.labels, strict=True)):
        n_epochs = int((codes == code).sum())
        axes.set_title(f"scored {label}\n{n_epochs} epochs", fontsize=10)
        axes.set_xlabel("column (pixels)")
        if n_epochs:
            image = axes.imshow(mean_heat[code], cmap="cividis", vmin=0.0, vmax=highest)
            if spread.min() <= 0 < spread.max():
                axes.contour(spread > 0, [0.5], colors="white", linewidths=0.8)
        else:
            axes.text(0.5, 0.5, "never scored", ha="center", va="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
    panels[0].set_ylabel("row (pixels)")
    picture.colorbar(image, ax=panels, label="mean Grad-CAM heat (0–1 in each frame)", shrink=0.85)
    picture.suptitle(f"What decisions on {given.name} rest on", fontsize=11)
    return picture
