from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import map_coordinates

from streamscore.arrays import pack
from streamscore.errors import ConfigError
from streamscore.preprocess.affine import Affine, Config, build
from streamscore.transform import Transform, write_transform
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

#: A little turned, smaller and moved; every pixel of a 10 × 12 output lies inside a frame of 20 × 22.
INSIDE = ((0.75, 0.1, -2.0), (-0.1, 0.75, -1.0))


class TestAffine(StepContract):
    layout = frames(50.0, 6, 8, "lit", "violet")

    def make(self) -> Affine:
        return build(Config(matrix=((0.9, -0.2, 1.0), (0.2, 0.9, -0.5)), max_outside=0.5), self.layout)


def movie(n: int, height: int, width: int, n_channels: int = 1) -> FloatArray:
    return np.random.default_rng(0).standard_normal((n, n_channels, height, width)).astype(np.float32)


def by_scipy(x: FloatArray, transform: Transform) -> np.ndarray:
    """Bilinear interpolation by another library."""
    columns, rows = np.moveaxis(transform.sources(), -1, 0)
    return np.stack([[map_coordinates(f, (rows, columns), order=1, mode="nearest") for f in s] for s in x])


def test_it_interpolates_between_four_pixels() -> None:
    x = movie(3, 20, 22, n_channels=2)
    config = Config(matrix=INSIDE, frame_shape=(10, 12))
    y = build(config, frames(30.0, 20, 22, "a", "b")).push(x, 0)
    transform = Transform(np.array(INSIDE), (20, 22), (10, 12))
    assert transform.inside().all()
    np.testing.assert_allclose(y, by_scipy(x, transform), atol=1e-5)


def test_what_the_camera_does_not_see_is_0() -> None:
    x = movie(1, 20, 22) + 100.0
    right = Config(matrix=((1.0, 0.0, 5.0), (0.0, 1.0, 0.0)), max_outside=0.3)
    y = build(right, frames(30.0, 20, 22)).push(x, 0)
    assert not y[..., :5].any()
    np.testing.assert_allclose(y[..., 5:], x[..., :-5], rtol=1e-5)


def test_no_transform_changes_nothing() -> None:
    x = movie(2, 20, 22)
    y = build(Config(matrix=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))), frames(30.0, 20, 22)).push(x, 0)
    np.testing.assert_allclose(y, x, atol=2e-5)


def test_the_file_of_the_mouse_is_used_for_reduced_frames_too(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40.0), 2.0 * np.arange(44.0)).astype(np.float32)
    brain = np.ones((10, 12), bool)
    matrix = np.array([[0.375, 0.05, -2.0], [-0.05, 0.375, -1.0]])
    write_transform(Transform(matrix, (40, 44), (10, 12), brain), tmp_path / "mouse.json")
    config = Config(path=str(tmp_path / "mouse.json"))
    step = build(config, frames(30.0, 40, 44))
    assert step.layout.frame_shape == (10, 12)
    binned = smooth.reshape(20, 2, 22, 2).mean(axis=(1, 3))
    whole, reduced = (build(config, frames(30.0, *x.shape)).push(x[None, None], 0) for x in (smooth, binned))
    np.testing.assert_allclose(whole, reduced, atol=1e-3)


def test_a_transform_that_maps_the_brain_outside_the_frame_is_refused(tmp_path: Path) -> None:
    brain = np.zeros((20, 22), bool)
    brain[5:15, 2:12] = True
    right = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]])  # 3 of the 10 columns of brain are lost
    write_transform(Transform(right, (20, 22), (20, 22), brain), tmp_path / "mouse.json")
    layout = frames(30.0, 20, 22)
    message = r"30% of the atlas' brain lies outside the camera's frame of \(20, 22\) pixels, more than 10%"
    for config in (
        Config(path=str(tmp_path / "mouse.json")),
        Config(matrix=tuple(map(tuple, right)), mask=pack(brain)),
    ):
        with pytest.raises(ValueError, match=message):
            build(config, layout)
        build(config.model_copy(update={"max_outside": 0.31}), layout)
    with pytest.raises(ValueError, match=r"23% of the output \(no mask"):
        build(Config(matrix=tuple(map(tuple, right))), layout)


def test_without_a_transform_it_says_how_to_get_one() -> None:
    with pytest.raises(
        ConfigError, match=r"streamscore register FRAME.*calibration: \{affine: \{path: mouse\.json"
    ):
        build(Config(frame_shape=(128, 128)), frames(30.0, 128, 128))


def test_a_file_for_another_atlas_is_refused(tmp_path: Path) -> None:
    write_transform(Transform(np.eye(2, 3), (20, 22), (20, 22)), tmp_path / "mouse.json")
    config = Config(path=str(tmp_path / "mouse.json"), frame_shape=(128, 128))
    with pytest.raises(ConfigError, match=r"atlas of \(20, 22\) pixels and not of \(128, 128\)"):
        build(config, frames(30.0, 20, 22))


def test_frames_much_larger_than_the_output_must_be_reduced_first() -> None:
    quarter = ((0.25, 0.0, 0.0), (0.0, 0.25, 0.0))
    with pytest.raises(ValueError, match=r"covers 4\.0 pixels of the camera.*reduce the frames first"):
        build(Config(matrix=quarter, frame_shape=(128, 128)), frames(30.0, 512, 512))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": "a.json", "matrix": INSIDE}, "not from both"),
        ({"matrix": ((1.0, 0.0), (0.0, 1.0))}, "matrix"),
        ({"max_outside": 1.0}, "less than 1"),
        ({"angle": 3.0}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)


def test_a_matrix_that_is_none_and_signals_are_refused() -> None:
    with pytest.raises(ValueError, match="onto a line"):
        build(Config(matrix=((1.0, 1.0, 0.0), (1.0, 1.0, 0.0))), frames(30.0, 20, 22))
    with pytest.raises(ValueError, match="affine takes frames"):
        build(Config(matrix=INSIDE), signals(30.0, 3))
