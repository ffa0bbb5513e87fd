"""One event of every kind."""

from __future__ import annotations

from typing import Any

from streamscore import events

_SHA = "ab" * 32
_TIMING: dict[str, Any] = {"lag_s": 0.0, "latency_ms": 3.5, "age_s": 0.0035}


def _stamp(seq: int) -> dict[str, Any]:
    return {"run": "r1", "seq": seq, "t_s": 100.0 + seq, "wall_s": 100.5 + seq}


def _heartbeat(seq: int, kind: Any) -> events.HeartbeatEvent:
    return events.HeartbeatEvent(
        **_stamp(seq),
        type=kind,
        state="REM",
        valid=True,
        reason="",
        probs=[0.1, 0.1, 0.8],
        labels=["Wake", "NREM", "REM"],
        stream="amp",
        sfreq=64.0,
        hop_s=1.0,
        mode="dry",
        stalled_s=0.0,
        latency={"n": 1.0, "p50_ms": 3.5, "p99_ms": 3.5, "max_ms": 3.5},
        stages={"score": {"n": 1.0}},
        deadline_ms=1000.0,
        misses=0,
        counters={"gaps": 1},
        stamps="exact",
        measured_sfreq=64.0,
        last_command="#1 on: REM",
        bundle="tiny",
        bundle_sha256=_SHA,
    )


EVENTS: tuple[events.Event, ...] = (
    events.StartEvent(
        **_stamp(0),
        stream="amp",
        sfreq=64.0,
        channels=["EEG"],
        labels=["Wake", "NREM", "REM"],
        kinds=["provisional", "final"],
        bundle="small",
        bundle_sha256=_SHA,
        mode="dry",
        hop_s=1.0,
        deadline_ms=1000.0,
        flushed_samples=3,
    ),
    events.PosteriorEvent(
        **_stamp(1),
        **_TIMING,
        kind="final",
        start=0,
        stop=256,
        t_start_s=96.0,
        t_stop_s=100.0,
        state="REM",
        probs=[0.1, 0.1, 0.8],
        valid=True,
        reason="",
        late=False,
        bundle_sha256=_SHA,
    ),
    events.PosteriorEvent(
        **_stamp(2),
        **_TIMING,
        kind="provisional",
        start=64,
        stop=320,
        t_start_s=97.0,
        t_stop_s=101.0,
        state="UNKNOWN",
        probs=[],
        valid=False,
        reason="gap (samples lost)",
        late=True,
        bundle_sha256=_SHA,
    ),
    events.StateEvent(
        **_stamp(3),
        **_TIMING,
        kind="final",
        state="REM",
        previous="UNKNOWN",
        valid=True,
        reason="",
        probability=0.8,
        t_start_s=96.0,
        t_stop_s=100.0,
        bundle_sha256=_SHA,
    ),
    events.GapEvent(**_stamp(4), open=True, start=256, n_samples=7, reason="samples lost"),
    events.CommandEvent(
        **_stamp(5),
        command_id=1,
        action="on",
        duration_s=2.5,
        expires_s=106.5,
        reason="REM for 10 s",
        mode="dry",
        sent=False,
        age_s=0.0035,
    ),
    events.AckEvent(**_stamp(6), command_id=1, accepted=True, rig_time_s=106.0, round_trip_ms=0.8, detail=""),
    events.NoticeEvent(**_stamp(7), level="warning", text="stream 'amp' stalled"),
    _heartbeat(8, "heartbeat"),
    _heartbeat(9, "snapshot"),
    events.StopEvent(**_stamp(10), reason="the source ended"),
)
