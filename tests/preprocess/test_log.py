from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.preprocess.base import Chain
from streamscore.preprocess.log import Config, Log, build
from streamscore.types import Layout
from tests.contracts.step import StepContract

LAYOUT = Layout(0.25, ("delta", "EMG"))


class TestLog(StepContract):
    def make(self) -> Log:
        return build(Config(), self.layout)


def test_it_is_the_logarithm_to_the_base_10() -> None:
    x = np.array([[1.0, 10.0], [1000.0, 0.01]], np.float32)
    np.testing.assert_allclose(build(Config(), LAYOUT).push(x, 0), [[0, 1], [3, -2]], rtol=0, atol=1e-6)


def test_what_has_no_logarithm_counts_as_the_floor() -> None:
    x = np.array([[0.0, -5.0], [-0.0, 0.001]], np.float32)
    y = build(Config(floor=0.01), LAYOUT).push(x, 0)
    np.testing.assert_allclose(y, np.full((2, 2), -2.0), rtol=0, atol=1e-6)


def test_a_nan_stays_one() -> None:
    """Quality withholds it before; here it must not become a plausible number."""
    assert np.isnan(build(Config(), LAYOUT).push(np.full((1, 2), np.nan, np.float32), 0)).all()


def test_a_gain_becomes_an_offset_that_a_normaliser_takes_away() -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.standard_normal((400, 2))).astype(np.float32)
    steps: list[dict[str, Any]] = [
        {"kind": "log"},
        {"kind": "normalise", "statistic": "zscore", "warm_up_s": 80.0},
    ]
    plain, amplified = (Chain(steps, LAYOUT).push(gain * x, 0)[20:] for gain in (1.0, 40.0))
    np.testing.assert_allclose(amplified, plain, rtol=0, atol=1e-3)


@pytest.mark.parametrize("floor", [0.0, -1.0, 1e-60, float("nan"), float("inf")])
def test_a_floor_without_a_logarithm_is_refused(floor: float) -> None:
    with pytest.raises(ValidationError, match="floor"):
        Config(floor=floor)


def test_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="log takes signals"):
        build(Config(), Layout(10.0, ("red",), (4, 4)))
