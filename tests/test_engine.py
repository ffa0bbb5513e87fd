from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from threading import Event as StopFlag
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamscore import events
from streamscore.bundle import Bundle
from streamscore.clock import VirtualClock
from streamscore.errors import BundleMismatchError, ConfigError
from streamscore.labels import UNKNOWN
from streamscore.policies import dwell
from streamscore.policies.base import Decision, Policy
from streamscore.types import Chunk, FloatArray, Posterior
from tests.bundles import EPOCH, HOP, SFREQ, expected, signal
from tests.streams import MemorySink, Run, ScriptedRig, chunks, run_engine, sizes

N = 12 * EPOCH
T0_S = 100.0
#: Samples of a flat line until it is called one.
FLAT = round(2.0 * SFREQ)
SCHEMA = jsonschema.Draft202012Validator(events.json_schema())
few = settings(max_examples=max(settings().max_examples // 3, 4))


@pytest.fixture(autouse=True, scope="module")
def _no_collection() -> Iterator[None]:
    """Leave the garbage of the test session alone: to collect it takes longer than a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        yield


def script(data: FloatArray, keep: Any = None, sizes: Sequence[int] = (16,), offset_s: float = 0.0) -> list[Chunk]:
    """Cut samples into chunks with exact stamps; only those of the index `keep` arrive."""
    stamps_s = T0_S + np.arange(len(data)) / SFREQ
    keep = slice(None) if keep is None else keep
    return chunks(data[keep], stamps_s[keep] - offset_s, sizes, offset_s)


def start_clock() -> VirtualClock:
    return VirtualClock(T0_S)


def assert_valid_are(run: Run, wanted: dict[int, np.ndarray]) -> None:
    """The valid posteriors of a run must be exactly `wanted`, within 1e-5."""
    got = {event.stop: event.probs for event in run.of("posterior") if event.valid}
    assert sorted(got) == sorted(wanted)
    for stop, probs in wanted.items():
        np.testing.assert_allclose(got[stop], probs, rtol=0, atol=1e-5, err_msg=f"epoch that ends at {stop}")


def assert_sound(run: Run) -> None:
    """What holds for the events of every run."""
    assert run.recorder.texts == run.sink.texts
    assert [event.seq for event in run.events] == list(range(len(run.events)))
    assert {event.run for event in run.events} == {"r1"}
    assert [event.type for event in run.events].count("start") == 1
    assert (run.events[0].type, run.events[-1].type) == ("start", "stop")
    assert all(a.wall_s <= b.wall_s for a, b in pairwise(run.events))
    for text in run.sink.texts:
        SCHEMA.validate(json.loads(text))
    states = run.of("state")
    assert all(a.state == b.previous for a, b in pairwise(states))
    gaps = run.of("gap")
    assert all(a.open != b.open for a, b in pairwise(gaps))
    assert not gaps or (gaps[0].open and not gaps[-1].open)


class TestScoring:
    """The whole way from chunks to events."""

    def test_posteriors_are_one_call_on_the_recording_for_each_phase(self, small: Bundle) -> None:
        data = signal(N)
        run = run_engine(small, script(data), clock=start_clock())
        assert_sound(run)
        assert_valid_are(run, expected(small, [(0, data)]))

    @few
    @given(sizes)
    def test_any_chunking_gives_the_same_events(self, small: Bundle, sizes: list[int]) -> None:
        data = signal(6 * EPOCH)
        keep = np.delete(np.arange(len(data)), np.s_[700:790])
        data[1100, 0] = np.nan
        told = []
        for pieces in (sizes, [len(data)]):
            run = run_engine(small, script(data, keep, pieces), clock=start_clock())
            told.append(
                [
                    (e.start, e.stop, e.state, e.valid, e.reason, np.round(e.t_stop_s, 9))
                    for e in run.of("posterior")
                ]
            )
            assert_valid_are(run, expected(small, [(0, data[:700]), (790, data[790:1100]), (1101, data[1101:])]))
        assert told[0] == told[1]

    @few
    @given(st.integers(1, 6 * EPOCH - 1))
    def test_truncating_the_future_changes_nothing_earlier(self, small: Bundle, n: int) -> None:
        data = signal(6 * EPOCH)
        whole = run_engine(small, script(data), clock=start_clock())
        past = run_engine(small, script(data[:n]), clock=start_clock())
        assert_valid_are(
            past, {e.stop: np.array(e.probs) for e in whole.of("posterior") if e.valid and e.stop <= n}
        )

    @few
    @given(st.data())
    def test_no_valid_posterior_touches_what_is_missing_or_bad(self, small: Bundle, data: st.DataObject) -> None:
        x = signal(10 * EPOCH)
        faults = st.tuples(st.integers(0, len(x) - 1), st.sampled_from([1, 2, 40, 300]), st.booleans())
        bad = np.zeros(len(x), bool)
        lost = np.zeros(len(x), bool)
        for at, n, is_lost in data.draw(st.lists(faults, max_size=5)):
            bad[at : at + n] = True
            if is_lost and at > 0:
                lost[at : at + n] = True
            else:
                x[at : at + n] = np.nan
        lost[0] = False
        arrived = np.flatnonzero(~lost)
        run = run_engine(small, script(x, arrived, data.draw(sizes)), clock=start_clock(), stall_s=1e6)
        edges = np.flatnonzero(np.diff(np.r_[1, bad[: arrived[-1] + 1], 1].astype(int)))
        runs = [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
        for event in run.of("posterior"):
            assert not (event.valid and bad[event.start : event.stop].any())
        assert_valid_are(run, expected(small, [(a, x[a:b]) for a, b in runs]))
        assert [e.stop for e in run.of("posterior")] == list(range(HOP, arrived[-1] + 2, HOP))
        assert_sound(run)

    def test_a_flat_line_is_unknown_from_where_it_was_called_one(self, small: Bundle) -> None:
        data = signal(N)
        data[4 * EPOCH : 6 * EPOCH] = 3.25
        called = 4 * EPOCH + FLAT - 1
        run = run_engine(small, script(data), clock=start_clock())
        assert_valid_are(run, expected(small, [(0, data[:called]), (6 * EPOCH, data[6 * EPOCH :])]))
        assert [(e.start, e.n_samples, e.reason) for e in run.of("gap") if not e.open] == [
            (called, 6 * EPOCH - called, "flat: EEG")
        ]
        assert run.summary.counters["flat_samples"] == 6 * EPOCH - called

    def test_a_network_that_overflows_is_unknown_and_counted(self, small: Bundle) -> None:
        with_bare_chain = Bundle(small.spec.model_copy(update={"preprocess": ()}), small.model, "")
        data = signal(N)
        data[5 * EPOCH + 5 : 5 * EPOCH + 45] = np.linspace(3.0e38, 3.3e38, 40)[:, None]
        run = run_engine(with_bare_chain, script(data), clock=start_clock())
        assert_sound(run)
        bad = [e for e in run.of("posterior") if e.reason == "non-finite network output"]
        assert [(e.state, e.valid, e.probs) for e in bad] == [(UNKNOWN, False, [])] * 4
        assert run.summary.counters["nonfinite_outputs"] == 4

    def test_duplicates_change_nothing(self, small: Bundle) -> None:
        data = signal(N)
        run = run_engine(small, script(data, np.repeat(np.arange(N), 2)), clock=start_clock())
        assert_valid_are(run, expected(small, [(0, data)]))
        assert run.summary.counters["duplicate_samples"] == N

    def test_without_a_bundle_every_hop_is_unknown_at_any_rate(self) -> None:
        stamps_s = T0_S + np.arange(1000) / 100.0
        run = run_engine(None, chunks(signal(1000), stamps_s, [33]), clock=start_clock(), sfreq=100.0)
        assert_sound(run)
        assert [(e.start, e.stop) for e in run.of("posterior")] == [(k * 100, (k + 1) * 100) for k in range(10)]
        assert {(e.state, e.valid, e.reason) for e in run.of("posterior")} == {(UNKNOWN, False, "no bundle")}
        assert run.of("start")[0].labels == []

    def test_stream_time_is_corrected_by_the_clock_offset_and_the_record_is_raw(self, small: Bundle) -> None:
        data = signal(3 * EPOCH)
        raw = script(data, offset_s=-40.0)
        run = run_engine(small, raw, clock=start_clock())
        assert [e.t_stop_s for e in run.of("posterior")] == pytest.approx([T0_S + (k + 1) for k in range(12)])
        assert [c.stamps_s[0] for c in run.recorder.chunks] == [c.stamps_s[0] for c in raw]
        assert {c.clock_offset_s for c in run.recorder.chunks} == {-40.0}


class TestEvents:
    """What is told beside posteriors."""

    def test_garbage_is_put_aside_during_a_run_and_taken_back_after_it(self, small: Bundle) -> None:
        counts: list[int] = []
        run_engine(small, [lambda: counts.append(gc.get_freeze_count())], clock=start_clock())
        assert counts[0] > 0
        assert gc.get_freeze_count() == 0

    def test_the_start_says_what_runs(self, small: Bundle) -> None:
        run = run_engine(small, script(signal(EPOCH)), clock=start_clock(), mode="dry")
        start = run.of("start")[0]
        assert (start.stream, start.sfreq, start.channels) == ("scripted", SFREQ, ["EEG"])
        assert (start.bundle, start.bundle_sha256, start.labels) == (
            "small",
            small.sha256,
            ["Wake", "NREM", "REM"],
        )
        assert (start.mode, start.hop_s, start.deadline_ms) == ("dry", 1.0, 1000.0)

    def test_a_state_event_follows_each_change_and_only_a_change(self, small: Bundle) -> None:
        run = run_engine(small, script(signal(N)), clock=start_clock())
        state = (UNKNOWN, False)
        for event, following in pairwise(run.events):
            if event.type == "posterior":
                changed = (event.state, event.valid) != state
                assert (following.type == "state") == changed
                if changed:
                    assert (following.state, following.previous) == (event.state, state[0])
                    assert following.t_s == event.t_s
                state = (event.state, event.valid)
        assert len(run.of("state")) > 2

    @pytest.mark.parametrize("size", [1, 16, 5000])
    def test_a_gap_is_told_at_its_onset_and_at_its_end(self, small: Bundle, size: int) -> None:
        data = signal(N)
        data[900:1000] = np.nan
        keep = np.delete(np.arange(N), np.s_[500:600])
        run = run_engine(small, script(data, keep, [size]), clock=start_clock())
        told = [(e.open, e.start, e.reason) for e in run.of("gap")]
        assert told == [
            (True, 500, "samples lost"),
            (False, 500, "samples lost"),
            (True, 900, "non-finite: EEG"),
            (False, 900, "non-finite: EEG"),
        ]
        assert [e.n_samples for e in run.of("gap") if not e.open] == [100, 100]
        times_s = [T0_S + index / SFREQ for index in (500, 600, 900, 1000)]
        assert [e.t_s for e in run.of("gap")] == pytest.approx(times_s)
        assert_sound(run)

    def test_a_gap_that_lasts_to_the_end_is_closed_by_it(self, small: Bundle) -> None:
        data = signal(N)
        data[2000:] = np.nan
        assert_sound(run_engine(small, script(data), clock=start_clock()))

    def test_heartbeats_come_each_second_with_or_without_data(self, small: Bundle) -> None:
        quiet = [*script(signal(3 * EPOCH)), 10.0]
        run = run_engine(small, quiet, clock=start_clock(), heartbeat_s=1.0)
        beats = [e.t_s for e in run.of("heartbeat")]
        assert len(beats) == pytest.approx(23, abs=2)
        assert max(b - a for a, b in pairwise(beats)) <= 1.36  # a heartbeat, a tick and a chunk
        assert run.of("heartbeat")[-1].stalled_s == pytest.approx(10.0, abs=0.1)
        assert_sound(run)

    def test_the_last_heartbeat_holds_the_final_state_and_counters(self, small: Bundle) -> None:
        data = signal(N)
        run = run_engine(small, script(data, np.delete(np.arange(N), np.s_[500:600])), clock=start_clock())
        beat, last = run.of("heartbeat")[-1], run.of("posterior")[-1]
        assert (beat.state, beat.valid, beat.probs) == (last.state, last.valid, last.probs)
        assert (beat.counters["gaps"], beat.counters["missing_samples"]) == (1, 100)
        assert run.summary.counters["samples"] == N - 100
        assert (beat.stamps, beat.measured_sfreq) == ("exact", pytest.approx(SFREQ))

    def test_lateness_is_measured_told_and_counted(self, small: Bundle) -> None:
        delayed = [
            Chunk(c.data, c.stamps_s, 0.0, c.received_s + 0.7) for c in script(signal(6 * EPOCH), sizes=[HOP])
        ]
        run = run_engine(small, delayed, clock=start_clock(), deadline_ms=600.0)
        assert all(e.latency_ms == pytest.approx(700.0) for e in run.of("posterior"))
        assert all(e.age_s == pytest.approx(0.7) for e in run.of("posterior"))
        assert all(e.late for e in run.of("posterior"))
        assert run.summary.misses == run.summary.posteriors == 24
        assert run.summary.latency_ms["p50_ms"] == pytest.approx(700.0, rel=0.03)

    def test_in_time_is_not_late(self, small: Bundle) -> None:
        run = run_engine(small, script(signal(6 * EPOCH)), clock=start_clock())
        assert not any(e.late for e in run.of("posterior"))
        assert (run.summary.misses, run.summary.latency_ms["max_ms"]) == (0, pytest.approx(0.0, abs=1e-6))


class TestStall:
    """A stream that falls silent."""

    def test_the_state_is_unknown_after_the_stall_time_and_once(self, small: Bundle) -> None:
        run = run_engine(small, [*script(signal(3 * EPOCH)), 20.0], clock=start_clock(), stall_s=2.0)
        (stalled,) = [e for e in run.of("state") if "stalled" in e.reason]
        assert (stalled.state, stalled.valid, stalled.reason) == (UNKNOWN, False, "stalled: no samples for 2 s")
        assert stalled.wall_s - run.recorder.chunks[-1].received_s == pytest.approx(2.1, abs=0.1)
        assert len([e for e in run.of("notice") if "stalled" in e.text]) == 1
        assert_sound(run)

    def test_no_stall_is_told_before_its_time(self, small: Bundle) -> None:
        chunks = script(signal(6 * EPOCH))
        run = run_engine(small, [*chunks[:48], 1.9, *chunks[48:]], clock=start_clock(), stall_s=2.0)
        assert not [e for e in run.events if "stalled" in getattr(e, "reason", "")]

    def test_a_stream_that_comes_back_is_scored_again(self, small: Bundle) -> None:
        data = signal(N)
        chunks = script(data, np.delete(np.arange(N), np.s_[768:1280]))
        run = run_engine(small, [*chunks[:48], 7.0, *chunks[48:]], clock=start_clock(), stall_s=2.0)
        assert_valid_are(run, expected(small, [(0, data[:768]), (1280, data[1280:])]))
        assert run.of("posterior")[-1].valid
        assert_sound(run)

    def test_a_stream_whose_clock_stands_still_is_unknown_too(self, small: Bundle) -> None:
        frozen = script(signal(6 * EPOCH))
        stuck = [Chunk(c.data, np.full(16, frozen[47].stamps_s[-1]), 0.0, c.received_s) for c in frozen[48:]]
        run = run_engine(small, [*frozen[:48], *stuck], clock=start_clock())
        assert run.of("posterior")[-1].stop == 6 * EPOCH
        assert not any(e.valid for e in run.of("posterior") if e.stop > 3 * EPOCH + HOP)

    def test_a_stream_that_loses_its_stamps_is_unknown_too(self, small: Bundle) -> None:
        good = script(signal(6 * EPOCH))
        blind = [Chunk(c.data, np.full(16, np.nan), 0.0, c.received_s) for c in good[48:]]
        run = run_engine(small, [*good[:48], *blind], clock=start_clock())
        assert [e.valid for e in run.of("posterior") if e.stop > 3 * EPOCH] == [False] * 12
        assert_sound(run)


def always(labels: tuple[str, ...], **changes: Any) -> Policy:
    """Act on any state, as long as there is one."""
    fields = {"states": labels, "dwell_s": 2.0, "duration_s": 6.0, "refractory_s": 10.0, **changes}
    return dwell.build(dwell.Config(**fields), labels)


class NeverAsked(Policy):
    """Fails when it is asked."""

    def update(self, posterior: Posterior, age_s: float) -> Decision | None:
        raise AssertionError("the policy was asked")


class TestModes:
    """What may leave the engine."""

    def test_monitor_never_asks_the_policy_and_sends_nothing(self, small: Bundle) -> None:
        clock = start_clock()
        rig = ScriptedRig(clock)
        run = run_engine(
            small, script(signal(N)), clock=clock, policy=lambda _: NeverAsked(), rig=rig, mode="monitor"
        )
        assert run.error is None
        assert run.of("posterior")[-1].valid
        assert (run.of("command"), rig.commands, run.summary.commands) == ([], [], 0)

    def test_dry_records_each_command_as_would_have_and_sends_nothing(self, small: Bundle) -> None:
        clock = start_clock()
        rig = ScriptedRig(clock)
        run = run_engine(small, script(signal(N)), clock=clock, policy=always, rig=rig, mode="dry")
        assert_sound(run)
        assert rig.commands == []
        assert [e.action for e in run.of("command")][:1] == ["on"]
        assert {(e.mode, e.sent) for e in run.of("command")} == {("dry", False)}
        assert run.of("ack") == []

    def test_live_sends_each_command_and_tells_its_acknowledgement(self, small: Bundle) -> None:
        clock = start_clock()
        rig = ScriptedRig(clock)
        run = run_engine(small, script(signal(N)), clock=clock, policy=always, rig=rig, mode="live")
        assert_sound(run)
        assert {(e.mode, e.sent) for e in run.of("command")} == {("live", True)}
        assert [c.command_id for c in rig.commands] == [e.command_id for e in run.of("command")]
        assert len({c.command_id for c in rig.commands}) == len(rig.commands)
        for command in rig.commands:
            assert command.expires_s == pytest.approx(command.issued_s + 1.0)
        acks = run.of("ack")
        assert [(a.command_id, a.accepted) for a in acks] == [
            (c.command_id, True) for c in rig.commands[: len(acks)]
        ]

    def test_dry_and_live_decide_alike(self, small: Bundle) -> None:
        told = []
        for mode in ("dry", "live"):
            clock = start_clock()
            run = run_engine(
                small, script(signal(N)), clock=clock, policy=always, rig=ScriptedRig(clock), mode=mode
            )
            told.append([(e.action, e.t_s, e.reason) for e in run.of("command")])
        assert told[0] == told[1]

    @pytest.mark.parametrize("fault", ["lost", "nan", "stall"])
    def test_whatever_hides_the_state_switches_off(self, small: Bundle, fault: str) -> None:
        clock = start_clock()
        rig = ScriptedRig(clock)
        data = signal(N)
        on_at = EPOCH + 2 * HOP  # the first epoch, and two seconds of dwell
        keep = np.arange(N)
        if fault == "lost":
            keep = np.delete(keep, np.s_[on_at + 70 : on_at + 300])
        elif fault == "nan":
            data[on_at + 70 : on_at + 300] = np.nan
        steps: list[Any] = script(data, keep)
        if fault == "stall":
            steps = [*steps[: (on_at + 70) // 16], 30.0]
        run = run_engine(small, steps, clock=clock, policy=always, rig=rig, mode="live")
        assert rig.actions[:2] == ["on", "off"]
        on, off = rig.commands[:2]
        assert on.t_s == pytest.approx(T0_S + on_at / SFREQ)
        assert off.issued_s - on.issued_s < 6.0
        assert any(word in off.reason for word in ("samples lost", "non-finite", "stalled"))
        assert_sound(run)


class TestEnds:
    """However a run ends, it ends with OFF, a reason and everything closed."""

    def run_until(self, small: Bundle, end: Any, **options: Any) -> tuple[Run, ScriptedRig]:
        """Run until the rig is on for a second, and then `end`."""
        clock = start_clock()
        rig = ScriptedRig(clock)
        n = (EPOCH + 3 * HOP) // 16
        steps = [*script(signal(N))[:n], end, *script(signal(N))[n:]]
        run = run_engine(small, steps, clock=clock, policy=always, rig=rig, mode="live", **options)
        assert rig.actions[:1] == ["on"]
        return run, rig

    def assert_closed(self, run: Run) -> None:
        assert run.source.n_closed >= 1
        assert run.sink.n_closed >= 1
        assert run.rig is None or run.rig.n_closed >= 1
        assert run.recorder.summaries[0] is not None
        assert gc.get_freeze_count() == 0

    @pytest.mark.parametrize(
        "error", [RuntimeError("amplifier on fire"), KeyboardInterrupt(), MemoryError("full")]
    )
    def test_an_error_of_the_source_switches_off_and_comes_out(self, small: Bundle, error: BaseException) -> None:
        run, rig = self.run_until(small, error)
        assert run.error is error
        assert rig.actions == ["on", "off"]
        assert run.of("stop")[0].reason.startswith(type(error).__name__)
        assert_sound(run)
        self.assert_closed(run)

    def test_an_error_of_the_scorer_switches_off_and_comes_out(self, small: Bundle) -> None:
        wrong = Chunk(
            np.zeros((16, 3), np.float32), np.zeros(16), 0.0, T0_S + 8.0
        )  # three channels instead of one
        wrong = Chunk(wrong.data, T0_S + (EPOCH + 3 * HOP + np.arange(16)) / SFREQ, 0.0, T0_S + 8.0)
        run, rig = self.run_until(small, wrong)
        assert isinstance(run.error, ValueError)
        assert rig.actions == ["on", "off"]
        assert run.of("stop")[0].reason.startswith("ValueError: ")
        self.assert_closed(run)

    def test_an_error_of_the_policy_switches_off_and_comes_out(self, small: Bundle) -> None:
        class Breaks(Policy):
            def __init__(self) -> None:
                self.n = 0

            def update(self, posterior: Posterior, age_s: float) -> Decision | None:
                if not posterior.valid:
                    return None
                self.n += 1
                if self.n == 3:
                    raise ZeroDivisionError("division by zero")
                return Decision("on", 60.0, "test") if self.n == 1 else None

        clock = start_clock()
        rig = ScriptedRig(clock)
        run = run_engine(small, script(signal(N)), clock=clock, policy=lambda _: Breaks(), rig=rig, mode="live")
        assert isinstance(run.error, ZeroDivisionError)
        assert rig.actions == ["on", "off"]
        assert rig.commands[-1].reason == "ZeroDivisionError: division by zero"

    def test_a_signal_ends_it_cleanly(self, small: Bundle) -> None:
        stop = StopFlag()
        run, rig = self.run_until(small, stop.set, stop=stop)
        assert run.error is None
        assert rig.actions == ["on", "off"]
        assert rig.commands[-1].reason == "stopped by request"
        assert run.summary.stop_reason == run.of("stop")[0].reason == "stopped by request"
        assert_sound(run)
        self.assert_closed(run)

    def test_a_signal_before_the_first_sample_ends_it_too(self, small: Bundle) -> None:
        stop = StopFlag()
        stop.set()
        run = run_engine(small, script(signal(N)), clock=start_clock(), stop=stop)
        assert run.summary.posteriors == 0
        assert_sound(run)

    def test_the_end_of_the_source_is_an_end(self, small: Bundle) -> None:
        run = run_engine(small, script(signal(EPOCH)), clock=start_clock())
        assert run.summary.stop_reason == "the source ended"
        assert run.recorder.summaries[0]["stop_reason"] == "the source ended"
        self.assert_closed(run)

    def test_what_is_off_is_not_switched_off(self, small: Bundle) -> None:
        clock = start_clock()
        rig = ScriptedRig(clock)
        run_engine(small, script(signal(EPOCH)), clock=clock, policy=always, rig=rig, mode="live")
        assert rig.commands == []

    def test_a_stream_that_does_not_fit_closes_everything_again(self, small: Bundle) -> None:
        clock = start_clock()
        run = run_engine(small, [], clock=clock, sfreq=128.0, rig=ScriptedRig(clock), mode="live")
        assert isinstance(run.error, BundleMismatchError)
        assert (run.source.n_closed, run.sink.n_closed, run.rig.n_closed) == (1, 1, 1)
        assert run.events == []

    def test_a_hop_that_does_not_fit_is_refused_before_anything_runs(self, small: Bundle) -> None:
        run = run_engine(small, script(signal(EPOCH)), clock=start_clock(), hop_s=3.0)
        assert isinstance(run.error, ConfigError)
        assert run.source.n_closed == 1

    def test_a_sink_that_fails_does_not_keep_the_rig_on(self, small: Bundle) -> None:
        sink = BreakableSink()
        run, rig = self.run_until(small, sink.break_down, sink=sink)
        assert isinstance(run.error, OSError)
        assert rig.actions == ["on", "off"]
        assert (run.source.n_closed, sink.n_closed, rig.n_closed) == (1, 1, 1)
        assert run.recorder.summaries


class BreakableSink(MemorySink):
    """Works until it is told not to."""

    def break_down(self) -> None:
        """Fail from now on."""
        self._broken = True

    def write(self, event: events.Event, text: str) -> None:
        if getattr(self, "_broken", False):
            raise OSError("no buffer space")
        super().write(event, text)
