"""Averages over regions: frames become as many signals as a map has regions.

The map gives each pixel the number of its region, 0 where there is none. MVG-CNN takes the parcels 2–19 and 22–39
of its atlas, within the brain mask (MODELS.md 1.5); the ROI decoders take 50 regions (4.3).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from streamscore.arrays import read_array
from streamscore.preprocess.base import MovieStep, frames_of
from streamscore.types import Layout


class Config(BaseModel):
    """Arguments of :class:`RoiMean`.

    Parameters
    ----------
    regions
        ``(height, width)`` whole numbers, 0 outside all regions; packed or a file.
    labels
        Which regions, in the order of the output; all of the map, ascending, if not given.
    names
        One a region; ``roi_`` and its number if not given.
    mask
        Pixels outside it belong to no region; packed or a file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    regions: str
    labels: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    names: tuple[str, ...] | None = None
    mask: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Config:
        for name in ("labels", "names"):
            values = getattr(self, name)
            if values is not None and (len(values) == 0 or len(set(values)) < len(values)):
                raise ValueError(f"{name} must be some, each different; got {values}")
        return self


class RoiMean(MovieStep):
    """Average the pixels of each region."""

    def __init__(self, config: Config, layout: Layout) -> None:
        frame_shape = frames_of("roi_mean", layout)
        if len(layout.channels) != 1:
            raise ValueError(
                f"roi_mean takes frames of one light and gets {', '.join(layout.channels)}; put a step before it "
                "that leaves one, such as haemoglobin or select"
            )
        regions = _map_of(config, frame_shape)
        known = tuple(int(label) for label in np.unique(regions) if label != 0)
        if not known:
            raise ValueError("roi_mean: the map holds no region inside the mask, all is 0; give another one")
        labels = config.labels or known
        names = config.names or tuple(f"roi_{label}" for label in labels)
        if len(names) != len(labels):
            raise ValueError(f"roi_mean: {len(names)} names for {len(labels)} regions; give one a region")
        self.layout = Layout(layout.sfreq, names)
        # Row of the output for each pixel; the last row takes what belongs to none.
        rows = np.full(regions.shape, len(labels))
        for row, (label, name) in enumerate(zip(labels, names, strict=True)):
            if label not in known:
                inside = " inside the mask" if config.mask else ""
                raise ValueError(
                    f"roi_mean: region {label} ({name}) has no pixel{inside}; the map has "
                    f"{', '.join(map(str, known))}. Leave it out of "
                    "labels, or check that map, mask and frames belong together"
                )
            rows[regions == label] = row
        sizes = np.bincount(rows.ravel(), minlength=len(labels) + 1)[:-1]
        self._rows = torch.from_numpy(rows.ravel())
        self._share = torch.from_numpy((1.0 / sizes).astype(np.float32))

    def push_frames(self, x: Tensor, start: int) -> Tensor:
        sums = x.new_zeros((len(x), len(self._share) + 1))
        sums.index_add_(1, self._rows, x.flatten(1))
        return sums[:, :-1] * self._share

    def reset(self) -> None:
        """Keep everything: regions stay where they are."""


def _map_of(config: Config, frame_shape: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    regions = read_array(config.regions, "regions of step roi_mean")
    if (regions != np.round(regions)).any() or (regions < 0).any():
        raise ValueError("roi_mean: regions are whole numbers from 0 up; the map holds others")
    arrays = {"regions": regions}
    if config.mask is not None:
        arrays["mask"] = read_array(config.mask, "mask of step roi_mean")
    for name, array in arrays.items():
        if array.shape != frame_shape:
            raise ValueError(
                f"roi_mean: {name} has shape {array.shape} and the frames have {frame_shape} pixels; give one of "
                "the size that arrives at this step"
            )
    whole = regions.astype(np.int64)
    return np.where(arrays["mask"] != 0, whole, 0) if "mask" in arrays else whole


def build(config: Config, layout: Layout) -> RoiMean:
    """Return the step for frames of `layout`."""
    return RoiMean(config, layout)
