"""What a demo with a camera proved, from the record of the run and the lines of the rig and the camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from streamscore.errors import LoopError
from streamscore.metrics import Agreement, compare
from streamscore.record import RunRecord, read_run
from tools.demo_report import check_commands, check_log, print_agreement, run_table

#: Counters of the source that tell what became of frames; told where they are not zero.
FRAME_COUNTERS = ("frames", "refused", "lost", "cycles")


@dataclass(frozen=True)
class CameraOutcome:
    """What the processes left behind.

    Parameters
    ----------
    sfreq
        Cycles of all lights a second.
    run_folder, engine_exit, engine_errors
        Of the engine.
    rig_lines, camera_lines
        What rig and camera told; the camera tells its start, each true state with the sample at which it began,
        and how many frames it sent.
    """

    sfreq: float
    run_folder: Path
    engine_exit: int
    engine_errors: str
    rig_lines: tuple[dict[str, Any], ...]
    camera_lines: tuple[dict[str, Any], ...]

    def line(self, event: str) -> dict[str, Any]:
        """First line of the camera with this ``event``; empty if there is none."""
        return next((line for line in self.camera_lines if line.get("event") == event), {})


@dataclass(frozen=True)
class Truth:
    """True states: state `k` of `states` from ``begins_s[k]`` of stream time on."""

    begins_s: npt.NDArray[np.float64]
    states: tuple[str, ...]

    @classmethod
    def of(cls, outcome: CameraOutcome) -> Truth:
        """Read it from the lines of the camera."""
        told = [line for line in outcome.camera_lines if line.get("event") == "truth"]
        t0_s = float(outcome.line("started")["t0_s"])
        begins_s = np.array([t0_s + line["sample"] / outcome.sfreq for line in told])
        return cls(begins_s, tuple(line["state"] for line in told))

    def at(self, t_s: npt.NDArray[np.float64]) -> list[str]:
        """States at times that are not before the first."""
        k = np.maximum(np.searchsorted(self.begins_s, t_s, side="right") - 1, 0)
        return [self.states[i] for i in k.tolist()]


def report(console: Console, outcome: CameraOutcome) -> None:
    """Print the tables; raise :class:`LoopError` naming every link of the loop that did not hold."""
    if outcome.engine_exit != 0:
        raise LoopError(f"the engine ended with exit code {outcome.engine_exit}: {outcome.engine_errors}")
    record = read_run(outcome.run_folder)
    finished = outcome.line("finished")
    problems = check_log(record) + check_commands(record, outcome.rig_lines)
    if not finished:
        problems.append("the camera did not come to its end")
    truth = Truth.of(outcome)
    agreement = _agreement(record, truth, outcome.sfreq)
    if agreement.confusion.sum() == 0:
        problems.append("no frame was scored")
    print_agreement(console, agreement, "frames")
    _print_onsets(console, record, truth)
    table = run_table(record, outcome.rig_lines, "after the frame", f"({1e3 / outcome.sfreq:.1f} ms a cycle)")
    _add_camera(table, record, finished)
    console.print(table)
    console.print(f"record of the run: {outcome.run_folder}", soft_wrap=True)
    if problems:
        raise LoopError("the loop did not close: " + "; ".join(problems))
    console.print("[bold green]the loop closed[/bold green]")


def _agreement(record: RunRecord, truth: Truth, sfreq: float) -> Agreement:
    """Compare what was told of each frame when it came with what was true of it."""
    start = next(e for e in record.events if e["type"] == "start" and not e.get("lane"))
    labels = tuple(start["labels"])
    told = [e for e in record.events if e["type"] == "posterior" and not e.get("lane") and e["kind"] == "final"]
    true = truth.at(np.array([e["t_stop_s"] - 1.0 / sfreq for e in told]))
    scored = [labels.index(e["state"]) if e["valid"] else -1 for e in told]
    return compare([labels.index(state) for state in true], scored, labels)


def _print_onsets(console: Console, record: RunRecord, truth: Truth) -> None:
    """Tell how soon each true state was recognised, if it was before it ended."""
    states = [e for e in record.events if e["type"] == "state" and not e.get("lane")]
    ends_s = [*truth.begins_s[1:].tolist(), np.inf]
    table = Table(title="how soon each state was told", title_justify="left")
    for column in ("began at", "lasted", "state", "told after"):
        table.add_column(column, justify="left" if column == "state" else "right")
    last_s = max((e["t_s"] for e in states), default=0.0)
    ready_s = min((e["t_s"] for e in states if e["valid"]), default=np.inf)
    for begin_s, end_s, state in zip(truth.begins_s.tolist(), ends_s, truth.states, strict=True):
        if begin_s > last_s:
            break  # frames are made ahead of their time: this one was never shown
        now = [e["state"] for e in states if e["t_s"] <= begin_s][-1:]
        hits = [e["t_s"] - begin_s for e in states if begin_s < e["t_s"] < end_s and e["state"] == state]
        told = f"{hits[0]:.1f} s" if hits else "not told"
        after = "warming up" if end_s <= ready_s else "at once" if now == [state] else told
        length = f"{end_s - begin_s:.0f} s" if np.isfinite(end_s) else "–"
        table.add_row(f"{begin_s - truth.begins_s[0]:.0f} s", length, state, after)
    console.print(table)


def _add_camera(table: Table, record: RunRecord, finished: dict[str, Any]) -> None:
    beat = next(e for e in reversed(record.events) if e["type"] == "heartbeat" and not e.get("lane"))
    table.add_row(
        "camera", f"{finished.get('frames', 0)} frames sent, {finished.get('lost', 0)} lost on purpose, "
                  f"{finished.get('refused', 0)} that nobody took"
    )  # fmt: skip
    losses = {name: n for name, n in beat["counters"].items() if n and name.startswith(FRAME_COUNTERS)}
    if losses:
        table.add_row(
            "what the engine saw", ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in losses.items())
        )
    gated = [e for e in record.events if e["type"] == "command" and e["reason"].startswith("gate shut")]
    if gated:
        table.add_row("gate", f"{len(gated)} times OFF: {gated[-1]['reason']}")
