from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie

STORED = np.arange(20 * 5 * 7, dtype=np.float32).reshape(20, 5, 7)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.npy"


@pytest.mark.parametrize("order", ["C", "F"])
def test_frames_come_as_stored(file: Path, order: str) -> None:
    np.save(file, np.asarray(STORED, order=order))  # type: ignore[call-overload]
    with read_movie(file, rate_hz=16.8) as movie:
        np.testing.assert_array_equal(movie.read(3, 11), STORED[3:11])
        assert movie.lights == ()


def test_an_axis_of_lights_is_time_within_a_cycle(file: Path) -> None:
    np.save(file, STORED.reshape(5, 4, 5, 7))
    file.with_suffix(".json").write_text(json.dumps({"rate_hz": 16.8, "lights": ["a", "b", "c", "d"]}))
    with read_movie(file) as movie:
        assert movie.rate_hz == pytest.approx(67.2)
        assert movie.n_frames == 20
        assert [movie.tag(k) for k in range(5)] == ["a", "b", "c", "d", "a"]
        np.testing.assert_array_equal(movie.read(3, 11), STORED[3:11])


def test_times_of_cycles_are_spread_over_their_frames(file: Path) -> None:
    np.save(file, STORED.reshape(10, 2, 5, 7))
    file.with_suffix(".json").write_text(json.dumps({"time": (3.0 + np.arange(10) / 5).tolist()}))
    with read_movie(file) as movie:
        assert movie.rate_hz == 10.0
        np.testing.assert_allclose(movie.stamps_s, 3.0 + np.arange(20) / 10)
        assert movie.lights == ("light_0", "light_1")


def test_a_truncated_file_is_refused(file: Path) -> None:
    np.save(file, STORED)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(RecordingError, match=r"m\.npy: damaged or truncated"):
        read_movie(file, rate_hz=1.0)


def test_objects_are_never_unpickled(file: Path) -> None:
    np.save(file, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(
        RecordingError, match=r"m\.npy: damaged or truncated \(Array can't be memory-mapped: Python objects"
    ):
        read_movie(file, rate_hz=1.0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5)), r"is \(4, 5\); a movie is \(n_frames, height, width\)"),
        (np.zeros((0, 4, 5)), "holds no frames"),
        (np.zeros((3, 4, 5), complex), "of type complex128"),
        (np.zeros((3, 4, 5), bool), "of type bool"),
    ],
)
def test_what_is_no_movie_is_refused(file: Path, array: np.ndarray, message: str) -> None:
    np.save(file, array)
    with pytest.raises(RecordingError, match=message):
        read_movie(file, rate_hz=1.0)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_bad_sidecar_is_named(file: Path, text: str) -> None:
    np.save(file, STORED)
    file.with_suffix(".json").write_text(text)
    with pytest.raises(RecordingError, match=r"m\.json: not (a )?JSON"):
        read_movie(file)


def test_a_dataset_of_another_name_is_refused(file: Path) -> None:
    np.save(file, STORED)
    with pytest.raises(RecordingError, match="no movie 'x', it holds a single one"):
        read_movie(file, dataset="x", rate_hz=1.0)


def test_a_movie_larger_than_memory_opens_at_once(file: Path) -> None:
    n_frames = 10_000
    header = {"descr": "<u2", "fortran_order": False, "shape": (n_frames, 512, 512)}
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)  # type: ignore[arg-type]
        out.truncate(out.tell() + 2 * n_frames * 512 * 512)  # 5 GB of nothing, past what 32 bits address
    with read_movie(file, rate_hz=67.2) as movie:
        assert movie.read(n_frames - 2, n_frames).sum() == 0
