"""NumPy arrays on disk: ``(n_frames, height, width)`` or ``(n, n_lights, height, width)``, mapped into memory.

A JSON file of the same name beside it may say what an array cannot, under the names of
:mod:`streamscore.movies.fields`: ``{"rate_hz": 16.8, "lights": ["fluorescence_470"]}``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from streamscore.errors import RecordingError
from streamscore.movies.fields import Fields, per_frame, read_fields
from streamscore.movies.frames import ArrayFrames, check_stack


def read(path: Path, dataset: str | None = None) -> tuple[ArrayFrames, Fields]:
    """Open the array; see :func:`streamscore.movies.base.read_movie`."""
    if dataset not in (None, path.stem):
        raise RecordingError(f"{path}: has no movie {dataset!r}, it holds a single one; leave `dataset` out")
    array = np.lib.format.open_memmap(path, mode="r")
    check_stack(str(path), array.shape, array.dtype)
    return ArrayFrames(array), per_frame(_beside(path), array.shape)


def stacks_of(path: Path) -> list[str]:
    """Return the name of the array if it is a movie, by its header."""
    return [path.stem] if np.lib.format.open_memmap(path, mode="r").ndim in (3, 4) else []


def _beside(path: Path) -> Fields:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        return Fields()
    try:
        values = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordingError(f'{sidecar}: not JSON ({error}); write it like {{"rate_hz": 16.8}}') from error
    if not isinstance(values, dict):
        raise RecordingError(f'{sidecar}: not a JSON object; write it like {{"rate_hz": 16.8}}')
    return read_fields(str(sidecar), values)
