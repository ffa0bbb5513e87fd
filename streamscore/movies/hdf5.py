"""HDF5 files: a dataset ``(n_frames, height, width)`` or ``(n, n_lights, height, width)``, wherever it stands.

Rate, times, lights, mask and labels are looked for, under the names of :mod:`streamscore.movies.fields`, among
the attributes of the dataset, the datasets beside it, and the attributes of its group and of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from streamscore.movies.fields import MAX_FIELD_BYTES, Fields, per_frame, read_fields
from streamscore.movies.frames import ArrayFrames, check_stack, choose


class _Values(Mapping[str, Any]):
    """Attributes and small datasets, each loaded when it is asked for."""

    def __init__(self, stack: h5py.Dataset) -> None:
        group = stack.parent
        self._places: dict[str, Any] = {}
        for attributes in (stack.file.attrs, group.attrs):
            self._places |= dict.fromkeys(attributes, attributes)
        self._places |= {name: group for name in group if is_field(group.get(name))}
        self._places |= dict.fromkeys(stack.attrs, stack.attrs)

    def __getitem__(self, key: str) -> Any:
        found = self._places[key][key]
        return found[()] if isinstance(found, h5py.Dataset) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def read(path: Path, dataset: str | None = None) -> tuple[ArrayFrames, Fields]:
    """Open one dataset of the file; see :func:`streamscore.movies.base.read_movie`."""
    file = h5py.File(path, "r")
    try:
        stacks = stacks_of(file)
        chosen = choose(str(path), dataset.strip("/") if dataset else None, stacks)
        stack = file[chosen]
        check_stack(f"{path}: dataset {chosen!r}", stack.shape, stack.dtype)
        fields = read_fields(str(path), _Values(stack))
    except BaseException:
        file.close()
        raise
    return ArrayFrames(stack, file.close), per_frame(fields, stack.shape)


def is_field(item: Any) -> bool:
    """Whether something in a file may be one of the fields."""
    return isinstance(item, h5py.Dataset) and item.ndim < 3 and item.nbytes <= MAX_FIELD_BYTES


def stacks_of(file: h5py.File) -> list[str]:
    """Return the paths of all datasets of three or four axes."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (3, 4):
            found.append(name)

    file.visititems(visit)
    return found
