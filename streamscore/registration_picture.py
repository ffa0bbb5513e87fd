"""The picture of a registration: does the atlas lie on the brain?

Left the frame as the camera sees it, with the atlas' outline brought to it; right the same frame in the atlas,
as the chain will see it, with outline, areas, landmarks and a grid. What lies outside the mask is darkened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from streamscore.atlas import Atlas
from streamscore.errors import ConfigError
from streamscore.transform import Transform
from streamscore.types import FloatArray, TimeArray

_OUTLINE, _AREAS, _LANDMARK, _WANTED = "#ffb000", "#ffffff", "#00d5ff", "#ff3d7f"
#: Percentiles of the frame that are drawn black and white.
_CONTRAST = (1.0, 99.5)
#: How bright what lies outside the mask is drawn.
_OUTSIDE = 0.35


def draw_overlay(frame: FloatArray, transform: Transform, atlas: Atlas, path: Path) -> None:
    """Draw the overlay of `frame` ``(height, width)`` and write it to `path` (.png).

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the overlay picture needs matplotlib; run: pip install 'streamscore[train]', or go without it: "
            "--no-picture"
        ) from error
    figure = Figure(figsize=(12, 6.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_camera(left, frame, transform, atlas)
    _draw_atlas(right, frame, transform, atlas)
    found = f"turned by {transform.rotation_deg:.1f}°, scaled by {transform.scale:.3f}"
    missed = f"{transform.share_outside():.1%} of the brain outside the frame"
    # Two landmarks can always be met.
    off = f", landmarks off by {transform.residual_px:.1f} px" if len(transform.landmarks or {}) > 2 else ""
    figure.suptitle(f"{found}, {missed}{off}", fontsize=11)
    handles = [right.plot([], [], color=_OUTLINE, label="outline of the atlas")[0]]
    handles.append(right.plot([], [], "o", mfc="none", mec=_LANDMARK, mew=2, label="landmark as marked")[0])
    handles.append(right.plot([], [], "+", color=_WANTED, mew=2, label="landmark of the atlas")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)


def _draw_camera(axes: Any, frame: FloatArray, transform: Transform, atlas: Atlas) -> None:
    height, width = frame.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    places = transform.to_atlas(np.stack((x, y), axis=-1).reshape(-1, 2)).T[::-1].reshape(2, height, width)
    brain = map_coordinates(atlas.mask.astype(np.float32), places, order=1)
    axes.imshow(_shaded(frame, brain > 0.5), cmap="gray", vmin=0, vmax=1)
    axes.contour(brain, [0.5], colors=_OUTLINE, linewidths=1.5)
    for name, (camera, wanted) in (transform.landmarks or {}).items():
        _mark(axes, name, np.array(camera), transform.to_camera([wanted])[0])
    axes.set(title="camera", xlabel="x (pixels)", ylabel="y (pixels)")


def _draw_atlas(axes: Any, frame: FloatArray, transform: Transform, atlas: Atlas) -> None:
    places = np.moveaxis(transform.sources(), -1, 0)[::-1]
    warped = map_coordinates(frame, places, order=1, mode="nearest") * transform.inside()
    axes.imshow(_shaded(warped, atlas.mask), cmap="gray", vmin=0, vmax=1)
    if atlas.areas is not None:
        for label in np.unique(atlas.areas[atlas.areas != 0]):
            axes.contour(atlas.areas == label, [0.5], colors=_AREAS, linewidths=0.6, alpha=0.6)
    axes.contour(atlas.mask, [0.5], colors=_OUTLINE, linewidths=1.5)
    for name, (camera, wanted) in (transform.landmarks or {}).items():
        _mark(axes, name, transform.to_atlas([camera])[0], np.array(wanted))
    axes.grid(color="white", alpha=0.15, linewidth=0.6)
    axes.set(title="atlas (front is up)", xlabel="x (pixels)", ylabel="y (pixels)")


def _shaded(frame: FloatArray, brain: np.ndarray[Any, np.dtype[np.bool_]]) -> FloatArray:
    """Return the frame between 0 and 1, darker outside the brain; the brain alone decides on the contrast."""
    low, high = np.percentile(frame[brain] if brain.any() else frame, _CONTRAST)
    grey = np.clip((frame - low) / max(high - low, 1e-12), 0.0, 1.0)
    shaded: FloatArray = np.where(brain, grey, _OUTSIDE * grey).astype(np.float32)
    return shaded


def _mark(axes: Any, name: str, marked: TimeArray, wanted: TimeArray) -> None:
    axes.plot(*marked, "o", mfc="none", mec=_LANDMARK, mew=2, ms=10)
    axes.plot(*wanted, "+", color=_WANTED, mew=2, ms=10)
    axes.annotate(
        name,
        marked,
        xytext=(10, 6),
        textcoords="offset points",
        color=_LANDMARK,
        fontsize=10,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "black", "edgecolor": "none", "alpha": 0.6},
    )
