"""A simulated rig: takes acknowledged commands over ZeroMQ and switches a light that is not there.

It behaves as a rig must: it refuses a command that has expired, switches itself off after the duration of the
command, and stamps each edge of its output with the LSL clock. Each edge is a JSON line on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from threading import Event as StopFlag

import zmq
from pydantic import ValidationError

from streamscore.clock import Clock, LslClock
from streamscore.rigs.zmq_dealer import AckMessage, CommandMessage


class SimulatedRig:
    """The state machine of the rig, without any transport.

    Parameters
    ----------
    clock
        Stamps edges and judges expiry.
    say
        Called with each edge.
    """

    def __init__(self, clock: Clock, say: Callable[[dict[str, object]], None]) -> None:
        self._clock = clock
        self._say = say
        self._off_at_s: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether the light is on."""
        return self._off_at_s is not None

    def handle(self, command: CommandMessage) -> AckMessage:
        """Carry out or refuse a command."""
        now_s = self._clock.now_s()
        if now_s > command.expires_s:
            return self._ack(command, False, now_s, f"expired {1e3 * (now_s - command.expires_s):.0f} ms ago")
        if command.action == "on":
            self._off_at_s = now_s + command.duration_s
            self._edge("on", now_s, command)
        elif self.is_on:
            self._off_at_s = None
            self._edge("off", now_s, command)
        return self._ack(command, True, now_s, "")

    def tick(self) -> float:
        """Switch off when the time is over; return the seconds until the next look is due."""
        now_s = self._clock.now_s()
        if self._off_at_s is None:
            return 1.0
        if now_s >= self._off_at_s:
            self._off_at_s = None
            self._edge("off", now_s, None)
            return 1.0
        return self._off_at_s - now_s

    def _edge(self, edge: str, now_s: float, command: CommandMessage | None) -> None:
        entry: dict[str, object] = {"event": "edge", "edge": edge, "rig_time_s": now_s}
        if command is None:
            entry["reason"] = "duration over"
        else:
            entry |= {"command_id": command.command_id, "run": command.run, "reason": command.reason}
            entry["command_age_ms"] = round(1e3 * (now_s - command.issued_s), 3)
        self._say(entry)

    @staticmethod
    def _ack(command: CommandMessage, accepted: bool, now_s: float, detail: str) -> AckMessage:
        return AckMessage(
            type="ack", command_id=command.command_id, accepted=accepted, rig_time_s=now_s, detail=detail
        )


def serve(endpoint: str, stop: StopFlag, say: Callable[[dict[str, object]], None]) -> None:
    """Bind a ROUTER at `endpoint` and serve commands until `stop` is set; ends with the light off."""
    rig = SimulatedRig(LslClock(), say)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 200)
    socket.bind(endpoint)
    say({"event": "listening", "endpoint": socket.getsockopt_string(zmq.LAST_ENDPOINT)})
    try:
        while not stop.is_set():
            wait_s = min(rig.tick(), 0.1)
            if not socket.poll(max(int(wait_s * 1e3), 1)):
                continue
            sender, body = socket.recv_multipart()
            try:
                command = CommandMessage.model_validate_json(body)
            except ValidationError as error:
                say({"event": "refused", "reason": f"not a command: {error.error_count()} errors"})
                continue
            socket.send_multipart([sender, rig.handle(command).model_dump_json().encode()])
    finally:
        if rig.is_on:
            say({"event": "edge", "edge": "off", "rig_time_s": LslClock().now_s(), "reason": "rig stops"})
        socket.close()


def say_json(entry: dict[str, object]) -> None:
    """Print one JSON line at once."""
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()
