"""NumPy archives of one movie or of several cameras, beside rate, times, lights, mask and labels.

An array of three or four axes is a movie; ``dataset`` says which where there are several. Its frames are read
out of the archive as they are asked for, compressed or not; going back costs reading from its start.

The recording of two cameras with interleaved 405 nm frames (keys ``cam_…`` and ``frame_t``) is known by its
times: they come as pairs 50 ms apart, one pair a second. The first of a pair is the lit one: it is the brighter
in each of the 120 pairs of both cameras, and moves with the activity; the second was taken at 405 nm.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.errors import RecordingError
from streamscore.movies.fields import MAX_FIELD_BYTES, Fields, per_frame, read_fields
from streamscore.movies.frames import ArrayFrames, check_stack, choose
from streamscore.movies.numbering import frame_numbers

_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
#: Frames of a pair are closer than this share of the time from pair to pair.
_PAIRED = 0.5


class _Member:
    """One array of an archive, read from front to back."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._file = archive.open(name)
        version = np.lib.format.read_magic(self._file)
        shape, is_fortran, dtype = _HEADERS[version](self._file)
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        self.is_fortran = is_fortran
        self._offset = self._file.tell()
        self._size = archive.getinfo(name).file_size

    @property
    def is_whole(self) -> bool:
        return self._size - self._offset == math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, key: slice) -> npt.NDArray[Any]:
        start, stop, _ = key.indices(self.shape[0])
        item_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._file.seek(self._offset + start * item_bytes)
        content = self._file.read((stop - start) * item_bytes)
        return np.frombuffer(content, self.dtype).reshape(stop - start, *self.shape[1:])

    def close(self) -> None:
        self._file.close()


class _Values(Mapping[str, Any]):
    """The small arrays of an archive, each loaded when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, names: Mapping[str, str]) -> None:
        self._archive, self._names = archive, names

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        with self._archive.open(self._names[key]) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read(path: Path, dataset: str | None = None) -> tuple[ArrayFrames, Fields]:
    """Open one movie of the archive; see :func:`streamscore.movies.base.read_movie`."""
    archive = zipfile.ZipFile(path)
    try:
        stacks = _stacks(archive)
        small = {
            _key(info.filename): info.filename
            for info in archive.infolist()
            if _key(info.filename) not in stacks
            and info.filename.endswith(".npy")
            and info.file_size <= MAX_FIELD_BYTES
        }
        chosen = choose(str(path), dataset, stacks)
        where = f"{path}: array {chosen!r}"
        member = _Member(archive, f"{chosen}.npy")
        check_stack(where, member.shape, member.dtype)
        if member.is_fortran or not member.is_whole:
            problem = "stored column by column" if member.is_fortran else "shorter than its header says"
            raise RecordingError(
                f"{where} is {problem}; save it again with numpy.savez(…, numpy.ascontiguousarray(x))"
            )
        fields = read_fields(str(path), _Values(archive, small))
        if fields.stamps_s is not None and not fields.lights and chosen.startswith("cam_"):
            fields = _pairs(fields, fields.stamps_s)
    except BaseException:
        archive.close()
        raise

    def close() -> None:
        member.close()
        archive.close()

    return ArrayFrames(member, close), per_frame(fields, member.shape)


def stacks_of(path: Path) -> list[str]:
    """Return the keys of all movies, by the headers of the arrays."""
    with zipfile.ZipFile(path) as archive:
        return _stacks(archive)


def _stacks(archive: zipfile.ZipFile) -> list[str]:
    found = []
    for name in (name for name in archive.namelist() if name.endswith(".npy")):
        member = _Member(archive, name)
        member.close()
        if len(member.shape) in (3, 4):
            found.append(_key(name))
    return found


def _key(name: str) -> str:
    return name.removesuffix(".npy")


def _pairs(fields: Fields, stamps_s: npt.NDArray[np.float64]) -> Fields:
    """Tell lit and 405 nm frames by their place in a pair, whatever was lost."""
    if len(stamps_s) < 3:
        return fields
    period_s = float(np.median(stamps_s[2:] - stamps_s[:-2]))
    numbers = frame_numbers(stamps_s, 2 / period_s, 2)
    steps_s = np.diff(stamps_s)[np.diff(numbers) == 1]
    is_even = numbers[:-1][np.diff(numbers) == 1] % 2 == 0
    begins_lit = not is_even.any() or np.median(steps_s[is_even]) < _PAIRED * period_s
    return replace(fields, lights=("fluorescence", "reference_405"), tags=numbers % 2 ^ (not begins_lit))
