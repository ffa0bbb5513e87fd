"""What the filters of the first layer answer to: their activity in each stage, beside what they are tuned to.

Source: Supratak et al. 2017, who found filters of DeepSleepNet that are active in some stages and silent in others
(MODELS.md 2). Activity is the mean of a filter's output over an epoch, behind its normalisation and rectifier.
Stages are the labels of the file where it has any, else what the network scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from offline.explain.given import CodeArray, Given
from offline.explain.result import Explained, decided, new_picture, state_colour
from offline.explain.stages import epochs_of, scored
from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel
from streamscore.models.deepsleepnet import DeepSleepNet
from streamscore.models.tinysleepnet import TinySleepNet
from streamscore.types import FloatArray

#: Epochs that go through a layer at a time.
BLOCK = 64
#: Points of the spectrum of a kernel.
N_FFT = 4096


def first_layers(model: ScoringModel) -> dict[str, nn.Module]:
    """Return the blocks (convolution, normalisation, rectifier) that see the signal.

    Raises
    ------
    ConfigError
        If the network is neither DeepSleepNet nor TinySleepNet.
    """
    if isinstance(model, DeepSleepNet):
        return {"small filters": model.cnn.small.first, "large filters": model.cnn.large.first}
    if isinstance(model, TinySleepNet):
        return {"filters": model.conv1}
    raise ConfigError(
        f"{type(model).__name__} has no first layer of filters over raw epochs; give a bundle of deepsleepnet or "
        "tinysleepnet"
    )


def tuning_hz(kernels: FloatArray, sfreq: float) -> npt.NDArray[np.float64]:
    """Frequency ``(n_filters,)`` at which kernels ``(n_filters, n_channels, n_samples)`` let most through."""
    power = (np.abs(np.fft.rfft(kernels, N_FFT)) ** 2).sum(axis=1)
    peaks: npt.NDArray[np.float64] = np.fft.rfftfreq(N_FFT, 1.0 / sfreq)[power.argmax(axis=1)]
    return peaks


def activity_by_stage(activity: FloatArray, codes: CodeArray, n_states: int) -> FloatArray:
    """Mean of ``(n_epochs, n_filters)`` in each stage, ``(n_states, n_filters)``; NaN where there is no epoch."""
    means = np.full((n_states, activity.shape[1]), np.nan, np.float32)
    for code in range(n_states):
        if (codes == code).any():
            means[code] = activity[codes == code].mean(axis=0)
    return means


def filters(model: ScoringModel, given: Given) -> Explained:
    """Tell which filters are active in which stage.

    Parameters
    ----------
    model
        DeepSleepNet or TinySleepNet.
    given
        What it is given.

    Returns
    -------
    Explained
        For each first layer (``filters``, or ``small_filters`` and ``large_filters``): ``…_activity`` (n_epochs,
        n_filters), ``…_by_stage`` (n_states, n_filters), ``…_tuning_hz`` (n_filters,); ``codes``, ``truth``,
        ``begin_s`` (n_epochs,).

    Raises
    ------
    ConfigError
        If the network is another.
    """
    layers = first_layers(model)
    epochs, codes = epochs_of(model, given), scored(model, given)
    by, by_words = decided(codes, epochs.truth)
    arrays: dict[str, npt.NDArray[Any]] = {"codes": codes, "truth": epochs.truth, "begin_s": epochs.begin_s}
    arrays["labels"] = np.array(given.labels)
    figures: dict[str, Any] = {"sorted_by": by_words}
    rows: list[tuple[str, ...]] = []
    drawn = {}
    for name, layer in layers.items():
        with torch.inference_mode():
            parts = [layer(block).mean(dim=2) for block in torch.split(epochs.x, BLOCK)]
        activity: FloatArray = torch.cat(parts).numpy()
        means = activity_by_stage(activity, by, len(given.labels))
        kernels = next(m for m in layer.modules() if isinstance(m, nn.Conv1d)).weight.detach().numpy()
        tuned_hz = tuning_hz(kernels, given.sfreq)
        key = name.replace(" ", "_")
        arrays |= {f"{key}_activity": activity, f"{key}_by_stage": means, f"{key}_tuning_hz": tuned_hz}
        # A filter that never answers prefers nothing.
        alive = activity.max(axis=0) > 0
        preferred = np.where(alive, np.nanargmax(np.nan_to_num(means, nan=-np.inf), axis=0), -1)
        told = {}
        for code, label in enumerate(given.labels):
            chosen = preferred == code
            median_hz = float(np.median(tuned_hz[chosen])) if chosen.any() else None
            told[label] = {
                "n_epochs": int((by == code).sum()),
                "n_filters": int(chosen.sum()),
                "median_hz": median_hz,
            }
            words = "–" if median_hz is None else f"{median_hz:.1f}"
            rows.append((name, label, str(int((by == code).sum())), str(int(chosen.sum())), words))
        figures[name] = {**told, "n_silent": int((~alive).sum())}
        drawn[name] = (means, preferred, tuned_hz)
    return Explained(
        method="filters",
        title=f"First-layer filters on {len(codes)} epochs of {given.name}, by {by_words}",
        arrays=arrays,
        figures=figures,
        columns=("layer", "stage", "epochs", "filters most active", "median tuning (Hz)"),
        rows=tuple(rows),
        picture=_draw(drawn, given, by_words),
    )


def _draw(drawn: dict[str, tuple[FloatArray, Any, Any]], given: Given, by_words: str) -> Any:
    """Filters × stages, each filter from 0 to 1, sorted by the stage that it prefers and then by frequency."""
    picture = new_picture(9.0, 3.9 * len(drawn) + 0.5)
    parts = np.atleast_1d(picture.subfigures(len(drawn), 1))
    for part, (name, (means, preferred, tuned_hz)) in zip(parts, drawn.items(), strict=True):
        above, below = part.subplots(2, 1, sharex=True, height_ratios=(1.0, 1.6))
        order = np.lexsort((tuned_hz, np.where(preferred < 0, len(given.labels), preferred)))
        low, high = (edge(means, axis=0, keepdims=True) for edge in (np.nanmin, np.nanmax))
        shares = (means - low) / np.where(high > low, high - low, 1.0)
        colours = [state_colour(int(code)) if code >= 0 else "#BBBBBB" for code in preferred[order]]
        above.scatter(np.arange(len(order)), tuned_hz[order], c=colours, s=12)
        above.set(ylabel="tuning (Hz)", ylim=(0.0, None))
        above.set_title(f"{name}: mean activity by stage ({by_words})", fontsize=10)
        image = below.imshow(shares[:, order], aspect="auto", cmap="cividis", vmin=0.0, vmax=1.0)
        below.set(yticks=range(len(given.labels)), yticklabels=given.labels)
        below.set_xlabel("filter, sorted by the stage in which it is most active (colour of the dot), then by Hz")
        part.colorbar(image, ax=below, label="activity, 0–1\nin each filter")
    picture.suptitle(f"What the first layer answers to, {given.name}", fontsize=11)
    return picture
