"""The atlas that frames are registered to: our own drawing, or the lab's own mask and landmarks.

Front is up; positions are ``(x, y)`` as in :mod:`streamscore.transform`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.arrays import read_array
from streamscore.errors import ConfigError
from streamscore.simulate.cortex_map import CortexMap
from streamscore.transform import Point, Shape


@dataclass(frozen=True)
class Atlas:
    """What frames are registered to.

    Parameters
    ----------
    mask
        ``(height, width)``, true on the brain.
    landmarks
        ``bregma`` and ``lambda``, and any others, as ``(x, y)``.
    areas
        ``(height, width)`` whole numbers, for the picture; ``None`` where there are none.
    """

    mask: npt.NDArray[np.bool_]
    landmarks: Mapping[str, Point]
    areas: npt.NDArray[np.integer[Any]] | None = None

    @property
    def shape(self) -> Shape:
        """``(height, width)``."""
        return self.mask.shape[0], self.mask.shape[1]


def drawn_atlas(shape: Shape = (128, 128)) -> Atlas:
    """Return our own drawing as an atlas of `shape`."""
    drawing = CortexMap(shape)
    landmarks = {name: (column, row) for name, (row, column) in drawing.landmarks_px.items()}
    return Atlas(drawing.mask, landmarks, drawing.areas)


def read_atlas(mask: str, bregma: Point, lambda_: Point) -> Atlas:
    """Return an atlas of the lab's own.

    Parameters
    ----------
    mask
        File of an array ``(height, width)``, 0 outside the brain; if it holds several numbers they are areas.
    bregma, lambda_
        Where they lie on it.

    Raises
    ------
    ConfigError
        If the file cannot be used or a landmark lies outside.
    """
    brain = read_array(mask, "atlas")
    if brain.ndim != 2 or not (brain != 0).any():
        raise ConfigError(
            f"atlas {mask}: has shape {brain.shape}; give a mask of 2 axes that is not 0 on the brain"
        )
    landmarks = {"bregma": bregma, "lambda": lambda_}
    check_inside(landmarks, brain.shape, "the atlas")
    areas = brain.astype(np.int64) if len(np.unique(brain)) > 2 else None
    return Atlas(brain != 0, landmarks, areas)


def check_inside(points: Mapping[str, Point], shape: Sequence[int], where: str) -> None:
    """Refuse points outside a picture of `shape`, ``(height, width)``; raises ``ConfigError`` naming the point."""
    height, width = shape
    for name, (x, y) in points.items():
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise ConfigError(
                f"{name} at x {x:g}, y {y:g} lies outside {where} of {width} × {height} pixels (width × height); "
                "x is the column and y the row, both from 0"
            )
