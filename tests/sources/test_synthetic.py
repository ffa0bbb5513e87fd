from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamscore.clock import VirtualClock
from streamscore.simulate import simulate
from streamscore.sources.synthetic import Config, SyntheticSource, build
from tests.contracts.source import SourceContract, drain


class TestSynthetic(SourceContract):
    """A simulated mouse."""

    channels = ("EEG", "EMG")
    n_samples = 2001

    def make(self, clock: VirtualClock, channels: Mapping[str, str] | None = None) -> SyntheticSource:
        config = Config(
            species="mouse", duration_s=10.005, chunk_s=0.37, channels=dict(channels) if channels else None
        )
        return build(config, clock)


def test_it_is_the_simulation_stamped_from_the_moment_it_began() -> None:
    clock = VirtualClock(1000.0)
    source = build(Config(species="mouse", duration_s=5.0, seed=3), clock)
    info = source.open(None)
    source.begin()
    chunks = drain(source)
    wanted = simulate("mouse", 5.0, seed=3)
    np.testing.assert_array_equal(np.concatenate([chunk.data for chunk in chunks]), wanted.data)
    np.testing.assert_allclose(np.concatenate([chunk.stamps_s for chunk in chunks]), 1000.0 + wanted.stamps_s)
    assert (info.sfreq, info.units) == (200.0, ("uV", "uV"))


def test_without_a_duration_it_does_not_end() -> None:
    source = build(Config(species="mouse", chunk_s=1.0), VirtualClock())
    source.open(None)
    source.begin()
    assert all(source.read(0.1) is not None for _ in range(30))
    assert not source.ended
    source.close()
