"""Frames over ZeroMQ PUB, as the network was given them, for screens and for programs that draw.

A message is what a camera sends (:mod:`streamscore.camera.wire`): a header and the pixels, float32. Its ``time_s``
is the stream time of the frame and its ``frame`` counts the frames that this sink has sent, so that a screen sees
what it missed. Nothing is recorded, and nothing waits: whoever is slow sees fewer frames.
"""

from __future__ import annotations

from typing import Literal

import zmq
from pydantic import BaseModel, ConfigDict

from streamscore.camera.wire import encode
from streamscore.errors import ConfigError
from streamscore.events import Event
from streamscore.sinks.base import Sink, patient_threads
from streamscore.types import FloatArray


class Config(BaseModel):
    """Arguments of :class:`ZmqFrames`. Port 0 or ``*`` lets the system choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["zmq_frames"] = "zmq_frames"
    endpoint: str = "tcp://127.0.0.1:5582"


class ZmqFrames(Sink):
    """Publish frames; events go elsewhere.

    Attributes
    ----------
    frames_endpoint
        Where the socket is really bound.
    """

    #: Frames kept for a slow subscriber: about a second, 1 MB of 128 by 128 pixels.
    HIGH_WATER_MARK = 16

    def __init__(self, config: Config) -> None:
        with patient_threads():
            self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, self.HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self._socket.bind(config.endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ConfigError(
                f"sinks: zmq_frames cannot bind {config.endpoint!r} ({error.strerror}); "
                "is another streamscore running? Choose another port"
            ) from error
        self.frames_endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._n_sent = 0

    def write(self, event: Event, text: str) -> None:
        pass

    def frame(self, t_s: float, frame: FloatArray, is_valid: bool) -> None:
        # Sending copies the pixels: the frame is the engine's again when this returns.
        self._socket.send_multipart(encode(frame, frame=self._n_sent, time_s=t_s))
        self._n_sent += 1

    def close(self) -> None:
        self._socket.close()


def build(config: Config) -> ZmqFrames:
    """Bind the socket.

    Raises
    ------
    ConfigError
        If the endpoint cannot be bound.
    """
    return ZmqFrames(config)
