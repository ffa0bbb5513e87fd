from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie

STORED = np.random.default_rng(0).integers(0, 65535, (30, 16, 12)).astype(np.uint16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_frames_come_in_any_order(file: Path, save: Callable[..., None]) -> None:
    save(file, frames=STORED, rate_hz=30.0)
    with read_movie(file) as movie:
        for start, stop in ((0, 4), (4, 20), (29, 30), (2, 3)):
            np.testing.assert_array_equal(movie.read(start, stop), STORED[start:stop])


def test_one_of_several_cameras_is_chosen(file: Path) -> None:
    np.savez(file, left=STORED, right=STORED[:, ::-1], rate_hz=30.0)
    with pytest.raises(RecordingError, match="holds several movies: left, right"):
        read_movie(file)
    with pytest.raises(RecordingError, match="no movie 'top'; it holds left, right"):
        read_movie(file, dataset="top")
    with read_movie(file, dataset="right") as movie:
        np.testing.assert_array_equal(movie.read(0, 2), STORED[:2, ::-1])


def test_other_members_of_the_archive_are_passed_over(file: Path) -> None:
    np.savez(file, frames=STORED, rate_hz=30.0)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("README.txt", "what this is")
    with read_movie(file) as movie:
        assert movie.n_frames == 30


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"eeg": np.zeros(5)}, r"holds no movie.*\(none\)"),
        ({"frames": STORED.astype(object)}, "holds objects, which are never loaded"),
        ({"frames": np.asfortranarray(STORED)}, "stored column by column"),
    ],
)
def test_what_is_no_movie_is_refused(file: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(file, **arrays)
    with pytest.raises(RecordingError, match=message):
        read_movie(file, rate_hz=1.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(file: Path, share: float) -> None:
    np.savez(file, frames=STORED, rate_hz=30.0)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecordingError, match=r"m\.npz: damaged or truncated"):
        read_movie(file)


def test_a_header_that_promises_more_than_there_is_is_refused(file: Path) -> None:
    np.savez(file, frames=STORED, rate_hz=30.0)
    content = file.read_bytes()
    assert content.count(b"(30, 16, 12)") == 1
    file.write_bytes(content.replace(b"(30, 16, 12)", b"(90, 99, 99)"))
    with pytest.raises(RecordingError, match="shorter than its header says"):
        read_movie(file)


def test_damage_inside_is_told_when_it_is_reached(file: Path) -> None:
    np.savez_compressed(file, frames=np.tile(STORED, (40, 1, 1)), rate_hz=30.0)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    file.write_bytes(content)
    with read_movie(file) as movie:
        assert movie.read(0, 1).shape == (1, 16, 12)
        with pytest.raises(RecordingError, match=r"m: frames 0 to 1199 cannot be read"):
            movie.read(0, 1200)


def test_two_cameras_with_interleaved_405_nm_frames(data_file: Callable[[str], Path]) -> None:
    path = data_file("wfci_frames/two_camera_128.npz")
    with np.load(path) as archive:
        stored = {name: archive[name] for name in ("cam_red", "cam_green", "frame_t")}
    for camera in ("cam_red", "cam_green"):
        with read_movie(path, dataset=camera) as movie:
            assert movie.lights == ("fluorescence", "reference_405")
            assert movie.rate_hz == pytest.approx(2.0, rel=1e-3)
            np.testing.assert_array_equal(movie.stamps_s, stored["frame_t"])
            np.testing.assert_array_equal(movie.numbers, np.arange(240))
            frames = movie.read(0, 240)
            np.testing.assert_array_equal(frames, stored[camera])
            assert movie.tags is not None
            # What the reader's page says of the two: each lit frame is brighter than its 405 nm frame.
            brightness = frames.mean((1, 2))
            assert (brightness[movie.tags == 0] > brightness[movie.tags == 1]).all()


def test_a_lost_frame_does_not_turn_lit_into_405(tmp_path: Path) -> None:
    truth = np.delete(np.arange(30), [7, 12, 13, 20])
    np.savez(tmp_path / "m.npz", cam_red=STORED[truth], frame_t=truth // 2 + 0.05 * (truth % 2))
    with read_movie(tmp_path / "m.npz") as movie:
        assert movie.tags is not None
        np.testing.assert_array_equal(movie.numbers, truth)
        np.testing.assert_array_equal(movie.tags, truth % 2)


def test_a_recording_may_begin_with_a_405_nm_frame(tmp_path: Path) -> None:
    truth = np.arange(1, 25)
    np.savez(tmp_path / "m.npz", cam_red=STORED[truth], frame_t=truth // 2 + 0.05 * (truth % 2))
    with read_movie(tmp_path / "m.npz") as movie:
        np.testing.assert_array_equal(movie.numbers, truth)
