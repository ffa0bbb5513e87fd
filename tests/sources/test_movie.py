from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamscore.clock import VirtualClock
from streamscore.errors import RecordingError, StreamFormatError
from streamscore.sources.movie import Config, MovieSource, build
from streamscore.types import Chunk
from tests.contracts.source import SourceContract, drain

LIGHTS = ("fluorescence_470", "reference_405")
N_CYCLES = 60
FRAMES = np.random.default_rng(0).integers(0, 4096, (2 * N_CYCLES, 8, 6)).astype(np.uint16)


def save(path: Path, frames: np.ndarray = FRAMES, **fields: Any) -> Path:
    np.savez(path, frames=frames, **fields)
    return path


def play(path: Path, wanted: tuple[str, ...] | None = None, **options: Any) -> tuple[MovieSource, list[Chunk]]:
    """Play a movie to its end, as fast as possible."""
    source = build(Config(path=path, **{"speed": 0.0, **options}), VirtualClock(100.0))
    source.open(wanted)
    source.begin()
    chunks = drain(source)
    source.close()
    return source, chunks


def samples(chunks: list[Chunk]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data, stamps and counters of all chunks."""
    counters = [chunk.counters for chunk in chunks if chunk.counters is not None]
    assert len(counters) == len(chunks)
    return (
        np.concatenate([chunk.data for chunk in chunks]),
        np.concatenate([chunk.stamps_s for chunk in chunks]),
        np.concatenate(counters),
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mouse.npz"


class MovieContract(SourceContract):
    """What paced and unpaced movies share."""

    channels = LIGHTS
    n_samples = N_CYCLES
    speed: float

    @pytest.fixture(autouse=True)
    def _path(self, file: Path) -> None:
        self.path = save(file, rate_hz=33.6, lights=LIGHTS)

    def make(self, clock: VirtualClock, channels: Mapping[str, str] | None = None) -> MovieSource:
        mapping = dict(channels) if channels else None
        return build(Config(path=self.path, speed=self.speed, chunk_s=0.2, channels=mapping), clock)


class TestPacedMovie(MovieContract):
    """As the rig sent it."""

    speed = 1.0


class TestUnpacedMovie(MovieContract):
    """As fast as possible."""

    speed = 0.0


def test_lights_are_told_apart_and_pixels_unchanged(file: Path) -> None:
    save(file, rate_hz=33.6, lights=LIGHTS)
    data, stamps_s, counters = samples(play(file)[1])
    np.testing.assert_array_equal(data, FRAMES.reshape(N_CYCLES, 2, 8, 6))
    np.testing.assert_allclose(stamps_s, (2 * np.arange(N_CYCLES) + 1) / 33.6)
    np.testing.assert_array_equal(counters, np.arange(N_CYCLES))


@pytest.mark.parametrize("chunk_s", [0.01, 0.5, 3.0, 1e6])
def test_the_size_of_chunks_changes_nothing(file: Path, chunk_s: float) -> None:
    frames = np.random.default_rng(1).random((700, 3, 2)).astype(np.float32)
    save(file, frames, rate_hz=16.8)
    source, chunks = play(file, chunk_s=chunk_s)
    np.testing.assert_array_equal(samples(chunks)[0][:, 0], frames)
    assert source.counters["cycles"] == 700


def test_a_corrected_movie_passes_as_it_is(file: Path) -> None:
    frames = np.random.default_rng(2).standard_normal((50, 8, 6)).astype(np.float32)
    frames[3, 2, 1] = np.nan
    data = samples(play(save(file, frames, rate_hz=16.8))[1])[0]
    np.testing.assert_array_equal(data[:, 0], frames)


@pytest.mark.parametrize("is_tagged", [False, True])
def test_lost_frames_are_gaps_of_whole_cycles(file: Path, is_tagged: bool) -> None:
    truth = np.delete(np.arange(2 * N_CYCLES), [20, 21, 50, 51, 52, 90])  # cycles 10, 25, 26, 45
    fields: dict[str, Any] = {"tags": [LIGHTS[k % 2] for k in truth]} if is_tagged else {"lights": LIGHTS}
    save(file, FRAMES[truth], time=5.0 + truth / 33.6, **fields)
    data, stamps_s, counters = samples(play(file)[1])
    whole = np.delete(np.arange(N_CYCLES), [10, 25, 26, 45])
    np.testing.assert_array_equal(counters - counters[0], whole)
    np.testing.assert_array_equal(data, FRAMES.reshape(N_CYCLES, 2, 8, 6)[whole])
    np.testing.assert_allclose(stamps_s, 5.0 + (2 * whole + 1) / 33.6)


def test_first_light_says_where_a_movie_without_tags_begins(file: Path) -> None:
    save(file, rate_hz=33.6)
    data, _, _ = samples(play(file, lights=LIGHTS, first_light=1)[1])
    np.testing.assert_array_equal(data[:, 0], FRAMES[1:-1:2])
    np.testing.assert_array_equal(data[:, 1], FRAMES[2::2])


def test_lights_of_the_file_can_be_renamed_by_order_or_by_name(file: Path) -> None:
    save(file, rate_hz=33.6, tags=["violet", "blue"] * N_CYCLES)
    by_order, _, _ = samples(play(file, lights=("reference_405", "fluorescence_470"))[1])
    np.testing.assert_array_equal(by_order[:, 0], FRAMES[::2])
    tags = {"blue": "fluorescence_470", "violet": "reference_405"}
    by_name, _, _ = samples(play(file, wanted=LIGHTS, lights=LIGHTS, tags=tags)[1])
    np.testing.assert_array_equal(by_name[:, 0], FRAMES[1:-1:2])


def test_frames_are_reduced(file: Path) -> None:
    save(file, rate_hz=16.8)
    data, _, _ = samples(play(file, frame_shape=(4, 3))[1])
    np.testing.assert_allclose(data[5, 0, 1, 2], FRAMES[5, 2:4, 4:6].mean())


def test_the_rate_of_the_rig_file_wins(file: Path) -> None:
    save(file, rate_hz=16.8)
    source = build(Config(path=file, rate_hz=30.0, speed=0.0), VirtualClock())
    assert source.open(None).sfreq == 30.0
    source.close()


def test_a_paced_movie_starts_now_and_an_unpaced_one_keeps_its_times(file: Path) -> None:
    save(file, time=7.0 + np.arange(2 * N_CYCLES) / 16.8)
    assert samples(play(file, speed=2.0)[1])[1][0] == 100.0
    assert samples(play(file, speed=0.0)[1])[1][0] == 7.0


def test_labels_are_at_hand_for_scoring(file: Path) -> None:
    save(file, rate_hz=16.8, states=[0, 2, -1], labels="MOUSE3", epoch_s=2.0)
    source, _ = play(file)
    assert source.movie.states.tolist() == [0, 2, -1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dataset": "x"}, RecordingError, "no movie 'x'; it holds frames"),
        ({"frame_shape": (5, 5)}, StreamFormatError, "5"),
        ({"channels": {"a": "b"}}, StreamFormatError, "no channel labelled 'b'"),
        ({"phase": "tag", "lights": LIGHTS}, StreamFormatError, "source.phase is tag, but frames carry none"),
    ],
)
def test_what_cannot_be_played_is_refused(
    file: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    save(file, rate_hz=16.8)
    with pytest.raises(error, match=message):
        build(Config(path=file, **options), VirtualClock()).open(None)


def test_a_file_that_is_damaged_further_on_stops_with_its_name(file: Path) -> None:
    np.savez_compressed(file, frames=np.tile(FRAMES, (20, 1, 1)), rate_hz=100.0)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 100] = bytes(100)
    file.write_bytes(content)
    source = build(Config(path=file, speed=0.0), VirtualClock())
    source.open(None)
    with pytest.raises(RecordingError, match=r"mouse: frames \d+ to \d+ cannot be read"):
        drain(source)
    source.close()


def test_two_cameras_of_a_real_recording(data_file: Callable[[str], Path]) -> None:
    path = data_file("wfci_frames/two_camera_128.npz")
    data, stamps_s, counters = samples(play(path, dataset="cam_green", chunk_s=60.0)[1])
    with np.load(path) as archive:
        np.testing.assert_array_equal(data[:, 0], archive["cam_green"][::2])
        np.testing.assert_array_equal(data[:, 1], archive["cam_green"][1::2])
        np.testing.assert_array_equal(stamps_s, archive["frame_t"][1::2])
    np.testing.assert_array_equal(counters, np.arange(120))
