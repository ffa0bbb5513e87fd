"""From decisions to commands: modes, expiry, acknowledgement, and OFF.

``monitor`` never asks the policy. ``dry`` asks it and records each command as would-have. ``live`` sends. What
was switched on is switched off when the policy says so, when a command is not acknowledged, and at the end. An
OFF counts once the rig has acknowledged it; until then it is sent again for as long as the rig may be on.
"""

from __future__ import annotations

from typing import Any, Literal

from streamscore import events
from streamscore.outbox import Outbox
from streamscore.policies.base import Decision, Policy
from streamscore.rigs.base import Rig
from streamscore.types import Ack, Command, Posterior

Mode = Literal["monitor", "dry", "live"]


class Stimulation:
    """Carry out what a policy decides.

    Attributes
    ----------
    n_commands
        Commands decided on, sent or not.
    last_command
        The last one in words, for screens.
    """

    def __init__(
        self,
        mode: Mode,
        policy: Policy | None,
        rig: Rig | None,
        outbox: Outbox,
        *,
        ack_timeout_s: float,
        expiry_s: float,
    ) -> None:
        self._mode = mode
        self._policy = policy if mode != "monitor" else None
        self._rig = rig if mode == "live" else None
        self._outbox = outbox
        self._ack_timeout_s = ack_timeout_s
        self._expiry_s = expiry_s
        self._on_until_s = float("-inf")
        self._waiting: dict[int, Command] = {}
        self.n_commands = 0
        self.last_command = ""

    def update(self, posterior: Posterior, age_s: float) -> None:
        """Show the policy the next posterior, if it is of the kind that it uses."""
        if self._policy is None or posterior.kind != self._policy.uses:
            return
        decision = self._policy.update(posterior, age_s)
        if decision is not None:
            self._act(decision, posterior.t_stop_s, age_s)
        elif not posterior.valid:
            # Whatever the policy believes: nothing stays on over what cannot be trusted.
            self.off(posterior.t_stop_s + age_s, f"{posterior.state}: {posterior.reason}")

    def poll(self, now_s: float) -> None:
        """Take acknowledgements in; treat a missing one as a rig that may be on."""
        if self._rig is None:
            return
        for ack in self._rig.poll():
            command = self._waiting.pop(ack.command_id, None)
            if command is not None:
                self._tell_ack(ack, ack.rig_time_s, now_s - command.issued_s)
                # An OFF that was overtaken by a newer ON does not end that one.
                if command.action == "off" and ack.accepted and command.command_id == self.n_commands:
                    self._on_until_s = float("-inf")
        overdue = [c for c in self._waiting.values() if now_s - c.issued_s > self._ack_timeout_s]
        for command in overdue:
            del self._waiting[command.command_id]
            missing = Ack(command.command_id, False, 0.0, "not acknowledged in time")
            self._tell_ack(missing, now_s, now_s - command.issued_s)
        if overdue:
            self.off(now_s, f"the command to switch {overdue[-1].action} was not acknowledged")

    def may_be_on(self, now_s: float) -> bool:
        """Whether a rig may still be on."""
        return now_s < self._on_until_s

    def off(self, now_s: float, reason: str) -> None:
        """Switch off if anything may still be on."""
        if self.may_be_on(now_s):
            self._act(Decision("off", 0.0, reason), now_s, 0.0)

    def _act(self, decision: Decision, t_s: float, age_s: float) -> None:
        self.n_commands += 1
        stamp = self._outbox.stamp(t_s)
        issued_s = stamp["wall_s"]
        command = Command(
            command_id=self.n_commands,
            action=decision.action,
            t_s=t_s,
            issued_s=issued_s,
            expires_s=issued_s + self._expiry_s,
            duration_s=decision.duration_s,
            reason=decision.reason,
        )
        if decision.action == "on":
            # A rig may take the command as late as its expiry.
            self._on_until_s = max(self._on_until_s, command.expires_s + command.duration_s)
        elif self._rig is None:
            self._on_until_s = float("-inf")
        self.last_command = f"#{command.command_id} {command.action}: {command.reason}"
        # On record before it leaves: whatever happens next, the log knows of it.
        told = False
        try:
            self._tell(command, stamp, age_s)
            told = True
        finally:
            # A record or sink that fails must not keep the rig on.
            if self._rig is not None and (told or command.action == "off"):
                self._waiting[command.command_id] = command
                self._rig.send(command, self._outbox.run_id)

    def _tell(self, command: Command, stamp: dict[str, Any], age_s: float) -> None:
        self._outbox.send(
            events.CommandEvent(
                **stamp,
                command_id=command.command_id,
                action=command.action,
                duration_s=command.duration_s,
                expires_s=command.expires_s,
                reason=command.reason,
                mode=self._mode,
                sent=self._rig is not None,
                age_s=age_s,
            )
        )

    def _tell_ack(self, ack: Ack, t_s: float, round_trip_s: float) -> None:
        self._outbox.send(
            events.AckEvent(
                **self._outbox.stamp(t_s),
                command_id=ack.command_id,
                accepted=ack.accepted,
                rig_time_s=ack.rig_time_s,
                round_trip_ms=1e3 * round_trip_s,
                detail=ack.detail,
            )
        )
