"""Frames on disk, a few at a time: no movie is ever in memory as a whole.

What the formats share is an array that can be sliced along its first axis (a memory map, a dataset of HDF5): it
has axes ``(n_frames, height, width)``, or one more after the first, whose frames follow each other in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streamscore.errors import RecordingError

Pixels = npt.NDArray[Any]


class Frames(Protocol):
    """The frames of a file, by number.

    Attributes
    ----------
    shape
        ``(n_frames, height, width)``.
    dtype
        As stored.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, start: int, stop: int) -> Pixels:
        """Return frames ``[start, stop)`` as ``(n, height, width)``."""

    def close(self) -> None:
        """Release the file. May be called more than once."""


class Sliceable(Protocol):
    """A memory map, or a dataset of HDF5."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, key: slice, /) -> Any: ...


class ArrayFrames:
    """Frames of an array that can be sliced.

    Parameters
    ----------
    array
        ``(n_frames, height, width)`` or ``(n, m, height, width)``, whose frame ``i`` is ``[i // m, i % m]``.
    close
        Called once at the end.
    turned
        The last two axes are ``(width, height)``.
    """

    def __init__(
        self, array: Sliceable, close: Callable[[], None] = lambda: None, *, turned: bool = False
    ) -> None:
        self._array: Sliceable | None = array
        self._close = close
        self._turned = turned
        self._per_item = array.shape[1] if len(array.shape) == 4 else 1
        height, width = array.shape[:-3:-1] if turned else array.shape[-2:]
        self.shape = (array.shape[0] * self._per_item, height, width)
        self.dtype = np.dtype(array.dtype)

    def read(self, start: int, stop: int) -> Pixels:
        if self._array is None:
            raise ValueError("it is closed")
        first, last = start // self._per_item, -(-stop // self._per_item)
        items = np.asarray(self._array[first:last])
        stored = items.reshape(-1, *items.shape[-2:])
        frames = stored.swapaxes(1, 2) if self._turned else stored
        skipped = first * self._per_item
        return np.ascontiguousarray(frames[start - skipped : stop - skipped])

    def close(self) -> None:
        close, self._close = self._close, lambda: None
        self._array = None
        close()


def check_stack(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what is not a stack of frames.

    Raises
    ------
    RecordingError
        Naming `where` and what it should be.
    """
    if dtype.hasobject:
        raise RecordingError(f"{where}: holds objects, which are never loaded; save plain numbers instead")
    if dtype.kind not in "iuf":
        raise RecordingError(f"{where}: is of type {dtype}; save whole or floating-point numbers")
    if len(shape) not in (3, 4):
        raise RecordingError(
            f"{where}: is {shape}; a movie is (n_frames, height, width), or (n, n_lights, height, width)"
        )
    if math.prod(shape) == 0:
        raise RecordingError(f"{where}: is {shape}, which holds no frames; record it again")


def choose(where: str, wanted: str | None, stacks: list[str]) -> str:
    """Return the name of the stack that is wanted, or of the only one.

    Raises
    ------
    RecordingError
        Listing the choices.
    """
    listed = ", ".join(stacks) or "(none)"
    if wanted is not None and wanted not in stacks:
        raise RecordingError(f"{where}: has no movie {wanted!r}; it holds {listed}. Set `dataset` to one of them")
    if wanted is None and len(stacks) != 1:
        problem = "holds several movies" if stacks else "holds no movie, an array (n_frames, height, width)"
        raise RecordingError(f"{where}: {problem}: {listed}. Say which with `dataset`")
    return wanted or stacks[0]
