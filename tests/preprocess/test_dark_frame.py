from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.arrays import pack
from streamscore.errors import ConfigError
from streamscore.preprocess.base import Chain
from streamscore.preprocess.dark_frame import Config, DarkFrame, build
from streamscore.types import FloatArray
from tests.contracts.step import N_SAMPLES, StepContract
from tests.layouts import frames, signals

LAYOUT = frames(16.8, 3, 4, "fluorescence_470", "reflectance_523")
DARK = np.arange(12, dtype=np.uint16).reshape(3, 4)


def movie(n: int = N_SAMPLES) -> FloatArray:
    return np.random.default_rng(0).uniform(0.0, 200.0, (n, 2, 3, 4)).astype(np.float32)


class TestDarkFrame(StepContract):
    layout = LAYOUT

    def make(self) -> DarkFrame:
        return build(Config(dark=pack(DARK)), self.layout)


class TestDarkNumber(StepContract):
    layout = LAYOUT

    def make(self) -> DarkFrame:
        return build(Config(dark=100.0), self.layout)


def test_one_dark_frame_is_for_all_lights() -> None:
    x = movie()
    np.testing.assert_array_equal(build(Config(dark=pack(DARK)), LAYOUT).push(x, 0), x - DARK.astype(np.float32))


def test_each_light_may_have_its_own() -> None:
    x, dark = movie(), np.stack((DARK, 2 * DARK)).astype(np.float32)
    np.testing.assert_array_equal(build(Config(dark=pack(dark)), LAYOUT).push(x, 0), x - dark)


def test_a_file_of_the_lab_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "dark.npy", DARK)
    y = build(Config(dark=tmp_path / "dark.npy"), LAYOUT).push(movie(), 0)
    np.testing.assert_array_equal(y, movie() - DARK.astype(np.float32))


def test_one_of_the_full_size_of_the_camera_is_averaged_as_the_frames_were() -> None:
    raw = np.random.default_rng(1).integers(90, 110, (2, 6, 8), dtype=np.uint16)
    small = raw.reshape(2, 3, 2, 4, 2).mean(axis=(2, 4))
    for dark, wanted in ((raw, small), (raw[0], small[0])):
        y = build(Config(dark=pack(dark)), LAYOUT).push(movie(5), 0)
        np.testing.assert_allclose(y, movie(5) - wanted, rtol=0, atol=1e-4)


def test_what_is_darker_than_dark_stays_negative() -> None:
    y = build(Config(dark=100.0), LAYOUT).push(movie(), 0)
    np.testing.assert_array_equal(y, movie() - np.float32(100.0))
    assert y.min() < -90.0


def test_the_rig_gives_what_the_chain_of_a_bundle_leaves_open() -> None:
    chain = Chain(({"kind": "dark_frame"},), LAYOUT, {"dark_frame": {"dark": 7.0}})
    np.testing.assert_array_equal(chain.push(movie(), 0), movie() - np.float32(7.0))


def test_without_a_dark_frame_it_says_where_to_put_one() -> None:
    with pytest.raises(ValueError, match=r"without light.*calibration: \{dark_frame: \{dark: dark.npy\}\}"):
        build(Config(), LAYOUT)


def test_another_shape_names_both() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 3\); the frames need \(3, 4\), or \(2, 3, 4\)"):
        build(Config(dark=pack(DARK.T)), LAYOUT)
    with pytest.raises(ValueError, match=r"shape \(3, 3, 4\)"):
        build(Config(dark=pack(np.stack([DARK] * 3))), LAYOUT)
    with pytest.raises(ValueError, match=r"shape \(6, 6\)"):
        build(Config(dark=pack(np.ones((6, 6)))), LAYOUT)
    with pytest.raises(ConfigError, match=r"dark of step dark_frame: .*no such file"):
        build(Config(dark="nowhere.npy"), LAYOUT)


def test_signals_are_refused() -> None:
    with pytest.raises(ValueError, match="dark_frame takes frames"):
        build(Config(dark=1.0), signals(50.0, 2))


def test_a_dark_level_is_a_finite_number() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Config(dark=float("nan"))
