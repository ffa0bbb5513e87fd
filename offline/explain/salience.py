"""Salient waves of SalientSleepNet: which stretches of an epoch its streams respond to.

Source: Jia et al., IJCAI 2021 (MODELS.md 5): the U-networks end in features for every sample, which is how the
network marks waves. Two curves are told for each sample:

*salience*: the mean size of a stream's features, scaled to 0 … 1 in the window; one curve for EEG and one for EOG;

*evidence*: what the sample adds to the logit of the state scored. The head averages over the samples of an epoch
and is linear after that, so that the mean of the evidence over an epoch is exactly what the epoch itself adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from offline.explain.given import CodeArray, Given
from offline.explain.result import Explained, decided, new_picture, state_colour
from streamscore.errors import ConfigError, RecordingError
from streamscore.models.base import ScoringModel, State
from streamscore.models.salientsleepnet import CausalSalientSleepNet, SalientSleepNet
from streamscore.types import FloatArray

#: Part of an epoch's samples that is marked, where its salience is highest.
MARKED = 0.1
#: Salience is averaged over this long before it is marked; closer intervals are joined, shorter ones dropped.
SMOOTH_S, JOIN_S, SHORTEST_S = 0.2, 0.2, 0.2


@dataclass(frozen=True, eq=False)
class Window:
    """What a window of epochs gives.

    Parameters
    ----------
    salience
        ``(n_channels, n_epochs, epoch_samples)``.
    evidence
        ``(n_epochs, epoch_samples)`` for `codes`.
    logits
        ``(n_epochs, n_classes)``.
    codes
        ``(n_epochs,)`` the highest of them.
    """

    salience: FloatArray
    evidence: FloatArray
    logits: FloatArray
    codes: CodeArray


def look(model: SalientSleepNet, x: Tensor, state: State) -> tuple[Window, State]:
    """Run a window ``(1, n_channels, n_epochs * epoch_samples)``; only a causal network looks at `state`."""
    n = model.epoch_samples
    seen: list[Tensor] = []
    mixed: list[Tensor] = []
    handles = [stream.register_forward_hook(lambda _m, _i, out: seen.append(out)) for stream in model.streams]
    handles.append(model.mix.register_forward_hook(lambda _m, _i, out: mixed.append(out.clone())))
    try:
        with torch.inference_mode():
            if isinstance(model, CausalSalientSleepNet):
                steps, state = model(x, state)
                logits = steps[0, :, 0]
            else:
                logits = model.score_window(x)[0].flip(0)
    finally:
        for handle in handles:
            handle.remove()
    codes = logits.argmax(dim=1)
    size = torch.cat(seen).abs().mean(dim=1)
    size = (size / size.amax(dim=1, keepdim=True).clamp(min=1e-12)).reshape(len(seen), -1, n)
    # The tap of the kernel over epochs that an epoch has on itself: the middle, or the last of a causal one.
    kernel = model.over_epochs.weight
    tap = kernel.shape[2] - 1 if isinstance(model, CausalSalientSleepNet) else kernel.shape[2] // 2
    features = torch.tanh(torch.cat(mixed, dim=2))[0].reshape(kernel.shape[1], -1, n)
    evidence = torch.einsum("ef,fet->et", kernel[codes, :, tap], features)
    window = Window(size.numpy(), evidence.detach().numpy(), logits.numpy(), codes.numpy().astype(np.int8))
    return window, state


def intervals(salience: npt.NDArray[Any], sfreq: float) -> list[tuple[int, int]]:
    """Samples ``[begin, end)`` of the waves that stand out of an epoch ``(epoch_samples,)``."""
    n_smooth = max(round(SMOOTH_S * sfreq), 1)
    padded = np.pad(salience, (n_smooth // 2, (n_smooth - 1) // 2), mode="edge")
    smooth = np.convolve(padded, np.full(n_smooth, 1.0 / n_smooth), mode="valid")
    if smooth.max() - smooth.min() <= 1e-6 * max(abs(smooth).max(), 1e-12):
        return []
    marked = np.concatenate(([False], smooth > np.quantile(smooth, 1.0 - MARKED), [False]))
    steps = np.diff(marked.astype(np.int8))
    begins, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    joined: list[tuple[int, int]] = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if joined and begin - joined[-1][1] < JOIN_S * sfreq:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return [(begin, end) for begin, end in joined if end - begin >= SHORTEST_S * sfreq]


def salience(model: ScoringModel, given: Given, channels: tuple[str, ...]) -> Explained:
    """Find the waves that a SalientSleepNet responds to in a recording.

    Parameters
    ----------
    model
        SalientSleepNet of any variant; a published or sliding one is run on windows that follow one another.
    given
        What it is given.
    channels
        Names of its inputs.

    Returns
    -------
    Explained
        ``salience`` (n_epochs, n_channels, epoch_samples) and ``evidence`` (n_epochs, epoch_samples), float16;
        ``waves`` (n_waves, 4): epoch, channel, first sample, sample after the last; ``codes``, ``truth``,
        ``begin_s`` (n_epochs,).

    Raises
    ------
    ConfigError
        If the network is another.
    RecordingError
        If the recording has no whole window.
    """
    if not isinstance(model, SalientSleepNet):
        raise ConfigError(f"{type(model).__name__} marks no waves; give a bundle of salientsleepnet")
    n, n_window = model.epoch_samples, model.config.window_epochs
    is_causal = isinstance(model, CausalSalientSleepNet)
    windows, signals, begins = [], [], []
    for run in given.runs:
        n_epochs, state = run.x.shape[2] // n, model.initial_state(1)
        for first in range(0, n_epochs, n_window):
            last = min(first + n_window, n_epochs)
            if last - first < n_window and not is_causal:
                break
            x = run.x[:, :, first * n : last * n]
            window, state = look(model, x, state)
            windows.append(window)
            signals.append(x[0].reshape(x.shape[1], -1, n).transpose(0, 1).numpy())
            begins.append(run.t0_s + np.arange(first, last) * n / given.sfreq)
    if not windows:
        raise RecordingError(
            f"{given.name}: has no window of {n_window} epochs without a gap; give a longer recording"
        )
    sizes = np.concatenate([window.salience.swapaxes(0, 1) for window in windows])
    evidence = np.concatenate([window.evidence for window in windows])
    codes = np.concatenate([window.codes for window in windows])
    signal, begin_s = np.concatenate(signals), np.concatenate(begins)
    truth = given.truth(begin_s, n / given.sfreq)
    by, by_words = decided(codes, truth)
    waves = np.array(
        [
            (epoch, channel, begin, end)
            for epoch in range(len(sizes))
            for channel in range(sizes.shape[1])
            for begin, end in intervals(sizes[epoch, channel], given.sfreq)
        ],
        np.int64,
    ).reshape(-1, 4)
    figures: dict[str, Any] = {"sorted_by": by_words, "n_epochs": len(codes)}
    rows = []
    for code, label in enumerate(given.labels):
        for channel, name in enumerate(channels):
            of_both = waves[(by[waves[:, 0]] == code) & (waves[:, 1] == channel)]
            told = _described(of_both, signal[:, channel], int((by == code).sum()), given.sfreq)
            figures[f"{label}, {name}"] = told
            values = (f"{told[key]:.2f}" if told[key] is not None else "–" for key in _TOLD)
            rows.append((label, name, str(told["n_epochs"]), *values))
    return Explained(
        method="salience",
        title=f"Salient waves in {len(codes)} epochs of {given.name}, by {by_words}",
        arrays={
            "salience": sizes.astype(np.float16),
            "evidence": evidence.astype(np.float16),
            "waves": waves,
            "codes": codes,
            "truth": truth,
            "begin_s": begin_s,
            "labels": np.array(given.labels),
        },
        figures=figures,
        columns=("stage", "channel", "epochs", "waves an epoch", "median length (s)", "size against the epoch"),
        rows=tuple(rows),
        picture=_draw(signal, sizes, evidence, waves, (codes, by), channels, given),
    )


_TOLD = ("waves_an_epoch", "median_length_s", "relative_size")


def _described(waves: npt.NDArray[np.int64], signal: FloatArray, n_epochs: int, sfreq: float) -> dict[str, Any]:
    """How many waves, how long, and their amplitude (root of the mean square) against that of their epochs."""
    if not len(waves):
        return {"n_epochs": n_epochs, "waves_an_epoch": 0.0 if n_epochs else None} | dict.fromkeys(_TOLD[1:])
    centred = signal - signal.mean(axis=1, keepdims=True)
    rms = np.sqrt((centred**2).mean(axis=1))
    ratios = [
        float(np.sqrt((centred[epoch, begin:end] ** 2).mean()) / max(rms[epoch], 1e-12))
        for epoch, _, begin, end in waves.tolist()
    ]
    return {
        "n_epochs": n_epochs,
        "waves_an_epoch": len(waves) / n_epochs,
        "median_length_s": float(np.median((waves[:, 3] - waves[:, 2]) / sfreq)),
        "relative_size": float(np.median(ratios)),
    }


def _draw(
    signal: FloatArray,
    sizes: FloatArray,
    evidence: FloatArray,
    waves: npt.NDArray[np.int64],
    states: tuple[CodeArray, CodeArray],
    channels: tuple[str, ...],
    given: Given,
) -> Any:
    """One epoch of each stage, that with the most evidence: each channel over its salience, waves shaded."""
    codes, by = states
    shown = [code for code in range(len(given.labels)) if (by == code).any()]
    n_rows = 2 * len(channels) + 1
    picture = new_picture(10.0, 0.5 + 2.6 * max(len(shown), 1))
    for code, part in zip(shown, np.atleast_1d(picture.subfigures(max(len(shown), 1), 1)), strict=True):
        where = np.flatnonzero(by == code)
        epoch = int(where[evidence[where].mean(axis=1).argmax()])
        heights = (*(h for _ in channels for h in (1.6, 0.8)), 0.8)
        panels = part.subplots(n_rows, 1, sharex=True, height_ratios=heights)
        t_s = np.arange(signal.shape[2]) / given.sfreq
        scored_as = given.labels[codes[epoch]]
        part.suptitle(f"{given.labels[code]}: epoch {epoch} of {given.name}, scored {scored_as}", fontsize=10)
        for channel, name in enumerate(channels):
            above, below = panels[2 * channel], panels[2 * channel + 1]
            above.plot(t_s, signal[epoch, channel], color="black", linewidth=0.5)
            above.set_ylabel(name, fontsize=8)
            below.fill_between(t_s, sizes[epoch, channel], color=state_colour(code), linewidth=0)
            below.set_ylabel("salience\n(0–1)", fontsize=7)
            for _, _, begin, end in waves[(waves[:, 0] == epoch) & (waves[:, 1] == channel)]:
                above.axvspan(begin / given.sfreq, end / given.sfreq, color="#E69F00", alpha=0.35, linewidth=0)
        panels[-1].plot(t_s, evidence[epoch], color="black", linewidth=0.6)
        panels[-1].axhline(0.0, color="#999999", linewidth=0.5)
        panels[-1].set_ylabel("evidence\n(logit)", fontsize=7)
        panels[-1].set_xlim(0.0, signal.shape[2] / given.sfreq)
        for axes in panels:
            axes.tick_params(labelsize=7)
        panels[-1].set_xlabel("time in the epoch (s)", fontsize=8)
    return picture
