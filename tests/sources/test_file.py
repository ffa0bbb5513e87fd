from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from streamscore.clock import VirtualClock
from streamscore.errors import RecordingError
from streamscore.sources.file import Config, FileSource, build
from tests.contracts.source import SourceContract, drain

N_SAMPLES = 777


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a recording of three channels at 100 Hz that begins at 20 s."""
    path = tmp_path_factory.mktemp("file") / "night.npz"
    data = np.random.default_rng(0).standard_normal((N_SAMPLES, 3)).astype(np.float32)
    stamps_s = 20.0 + np.arange(N_SAMPLES) / 100.0
    channels, units = ["C3", "C4", "EMG"], ["uV", "uV", "mV"]
    np.savez(path, data=data, stamps_s=stamps_s, sfreq=100.0, channels=channels, units=units)
    return path


class FileContract(SourceContract):
    """What paced and unpaced files share."""

    channels = ("C3", "C4", "EMG")
    n_samples = N_SAMPLES
    speed: float

    @pytest.fixture(autouse=True)
    def _path(self, recording: Path) -> None:
        self.path = recording

    def make(self, clock: VirtualClock, channels: Mapping[str, str] | None = None) -> FileSource:
        mapping = dict(channels) if channels else None
        return build(Config(path=self.path, speed=self.speed, chunk_s=0.13, channels=mapping), clock)


class TestPacedFile(FileContract):
    """As the rig sent it."""

    speed = 1.0


class TestUnpacedFile(FileContract):
    """As fast as possible."""

    speed = 0.0


def test_a_paced_file_starts_now_and_an_unpaced_one_keeps_its_times(recording: Path) -> None:
    first_s = {}
    for speed in (0.0, 2.0):
        source = build(Config(path=recording, speed=speed), VirtualClock(500.0))
        source.open(None)
        source.begin()
        first_s[speed] = drain(source)[0].stamps_s[0]
    assert first_s == {0.0: 20.0, 2.0: 500.0}


def test_units_follow_the_chosen_channels(recording: Path) -> None:
    source = build(Config(path=recording, channels={"muscle": "EMG"}), VirtualClock())
    assert source.open(None).units == ("mV",)
    source.close()


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    source = build(Config(path=tmp_path / "no.npz"), VirtualClock())
    with pytest.raises(RecordingError, match=r"no\.npz: no such file"):
        source.open(None)
