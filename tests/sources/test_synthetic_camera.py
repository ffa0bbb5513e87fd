from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from streamscore.clock import VirtualClock
from streamscore.errors import ConfigError
from streamscore.simulate.cortex import FOUR_LIGHTS, TWO_LIGHTS, simulate_movie
from streamscore.sources.synthetic_camera import Config, SyntheticCamera, build
from tests.contracts.source import SourceContract, drain


class TestSyntheticCamera(SourceContract):
    """A small camera with four lights."""

    channels = FOUR_LIGHTS
    n_samples = 34

    def make(self, clock: VirtualClock, channels: Mapping[str, str] | None = None) -> SyntheticCamera:
        config = Config(
            frame_shape=(16, 20), duration_s=2.0, chunk_s=0.17, channels=dict(channels) if channels else None
        )
        return build(config, clock)


def test_it_is_the_simulation_stamped_and_counted_from_the_moment_it_began() -> None:
    source = build(Config(lights=TWO_LIGHTS, frame_shape=(24, 16), duration_s=2.0, seed=3), VirtualClock(1000.0))
    info = source.open(None)
    source.begin()
    chunks = drain(source)
    wanted = simulate_movie(2.0, lights=TWO_LIGHTS, frame_shape=(24, 16), seed=3).frames
    frames = np.concatenate([chunk.data for chunk in chunks])
    np.testing.assert_array_equal(frames, wanted)
    stamps_s = np.concatenate([chunk.stamps_s for chunk in chunks])
    np.testing.assert_allclose(stamps_s, 1000.0 + np.arange(len(wanted)) / 16.8)
    counters = np.concatenate([chunk.counters for chunk in chunks if chunk.counters is not None])
    np.testing.assert_array_equal(counters, np.arange(len(wanted)))
    assert (info.layout.sample_shape, info.units) == ((2, 24, 16), ("counts", "counts"))


def test_without_a_duration_it_does_not_end() -> None:
    source = build(Config(lights=("fluorescence_470",), frame_shape=(16, 16), chunk_s=1.0), VirtualClock())
    source.open(None)
    source.begin()
    assert all(source.read(0.1) is not None for _ in range(20))
    assert not source.ended
    source.close()


def test_an_unknown_light_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"reflectance_530.*fluorescence_470"):
        build(Config(lights=("reflectance_530",)), VirtualClock())
