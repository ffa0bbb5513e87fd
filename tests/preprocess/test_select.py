from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.preprocess.select import Config, Select, build
from streamscore.types import Layout
from tests.contracts.step import StepContract
from tests.layouts import frames, signals


class TestLights(StepContract):
    layout = frames(50.0, 3, 4, "fluorescence_470", "reflectance_523", "reflectance_640")

    def make(self) -> Select:
        return build(Config(channels=("reflectance_640", "fluorescence_470")), self.layout)


class TestSignals(StepContract):
    layout = signals(50.0, 5)

    def make(self) -> Select:
        return build(Config(channels=("ch2",)), self.layout)


def test_channels_come_in_the_order_asked_for() -> None:
    layout = frames(30.0, 3, 4, "a", "b", "c")
    x = np.random.default_rng(0).standard_normal((5, *layout.sample_shape)).astype(np.float32)
    step = build(Config(channels=("c", "a")), layout)
    assert step.layout == Layout(30.0, ("c", "a"), (3, 4))
    np.testing.assert_array_equal(step.push(x, 0), x[:, [2, 0]])


def test_unknown_and_repeated_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="no channel 'ch9'; choose from ch1, ch2"):
        build(Config(channels=("ch1", "ch9")), signals(30.0, 2))
    with pytest.raises(ValueError, match="stands twice"):
        build(Config(channels=("ch1", "ch1")), signals(30.0, 2))
    with pytest.raises(ValidationError, match="at least 1 item"):
        Config(channels=())
