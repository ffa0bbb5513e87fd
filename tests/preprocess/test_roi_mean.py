from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.arrays import pack, read_array
from streamscore.errors import ConfigError
from streamscore.preprocess.roi_mean import Config, RoiMean, build
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

MAP = np.array([[0, 2, 2, 7], [5, 5, 2, 7], [5, 0, 0, 7]])
ATLAS = Path(__file__).parents[3] / "shared" / "data" / "golden" / "mvg_atlas.mat"
LAYOUT = frames(30.0, 3, 4)


class TestRoiMean(StepContract):
    layout = frames(50.0, 3, 4)

    def make(self) -> RoiMean:
        return build(Config(regions=pack(MAP)), self.layout)


def movie(n: int = 20) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 1, 3, 4)).astype(np.float32) + 100.0


def test_each_region_is_averaged_ascending() -> None:
    x = movie()
    step = build(Config(regions=pack(MAP)), LAYOUT)
    assert step.layout.channels == ("roi_2", "roi_5", "roi_7")
    assert step.layout.frame_shape is None
    wanted = np.stack([x[:, 0, label == MAP].mean(axis=1) for label in (2, 5, 7)], axis=1)
    np.testing.assert_allclose(step.push(x, 0), wanted, rtol=1e-6)


def test_labels_choose_and_order_and_names_name() -> None:
    x = movie()
    config = Config(regions=pack(MAP.astype(float)), labels=(7, 2), names=("V1", "M2"))
    step = build(config, LAYOUT)
    assert step.layout.channels == ("V1", "M2")
    wanted = build(Config(regions=pack(MAP)), LAYOUT).push(x, 0)[:, [2, 0]]
    np.testing.assert_array_equal(step.push(x, 0), wanted)


def test_pixels_outside_the_mask_and_outside_regions_do_not_matter() -> None:
    mask = np.ones_like(MAP)
    mask[0] = 0
    x = movie()
    x[:, :, 0] = np.nan
    x[:, :, 2, 1] = np.inf
    y = build(Config(regions=pack(MAP), mask=pack(mask)), LAYOUT).push(x, 0)
    wanted = np.stack([x[:, 0, (label == MAP) & (mask > 0)].mean(axis=1) for label in (2, 5, 7)], axis=1)
    np.testing.assert_allclose(y, wanted, rtol=1e-6)


@pytest.mark.skipif(not ATLAS.exists(), reason="needs the atlas of MVG-CNN in ../shared")
def test_the_parcels_of_mvg_cnn_are_36() -> None:
    labels = (*range(2, 20), *range(22, 40))
    regions = f"{ATLAS}:AtlasSeeds"
    step = build(Config(regions=regions, labels=labels), frames(16.8, 128, 128))
    atlas = read_array(regions, "atlas")
    x = np.random.default_rng(0).standard_normal((2, 1, 128, 128)).astype(np.float32)
    wanted = [x[:, 0, atlas == label].mean(axis=1) for label in labels]
    np.testing.assert_allclose(step.push(x, 0), np.stack(wanted, axis=1), atol=1e-5)


def test_fifty_regions_take_microseconds() -> None:
    regions = np.random.default_rng(0).integers(0, 51, (128, 128))
    step = build(Config(regions=pack(regions)), frames(30.0, 128, 128))
    x = np.ones((1, 1, 128, 128), np.float32)
    times_s = []
    for k in range(100):
        t0_s = perf_counter()
        step.push(x, k)
        times_s.append(perf_counter() - t0_s)
    assert min(times_s) < 0.3e-3


def test_a_region_without_pixels_is_named() -> None:
    with pytest.raises(ValueError, match=r"region 3 \(roi_3\) has no pixel; the map has 2, 5, 7"):
        build(Config(regions=pack(MAP), labels=(2, 3)), LAYOUT)
    mask = (MAP != 7).astype(int)
    with pytest.raises(ValueError, match=r"region 7 \(V1\) has no pixel inside the mask; the map has 2, 5"):
        build(Config(regions=pack(MAP), labels=(7, 2), names=("V1", "M2"), mask=pack(mask)), LAYOUT)


def test_a_map_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"regions has shape \(4, 3\) and the frames have \(3, 4\)"):
        build(Config(regions=pack(MAP.T)), LAYOUT)
    with pytest.raises(ValueError, match=r"mask has shape \(4, 3\)"):
        build(Config(regions=pack(MAP), mask=pack(MAP.T)), LAYOUT)
    for wrong in (MAP + 0.5, MAP - 1):
        with pytest.raises(ValueError, match="whole numbers from 0 up"):
            build(Config(regions=pack(wrong)), LAYOUT)
    with pytest.raises(ValueError, match="holds no region inside the mask"):
        build(Config(regions=pack(0 * MAP)), LAYOUT)
    with pytest.raises(ConfigError, match=r"regions of step roi_mean: .*no such file"):
        build(Config(regions="absent.mat:map"), LAYOUT)


def test_several_lights_and_signals_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames of one light and gets lit, violet; .*select"):
        build(Config(regions=pack(MAP)), frames(30.0, 3, 4, "lit", "violet"))
    with pytest.raises(ValueError, match="roi_mean takes frames"):
        build(Config(regions=pack(MAP)), signals(30.0, 1))
    with pytest.raises(ValueError, match="2 names for 3 regions"):
        build(Config(regions=pack(MAP), names=("a", "b")), LAYOUT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": ()}, "labels must be some"),
        ({"labels": (2, 2)}, "each different"),
        ({"names": ("a", "a")}, "names must be some, each different"),
        ({"labels": (0,)}, "greater than 0"),
        ({"weights": 1}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(regions="a.npy", **wrong)
