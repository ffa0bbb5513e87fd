from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from streamscore.camera.wire import encode
from streamscore.clock import Clock, LslClock, VirtualClock
from streamscore.errors import ConfigError, StreamFormatError, StreamNotFoundError
from streamscore.sources import zmq_frames
from streamscore.sources.zmq_frames import Config, ZmqFramesSource
from streamscore.types import Chunk, StreamInfo
from tests.contracts.source import SourceContract
from tools.sim_camera import Options, Shot, shots

SHAPE = (4, 6)
LIGHTS = ("red", "green", "blue", "violet")


class Camera:
    """A socket that sends, and the source that receives. The source binds, unless the camera is `bound`."""

    def __init__(
        self, clock: Clock | None = None, kind: int = zmq.PUSH, bound: bool = False, **config: Any
    ) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, 10_000)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 1)
        self._folder = tempfile.TemporaryDirectory()
        endpoint = f"ipc://{self._folder.name}/frames"
        (self.socket.bind if bound else self.socket.connect)(endpoint)
        self.config = Config(**{"endpoint": endpoint, "bind": not bound, "rate_hz": 40.0, **config})
        self.source = ZmqFramesSource(self.config, clock or LslClock())
        self.n_sent = 0

    def send(self, n: int = 1, **header: Any) -> None:
        """Send good frames, with counter and time; each pixel tells the number of the frame."""
        for _ in range(n):
            told = {"frame": self.n_sent, "time_s": self.n_sent / self.config.rate_hz, **header}
            self.socket.send_multipart(encode(np.full(SHAPE, self.n_sent, np.uint16), **told))
            self.n_sent += 1

    def open(self, first: Sequence[bytes] | None = None) -> StreamInfo:
        """Send a first frame, open the source, and let it begin."""
        self.socket.send_multipart(first or encode(np.zeros(SHAPE, np.uint16), frame=0, time_s=-1.0))
        info = self.source.open(None)
        assert self.source.begin() == 0
        return info

    def take(self, n: int) -> Chunk:
        """Read until there are `n` samples."""
        chunks: list[Chunk] = []
        for _ in range(1000):
            chunk = self.source.read(5.0)
            if chunk is not None:
                chunks.append(chunk)
            if sum(len(c.data) for c in chunks) >= n:
                break
        data, stamps_s, counters = (
            np.concatenate([getattr(c, name) for c in chunks]) for name in ("data", "stamps_s", "counters")
        )
        assert len(data) == n
        return Chunk(data, stamps_s, chunks[-1].clock_offset_s, chunks[-1].received_s, counters)

    def close(self) -> None:
        self.source.close()
        self.socket.close()
        self._folder.cleanup()


@pytest.fixture
def camera() -> Iterator[Any]:
    """Return a maker of cameras, each of which is closed at the end."""
    made: list[Camera] = []

    def make(**options: Any) -> Camera:
        made.append(Camera(**options))
        return made[-1]

    yield make
    for item in made:
        item.close()


class Fed(ZmqFramesSource):
    """Is sent a first frame when it is opened, and all others when it begins."""

    def __init__(self, camera: Camera, n_frames: int) -> None:
        super().__init__(camera.config, VirtualClock(100.0))
        self._camera, self._n_frames = camera, n_frames

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        first = encode(np.zeros(SHAPE, np.uint16), time_s=0.0, frame=0, channel="blue")
        self._camera.socket.send_multipart(first)
        return super().open(wanted)

    def begin(self) -> int:
        n_stale = super().begin()
        for i in range(self._n_frames):
            self._camera.send(channel=self._camera.config.lights[i % 2])
        assert self._socket is not None
        assert self._socket.poll(5000)
        return n_stale

    def close(self) -> None:
        super().close()
        self._camera.close()


class TestZmqFrames(SourceContract):
    """A camera with two lights that falls silent in the end."""

    channels = ("blue", "violet")
    n_samples = 31

    @pytest.fixture(autouse=True)
    def _close(self) -> Iterator[None]:
        self.made: list[Fed] = []
        yield
        for source in self.made:
            source.close()

    def make(self, clock: VirtualClock, channels: Mapping[str, str] | None = None) -> Fed:
        mapping = dict(channels) if channels else None
        camera = Camera(lights=self.channels, stop_when_silent_s=0.3, channels=mapping)
        self.made.append(Fed(camera, 2 * self.n_samples))
        return self.made[-1]


def test_the_first_frame_tells_the_shape(camera: Any) -> None:
    cam = camera(lights=LIGHTS, first_light=0, frame_shape=(2, 3), rate_hz=67.2)
    info = cam.open()
    assert (info.channels, info.frame_shape, info.sfreq) == (LIGHTS, (2, 3), pytest.approx(16.8))


