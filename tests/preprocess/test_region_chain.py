"""From a camera to what the ROI decoders take, by the chain that a rig runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.arrays import pack
from streamscore.atlas import Atlas
from streamscore.errors import ConfigError
from streamscore.preprocess import moving_average, normalise
from streamscore.preprocess.base import Chain
from streamscore.registration import register
from streamscore.transform import Transform, write_transform
from streamscore.types import FloatArray, Layout
from tests.streams import cuts, sizes

SFREQ, WINDOW, N_FRAMES = 30.0, 100, 400
REGIONS = np.zeros((24, 24), int)
REGIONS[4:12, 4:12], REGIONS[4:12, 12:20], REGIONS[12:20, 4:20] = 3, 1, 7
LIGHTS = ("lit", "violet")
#: What the camera sees of the atlas: turned, larger and moved.
SEEN = np.array([[0.55, -0.1, 2.0], [0.1, 0.55, -3.0]])


@cache
def movie() -> FloatArray:
    """Frames ``(400, 2, 40, 44)`` of which the first light flickers, region by region."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(44), np.arange(40))
    column, row = np.moveaxis(np.stack((x, y), -1) @ SEEN[:, :2].T + SEEN[:, 2], -1, 0).round().astype(int)
    inside = (column >= 0) & (column < 24) & (row >= 0) & (row < 24)
    where = np.where(inside, REGIONS[row.clip(0, 23), column.clip(0, 23)], 0)
    levels = 500.0 + np.cumsum(rng.standard_normal((N_FRAMES, 8)), axis=0)
    return np.stack((levels[:, where], rng.standard_normal((N_FRAMES, 40, 44))), axis=1).astype(np.float32)


DESCRIPTION = (
    {"kind": "select", "channels": ["lit"]},
    {"kind": "affine", "frame_shape": [24, 24]},
    {"kind": "mask", "mask": pack(REGIONS != 0)},
    {"kind": "roi_mean", "regions": pack(REGIONS), "labels": [7, 1, 3], "names": ["V1", "M2", "M1"]},
    {"kind": "moving_average", "form": "centred", "window_samples": WINDOW},
)
LAYOUT = Layout(SFREQ, LIGHTS, (40, 44))


def calibration(folder: Path) -> dict[str, dict[str, str]]:
    """What the rig adds: the transform that was registered."""
    atlas = Atlas(REGIONS != 0, {"bregma": (12.0, 4.0), "lambda": (12.0, 18.0)})
    camera = Transform(SEEN, (40, 44), (24, 24)).to_camera(list(atlas.landmarks.values()))
    pairs = {
        name: ((float(x), float(y)), place)
        for (name, place), (x, y) in zip(atlas.landmarks.items(), camera, strict=True)
    }
    write_transform(register(pairs, (40, 44), atlas), folder / "mouse.json")
    return {"affine": {"path": str(folder / "mouse.json")}}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return calibration(tmp_path_factory.mktemp("rig"))


def test_traces_are_the_published_ones_late(rig: dict[str, dict[str, str]]) -> None:
    x = movie()
    before = Chain(DESCRIPTION[:-1], LAYOUT, rig).push(x, 0)
    published = moving_average.whole_recording(before, WINDOW)
    offset, scale = normalise.whole_recording(published.astype(np.float32), "minmax")
    stored = {"stored_offset": offset.tolist(), "stored_scale": scale.tolist()}
    last = {"kind": "normalise", "estimator": "stored", "statistic": "minmax", **stored}
    chain = Chain((*DESCRIPTION, last), LAYOUT, rig)
    assert chain.layout == Layout(SFREQ, ("V1", "M2", "M1"))
    assert chain.lag_samples == 49
    y = chain.push(x, 0)[49:]
    np.testing.assert_allclose(y, ((published - offset) / scale)[: len(y)], atol=1e-5)


def test_regions_of_the_camera_arrive_as_those_of_the_atlas(rig: dict[str, dict[str, str]]) -> None:
    x = movie()
    got = Chain(DESCRIPTION[:-1], LAYOUT, rig).push(x, 0)
    rng = np.random.default_rng(0)
    levels = 500.0 + np.cumsum(rng.standard_normal((len(x), 8)), axis=0)
    for k, label in enumerate((7, 1, 3)):
        assert np.corrcoef(got[:, k], levels[:, label])[0, 1] > 0.98


@given(sizes, st.integers(1, 399), st.integers(0, 150))
def test_any_chunking_gives_the_same_around_a_gap(
    rig: dict[str, dict[str, str]], sizes: list[int], at: int, n_lost: int
) -> None:
    x = movie()
    results = []
    for pieces in (sizes, [len(x)]):
        chain = Chain(DESCRIPTION, LAYOUT, rig)
        got = [chain.push(x[:at][part], part.start) for part in cuts(at, pieces)]
        chain.reset()
        got += [chain.push(x[at:][part], at + n_lost + part.start) for part in cuts(len(x) - at, pieces)]
        results.append(np.concatenate(got))
    np.testing.assert_array_equal(results[0], results[1])


def test_without_the_rigs_transform_it_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="streamscore register"):
        Chain(DESCRIPTION, LAYOUT)
