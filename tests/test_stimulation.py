from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from streamscore import events
from streamscore.clock import VirtualClock
from streamscore.outbox import Outbox
from streamscore.policies.base import Decision, Policy
from streamscore.stimulation import Stimulation
from streamscore.types import Command, Posterior
from tests.streams import MemoryRecorder, MemorySink, ScriptedRig

EXPIRY_S, TIMEOUT_S = 1.0, 0.5
SEEN = Posterior(0, 256, 96.0, 100.0, (1.0,), "REM", True)


class Scripted(Policy):
    """Decides what it was told to decide, in order."""

    def __init__(self, *decisions: Decision | None) -> None:
        self._decisions: Iterator[Decision | None] = iter(decisions)
        self.ages_s: list[float] = []

    def update(self, posterior: Posterior, age_s: float) -> Decision | None:
        self.ages_s.append(age_s)
        return next(self._decisions, None)


def on(duration_s: float = 5.0) -> Decision:
    return Decision("on", duration_s, "REM for 10 s")


OFF = Decision("off", 0.0, "p = 0.10 < 0.8")


class Bench:
    """A stimulation with a rig, and its surroundings."""

    def __init__(
        self, *decisions: Decision | None, answer: str = "accept", mode: Any = "live", sink: Any = None
    ) -> None:
        self.clock = VirtualClock(100.0)
        self.rig = ScriptedRig(self.clock, answer)
        self.sink = sink or MemorySink()
        self.policy = Scripted(*decisions)
        outbox = Outbox("r1", self.clock, [self.sink], MemoryRecorder())
        self.stimulation = Stimulation(
            mode, self.policy, self.rig, outbox, ack_timeout_s=TIMEOUT_S, expiry_s=EXPIRY_S
        )

    def see(self, age_s: float = 0.01) -> None:
        self.stimulation.update(SEEN, age_s)

    def wait(self, duration_s: float, tick_s: float = 0.1) -> None:
        """Let time pass as the engine does."""
        for _ in range(round(duration_s / tick_s)):
            self.clock.wait_s(tick_s)
            self.stimulation.poll(self.clock.now_s())

    def of(self, kind: str) -> list[Any]:
        told = [events.parse(text) for text in self.sink.texts]
        return [event for event in told if event.type == kind]


def test_a_command_carries_identity_expiry_duration_and_reason() -> None:
    bench = Bench(on(2.5), OFF)
    bench.see(age_s=0.25)
    bench.clock.wait_s(1.0)
    bench.see()
    first, second = bench.rig.commands
    assert (first.command_id, first.action, first.duration_s, first.t_s) == (1, "on", 2.5, 100.0)
    assert (first.issued_s, first.expires_s, first.reason) == (100.0, 101.0, "REM for 10 s")
    assert (second.command_id, second.action, second.issued_s) == (2, "off", 101.0)
    told = bench.of("command")
    assert [(e.command_id, e.action, e.sent, e.reason) for e in told] == [
        (1, "on", True, "REM for 10 s"),
        (2, "off", True, "p = 0.10 < 0.8"),
    ]
    assert told[0].age_s == 0.25
    assert bench.policy.ages_s == [0.25, 0.01]


def test_an_acknowledgement_is_told_with_its_round_trip() -> None:
    bench = Bench(on())
    bench.see()
    bench.wait(0.2, tick_s=0.2)
    (ack,) = bench.of("ack")
    assert (ack.command_id, ack.accepted, ack.rig_time_s) == (1, True, 100.0)
    assert ack.round_trip_ms == pytest.approx(200.0)


@pytest.mark.parametrize("answer", ["accept", "refuse"])
def test_an_answered_command_is_not_overdue(answer: str) -> None:
    bench = Bench(on(), answer=answer)
    bench.see()
    bench.wait(5.0)
    assert [ack.accepted for ack in bench.of("ack")] == [answer == "accept"]
    assert bench.rig.actions == ["on"]


def test_a_missing_acknowledgement_is_told_and_answered_with_off() -> None:
    bench = Bench(on(), answer="silence")
    bench.see()
    bench.wait(0.5)
    assert bench.rig.actions == ["on"]
    bench.wait(0.1)
    assert bench.rig.actions == ["on", "off"]
    (ack,) = bench.of("ack")
    assert (ack.command_id, ack.accepted, ack.detail) == (1, False, "not acknowledged in time")
    assert ack.t_s == pytest.approx(bench.clock.now_s())
    assert bench.rig.commands[1].reason == "the command to switch on was not acknowledged"


