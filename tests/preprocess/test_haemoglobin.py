from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.preprocess.haemoglobin import Config, Haemoglobin, Method, build, whole_recording
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

SFREQ = 10.0
FOUR = frames(SFREQ, 3, 4, "fluorescence_470", "reflectance_523", "reflectance_595", "reflectance_640")
TWO = frames(SFREQ, 3, 4, "reference_405", "fluorescence_470")
METHODS: tuple[Method, ...] = ("ratiometric", "regression")
#: How much more the blood changes the 405-nm reference than the fluorescence, in each pixel.
WEIGHT = np.linspace(0.5, 2.0, 12).reshape(3, 4)


def calcium(n: int) -> FloatArray:
    """True ΔF/F, 2 % of each pixel; ``(n, 3, 4)``."""
    return (0.02 * np.random.default_rng(1).standard_normal((n, 3, 4))).astype(np.float32)


def blood(n: int) -> FloatArray:
    """Absorption, slow and twice as large as the calcium; ``(n, 3, 4)``."""
    noise = np.random.default_rng(2).standard_normal((n + 40, 3, 4))
    slow = np.cumsum(noise, axis=0)
    return (0.04 * (slow[40:] - slow[:-40]) / np.sqrt(40.0)).astype(np.float32)


def lights(n: int, method: Method = "ratiometric") -> tuple[FloatArray, FloatArray]:
    """Intensities under the fluorescence's light and the reference."""
    f = 8000.0 * (1.0 + calcium(n)) * (1.0 + blood(n))
    r = 3000.0 * (1.0 + blood(n) * (WEIGHT if method == "regression" else 1.0))
    return f.astype(np.float32), r.astype(np.float32)


def movie(n: int, method: Method = "ratiometric") -> FloatArray:
    """The same as they come for `FOUR` or, for the regression, `TWO`."""
    f, r = lights(n, method)
    if method == "regression":
        return np.stack((r, f), axis=1)
    other = np.random.default_rng(3).uniform(100, 200, f.shape).astype(np.float32)
    return np.stack((f, r, other, other), axis=1)


def step_for(method: Method, **arguments: Any) -> Haemoglobin:
    return build(Config(method=method, **arguments), FOUR if method == "ratiometric" else TWO)


def relative(y: FloatArray, wanted: FloatArray) -> float:
    return float(np.sqrt(np.square(y - wanted).mean()) / wanted.std())


class TestRatiometric(StepContract):
    layout = FOUR

    def make(self) -> Haemoglobin:
        return build(Config(tau_s=4.0, warm_up_s=2.0), self.layout)


class TestRegression(StepContract):
    layout = TWO

    def make(self) -> Haemoglobin:
        return build(Config(method="regression", tau_s=4.0, warm_up_s=2.0), self.layout)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_fluorescence_is_left(method: Method) -> None:
    step = step_for(method)
    assert step.layout == frames(SFREQ, 3, 4, "fluorescence_470")
    assert step.push(movie(7, method), 0).shape == (7, 1, 3, 4)


def test_the_ratio_is_that_of_its_definition() -> None:
    x = movie(200)
    y = step_for("ratiometric", tau_s=1000.0).push(x, 0)
    assert not y[0].any()  # nothing is known
    for k in (1, 50, 199):
        f0, r0 = x[:k, :2].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(y[k, 0], (x[k, 0] / f0) / (x[k, 1] / r0) - 1.0, atol=1e-6)


