from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.arrays import pack
from streamscore.errors import ConfigError
from streamscore.preprocess.global_signal import Config, GlobalSignal, build, whole_recording
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

SFREQ = 10.0
LAYOUT = frames(SFREQ, 3, 4, "fluorescence_470", "reflectance_523")
LEVEL = np.linspace(500.0, 5000.0, 24).reshape(2, 3, 4)
MASK = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]], np.uint8)


def own(n: int) -> FloatArray:
    """What each pixel does by itself, 1 % of its level."""
    return (LEVEL * 0.01 * np.random.default_rng(0).standard_normal((n, 2, 3, 4))).astype(np.float32)


def movie(n: int) -> FloatArray:
    """The same, and 3 % that all pixels of a light do at once."""
    common = 0.03 * np.random.default_rng(1).standard_normal((n, 2, 1, 1))
    return (LEVEL * (1.0 + common) + own(n)).astype(np.float32)


class TestRegression(StepContract):
    layout = LAYOUT

    def make(self) -> GlobalSignal:
        return build(Config(tau_s=4.0, warm_up_s=2.0), self.layout)


class TestSubtract(StepContract):
    layout = LAYOUT

    def make(self) -> GlobalSignal:
        return build(Config(method="subtract"), self.layout)


def test_the_regression_is_that_of_all_frames_before() -> None:
    x = movie(200)
    y = build(Config(tau_s=1000.0), LAYOUT).push(x, 0)
    g = x.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    np.testing.assert_array_equal(y[0], x[0])  # nothing is known
    for k in (20, 199):
        a, b = (z[:k] - z[:k].mean(axis=0, dtype=np.float64) for z in (x, g))
        slope = (a * b).sum(axis=0) / (b * b).sum(axis=0)
        np.testing.assert_allclose(y[k], x[k] - slope * (g[k] - g[:k].mean(axis=0)), rtol=1e-5)


def test_what_all_pixels_do_is_gone_and_their_level_left() -> None:
    x = movie(1000)
    y = build(Config(), LAYOUT).push(x, 0)[200:]
    np.testing.assert_allclose(y.mean(axis=0), LEVEL, rtol=0.01)
    assert (x[200:].std(axis=0) / LEVEL).min() > 0.027
    assert (y.std(axis=0) / LEVEL).max() < 0.012


def test_each_light_has_its_own_global_signal() -> None:
    x = movie(300)
    both = build(Config(), LAYOUT).push(x, 0)
    alone = build(Config(), frames(SFREQ, 3, 4)).push(x[:, 1:], 0)
    np.testing.assert_array_equal(both[:, 1:], alone)


def test_only_pixels_inside_the_mask_make_it() -> None:
    x = movie(300)
    x[:, :, MASK == 0] = 7.0 * np.random.default_rng(5).uniform(0, 1e4, (300, 2, 6)).astype(np.float32)
    y = build(Config(mask=pack(MASK)), LAYOUT).push(x, 0)[200:, :, MASK == 1]
    assert (y.std(axis=0) / LEVEL[:, MASK == 1]).max() < 0.012


def test_subtract_makes_the_mean_of_each_frame_0() -> None:
    x = movie(50)
    step = build(Config(method="subtract"), LAYOUT)
    assert step.warm_up_samples == 0
    y = step.push(x, 0)
    np.testing.assert_allclose(y, x - x.mean(axis=(2, 3), keepdims=True, dtype=np.float64), atol=1e-2)
    masked = build(Config(method="subtract", mask=pack(MASK)), LAYOUT).push(x, 0)
    np.testing.assert_allclose(masked[:, :, MASK == 1].mean(axis=2), 0.0, atol=1e-2)


def test_online_approaches_the_published_form() -> None:
    x = movie(1500)
    published = whole_recording(x)
    y = build(Config(tau_s=1000.0), LAYOUT).push(x, 0)
    difference = np.abs(y - published).mean(axis=(1, 2, 3)) / published.std(axis=0).mean()
    assert difference[5:20].mean() > 0.1
    assert difference[-200:].max() < 0.05


def test_the_published_form_leaves_nothing_that_follows_the_global_signal() -> None:
    x = movie(400)
    for mask in (None, MASK == 1):
        y = whole_recording(x, mask)
        np.testing.assert_allclose(y.mean(axis=0), x.mean(axis=0), rtol=1e-5)
        inside = np.ones((3, 4), bool) if mask is None else mask
        g = x[:, :, inside].mean(axis=2, dtype=np.float64)
        g -= g.mean(axis=0)
        left = np.einsum("nc,nchw->chw", g, y.astype(np.float64)) / np.einsum("nc,nc->c", g, g)[:, None, None]
        assert np.abs(left).max() < 1e-4


def test_a_gap_keeps_the_slopes() -> None:
    x = movie(200)
    step, other = build(Config(), LAYOUT), build(Config(), LAYOUT)
    for each in (step, other):
        each.push(x[:100], 0)
    step.reset()
    np.testing.assert_array_equal(step.push(x[100:], 9000), other.push(x[100:], 100))


def test_a_bad_frame_spoils_no_later_one() -> None:
    x = movie(300)
    good = build(Config(tau_s=5.0), LAYOUT).push(x, 0)
    x[100, :, 1, 1], x[120] = np.nan, np.inf
    bad = build(Config(tau_s=5.0), LAYOUT).push(x, 0)
    np.testing.assert_allclose(bad[121:], good[121:], rtol=0.02)


def test_wrong_masks_and_signals_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has shape \(4, 3\); the frames there need \(3, 4\)"):
        build(Config(mask=pack(MASK.T)), LAYOUT)
    with pytest.raises(ValueError, match="no pixel inside"):
        build(Config(mask=pack(0 * MASK)), LAYOUT)
    with pytest.raises(ConfigError, match="no such file"):
        build(Config(mask="nowhere.npy"), LAYOUT)
    with pytest.raises(ValueError, match="global_signal takes frames"):
        build(Config(), signals(50.0, 2))
    with pytest.raises(ValidationError, match="'regression' or 'subtract'"):
        Config(method="divide")
