from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from streamscore.preprocess.layers import PixelMean, PixelSlope, pixel_constants, reciprocal_above
from streamscore.types import FloatArray
from tests.layouts import frames, signals

SHAPE = (2, 3, 4)
LAYOUT = frames(10.0, 3, 4, "a", "b")


def movie(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(1e4, 50.0, (n, *SHAPE)).astype(np.float32))


def doubles(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return x.numpy().astype(np.float64)


class TestPixelMean:
    def test_it_is_the_mean_so_far_until_its_time_constant(self) -> None:
        x, mean = movie(200), PixelMean(SHAPE, 200.0)
        for k, frame in enumerate(x):
            mean.learn(frame)
            np.testing.assert_allclose(mean.mean.numpy(), doubles(x[: k + 1]).mean(axis=0), rtol=1e-6)

    def test_then_it_forgets(self) -> None:
        x, mean = movie(300), PixelMean(SHAPE, 20.0)
        wanted = np.zeros(SHAPE)
        for k, frame in enumerate(x):
            mean.learn(frame)
            wanted += max(1 / (k + 1), 1 / 20) * (doubles(frame) - wanted)
        np.testing.assert_allclose(mean.mean.numpy(), wanted, rtol=1e-6)

    def test_it_gives_the_difference_to_the_mean_before(self) -> None:
        x, mean = movie(2), PixelMean(SHAPE, 20.0)
        torch.testing.assert_close(mean.learn(x[0]), x[0], rtol=0, atol=0)
        torch.testing.assert_close(mean.learn(x[1]), x[1] - x[0], rtol=0, atol=0)

    def test_late_in_a_session_it_still_follows_steps_that_float32_could_not_hold(self) -> None:
        mean = PixelMean((1,), 1e5)
        mean.learn(torch.tensor([30000.0]))
        mean.n_learnt = 10**6
        for _ in range(1000):  # each moves it by 1e-5, where float32 near 30000 has steps of 2e-3
            mean.learn(torch.tensor([30001.0]))
        assert float(mean.mean[0]) == pytest.approx(30000.01, abs=2e-3)
        assert float(mean.mean[0]) > 30000.0

    def test_it_is_frozen_after_so_many_frames(self) -> None:
        mean = PixelMean(SHAPE, 100.0, 3)
        learnt = []
        for frame in movie(5):
            learnt.append(mean.learns)
            if mean.learns:
                mean.learn(frame)
        assert learnt == [True, True, True, False, False]
        np.testing.assert_allclose(mean.mean.numpy(), doubles(movie(5)[:3]).mean(axis=0), rtol=1e-6)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_a_bad_pixel_changes_no_mean(self, bad: float) -> None:
        x, mean, other = movie(50), PixelMean(SHAPE, 100.0), PixelMean(SHAPE, 100.0)
        x[10, 1, 2, 3] = bad
        for k, frame in enumerate(x):
            before = mean.mean[1, 2, 3].clone()
            mean.learn(frame)
            if k == 10:
                assert mean.mean[1, 2, 3] == before
        x[10, 1, 2, 3] = 1e4
        for frame in x:
            other.learn(frame)
        is_other = np.ones(SHAPE, bool)
        is_other[1, 2, 3] = False
        np.testing.assert_array_equal(
            mean.mean[torch.from_numpy(is_other)], other.mean[torch.from_numpy(is_other)]
        )
        assert float(mean.mean[1, 2, 3]) == pytest.approx(1e4, abs=50.0)


class TestPixelSlope:
    @pytest.mark.parametrize("regressor_shape", [SHAPE, (2, 1, 1)])
    def test_it_is_the_least_squares_slope_so_far(self, regressor_shape: tuple[int, ...]) -> None:
        x = movie(200)
        regressor = torch.from_numpy(np.random.default_rng(1).normal(5e3, 20.0, (200, *regressor_shape)))
        x = x + 3.0 * regressor.float()
        slope = PixelSlope(SHAPE, regressor_shape, 1000.0)
        for frame, r in zip(x, regressor.float(), strict=True):
            slope.learn(frame, r)
        a = doubles(x) - doubles(x).mean(axis=0)
        b = doubles(regressor.float()) - doubles(regressor.float()).mean(axis=0)
        np.testing.assert_allclose(slope.slope.numpy(), (a * b).sum(axis=0) / (b * b).sum(axis=0), rtol=1e-4)

    def test_it_forgets_as_the_exponential_moments_do(self) -> None:
        x, regressor = movie(300), movie(300, seed=1)
        slope = PixelSlope(SHAPE, SHAPE, 25.0)
        mean_x, mean_r, covariance, variance = (np.zeros(SHAPE) for _ in range(4))
        for k, (frame, r) in enumerate(zip(x, regressor, strict=True)):
            slope.learn(frame, r)
            weight = max(1 / (k + 1), 1 / 25)
            dx, dr = doubles(frame) - mean_x, doubles(r) - mean_r
            mean_x, mean_r = mean_x + weight * dx, mean_r + weight * dr
            covariance = (1 - weight) * (covariance + weight * dx * dr)
            variance = (1 - weight) * (variance + weight * dr * dr)
        np.testing.assert_allclose(slope.slope.numpy(), covariance / variance, rtol=1e-3, atol=1e-4)

    def test_it_is_0_where_the_regressor_never_changed(self) -> None:
        slope = PixelSlope(SHAPE, (2, 1, 1), 25.0)
        assert not slope.slope.any()
        for frame in movie(20):
            slope.learn(frame, torch.full((2, 1, 1), 77.0))
        assert not slope.slope.any()

    def test_a_bad_pixel_spoils_nothing(self) -> None:
        x, regressor = movie(100), movie(100, seed=1)
        x[50, 0, 0, 0], regressor[60, 0, 0, 1] = float("nan"), float("inf")
        slope = PixelSlope(SHAPE, SHAPE, 25.0)
        for frame, r in zip(x, regressor, strict=True):
            slope.learn(frame, r)
        assert bool(slope.slope.isfinite().all())


def test_a_constant_of_each_pixel_spreads_over_the_channels() -> None:
    image: FloatArray = np.arange(12, dtype=np.float32).reshape(3, 4)
    for value in (image, np.stack((image, image))):
        found = pixel_constants(value, "dark", LAYOUT)
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), np.stack((image, image)))


def test_a_constant_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dark has shape \(4, 3\); the frames need \(3, 4\).*each of a, b"):
        pixel_constants(np.zeros((4, 3)), "dark", LAYOUT)
    with pytest.raises(ValueError, match="dark takes frames"):
        pixel_constants(np.zeros((4, 3)), "dark", signals(10.0, 2))


def test_the_reciprocal_of_what_is_dark_is_0() -> None:
    level = torch.tensor([[[100.0, 50.0], [1.0, -3.0]], [[0.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [0.0, -2.0]]])
    wanted = torch.tensor([[[0.01, 0.02], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(reciprocal_above(level, 0.1), wanted)
