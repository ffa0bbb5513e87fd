from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from streamscore.clock import VirtualClock
from streamscore.sources.noise import Config, NoiseSource, build
from tests.contracts.source import drain


def play(config: Config, wanted: tuple[str, ...] | None = None) -> tuple[NoiseSource, np.ndarray, np.ndarray]:
    source = build(config, VirtualClock(100.0))
    source.open(wanted)
    source.begin()
    chunks = drain(source)
    return source, np.concatenate([c.data for c in chunks]), np.concatenate([c.stamps_s for c in chunks])


def test_it_has_the_channels_that_a_network_wants() -> None:
    source = build(Config(sfreq=30.0), VirtualClock())
    info = source.open(("a", "b", "c"))
    assert (info.channels, info.units, info.sfreq) == (("a", "b", "c"), ("uV",) * 3, 30.0)
    assert build(Config(n_channels=2), VirtualClock()).open(None).channels == ("ch1", "ch2")


@pytest.mark.parametrize("chunk_s", [0.05, 0.37, 5.0])
def test_any_chunking_gives_the_same_noise(chunk_s: float) -> None:
    _, data, stamps_s = play(Config(n_channels=3, duration_s=4.3, chunk_s=chunk_s))
    _, whole, _ = play(Config(n_channels=3, duration_s=4.3, chunk_s=1.0))
    np.testing.assert_array_equal(data, whole)
    assert data.shape == (430, 3)
    assert data.dtype == np.float32
    np.testing.assert_allclose(stamps_s, 100.0 + np.arange(430) / 100.0)


def test_seed_and_amplitude() -> None:
    _, data, _ = play(Config(duration_s=60.0, amplitude_uv=12.0, seed=1))
    _, other, _ = play(Config(duration_s=60.0, amplitude_uv=12.0, seed=2))
    assert data.std() == pytest.approx(12.0, rel=0.05)
    assert abs(np.corrcoef(data[:, 0], other[:, 0])[0, 1]) < 0.05


def test_frames() -> None:
    config = Config(sfreq=16.8, frame_shape=(6, 5), duration_s=2.5)
    assert build(config, VirtualClock()).open(None).frame_shape == (6, 5)
    _, movie, stamps_s = play(config)
    assert movie.shape == (42, 1, 6, 5)
    np.testing.assert_allclose(np.diff(stamps_s), 1 / 16.8)


def test_without_a_duration_it_does_not_end() -> None:
    source = build(Config(chunk_s=1.0), VirtualClock())
    source.open(None)
    source.begin()
    assert all(source.read(0.1) is not None for _ in range(30))
    assert not source.ended
    source.close()
    assert source.ended


@pytest.mark.parametrize("wrong", [{"sfreq": 0}, {"n_channels": 0}, {"amplitude_uv": 0}, {"frames": 3}])
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Config(**wrong)