def test_what_was_sent_before_the_beginning_is_stale(camera: Any) -> None:
    cam = camera()
    cam.open()
    cam.send(7)
    assert cam.take(7).counters.tolist() == [*range(7)]
    cam.send(5)
    assert cam.source._wait(5.0)
    n_stale = cam.source.begin()
    assert n_stale == 5  # also what the network had not brought yet
    cam.send(1)
    for _ in range(100):
        if (chunk := cam.source.read(5.0)) is not None and chunk.data[-1, 0, 0, 0] == cam.n_sent - 1:
            return
    raise AssertionError("the newest frame never came")


def test_no_frame_at_all_says_what_to_look_at() -> None:
    source = zmq_frames.build(Config(endpoint="tcp://127.0.0.1:*", rate_hz=30.0, timeout_s=0.05), LslClock())
    with pytest.raises(
        StreamNotFoundError, match=r"no message came at all(.|\n)*bound at tcp://127.0.0.1:\d+.*PUSH"
    ):
        source.open(None)
    assert source.ended


def test_nothing_but_rubbish_says_what_was_wrong_with_it(camera: Any) -> None:
    cam = camera(timeout_s=0.3)
    with pytest.raises(StreamNotFoundError, match="messages came, but the header is not JSON"):
        cam.open(first=[b"GET / HTTP/1.1", b""])


def test_lights_that_nothing_tells_apart_are_refused(camera: Any) -> None:
    cam = camera(lights=LIGHTS)
    with pytest.raises(StreamFormatError, match="nothing tells which"):
        cam.open()


def test_an_endpoint_that_cannot_be_bound_is_refused(camera: Any) -> None:
    cam = camera()
    taken = Config(endpoint=cam.config.endpoint + "/no/such/folder", rate_hz=30.0)
    with pytest.raises(ConfigError, match=r"cannot bind.*choose another"):
        zmq_frames.build(taken, LslClock()).open(None)


def test_only_the_topic_that_was_asked_for_is_read(camera: Any) -> None:
    cam = camera(kind=zmq.PUB, bound=True, pattern="sub", topic="left")
    stop = threading.Event()

    def publish() -> None:  # a subscriber gets nothing of what was sent before it had joined
        i = 0
        while not stop.wait(0.005):
            for topic, value in ((b"right", 1000), (b"left", 0)):
                parts = encode(np.full(SHAPE, value + i % 1000, np.uint16), frame=i, time_s=i / 40.0)
                cam.socket.send_multipart([topic, *parts])
            i += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        cam.source.open(None)
        cam.source.begin()
        chunk = None
        while chunk is None or chunk.data.max() < 3:
            chunk = cam.source.read(5.0) or chunk
        assert chunk.data.max() < 1000
    finally:
        stop.set()
        thread.join()


GOOD = {"dtype": "uint16", "shape": list(SHAPE), "frame": 1, "time_s": 0.025}
PIXELS = bytes(2 * 4 * 6)


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ([json.dumps(GOOD).encode()], "parts"),
        ([json.dumps(GOOD).encode(), PIXELS, b"more"], "parts"),
        ([b"\x93NUMPY\x01\x00", PIXELS], "header"),
        ([json.dumps({**GOOD, "shape": [4096, 4096]}).encode(), PIXELS], "bytes"),
        ([json.dumps({**GOOD, "shape": [1 << 40, 1 << 40]}).encode(), PIXELS], "shape"),
        ([json.dumps({**GOOD, "dtype": "float64"}).encode(), PIXELS], "bytes"),
        ([json.dumps({**GOOD, "dtype": "object"}).encode(), PIXELS], "dtype"),
        ([json.dumps(GOOD).encode(), PIXELS[1:]], "bytes"),
        ([json.dumps({**GOOD, "frame": -1}).encode(), PIXELS], "frame"),
        ([json.dumps({**GOOD, "shape": [6, 4]}).encode(), PIXELS], "changed"),
        ([json.dumps({**GOOD, "dtype": "int16"}).encode(), PIXELS], "changed"),
        ([json.dumps({**GOOD, "time_s": None}).encode(), PIXELS], "changed"),
        ([json.dumps({**GOOD, "time_s": float("nan")}).encode(), PIXELS], "header"),
    ],
)
def test_a_bad_message_is_counted_told_once_and_becomes_a_gap(camera: Any, parts: list[bytes], cause: str) -> None:
    cam = camera()
    cam.open()
    cam.send(3)
    for _ in range(4):  # in the place of four frames
        cam.socket.send_multipart(parts)
        cam.n_sent += 1
    cam.send(3)
    chunk = cam.take(6)
    assert chunk.data[:, 0, 0, 0].tolist() == [0, 1, 2, 7, 8, 9]
    assert chunk.counters.tolist() == [0, 1, 2, 7, 8, 9]
    assert cam.source.counters[f"refused_{cause}"] == 4
    (notice,) = [text for level, text in cam.source.notices() if level == "error"]
    assert "left out" in notice
    assert "(4 times)" in notice
    assert not cam.source.ended