def test_an_off_that_is_not_acknowledged_is_sent_again_while_the_rig_may_be_on() -> None:
    bench = Bench(on(3.0), OFF, answer="silence")
    bench.see()
    bench.wait(20.0)
    offs_s = [command.issued_s - 100.0 for command in bench.rig.commands if command.action == "off"]
    assert len(offs_s) >= 4
    assert max(b - a for a, b in pairwise(offs_s)) <= TIMEOUT_S + 0.2
    # No longer than the rig could be on: it may take the command until its expiry.
    assert 3.0 < offs_s[-1] < EXPIRY_S + 3.0


def test_an_off_that_is_acknowledged_is_not_sent_again() -> None:
    bench = Bench(on(), OFF)
    bench.see()
    bench.wait(0.2)
    bench.see()
    bench.wait(5.0)
    bench.stimulation.off(bench.clock.now_s(), "the end")
    assert bench.rig.actions == ["on", "off"]


def test_an_acknowledged_off_does_not_end_an_on_that_came_after_it() -> None:
    bench = Bench(on(), OFF, on())
    for _ in range(3):
        bench.see()
    bench.wait(0.2)
    bench.stimulation.off(bench.clock.now_s(), "the end")
    assert bench.rig.actions == ["on", "off", "on", "off"]


def test_at_the_end_what_may_be_on_is_switched_off() -> None:
    bench = Bench(on(5.0))
    bench.see()
    bench.wait(1.0)
    bench.stimulation.off(bench.clock.now_s(), "stopped by request")
    assert bench.rig.actions == ["on", "off"]
    assert bench.rig.commands[-1].reason == "stopped by request"


def test_at_the_end_a_command_that_the_rig_may_still_take_is_switched_off() -> None:
    bench = Bench(on(0.2))
    bench.see()
    bench.clock.wait_s(0.9)  # longer than the duration, but the command has not expired
    bench.stimulation.off(bench.clock.now_s(), "stopped by request")
    assert bench.rig.actions == ["on", "off"]


def test_at_the_end_what_has_ended_by_itself_is_left_alone() -> None:
    bench = Bench(on(2.0))
    bench.see()
    bench.wait(3.5)
    bench.stimulation.off(bench.clock.now_s(), "stopped by request")
    assert bench.rig.actions == ["on"]


def test_acknowledgements_of_nobodys_command_are_ignored() -> None:
    bench = Bench(on())
    bench.see()
    bench.wait(0.2)
    bench.rig.send(bench.rig.commands[0], "r1")  # the rig answers the same command twice
    bench.wait(0.2)
    assert len(bench.of("ack")) == 1


@pytest.mark.parametrize("mode", ["monitor", "dry"])
def test_nothing_leaves_unless_live(mode: str) -> None:
    bench = Bench(on(), OFF, on(), mode=mode)
    for _ in range(3):
        bench.see()
        bench.wait(0.2)
    bench.stimulation.off(bench.clock.now_s(), "the end")
    assert bench.rig.commands == []
    assert bench.of("ack") == []
    assert [e.action for e in bench.of("command")] == ([] if mode == "monitor" else ["on", "off", "on", "off"])
    assert bench.policy.ages_s == ([] if mode == "monitor" else [0.01] * 3)


def test_the_last_command_is_kept_in_words_for_screens() -> None:
    bench = Bench(on())
    assert bench.stimulation.last_command == ""
    bench.see()
    assert bench.stimulation.last_command == "#1 on: REM for 10 s"
    assert bench.stimulation.n_commands == 1


class BrokenSink(MemorySink):
    """Takes events until it breaks."""

    broken = False

    def write(self, event: events.Event, text: str) -> None:
        if self.broken:
            raise OSError("no buffer space")
        super().write(event, text)


def test_a_command_is_on_record_before_it_leaves() -> None:
    class Asks(ScriptedRig):
        def send(self, command: Command, run: str) -> None:
            assert bench.of("command")[-1].command_id == command.command_id
            super().send(command, run)

    bench = Bench(on(), OFF)
    bench.stimulation._rig = bench.rig = Asks(bench.clock)
    bench.see()
    bench.see()
    assert bench.rig.actions == ["on", "off"]


def test_an_on_that_cannot_be_told_is_not_sent_and_an_off_is() -> None:
    bench = Bench(on(), on(), sink=BrokenSink())
    bench.see()
    bench.sink.broken = True
    with pytest.raises(OSError, match="no buffer space"):
        bench.see()
    assert bench.rig.actions == ["on"]
    with pytest.raises(OSError, match="no buffer space"):
        bench.stimulation.off(bench.clock.now_s(), "OSError")
    assert bench.rig.actions == ["on", "off"]