def test_the_regression_is_that_of_its_definition() -> None:
    x = movie(200, "regression").astype(np.float64)
    y = step_for("regression", tau_s=1000.0).push(x.astype(np.float32), 0)
    for k in (20, 199):
        r0, f0 = x[:k].mean(axis=0)
        b, a = (x[:k] / x[:k].mean(axis=0) - 1.0).swapaxes(0, 1)
        slope = (a * b).sum(axis=0) / (b * b).sum(axis=0)
        np.testing.assert_allclose(y[k, 0], x[k, 1] / f0 - 1.0 - slope * (x[k, 0] / r0 - 1.0), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_blood_is_gone_and_the_calcium_left(method: Method) -> None:
    n = 1500
    y = step_for(method).push(movie(n, method), 0)[600:, 0]
    f = lights(n, method)[0]
    untreated = (f / f.mean(axis=0) - 1.0)[600:]
    assert relative(untreated, calcium(n)[600:]) > 1.5
    assert relative(y, calcium(n)[600:]) < 0.25


@pytest.mark.parametrize("method", METHODS)
def test_online_approaches_the_published_form(method: Method) -> None:
    n = 1500
    published = whole_recording(*lights(n, method), method)
    y = step_for(method, tau_s=1000.0).push(movie(n, method), 0)[:, 0]
    early, late = (relative(y[part], published[part]) for part in (slice(20, 100), slice(-100, None)))
    assert early > 0.1
    assert late < 0.02


def test_the_published_regression_leaves_nothing_of_the_reference() -> None:
    f, r = lights(500, "regression")
    y = whole_recording(f, r, "regression").astype(np.float64)
    b = r - r.mean(axis=0, dtype=np.float64)
    assert np.abs((y * b).sum(axis=0) / (b * b).sum(axis=0) * 3000.0).max() < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_dark_pixels_become_0(method: Method) -> None:
    x = movie(300, method)
    noise = np.random.default_rng(0).normal(0, 3, (2, 300)).astype(np.float32)
    signal, reference = (0, 1) if method == "ratiometric" else (1, 0)
    x[:, signal, 0, 0], x[:, reference, 1, 1] = noise
    y = step_for(method).push(x, 0)[:, 0]
    assert not y[:, 0, 0].any()
    if method == "ratiometric":
        assert not y[:, 1, 1].any()
    assert y[-1, 2, 2] != 0
    published = whole_recording(x[:, signal], x[:, reference], method)
    np.testing.assert_array_equal(published.any(axis=0), y.any(axis=0))


def test_calibration_ends_with_the_warm_up() -> None:
    x = np.concatenate((movie(100), 1.5 * movie(100)))
    x[100:, 1] /= 1.5
    y = build(Config(estimator="calibration", warm_up_s=10.0), FOUR).push(x, 0)
    assert y[100:].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_a_gap_keeps_all_estimates(method: Method) -> None:
    x = movie(200, method)
    step, other = step_for(method), step_for(method)
    for each in (step, other):
        each.push(x[:100], 0)
    step.reset()
    np.testing.assert_array_equal(step.push(x[100:], 9000), other.push(x[100:], 100))


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_frame_spoils_no_later_one(method: Method) -> None:
    x = movie(300, method)
    good = step_for(method, tau_s=5.0).push(x, 0)
    x[100, :, 1, 1], x[120, 0], x[130, 1] = np.nan, np.inf, -np.inf
    bad = step_for(method, tau_s=5.0).push(x, 0)
    assert np.isfinite(bad[131:]).all()
    assert relative(bad[-50:], good[-50:]) < 0.1


def test_the_lights_may_have_other_names() -> None:
    x = movie(50)
    step = build(Config(signal="blue", reference="green"), frames(SFREQ, 3, 4, "blue", "green", "amber", "red"))
    assert step.layout.channels == ("blue",)
    np.testing.assert_array_equal(step.push(x, 0), step_for("ratiometric").push(x, 0))


def test_a_light_that_is_missing_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'reflectance_523', and what comes to it are reference_405, fluor"):
        build(Config(), TWO)
    with pytest.raises(ValueError, match=r"'green'.*give signal and reference"):
        build(Config(reference="green"), FOUR)
    with pytest.raises(ValueError, match="haemoglobin takes frames"):
        build(Config(), signals(50.0, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "beer_lambert"}, "'ratiometric' or 'regression'"),
        ({"estimator": "calibration", "warm_up_s": 0.0}, "which is 0"),
        ({"reference": "fluorescence_470"}, "nothing would be left"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
