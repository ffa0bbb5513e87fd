from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from streamscore.errors import ConfigError
from streamscore.preprocess.base import Chain
from tests.streams import cuts, sizes
from tests.layouts import signals

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
