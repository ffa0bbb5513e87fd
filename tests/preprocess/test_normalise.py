from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.preprocess.normalise import Config, Normalise, build
from streamscore.types import FloatArray
from tests.contracts.step import StepContract

SFREQ = 50.0
SECOND = 50


def seconds(stds: list[float], seed: int = 0) -> FloatArray:
    """One second of noise for each standard deviation, ``(n, 1)``."""
    rng = np.random.default_rng(seed)
    blocks = [std * (z - z.mean()) / z.std() for std in stds for z in [rng.standard_normal(SECOND)]]
    return np.concatenate(blocks).astype(np.float32)[:, None]


def scale_at(step: Normalise, start: int) -> float:
    """What the step divides by at absolute index `start`, seen from outside."""
    return 1.0 / float(step.push(np.ones((1, 1), np.float32), start)[0, 0])


class TestRunning(StepContract):
    """Follows the amplitude for ever."""

    def make(self) -> Normalise:
        return build(Config(estimator="running", warm_up_s=3.0, tau_s=5.0), self.sfreq, self.n_channels)


class TestCalibration(StepContract):
    """Learns during the warm-up only."""

    def make(self) -> Normalise:
        return build(Config(estimator="calibration", warm_up_s=3.0), self.sfreq, self.n_channels)


class TestStored(StepContract):
    """Knows the amplitude from the bundle."""

    def make(self) -> Normalise:
        return build(Config(estimator="stored", stored_scale=(10.0, 40.0)), self.sfreq, self.n_channels)


class TestOddRate(StepContract):
    """A rate that is no whole number."""

    sfreq = 48.5
    n_channels = 1

    def make(self) -> Normalise:
        return build(Config(warm_up_s=2.0, tau_s=4.0), self.sfreq, self.n_channels)


def test_the_scale_is_the_geometric_mean_of_the_seconds_so_far() -> None:
    step = build(Config(), SFREQ, 1)
    step.push(seconds([2.0, 8.0]), 0)
    assert scale_at(step, 2 * SECOND) == pytest.approx(4.0, rel=1e-4)


def test_a_second_is_divided_by_what_was_learnt_before_it() -> None:
    x = seconds([2.0, 8.0])
    y = build(Config(clip=1000.0), SFREQ, 1).push(x, 0)
    np.testing.assert_allclose(y[SECOND:], x[SECOND:] / 2.0, rtol=1e-4)


def test_it_forgets_with_its_time_constant() -> None:
    step = build(Config(tau_s=4.0), SFREQ, 1)
    step.push(seconds([1.0] * 50 + [100.0] * 50), 0)
    assert scale_at(step, 100 * SECOND) == pytest.approx(100.0, rel=1e-3)


def test_calibration_ends_with_the_warm_up() -> None:
    step = build(Config(estimator="calibration", warm_up_s=2.0), SFREQ, 1)
    step.push(seconds([3.0, 3.0, 90.0, 90.0]), 0)
    assert scale_at(step, 4 * SECOND) == pytest.approx(3.0, rel=1e-4)


@pytest.mark.parametrize("n_lost", [0, 5, SECOND, 7 * SECOND + 3])
def test_a_gap_keeps_the_amplitude_and_drops_the_second_that_it_cuts(n_lost: int) -> None:
    step = build(Config(), SFREQ, 1)
    step.push(seconds([2.0, 500.0])[: SECOND + 20], 0)
    step.reset()
    start = SECOND + 20 + n_lost
    rest = -start % SECOND
    step.push(seconds([500.0])[:rest], start)
    assert scale_at(step, start + rest) == pytest.approx(2.0, rel=1e-4)


@given(st.integers(0, 3 * SECOND))
def test_only_whole_seconds_of_the_absolute_index_are_learnt(start: int) -> None:
    step = build(Config(), SFREQ, 1)
    step.push(seconds([7.0] * 6), start)
    others = build(Config(), SFREQ, 1)
    skip = -start % SECOND
    others.push(seconds([7.0] * 6)[skip:], start + skip)
    n = start + 6 * SECOND
    assert scale_at(step, n) == scale_at(others, n)


def test_what_is_too_large_is_clipped() -> None:
    y = build(Config(estimator="stored", stored_scale=(1.0,), clip=3.0), SFREQ, 1).push(seconds([100.0]), 0)
    assert y.max() == 3.0
    assert y.min() == -3.0


def test_a_silent_second_gives_finite_numbers() -> None:
    step = build(Config(), SFREQ, 1)
    step.push(np.zeros((SECOND, 1), np.float32), 0)
    assert np.isfinite(step.push(seconds([1.0]), SECOND)).all()


def test_warm_up_is_given_in_seconds_and_not_needed_with_stored_scales() -> None:
    assert build(Config(warm_up_s=3.0), SFREQ, 1).warm_up_samples == 150
    assert build(Config(estimator="stored", stored_scale=(1.0,)), SFREQ, 1).warm_up_samples == 0


def test_stored_scales_must_fit_the_channels() -> None:
    with pytest.raises(ValueError, match="stored_scale has 1 values for 2 channels"):
        build(Config(estimator="stored", stored_scale=(1.0,)), SFREQ, 2)
