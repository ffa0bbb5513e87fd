from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.preprocess.detrend import Config, Detrend, build, whole_recording
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

SFREQ = 10.0
LAYOUT = frames(SFREQ, 3, 4, "fluorescence_470", "reflectance_523")
Mode = Literal["ratio", "subtract"]
MODES: tuple[Mode, ...] = ("ratio", "subtract")


def activity(n: int) -> FloatArray:
    """ΔF/F of a few per cent at 1 Hz, another phase in each pixel; ``(n, 2, 3, 4)``."""
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, 3, 4))
    t_s = np.arange(n)[:, None, None, None] / SFREQ
    return (0.03 * np.sin(2 * np.pi * t_s + phase)).astype(np.float32)


def bleaching(n: int, tau_s: float = 600.0) -> FloatArray:
    """Intensities that the light bleaches, each pixel from another level."""
    level = np.linspace(500.0, 20_000.0, 24).reshape(2, 3, 4)
    left = np.exp(-np.arange(n) / SFREQ / tau_s)[:, None, None, None]
    return (level * left * (1.0 + activity(n))).astype(np.float32)


def delta_f(x: FloatArray) -> FloatArray:
    y: FloatArray = x / x.mean(axis=0, dtype=np.float64) - 1.0
    return y


class TestRatio(StepContract):
    layout = LAYOUT

    def make(self) -> Detrend:
        return build(Config(tau_s=4.0, warm_up_s=2.0), self.layout)


class TestSubtract(StepContract):
    layout = LAYOUT

    def make(self) -> Detrend:
        return build(Config(mode="subtract", tau_s=4.0, warm_up_s=2.0), self.layout)


@pytest.mark.parametrize("mode", MODES)
def test_the_level_is_kept_and_the_trend_is_gone(mode: Mode) -> None:
    x = bleaching(4000)
    y = build(Config(mode=mode, tau_s=30.0, warm_up_s=20.0), LAYOUT).push(x, 0)
    late, level = y[-600:].mean(axis=0), x[:200].mean(axis=0)
    assert np.abs(x[-600:].mean(axis=0) / level - 1.0).min() > 0.4
    np.testing.assert_allclose(late, level, rtol=0.06)  # the trend is late by tau_s, 5 % of 600 s


def test_frames_pass_unchanged_until_there_is_a_level() -> None:
    x = bleaching(300)
    step = build(Config(tau_s=30.0, warm_up_s=20.0), LAYOUT)
    assert step.warm_up_samples == 200
    y = step.push(x, 0)
    np.testing.assert_array_equal(y[:200], x[:200])
    assert (y[201:] != x[201:]).any()


def test_ratio_gives_the_changes_of_the_start_back_and_subtract_leaves_them_bleached() -> None:
    x = bleaching(6000)
    size = {
        mode: build(Config(mode=mode, tau_s=60.0), LAYOUT).push(x, 0)[-100:].std(axis=0) / x[:600].mean(axis=0)
        for mode in MODES
    }
    late = 1.0 - 60.0 / 600.0  # by how much a trend of 600 s is below its mean over the last 60 s
    np.testing.assert_allclose(size["ratio"], late * activity(100).std(axis=0), rtol=0.01)
    trend, level = np.exp(-595.0 / 600.0) / late, np.exp(-np.arange(600) / 6000).mean()
    np.testing.assert_allclose(size["subtract"] / size["ratio"], trend / level, rtol=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_online_approaches_the_published_form(mode: Mode) -> None:
    """A line over ten minutes and a trend that forgets in one: what is left is nearly the same."""
    x = bleaching(6000, tau_s=3000.0)
    online = delta_f(build(Config(mode=mode, tau_s=60.0), LAYOUT).push(x, 0)[1800:])
    published = delta_f(whole_recording(x, mode=mode)[1800:])
    difference = np.sqrt(np.square(online - published).mean(axis=0)) / published.std(axis=0)
    assert difference.max() < 0.1
    untreated = np.sqrt(np.square(delta_f(x[1800:]) - published).mean(axis=0)) / published.std(axis=0)
    assert untreated.min() > 10 * difference.max()


def test_the_published_form_takes_a_line_off_each_pixel() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(50.0)
    x = (
        1000.0 + rng.normal(0, 5, (50, 1, 2, 2)) + rng.normal(0, 2, (1, 1, 2, 2)) * t[:, None, None, None]
    ).astype(np.float32)
    y = whole_recording(x)
    for pixel, straight in zip(x.reshape(50, 4).T, y.reshape(50, 4).T, strict=True):
        line = np.polyval(np.polyfit(t, pixel, 1), t)
        np.testing.assert_allclose(straight, pixel - line + pixel.mean(dtype=np.float64), rtol=1e-6)


def test_a_polynomial_of_higher_order_takes_off_what_it_can_be() -> None:
    t = np.linspace(-1.0, 1.0, 60)
    x = (500.0 + 30.0 * t + 50.0 * t**2)[:, None, None, None].astype(np.float32)
    for mode in MODES:
        np.testing.assert_allclose(whole_recording(x, order=2, mode=mode), x.mean(), rtol=1e-5)
    assert np.ptp(whole_recording(x, order=1)) > 30.0


def test_a_dark_pixel_passes_unchanged() -> None:
    x = bleaching(600)
    x[:, :, 0, 0] = np.random.default_rng(0).normal(0.0, 3.0, (600, 2))  # outside the brain, after the dark frame
    y = build(Config(tau_s=10.0, warm_up_s=5.0), LAYOUT).push(x, 0)
    np.testing.assert_array_equal(y[:, :, 0, 0], x[:, :, 0, 0])


@pytest.mark.parametrize("mode", MODES)
def test_a_gap_keeps_the_trend(mode: Mode) -> None:
    x = bleaching(600)
    step, other = (build(Config(mode=mode, tau_s=10.0, warm_up_s=5.0), LAYOUT) for _ in range(2))
    for each in (step, other):
        each.push(x[:300], 0)
    step.reset()
    np.testing.assert_array_equal(step.push(x[300:], 9000), other.push(x[300:], 300))


@pytest.mark.parametrize("mode", MODES)
def test_a_bad_frame_spoils_no_later_one(mode: Mode) -> None:
    x = bleaching(600)
    spoilt = x.copy()
    spoilt[100, 1, 1, 1], spoilt[20] = np.nan, np.inf
    good, bad = (build(Config(mode=mode, tau_s=10.0, warm_up_s=5.0), LAYOUT).push(z, 0) for z in (x, spoilt))
    np.testing.assert_allclose(bad[101:], good[101:], rtol=5e-3)


def test_signals_and_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="detrend takes frames"):
        build(Config(), signals(50.0, 2))
    with pytest.raises(ValidationError, match="'ratio' or 'subtract'"):
        Config(mode="line")
    with pytest.raises(ValidationError, match="greater than 0"):
        Config(warm_up_s=0.0)
