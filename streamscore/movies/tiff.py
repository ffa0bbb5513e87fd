"""TIFF stacks: plain pages, BigTIFF, ImageJ, and OME with its rate, times and names of channels.

Pages that lie behind each other are mapped into memory; others (compressed ones) are decoded as they are asked
for. A file that was cut short is refused as a whole: in many files the description of rate and channels stands
at the end, and without it the frames that are left could be taken for others.
"""

from __future__ import annotations

import logging
import struct
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from streamscore.errors import RecordingError
from streamscore.movies.fields import Fields, per_frame, read_fields
from streamscore.movies.frames import ArrayFrames, Frames, Pixels, check_stack, choose

_UNIT_S = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
#: ImageJ says the time between frames.
_INTERVAL_S = "finterval"


class _Errors(logging.Handler):
    """Keeps what tifffile has to complain of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class PageFrames:
    """One frame a page, decoded when it is asked for."""

    def __init__(self, file: tifffile.TiffFile, series: tifffile.TiffPageSeries, order: Pixels) -> None:
        self._file, self._pages, self._order = file, series.pages, order
        height, width = series.shape[-2:]
        self.shape = (len(order), height, width)
        self.dtype = np.dtype(series.dtype)

    def read(self, start: int, stop: int) -> Pixels:
        frames = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for k, at in enumerate(self._order[start:stop]):
            frames[k] = self._pages[int(at)].asarray().reshape(self.shape[1:])
        return frames

    def close(self) -> None:
        self._file.close()


def read(path: Path, dataset: str | None = None) -> tuple[Frames, Fields]:
    """Open one series of the file; see :func:`streamscore.movies.base.read_movie`."""
    errors, logger = _Errors(), logging.getLogger("tifffile")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(errors)
    try:
        file = tifffile.TiffFile(path)
        try:
            return _open(path, file, dataset, errors)
        except BaseException:
            file.close()
            raise
    finally:
        logger.removeHandler(errors)
        logger.propagate = propagates


def _open(path: Path, file: tifffile.TiffFile, dataset: str | None, errors: _Errors) -> tuple[Frames, Fields]:
    n_pages = len(file.pages)
    found = {str(k): item for k, item in enumerate(file.series)}
    if errors.texts:
        raise ValueError(f"{errors.texts[0]}; {n_pages} pages are left")
    stacks = [key for key, item in found.items() if item.ndim >= 3]
    chosen = choose(str(path), dataset, stacks)
    series = found[chosen]
    where = f"{path}: series {chosen}"
    pages = _axes(where, series)
    shape = (*pages.shape, *series.shape[-2:])
    check_stack(where, shape, np.dtype(series.dtype))
    _check_whole(where, file, series)
    fields = per_frame(_fields(where, int(chosen), file, series), shape)
    if series.dataoffset is None:
        return PageFrames(file, series, pages.ravel()), fields
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    mapped: Pixels = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    file.close()
    if len(shape) == 4:
        mapped = mapped.reshape(shape) if pages.flags.c_contiguous else mapped.swapaxes(0, 1)
    return ArrayFrames(mapped), fields


def _axes(where: str, series: tifffile.TiffPageSeries) -> Pixels:
    """Return the page of each frame, ``(n,)`` in the order of time or ``(n, n_lights)``."""
    axes = list(series.axes[:-2])
    if series.axes[-2:] != "YX":
        raise RecordingError(f"{where}: has axes {series.axes}; colour cannot be scored, save one value a pixel")
    pages = np.arange(int(np.prod(series.shape[:-2]))).reshape(series.shape[:-2])
    if axes == ["C"]:
        return pages[None]
    if len(axes) == 1 or (len(axes) == 2 and axes[1] == "C"):
        return pages
    if len(axes) == 2 and axes[0] == "C":
        return pages.T
    raise RecordingError(
        f"{where}: has axes {series.axes} of {series.shape}; a movie has one of time, and at most one of channels"
    )


def _check_whole(where: str, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Refuse a file that ends before its frames do, or whose description announces more frames."""
    size = file.filehandle.size
    if series.dataoffset is not None:
        end = series.dataoffset + series.nbytes
    else:
        pages = [page for page in series.pages if page is not None]
        if missing := len(series.pages) - len(pages):
            raise RecordingError(
                f"{where}: {missing} of {len(series.pages)} frames are not in the file; copy it again"
            )
        end = max(at + n for page in pages for at, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    if end > size:
        raise RecordingError(
            f"{where}: ends at byte {end}, but the file at {size}: it is truncated; copy it again"
        )
    _check_chain(file)


def _check_chain(file: tifffile.TiffFile) -> None:
    """The last page must say that it is the last."""
    tiff, handle = file.tiff, file.filehandle
    handle.seek(file.pages[-1].offset)
    (n_tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
    handle.seek(n_tags * tiff.tagsize, 1)
    rest = handle.read(tiff.offsetsize)
    if len(rest) < tiff.offsetsize or struct.unpack(tiff.offsetformat, rest)[0] != 0:
        raise ValueError(f"page {len(file.pages)} and what follows are missing")


def _fields(where: str, number: int, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Fields:
    if file.ome_metadata:
        return _ome(where, file.ome_metadata, number, int(np.prod(series.shape[:-2])))
    values: dict[str, Any] = dict(file.imagej_metadata or {})
    for shaped in file.shaped_metadata or ():
        values |= shaped
    interval_s = values.get(_INTERVAL_S)
    if interval_s and not values.get("fps"):
        values["fps"] = 1.0 / float(interval_s)
    return read_fields(where, values)


def _ome(where: str, text: str, number: int, n_frames: int) -> Fields:
    """Rate, times and names of channels of one image."""
    root = ET.fromstring(text)
    images = [node for node in root.iter() if node.tag.endswith("}Image")]
    pixels = next(node for node in images[number] if node.tag.endswith("}Pixels"))
    names = [node.get("Name") for node in pixels if node.tag.endswith("}Channel")]
    planes = [node for node in pixels if node.tag.endswith("}Plane") and node.get("DeltaT") is not None]
    increment = pixels.get("TimeIncrement")
    return Fields(
        rate_hz=1.0 / _seconds(where, pixels.attrib, "TimeIncrement") if increment else None,
        stamps_s=_plane_times(where, planes, n_frames),
        lights=tuple(str(name) for name in names) if len(names) > 1 and all(names) else (),
    )


def _plane_times(where: str, planes: list[ET.Element], n_frames: int) -> Any:
    """``(n_frames,)`` in the order of time and then channel; ``None`` unless each frame has its own."""
    if len(planes) != n_frames:
        return None
    order = sorted(planes, key=lambda node: (int(node.get("TheT", 0)), int(node.get("TheC", 0))))
    return np.array([_seconds(where, node.attrib, "DeltaT") for node in order])


def _seconds(where: str, attributes: Mapping[str, str], key: str) -> float:
    unit = attributes.get(f"{key}Unit", "s")
    value = float(attributes[key])
    if unit not in _UNIT_S or not value >= 0:
        raise RecordingError(f"{where}: {key} is {attributes[key]} {unit}; it must be a time")
    return value * _UNIT_S[unit]
