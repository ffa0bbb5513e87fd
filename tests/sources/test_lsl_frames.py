from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pylsl
import pytest

from streamscore.clock import LslClock
from streamscore.errors import StreamFormatError
from streamscore.sources.lsl_frames import Config, LslFramesSource, build, read_frames_node
from streamscore.types import Chunk
from tools.sim_camera import LslSender, Options, Shot, shots

SHAPE = (5, 7)
LIGHTS = ("red", "green", "blue", "violet")
FLOAT32, INT16 = np.dtype("f4"), np.dtype("i2")


class Camera:
    """An outlet and the source that reads it."""

    def __init__(self, dtype: str = "uint16", config: dict[str, Any] | None = None, **options: Any) -> None:
        name = f"camera-{uuid.uuid4().hex[:8]}"
        self.options = Options(**{"rate_hz": 80.0, "lights": LIGHTS, "name": name, **options})
        self.sender = LslSender(self.options, SHAPE, dtype)
        section = {"name": name, "rate_hz": 80.0, "lights": LIGHTS, "counter_bits": 16, **(config or {})}
        self.source: LslFramesSource = build(Config(**section), LslClock())

    def shots(self, dtype: str = "uint16", n: int = 400) -> list[Shot]:
        """Frames each pixel of which tells their number."""
        pictures = (np.full(SHAPE, i, dtype) for i in itertools.count())
        return list(itertools.islice(shots(pictures, self.options, pylsl.local_clock()), n))

    def start(self) -> None:
        self.source.open(None)
        self.source.begin()
        assert self.sender.wait_for_consumers(10.0)

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


@pytest.fixture
def camera() -> Iterator[Callable[..., Camera]]:
    """Return a maker of cameras, each of which is closed at the end."""
    made: list[Camera] = []

    def make(**options: Any) -> Camera:
        made.append(Camera(**options))
        return made[-1]

    yield make
    for item in made:
        item.source.close()
        item.sender.close()


def test_frames_arrive_as_they_were_sent(camera: Callable[..., Camera]) -> None:
    """Of a type that LSL has not, across a wrap of the counter, and with the largest values."""
    cam = camera(counter_start=65_500)
    cam.start()
    sent = cam.shots(n=240)
    for shot in sent:
        shot.data[:] += 65_000
        cam.sender.send(shot)
    chunk = cam.take(60)
    assert chunk.data.shape == (60, 4, *SHAPE)
    np.testing.assert_array_equal(chunk.data[:, :, 2, 3], 65_000 + np.arange(240).reshape(60, 4))
    np.testing.assert_allclose(chunk.stamps_s, [shot.device_s for shot in sent[3::4]], atol=1e-6)
    np.testing.assert_array_equal(np.diff(chunk.counters), 1)
    assert abs(chunk.clock_offset_s) < 1e-3  # one host, one clock


def test_losses_never_put_a_frame_under_another_light(camera: Callable[..., Camera]) -> None:
    """The outlet numbers its lights in another order, as the rig file tells."""
    cam = camera(loss=0.05, seed=4, config={"tags": {str(k): LIGHTS[(k + 1) % 4] for k in range(4)}})
    cam.start()
    sent = [shot for shot in cam.shots() if not shot.lost]
    for shot in sent:
        cam.sender.send(shot)
    came = {shot.index for shot in sent}
    # Number 3 is the first light.
    whole = [k for k in range(99) if {4 * k + 3 + i for i in range(4)} <= came]
    assert 50 < len(whole) < 95
    chunk = cam.take(len(whole))
    np.testing.assert_array_equal(chunk.data[:, :, 0, 0], 4 * np.array(whole)[:, None] + 3 + np.arange(4))
    np.testing.assert_array_equal(np.diff(chunk.counters), np.diff(whole))


def test_a_counter_that_is_no_number_is_left_out(camera: Callable[..., Camera]) -> None:
    cam = camera(dtype="float32", lights=("frames",), tags=False, config={"lights": ("frames",)})
    cam.start()
    n_pixels = SHAPE[0] * SHAPE[1]
    for i, counter in enumerate([0.0, 1.0, np.nan, -1.0, 4.5, 5.0]):
        sample = np.full(n_pixels + 1, i, np.float32)
        sample[-1] = counter
        cam.sender.frames.outlet.push_sample(sample)
    assert cam.take(3).counters.tolist() == [0, 1, 5]
    assert cam.source.counters["refused_extra"] == 3
    (text,) = [text for level, text in cam.source.notices() if level == "error"]
    assert "left out" in text
    assert "(3 times)" in text


def test_a_stream_that_differs_from_the_rig_file_is_refused(camera: Callable[..., Camera]) -> None:
    cam = camera(config={"rate_hz": 67.2})
    with pytest.raises(StreamFormatError, match=r"declares 80 frames a second.*67\.2"):
        cam.source.open(None)


def test_lights_that_nothing_tells_apart_are_refused(camera: Callable[..., Camera]) -> None:
    cam = camera(tags=False, counted=False)
    with pytest.raises(StreamFormatError, match="nothing tells which"):
        cam.source.open(None)


def test_a_shape_that_contradicts_the_channels_is_refused() -> None:
    name = f"camera-{uuid.uuid4().hex[:8]}"
    info = pylsl.StreamInfo(name, "VideoRaw", 36, 80.0, "float32", name)
    frames = info.desc().append_child("frames")
    frames.append_child_value("height", "5")
    frames.append_child_value("width", "7")
    outlet = pylsl.StreamOutlet(info)
    source = build(Config(name=name, rate_hz=80.0), LslClock())
    with pytest.raises(StreamFormatError, match=r"36 channels.*5 x 7 pixels and 0 further channels, which are 35"):
        source.open(None)
    source.close()
    del outlet


@pytest.mark.parametrize(
    ("frames", "sent", "text"),
    [
        (("",) * 4, FLOAT32, r"how to fold its samples.*height is ''.*docs/cameras\.md"),
        (("5", "-7", "", ""), FLOAT32, "'-7'"),
        (("5", "99999", "", ""), FLOAT32, "1 to 4096"),
        (("5", "٧", "", ""), FLOAT32, "1 to 4096"),
        (("5", "7", "uint8", ""), INT16, "int16, which cannot be the 'uint8'"),
        (("5", "7", "float16", ""), INT16, "cannot be"),
        (("5", "7", "uint32", ""), FLOAT32, "cannot be"),
        (("5", "7", "object", ""), FLOAT32, "cannot be"),
        (("5", "7", "", "counter,colour"), FLOAT32, "counter and tag"),
        (("5", "7", "", "tag,tag"), FLOAT32, "each once"),
    ],
)
def test_descriptions_that_cannot_be_used(frames: tuple[str, ...], sent: np.dtype[Any], text: str) -> None:
    with pytest.raises(StreamFormatError, match=text):
        read_frames_node("cam", frames, sent)


def test_descriptions_that_can() -> None:
    assert read_frames_node("cam", ("5", "7", "", ""), FLOAT32) == ((5, 7), FLOAT32, ())
    wanted = ((5, 7), np.dtype("u2"), ("counter", "tag"))
    assert read_frames_node("cam", ("5", "7", "uint16", "counter, tag"), INT16) == wanted
