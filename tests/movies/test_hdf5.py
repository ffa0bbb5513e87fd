from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie

STORED = np.random.default_rng(0).integers(0, 65535, (30, 16, 12)).astype(np.uint16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.h5"


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 16, 12), "compression": "gzip"}])
def test_the_only_stack_is_found(file: Path, options: dict[str, object]) -> None:
    with h5py.File(file, "w") as out:
        out.create_dataset("rig/camera/raw", data=STORED, **options)
        out["rig/camera/raw"].attrs["fps"] = 30.0
        out["wheel"] = np.zeros(100)
    with read_movie(file) as movie:
        assert (movie.rate_hz, movie.n_frames, movie.frame_shape) == (30.0, 30, (16, 12))
        np.testing.assert_array_equal(movie.read(7, 19), STORED[7:19])


def test_what_stands_beside_it_is_read(file: Path) -> None:
    truth = np.delete(np.arange(32), [7, 20])
    with h5py.File(file, "w") as out:
        group = out.create_group("cam")
        group["frames"] = STORED
        group["timestamps"] = 2.0 + truth / 40.0
        group["lights"] = ["blue", "green"]
        group["tags"] = truth % 2
        group["mask"] = np.eye(16, 12)
        group["states"] = [0, 2]
        group.attrs["epoch_s"] = 0.4
        out.attrs["labels"] = "MOUSE3"
        out["timestamps"] = np.arange(3.0)  # of something else
    with read_movie(file) as movie:
        assert movie.rate_hz == 40.0
        np.testing.assert_array_equal(movie.numbers, truth)
        assert [movie.tag(k) for k in (0, 1, 7)] == ["blue", "green", "blue"]
        assert movie.mask is not None
        assert movie.mask.sum() == 12
        assert movie.states.tolist() == [0, 2]


def test_an_axis_of_lights_is_time_within_a_cycle(file: Path) -> None:
    with h5py.File(file, "w") as out:
        out["frames"] = STORED.reshape(15, 2, 16, 12)
        out["frames"].attrs["rate_hz"] = 8.0
    with read_movie(file, lights=("blue", "violet")) as movie:
        assert movie.rate_hz == 16.0
        assert [movie.tag(k) for k in range(3)] == ["blue", "violet", "blue"]
        np.testing.assert_array_equal(movie.read(3, 6), STORED[3:6])


def test_a_missing_dataset_lists_the_choices(file: Path) -> None:
    with h5py.File(file, "w") as out:
        out["a/frames"], out["b/frames"] = STORED, STORED[::-1]
    with pytest.raises(RecordingError, match="holds several movies: a/frames, b/frames"):
        read_movie(file, rate_hz=1.0)
    with pytest.raises(RecordingError, match="no movie 'c/frames'; it holds a/frames, b/frames"):
        read_movie(file, dataset="c/frames", rate_hz=1.0)
    with read_movie(file, dataset="/b/frames", rate_hz=1.0) as movie:
        np.testing.assert_array_equal(movie.read(0, 2), STORED[:-3:-1])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(file: Path, share: float) -> None:
    with h5py.File(file, "w") as out:
        out["frames"] = STORED
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecordingError, match=r"m\.h5: damaged or truncated"):
        read_movie(file, rate_hz=1.0)


def test_damage_inside_is_told_when_it_is_reached(file: Path) -> None:
    with h5py.File(file, "w") as out:
        out.create_dataset("frames", data=STORED, chunks=(1, 16, 12), compression="gzip", fletcher32=True)
        place = out["frames"].id.get_chunk_info(20)
    content = bytearray(file.read_bytes())
    content[place.byte_offset + 10 : place.byte_offset + 60] = bytes(50)
    file.write_bytes(content)
    with read_movie(file, rate_hz=1.0) as movie:
        np.testing.assert_array_equal(movie.read(0, 20), STORED[:20])
        with pytest.raises(RecordingError, match="m: frames 18 to 22 cannot be read"):
            movie.read(18, 23)


def test_a_stack_of_something_else_is_refused(file: Path) -> None:
    with h5py.File(file, "w") as out:
        out["frames"] = np.full((2, 3, 4), b"text")
    with pytest.raises(RecordingError, match="of type"):
        read_movie(file, rate_hz=1.0)


def test_a_closed_file_says_so(file: Path) -> None:
    with h5py.File(file, "w") as out:
        out["frames"] = STORED
    movie = read_movie(file, rate_hz=1.0)
    movie.close()
    with pytest.raises(RecordingError, match="it is closed"):
        movie.read(0, 1)
    file.unlink()


def test_a_movie_larger_than_memory_opens_at_once(file: Path) -> None:
    with h5py.File(file, "w") as out:
        out.create_dataset("frames", (10_000, 512, 512), np.uint16, chunks=(1, 512, 512))
        out["frames"][9_999] = 7
    with read_movie(file, rate_hz=67.2) as movie:
        assert movie.read(9_998, 10_000)[:, 0, 0].tolist() == [0, 7]
