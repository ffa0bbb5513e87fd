from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.ophys import OnePhotonSeries, OpticalChannel

from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie

STORED = np.random.default_rng(0).integers(0, 4096, (20, 6, 8)).astype(np.uint16)  # (n, height, width)


def write(path: Path, **series: dict[str, Any]) -> Path:
    """Write each of `series` as one of one-photon images of a mesoscope."""
    file = NWBFile("a session", "m1", datetime(2024, 1, 1, tzinfo=UTC))
    device = file.create_device(name="mesoscope")
    channel = OpticalChannel(name="green", description="GCaMP", emission_lambda=525.0)
    plane = file.create_imaging_plane(
        name="cortex",
        optical_channel=channel,
        description="dorsal cortex",
        device=device,
        excitation_lambda=470.0,
        indicator="GCaMP6f",
        location="cortex",
    )
    for name, options in series.items():
        file.add_acquisition(OnePhotonSeries(name=name, imaging_plane=plane, unit="counts", **options))
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.nwb"


def as_nwb(frames: np.ndarray) -> np.ndarray:
    """``(frame, height, width)`` → the ``(frame, x, y)`` of the standard."""
    return frames.swapaxes(1, 2)


def test_frames_rate_and_start(file: Path) -> None:
    write(file, raw={"data": as_nwb(STORED), "rate": 16.8, "starting_time": 3.0})
    with read_movie(file) as movie:
        assert (movie.rate_hz, movie.frame_shape, movie.lights) == (16.8, (6, 8), ())
        np.testing.assert_allclose(movie.stamps_s, 3.0 + np.arange(20) / 16.8)
        np.testing.assert_array_equal(movie.read(4, 9), STORED[4:9])


def test_timestamps_and_lights_of_each_frame(file: Path) -> None:
    truth = np.delete(np.arange(22), [5, 6])
    write(
        file,
        raw={
            "data": as_nwb(STORED),
            "timestamps": truth / 40.0,
            "control": (truth % 2).astype(np.uint8),
            "control_description": ["blue", "violet"],
        },
    )
    with read_movie(file) as movie:
        assert (movie.rate_hz, movie.lights) == (40.0, ("blue", "violet"))
        np.testing.assert_array_equal(movie.numbers, truth)
        assert movie.tag(5) == "violet"


def test_one_of_several_series_is_chosen(file: Path) -> None:
    series = {"data": as_nwb(STORED), "rate": 16.8}
    write(file, blue=series, green={**series, "data": as_nwb(STORED[:, ::-1])})
    with pytest.raises(RecordingError, match="holds several movies: blue, green"):
        read_movie(file)
    with read_movie(file, dataset="green") as movie:
        np.testing.assert_array_equal(movie.read(0, 2), STORED[:2, ::-1])


def test_frames_in_other_files_are_named(file: Path) -> None:
    times_s = np.arange(20) / 16.8
    write(
        file, raw={"external_file": ["m1.tif"], "format": "external", "timestamps": times_s, "dimension": [8, 6]}
    )
    with pytest.raises(RecordingError, match=r"in files of their own \(m1\.tif\)"):
        read_movie(file)


def test_a_volume_is_refused(file: Path) -> None:
    write(file, raw={"data": np.zeros((5, 4, 3, 2)), "rate": 16.8})
    with pytest.raises(RecordingError, match=r"is \(5, 4, 3, 2\), a volume"):
        read_movie(file)


def test_a_file_without_images_is_refused(file: Path) -> None:
    write(file)
    with pytest.raises(RecordingError, match="holds no movie"):
        read_movie(file)


def shorten(content: bytes) -> bytes:
    return content[: len(content) // 2]


def no_hdf5(content: bytes) -> bytes:
    return bytes(len(content))


@pytest.mark.parametrize("damage", [shorten, no_hdf5])
def test_a_damaged_file_is_refused(file: Path, damage: Callable[[bytes], bytes]) -> None:
    write(file, raw={"data": as_nwb(STORED), "rate": 16.8})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RecordingError, match=r"m\.nwb: damaged or truncated"):
        read_movie(file)
