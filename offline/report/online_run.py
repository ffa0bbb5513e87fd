"""The page of a run on a rig or of a replay: what it said, how late, what was lost, and what it commanded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from offline.report.card import find_card
from offline.report.commands import commands
from offline.report.html import NOTHING, Html, duration, el, facts, join, number, short, table
from offline.report.hypnograms import Track, hypnograms, state_legend, unknown_text
from offline.report.latency import NO_REASON, gaps, latency_figures, losses
from offline.report.page import Page, Section, figure, folded
from streamscore.labels import UNKNOWN
from streamscore.record.run_folder import RunRecord, read_run

#: Sources whose samples nobody recorded.
_SIMULATED_SOURCES = ("synthetic", "synthetic_camera", "noise")
#: Notices that are shown at most.
N_NOTICES = 200

Event = Mapping[str, Any]


def online_page(folder: Path) -> Page:
    """Return the page of the run in `folder`.

    Raises
    ------
    RecordError
        If it is not the folder of a run.
    """
    record = read_run(folder)
    config = _config(record)
    main = [event for event in record.events if not event.get("lane")]
    heartbeats = {str(e.get("lane", "")): e for e in record.events if e.get("type") == "heartbeat"}
    start: Event = next((e for e in main if e.get("type") == "start"), {})
    labels = tuple(map(str, start.get("labels", ())))
    posteriors = [e for e in main if e.get("type") == "posterior"]
    streams = {"": record.run.get("stream"), **(record.run.get("streams") or {})}
    rates_hz = {name: float(info["sfreq"]) for name, info in streams.items() if info}
    choice = config.get("bundle")
    card = find_card(
        [name for name in (choice, start.get("bundle")) if isinstance(name, str) and name],
        str(record.run.get("bundle_hash", "")),
    )
    name = str((record.run.get("stream") or {}).get("name", ""))
    heartbeat = heartbeats.get("")
    return Page(
        title=f"Run {record.run.get('run_id', folder.name)}",
        lead=_lead(start, posteriors, name),
        warnings=_warnings(record, config, name, card.is_simulated),
        notes=_notes(record, start),
        cards=_cards(posteriors, heartbeat, main),
        sections=[
            Section("States", "", _states(posteriors, labels, main)),
            Section(
                "Latency",
                "How long outputs took, from the newest sample that they needed to their publication. The time "
                "that a network waits on purpose (its look-ahead) comes on top.",
                latency_figures(posteriors, heartbeat),
            ),
            Section(
                "Gaps",
                "Stretches that were not scored, because samples were lost or must not be used. The state is "
                "UNKNOWN in them, and nothing can be triggered.",
                gaps(record.events, rates_hz),
            ),
            Section("Losses", "What was lost, withheld or late, as the engine counted it.", losses(heartbeats)),
            Section("Commands", "What the policy decided, and what became of it.", commands(main)),
            Section("Notices", "What the engine told the person at the screen.", _notices(record.events)),
            Section("Streams", "What came in.", _streams(streams, heartbeats)),
            Section(
                "Model card", "What the network is, on what it was trained, and what it is not for.", card.body
            ),
            Section("Rig file", "The settings of the run, defaults included.", _rig_file(record)),
            Section("Provenance", "What made these figures.", _provenance(record, start)),
        ],
    )


def _config(record: RunRecord) -> dict[str, Any]:
    try:
        found = yaml.safe_load(record.config_text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _lead(start: Event, posteriors: Sequence[Event], stream: str) -> str:
    if not start:
        return f"Stream {stream or 'unknown'} was recorded; the run ended before it began to score."
    if not posteriors:
        return f"Stream {stream!r} was recorded in mode {start['mode']}, and not scored."
    span_s = posteriors[-1]["t_stop_s"] - posteriors[0]["t_start_s"]
    return (
        f"{start['bundle']} scored stream {stream!r} for {duration(span_s)}, with an output every "
        f"{duration(start['hop_s'])}, in mode {start['mode']}."
    )


def _warnings(record: RunRecord, config: Mapping[str, Any], name: str, card_is_simulated: bool) -> list[str]:
    source = config.get("source") or {}
    told = []
    is_simulated = isinstance(source, dict) and source.get("kind") in _SIMULATED_SOURCES
    if is_simulated or any(word in name.lower() for word in ("simulated", "synthetic")):
        told.append(
            "SIMULATED: the signals were made by a program. Nothing here was measured in an animal or a person."
        )
    elif card_is_simulated:
        told.append(
            "The network was trained on SIMULATED data alone. What it says of a real recording means nothing."
        )
    end = record.run.get("end")
    if end is None:
        told.append("This run has no end: it was killed, or is still under way. The page shows what was on disk.")
    elif end.get("failed"):
        told.append(f"The record is not complete: {end['failed']}")
    return told


def _notes(record: RunRecord, start: Event) -> list[str]:
    speed = float((record.run.get("stream") or {}).get("speed", 1.0))
    told = []
    if speed not in (0.0, 1.0):
        told.append(
            f"A replay at {speed:g} times the speed of life: latencies are real times, so that deadlines are "
            f"{speed:g} times as short as on a rig."
        )
    if record.n_damaged_lines:
        told.append(f"Lines of events.jsonl that were not whole and are left out: {record.n_damaged_lines}.")
    if start.get("mode") in ("monitor", "dry"):
        told.append(f"Mode {start['mode']}: nothing was sent to a rig.")
    return told


def _cards(posteriors: Sequence[Event], heartbeat: Event | None, main: Sequence[Event]) -> list[tuple[str, str]]:
    if not posteriors:
        return []
    valid = sum(bool(event["valid"]) for event in posteriors)
    told = [
        (f"{len(posteriors):,}", "outputs"),
        (f"{number(100 * valid / len(posteriors), 1)} %", "of outputs were valid"),
    ]
    if heartbeat is not None:
        latency = heartbeat.get("latency", {})
        told += [
            (f"{short(latency.get('p50_ms'))} ms", "latency of half the outputs, at most"),
            (f"{short(latency.get('p999_ms'))} ms", "latency of 99.9 % of them, at most"),
            (
                f"{heartbeat.get('misses', 0):,}",
                f"outputs missed the deadline of {short(heartbeat.get('deadline_ms'))} ms",
            ),
        ]
    n_on = sum(event.get("type") == "command" and event["action"] == "on" for event in main)
    return [*told, (f"{n_on:,}", "times switched on" if n_on != 1 else "time switched on")]


def _states(posteriors: Sequence[Event], labels: tuple[str, ...], main: Sequence[Event]) -> Html:
    """Draw what was said, with commands below; each kind of output is a track of its own."""
    if not posteriors or not labels:
        return NOTHING
    tracks = []
    probs = np.zeros((0, len(labels)))
    for kind, words in (("provisional", "at once (provisional)"), ("revised", "revised"), ("final", "final")):
        outputs = [event for event in posteriors if event["kind"] == kind]
        if len(outputs) > 1:
            tracks.append(_track(words, outputs, labels))
            probs = np.array(
                [e["probs"] if len(e["probs"]) == len(labels) else [np.nan] * len(labels) for e in outputs]
            )
    if not tracks:
        return NOTHING
    if len(tracks) == 1:
        tracks = [Track("scored", tracks[0].starts_s, tracks[0].stops_s, tracks[0].codes)]
    marks = [
        (float(event["t_s"]), f"on: {event['reason']}")
        for event in main
        if event.get("type") == "command" and event["action"] == "on"
    ]
    drawn = hypnograms("States of the run over time", labels, tracks, probs.astype(float), marks)
    last = tracks[-1]
    lengths_s = last.stops_s - last.starts_s
    shares = [
        (label, duration(float(lengths_s[last.codes == code].sum())), _percent(lengths_s, last.codes == code))
        for code, label in [*enumerate(labels), (-1, UNKNOWN.lower())]
    ]
    why = _why(posteriors, last, tracks[-1].name)
    return join(
        [
            figure(
                drawn,
                "How to read it: time runs to the right, from the first output (hours:minutes:seconds); the "
                "coloured line is on the row of the state. Each output describes the epoch that ends where it "
                "stands. Below are the probabilities of the states, one above the other: where one colour fills "
                "the height, the network was sure. Grey is unknown, and a triangle is a command to switch on.",
                state_legend(labels),
            ),
            table(("state", "time", "share"), shares),
            el("p", why, class_="small"),
        ]
    )


def _track(name: str, outputs: Sequence[Event], labels: tuple[str, ...]) -> Track:
    """An output stands from the one before it to the end of its epoch."""
    stops_s = np.maximum.accumulate([float(event["t_stop_s"]) for event in outputs])
    first_s = stops_s[0] - float(np.median(np.diff(stops_s)))
    starts_s = np.concatenate([[first_s], stops_s[:-1]])
    codes = [labels.index(e["state"]) if e["valid"] and e["state"] in labels else -1 for e in outputs]
    return Track(name, starts_s, stops_s, np.array(codes, np.int8))


def _percent(lengths_s: np.ndarray, which: np.ndarray) -> str:
    return f"{number(100 * float(lengths_s[which].sum() / max(lengths_s.sum(), 1e-9)), 1)} %"


def _why(posteriors: Sequence[Event], track: Track, name: str) -> str:
    kind = name if name in ("final", "revised") else None
    outputs = [event for event in posteriors if kind is None or event["kind"] == kind]
    lengths_s = track.stops_s - track.starts_s
    total: Counter[str] = Counter()
    for event, length_s in zip(outputs, lengths_s, strict=True):
        if not event["valid"]:
            total[str(event.get("reason") or NO_REASON)] += length_s
    return unknown_text([(reason, length_s) for reason, length_s in total.most_common()], 1.0)


def _notices(events: Sequence[Event]) -> Html:
    found = [event for event in events if event.get("type") == "notice"]
    if not found:
        return NOTHING
    t0_s = float(events[0]["wall_s"])
    rows = [(duration(e["wall_s"] - t0_s), str(e["level"]), str(e["text"])) for e in found[:N_NOTICES]]
    told = table(("after", "level", "what"), rows, n_words=3)
    more = len(found) - len(rows)
    return join([told, el("p", f"{more:,} more are in events.jsonl.", class_="small")]) if more else told


def _streams(streams: Mapping[str, Any], heartbeats: Mapping[str, Event]) -> Html:
    rows = []
    for name, info in streams.items():
        if info:
            heartbeat = heartbeats.get(name, {})
            shape = info.get("frame_shape")
            rows.append(
                (
                    name or "main",
                    str(info["name"]),
                    ", ".join(map(str, info["channels"]))
                    + (f" of {shape[0]} × {shape[1]} pixels" if shape else ""),
                    f"{info['sfreq']:g} Hz",
                    f"{number(heartbeat.get('measured_sfreq'), 3)} Hz" if heartbeat else "–",
                    str(heartbeat.get("stamps", "–")),
                )
            )
    return (
        table(("stream", "name", "channels", "rate told", "rate measured", "time stamps"), rows, n_words=3)
        if rows
        else NOTHING
    )


def _rig_file(record: RunRecord) -> Html:
    return folded("config.yaml", el("pre", record.config_text)) if record.config_text.strip() else NOTHING


def _provenance(record: RunRecord, start: Event) -> Html:
    run = record.run
    end = run.get("end") or {}
    versions = ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items() if version)
    return facts(
        [
            ("folder", str(record.folder.resolve())),
            ("run", str(run.get("run_id"))),
            ("began", str((run.get("start") or {}).get("utc"))),
            ("ended", f"{end.get('utc', 'not recorded')}: {(end.get('summary') or {}).get('stop_reason', '–')}"),
            ("machine", f"{run.get('host')}, {run.get('platform')}"),
            ("versions", versions),
            ("bundle", str(start.get("bundle", "none"))),
            ("SHA-256 of the bundle", str(run.get("bundle_hash") or "none")),
        ]
    )
