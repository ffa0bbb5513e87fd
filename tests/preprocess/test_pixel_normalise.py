from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.arrays import pack
from streamscore.errors import ConfigError
from streamscore.preprocess.pixel_normalise import Config, PixelNormalise, Scale, build, whole_recording
from streamscore.types import FloatArray
from tests.contracts.step import N_SAMPLES, StepContract
from tests.layouts import frames, signals

SFREQ = 50.0
LAYOUT = frames(SFREQ, 3, 4)


def movie(n: int = 200, seed: int = 0) -> FloatArray:
    """Frames ``(n, 1, 3, 4)`` whose pixels differ in brightness and liveliness; the last pixel never changes."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1.0, 13.0).reshape(3, 4)
    x = 1000.0 + 100.0 * spread + spread * rng.standard_normal((n, 1, 3, 4))
    x[..., -1, -1] = 333.3
    return x.astype(np.float32)


class MovieContract(StepContract):
    """The contract of a step for frames instead of samples."""

    layout = LAYOUT

    def samples(self, n: int = N_SAMPLES) -> FloatArray:
        return movie(n)


class TestRunningPixel(MovieContract):
    def make(self) -> PixelNormalise:
        return build(Config(estimator="running", scale="pixel", tau_s=2.0, warm_up_s=1.0), self.layout)


class TestCalibrationPixel(MovieContract):
    def make(self) -> PixelNormalise:
        return build(Config(estimator="calibration", scale="pixel", warm_up_s=1.0), self.layout)


class TestTwoLights(MovieContract):
    layout = frames(SFREQ, 3, 4, "lit", "violet")

    def samples(self, n: int = N_SAMPLES) -> FloatArray:
        return np.concatenate((movie(n), movie(n, seed=1)), axis=1)

    def make(self) -> PixelNormalise:
        return build(Config(scale="global", warm_up_s=1.0), self.layout)


class TestStored(MovieContract):
    def make(self) -> PixelNormalise:
        return build(stored(movie(), "pixel"), self.layout)


def stored(x: FloatArray, scale: Scale) -> Config:
    """The configuration with which the papers' normalisation of `x` is reproduced."""
    mean, std = whole_recording(x, scale)
    return Config(estimator="stored", stored_mean=pack(mean), stored_scale=pack(std))


def of_the_whole(past: FloatArray, frame: FloatArray, scale: str) -> FloatArray:
    """What the papers do, with the frames `past` as their session."""
    x = past.astype(np.float64)
    mean = x.mean(axis=0)
    std = x.std(axis=0) if scale == "pixel" else np.full(mean.shape, (x - mean).std())
    std[..., -1, -1] = 1.0  # it never changes; whatever it is divided by, it becomes 0
    return (frame - mean) / std


@pytest.mark.parametrize("scale", ["pixel", "global"])
def test_a_frame_is_normalised_by_all_frames_before_it(scale: str) -> None:
    x = movie()
    y = build(Config(scale=scale), LAYOUT).push(x, 0)
    for k in (2, 10, 199):
        np.testing.assert_allclose(y[k], np.clip(of_the_whole(x[:k], x[k], scale), -20, 20), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["pixel", "global"])
def test_calibration_ends_with_the_warm_up(scale: str) -> None:
    x = movie(150)
    y = build(Config(estimator="calibration", scale=scale, warm_up_s=2.0), LAYOUT).push(x, 0)
    np.testing.assert_allclose(y[100:], of_the_whole(x[:100], x[100:], scale), rtol=1e-4, atol=1e-4)


def test_it_forgets_with_its_time_constant() -> None:
    before, after = movie(200), (2.0 * movie(800, seed=1) + 50.0).astype(np.float32)
    step = build(Config(tau_s=0.8), LAYOUT)  # 40 frames
    y = step.push(np.concatenate((before, after)), 0)
    # 17 time constants later: mean and spread of the new pixels, to the precision of 40 frames.
    last = y[-100:].reshape(100, -1)[:, :-1]
    np.testing.assert_allclose(last.mean(axis=0), 0.0, atol=0.3)
    np.testing.assert_allclose(last.std(axis=0), 1.0, atol=0.3)


def test_the_exponential_mean_is_the_one_of_its_definition() -> None:
    x = movie(120)
    mean, variance = np.zeros((1, 3, 4)), np.zeros((1, 3, 4))
    for k in range(119):
        weight = max(1 / (k + 1), 1 / 25)
        difference = x[k] - mean
        mean = mean + weight * difference
        variance = (1 - weight) * (variance + weight * difference**2)
    y = build(Config(tau_s=0.5), LAYOUT).push(x, 0)
    variance[..., -1, -1] = 1.0
    np.testing.assert_allclose(y[119], (x[119] - mean) / np.sqrt(variance), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["pixel", "global"])
def test_a_pixel_that_never_changed_becomes_0(scale: str) -> None:
    y = build(Config(scale=scale), LAYOUT).push(movie(), 0)
    assert not y[1:, 0, -1, -1].any()
    assert y[2:, 0, 0, 0].all()


def test_the_first_frame_is_0_because_nothing_is_known() -> None:
    assert not build(Config(), LAYOUT).push(movie(1), 0).any()


def test_global_keeps_which_pixels_are_lively_and_pixel_does_not() -> None:
    x = movie(2000)
    spread = {s: build(Config(scale=s), LAYOUT).push(x, 0)[500:].std(axis=0) for s in ("pixel", "global")}
    assert spread["pixel"][0, 0, 0] == pytest.approx(spread["pixel"][0, 2, 2], rel=0.1)
    assert spread["global"][0, 2, 2] / spread["global"][0, 0, 0] == pytest.approx(11.0, rel=0.1)


