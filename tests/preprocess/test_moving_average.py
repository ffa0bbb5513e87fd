from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.preprocess.moving_average import Config, MovingAverage, build, whole_recording
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

#: Example of MATLAB's documentation of movmean.
EXAMPLE = np.array([4, 8, 6, -1, -2, -3, -1, 3, 4, 5], np.float32)[:, None]
MATLAB_CENTRED_3 = np.array([6, 6, 13 / 3, 1, -2, -2, -1 / 3, 2, 4, 4.5])[:, None]
MATLAB_TRAILING_3 = np.array([4, 6, 6, 13 / 3, 1, -2, -2, -1 / 3, 2, 4])[:, None]


class TestTrailing(StepContract):
    def make(self) -> MovingAverage:
        return build(Config(window_samples=40), self.layout)


class TestCentred(StepContract):
    def make(self) -> MovingAverage:
        return build(Config(form="centred", window_samples=40), self.layout)


class TestCentredLongerThanTheRecording(StepContract):
    def make(self) -> MovingAverage:
        return build(Config(form="centred", window_s=8.0), self.layout)


def traces(n: int, n_channels: int = 3) -> FloatArray:
    """A random walk around a large offset."""
    steps = np.random.default_rng(0).standard_normal((n, n_channels))
    return (1000.0 + np.cumsum(steps, axis=0)).astype(np.float32)


def by_definition(x: FloatArray, before: int, after: int) -> np.ndarray:
    """Subtract the mean of each window, written out."""
    z = x.astype(np.float64)
    return np.stack([z[i] - z[max(i - before, 0) : i + after + 1].mean(axis=0) for i in range(len(z))])


def test_the_reference_is_matlabs_movmean() -> None:
    np.testing.assert_allclose(EXAMPLE - whole_recording(EXAMPLE, 3), MATLAB_CENTRED_3, atol=1e-12)


def test_trailing_is_matlabs_movmean_without_samples_after() -> None:
    got = build(Config(window_samples=3), signals(30.0, 1)).push(EXAMPLE, 0)
    np.testing.assert_allclose(EXAMPLE - got, MATLAB_TRAILING_3, atol=1e-6)


@pytest.mark.parametrize(("window", "before", "after"), [(1000, 500, 499), (7, 3, 3), (2, 1, 0), (900, 450, 449)])
def test_an_even_window_holds_one_more_before_than_after(window: int, before: int, after: int) -> None:
    x = traces(1300)
    np.testing.assert_allclose(whole_recording(x, window), by_definition(x, before, after), atol=1e-8)
    step = build(Config(form="centred", window_samples=window), signals(30.0, 3))
    assert step.lag_samples == after


@pytest.mark.parametrize("start", [0, 317, 12_345])
@pytest.mark.parametrize("window", [1000, 333, 2])
def test_centred_gives_the_published_values_late(window: int, start: int) -> None:
    x = traces(2600)
    step = build(Config(form="centred", window_samples=window), signals(30.0, 3))
    y = step.push(x, start)
    lag = step.lag_samples
    assert not y[:lag].any()
    np.testing.assert_allclose(y[lag:], whole_recording(x, window)[: len(x) - lag], atol=2e-5)


def test_trailing_averages_what_has_been() -> None:
    x = traces(500)
    y = build(Config(window_samples=64), signals(30.0, 3)).push(x, 10)
    np.testing.assert_allclose(y, by_definition(x, 63, 0), atol=2e-5)


def test_the_published_window_may_be_given_in_seconds() -> None:
    x = traces(1500)
    seconds = build(Config(form="centred", window_s=1000 / 30), signals(30.0, 3))
    samples = build(Config(form="centred", window_samples=1000), signals(30.0, 3))
    np.testing.assert_array_equal(seconds.push(x, 0), samples.push(x, 0))


@pytest.mark.parametrize("form", ["trailing", "centred"])
@pytest.mark.parametrize("n_lost", [1, 30, 70, 500])
def test_lost_samples_are_left_out_of_the_averages(form: str, n_lost: int) -> None:
    x, window, at = traces(900), 64, 400
    step = build(Config(form=form, window_samples=window), signals(30.0, 3))
    lag = step.lag_samples
    y = np.full_like(x, np.nan)
    y[:at] = step.push(x[:at], 0)
    step.reset()
    y[at + n_lost :] = step.push(x[at + n_lost :], at + n_lost)
    known = x.astype(np.float64)
    known[at : at + n_lost] = np.nan
    for k in range(at + n_lost, len(x)):
        if k - lag < at + n_lost:  # it would describe what was lost, or lies before
            assert not y[k].any()
        else:
            wanted = known[k - lag] - np.nanmean(known[max(k - window + 1, 0) : k + 1], axis=0)
            np.testing.assert_allclose(y[k], wanted, atol=2e-5)


def test_nothing_piles_up_in_hours() -> None:
    x = traces(300, 1)
    fresh = build(Config(window_samples=100), signals(30.0, 1)).push(x, 0)
    step = build(Config(window_samples=100), signals(30.0, 1))
    loud = (1e7 * np.random.default_rng(1).standard_normal((300_000, 1))).astype(np.float32)
    step.push(loud, 0)
    np.testing.assert_array_equal(step.push(x, 300_000)[200:], fresh[200:])


def test_a_sample_of_fifty_regions_takes_microseconds() -> None:
    x = traces(2500, 50)
    step = build(Config(form="centred", window_samples=1000), signals(30.0, 50))
    times_s = []
    for k in range(len(x)):
        t0_s = perf_counter()
        step.push(x[k : k + 1], k)
        times_s.append(perf_counter() - t0_s)
    assert np.median(times_s) < 0.5e-3


def test_what_must_not_be_scored_is_given_in_seconds() -> None:
    step = build(Config(window_s=10.0, warm_up_s=3.0, settle_s=0.5), signals(30.0, 1))
    assert (step.warm_up_samples, step.settle_samples, step.lag_samples) == (90, 15, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "window_samples or window_s"),
        ({"window_samples": 10, "window_s": 1.0}, "and not both"),
        ({"window_samples": 1}, "greater than or equal to 2"),
        ({"window_samples": 10, "form": "leading"}, "'trailing' or 'centred'"),
        ({"window_samples": 10, "settle_s": -1.0}, "greater than or equal to 0"),
        ({"window_samples": 10, "lag": 1}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)


def test_a_window_shorter_than_two_samples_and_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"window_s 0\.04 holds 1 samples"):
        build(Config(window_s=0.04), signals(30.0, 1))
    with pytest.raises(ValueError, match="moving_average takes signals"):
        build(Config(window_s=1.0), frames(30.0, 4, 4))
