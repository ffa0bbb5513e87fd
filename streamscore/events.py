"""What leaves the engine: one JSON object a message, with a published schema.

The schema is generated from these classes (``streamscore schema``; a copy is in docs/events.schema.json). Every
event carries the run, a sequence number without holes, the stream time it speaks of and the wall time at which
it was made. A subscriber that sees a hole has lost messages, and asks for nothing: the snapshot that follows
each new subscription and each heartbeat hold the present state.

``lane`` names the stream that an event speaks of, as the rig file does under ``streams``; it is empty for the main
stream, the one that the policy acts on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

#: Raised when a field changes its meaning or goes away.
SCHEMA_VERSION: Literal[1] = 1


class Event(BaseModel):
    """Fields of every event.

    ``t_s`` is stream time (seconds of LSL ``local_clock()``), ``wall_s`` the same clock at the moment of writing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = SCHEMA_VERSION
    run: str
    seq: int = Field(ge=0)
    t_s: float
    wall_s: float


class StartEvent(Event):
    """The engine has begun to listen. ``kinds``: what each output tells, a provisional word first or not."""

    type: Literal["start"] = "start"
    lane: str = ""
    kinds: list[Literal["provisional", "revised", "final"]]
    stream: str
    sfreq: float
    channels: list[str]
    labels: list[str]
    bundle: str
    bundle_sha256: str
    mode: str
    hop_s: float
    deadline_ms: float
    flushed_samples: int


class PosteriorEvent(Event):
    """One output of the model. ``lag_s`` is algorithmic, ``latency_ms`` measured, ``age_s`` their sum."""

    type: Literal["posterior"] = "posterior"
    lane: str = ""
    kind: Literal["provisional", "revised", "final"]
    start: int
    stop: int
    t_start_s: float
    t_stop_s: float
    state: str
    probs: list[float]
    valid: bool
    reason: str
    lag_s: float
    latency_ms: float
    age_s: float
    late: bool
    bundle_sha256: str


class StateEvent(Event):
    """The state changed; sent after the posterior that changed it.

    Networks that speak twice about an epoch have two tracks of states, one for each ``kind``.
    """

    type: Literal["state"] = "state"
    lane: str = ""
    kind: Literal["provisional", "final"]
    state: str
    previous: str
    valid: bool
    reason: str
    probability: float
    t_start_s: float
    t_stop_s: float
    lag_s: float
    latency_ms: float
    age_s: float
    bundle_sha256: str


class GapEvent(Event):
    """Samples were lost or withheld. ``open`` is true at the onset, false when samples are usable again."""

    type: Literal["gap"] = "gap"
    lane: str = ""
    open: bool
    start: int
    n_samples: int
    reason: str


class CommandEvent(Event):
    """A policy decided to act. ``sent`` is false in monitor and dry mode: nothing left the engine."""

    type: Literal["command"] = "command"
    command_id: int
    action: Literal["on", "off"]
    duration_s: float
    expires_s: float
    reason: str
    mode: str
    sent: bool
    age_s: float


class AckEvent(Event):
    """A rig answered, or did not in time (``accepted`` false, ``detail`` says so)."""

    type: Literal["ack"] = "ack"
    command_id: int
    accepted: bool
    rig_time_s: float
    round_trip_ms: float
    detail: str


class NoticeEvent(Event):
    """Something that a person should know: stream lost, stream back, disk full, clock odd."""

    type: Literal["notice"] = "notice"
    level: Literal["info", "warning", "error"]
    text: str


class HeartbeatEvent(Event):
    """Sent every second whether or not there is data; also the answer to a new subscription (snapshot).

    ``gate`` says why a gate keeps the policy from acting; it is empty while all are open.
    """

    type: Literal["heartbeat", "snapshot"] = "heartbeat"
    lane: str = ""
    state: str
    valid: bool
    reason: str
    probs: list[float]
    labels: list[str]
    stream: str
    sfreq: float
    hop_s: float
    mode: str
    stalled_s: float
    latency: dict[str, float]
    stages: dict[str, dict[str, float]]
    deadline_ms: float
    misses: int
    counters: dict[str, int]
    stamps: str
    measured_sfreq: float
    last_command: str
    gate: str = ""
    bundle: str
    bundle_sha256: str


class StopEvent(Event):
    """The engine has ended; nothing follows."""

    type: Literal["stop"] = "stop"
    reason: str


AnyEvent = Annotated[
    StartEvent
    | PosteriorEvent
    | StateEvent
    | GapEvent
    | CommandEvent
    | AckEvent
    | NoticeEvent
    | HeartbeatEvent
    | StopEvent,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


def parse(text: str | bytes) -> AnyEvent:
    """Read one event; raises ``pydantic.ValidationError`` on anything else."""
    return _ADAPTER.validate_json(text)


def json_schema() -> dict[str, Any]:
    """JSON schema of every message on the wire and line of ``events.jsonl``."""
    return {"title": "streamscore events", **_ADAPTER.json_schema()}
