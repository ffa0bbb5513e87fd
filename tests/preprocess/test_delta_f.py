from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.arrays import pack
from streamscore.errors import ConfigError
from streamscore.preprocess.delta_f import Config, DeltaF, build, whole_recording
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

SFREQ = 10.0
LAYOUT = frames(SFREQ, 3, 4, "fluorescence_470", "reference_405")
F0 = np.linspace(500.0, 20_000.0, 24).reshape(2, 3, 4)


def movie(n: int) -> FloatArray:
    """Pixels of different brightness that change by 3 %; the first is dark."""
    x = F0 * (1.0 + 0.03 * np.random.default_rng(0).standard_normal((n, 2, 3, 4)))
    x[:, :, 0, 0] = np.random.default_rng(1).normal(0.0, 3.0, (n, 2))
    return x.astype(np.float32)


class TestRunning(StepContract):
    layout = LAYOUT

    def make(self) -> DeltaF:
        return build(Config(tau_s=4.0, warm_up_s=2.0), self.layout)


class TestCalibration(StepContract):
    layout = LAYOUT

    def make(self) -> DeltaF:
        return build(Config(estimator="calibration", warm_up_s=2.0), self.layout)


class TestStored(StepContract):
    layout = LAYOUT

    def make(self) -> DeltaF:
        return build(Config(estimator="stored", stored=pack(F0)), self.layout)


def test_a_frame_is_compared_with_all_frames_before_it() -> None:
    x = movie(200)
    y = build(Config(tau_s=1000.0), LAYOUT).push(x, 0)
    assert not y[0].any()  # nothing is known
    for k in (1, 10, 199):
        f0 = x[:k].mean(axis=0, dtype=np.float64)
        wanted = (x[k] - f0) / f0
        np.testing.assert_allclose(y[k, :, 0, 1:], wanted[:, 0, 1:], atol=1e-6)


def test_with_the_time_constant_it_forgets() -> None:
    x = np.concatenate((movie(200), 2.0 * movie(600)))
    y = build(Config(tau_s=5.0), LAYOUT).push(x, 0)
    assert y[200, :, 1:].mean() == pytest.approx(1.0, abs=0.05)
    assert np.abs(y[-100:, :, 1:].mean(axis=0)).max() < 0.02


def test_calibration_ends_with_the_warm_up() -> None:
    x = np.concatenate((movie(100), 1.5 * movie(100)))
    step = build(Config(estimator="calibration", warm_up_s=10.0), LAYOUT)
    assert step.warm_up_samples == 100
    y = step.push(x, 0)
    f0 = x[:100].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(y[100:, :, 1:], (x[100:] / f0 - 1.0)[:, :, 1:], atol=1e-6)


def test_stored_with_the_mean_of_the_recording_is_the_published_form(tmp_path: Path) -> None:
    x = movie(300)
    np.save(tmp_path / "f0.npy", x.mean(axis=0, dtype=np.float64))
    step = build(Config(estimator="stored", stored=tmp_path / "f0.npy"), LAYOUT)
    assert step.warm_up_samples == 0
    np.testing.assert_allclose(step.push(x, 0), whole_recording(x), atol=1e-6)


def test_the_published_form_is_relative_to_the_mean() -> None:
    x = movie(300)
    y = whole_recording(x)
    np.testing.assert_allclose(y[:, :, 1:], (x / x.mean(axis=0, dtype=np.float64) - 1.0)[:, :, 1:], atol=1e-6)
    assert not y[:, :, 0, 0].any()


def test_running_approaches_the_published_form() -> None:
    x = movie(2000)
    published = whole_recording(x)[:, :, 1:]
    running = build(Config(tau_s=1000.0), LAYOUT).push(x, 0)[:, :, 1:]
    difference = np.sqrt(np.square(running - published).mean(axis=(1, 2, 3))) / published.std()
    assert difference[10:20].mean() > 0.1
    assert difference[-100:].max() < 0.01


def test_dark_pixels_become_0_and_no_other() -> None:
    for arguments in ({}, {"estimator": "calibration", "warm_up_s": 1.0}, {"estimator": "stored", "stored": F0}):
        if "stored" in arguments:
            f0 = F0.copy()
            f0[:, 0, 0] = 2.0
            arguments = {**arguments, "stored": pack(f0)}
        y = build(Config(**arguments), LAYOUT).push(movie(100), 0)[20:]
        assert not y[:, :, 0, 0].any()
        y[:, :, 0, 0] = 1.0
        assert y.all()


def test_the_share_below_which_a_pixel_is_dark_is_a_choice() -> None:
    y = build(Config(min_share=0.5), LAYOUT).push(movie(100), 0)[20:]
    mean = F0.copy()
    mean[:, 0, 0] = 0.0
    np.testing.assert_array_equal(y.any(axis=0), mean > 0.5 * mean.mean(axis=(1, 2), keepdims=True))


def test_a_gap_keeps_f0() -> None:
    x = movie(200)
    step, other = build(Config(), LAYOUT), build(Config(), LAYOUT)
    for each in (step, other):
        each.push(x[:100], 0)
    step.reset()
    np.testing.assert_array_equal(step.push(x[100:], 9000), other.push(x[100:], 100))


def test_a_bad_frame_spoils_no_later_one() -> None:
    x = movie(200)
    x[50, 1, 1, 1], x[60] = np.nan, np.inf
    y = build(Config(tau_s=5.0), LAYOUT).push(x, 0)
    assert np.isfinite(y[61:]).all()
    np.testing.assert_allclose(y[-50:], build(Config(tau_s=5.0), LAYOUT).push(movie(200), 0)[-50:], atol=0.02)


def test_another_shape_and_signals_are_refused() -> None:
    with pytest.raises(ValueError, match=r"stored of step delta_f has shape \(2, 2\); the frames need \(3, 4\)"):
        build(Config(estimator="stored", stored=pack(np.ones((2, 2)))), LAYOUT)
    with pytest.raises(ConfigError, match="no such file"):
        build(Config(estimator="stored", stored="nowhere.npy"), LAYOUT)
    with pytest.raises(ValueError, match="delta_f takes frames"):
        build(Config(), signals(50.0, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stored": "f0.npy"}, "leave out stored"),
        ({"estimator": "stored"}, "needs an image of F0"),
        ({"estimator": "calibration", "warm_up_s": 0.0}, "which is 0"),
        ({"min_share": 1.0}, "less than 1"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
