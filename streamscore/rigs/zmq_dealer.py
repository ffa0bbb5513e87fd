"""Commands to a rig over ZeroMQ DEALER → ROUTER, one JSON object each way.

Command: ``{"type": "command", "run", "command_id", "action", "duration_s", "issued_s", "expires_s", "t_s",
"reason"}``; the rig must refuse it after ``expires_s`` (LSL clock). Acknowledgement: ``{"type": "ack",
"command_id", "accepted", "rig_time_s", "detail"}``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

import zmq
from pydantic import BaseModel, ConfigDict, ValidationError

from streamscore.errors import ConfigError
from streamscore.rigs.base import Rig
from streamscore.types import Ack, Command


class Config(BaseModel):
    """Arguments of :class:`ZmqDealer`: where the rig's ROUTER is bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["zmq_dealer"] = "zmq_dealer"
    endpoint: str = "tcp://127.0.0.1:5581"


class AckMessage(BaseModel):
    """The acknowledgement on the wire."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    type: Literal["ack"]
    command_id: int
    accepted: bool
    rig_time_s: float
    detail: str = ""


class CommandMessage(BaseModel):
    """The command on the wire."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["command"] = "command"
    run: str
    command_id: int
    action: Literal["on", "off"]
    t_s: float
    issued_s: float
    expires_s: float
    duration_s: float
    reason: str


class ZmqDealer(Rig):
    """Connects at once; a rig that is not there yet simply does not acknowledge."""

    #: Unsent commands kept while the rig is away. They expire, so a long queue would be of no use.
    HIGH_WATER_MARK = 16

    def __init__(self, config: Config) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.SNDHWM, self.HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 200)
        try:
            self._socket.connect(config.endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ConfigError(f"rig: cannot use endpoint {config.endpoint!r} ({error.strerror})") from error

    def send(self, command: Command, run: str) -> None:
        message = CommandMessage(run=run, **asdict(command))
        try:
            self._socket.send(message.model_dump_json().encode(), zmq.NOBLOCK)
        except zmq.Again:
            return  # the rig is away and the queue is full: the missing acknowledgement says so

    def poll(self) -> list[Ack]:
        acks = []
        while self._socket.poll(0):
            try:
                message = AckMessage.model_validate_json(self._socket.recv())
            except ValidationError:
                continue  # not an acknowledgement, so the command counts as not acknowledged
            acks.append(Ack(message.command_id, message.accepted, message.rig_time_s, message.detail))
        return acks

    def close(self) -> None:
        self._socket.close()


def build(config: Config) -> ZmqDealer:
    """Connect to the rig."""
    return ZmqDealer(config)
