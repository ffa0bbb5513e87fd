"""What a demo proved, from the record of the run and the lines of the rig and the player."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from streamscore.errors import LoopError
from streamscore.hypnogram import Hypnogram
from streamscore.metrics import Agreement, compare
from streamscore.record import RunRecord, read_run
from streamscore.recordings.base import Recording
from streamscore.recordings.base import read_recording as read_raw
from streamscore.score import posterior_from


@dataclass(frozen=True)
class Outcome:
    """What the processes left behind."""

    plan_bundle: str | None
    recording: Recording
    speed: float
    run_folder: Path
    engine_exit: int
    engine_errors: str
    t0_s: float
    rig_lines: tuple[dict[str, Any], ...]
    player_lines: tuple[dict[str, Any], ...]


def report(console: Console, outcome: Outcome) -> None:
    """Print the tables; raise :class:`LoopError` naming every link of the loop that did not hold."""
    if outcome.engine_exit != 0:
        raise LoopError(f"the engine ended with exit code {outcome.engine_exit}: {outcome.engine_errors}")
    record = read_run(outcome.run_folder)
    problems = _check_record(record, outcome)
    if outcome.plan_bundle:
        agreement = _agreement(record, outcome)
        print_agreement(console, agreement, "epochs")
        problems += check_commands(record, outcome.rig_lines)
        if agreement.coverage == 0:
            problems.append("no epoch was scored")
    deadline = f"at {outcome.speed:g}×"
    console.print(run_table(record, outcome.rig_lines, "after the end of the scored epoch", deadline))
    console.print(f"record of the run: {outcome.run_folder}", soft_wrap=True)
    if problems:
        raise LoopError("the loop did not close: " + "; ".join(problems))
    if outcome.plan_bundle:
        console.print("[bold green]the loop closed[/bold green]")
    else:
        console.print("[bold green]streamed, aligned and recorded[/bold green] (nothing was scored)")


def _check_record(record: RunRecord, outcome: Outcome) -> list[str]:
    """Whether everything that was played is in the record, at its time."""
    problems = []
    raw = read_raw(record.raw_path)
    recording = outcome.recording
    columns = [recording.channels.index(name) for name in raw.channels if name in recording.channels]
    played = recording.data[:, columns]
    if raw.data.shape != played.shape:
        problems.append(f"{played.shape[0]} samples were played, {raw.data.shape[0]} recorded")
    elif not np.array_equal(raw.data, played, equal_nan=True):
        problems.append("recorded samples differ from those played")
    else:
        expected_s = recording.stamps_s - recording.stamps_s[0] + outcome.t0_s
        worst_s = float(np.abs(raw.stamps_s - expected_s).max())
        if worst_s > 0.5 / recording.sfreq:
            problems.append(f"recorded stamps are off by up to {1e3 * worst_s:.3f} ms")
    return problems + check_log(record)


def check_log(record: RunRecord) -> list[str]:
    """Whether no event is missing."""
    seqs = [event["seq"] for event in record.events]
    return [] if seqs == list(range(len(seqs))) else ["the event log has holes"]


def check_commands(record: RunRecord, rig_lines: Sequence[dict[str, Any]]) -> list[str]:
    """Whether every command arrived, was acknowledged and showed at the rig."""
    sent = [e for e in record.events if e["type"] == "command" and e["sent"]]
    acked = {e["command_id"] for e in record.events if e["type"] == "ack" and e["accepted"]}
    edges = {line.get("command_id") for line in rig_lines if line.get("edge") == "on"}
    problems = []
    if not any(e["action"] == "on" for e in sent):
        problems.append("no command was sent")
    lost = [e["command_id"] for e in sent if e["command_id"] not in acked]
    if lost:
        problems.append(f"commands {lost} were not acknowledged")
    dark = [e["command_id"] for e in sent if e["action"] == "on" and e["command_id"] not in edges]
    if dark:
        problems.append(f"commands {dark} did not switch the rig on")
    return problems


def _agreement(record: RunRecord, outcome: Outcome) -> Agreement:
    recording = outcome.recording
    posteriors = [posterior_from(e) for e in record.events if e["type"] == "posterior"]
    start = next(e for e in record.events if e["type"] == "start")
    t0_s = outcome.t0_s + recording.states_t0_s - float(recording.stamps_s[0])
    labels = tuple(start["labels"])
    hypnogram = Hypnogram.from_posteriors(posteriors, labels, recording.epoch_s, t0_s)
    n = min(len(hypnogram), len(recording.states))
    return compare(recording.states[:n], hypnogram.codes[:n], labels)


def print_agreement(console: Console, agreement: Agreement, what: str) -> None:
    """Print how `what` (epochs, frames) were scored."""
    table = Table(title=f"true state (rows) against scored state, {what}", title_justify="left")
    table.add_column("")
    for label in agreement.labels:
        table.add_column(label, justify="right")
    for label, row in zip(agreement.labels, agreement.confusion, strict=True):
        table.add_row(label, *(str(n) for n in row))
    console.print(table)
    console.print(
        f"accuracy {agreement.accuracy:.3f} · κ {agreement.kappa:.3f} · "
        f"{100 * agreement.coverage:.1f} % of the labelled {what} scored"
    )


def run_table(record: RunRecord, rig_lines: Sequence[dict[str, Any]], lag_after: str, deadline_is: str) -> Table:
    """Return what the main stream of a run says about lag, latency, losses and commands.

    Parameters
    ----------
    record
        Of the run.
    rig_lines
        What the rig told.
    lag_after, deadline_is
        How to go on after a lag and after a deadline.
    """
    main = [event for event in record.events if not event.get("lane")]
    beat = next(e for e in reversed(main) if e["type"] == "heartbeat")
    commands = [e for e in main if e["type"] == "command"]
    acks = [e for e in main if e["type"] == "ack"]
    edges = [line for line in rig_lines if "command_age_ms" in line]
    valid = [e for e in main if e["type"] == "posterior" and e["valid"]]
    latency = beat["latency"]
    table = Table(title="the run", show_header=False, title_justify="left")
    lag_s = valid[-1]["lag_s"] if valid else 0.0
    table.add_row("lag (algorithmic)", f"{lag_s:g} s {lag_after}")
    table.add_row(
        "latency (measured)",
        f"p50 {latency['p50_ms']:.2f} ms · p99 {latency['p99_ms']:.2f} ms · max {latency['max_ms']:.2f} ms",
    )
    table.add_row(
        "deadline", f"{beat['deadline_ms']:.1f} ms {deadline_is}; {beat['misses']} of {latency['n']:.0f} missed"
    )
    counters = beat["counters"]
    table.add_row(
        "samples",
        f"{counters['samples']} taken in, {counters['missing_samples']} missing in {counters['gaps']} gaps",
    )
    ages = [1e3 * e["age_s"] for e in commands if e["action"] == "on"]
    at_rig = [line["command_age_ms"] for line in edges]
    table.add_row("commands", f"{len(commands)}, {sum(a['accepted'] for a in acks)} acknowledged")
    if ages:
        table.add_row("age of the posterior behind it", _spread(ages))
    if at_rig:
        table.add_row("age of the command at the rig", _spread(at_rig))
    return table


def _spread(values_ms: list[float]) -> str:
    low, high = np.percentile(values_ms, [50, 99])
    return f"p50 {low:.2f} ms · p99 {high:.2f} ms · max {max(values_ms):.2f} ms"
