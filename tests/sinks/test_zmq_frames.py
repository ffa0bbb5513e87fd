from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from streamscore.camera.wire import decode
from streamscore.errors import ConfigError
from streamscore.sinks.zmq_frames import Config, ZmqFrames, build
from tests.contracts.sink import SinkContract

PATIENCE_MS = 10_000
_numbers = itertools.count()


class TestZmqFrames(SinkContract):
    """Within the process, without a network."""

    def make(self) -> ZmqFrames:
        return build(Config(endpoint=f"inproc://frames-{next(_numbers)}"))

    def test_frames_without_listeners_are_dropped(self) -> None:
        sink = self.make()
        sink.open(self.start())
        for k in range(100):
            sink.frame(float(k), np.zeros((8, 8), np.float32), True)
        sink.close()


@pytest.fixture
def joined() -> Iterator[tuple[ZmqFrames, zmq.Socket[bytes]]]:
    """Give a sink and one subscriber that has been heard, on a real port."""
    sink = build(Config(endpoint="tcp://127.0.0.1:*"))
    subscriber: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.connect(sink.frames_endpoint)
    while not subscriber.poll(10):  # a PUB socket does not tell when somebody has joined
        sink.frame(0.0, np.zeros((2, 2), np.float32), True)
    while subscriber.poll(100):
        subscriber.recv_multipart()
    yield sink, subscriber
    subscriber.close(linger=0)
    sink.close()


def test_a_frame_arrives_with_its_time_and_number(joined: tuple[ZmqFrames, zmq.Socket[bytes]]) -> None:
    sink, subscriber = joined
    sent = np.arange(12, dtype=np.float32).reshape(3, 4)
    sink.frame(12.5, sent, True)
    sink.frame(12.75, sent.T, False)
    frames = []
    for _ in range(2):
        assert subscriber.poll(PATIENCE_MS)
        frames.append(decode(subscriber.recv_multipart(), 0.0))
    assert [frame.device_s for frame in frames] == [12.5, 12.75]
    assert frames[0].counter is not None
    assert frames[1].counter == frames[0].counter + 1
    np.testing.assert_array_equal(frames[0].data, sent)
    np.testing.assert_array_equal(frames[1].data, sent.T)


def test_a_frame_is_copied_before_the_call_returns(joined: tuple[ZmqFrames, zmq.Socket[bytes]]) -> None:
    sink, subscriber = joined
    frame = np.ones((64, 64), np.float32)
    sink.frame(1.0, frame, True)
    frame[:] = 7.0
    assert subscriber.poll(PATIENCE_MS)
    assert float(decode(subscriber.recv_multipart(), 0.0).data.max()) == 1.0


def test_an_endpoint_in_use_is_an_error_that_says_so() -> None:
    first = build(Config(endpoint="tcp://127.0.0.1:*"))
    with pytest.raises(ConfigError, match=r"zmq_frames cannot bind.*Choose another port"):
        build(Config(endpoint=first.frames_endpoint))
    first.close()
