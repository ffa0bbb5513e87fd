"""What a policy commanded in a run, and what the rig answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offline.report.html import NONE, NOTHING, Html, duration, el, facts, join, short, table
from offline.report.page import folded

#: Commands that are listed at most.
N_LISTED = 500


def commands(events: Sequence[Mapping[str, Any]]) -> Html:
    """Tell the commands among `events`; empty without any."""
    found = [event for event in events if event.get("type") == "command"]
    if not found:
        return NOTHING
    acks = {event["command_id"]: event for event in events if event.get("type") == "ack"}
    on = [event for event in found if event["action"] == "on"]
    sent = [event for event in found if event["sent"]]
    rows = [
        ("switched on", f"{len(on):,}"),
        ("sent to the rig", f"{len(sent):,} of {len(found):,} commands"),
        ("age when decided", _spread([1e3 * event["age_s"] for event in on])),
        ("time between two", _apart([float(event["t_s"]) for event in on])),
    ]
    if sent:
        answers = [acks[event["command_id"]] for event in sent if event["command_id"] in acks]
        accepted = [ack for ack in answers if ack["accepted"]]
        refused = [str(ack["detail"]) or "no reason told" for ack in answers if not ack["accepted"]]
        reasons = f": {'; '.join(sorted(set(refused)))}" if refused else ""
        rows += [
            ("acknowledged", f"{len(accepted):,} of {len(sent):,}"),
            ("refused or not answered", f"{len(refused):,}{reasons}"),
            ("from command to acknowledgement", _spread([ack["round_trip_ms"] for ack in accepted])),
        ]
    t0_s = float(found[0]["t_s"])
    listed = table(
        ("no.", "time after the first", "", "why", "age", "rig"),
        [
            (
                str(event["command_id"]),
                duration(event["t_s"] - t0_s),
                str(event["action"]),
                str(event["reason"]),
                f"{short(1e3 * event['age_s'])} ms",
                _answer(event, acks),
            )
            for event in found[:N_LISTED]
        ],
        n_words=4,
    )
    title = (
        f"All {len(found):,} commands"
        if len(found) <= N_LISTED
        else f"The first {N_LISTED} of {len(found):,} commands"
    )
    read = el(
        "p",
        "The age of a command is the time from the end of the epoch that caused it to the decision: look-ahead "
        "and latency together.",
        class_="read",
    )
    return join([facts(rows), read, folded(title, listed)])


def _answer(event: Mapping[str, Any], acks: Mapping[int, Mapping[str, Any]]) -> str:
    if not event["sent"]:
        return "not sent"
    ack = acks.get(event["command_id"])
    if ack is None:
        return "no answer"
    told = "accepted" if ack["accepted"] else f"refused: {ack['detail']}"
    return f"{told}, {short(ack['round_trip_ms'])} ms"


def _spread(values_ms: Sequence[float]) -> str:
    if not values_ms:
        return NONE
    return f"{short(float(np.median(values_ms)))} ms in the middle, {short(max(values_ms))} ms at most"


def _apart(times_s: Sequence[float]) -> str:
    if len(times_s) < 2:
        return NONE
    steps_s = np.diff(times_s)
    return f"{duration(float(np.median(steps_s)))} in the middle, {duration(float(steps_s.min()))} at least"
