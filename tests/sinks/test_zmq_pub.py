from __future__ import annotations

import itertools

import pytest
import zmq

from streamscore import events
from streamscore.errors import ConfigError
from streamscore.sinks.zmq_pub import Config, ZmqPub, build
from tests.contracts.sink import SinkContract
from tests.examples import EVENTS

PATIENCE_MS = 10_000
_numbers = itertools.count()


def endpoint() -> str:
    """Name an endpoint inside this process that nobody uses."""
    return f"inproc://pub-{next(_numbers)}"


class TestZmqPub(SinkContract):
    """Within the process, without a network."""

    def make(self) -> ZmqPub:
        return build(Config(endpoint=endpoint()))


@pytest.fixture
def joined() -> tuple[ZmqPub, zmq.Socket[bytes]]:
    """Give a sink and one subscriber."""
    sink = build(Config(endpoint=endpoint()))
    subscriber = zmq.Context.instance().socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.connect(sink.endpoint)
    assert sink._socket.poll(PATIENCE_MS)
    yield sink, subscriber
    subscriber.close(linger=0)
    sink.close()


def test_a_new_subscriber_is_noticed_once(joined: tuple[ZmqPub, zmq.Socket[bytes]]) -> None:
    sink, _ = joined
    assert sink.poll() is True
    assert sink.poll() is False


def test_each_event_is_one_message_that_reads_back(joined: tuple[ZmqPub, zmq.Socket[bytes]]) -> None:
    sink, subscriber = joined
    sink.poll()
    for event in EVENTS:
        sink.write(event, event.model_dump_json())
    for event in EVENTS:
        assert subscriber.poll(PATIENCE_MS)
        assert events.parse(subscriber.recv()) == event


def test_a_subscriber_that_leaves_is_not_one_that_came(joined: tuple[ZmqPub, zmq.Socket[bytes]]) -> None:
    sink, subscriber = joined
    sink.poll()
    subscriber.close(linger=0)
    assert sink._socket.poll(PATIENCE_MS)
    assert sink.poll() is False


def test_an_endpoint_in_use_is_an_error_that_says_so() -> None:
    first = build(Config(endpoint=endpoint()))
    with pytest.raises(ConfigError, match=f"cannot bind '{first.endpoint}'.*Choose another port"):
        build(Config(endpoint=first.endpoint))
    first.close()
