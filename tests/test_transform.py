from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.errors import ConfigError
from streamscore.transform import Transform, read_transform, write_transform

MATRIX = np.array([[0.9, -0.3, 12.0], [0.3, 0.9, -7.0]])
BRAIN = np.hypot(*np.ogrid[-32:32, -40:40]) < 25


def example(**changes: Any) -> Transform:
    known = {"frame_shape": (60, 100), "atlas_shape": (64, 80), "mask": BRAIN}
    marks = {"landmarks": {"bregma": ((30.0, 20.0), (33.0, 20.0)), "lambda": ((30.5, 50.25), (24.4, 47.4))}}
    return Transform(**({"matrix": MATRIX, **known, **marks} | changes))


numbers = st.floats(-50, 50)


@given(numbers, numbers)
def test_there_and_back_again(x: float, y: float) -> None:
    there = example().to_atlas([[x, y]])
    np.testing.assert_allclose(there[0], MATRIX @ [x, y, 1.0])
    np.testing.assert_allclose(example().to_camera(there), [[x, y]], atol=1e-9)


def test_sources_are_where_the_atlas_pixels_lie_on_the_camera() -> None:
    sources = example().sources()
    assert sources.shape == (64, 80, 2)
    np.testing.assert_allclose(example().to_atlas(sources[50, 7]), [7.0, 50.0])


def test_scale_and_rotation_are_told() -> None:
    turn = np.radians(30.0)
    # Clockwise on a screen, where y points down: what pointed right points down a bit.
    matrix = 1.5 * np.array([[np.cos(turn), -np.sin(turn), 3.0], [np.sin(turn), np.cos(turn), 0.0]])
    transform = example(matrix=matrix)
    assert transform.scale == pytest.approx(1.5)
    assert transform.rotation_deg == pytest.approx(30.0)
    right = transform.to_atlas([[1.0, 0.0]]) - transform.to_atlas([[0.0, 0.0]])
    assert right[0, 1] > 0


def test_share_outside_is_the_brains_where_there_is_a_mask() -> None:
    aside = np.array([[1.0, 0.0, 40.0], [0.0, 1.0, 0.0]])  # atlas columns below 40 lie left of the frame
    brain = np.zeros((64, 80), bool)
    brain[10:20, 35:45] = True
    seen = example(matrix=aside, mask=brain, frame_shape=(64, 80))
    assert seen.share_outside() == pytest.approx(0.5)
    assert example(matrix=aside, mask=None, frame_shape=(64, 80)).share_outside() == pytest.approx(0.5)
    assert example(matrix=np.eye(2, 3), frame_shape=(64, 80)).share_outside() == 0.0


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_binned_frames_keep_their_place(factor: int) -> None:
    small = example().for_frames((60 // factor, 100 // factor))
    # The middle of a binned pixel is the mean position of its pixels.
    rows, columns = np.arange(factor) + 2 * factor, np.arange(factor) + 3 * factor
    middle = example().to_atlas([[columns.mean(), rows.mean()]])
    np.testing.assert_allclose(small.to_atlas([[3.0, 2.0]]), middle)
    assert small.frame_shape == (60 // factor, 100 // factor)
    assert small.scale == pytest.approx(factor * example().scale)


def test_frames_cut_to_other_proportions_are_refused() -> None:
    assert example().for_frames((60, 100)).matrix is MATRIX
    with pytest.raises(ValueError, match=r"frames of \(60, 100\) pixels and frames of \(60, 60\) have other"):
        example().for_frames((60, 60))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_transform(example(), tmp_path / "mouse.json")
    back = read_transform(tmp_path / "mouse.json")
    np.testing.assert_array_equal(back.matrix, MATRIX)
    assert back.mask is not None
    np.testing.assert_array_equal(back.mask, BRAIN)
    assert (back.frame_shape, back.atlas_shape) == ((60, 100), (64, 80))
    assert back.landmarks == example().landmarks
    content = json.loads((tmp_path / "mouse.json").read_text())
    np.testing.assert_allclose(content["inverse"], example().inverse)


def test_a_transform_without_mask_or_landmarks_is_kept_too(tmp_path: Path) -> None:
    write_transform(example(mask=None, landmarks=None), tmp_path / "mouse.json")
    back = read_transform(str(tmp_path / "mouse.json"))
    assert back.mask is None
    assert back.landmarks == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("matrix", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        ("matrix", [[1.0, 0.0], [0.0, 1.0]]),
        ("matrix", "eye"),
        ("frame_shape", [10**9, 10**9]),
        ("atlas_shape", [0, 10]),
        ("mask", "packed:AAAA"),
        ("mask", "/etc/passwd"),
        ("landmarks", {"bregma": [1, 2]}),
        ("format", "something else"),
        ("version", 2),
        ("extra", 1),
        ("sha256", "0" * 64),
    ],
)
def test_an_altered_file_is_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "mouse.json"
    write_transform(example(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ConfigError, match=r"mouse\.json: not a transform.*streamscore register FRAME --bregma"):
        read_transform(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", "{}", "[" * 100_000, '{"format": "streamscore transform"}', "\0"]
)
def test_what_is_no_transform_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.json: not a transform"):
        read_transform(tmp_path / "a.json")
    with pytest.raises(ConfigError, match=r"absent\.json: not a transform"):
        read_transform(tmp_path / "absent.json")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mouse.json"
    write_transform(example(), path)
    whole = path.read_text()
    for n in range(0, len(whole) - 2, 37):
        path.write_text(whole[:n])
        with pytest.raises(ConfigError, match="not a transform"):
            read_transform(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matrix": np.eye(3)}, "2 × 3 finite numbers"),
        ({"matrix": np.full((2, 3), np.nan)}, "2 × 3 finite numbers"),
        ({"matrix": np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]])}, "onto a line"),
        ({"mask": np.ones((3, 3), bool)}, r"shape \(3, 3\)"),
        ({"mask": np.zeros((64, 80), bool)}, "0 pixels of brain"),
        ({"frame_shape": (0, 5)}, r"not of \(0, 5\)"),
        ({"atlas_shape": (10, 100_000), "mask": None}, "1 to 4096 pixels a side"),
    ],
)
def test_what_maps_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example(**changes)
