"""MATLAB files: the public recordings of calcium imaging in sleep, and any array of frames.

MATLAB stores ``(height, width, n_frames)`` column by column; in version 7.3, which is HDF5, the axes then stand
in reverse. Either way frames come out as ``(height, width)``.

The public layout (attention-based BiLSTM for sleep scoring) has epochs of 10 s, 168 frames each at 16.8 Hz:
``data`` (128, 128, 168, n_epochs), already corrected and registered; ``xform_mask`` (128, 128); and
``scoringindex_file`` (n_epochs), 0 wake, 1 NREM, 2 artefact, 3 REM. The published code means to take artefact
epochs out of labels and movie. Here they stay in the movie and are unscored: the same epochs are compared, and
no epoch gets false neighbours. Pixels outside the mask that hold no number are 0, as the network was trained
with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from streamscore.errors import RecordingError
from streamscore.labels import MOUSE3, UNKNOWN_CODE
from streamscore.movies.fields import Fields, per_frame, read_fields
from streamscore.movies.frames import ArrayFrames, Pixels, check_stack, choose
from streamscore.movies.hdf5 import is_field

_SLEEP_KEYS = {"data", "xform_mask", "scoringindex_file"}
SLEEP_RATE_HZ = 16.8
SLEEP_EPOCH_FRAMES = 168
#: Label of the file → code of MOUSE3: wake, NREM, REM. What is not listed (2, artefact) is unscored.
_SLEEP_CODES = {0: 0, 1: 1, 3: 2}
#: Older files are read as a whole, so they must be small.
_MAX_WHOLE_BYTES = 2**30


class SleepFrames(ArrayFrames):
    """Frames of the public layout; 0 outside the mask where the file holds no number."""

    def __init__(self, array: Any, close: Any, outside: npt.NDArray[np.bool_]) -> None:
        super().__init__(array, close, turned=True)
        self._outside = outside

    def read(self, start: int, stop: int) -> Pixels:
        frames = super().read(start, stop)
        if frames.dtype.kind == "f":
            frames[:, self._outside] = np.nan_to_num(frames[:, self._outside], nan=0.0, posinf=0.0, neginf=0.0)
        return frames


class _Reversed(Mapping[str, Any]):
    """Variables of a file of version 7.3 with the axes that MATLAB shows, each loaded when it is asked for."""

    def __init__(self, file: h5py.File, names: list[str]) -> None:
        self._file, self._names = file, names

    def __getitem__(self, key: str) -> Any:
        variable = self._file[key]
        values = variable[()].T
        if variable.attrs.get("MATLAB_class") == b"char":
            return "".join(chr(code) for code in values.ravel())
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read(path: Path, dataset: str | None = None) -> tuple[ArrayFrames, Fields]:
    """Open one array of the file; see :func:`streamscore.movies.base.read_movie`."""
    if h5py.is_hdf5(path):
        return _read_hdf5(path, dataset)
    return _read_older(path, dataset)


def _read_hdf5(path: Path, dataset: str | None) -> tuple[ArrayFrames, Fields]:
    file = h5py.File(path, "r")
    try:
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        values = _Reversed(file, [name for name, item in arrays.items() if is_field(item)])
        return _open(path, dataset, arrays, values, file.close)
    except BaseException:
        file.close()
        raise


def _read_older(path: Path, dataset: str | None) -> tuple[ArrayFrames, Fields]:
    n_bytes = path.stat().st_size
    if n_bytes > _MAX_WHOLE_BYTES:
        raise RecordingError(
            f"{path}: {n_bytes / 1e9:.1f} GB in a MATLAB format that cannot be read in parts; save it with -v7.3"
        )
    # (Names in front of which there are two underscores are scipy's own.)
    loaded = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    arrays = {name: value.T for name, value in loaded.items() if isinstance(value, np.ndarray)}
    return _open(path, dataset, arrays, {k: v for k, v in loaded.items() if np.ndim(v) < 3}, lambda: None)


def _open(
    path: Path, dataset: str | None, arrays: Mapping[str, Any], values: Mapping[str, Any], close: Any
) -> tuple[ArrayFrames, Fields]:
    """Make frames of one of `arrays`, whose axes are the reverse of MATLAB's, as in HDF5."""
    stacks = [name for name, array in arrays.items() if array.ndim in (3, 4)]
    chosen = choose(str(path), dataset, stacks)
    stack = arrays[chosen]
    where = f"{path}: variable {chosen!r}"
    check_stack(where, stack.shape, np.dtype(stack.dtype))
    if chosen == "data" and set(arrays) >= _SLEEP_KEYS:
        return _sleep(where, stack, values, close)
    return ArrayFrames(stack, close, turned=True), per_frame(read_fields(str(path), values), stack.shape)


def _sleep(where: str, stack: Any, values: Mapping[str, Any], close: Any) -> tuple[ArrayFrames, Fields]:
    raw = np.asarray(values["scoringindex_file"]).ravel()
    mask = np.asarray(values["xform_mask"]) != 0
    if stack.ndim == 3:  # MATLAB drops a last axis of one epoch
        stack = stack[()][None]
    n_epochs, n_frames, width, height = stack.shape
    if n_frames != SLEEP_EPOCH_FRAMES or len(raw) != n_epochs or mask.shape != (height, width):
        raise RecordingError(
            f"{where}: is {stack.shape[::-1]}, xform_mask is {mask.shape}, scoringindex_file has {len(raw)} "
            f"labels; the public layout has {SLEEP_EPOCH_FRAMES} frames and a label for each epoch, and a mask as "
            "large as a frame"
        )
    states = np.full(n_epochs, UNKNOWN_CODE, np.int8)
    for theirs, ours in _SLEEP_CODES.items():
        states[raw == theirs] = ours
    fields = Fields(
        rate_hz=SLEEP_RATE_HZ,
        lights=("calcium",),  # corrected: one light, whatever the rig had
        mask=mask,
        labels=MOUSE3,
        states=states,
        epoch_s=SLEEP_EPOCH_FRAMES / SLEEP_RATE_HZ,
    )
    return SleepFrames(stack, close, ~mask), fields
