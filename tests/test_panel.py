from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live

from streamscore import events
from streamscore.clock import VirtualClock
from streamscore.errors import ConfigError
from streamscore.labels import AASM5, MOUSE3, RK6, RUNREST, UNKNOWN
from streamscore.outbox import Outbox
from streamscore.panel.art import GLYPHS, big_letters, clock, hypnogram, hypnogram_order, time_axis
from streamscore.panel.lines import PlainLines
from streamscore.panel.screen import FRAME_S, GRACE_S, Interrupt, LiveScreen, watch
from streamscore.panel.state import FINAL_WEIGHT, Columns, PanelState, Strip
from streamscore.panel.view import PanelView
from streamscore.record import NullRecorder
from streamscore.sinks.base import Sink
from streamscore.sinks.zmq_pub import Config, ZmqPub

SFREQ = 100.0
SHA256 = "5f8fda6a" + 56 * "0"
T0_S = 1000.0


class Run:
    """Events of a made-up run, one epoch of a second at a time; ``sent`` keeps what was told."""

    def __init__(
        self,
        labels: tuple[str, ...] = AASM5,
        mode: str = "live",
        run_id: str = "run-1",
        sinks: tuple[Sink, ...] = (),
    ) -> None:
        self.labels, self.mode = labels, mode
        self.sent: list[Any] = []
        self.clock = VirtualClock(T0_S)
        self.outbox = Outbox(run_id, self.clock, (self, *sinks), NullRecorder())  # type: ignore[arg-type]
        self.elapsed_s = 0.0
        self.state, self.valid, self.reason = UNKNOWN, False, "no data yet"
        self.probs: list[float] = []
        self.counters = {"samples": 0, "gaps": 0, "missing_samples": 0, "written_events": 7}
        self.stalled_s = 0.0

    def write(self, event: Any, text: str) -> None:
        self.sent.append(event)

    def poll(self) -> bool:
        return False

    def stamp(self) -> dict[str, Any]:
        return self.outbox.stamp(T0_S + self.elapsed_s)

    def start(self) -> None:
        self.outbox.send(
            events.StartEvent(
                **self.stamp(),
                stream="amp",
                sfreq=SFREQ,
                channels=["C3"],
                labels=list(self.labels),
                kinds=["final"],
                bundle="net",
                bundle_sha256=SHA256,
                mode=self.mode,
                hop_s=1.0,
                deadline_ms=1000.0,
                flushed_samples=0,
            )
        )

    def score(self, state: str, p: float = 0.8, n: int = 1, reason: str = "", kind: Any = "final") -> None:
        """Tell `n` seconds of `state`; with a `reason` they are not valid."""
        for _ in range(n):
            self.elapsed_s += 1.0
            self.clock.advance_to(T0_S + self.elapsed_s)
            stop = round(self.elapsed_s * SFREQ)
            self.counters["samples"] = stop - self.counters["missing_samples"]
            rest = (1 - p) / (len(self.labels) - 1) if self.labels else 0.0
            self.probs = [] if reason else [p if label == state else rest for label in self.labels]
            timing = {"lag_s": 0.0, "latency_ms": 4.25, "age_s": 0.00425, "bundle_sha256": SHA256}
            span = {"t_start_s": T0_S + self.elapsed_s - 30, "t_stop_s": T0_S + self.elapsed_s}
            now = {"state": state, "valid": not reason, "reason": reason}
            self.outbox.send(
                events.PosteriorEvent(
                    **self.stamp(), **timing, **span, **now, kind=kind, start=stop - 3000, stop=stop,
                    probs=self.probs, late=False,
                )
            )  # fmt: skip
            if (state, not reason) != (self.state, self.valid):
                change = {**now, "kind": kind, "previous": self.state, "probability": max(self.probs, default=0.0)}
                self.outbox.send(events.StateEvent(**self.stamp(), **timing, **span, **change))
            self.state, self.valid, self.reason = state, not reason, reason

    def beat(self, kind: Any = "heartbeat", **changed: Any) -> None:
        stage = {"n": 9.0, "p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 3.0}
        content: dict[str, Any] = {
            "state": self.state,
            "valid": self.valid,
            "reason": self.reason,
            "probs": self.probs,
            "labels": list(self.labels),
            "stream": "amp",
            "sfreq": SFREQ,
            "hop_s": 1.0,
            "mode": self.mode,
            "stalled_s": self.stalled_s,
            "latency": {"n": 9.0, "p50_ms": 4.25, "p99_ms": 812.0, "max_ms": 1300.0},
            "stages": {"transport": stage, "score": stage, "publish": stage},
            "deadline_ms": 1000.0,
            "misses": 2,
            "counters": dict(self.counters),
            "stamps": "exact",
            "measured_sfreq": 100.02,
            "last_command": "",
            "bundle": "net",
            "bundle_sha256": SHA256,
        }
        self.outbox.send(events.HeartbeatEvent(**self.stamp(), type=kind, **(content | changed)))

    def gap(self, start: int, n_samples: int, *, is_open: bool) -> None:
        self.outbox.send(
            events.GapEvent(**self.stamp(), open=is_open, start=start, n_samples=n_samples, reason="lost samples")
        )

    def command(self, action: Any = "on", *, sent: bool = True, command_id: int = 1) -> None:
        self.outbox.send(
            events.CommandEvent(
                **self.stamp(),
                command_id=command_id,
                action=action,
                duration_s=30.0 if action == "on" else 0.0,
                expires_s=0.0,
                reason="REM for 10.0 s, p = 0.93",
                mode=self.mode,
                sent=sent,
                age_s=0.0,
            )
        )

    def ack(self, *, accepted: bool = True, detail: str = "", command_id: int = 1) -> None:
        self.outbox.send(
            events.AckEvent(
                **self.stamp(),
                command_id=command_id,
                accepted=accepted,
                rig_time_s=0.0,
                round_trip_ms=1.31,
                detail=detail,
            )
        )

    def stop(self, reason: str = "stopped by request") -> None:
        self.outbox.send(events.StopEvent(**self.stamp(), reason=reason))


def fed(run: Run, skip: int = 0) -> PanelState:
    state = PanelState()
    for event in run.sent[skip:]:
        state.update(event)
    return state


def eventful_run(mode: str = "live") -> Run:
    """Warm-up, N2, REM with a command, a gap, and N2 again."""
    run = Run(mode=mode)
    run.start()
    run.beat()
    run.score(UNKNOWN, n=5, reason="warming up")
    run.score("N2", n=20)
    run.score("REM", 0.93, n=10)
    run.command(sent=mode == "live")
    if mode == "live":
        run.ack()
    run.gap(3500, 10, is_open=True)
    run.score(UNKNOWN, n=5, reason="gap (lost samples)")
    run.counters |= {"gaps": 1, "missing_samples": 500}
    run.gap(3500, 500, is_open=False)
    run.score("N2", 0.75, n=10)
    run.outbox.notice("warning", "disk is nearly full")
    run.beat()
    return run


def drawn(state: PanelState, width: int, height: int, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, legacy_windows=False)
    console.print(PanelView(state, **options))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


class TestState:
    def test_follows_states_with_their_beginning(self) -> None:
        run = Run()
        run.start()
        run.score("N2", 0.9, n=20)
        run.score("REM", 0.85, n=7)
        state = fed(run)
        assert (state.state, state.valid, state.probability) == ("REM", True, 0.85)
        assert (state.since_s, state.elapsed_s) == (21.0, 27.0)

    def test_elapsed_time_is_that_of_the_samples_even_when_stamps_run_on(self) -> None:
        run = Run()
        run.start()
        run.score("N2", n=3)
        run.clock.advance_to(T0_S + 500)
        run.elapsed_s = 500.0
        run.beat()
        assert fed(run).elapsed_s == 3.0

    def test_a_stall_does_not_end_up_in_the_strip(self) -> None:
        run = Run()
        run.start()
        run.score("N2", n=3)
        state = fed(run)
        stall = run.sent[-1].model_copy(update={"start": 300, "stop": 300, "state": UNKNOWN, "valid": False})
        before = state.strip.columns(10)
        state.update(stall)
        assert state.state == UNKNOWN
        assert state.strip.columns(10) == before

    def test_holes_in_seq_are_counted_and_the_heartbeat_repairs_the_state(self) -> None:
        run = Run()
        run.start()
        run.score("N2", n=2)
        run.score("REM", n=2)
        run.beat()
        state = PanelState()
        for event in (*run.sent[:3], run.sent[-1]):
            state.update(event)
        assert state.n_missed == len(run.sent) - 4
        assert state.newly_missed == state.n_missed
        assert state.state == "REM"
        assert state.since_s is None

    def test_late_join_misses_nothing_and_knows_the_time_but_not_the_beginning_of_the_state(self) -> None:
        run = Run()
        run.start()
        run.score("N2", n=50)
        n = len(run.sent)
        run.beat("snapshot")
        run.score("N2", n=3)
        state = fed(run, skip=n)
        assert state.n_missed == 0
        assert (state.sfreq, state.hop_s, state.labels) == (100.0, 1.0, AASM5)
        assert (state.elapsed_s, state.since_s, state.state) == (53.0, None, "N2")
        assert state.strip.columns(50).start_s == 50.0

    def test_joining_before_the_first_sample_is_not_late(self) -> None:
        run = Run()
        run.start()
        run.beat("snapshot")
        assert fed(run, skip=1).since_s == 0.0

    def test_another_run_on_the_endpoint_clears_everything(self) -> None:
        state = fed(eventful_run())
        again = Run(MOUSE3, "monitor", run_id="run-2")
        again.start()
        state.update(again.sent[0])
        assert (state.run, state.labels, state.mode) == ("run-2", MOUSE3, "monitor")
        assert (len(state.strip), len(state.notices), state.command, state.n_missed) == (0, 0, None, 0)

    def test_gap_command_ack_and_stop(self) -> None:
        run = eventful_run()
        run.stop()
        state = fed(run)
        assert state.gap is not None
        assert not state.gap.open
        assert state.command is not None
        assert state.ack is not None
        assert state.losses == {"missing_samples": 500}
        assert [(elapsed_s, notice.text) for elapsed_s, notice in state.notices] == [(50.0, "disk is nearly full")]
        assert state.stop is not None

    def test_is_on_until_the_duration_is_over_off_is_told_or_the_rig_refused(self) -> None:
        run = Run()
        run.command()
        assert fed(run).is_on(T0_S + 29.9)
        assert not fed(run).is_on(T0_S + 30.0)
        run.ack(accepted=False, detail="expired")
        assert not fed(run).is_on(T0_S + 1.0)
        assert fed(run).n_refused == 1
        run.command(command_id=2)
        run.ack(command_id=1)
        assert fed(run).is_on(T0_S + 1.0)
        run.command("off", command_id=3)
        assert not fed(run).is_on(T0_S + 1.0)

    def test_a_would_have_command_is_never_on(self) -> None:
        run = Run(mode="dry")
        run.command(sent=False)
        assert not fed(run).is_on(T0_S)

    def test_keeps_the_last_three_notices(self) -> None:
        run = Run()
        for k in range(5):
            run.outbox.notice("info", str(k))
        assert [notice.text for _, notice in fed(run).notices] == ["2", "3", "4"]


class TestStrip:
    def test_columns_grow_until_all_fits(self) -> None:
        strip = Strip()
        for second in range(1, 101):
            strip.add(second, "W" if second <= 60 else "N1")
        columns = strip.columns(20)
        assert (columns.start_s, columns.width_s) == (0.0, 5.0)
        assert columns.shares == [{"W": 1.0}] * 12 + [{"N1": 1.0}] * 8

    def test_shares_show_a_bout_that_is_shorter_than_a_column(self) -> None:
        strip = Strip()
        for second in range(1, 61):
            strip.add(second, "REM" if second > 45 else "NREM")
        assert strip.columns(1).shares == [{"NREM": 0.75, "REM": 0.25}]

    def test_time_without_outputs_is_unknown(self) -> None:
        strip = Strip()
        strip.add(1, "W")
        strip.add(4, "W")
        assert strip.columns(10).shares == [{"W": 1.0}, {UNKNOWN: 1.0}, {UNKNOWN: 1.0}, {"W": 1.0}]

    def test_columns_are_never_shorter_than_the_hop(self) -> None:
        strip = Strip()
        for epoch in range(1, 5):
            strip.add(30.0 * epoch, "W")
        columns = strip.columns(100, least_width_s=30.0)
        assert (columns.width_s, columns.shares) == (30.0, [{"W": 1.0}] * 4)

    def test_a_final_output_outvotes_provisional_ones(self) -> None:
        strip = Strip()
        for _ in range(1000):
            strip.add(1, "W")
        strip.add(1, "REM", FINAL_WEIGHT)
        shares = strip.columns(1).shares[0]
        assert shares["REM"] > 0.99

    def test_memory_is_bounded_and_nothing_is_forgotten(self) -> None:
        strip = Strip()
        strip.MAX_BINS = 64
        for minute in range(1, 60 * 24):
            strip.add(60.0 * minute, "W" if minute <= 720 else "N1")
        assert len(strip) <= 64
        columns = strip.columns(48)
        assert columns.start_s == 0.0
        assert columns.width_s * len(columns.shares) >= 24 * 3600 - 60
        assert columns.shares[0] == {"W": 1.0}
        assert columns.shares[-1] == {"N1": 1.0}


class TestArt:
    @pytest.mark.parametrize("word", [*AASM5, *RK6, *MOUSE3, *RUNREST, UNKNOWN])
    def test_every_state_has_large_letters(self, word: str) -> None:
        lines = big_letters(word)
        assert len({len(line) for line in lines}) == 1
        assert len(lines[0]) == sum(len(GLYPHS[c].split()[0]) for c in word.upper()) + len(word) - 1

    def test_a_word_without_drawings_is_written(self) -> None:
        assert big_letters("groom") == ["", "groom", ""]

    def test_hypnogram_puts_rem_below_wake(self) -> None:
        assert hypnogram_order(AASM5) == ["W", "REM", "N1", "N2", "N3"]
        assert hypnogram_order(RUNREST) == ["rest", "run"]

    def test_hypnogram_draws_states_shares_and_gaps(self) -> None:
        shares = [{"Wake": 1.0}, {"NREM": 0.5, "REM": 0.5}, {UNKNOWN: 1.0}, {"REM": 1.0}]
        lines = hypnogram(Columns(0.0, 10.0, shares), MOUSE3, 16, 1)
        assert [line.plain for line in lines] == [
            "Wake │▇ ░ ",
            "REM  │ ▄░▇",
            "NREM │ ▄░ ",
            "     └─00:00──────┴───",
        ]

    def test_two_rows_per_state_double_the_height(self) -> None:
        lines = hypnogram(Columns(0.0, 10.0, [{"run": 1.0}, {"run": 0.5}]), RUNREST, 12, 2)
        assert [line.plain for line in lines[:4]] == ["     │  ", "rest │  ", "     │▇ ", "run  │██"]

    @pytest.mark.parametrize("width_s", [1.0, 2.0, 3.0, 5.0, 30.0, 45.0, 240.0, 3600.0])
    @pytest.mark.parametrize("n_columns", [1, 10, 53, 100])
    def test_axis_has_its_width(self, n_columns: int, width_s: float) -> None:
        assert len(time_axis(n_columns, 0.0, width_s)) == n_columns + 1

    def test_clock(self) -> None:
        assert [clock(s) for s in (-1, 0, 61.9, 3599, 3600, 36061)] == [
            "00:00", "00:00", "01:01", "59:59", "1:00:00", "10:01:01",
        ]  # fmt: skip


class TestView:
    @pytest.mark.parametrize(("width", "height"), [(60, 20), (60, 24), (80, 24), (120, 40), (200, 60)])
    @pytest.mark.parametrize("silent_s", [0.0, 7.0])
    def test_fits_the_terminal_and_tells_the_facts(self, width: int, height: int, silent_s: float) -> None:
        lines = drawn(fed(eventful_run()), width, height, silent_s=silent_s)
        assert len(lines) <= height
        assert {cell_len(line) for line in lines} == {width}
        text = "\n".join(lines)
        facts = ["p 0.75", "since 00:41 (00:09)", "2 missed", "p50 4.2", "p99 812", "max 1300 of 1000 ms", "1 gap"]
        facts += ["last at 00:40", "missing 500", "ON", "done in 1.3 ms", "disk is nearly full", "net 5f8fda6a"]
        facts += (
            ["NO HEARTBEAT for 7 s", "nothing is heard"] if silent_s else ["STIMULATION ON", "valid", "lag 0 s"]
        )
        assert [fact for fact in facts if fact not in text] == []
        for label in AASM5:
            assert any(line[2:].startswith(f"{label:<4}│") for line in lines)

    @pytest.mark.parametrize(("mode", "words"), [("monitor", "MONITOR"), ("dry", "DRY"), ("live", "LIVE")])
    def test_mode_stands_on_top(self, mode: str, words: str) -> None:
        run = Run(mode=mode)
        run.start()
        assert drawn(fed(run), 80, 24)[1][3:].startswith(words)

    @pytest.mark.parametrize("height", range(1, 30))
    def test_any_height_keeps_to_itself(self, height: int) -> None:
        lines = drawn(fed(eventful_run()), 80, height)
        assert len(lines) <= max(height, 3)
        assert "LIVE" in lines[1]

    @pytest.mark.parametrize("labels", [RK6, MOUSE3, RUNREST, ()])
    def test_any_vocabulary(self, labels: tuple[str, ...]) -> None:
        run = Run(labels, "monitor")
        run.start()
        run.score(labels[-1] if labels else UNKNOWN, n=3, reason="" if labels else "no bundle")
        run.beat()
        lines = drawn(fed(run), 80, 24)
        assert len(lines) <= 24
        assert {cell_len(line) for line in lines} == {80}

    def test_open_gap_and_stall(self) -> None:
        run = Run()
        run.start()
        run.score("N2", n=61)
        run.gap(6100, 10, is_open=True)
        run.stalled_s = 4.3
        run.score(UNKNOWN, reason="stalled: no samples for 2 s")
        run.beat()
        text = "\n".join(drawn(fed(run), 100, 24))
        assert "NO SAMPLES for 4 s · GAP since 01:01: lost samples" in text
        assert "stalled: no samples for 2 s" in text

    def test_unacknowledged_and_refused_commands(self) -> None:
        run = Run()
        run.start()
        run.command()
        assert "waiting for the rig" in "\n".join(drawn(fed(run), 80, 24))
        run.ack(accepted=False, detail="expired 12 ms ago")
        text = "\n".join(drawn(fed(run), 80, 24))
        assert "REFUSED: expired 12 ms ago" in text
        assert "commands refused: 1" in text

    def test_the_end(self) -> None:
        run = eventful_run()
        run.stop("the source ended")
        lines = drawn(fed(run), 80, 24, silent_s=100.0)
        assert "ENDED · the source ended" in lines[1]
        assert "HEARTBEAT" not in "".join(lines)

    def test_before_the_first_message(self) -> None:
        lines = drawn(PanelState(), 80, 24, endpoint="tcp://127.0.0.1:5580", silent_s=4.0)
        assert "waiting for a run at tcp://127.0.0.1:5580" in lines[1]

    def test_losses_that_matter_most_come_first(self) -> None:
        run = Run()
        run.start()
        run.beat(counters={"samples": 9, "late_samples": 3, "dropped_chunks": 1, "gaps": 0})
        assert "dropped chunks 1 · late 3" in "\n".join(drawn(fed(run), 80, 24))

    def test_missed_and_unreadable_messages(self) -> None:
        run = eventful_run()
        state = fed(run)
        state.n_missed, state.n_unreadable = 3, 1
        assert "messages missed: 3 · messages not understood: 1 · net 5f8fda6a" in drawn(state, 120, 24)[-1]

    def test_text_from_elsewhere_cannot_drive_the_terminal(self) -> None:
        run = Run(run_id="run\x1b[2J")
        run.start()
        run.outbox.notice("error", "one\ntwo \x1b[2J three \N{CJK UNIFIED IDEOGRAPH-8133}" * 9)
        lines = drawn(fed(run), 60, 24)
        assert {cell_len(line) for line in lines} == {60}
        assert not any("\x1b" in line for line in lines)
        assert any("one two" in line for line in lines)


class TestLines:
    def told(self, run: Run) -> list[str]:
        state, lines = PanelState(), PlainLines("tcp://x:1")
        told = []
        for event in run.sent:
            state.update(event)
            told += lines.event(state, event)
        return told

    def test_exactly(self) -> None:
        run = eventful_run()
        run.stop()
        assert self.told(run) == [
            "  00:00 start   run run-1, mode LIVE, stream amp, 100 Hz, bundle net 5f8fda6a, deadline 1000 ms",
            "  00:06 state   UNKNOWN -> N2 (p 0.80, latency 4.2 ms)",
            "  00:26 state   N2 -> REM (p 0.93, latency 4.2 ms)",
            "  00:35 command #1 on for 30 s (sent): REM for 10.0 s, p = 0.93",
            "  00:35 ack     #1 accepted after 1.3 ms",
            "  00:35 gap     opens: lost samples",
            "  00:36 state   REM -> UNKNOWN (gap (lost samples))",
            "  00:40 gap     closes after 500 samples (5.00 s): lost samples",
            "  00:41 state   UNKNOWN -> N2 (p 0.75, latency 4.2 ms)",
            "  00:50 notice  warning: disk is nearly full",
            "  00:50 status  N2 p 0.75, mode LIVE, lag 0 s, latency p50 4.2 p99 812 max 1300 of 1000 ms, "
            "2 missed, missing samples 500",
            "  00:50 stop    stopped by request",
        ]

    def test_dry_mode_and_refusal(self) -> None:
        run = Run(mode="dry")
        run.command(sent=False)
        run.command("off", command_id=2)
        run.ack(accepted=False, detail="not acknowledged in time", command_id=2)
        assert self.told(run) == [
            "  00:00 command #1 on for 30 s (not sent, mode dry): REM for 10.0 s, p = 0.93",
            "  00:00 command #2 off (sent): REM for 10.0 s, p = 0.93",
            "  00:00 ack     #2 REFUSED (not acknowledged in time) after 1.3 ms",
        ]

    def test_status_every_ten_seconds_of_wall_time(self) -> None:
        run = Run()
        run.start()
        for _ in range(35):
            run.score("N2")
            run.beat(stalled_s=1.4)
        status = [line for line in self.told(run) if "status" in line]
        assert [line.split()[0] for line in status] == ["00:10", "00:20", "00:30"]
        assert "no samples for 1 s" in status[0]

    def test_late_join_hole_and_silence(self) -> None:
        run = Run()
        run.start()
        run.score("N2", n=3)
        run.sent.clear()
        run.beat("snapshot")
        run.stamp()
        run.beat()
        state, lines = PanelState(), PlainLines("tcp://x:1")
        assert lines.idle(state, 0.5, "") == []
        assert lines.idle(state, 1.1, "") == ["  00:00 watch   waiting for a run at tcp://x:1"]
        assert lines.idle(state, 2.0, "") == []
        state.update(run.sent[0])
        assert lines.event(state, run.sent[0]) == [
            "  00:03 join    run run-1, mode LIVE, stream amp, 100 Hz, bundle net 5f8fda6a, deadline 1000 ms, "
            "state N2 p 0.80"
        ]
        assert lines.idle(state, 3.0, "") == []
        assert lines.idle(state, 3.1, "") == ["  00:03 watch   no heartbeat for 3 s"]
        assert lines.idle(state, 13.0, "") == []
        assert lines.idle(state, 13.2, "") == ["  00:03 watch   no heartbeat for 13 s"]
        state.update(run.sent[1])
        assert lines.event(state, run.sent[1]) == [
            "  00:03 watch   the engine is heard again",
            "  00:03 watch   missed 1 messages, 1 in all",
        ]
        state.n_unreadable += 1
        assert lines.idle(state, 0.0, "ending") == [
            "  00:03 watch   1 messages in all were not understood",
            "  00:03 watch   ending",
        ]


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


@contextmanager
def watching(endpoint: str, console: Console, **options: Any) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=watch, args=(endpoint, console), kwargs=options, daemon=True)
    thread.start()
    yield thread
    thread.join(10.0)
    assert not thread.is_alive(), "watch did not end"


