"""Sensitivity maps of the VGG16: which frequencies and times of its image a small change would tell.

Source: Vilamala et al. 2017 (MODELS.md 3.4): the mean over images of |∂loss/∂pixel|, summed over red, green and
blue, scaled to 0 … 1; here for each class. The loss is the cross-entropy with the label of the epoch, where the
file has labels, else with the class that the network scores.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from offline.explain.given import CodeArray, Given
from offline.explain.result import Explained, new_picture
from streamscore.errors import ConfigError, RecordingError
from streamscore.models.base import ScoringModel
from streamscore.models.vgg16 import Vgg16
from streamscore.types import FloatArray

#: Images that go through the network at a time.
BLOCK = 8


def slopes(classify: Callable[[Tensor], Tensor], images: Tensor, codes: Tensor) -> tuple[FloatArray, CodeArray]:
    """|∂loss/∂pixel| of images, summed over colours.

    Parameters
    ----------
    classify
        Maps images to logits ``(n, n_classes)``.
    images
        ``(n, n_colours, height, width)``.
    codes
        ``(n,)`` classes of the loss; -1 takes the one with the highest logit.

    Returns
    -------
    slopes
        ``(n, height, width)``.
    codes
        As taken.
    """
    pixels = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = classify(pixels)
        taken = torch.where(codes >= 0, codes, logits.detach().argmax(dim=1))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, taken, reduction="sum"), pixels)
    return gradient.abs().sum(dim=1).numpy(), taken.numpy().astype(np.int8)


def scaled(image: FloatArray) -> FloatArray:
    """The same from 0 to 1; all 0 if it is constant."""
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def sensitivity(model: ScoringModel, given: Given) -> Explained:
    """Average the sensitivity of a VGG16 over the images of a recording, by class.

    A ConvLSTM that remembers is asked for each image from a zero state, as the published one is.

    Parameters
    ----------
    model
        A VGG16 or its ConvLSTM.
    given
        What it is given.

    Returns
    -------
    Explained
        ``maps`` (n_states, height, width), 0 … 1, the top row the highest frequency, NaN for a state without
        images; ``mean_slope`` the same before scaling; ``codes`` (n_images,).

    Raises
    ------
    ConfigError
        If the network is another.
    RecordingError
        If the recording is too short for one image.
    """
    if not isinstance(model, Vgg16):
        raise ConfigError(f"{type(model).__name__} sees no image of a spectrogram; give a bundle of vgg16")
    size, n_states = model.config.image_size, len(given.labels)
    total, codes = np.zeros((n_states, size, size)), []
    timing, step = model.timing, model.timing.step_samples

    def classify(images: Tensor) -> Tensor:
        logits: Tensor = model.head(model.features(images))
        return logits

    for run in given.runs:
        images, _ = model.images.push(run.x[:, 0], model.images.initial_state(1))
        ends = np.arange(1, run.x.shape[2] // step + 1) * step
        begins_s = run.t0_s + (ends - timing.look_ahead_samples - timing.epoch_samples) / given.sfreq
        truth = given.truth(begins_s, timing.epoch_samples / given.sfreq)
        usable = [timing.reads[-1].is_usable(end, end) for end in ends.tolist()]
        wanted = ((image, code) for image, code, good in zip(images, truth, usable, strict=True) if good)
        while block := list(islice(wanted, BLOCK)):
            wished = torch.tensor([int(code) for _, code in block])
            found, taken = slopes(classify, torch.stack([image for image, _ in block]), wished)
            np.add.at(total, taken, found)
            codes.append(taken)
    if not codes:
        raise RecordingError(
            f"{given.name}: too short for one image, which takes {timing.warm_up_samples / given.sfreq:g} s "
            "without a gap"
        )
    by_words = "labels of the file" if given.is_labelled else "states as the network scored them"
    counts = np.bincount(np.concatenate(codes), minlength=n_states)
    with np.errstate(invalid="ignore"):
        mean = (total / counts[:, None, None]).astype(np.float32)
    maps = np.stack([scaled(image) if count else image for image, count in zip(mean, counts, strict=True)])
    f_hz = model.config.max_hz * (1.0 - (np.arange(size) + 0.5) / size)
    foremost = [
        float(f_hz[np.nanargmax(image.mean(axis=1))]) if count else None
        for image, count in zip(maps, counts, strict=True)
    ]
    return Explained(
        method="sensitivity",
        title=f"Sensitivity over {int(counts.sum())} images of {given.name}, by {by_words}",
        arrays={
            "maps": maps,
            "mean_slope": mean,
            "f_hz": f_hz,
            "codes": np.concatenate(codes),
            "labels": np.array(given.labels),
        },
        figures={
            label: {"n_images": int(count), "foremost_hz": hz}
            for label, count, hz in zip(given.labels, counts, foremost, strict=True)
        },
        columns=("state", "images", "most sensitive frequency (Hz)"),
        rows=tuple(
            (label, str(int(count)), "–" if hz is None else f"{hz:.1f}")
            for label, count, hz in zip(given.labels, counts, foremost, strict=True)
        ),
        picture=_draw(maps, counts, model, given),
    )


def _draw(maps: FloatArray, counts: Any, model: Vgg16, given: Given) -> Any:
    """One map a class, on the axes of the spectrogram."""
    config, n = model.config, len(given.labels)
    n_columns = min(n, 3)
    picture = new_picture(3.4 * n_columns + 1.0, 2.9 * -(-n // n_columns) + 0.6)
    panels = picture.subplots(-(-n // n_columns), n_columns, squeeze=False, sharex=True, sharey=True)
    context_s = config.context_epochs * config.epoch_s
    extent = (-context_s, config.epoch_s + context_s, 0.0, config.max_hz)
    for axes in panels.flat[n:]:
        axes.set_visible(False)
    for axes, label, image, count in zip(panels.flat, given.labels, maps, counts, strict=False):
        axes.set_title(f"{label}, {int(count)} images", fontsize=10)
        if not count:
            axes.text(0.5, 0.5, "no images", ha="center", va="center", transform=axes.transAxes)
        shown = axes.imshow(image, cmap="cividis", extent=extent, aspect="auto", vmin=0.0, vmax=1.0)
        if config.context_epochs:
            for edge_s in (0.0, config.epoch_s):
                axes.axvline(edge_s, color="white", linestyle=":", linewidth=1.2)
    for axes in panels[-1]:
        axes.set_xlabel("time from the start of the epoch (s)")
    for axes in panels[:, 0]:
        axes.set_ylabel("frequency (Hz)")
    picture.colorbar(shown, ax=panels, label="mean |∂loss/∂pixel|, scaled to 0–1 by class", shrink=0.9)
    picture.suptitle(f"Where the image decides, {given.name}", fontsize=11)
    return picture
