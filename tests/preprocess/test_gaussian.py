from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from streamscore.preprocess.gaussian import Config, Gaussian, build
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import frames, signals


def movie(n: int, height: int, width: int) -> FloatArray:
    return np.random.default_rng(0).normal(100.0, 20.0, (n, 2, height, width)).astype(np.float32)


class TestGaussian(StepContract):
    layout = frames(16.8, 6, 7, "a", "b")

    def make(self) -> Gaussian:
        return build(Config(), self.layout)


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("height", "width"), [(9, 12), (2, 5), (1, 3)])
def test_it_is_a_gaussian_of_25_pixels_cut_at_the_border(sigma_px: float, height: int, width: int) -> None:
    x = movie(3, height, width)
    y = build(Config(sigma_px=sigma_px), frames(16.8, height, width, "a", "b")).push(x, 0)
    line = np.exp(-0.5 * (np.arange(-2, 3) / sigma_px) ** 2)
    kernel = np.outer(line, line)[None, None]
    inside = ndimage.convolve(np.ones(x.shape), kernel, mode="constant")
    wanted = ndimage.convolve(x.astype(np.float64), kernel, mode="constant") / inside
    np.testing.assert_allclose(y, wanted, rtol=1e-5)


def test_a_uniform_frame_stays_uniform() -> None:
    x = np.full((2, 2, 9, 12), 7.0, np.float32)
    np.testing.assert_allclose(build(Config(), frames(16.8, 9, 12, "a", "b")).push(x, 0), x, rtol=1e-6)


def test_it_makes_noise_smaller() -> None:
    y = build(Config(sigma_px=1.0), frames(16.8, 64, 64, "a", "b")).push(movie(2, 64, 64), 0)
    assert y[:, :, 2:-2, 2:-2].std() == pytest.approx(20.0 * 0.287, rel=0.05)  # root of the sum of squared weights


def test_a_bad_pixel_reaches_no_further_than_the_kernel_and_is_gone_with_its_frame() -> None:
    x = movie(2, 9, 12)
    x[0, 0, 4, 5] = np.nan
    y = build(Config(), frames(16.8, 9, 12, "a", "b")).push(x, 0)
    bad = ~np.isfinite(y)
    assert bad[0, 0, 2:7, 3:8].all()
    assert bad.sum() == 25


def test_signals_and_wrong_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="gaussian takes frames"):
        build(Config(), signals(50.0, 2))
    with pytest.raises(ValidationError, match="greater than 0"):
        Config(sigma_px=0.0)