@pytest.fixture
def pub() -> Iterator[ZmqPub]:
    sink = ZmqPub(Config(endpoint="tcp://127.0.0.1:*"))
    yield sink
    sink.close()


class TestWatch:
    def test_late_joiner_gets_the_snapshot_and_ends_with_the_run(self, pub: ZmqPub) -> None:
        run = Run(sinks=(pub,))
        run.start()
        run.score("N2", n=3)
        console = Console(file=io.StringIO(), width=80)
        seen: list[events.AnyEvent] = []
        with watching(pub.endpoint, console, plain=True, on_event=seen.append):
            wait_until(pub.poll)
            run.beat("snapshot")
            run.score("REM", 0.9)
            pub._socket.send(b'{"type": "posterior"}')
            run.stop()
        assert [event.type for event in seen] == ["snapshot", "posterior", "state", "stop"]
        assert isinstance(console.file, io.StringIO)
        lines = console.file.getvalue().splitlines()
        told = [line.split()[1] for line in lines if "watch" not in line]
        assert told == ["join", "state", "stop"]
        # When a message that was not understood is told depends on when the screen has time for it.
        assert "  00:04 watch   1 messages in all were not understood" in lines

    def test_panel_leaves_its_last_picture(self, pub: ZmqPub) -> None:
        run = Run(sinks=(pub,))
        console = Console(
            file=io.StringIO(),
            width=80,
            height=24,
            force_terminal=True,
            legacy_windows=False,
            _environ={"TERM": "xterm"},
        )
        with watching(pub.endpoint, console, plain=False, title="my night"):
            wait_until(pub.poll)
            run.start()
            run.score("REM", 0.9, n=5)
            run.stop()
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        other_page, last_picture = text.split("\x1b[?1049l")
        assert other_page.startswith("\x1b[?1049h")
        assert "ENDED · stopped by request" in last_picture
        assert "my night" in last_picture

    def test_until_ends_it_after_what_was_sent(self, pub: ZmqPub) -> None:
        run = Run(sinks=(pub,))
        console = Console(file=io.StringIO())
        over = threading.Event()
        with watching(pub.endpoint, console, plain=True, until=over.is_set):
            wait_until(pub.poll)
            run.start()
            wait_until(lambda: "start" in console.file.getvalue())  # type: ignore[attr-defined]
            over.set()

    def test_sigterm_ends_it_and_handlers_are_put_back(self, pub: ZmqPub) -> None:
        run = Run(sinks=(pub,))

        def publish() -> None:
            wait_until(pub.poll)
            run.start()

        before = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=publish)
        thread.start()
        console = Console(file=io.StringIO())
        watch(pub.endpoint, console, plain=True, on_event=lambda _: signal.raise_signal(signal.SIGTERM))
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is before

    def test_ctrl_c_waits_for_the_end_of_the_run(self, pub: ZmqPub) -> None:
        run = Run(sinks=(pub,))
        seen: list[events.AnyEvent] = []

        def publish() -> None:
            wait_until(pub.poll)
            run.start()
            wait_until(lambda: "waiting for the end" in console.file.getvalue())  # type: ignore[attr-defined]
            run.stop()

        def interrupt_once(event: events.AnyEvent) -> None:
            seen.append(event)
            if event.type == "start":
                signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=publish)
        console = Console(file=io.StringIO())
        thread.start()
        watch(pub.endpoint, console, plain=True, on_event=interrupt_once)
        thread.join()
        assert [event.type for event in seen] == ["start", "stop"]

    def test_closed_reader_ends_it_quietly(self, pub: ZmqPub) -> None:
        run = Run(sinks=(pub,))
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as file:
            with watching(pub.endpoint, Console(file=file), plain=True):
                wait_until(pub.poll)
                run.start()
            file.write("goes nowhere, without an error")

    def test_what_cannot_be_encoded_is_replaced(self, pub: ZmqPub) -> None:
        run = Run(sinks=(pub,))
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding="ascii")
        with watching(pub.endpoint, Console(file=file), plain=False):
            wait_until(pub.poll)
            run.stop("→ off")
        assert raw.getvalue().split()[-3:] == [b"stop", b"?", b"off"]

    def test_wrong_endpoint_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="tcp://HOST:PORT"):
            watch("localhost", Console(file=io.StringIO()), plain=True)

    def test_pictures_are_drawn_when_something_changed_and_not_too_often(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = VirtualClock()
        monkeypatch.setattr("streamscore.panel.screen.time.monotonic", clock.now_s)
        pictures: list[PanelView] = []

        class Shown(Live):
            def update(self, renderable: Any, *, refresh: bool = False) -> None:
                assert refresh
                pictures.append(renderable)

        screen = LiveScreen(Shown(auto_refresh=False), "", "")
        run = eventful_run()
        state = fed(run)
        screen.idle(state, 0.0, "")
        for event in run.sent:
            screen.event(state, event)
            screen.idle(state, 0.0, "")
        assert len(pictures) == 1, "two pictures at one time"
        clock.advance_to(FRAME_S)
        screen.idle(state, 0.0, "")
        assert len(pictures) == 2
        clock.advance_to(0.9)
        screen.idle(state, 0.0, "")
        assert len(pictures) == 2, "nothing had changed"
        clock.advance_to(2.0)
        screen.idle(state, 0.0, "")
        assert len(pictures) == 3

    def test_interrupt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = VirtualClock()
        monkeypatch.setattr("streamscore.panel.screen.time.monotonic", clock.now_s)
        once, twice, term = Interrupt(), Interrupt(), Interrupt()
        once.handle(signal.SIGINT, None)
        assert not once.is_due()
        clock.advance_to(GRACE_S)
        assert once.is_due()
        twice.handle(signal.SIGINT, None)
        twice.handle(signal.SIGINT, None)
        assert twice.is_due()
        term.handle(signal.SIGTERM, None)
        assert term.is_due()

    def test_starts_without_the_heavy_libraries(self) -> None:
        code = "import sys, streamscore.panel; print(*{'torch', 'numpy', 'scipy', 'pylsl'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""