def test_a_gap_keeps_all_estimates() -> None:
    x = movie()
    step, other = (build(Config(), LAYOUT) for _ in range(2))
    for each in (step, other):
        each.push(x[:100], 0)
    step.reset()
    np.testing.assert_array_equal(step.push(x[100:], 5000), other.push(x[100:], 100))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_frame_teaches_nothing(bad: float) -> None:
    x = movie()
    spoilt = x.copy()
    spoilt[100, 0, 1, 1] = bad
    y = build(Config(), LAYOUT).push(spoilt, 0)
    assert np.isfinite(np.delete(y, 100, axis=0)).all()
    wanted = build(Config(), LAYOUT).push(np.delete(x, 100, axis=0), 0)
    np.testing.assert_array_equal(y[101:], wanted[100:])


def test_what_is_too_large_is_clipped() -> None:
    x = movie()
    x[-1] *= 100.0
    y = build(Config(clip=3.0), LAYOUT).push(x, 0)
    assert y[-1].max() == 3.0
    assert y.min() >= -3.0


@pytest.mark.parametrize("scale", ["pixel", "global"])
def test_stored_constants_are_the_papers_normalisation(scale: Scale) -> None:
    x = movie()
    y = build(stored(x, scale), LAYOUT).push(x, 0)
    np.testing.assert_allclose(y, of_the_whole(x, x, scale), rtol=1e-4, atol=1e-4)
    assert build(stored(x, scale), LAYOUT).warm_up_samples == 0


def test_running_ends_where_the_whole_recording_lies() -> None:
    x = movie(2000)
    step = build(Config(tau_s=1e6), LAYOUT)
    step.push(x, 0)
    probe = movie(50, seed=3)
    np.testing.assert_allclose(step.push(probe, 2000), build(stored(x, "pixel"), LAYOUT).push(probe, 0), atol=0.1)


def test_each_light_is_normalised_by_itself() -> None:
    lit, violet = movie(), 3.0 * movie(seed=1) + 77.0
    both = frames(SFREQ, 3, 4, "lit", "violet")
    for scale in ("pixel", "global"):
        y = build(Config(scale=scale), both).push(np.concatenate((lit, violet), axis=1).astype(np.float32), 0)
        for k, light in enumerate((lit, violet)):
            alone = build(Config(scale=scale), LAYOUT).push(light.astype(np.float32), 0)
            np.testing.assert_array_equal(y[:, k : k + 1], alone)


def test_stored_constants_of_one_frame_serve_all_lights() -> None:
    constants = {"stored_mean": pack(np.full((3, 4), 2.0)), "stored_scale": pack(np.full((3, 4), 4.0))}
    step = build(Config(estimator="stored", **constants), frames(SFREQ, 3, 4, "lit", "violet"))
    np.testing.assert_array_equal(step.push(np.full((2, 2, 3, 4), 10.0, np.float32), 0), 2.0)


def test_a_frame_of_a_camera_takes_less_than_half_a_millisecond() -> None:
    x = (1000.0 + np.random.default_rng(0).standard_normal((100, 1, 128, 128))).astype(np.float32)
    step = build(Config(), frames(30.0, 128, 128))
    times_s = []
    for k in range(len(x)):
        t0_s = perf_counter()
        step.push(x[k : k + 1], k)
        times_s.append(perf_counter() - t0_s)
    assert min(times_s) < 0.5e-3


def test_signals_are_refused() -> None:
    with pytest.raises(ValueError, match="pixel_normalise takes frames of a camera"):
        build(Config(), signals(SFREQ, 2))


@pytest.mark.parametrize(
    ("constants", "error", "message"),
    [
        ({"stored_mean": np.zeros((4, 3))}, ValueError, r"stored_mean has shape \(4, 3\).*\(3, 4\).*\(1, 3, 4\)"),
        ({"stored_scale": np.ones((2, 3, 4))}, ValueError, r"stored_scale has shape \(2, 3, 4\)"),
        ({"stored_scale": -np.ones((3, 4))}, ValueError, "negative"),
        (
            {"stored_mean": np.full((3, 4), np.nan)},
            ConfigError,
            "stored_mean of step pixel_normalise: .*not finite",
        ),
    ],
)
def test_stored_constants_must_fit(constants: dict[str, np.ndarray], error: type[Exception], message: str) -> None:
    given = {"stored_mean": np.zeros((3, 4)), "stored_scale": np.ones((3, 4))} | constants
    config = Config(estimator="stored", **{name: pack(value) for name, value in given.items()})
    with pytest.raises(error, match=message):
        build(config, LAYOUT)


@pytest.mark.parametrize("x", [movie(0), np.full((3, 1, 3, 4), np.nan, np.float32)])
def test_a_whole_recording_needs_finite_frames(x: FloatArray) -> None:
    with pytest.raises(ValueError, match="frames hold nothing to learn from"):
        whole_recording(x)


def test_a_configuration_survives_being_written_down() -> None:
    for config in (Config(), stored(movie(), "global")):
        assert Config.model_validate_json(config.model_dump_json()) == config


def test_warm_up_is_given_in_seconds() -> None:
    assert build(Config(warm_up_s=3.0), LAYOUT).warm_up_samples == 150


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"estimator": "stored"}, "needs both stored_mean and stored_scale"),
        ({"estimator": "stored", "stored_mean": "a.npy"}, "needs both stored_mean and stored_scale"),
        ({"estimator": "running", "stored_scale": "a.npy"}, "estimator 'running' learns by itself"),
        ({"scale": "both"}, "'pixel' or 'global'"),
        ({"estimator": "calibration", "warm_up_s": 0.0}, "which is 0"),
        ({"tau_s": 0.0}, "greater than 0"),
        ({"window_s": 1.0}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
