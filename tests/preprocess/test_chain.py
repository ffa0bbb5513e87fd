from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from streamscore.arrays import pack
from streamscore.errors import ConfigError
from streamscore.preprocess.base import Chain
from streamscore.types import FloatArray
from tests.layouts import frames, signals
from tests.streams import cuts, sizes

DESCRIPTION = (
    {"kind": "bandpass", "low_hz": 0.5, "high_hz": 20.0, "settle_s": 3.0},
    {"kind": "normalise", "warm_up_s": 5.0},
)


def samples(n: int = 700) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)


@given(sizes)
def test_any_chunking_gives_the_same(sizes: list[int]) -> None:
    x = samples()
    chain = Chain(DESCRIPTION, signals(50.0, 2))
    pieces = [chain.push(x[part], part.start) for part in cuts(len(x), sizes)]
    np.testing.assert_array_equal(np.concatenate(pieces), Chain(DESCRIPTION, signals(50.0, 2)).push(x, 0))


def test_steps_run_in_the_order_of_the_description() -> None:
    x = samples()
    first, second = Chain(DESCRIPTION[:1], signals(50.0, 2)), Chain(DESCRIPTION[1:], signals(50.0, 2))
    np.testing.assert_array_equal(
        Chain(DESCRIPTION, signals(50.0, 2)).push(x, 0), second.push(first.push(x, 0), 0)
    )


def test_it_waits_for_its_slowest_step() -> None:
    chain = Chain(DESCRIPTION, signals(50.0, 2))
    assert (chain.warm_up_samples, chain.settle_samples) == (250, 150)


def test_without_steps_it_hands_samples_on() -> None:
    x = samples()
    chain = Chain((), signals(50.0, 2))
    np.testing.assert_array_equal(chain.push(x, 0), x)
    assert (chain.warm_up_samples, chain.settle_samples) == (0, 0)


def test_the_description_is_not_consumed() -> None:
    description = ({"kind": "normalise"},)
    Chain(description, signals(50.0, 2))
    assert description == ({"kind": "normalise"},)


def test_an_unknown_step_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'notch'.*bandpass, .*normalise"):
        Chain(({"kind": "notch"},), signals(50.0, 2))


class TestFrames:
    """Chains that begin with a camera."""

    CHAIN = (
        {"kind": "dark_frame", "dark": 10.0},
        {"kind": "haemoglobin", "warm_up_s": 1.0},
        {"kind": "gaussian"},
        {"kind": "roi_mean", "regions": pack(np.kron(np.array([[1, 2], [0, 3]]), np.ones((4, 4), int)))},
        {"kind": "moving_average", "form": "centred", "window_samples": 9, "warm_up_s": 0.0},
        {"kind": "normalise", "statistic": "zscore", "warm_up_s": 2.0},
    )
    LAYOUT = frames(10.0, 8, 8, "fluorescence_470", "reflectance_523")

    def movie(self, n: int = 60) -> FloatArray:
        noise = np.random.default_rng(0).standard_normal((n, 2, 8, 8))
        return (1000.0 + 30.0 * noise).astype(np.float32)

    def test_frames_become_regions_and_lags_add_up(self) -> None:
        chain = Chain(self.CHAIN, self.LAYOUT)
        assert chain.layout.channels == ("roi_1", "roi_2", "roi_3")
        assert chain.layout.frame_shape is None
        assert chain.push(self.movie(), 0).shape == (60, 3)
        assert chain.lag_samples == 4
        assert chain.warm_up_samples == 4 + 20

    @given(sizes)
    def test_any_chunking_gives_the_same(self, sizes: list[int]) -> None:
        x = self.movie()
        chain = Chain(self.CHAIN, self.LAYOUT)
        pieces = [chain.push(x[part], part.start) for part in cuts(len(x), sizes)]
        whole = Chain(self.CHAIN, self.LAYOUT).push(x, 0)
        np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=0, atol=1e-6)

    def test_what_the_rig_gives_wins(self) -> None:
        x = self.movie(1)
        one = Chain(self.CHAIN[:1], self.LAYOUT, {"dark_frame": {"dark": 100.0}})
        np.testing.assert_array_equal(one.push(x, 0), x - 100.0)

    def test_threads_are_as_before(self) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            Chain(self.CHAIN, self.LAYOUT).push(self.movie(), 0)
            assert torch.get_num_threads() == 2
            chain = Chain(self.CHAIN, self.LAYOUT)
            with pytest.raises(RuntimeError, match="size"):
                chain.push(self.movie()[:, :, :3, :5].repeat(3, axis=1), 0)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)

    def test_steps_refuse_what_they_are_not_for(self) -> None:
        with pytest.raises(ValueError, match="gaussian takes frames"):
            Chain(({"kind": "gaussian"},), signals(50.0, 2))
        with pytest.raises(ValueError, match="bandpass takes signals"):
            Chain(DESCRIPTION[:1], self.LAYOUT)
