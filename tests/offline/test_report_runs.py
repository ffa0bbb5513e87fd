"""Pages of runs on a rig and of trainings, and folders that are neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from offline.report.command import report_command
from offline.report.online_run import online_page
from offline.report.training_run import training_page
from streamscore import events
from streamscore.clock import VirtualClock
from streamscore.errors import RecordError
from streamscore.record import Recorder
from streamscore.types import StreamInfo
from tests.examples import EVENTS
from tests.offline.report_pages import SUBJECT, Parsed, training

LABELS = ["Wake", "NREM", "REM"]
SFREQ = 64.0


def _posterior(seq: int, state: str, latency_ms: float = 2.0, reason: str = "") -> events.PosteriorEvent:
    probs = [0.05, 0.05, 0.05]
    if state in LABELS:
        probs[LABELS.index(state)] = 0.9
    return events.PosteriorEvent(
        run="r1",
        seq=seq,
        t_s=104.0 + seq,
        wall_s=104.0 + seq,
        kind="final",
        start=64 * seq,
        stop=64 * seq + 256,
        t_start_s=100.0 + seq,
        t_stop_s=104.0 + seq,
        state=state,
        probs=probs if state in LABELS else [],
        valid=state in LABELS,
        reason=reason,
        lag_s=0.0,
        latency_ms=latency_ms,
        age_s=latency_ms / 1e3,
        late=latency_ms > 1000.0,
        bundle_sha256="ab" * 32,
    )


def _of_kind(kind: str, **changes: Any) -> events.Event:
    event = next(event for event in EVENTS if vars(event)["type"] == kind)
    return event.model_copy(update=changes)


def run(folder: Path, *, end: bool = True, source: str = "{kind: lsl, name: amp}", sent: bool = True) -> Path:
    """Record a run of 60 outputs: 5 unknown, 20 Wake, 25 NREM, 10 REM; one late, a gap, a command."""
    states = ["UNKNOWN"] * 5 + ["Wake"] * 20 + ["NREM"] * 25 + ["REM"] * 10
    recorder = Recorder(
        folder,
        run_id=f"r1 {SUBJECT}",
        streams={"": StreamInfo("amp <1>", SFREQ, ("EEG",), ("uV",))},
        clock=VirtualClock(),
        config_text=f"source: {source}\nbundle: nowhere\n",
        bundle_hash="ab" * 32,
    )
    recorder.event(_of_kind("start", mode="live", kinds=["final"]).model_dump_json())
    for seq, state in enumerate(states):
        late = 1500.0 if seq == 30 else 2.0
        recorder.event(_posterior(seq, state, late, "" if state in LABELS else "warming <up>").model_dump_json())
    recorder.event(_of_kind("gap", open=True).model_dump_json())
    recorder.event(_of_kind("gap", open=False, n_samples=128, reason="samples lost").model_dump_json())
    recorder.event(_of_kind("command", sent=sent, t_s=155.0).model_dump_json())
    recorder.event(_of_kind("ack").model_dump_json())
    recorder.event(_of_kind("notice").model_dump_json())
    latency = {"n": 60.0, "p50_ms": 2.0, "p99_ms": 2.0, "p999_ms": 1500.0, "max_ms": 1500.0}
    counters = {"samples": 4096, "gaps": 1, "missing_samples": 128, "late_samples": 0}
    heartbeat = _of_kind("heartbeat", latency=latency, stages={"score": latency}, misses=1, counters=counters)
    recorder.event(heartbeat.model_dump_json())
    recorder.close({"stop_reason": "stopped by request"})
    if not end:
        known = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**known, "end": None}))
        with (folder / "events.jsonl").open("a") as file:
            file.write('{"type": "posterior", "se')
    return folder


def test_a_run_is_told_with_states_latency_gaps_and_commands(tmp_path: Path) -> None:
    page = Parsed(report_command(run(tmp_path)).read_text(encoding="utf-8"))
    assert page.sections == [
        *("States", "Latency", "Gaps", "Losses", "Commands", "Notices", "Streams", "Rig file", "Provenance")
    ]
    assert "Not in this run: model card." in page.text  # the bundle is nowhere
    assert page.loads == []
    assert "script" not in page.names()
    assert f"Run r1 {SUBJECT}" in page.text
    for row in ("Wake|20 s|33.3 %|", "NREM|25 s|41.7 %|", "REM|10 s|16.7 %|", "unknown|5 s|8.3 %|"):
        assert row in page.text
    assert "Unknown: warming <up> (5 s)." in page.text
    assert "main|samples lost|1|2 s|2 s|" in page.text
    assert "main|missing samples|128|" in page.text
    assert "late samples" not in page.text
    assert "in all|from the newest sample needed to the end of all this|2 ms|2 ms|1,500 ms|1,500 ms|" in page.text
    assert "1 of 1" in page.text
    assert "accepted, 0.8 ms|" in page.text
    assert "stream 'amp' stalled" in page.text


def test_a_late_output_is_right_of_the_deadline(tmp_path: Path) -> None:
    page = online_page(run(tmp_path))
    latency = next(section for section in page.sections if section.title == "Latency").body
    assert "deadline 1,000 ms" in latency
    assert ("1", "outputs missed the deadline of 1,000 ms") in page.cards


def test_a_run_that_was_killed_says_so(tmp_path: Path) -> None:
    page = online_page(run(tmp_path, end=False))
    assert any("no end" in text for text in page.warnings)
    assert any("left out: 1." in text for text in page.notes)


@pytest.mark.parametrize("kind", ["synthetic", "synthetic_camera", "noise"])
def test_a_simulated_run_is_marked(tmp_path: Path, kind: str) -> None:
    assert online_page(run(tmp_path / "a")).warnings == []
    (warning,) = online_page(run(tmp_path / "b", source=f"{{kind: {kind}}}")).warnings
    assert warning.startswith("SIMULATED")


def test_what_was_not_sent_is_not_told_as_sent(tmp_path: Path) -> None:
    commands = next(s for s in online_page(run(tmp_path, sent=False)).sections if s.title == "Commands").body
    assert "0 of 1 commands" in Parsed(commands).text
    assert "acknowledged" not in commands


def test_a_run_without_scores_has_a_page(tmp_path: Path) -> None:
    recorder = Recorder(
        tmp_path,
        run_id="r2",
        streams={"": StreamInfo("amp", SFREQ, ("EEG",), ("uV",))},
        clock=VirtualClock(),
        config_text="source: {kind: lsl}\n",
    )
    recorder.close()
    page = Parsed(report_command(tmp_path).read_text(encoding="utf-8"))
    assert page.sections == ["Streams", "Rig file", "Provenance"]
    assert "the run ended before it began to score" in page.text


def test_a_training_is_told_stage_by_stage(tmp_path: Path) -> None:
    page = Parsed(report_command(training(tmp_path)).read_text(encoding="utf-8"))
    assert page.sections == ["Training", "Stages", "Subjects", "Recipe", "Provenance"]
    assert page.text.index("Stage z-first, 6 passes") < page.text.index("Stage a-second, 6 passes")
    assert "kept: 4" in page.text
    assert "kept: 5" in page.text
    assert "a-second|5 of 6|–|0.800|0.512|–|" in page.text
    assert f"test|1|{SUBJECT}|" in page.text
    assert page.loads == []


def test_a_training_that_is_not_done_says_so(tmp_path: Path) -> None:
    page = training_page(training(tmp_path, done=False))
    assert any("not finished" in text for text in page.notes)
    (tmp_path / "checkpoints" / "z-first" / "passes.jsonl").write_text("{broken\n")
    with pytest.raises(RecordError, match=r"passes\.jsonl: cannot be read"):
        training_page(tmp_path)


def test_other_folders_are_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such folder"):
        report_command(tmp_path / "absent")
    run(tmp_path / "20261121-a")
    with pytest.raises(RecordError, match=r"holds none of .*it holds runs: name one of 20261121-a"):
        report_command(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    run(tmp_path / "r")
    (tmp_path / "taken").mkdir()
    with pytest.raises(RecordError, match="taken"):
        report_command(tmp_path / "r", tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "taken"]


def test_the_command_says_where_the_page_is(tmp_path: Path) -> None:
    import typer

    from streamscore.cli_report import report

    app = typer.Typer()
    app.command()(report)
    result = CliRunner().invoke(app, [str(run(tmp_path / "r")), "--output", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "page.html" in result.output
