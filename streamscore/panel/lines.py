"""A run as plain lines, for logs, pipes and terminals that cannot draw: one line for whatever happens."""

from __future__ import annotations

import math

from streamscore import events
from streamscore.panel.art import clock, number
from streamscore.panel.state import PanelState
from streamscore.panel.view import SILENT_S

#: Wall time between two status lines.
STATUS_S = 10.0
#: Wait after which it is told that nothing is there yet.
WAITING_S = 1.0


class PlainLines:
    """Turn events into lines. Each begins with the stream time since the first sample.

    Parameters
    ----------
    endpoint
        Where the run publishes, told while nothing has been heard.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._introduced = ""
        self._status_s = 0.0
        self._silence_told_s = 0.0
        self._n_unreadable = 0
        self._hint = ""

    def event(self, state: PanelState, event: events.AnyEvent) -> list[str]:
        """Lines for `event`, which `state` has taken in."""
        lines = []
        if self._silence_told_s and self._introduced:
            lines.append(_line(state, "watch", "the engine is heard again"))
        self._silence_told_s = 0.0
        if state.newly_missed:
            lines.append(_line(state, "watch", f"missed {state.newly_missed} messages, {state.n_missed} in all"))
        return lines + self._told(state, event)

    def idle(self, state: PanelState, silent_s: float, hint: str) -> list[str]:
        """Lines for what did not happen: `silent_s` since the last event."""
        lines = []
        if state.n_unreadable != self._n_unreadable:
            self._n_unreadable = state.n_unreadable
            lines.append(_line(state, "watch", f"{state.n_unreadable} messages in all were not understood"))
        if hint != self._hint:
            self._hint = hint
            lines.append(_line(state, "watch", hint))
        first = SILENT_S if state.run else WAITING_S
        if silent_s > (self._silence_told_s + STATUS_S if self._silence_told_s else first):
            self._silence_told_s = silent_s
            what = f"no heartbeat for {silent_s:.0f} s" if state.run else f"waiting for a run at {self._endpoint}"
            lines.append(_line(state, "watch", what))
        return lines

    def _told(self, state: PanelState, event: events.AnyEvent) -> list[str]:
        if isinstance(event, events.StartEvent):
            return [_line(state, "start", self._introduction(state))]
        if isinstance(event, events.HeartbeatEvent):
            return self._heartbeat(state, event)
        if isinstance(event, events.StateEvent):
            lag = f", {event.kind}, lag {event.lag_s:g} s" if event.kind != "final" or event.lag_s else ""
            how = (
                f"p {event.probability:.2f}, latency {number(event.latency_ms)} ms{lag}"
                if event.valid
                else event.reason
            )
            return [_line(state, "state", f"{event.previous} -> {event.state} ({how})")]
        if isinstance(event, events.GapEvent):
            lost_s = event.n_samples / state.sfreq if state.sfreq else 0.0
            how = "opens" if event.open else f"closes after {event.n_samples} samples ({lost_s:.2f} s)"
            return [_line(state, "gap", f"{how}: {event.reason}")]
        if isinstance(event, events.CommandEvent):
            duration = f" for {event.duration_s:g} s" if event.action == "on" else ""
            sent = "sent" if event.sent else f"not sent, mode {event.mode}"
            return [
                _line(state, "command", f"#{event.command_id} {event.action}{duration} ({sent}): {event.reason}")
            ]
        if isinstance(event, events.AckEvent):
            how = "accepted" if event.accepted else f"REFUSED ({event.detail})"
            return [_line(state, "ack", f"#{event.command_id} {how} after {number(event.round_trip_ms)} ms")]
        if isinstance(event, events.NoticeEvent):
            return [_line(state, "notice", f"{event.level}: {event.text}")]
        if isinstance(event, events.StopEvent):
            return [_line(state, "stop", event.reason)]
        return []  # a posterior: the state and the status line tell it

    def _introduction(self, state: PanelState) -> str:
        self._introduced, self._status_s = state.run, state.wall_s
        bundle = " ".join(filter(None, (state.bundle, state.bundle_sha256[:8]))) or "none"
        mode = state.mode.upper() if state.mode == "live" else state.mode
        return (
            f"run {state.run}, mode {mode}, stream {state.stream}, {state.sfreq:g} Hz, bundle {bundle}, "
            f"deadline {number(state.deadline_ms)} ms"
        )

    def _heartbeat(self, state: PanelState, event: events.HeartbeatEvent) -> list[str]:
        if self._introduced != state.run:
            about = self._introduction(state)
            return [_line(state, "join", f"{about}, state {_present(state)}")]
        if event.wall_s - self._status_s < STATUS_S:
            return []
        self._status_s = event.wall_s
        p50, p99, most = (number(event.latency.get(f"{key}_ms", math.nan)) for key in ("p50", "p99", "max"))
        parts = [
            _present(state),
            f"mode {state.mode.upper() if state.mode == 'live' else state.mode}",
            f"lag {state.lag_s:g} s",
            f"latency p50 {p50} p99 {p99} max {most} of {number(event.deadline_ms)} ms, {event.misses} missed",
            *([f"no samples for {event.stalled_s:.0f} s"] if event.stalled_s >= 1.0 else []),
            *(f"{name.replace('_', ' ')} {n}" for name, n in state.losses.items()),
        ]
        return [_line(state, "status", ", ".join(parts))]


def _present(state: PanelState) -> str:
    return f"{state.state} p {state.probability:.2f}" if state.valid else f"{state.state} ({state.reason})"


def _line(state: PanelState, kind: str, text: str) -> str:
    return f"{clock(state.elapsed_s):>7} {kind:<8}{' '.join(text.split())}"
