"""What movies of all formats share: who reads them, and what is checked before a frame is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamscore.errors import RecordingError
from streamscore.movies.base import READERS, is_movie, read_movie

N_FRAMES, SHAPE = 24, (6, 8)


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, shape or (N_FRAMES, *SHAPE)).astype(np.uint16)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m1.npz"


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"no\.tif: no such file"):
        read_movie(tmp_path / "no.tif")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "m.avi"
    path.write_bytes(b"RIFF")
    with pytest.raises(RecordingError, match=r"'\.avi'.*\.tif, \.tiff, \.h5.*\.nwb"):
        read_movie(path)


@pytest.mark.parametrize(
    ("suffix", "package"), [(".tif", "tifffile"), (".h5", "h5py"), (".mat", "h5py"), (".nwb", "pynwb")]
)
def test_a_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str
) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"streamscore.movies.{READERS[suffix]}", raising=False)
    with pytest.raises(RecordingError, match=rf"{package}.*pip install 'streamscore\[movies\]'"):
        read_movie(path)


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("content", [b"", b"II*\0\xff\xff\xff\x7f", b"\x89HDF\r\n\x1a\n" + bytes(40), b"PK\3\4"])
def test_what_only_has_the_suffix_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="bad"):
        read_movie(path, rate_hz=30.0)


def test_without_a_rate_the_user_is_asked(file: Path) -> None:
    save(file, frames=pixels())
    with pytest.raises(RecordingError, match="set `rate_hz`"):
        read_movie(file)
    with read_movie(file, rate_hz=30.0) as movie:
        assert movie.rate_hz == 30.0
        np.testing.assert_allclose(movie.stamps_s, np.arange(N_FRAMES) / 30.0)
        assert (movie.n_frames, movie.frame_shape, movie.dtype) == (N_FRAMES, SHAPE, np.uint16)
        assert movie.duration_s == pytest.approx(N_FRAMES / 30.0)


def test_the_users_rate_wins_over_that_of_the_file(file: Path) -> None:
    with read_movie(save(file, frames=pixels(), rate_hz=15.0), rate_hz=30.0) as movie:
        assert movie.rate_hz == 30.0


def test_times_tell_the_rate_and_the_losses(file: Path) -> None:
    truth = np.delete(np.arange(N_FRAMES + 3), [10, 11, 17])
    with read_movie(save(file, frames=pixels(), time=7.0 + truth / 16.8)) as movie:
        assert movie.rate_hz == 16.8
        assert movie.stamps_s[0] == 7.0
        np.testing.assert_array_equal(movie.numbers, truth)


def test_times_in_milliseconds_contradict_the_rate(file: Path) -> None:
    save(file, frames=pixels(), time=np.arange(N_FRAMES) / 0.0168, rate_hz=16.8)
    with pytest.raises(RecordingError, match=r"taken for seconds, tell 0\.0168 .* the rate is 16\.8 Hz"):
        read_movie(file)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("time", np.arange(N_FRAMES - 1), "24 frames but 23 times"),
        ("time", np.r_[np.arange(12), np.arange(12)], "that of frame 12 is 0.0"),
        ("time", np.r_[np.nan, np.arange(1, 24)], "that of frame 0 is nan"),
        ("time", np.r_[np.arange(23), np.inf], "that of frame 23 is inf"),
        ("time", np.array(["now"] * N_FRAMES), "times are of type"),
        ("rate_hz", 0.0, "rate is 0.0; it must be above 0"),
        ("rate_hz", np.array([1.0, 2.0]), "rate must be one number"),
        ("mask", np.ones((8, 6)), r"frames are \(6, 8\) but the mask is \(8, 6\)"),
        ("tags", np.zeros(5, int), "24 frames but 5 tags"),
        ("tags", -np.ones(N_FRAMES, int), "indices of the 1 lights, counted from 0"),
        ("lights", np.arange(2), "lights must be text"),
        ("states", np.zeros(3, int), "states without labels"),
    ],
)
def test_fields_that_do_not_fit_are_refused(file: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read_movie(save(file, **{"frames": pixels(), "rate_hz": 1.0, key: value}))


def test_tags_lights_mask_and_labels_are_read(file: Path) -> None:
    mask = np.eye(*SHAPE, dtype=np.uint8)
    tags = ["blue", "violet"] * (N_FRAMES // 2)
    labelled = {"states": [0, 1, -1], "labels": "MOUSE3", "epoch_s": 4.0, "states_t0_s": 0.5}
    with read_movie(save(file, frames=pixels(), fps=2.0, mask=mask, tags=tags, **labelled)) as movie:
        assert movie.lights == ("blue", "violet")
        assert [movie.tag(k) for k in range(3)] == ["blue", "violet", "blue"]
        assert movie.mask is not None
        np.testing.assert_array_equal(movie.mask, mask == 1)
        assert movie.labels == ("Wake", "NREM", "REM")
        assert movie.states.tolist() == [0, 1, -1]
        assert (movie.epoch_s, movie.states_t0_s) == (4.0, 0.5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": "MOUSE3"}, "states without epoch_s"),
        ({"labels": ["Wake", "NREM"], "epoch_s": 4.0}, "states must be below 2"),
        ({"labels": "MOUSE3", "epoch_s": 4.0, "states": ["Wake", "N7"]}, "states: .*N7.*or UNKNOWN"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(file: Path, more: dict[str, Any], message: str) -> None:
    arrays = {"frames": pixels(), "rate_hz": 1.0, "states": [0, 1, 2], **more}
    with pytest.raises(RecordingError, match=message):
        read_movie(save(file, **arrays))


def test_a_tag_that_is_no_light_is_refused(file: Path) -> None:
    save(file, frames=pixels(), rate_hz=1.0, lights=["a", "b"], tags=["a", "c"] * (N_FRAMES // 2))
    with pytest.raises(RecordingError, match="tag 'c' is none of its lights, a, b"):
        read_movie(file)


def test_lights_can_be_renamed_but_not_be_more(file: Path) -> None:
    save(file, frames=pixels(), rate_hz=2.0, lights=["a", "b"])
    with read_movie(file, lights=("x", "y")) as movie:
        assert movie.lights == ("x", "y")
    with pytest.raises(RecordingError, match=r"2 lights \(a, b\), but 3 are named: x, y, z"):
        read_movie(file, lights=("x", "y", "z"))


def test_reading_is_bounded_by_the_movie(file: Path) -> None:
    stored = pixels()
    with read_movie(save(file, frames=stored, rate_hz=1.0)) as movie:
        np.testing.assert_array_equal(movie.read(20, 99), stored[20:])
        np.testing.assert_array_equal(movie.read(-3, 2), stored[:2])
        assert movie.read(24, 30).shape == (0, *SHAPE)


def test_a_closed_movie_says_so(file: Path) -> None:
    movie = read_movie(save(file, frames=pixels(), rate_hz=1.0))
    movie.close()
    movie.close()
    with pytest.raises(RecordingError, match=r"m1: frames 0 to 0 cannot be read \(it is closed\)"):
        movie.read(0, 1)


def test_a_file_of_signals_is_no_movie(tmp_path: Path) -> None:
    signals = save(tmp_path / "night.npz", data=np.zeros((1000, 2)), sfreq=100.0)
    movie = save(tmp_path / "cameras.npz", red=pixels(), eeg=np.zeros(1000))
    np.save(tmp_path / "signals.npy", np.zeros((1000, 2)))
    np.save(tmp_path / "movie.npy", pixels())
    (tmp_path / "cut.npz").write_bytes(movie.read_bytes()[:100])
    (tmp_path / "m.tif").write_bytes(b"")
    told = {path.name: is_movie(path) for path in tmp_path.iterdir()}
    assert told == {
        "night.npz": False,
        "cameras.npz": True,
        "signals.npy": False,
        "movie.npy": True,
        "cut.npz": False,
        "m.tif": True,
    }
    assert is_movie(movie, "red")
    assert not is_movie(movie, "eeg")
    assert not is_movie(signals, "night")
    assert not is_movie(tmp_path / "absent.tif")


def test_samples_are_whole_cycles(file: Path) -> None:
    with read_movie(save(file, frames=pixels(), fps=33.6), lights=("blue", "violet")) as movie:
        assert (movie.rate_hz, movie.sfreq) == (33.6, 16.8)


def test_a_sample_is_stamped_when_its_cycle_is_whole(file: Path) -> None:
    truth = np.delete(np.arange(1, N_FRAMES + 3), [7, 12])
    stamps_s = truth // 2 + 0.05 * (truth % 2)
    with read_movie(save(file, frames=pixels(), time=stamps_s, tags=truth % 2)) as movie:
        assert movie.sample_delay_s == pytest.approx(0.05)
    with read_movie(save(file, frames=pixels(), rate_hz=67.2), lights=("a", "b", "c", "d")) as movie:
        assert movie.sample_delay_s == pytest.approx(3 / 67.2)
    with read_movie(save(file, frames=pixels(), rate_hz=30.0)) as movie:
        assert movie.sample_delay_s == 0.0
