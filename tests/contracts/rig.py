"""What every rig must keep; see :mod:`streamscore.rigs.base`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from streamscore.rigs.base import Rig
from streamscore.types import Ack, Command

PATIENCE_S = 10.0


def command(command_id: int = 1) -> Command:
    """Return a command."""
    return Command(command_id, "on", 99.5, 100.0, 101.0, 2.5, "REM for 10 s")


def wait_for_acks(rig: Rig, n: int) -> list[Ack]:
    """Poll until `n` acknowledgements have come."""
    acks: list[Ack] = []
    end_s = time.monotonic() + PATIENCE_S
    while len(acks) < n:
        assert time.monotonic() < end_s, f"{len(acks)} of {n} acknowledgements came"
        acks += rig.poll()
    return acks


class Device(Protocol):
    """The far end of the cable, as a test plays it."""

    def receive(self) -> dict[str, Any]:
        """Return the next command as the device sees it, waiting for it."""
        ...

    def acknowledge(self, command_id: int, accepted: bool, rig_time_s: float, detail: str) -> None:
        """Answer a command."""
        ...

    def send_garbage(self) -> None:
        """Send things that are no acknowledgements."""
        ...


class RigContract(ABC):
    """Inherit it in a class named ``Test…`` and say how to make the rig and its device."""

    @abstractmethod
    @contextmanager
    def pair(self) -> Iterator[tuple[Rig, Device]]:
        """Give a rig and the device that it is connected to, and close both."""

    @abstractmethod
    def alone(self) -> Rig:
        """Return a rig whose device is not there."""

    def test_a_command_arrives_whole(self) -> None:
        with self.pair() as (rig, device):
            rig.send(command(), "run-7")
            got = device.receive()
        assert got["run"] == "run-7"
        assert {
            key: got[key] for key in ("command_id", "action", "t_s", "issued_s", "expires_s", "duration_s")
        } == {
            "command_id": 1,
            "action": "on",
            "t_s": 99.5,
            "issued_s": 100.0,
            "expires_s": 101.0,
            "duration_s": 2.5,
        }

    def test_commands_arrive_in_order(self) -> None:
        with self.pair() as (rig, device):
            for k in range(5):
                rig.send(command(k), "run-7")
            assert [device.receive()["command_id"] for _ in range(5)] == list(range(5))

    def test_an_acknowledgement_comes_back(self) -> None:
        with self.pair() as (rig, device):
            rig.send(command(3), "run-7")
            device.receive()
            device.acknowledge(3, False, 100.25, "expired")
            assert wait_for_acks(rig, 1) == [Ack(3, False, 100.25, "expired")]
            assert rig.poll() == []

    def test_garbage_is_no_acknowledgement(self) -> None:
        with self.pair() as (rig, device):
            rig.send(command(1), "run-7")
            device.receive()
            device.send_garbage()
            device.acknowledge(1, True, 100.25, "")
            assert wait_for_acks(rig, 1) == [Ack(1, True, 100.25, "")]

    def test_a_device_that_is_away_blocks_nothing(self) -> None:
        rig = self.alone()
        for k in range(200):
            rig.send(command(k), "run-7")
        assert rig.poll() == []
        rig.close()

    def test_it_may_be_closed_twice(self) -> None:
        rig = self.alone()
        rig.close()
        rig.close()