@pytest.mark.parametrize("bound", [True, False])
def test_a_message_too_large_is_never_received(camera: Any, bound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZmqFramesSource, "RECONNECT_S", 0.1)
    cam = camera(bound=bound, max_frame_bytes=100_000)
    sender = threading.Thread(target=cam.send)  # a bound PUSH waits for its first partner
    sender.start()
    cam.source.open(None)
    sender.join()
    cam.source.begin()
    cam.send(3)
    cam.take(3)
    cam.socket.send_multipart([b"{}", bytes(1_000_000)])  # libzmq hangs up
    cam.n_sent += 1
    cam.socket.setsockopt(zmq.SNDTIMEO, 0)
    chunk = None
    for _ in range(100):
        with suppress(zmq.Again):  # nobody is there for a moment
            cam.send(1)
        if (chunk := cam.source.read(0.05)) is not None:
            break
    assert chunk is not None
    assert chunk.counters.min() >= 3  # 0 was the first after the beginning


def test_wrap_repeat_and_reversal_of_the_counter(camera: Any) -> None:
    cam = camera(counter_bits=4)
    cam.open()
    told = [13, 14, 15, 0, 0, 1, 15, 2, 4]
    for i, counter in enumerate(told):
        cam.send(frame=counter, time_s=i / 40.0)
    chunk = cam.take(7)
    assert np.diff(chunk.counters).tolist() == [1, 1, 1, 1, 1, 2]
    assert chunk.data[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 7, 8]


def test_a_camera_that_stops_is_waited_for(camera: Any) -> None:
    cam = camera()
    cam.open()
    cam.send(2)
    cam.take(2)
    assert cam.source.read(0.02) is None
    assert not cam.source.ended
    cam.send(1)
    assert cam.take(1).counters.tolist() == [2]


