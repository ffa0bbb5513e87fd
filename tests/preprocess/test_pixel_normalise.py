from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.preprocess.pixel_normalise import Config, PixelNormalise, build
from streamscore.types import FloatArray
from tests.contracts.step import N_SAMPLES, StepContract

SFREQ = 50.0


def movie(n: int = 200, seed: int = 0) -> FloatArray:
    """Frames ``(n, 3, 4)`` whose pixels differ in brightness and liveliness; the last pixel never changes."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1.0, 13.0).reshape(3, 4)
    x = 1000.0 + 100.0 * spread + spread * rng.standard_normal((n, 3, 4))
    x[:, -1, -1] = 333.3
    return x.astype(np.float32)


class MovieContract(StepContract):
    """The contract of a step for frames instead of samples."""

    n_channels = 1

    def samples(self, n: int = N_SAMPLES) -> FloatArray:
        return movie(n)

    def test_no_samples_give_no_samples(self) -> None:
        step = self.make()
        assert step.push(self.samples(0), 0).shape == (0, 3, 4)
        np.testing.assert_array_equal(step.push(self.samples(), 0), self.make().push(self.samples(), 0))


class TestRunningPixel(MovieContract):
    def make(self) -> PixelNormalise:
        return build(Config(estimator="running", scale="pixel", tau_s=2.0, warm_up_s=1.0), self.sfreq, 1)


class TestRunningGlobal(MovieContract):
    def make(self) -> PixelNormalise:
        return build(Config(estimator="running", scale="global", tau_s=2.0, warm_up_s=1.0), self.sfreq, 1)


class TestCalibrationPixel(MovieContract):
    def make(self) -> PixelNormalise:
        return build(Config(estimator="calibration", scale="pixel", warm_up_s=3.0), self.sfreq, 1)


class TestCalibrationGlobal(MovieContract):
    def make(self) -> PixelNormalise:
        return build(Config(estimator="calibration", scale="global", warm_up_s=3.0), self.sfreq, 1)


def of_the_whole(past: FloatArray, frame: FloatArray, scale: str) -> FloatArray:
    """What the papers do, with the frames `past` as their session."""
    x = past.astype(np.float64)
    mean = x.mean(axis=0)
    std = x.std(axis=0) if scale == "pixel" else np.full(mean.shape, (x - mean).std())
    std[-1, -1] = 1.0  # it never changes; whatever it is divided by, it becomes 0
    return (frame - mean) / std


@pytest.mark.parametrize("scale", ["pixel", "global"])
def test_a_frame_is_normalised_by_all_frames_before_it(scale: str) -> None:
    x = movie()
    y = build(Config(scale=scale), SFREQ, 1).push(x, 0)
    for k in (2, 10, 199):
        np.testing.assert_allclose(y[k], np.clip(of_the_whole(x[:k], x[k], scale), -20, 20), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["pixel", "global"])
def test_calibration_ends_with_the_warm_up(scale: str) -> None:
    x = movie(150)
    y = build(Config(estimator="calibration", scale=scale, warm_up_s=2.0), SFREQ, 1).push(x, 0)
    np.testing.assert_allclose(y[100:], of_the_whole(x[:100], x[100:], scale), rtol=1e-4, atol=1e-4)


def test_it_forgets_with_its_time_constant() -> None:
    before, after = movie(200), (2.0 * movie(800, seed=1) + 50.0).astype(np.float32)
    step = build(Config(tau_s=0.8), SFREQ, 1)  # 40 frames
    y = step.push(np.concatenate((before, after)), 0)
    # 17 time constants later: mean and spread of the new pixels, to the precision of 40 frames.
    last = y[-100:].reshape(100, -1)[:, :-1]
    np.testing.assert_allclose(last.mean(axis=0), 0.0, atol=0.3)
    np.testing.assert_allclose(last.std(axis=0), 1.0, atol=0.3)


def test_the_exponential_mean_is_the_one_of_its_definition() -> None:
    x = movie(120)
    mean, variance = np.zeros((3, 4)), np.zeros((3, 4))
    for k in range(119):
        weight = max(1 / (k + 1), 1 / 25)
        difference = x[k] - mean
        mean = mean + weight * difference
        variance = (1 - weight) * (variance + weight * difference**2)
    y = build(Config(tau_s=0.5), SFREQ, 1).push(x, 0)
    variance[-1, -1] = 1.0
    np.testing.assert_allclose(y[119], (x[119] - mean) / np.sqrt(variance), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["pixel", "global"])
def test_a_pixel_that_never_changed_becomes_0(scale: str) -> None:
    y = build(Config(scale=scale), SFREQ, 1).push(movie(), 0)
    assert not y[1:, -1, -1].any()
    assert y[2:, 0, 0].all()


def test_the_first_frame_is_0_because_nothing_is_known() -> None:
    assert not build(Config(), SFREQ, 1).push(movie(1), 0).any()


def test_global_keeps_which_pixels_are_lively_and_pixel_does_not() -> None:
    x = movie(2000)
    spread = {s: build(Config(scale=s), SFREQ, 1).push(x, 0)[500:].std(axis=0) for s in ("pixel", "global")}
    assert spread["pixel"][0, 0] == pytest.approx(spread["pixel"][2, 2], rel=0.1)
    assert spread["global"][2, 2] / spread["global"][0, 0] == pytest.approx(11.0, rel=0.1)


def test_a_gap_keeps_all_estimates() -> None:
    x = movie()
    step, other = (build(Config(), SFREQ, 1) for _ in range(2))
    for each in (step, other):
        each.push(x[:100], 0)
    step.reset()
    np.testing.assert_array_equal(step.push(x[100:], 5000), other.push(x[100:], 100))


def test_a_bad_frame_teaches_nothing() -> None:
    x = movie()
    spoilt = x.copy()
    spoilt[100, 1, 1] = np.nan
    y = build(Config(), SFREQ, 1).push(spoilt, 0)
    assert np.isnan(y[100, 1, 1])
    wanted = build(Config(), SFREQ, 1).push(np.delete(x, 100, axis=0), 0)
    np.testing.assert_array_equal(y[101:], wanted[100:])


def test_what_is_too_large_is_clipped() -> None:
    x = movie()
    x[-1] *= 100.0
    y = build(Config(clip=3.0), SFREQ, 1).push(x, 0)
    assert y[-1].max() == 3.0
    assert y.min() >= -3.0


def test_a_frame_of_a_camera_takes_less_than_a_millisecond() -> None:
    x = (1000.0 + np.random.default_rng(0).standard_normal((60, 128, 128))).astype(np.float32)
    step = build(Config(), 30.0, 1)
    times_s = []
    for k in range(len(x)):
        t0_s = perf_counter()
        step.push(x[k : k + 1], k)
        times_s.append(perf_counter() - t0_s)
    assert min(times_s) < 1e-3


def test_frames_must_keep_their_size_and_be_frames() -> None:
    step = build(Config(), SFREQ, 1)
    step.push(movie(5), 0)
    with pytest.raises(ValueError, match=r"frames of \(4, 3\) pixels cannot follow frames of \(3, 4\)"):
        step.push(movie(5).swapaxes(1, 2), 5)
    with pytest.raises(ValueError, match=r"\(n_frames, height, width\), got \(5, 12\)"):
        step.push(movie(5).reshape(5, 12), 5)


def test_signals_of_several_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel and not 3"):
        build(Config(), SFREQ, 3)


def test_warm_up_is_given_in_seconds() -> None:
    assert build(Config(warm_up_s=3.0), SFREQ, 1).warm_up_samples == 150


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"estimator": "stored"}, "'running' or 'calibration'"),
        ({"scale": "both"}, "'pixel' or 'global'"),
        ({"estimator": "calibration", "warm_up_s": 0.0}, "which is 0"),
        ({"tau_s": 0.0}, "greater than 0"),
        ({"stored_scale": (1.0,)}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
