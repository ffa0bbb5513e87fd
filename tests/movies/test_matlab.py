from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie

N_EPOCHS, HEIGHT, WIDTH = 5, 6, 4  # not square, so that a turned image is seen
RAW_LABELS = [0, 1, 2, 3, 1]


def save_v73(path: Path, **variables: Any) -> None:
    """Write as MATLAB does with -v7.3: HDF5 with all axes in reverse, behind a header of 512 bytes."""
    with h5py.File(path, "w", userblock_size=512) as out:
        for name, value in variables.items():
            out[name] = np.asarray(value).T
    with path.open("r+b") as out_bytes:
        out_bytes.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def sleep(seed: int = 0) -> dict[str, np.ndarray]:
    """The public layout, small, with no numbers outside the mask."""
    rng = np.random.default_rng(seed)
    mask = rng.random((HEIGHT, WIDTH)) < 0.7
    data = rng.standard_normal((HEIGHT, WIDTH, 168, N_EPOCHS)).astype(np.float32)
    data[~mask] = np.nan
    return {"data": data, "xform_mask": mask.astype(float), "scoringindex_file": np.array([RAW_LABELS], float)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.mat"


@pytest.mark.parametrize("save", [save_v73, lambda path, **variables: scipy.io.savemat(path, variables)])
def test_public_calcium_sleep_layout(file: Path, save: Any) -> None:
    stored = sleep()
    save(file, **stored)
    with read_movie(file) as movie:
        assert (movie.n_frames, movie.frame_shape, movie.rate_hz) == (168 * N_EPOCHS, (HEIGHT, WIDTH), 16.8)
        assert movie.labels == ("Wake", "NREM", "REM")
        # Raw 2 is an artefact and 3 is REM: the epoch keeps its place, but is not compared.
        assert movie.states.tolist() == [0, 1, -1, 2, 1]
        assert movie.epoch_s == pytest.approx(10.0)
        assert movie.mask is not None
        np.testing.assert_array_equal(movie.mask, stored["xform_mask"] == 1)
        frames = movie.read(160, 180)
        for k in (160, 167, 168, 179):
            wanted = np.nan_to_num(stored["data"][:, :, k % 168, k // 168])
            np.testing.assert_array_equal(frames[k - 160], wanted)


def test_labels_stay_with_their_frames() -> None:
    """The published loader lets labels slip behind artefacts; here an epoch's frames are those of its label."""
    epoch_of = np.arange(168 * N_EPOCHS) // 168
    states = np.array([0, 1, -1, 2, 1])[epoch_of]
    raw = np.array(RAW_LABELS)[epoch_of]
    np.testing.assert_array_equal(states == 2, raw == 3)


def test_what_is_no_number_inside_the_mask_stays(file: Path) -> None:
    stored = sleep()
    inside = tuple(np.argwhere(stored["xform_mask"] == 1)[0])
    stored["data"][inside][3, 0] = np.nan
    save_v73(file, **stored)
    with read_movie(file) as movie:
        frame = movie.read(3, 4)[0]
        assert np.isnan(frame[inside])
        assert np.isnan(frame).sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scoringindex_file": np.zeros((1, 4))}, "scoringindex_file has 4 labels"),
        ({"xform_mask": np.ones((WIDTH, HEIGHT))}, r"xform_mask is \(4, 6\)"),
        ({"data": np.zeros((HEIGHT, WIDTH, 100, N_EPOCHS))}, r"is \(6, 4, 100, 5\).*has 168 frames"),
    ],
)
def test_a_layout_that_does_not_fit_together_is_refused(file: Path, change: dict[str, Any], message: str) -> None:
    save_v73(file, **{**sleep(), **change})
    with pytest.raises(RecordingError, match=message):
        read_movie(file)


def test_one_epoch_is_a_stack_of_three_axes(file: Path) -> None:
    stored = sleep()
    one = {"data": stored["data"][..., 0], "xform_mask": stored["xform_mask"], "scoringindex_file": [[3]]}
    save_v73(file, **one)
    with read_movie(file) as movie:
        assert (movie.n_frames, movie.states.tolist()) == (168, [2])
        np.testing.assert_array_equal(movie.read(7, 8)[0], np.nan_to_num(stored["data"][:, :, 7, 0]))


@pytest.mark.parametrize("save", [save_v73, lambda path, **variables: scipy.io.savemat(path, variables)])
def test_any_stack_comes_with_its_height_and_width(file: Path, save: Any) -> None:
    movie_of_theirs = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH, 9)).astype(np.uint16)
    save(file, frames=movie_of_theirs, fps=np.array([[30.0]]), other=np.zeros((3, 3)))
    with read_movie(file) as movie:
        assert movie.rate_hz == 30.0
        np.testing.assert_array_equal(movie.read(2, 5), np.moveaxis(movie_of_theirs, 2, 0)[2:5])


def test_an_axis_of_lights_is_time_within_a_cycle(file: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH, 2, 9)).astype(np.uint16)
    save_v73(file, frames=stack)
    with read_movie(file, rate_hz=10.0) as movie:
        assert movie.n_frames == 18
        np.testing.assert_array_equal(movie.read(3, 4)[0], stack[:, :, 1, 1])


def test_several_stacks_are_listed(file: Path) -> None:
    save_v73(file, red=np.zeros((3, 4, 5)), green=np.zeros((3, 4, 5)))
    with pytest.raises(RecordingError, match="holds several movies: green, red"):
        read_movie(file)


@pytest.mark.parametrize("save", [save_v73, lambda path, **variables: scipy.io.savemat(path, variables)])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(file: Path, save: Any, share: float) -> None:
    save(file, **sleep())
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecordingError, match=r"m\.mat: damaged or truncated"):
        read_movie(file)


def test_a_large_file_of_an_older_version_is_not_loaded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scipy.io.savemat(file, {"frames": np.zeros((3, 4, 5))})
    monkeypatch.setattr("streamscore.movies.matlab._MAX_WHOLE_BYTES", 100)
    with pytest.raises(RecordingError, match=r"cannot be read in parts; save it with -v7\.3"):
        read_movie(file)
