from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from streamscore.errors import ConfigError
from streamscore.rigs.zmq_dealer import Config, ZmqDealer, build
from tests.contracts.rig import PATIENCE_S, RigContract

_numbers = itertools.count()


class Router:
    """The device's end: a ROUTER that answers whoever spoke last."""

    def __init__(self, endpoint: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.bind(endpoint)
        self._peer = b""

    def receive(self) -> dict[str, Any]:
        assert self.socket.poll(1e3 * PATIENCE_S)
        self._peer, text = self.socket.recv_multipart()
        message = json.loads(text)
        assert message.pop("type") == "command"
        return message

    def acknowledge(self, command_id: int, accepted: bool, rig_time_s: float, detail: str) -> None:
        answer = {"type": "ack", "command_id": command_id, "accepted": accepted}
        self._send(json.dumps({**answer, "rig_time_s": rig_time_s, "detail": detail}).encode())

    def send_garbage(self) -> None:
        for text in (
            b"",
            b"\xff\xfe",
            b"ok",
            b"{}",
            b'{"type": "ack", "command_id": 1}',
            b'{"type": "ack", "command_id": 1, "accepted": true, "rig_time_s": NaN}',
            b'{"type": "nack", "command_id": 1, "accepted": true, "rig_time_s": 1.0}',
        ):
            self._send(text)

    def _send(self, text: bytes) -> None:
        self.socket.send_multipart([self._peer, text])


class TestZmqDealer(RigContract):
    """Within the process, without a network."""

    @contextmanager
    def pair(self) -> Iterator[tuple[ZmqDealer, Router]]:
        endpoint = f"inproc://rig-{next(_numbers)}"
        router = Router(endpoint)
        rig = build(Config(endpoint=endpoint))
        yield rig, router
        rig.close()
        router.socket.close(linger=0)

    def alone(self) -> ZmqDealer:
        return build(Config(endpoint=f"inproc://nobody-{next(_numbers)}"))


def test_an_endpoint_that_cannot_be_used_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="cannot use endpoint 'tcp:/nonsense'"):
        build(Config(endpoint="tcp:/nonsense"))