def test_losses_never_put_a_frame_under_another_light(camera: Any) -> None:
    """Each frame tells its number; 5 % are lost, in runs."""
    cam = camera(lights=LIGHTS, rate_hz=67.2, counter_bits=16)
    options = Options(lights=LIGHTS, loss=0.05, loss_run=2.0, seed=1, counter_start=65_000, counter_bits=16,
                      duration_s=30.0)  # fmt: skip
    pictures = (np.full(SHAPE, i, np.uint16) for i in range(10_000))
    cam.open(first=encode(np.zeros(SHAPE, np.uint16), frame=0, time_s=0.0, channel="red"))
    sent = [shot for shot in shots(pictures, options) if not shot.lost]
    send_all(cam, sent)
    whole = sorted(
        {s.index // 4 for s in sent if s.light == 0 and {s.index + k for k in range(4)} <= indices(sent)}
    )
    chunk = cam.take(len(whole))
    numbers = chunk.data[:, :, 0, 0].astype(int)
    np.testing.assert_array_equal(numbers, 4 * np.array(whole)[:, None] + np.arange(4))
    np.testing.assert_array_equal(np.diff(chunk.counters), np.diff(whole))


def indices(sent: Sequence[Shot]) -> set[int]:
    return {shot.index for shot in sent}


def send_all(cam: Camera, sent: Sequence[Shot]) -> None:
    for shot in sent:
        cam.socket.send_multipart(
            encode(shot.data, frame=shot.counter, time_s=shot.device_s, channel=shot.tag))  # fmt: skip


def test_a_camera_with_its_own_clock_and_a_wheel_see_one_event_within_a_frame(camera: Any) -> None:
    """Over the socket, with offset, drift, jitter and bursts; the wheel is stamped in stream time."""
    clock = VirtualClock(50.0)
    cam = camera(clock=clock, lights=LIGHTS, rate_hz=67.2)
    options = Options(lights=LIGHTS, clock_offset_s=-1234.5, drift_ppm=60.0, delay_s=2e-3, jitter_s=4e-3,
                      burst_every_s=3.0, burst_s=0.08, duration_s=25.0)  # fmt: skip
    event_s = 67.777
    wheel_s = 50.0 + np.arange(4000) / 100.0
    seen_by_wheel_s = wheel_s[np.searchsorted(wheel_s, event_s)]

    def pictures() -> Iterator[np.ndarray]:
        for i in range(10_000):
            yield np.full(SHAPE, 100 if 50.0 + i / 67.2 < event_s else 200, np.uint16)

    cam.open(first=encode(np.zeros(SHAPE, np.uint16), frame=0, time_s=0.0, channel="red"))
    errors_s, seen_by_camera_s = [], np.inf
    for shot in shots(pictures(), options, t0_s=50.0):
        clock.advance_to(shot.due_s)
        send_all(cam, [shot])
        while (chunk := cam.source.read(5.0)) is None and shot.light == 3:
            pass
        if chunk is None:
            continue
        stamp_s = float(chunk.stamps_s[0]) + chunk.clock_offset_s
        errors_s.append(stamp_s - shot.exposed_s)
        if chunk.data[0, 3, 0, 0] == 200:
            seen_by_camera_s = min(seen_by_camera_s, stamp_s)
    assert np.abs(np.array(errors_s[5 * 17 :]) - options.delay_s).max() < 3e-3
    assert abs(seen_by_camera_s - seen_by_wheel_s) < 1 / 16.8


@pytest.mark.parametrize("told", [{}, {"time_s": None}, {"time_s": None, "frame": None}])
def test_frames_that_wait_are_seen_to_be_old_for_as_long_as_they_wait(
    camera: Any, told: dict[str, None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is as fast as the camera, but 3 s behind it, for 20 s."""
    monkeypatch.setattr(ZmqFramesSource, "MAX_FRAMES", 10)
    clock = VirtualClock(50.0)
    cam = camera(clock=clock, rate_hz=40.0)
    cam.open(first=encode(np.zeros(SHAPE, np.uint16), **{"frame": 0, "time_s": -1.0, **told}))

    def shoot(n: int) -> None:
        for _ in range(n):
            clock.advance_to(50.0 + cam.n_sent / 40.0)
            cam.send(**told)

    def read() -> np.ndarray:
        """Return by how much each stamp is off the exposure. (Seconds pass faster here than frames travel.)"""
        assert cam.source._wait(5.0)
        while (chunk := cam.source.read(5.0)) is None:
            pass
        return chunk.stamps_s + chunk.clock_offset_s - (50.0 + chunk.data[:, 0, 0, 0] / 40.0)

    for _ in range(20):
        shoot(1)
        assert abs(read()).max() < 1e-3
    shoot(120)
    for _ in range(80):
        shoot(10)
        assert abs(read()).max() < 1e-3
    ((level, text),) = cam.source.notices()
    assert level == "warning"
    assert re.match(r"falling behind: frames wait [23]\.\d s before they are taken", text)


@pytest.mark.parametrize("step_s", [100.0, -100.0])
def test_no_chunk_spans_a_step_of_the_cameras_clock(camera: Any, step_s: float) -> None:
    clock = LslClock()
    cam = camera(clock=clock, first_light=0)
    cam.open(first=encode(np.zeros(SHAPE, np.uint16), frame=0, time_s=clock.now_s() + 1000.0))
    begin_s = clock.now_s()
    for i in range(200):
        cam.send(time_s=clock.now_s() + 1000.0 + (step_s if i >= 100 else 0.0))
    numbers: list[int] = []
    while len(numbers) < 200:
        if (chunk := cam.source.read(5.0)) is not None:
            numbers += chunk.counters.tolist()
            stamps_s = chunk.stamps_s + chunk.clock_offset_s
            assert begin_s - 1.0 < stamps_s.min() < stamps_s.max() < clock.now_s() + 1.0
    assert numbers == [*range(200)]


def test_the_queue_has_an_end_in_bytes(camera: Any) -> None:
    config = camera().config
    assert config.high_water_mark * config.max_frame_bytes <= 512 * 2**20
    socket = camera(high_water_mark=7, max_frame_bytes=100_000).source._make_socket()
    try:
        assert socket.getsockopt(zmq.RCVHWM) == 7
        assert socket.getsockopt(zmq.MAXMSGSIZE) == 100_000
    finally:
        socket.close()


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), min_size=30, max_size=30))
def test_any_messages_at_all(messages: list[list[bytes]]) -> None:
    cam = Camera()
    try:
        cam.open()
        for parts in messages:
            cam.socket.send_multipart(parts)
        cam.send(1)
        assert cam.take(1).counters.tolist() == [0]
        assert sum(n for name, n in cam.source.counters.items() if name.startswith("refused")) == len(messages)
        assert len(cam.source.notices()) <= 3
    finally:
        cam.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"pattern": "pair"},
        {"high_water_mark": 0},
        {"max_frame_bytes": 10},
        {"timeout_s": 0},
        {"endpoints": "x"},
        {"rate_hz": 0},
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Config(**{"rate_hz": 30.0, **wrong})
