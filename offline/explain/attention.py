"""Attention weights of the CNN-BiLSTM: which frames of an epoch its decision looks at.

The network reads its frames with weights that add up to 1 (Zhang et al. 2024; MODELS.md 1.2). What it reads is
linear in the values of the frames, with the weights as factors; so the weight of a frame is the derivative of what
is read with respect to its value, exactly, and for either form of attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from offline.explain.given import CodeArray, Given
from offline.explain.moments import Moment, moments
from offline.explain.result import Explained, decided, new_picture, state_colour
from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel
from streamscore.models.cnn_bilstm import CnnBilstm
from streamscore.types import FloatArray


def attention(model: ScoringModel, given: Given) -> Explained:
    """Tell the weights of the frames in each final decision over a recording.

    Parameters
    ----------
    model
        A CNN-BiLSTM of any variant.
    given
        What it is given.

    Returns
    -------
    Explained
        ``weights`` (n_epochs, n_items), each row adding up to 1; ``to_end_s`` (n_items,) from the start of a frame
        to the end of the interval described, negative after it; ``mean_weights`` (n_states, n_items), NaN for a
        state that does not occur; ``codes``, ``truth``, ``begin_s`` (n_epochs,).

    Raises
    ------
    ConfigError
        If the network has no attention over frames.
    """
    if not isinstance(model, CnnBilstm):
        raise ConfigError(
            f"{type(model).__name__} has no attention over frames; give a bundle of the network cnn_bilstm"
        )
    weights, codes, begins_s = [], [], []
    for moment in moments(model, given):
        row, code = weights_of(moment, model.attention)
        weights.append(row)
        codes.append(code)
        begins_s.append(moment.begin_s)
    table, scored = np.stack(weights), np.array(codes, np.int8)
    n_items = table.shape[1]
    n_after = model.config.context_frames
    to_end_s = (n_items - n_after - np.arange(n_items)) / given.sfreq
    truth = given.truth(begins_s, model.timing.epoch_samples / given.sfreq)
    by, by_words = decided(scored, truth)
    means = np.full((len(given.labels), n_items), np.nan, np.float32)
    rows: list[tuple[str, ...]] = []
    figures: dict[str, Any] = {"sorted_by": by_words}
    for code, label in enumerate(given.labels):
        chosen = table[by == code]
        if len(chosen):
            means[code] = chosen.mean(axis=0)
        # exp(entropy): as many frames of equal weight would be as spread out.
        spread = np.exp(-(chosen * np.log(np.maximum(chosen, 1e-12))).sum(axis=1))
        centre_s = chosen @ to_end_s
        told = {
            "n_epochs": len(chosen),
            "effective_frames": float(spread.mean()) if len(chosen) else None,
            "centre_before_end_s": float(centre_s.mean()) if len(chosen) else None,
        }
        figures[label] = told
        numbers = ("–", "–") if not len(chosen) else (f"{spread.mean():.1f}", f"{centre_s.mean():.2f}")
        rows.append((label, str(len(chosen)), *numbers))
    return Explained(
        method="attention",
        title=f"Attention in {len(table)} epochs of {given.name}, by {by_words}",
        arrays={
            "weights": table,
            "to_end_s": to_end_s,
            "mean_weights": means,
            "codes": scored,
            "truth": truth,
            "begin_s": np.array(begins_s),
            "labels": np.array(given.labels),
        },
        figures=figures,
        columns=("state", "epochs", f"effective frames of {n_items}", "centre, s before the end"),
        rows=tuple(rows),
        picture=_draw(table, means, to_end_s, by, by_words, given),
    )


def weights_of(moment: Moment, module: nn.Module) -> tuple[FloatArray, int]:
    """Weights ``(n_items,)`` of the final output of `moment`, oldest item first, and the state scored."""
    calls: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, Tensor]) -> None:
        calls.append(arguments)

    handle = module.register_forward_pre_hook(keep)
    try:
        with torch.no_grad():
            code = int(moment.decide().argmax())
    finally:
        handle.remove()
    # A network that reads an instant twice at each step reads for the final output first.
    has_provisional = len(moment.model.timing.reads) > 1
    query, entries = calls[-2 if has_provisional else -1]
    query, entries = query.flatten(0, -2)[-1], entries.flatten(0, -3)[-1].clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(module(query, entries)[0], entries)
    row: FloatArray = slope[:, 0].numpy()
    return row, code


def _draw(table: FloatArray, means: FloatArray, to_end_s: Any, by: CodeArray, by_words: str, given: Given) -> Any:
    """Mean weights by state above, all epochs sorted by state below."""
    picture = new_picture(8.0, 7.0)
    above, below = picture.subplots(2, 1, sharex=True, height_ratios=(1.0, 1.4))
    x = -to_end_s
    for code, label in enumerate(given.labels):
        if (by == code).any():
            above.plot(x, 100.0 * means[code], color=state_colour(code), label=f"{label} ({(by == code).sum()})")
    above.axhline(100.0 / len(x), color="#777777", linestyle=":", linewidth=1.0, label="all alike")
    above.set(ylabel="mean weight (%)", ylim=(0.0, None))
    above.legend(frameon=False, fontsize=9, ncols=2)
    above.set_title(f"Attention over the frames of an epoch, {given.name}, by {by_words}", fontsize=11)
    order = np.argsort(np.where(by < 0, len(given.labels), by), kind="stable")
    step_s = 1.0 / given.sfreq
    image = below.imshow(
        100.0 * table[order],
        aspect="auto",
        cmap="cividis",
        interpolation="nearest",
        extent=(x[0], x[-1] + step_s, len(order) - 0.5, -0.5),
        vmax=float(np.percentile(100.0 * table, 99.5)),
    )
    for code, label in enumerate(given.labels):
        places = np.flatnonzero(by[order] == code)
        if len(places):
            below.axhline(places[-1] + 0.5, color="white", linewidth=0.8)
            below.text(1.01, places.mean(), label, transform=below.get_yaxis_transform(), va="center", fontsize=9)
    below.set(xlabel="time from the end of the epoch described (s)", ylabel="epoch, sorted by state")
    picture.colorbar(image, ax=below, label="weight of a frame (%)", pad=0.09)
    return picture
