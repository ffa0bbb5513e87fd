from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie

STORED = np.random.default_rng(0).integers(0, 65535, (20, 16, 12)).astype(np.uint16)
Write = Callable[[Path, np.ndarray], None]


def contiguous(path: Path, frames: np.ndarray) -> None:
    tifffile.imwrite(path, frames)


def big_endian(path: Path, frames: np.ndarray) -> None:
    tifffile.imwrite(path, frames, byteorder=">")


def imagej(path: Path, frames: np.ndarray) -> None:
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})


def pages(path: Path, frames: np.ndarray, **options: Any) -> None:
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        for frame in frames:
            writer.write(frame, contiguous=False, metadata=None, **options)


def big_compressed_pages(path: Path, frames: np.ndarray) -> None:
    pages(path, frames, bigtiff=True, compression="zlib")


def strips(path: Path, frames: np.ndarray) -> None:
    pages(path, frames, rowsperstrip=3)


def ome(path: Path, frames: np.ndarray) -> None:
    tifffile.imwrite(path, frames, ome=True, metadata={"axes": "TYX"})


WRITERS = (contiguous, big_endian, imagej, pages, big_compressed_pages, strips, ome)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.tif"


@pytest.mark.parametrize("write", WRITERS)
def test_every_way_to_store_a_stack_gives_the_same_frames(file: Path, write: Write) -> None:
    write(file, STORED)
    with read_movie(file, rate_hz=16.8) as movie:
        assert (movie.n_frames, movie.frame_shape, movie.lights) == (20, (16, 12), ())
        assert movie.dtype.itemsize == 2
        np.testing.assert_array_equal(movie.read(3, 11), STORED[3:11])
        np.testing.assert_array_equal(movie.read(0, 20), STORED)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_the_type_stays(file: Path, dtype: str) -> None:
    tifffile.imwrite(file, STORED.astype(dtype))
    with read_movie(file, rate_hz=16.8) as movie:
        assert movie.dtype == dtype
        np.testing.assert_array_equal(movie.read(0, 20), STORED.astype(dtype))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.99])
def test_a_truncated_stack_is_refused(
    file: Path, write: Write, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, STORED)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecordingError, match=r"m\.tif: .*truncated.*copy"):
        read_movie(file, rate_hz=16.8)
    assert not caplog.records, "the user is told once"
    assert logging.getLogger("tifffile").propagate


def test_frames_that_ome_announces_but_are_not_there_are_refused(file: Path) -> None:
    tifffile.imwrite(file, STORED[:5], ome=True, metadata={"axes": "TYX"})
    content = file.read_bytes()
    changed = content.replace(b'SizeT="5"', b'SizeT="9"').replace(b'PlaneCount="5"', b'PlaneCount="9"')
    assert changed != content
    file.write_bytes(changed)
    with pytest.raises(RecordingError, match=r"m\.tif"):
        read_movie(file, rate_hz=16.8)


def test_imagej_and_plain_metadata_tell_the_rate(file: Path) -> None:
    for options, rate_hz in (
        ({"imagej": True, "metadata": {"axes": "TYX", "finterval": 0.05}}, 20.0),
        ({"imagej": True, "metadata": {"axes": "TYX", "fps": 25.0}}, 25.0),
        ({"metadata": {"axes": "TYX", "frame_rate": 30.0}}, 30.0),
    ):
        tifffile.imwrite(file, STORED, **options)  # type: ignore[arg-type]
        with read_movie(file) as movie:
            assert movie.rate_hz == rate_hz


CHANNELS = {"Name": ["a", "b", "c", "d"]}


@pytest.mark.parametrize("axes", ["TCYX", "CTYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_channels_of_ome_are_lights(file: Path, axes: str, compression: str | None) -> None:
    stack = STORED.reshape(5, 4, 16, 12)
    metadata = {"axes": axes, "TimeIncrement": 1 / 16.8, "TimeIncrementUnit": "s", "Channel": CHANNELS}
    stored = stack if axes == "TCYX" else stack.swapaxes(0, 1)
    tifffile.imwrite(file, stored, ome=True, metadata=metadata, compression=compression)
    with read_movie(file) as movie:
        assert movie.rate_hz == pytest.approx(67.2)
        assert [movie.tag(k) for k in range(6)] == ["a", "b", "c", "d", "a", "b"]
        np.testing.assert_array_equal(movie.read(2, 13), STORED[2:13])


def test_ome_tells_the_time_of_each_frame(file: Path) -> None:
    lost = {8, 9, 10, 11}
    truth = np.array([k for k in range(24) if k not in lost])
    planes = {"DeltaT": (1e3 * (0.5 + truth / 67.2)).tolist(), "DeltaTUnit": ["ms"] * 20}
    tifffile.imwrite(
        file,
        STORED.reshape(5, 4, 16, 12),
        ome=True,
        metadata={"axes": "TCYX", "Channel": CHANNELS, "Plane": planes},
    )
    with read_movie(file) as movie:
        assert movie.rate_hz == 67.2
        np.testing.assert_allclose(movie.stamps_s, 0.5 + truth / 67.2)
        np.testing.assert_array_equal(movie.numbers, truth)


def test_an_unknown_unit_of_time_is_refused(file: Path) -> None:
    metadata = {"axes": "TYX", "TimeIncrement": 1.0, "TimeIncrementUnit": "d"}
    tifffile.imwrite(file, STORED, ome=True, metadata=metadata)
    with pytest.raises(RecordingError, match=r"TimeIncrement is 1\.0 d; it must be a time"):
        read_movie(file)


def test_one_of_several_series_is_chosen(file: Path) -> None:
    with tifffile.TiffWriter(file) as writer:
        writer.write(STORED)
        writer.write(STORED[:7, :8])
        writer.write(STORED[0])
    with pytest.raises(RecordingError, match="holds several movies: 0, 1"):
        read_movie(file, rate_hz=1.0)
    with read_movie(file, dataset="1", rate_hz=1.0) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), STORED[:7, :8])


@pytest.mark.parametrize(
    ("stack", "options", "message"),
    [
        (np.zeros((5, 16, 12, 3), np.uint8), {"photometric": "rgb"}, "colour cannot be scored"),
        (np.zeros((3, 5, 16, 12), np.uint8), {"metadata": {"axes": "TZYX"}}, "one of time, and at most one"),
        (STORED[0], {}, "holds no movie"),
        (STORED.astype(complex), {}, "of type complex"),
    ],
)
def test_what_is_no_movie_is_refused(file: Path, stack: np.ndarray, options: dict[str, Any], message: str) -> None:
    tifffile.imwrite(file, stack, **options)
    with pytest.raises(RecordingError, match=message):
        read_movie(file, rate_hz=1.0)


@given(data=st.data())
@pytest.mark.parametrize("write", [contiguous, big_compressed_pages, ome])
def test_changed_bytes_are_refused_or_read_but_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, write: Write, data: st.DataObject
) -> None:
    """(Not for HDF5: the library itself can hang on a heap of texts that leads round in a circle.)"""
    path = tmp_path_factory.mktemp("fuzz") / "m.tif"
    write(path, STORED[:6])
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, min(len(content), 1500) - 1), min_size=1, max_size=5)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(RecordingError), read_movie(path, rate_hz=1.0) as movie:
        assert movie.read(0, 6).shape == (min(movie.n_frames, 6), *movie.frame_shape)
