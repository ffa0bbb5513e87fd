"""Events over ZeroMQ PUB: one JSON object a message.

The socket is an XPUB, which tells when somebody subscribes, so that a late joiner is sent a snapshot.
"""

from __future__ import annotations

from typing import Literal

import zmq
from pydantic import BaseModel, ConfigDict

from streamscore.errors import ConfigError
from streamscore.events import Event
from streamscore.sinks.base import Sink, patient_threads


class Config(BaseModel):
    """Arguments of :class:`ZmqPub`. Port 0 or ``*`` lets the system choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["zmq_pub"] = "zmq_pub"
    endpoint: str = "tcp://127.0.0.1:5580"


class ZmqPub(Sink):
    """Publish; a subscriber that is too slow loses messages (and sees it in ``seq``), the engine never waits.

    Attributes
    ----------
    endpoint
        Where the socket is really bound.
    """

    #: Messages kept for a slow subscriber.
    HIGH_WATER_MARK = 100_000

    def __init__(self, config: Config) -> None:
        with patient_threads():
            self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.SNDHWM, self.HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 500)
        try:
            self._socket.bind(config.endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ConfigError(
                f"sinks: zmq_pub cannot bind {config.endpoint!r} ({error.strerror}); "
                "is another streamscore running? Choose another port"
            ) from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def write(self, event: Event, text: str) -> None:
        self._socket.send(text.encode())

    def poll(self) -> bool:
        joined = False
        while self._socket.poll(0):
            joined |= self._socket.recv()[:1] == b"\x01"
        return joined

    def close(self) -> None:
        self._socket.close()


def build(config: Config) -> ZmqPub:
    """Bind the socket.

    Raises
    ------
    ConfigError
        If the endpoint cannot be bound.
    """
    return ZmqPub(config)
