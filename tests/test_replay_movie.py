"""What is replayed over a real socket or stream is what the file gives, sample by sample."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import zmq

from streamscore.clock import LslClock, VirtualClock
from streamscore.errors import ConfigError, LoopError
from streamscore.movies.base import Movie, read_movie
from streamscore.sources import lsl_frames, movie, zmq_frames
from streamscore.sources.base import Source
from streamscore.types import Chunk
from tests.contracts.source import drain
from tools.replay_movie import Options, play

LIGHTS = ("fluorescence_470", "reference_405")
RATE_HZ, SPEED = 400.0, 2.0
SHAPE = (16, 12)


@pytest.fixture(params=["tagged"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A movie of 200 cycles of two lights, in which frames are missing."""
    numbers = np.delete(np.arange(400), [40, 41, 100, 251, 252, 253, 254])
    frames = np.random.default_rng(0).integers(0, 65535, (len(numbers), *SHAPE)).astype(np.uint16)
    tags = {"tags": [LIGHTS[k % 2] for k in numbers]} if request.param == "tagged" else {"lights": LIGHTS}
    out = tmp_path / "mouse.npz"
    np.savez(out, frames=frames, time=3.0 + numbers / RATE_HZ, **tags)
    return out


class Replay:
    """A replay on a thread of its own, as another process would play."""

    def __init__(self, opened: Movie, **options: Any) -> None:
        self.said: Queue[dict[str, Any]] = Queue()
        defaults = {"speed": SPEED, "settle_s": 0.3, "linger_s": 0.5, "wait_s": 20.0}
        self._options = Options(**{**defaults, **options})
        self._movie = opened
        self._thread = threading.Thread(target=self._run)
        self.error: Exception | None = None
        self._thread.start()

    def _run(self) -> None:
        try:
            play(self._movie, self._options, self.said.put)
        except LoopError as error:
            self.error = error

    def wait_for(self, event: str) -> dict[str, Any]:
        while (line := self.said.get(timeout=20.0))["event"] != event:
            pass
        return line

    def join(self) -> None:
        self._thread.join(20.0)
        assert not self._thread.is_alive()


@pytest.fixture
def replay(path: Path) -> Iterator[Any]:
    """Return a maker of replays of the movie, which are at their end when the test is."""
    made: list[Replay] = []
    with read_movie(path) as opened:

        def make(**options: Any) -> Replay:
            made.append(Replay(opened, **options))
            return made[-1]

        yield make
        for item in made:
            item.join()


def from_file(path: Path) -> Chunk:
    source = movie.build(movie.Config(path=path, speed=0.0), VirtualClock())
    source.open(None)
    source.begin()
    whole = joined(drain(source))
    source.close()
    return whole


def received(source: Source, n: int) -> Chunk:
    """Read until `n` samples came, or nothing comes any more."""
    chunks, n_got, silent = [], 0, 0
    while n_got < n and silent < 50:
        chunk = source.read(0.1)
        silent = 0 if chunk is not None else silent + 1
        if chunk is not None:
            chunks.append(chunk)
            n_got += len(chunk.data)
    return joined(chunks)


def joined(chunks: list[Chunk]) -> Chunk:
    data, stamps_s, counters = (
        np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("data", "stamps_s", "counters")
    )
    return Chunk(data, stamps_s, chunks[-1].clock_offset_s, chunks[-1].received_s, counters)


def assert_same(live: Chunk, file: Chunk, t0_s: float, origin_s: float, tolerance_s: float) -> None:
    np.testing.assert_array_equal(live.data, file.data)
    np.testing.assert_array_equal(live.counters, file.counters)
    np.testing.assert_allclose(live.stamps_s - t0_s, file.stamps_s - origin_s, rtol=0, atol=tolerance_s)


