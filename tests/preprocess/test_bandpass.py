from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import signal

from streamscore.preprocess.bandpass import Bandpass, Config, build
from tests.contracts.step import StepContract
from tests.layouts import signals


class TestBandpass(StepContract):
    """Both edges."""

    def make(self) -> Bandpass:
        return build(Config(low_hz=0.5, high_hz=20.0, settle_s=1.5), self.layout)


class TestHighpass(StepContract):
    """Lower edge only."""

    def make(self) -> Bandpass:
        return build(Config(low_hz=0.5, high_hz=None, order=4), self.layout)


class TestLowpass(StepContract):
    """Upper edge only, one channel."""

    layout = signals(50.0, 1)

    def make(self) -> Bandpass:
        return build(Config(low_hz=None, high_hz=20.0), self.layout)


def test_it_is_scipys_butterworth_begun_at_the_first_sample() -> None:
    x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    sos = signal.butter(2, (0.5, 20.0), "bandpass", fs=50.0, output="sos")
    zi = signal.sosfilt_zi(sos)
    wanted = np.stack(
        [signal.sosfilt(sos, x[:, c].astype(float), zi=zi * float(x[0, c]))[0] for c in range(2)], axis=1
    )
    got = build(Config(low_hz=0.5, high_hz=20.0), signals(50.0, 2)).push(x, 0)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_an_offset_makes_no_step() -> None:
    flat = np.full((500, 1), 1e4, np.float32)
    assert np.abs(build(Config(low_hz=0.5, high_hz=20.0), signals(50.0, 1)).push(flat, 0)).max() < 1e-3


def test_after_a_gap_it_knows_nothing_of_before() -> None:
    x = np.random.default_rng(0).standard_normal((300, 1)).astype(np.float32)
    used, fresh = (build(Config(low_hz=0.5, high_hz=20.0), signals(50.0, 1)) for _ in range(2))
    used.push(x + 1e4, 0)
    used.reset()
    np.testing.assert_array_equal(used.push(x, 400), fresh.push(x, 0))


def test_settling_is_given_in_seconds() -> None:
    assert build(Config(settle_s=1.5), signals(100.0, 1)).settle_samples == 150


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"low_hz": None, "high_hz": None}, "needs low_hz, high_hz or both"),
        ({"low_hz": 30.0, "high_hz": 20.0}, "must lie below"),
        ({"order": 0}, "order"),
        ({"q": 3}, "q"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Config(**wrong)


def test_an_edge_above_half_the_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"high_hz 35\.0 must lie below half the sampling rate, 25\.0"):
        build(Config(), signals(50.0, 1))