@pytest.mark.parametrize(
    ("path", "pattern", "received_by"),
    [("tagged", "push", "pull"), ("counted", "push", "pull"), ("tagged", "pub", "sub")],
    indirect=["path"],
)
def test_replay_over_zeromq_equals_the_file(path: Path, replay: Any, pattern: str, received_by: str) -> None:
    topic = "cam" if pattern == "pub" else ""
    player = replay(to="zmq", endpoint="tcp://127.0.0.1:*", bind=True, pattern=pattern, topic=topic)
    config = zmq_frames.Config(
        endpoint=player.wait_for("visible")["endpoint"],
        bind=False,
        pattern=received_by,  # type: ignore[arg-type]
        topic=topic,
        rate_hz=RATE_HZ,
        lights=LIGHTS,
        first_light=0,
    )
    source = zmq_frames.build(config, LslClock())
    file = from_file(path)
    info = source.open(None)
    source.begin()
    live = received(source, len(file.data))
    source.close()
    assert (info.sfreq, info.frame_shape, info.channels) == (RATE_HZ / 2, SHAPE, LIGHTS)
    started = player.wait_for("started")
    assert_same(live, file, started["t0_s"], started["origin_s"], 1e-9)
    assert player.wait_for("finished")["frames"] == 393


def test_replay_over_lsl_equals_the_file(path: Path, replay: Any) -> None:
    player = replay(to="lsl", name=f"movie-{path.parent.name}")
    visible = player.wait_for("visible")
    config = lsl_frames.Config(
        name=visible["stream"],
        timeout_s=20.0,
        rate_hz=RATE_HZ,
        lights=LIGHTS,
        tags={"0": LIGHTS[0], "1": LIGHTS[1]},
        first_light=0,
        counter_bits=visible["counter_bits"],
    )
    source = lsl_frames.build(config, LslClock())
    file = from_file(path)
    info = source.open(None)
    source.begin()
    live = received(source, len(file.data))
    source.close()
    assert info.speed == SPEED
    assert visible["counter_bits"] == 16
    started = player.wait_for("started")
    assert_same(live, file, started["t0_s"], started["origin_s"], 1e-6)


def test_rounds_go_on_counting_in_phase(replay: Any) -> None:
    with zmq.Context.instance().socket(zmq.PULL) as socket:
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        player = replay(endpoint=f"tcp://127.0.0.1:{port}", loops=2, speed=100.0, settle_s=0.0)
        parts = [socket.recv_multipart() for _ in range(1 + 2 * 393)]
    headers = [json.loads(header) for header, _ in parts][1:]
    frames = np.array([header["frame"] for header in headers])
    times_s = np.array([header["time_s"] for header in headers])
    assert player.wait_for("loop") == {"event": "loop", "round": 2, "of": 2}
    step = frames[393] - frames[392]
    assert step >= RATE_HZ  # a second of nothing between
    assert frames[393] % 2 == 0
    np.testing.assert_allclose(np.diff(times_s), np.diff(frames) / RATE_HZ, atol=1e-9)
    np.testing.assert_array_equal(frames[393:] - frames[393], frames[:393])


def test_nobody_there_is_said(replay: Any) -> None:
    player = replay(endpoint="tcp://127.0.0.1:*", bind=True, wait_s=0.1)
    player.join()
    assert "nobody connected" in str(player.error)
    assert "0.1 s" in str(player.error)


def test_a_receiver_that_stalls_is_said(replay: Any) -> None:
    with zmq.Context.instance().socket(zmq.PULL) as socket:
        socket.setsockopt(zmq.RCVHWM, 1)
        socket.setsockopt(zmq.RCVBUF, 1024)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        player = replay(
            endpoint=f"tcp://127.0.0.1:{port}", speed=1e6, loops=40, settle_s=0.0, patience_s=0.2, linger_s=0.0
        )
        player.join()
    assert "took a frame for 0.2 s" in str(player.error)


def test_an_endpoint_that_cannot_be_used_is_named(path: Path) -> None:
    with read_movie(path) as opened, pytest.raises(ConfigError, match="cannot use endpoint 'nowhere'"):
        play(opened, Options(endpoint="nowhere"))


def test_lsl_cannot_carry_every_type(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((5, 4, 3), np.float16))
    with read_movie(tmp_path / "m.npy", rate_hz=1.0) as opened, pytest.raises(ConfigError, match="float16"):
        play(opened, Options(to="lsl"))
