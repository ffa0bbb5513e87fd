"""Bad input over real LSL: counted, visible, and never a wrong score."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from streamscore import lsl_inlet
from streamscore.clock import LslClock
from streamscore.errors import (
    AmbiguousStreamError,
    BundleMismatchError,
    StreamFormatError,
    StreamNotFoundError,
)
from streamscore.sources import lsl
from tests.online.conftest import EPOCH_S, SFREQ
from tests.online.loop import Loop, make_outlet, noise

MakeLoop = Callable[..., Loop]
EPOCH = round(EPOCH_S * SFREQ)


def assert_no_valid_output_touches(loop: Loop, start: int, stop: int) -> None:
    """No valid output may describe a sample of ``[start, stop)``; an empty range is a border."""
    for event in loop.of("posterior"):
        if event.valid:
            inside = event.start < max(stop, start + 1) and event.stop > start
            border = start == stop and (event.stop == start or event.start == start)
            assert border or not inside, f"[{event.start}, {event.stop}) touches [{start}, {stop})"


def assert_recovers(loop: Loop, after: int) -> None:
    """A valid output comes once an epoch has passed."""
    assert any(event.valid and event.start >= after for event in loop.of("posterior"))


def test_absent_stream_lists_what_is_visible() -> None:
    here = make_outlet("somebody-elses-amp")
    with pytest.raises(StreamNotFoundError, match="somebody-elses-amp"):
        lsl_inlet.resolve(lsl.Config(name="no-such-stream", timeout_s=1.0))
    del here


def test_ambiguous_stream_lists_the_candidates() -> None:
    pair = [make_outlet("twin", source_id=f"twin-{i}") for i in range(2)]
    with pytest.raises(AmbiguousStreamError, match=r"twin-0(.|\n)*twin-1"):
        lsl_inlet.resolve(lsl.Config(name="twin", timeout_s=5.0))
    assert lsl_inlet.resolve(lsl.Config(name="twin", source_id="twin-1", timeout_s=5.0)).source_id() == "twin-1"
    del pair


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sfreq": 100.0}, BundleMismatchError, "rate.*expected 64, got 100"),
        ({"labels": ("EMG", "ECG")}, StreamFormatError, "no channel labelled 'EEG'.*EMG, ECG"),
    ],
)
def test_a_stream_that_differs_from_the_bundle_is_refused(
    loop: MakeLoop, options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        loop(**options)


@pytest.mark.parametrize("n_lost", [1, 2, 64, 640, 3840])
def test_a_lost_block_is_a_recorded_gap(loop: MakeLoop, n_lost: int) -> None:
    run = loop()
    first, second = 10 * EPOCH, 6 * EPOCH
    data = noise(first + n_lost + second)
    times = run.times(len(data))
    run.push(data[:first], times[:first])
    run.push(data[first + n_lost :], times[first + n_lost :])
    run.wait_for_posterior((first + n_lost + second) // EPOCH * EPOCH)
    summary = run.finish()
    assert summary.counters["gaps"] == 1
    assert summary.counters["missing_samples"] == n_lost
    gap = run.of("gap")[0]
    assert (gap.start, gap.n_samples, gap.reason) == (first, n_lost, "samples lost")
    assert_no_valid_output_touches(run, first, first + n_lost)
    assert_recovers(run, first + n_lost)
    index = {event.stop: event.t_stop_s for event in run.of("posterior") if event.valid}
    for stop, t_stop_s in index.items():
        assert t_stop_s == pytest.approx(run.t0_s + stop / SFREQ, abs=1e-3)  # the index stays on the clock


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_are_withheld(loop: MakeLoop, bad: float) -> None:
    run = loop()
    n = 12 * EPOCH
    data = noise(n)
    data[5 * EPOCH + 7 : 5 * EPOCH + 9] = bad
    run.push(data, run.times(n))
    run.wait_for_posterior(n)
    summary = run.finish()
    assert summary.counters["nonfinite_samples"] == 2
    assert_no_valid_output_touches(run, 5 * EPOCH + 7, 5 * EPOCH + 9)
    assert_recovers(run, 5 * EPOCH + 9)
    assert all(np.isfinite(event.probs).all() for event in run.of("posterior"))


def test_a_flat_line_is_unknown(loop: MakeLoop) -> None:
    run = loop()
    n = 14 * EPOCH
    data = noise(n)
    data[5 * EPOCH : 8 * EPOCH] = 1.5
    run.push(data, run.times(n))
    run.wait_for_posterior(n)
    summary = run.finish()
    assert summary.counters["flat_samples"] > 2 * EPOCH
    assert any("flat: EEG" in event.reason for event in run.of("gap"))
    assert_no_valid_output_touches(run, 6 * EPOCH, 8 * EPOCH)
    assert_recovers(run, 8 * EPOCH)


def test_duplicate_late_and_reordered_samples_are_counted_and_dropped(loop: MakeLoop) -> None:
    run = loop()
    n = 12 * EPOCH
    order = np.arange(n)
    twice = np.sort(np.r_[order, 300, 301])  # two duplicates
    a, b = 5 * EPOCH + 3, 5 * EPOCH + 4
    twice[[a + 2, b + 2]] = twice[[b + 2, a + 2]]  # one pair in the wrong order
    late = np.r_[twice, 100]  # one sample that is far too late, at the end
    run.push(noise(n)[late], run.times(n)[late])
    run.wait_for_posterior(n)
    counters = run.finish().counters
    assert counters["duplicate_samples"] == 2
    assert counters["gaps"] == 1
    assert counters["late_samples"] >= 1
    assert_no_valid_output_touches(run, a, a + 1)


@pytest.mark.parametrize("jump_s", [-30.0, 3600.0])
def test_a_clock_jump_is_seen_and_survived(loop: MakeLoop, jump_s: float) -> None:
    run = loop()
    n = 8 * EPOCH
    run.push(noise(n), run.times(n))
    run.push(noise(n, 1), run.times(n, n) + jump_s)
    run.wait_for("gap", lambda event: not event.open)
    run.collect.wait_for(
        lambda events: any(e.type == "posterior" and e.valid and e.t_start_s > run.t0_s + n / SFREQ + jump_s
                           and e.start >= n for e in events),
        "a valid output after the jump",
    )  # fmt: skip
    counters = run.finish().counters
    assert counters["clock_jumps"] + counters["gaps"] == 1
    for event in run.of("posterior"):
        assert not (event.valid and event.start < n < event.stop)


def test_arrival_stamps_with_jitter_make_no_gap(loop: MakeLoop) -> None:
    run = loop()
    n = 12 * EPOCH
    times = run.times(n)
    rng = np.random.default_rng(5)
    for begin in range(0, n, 8):  # eight samples a push, stamped when the pusher got round to it
        late_s = abs(rng.normal(0.0, 0.008))
        run.push(noise(n)[begin : begin + 8], times[begin : begin + 8] + late_s)
    run.wait_for_posterior(n)
    counters = run.finish().counters
    assert counters["gaps"] == counters["clock_jumps"] == 0
    assert counters["samples"] == n
    assert_recovers(run, 0)


@pytest.mark.parametrize("real_sfreq", [50.0, 128.0])
def test_a_stream_that_runs_at_another_rate_is_never_scored(loop: MakeLoop, real_sfreq: float) -> None:
    run = loop()
    n = round(60 * real_sfreq)
    run.push(noise(n), run.t0_s + np.arange(n) / real_sfreq)
    run.wait_for("gap", lambda event: "rate" in event.reason)
    summary = run.finish()
    assert summary.counters["rate_faults"] >= 1
    first_fault = next(e for e in run.of("gap") if "rate" in e.reason or "lost" in e.reason)
    late_valid = [e for e in run.of("posterior") if e.valid and e.t_stop_s > first_fault.t_s + 0.1]
    assert not late_valid


def test_an_outlet_that_returns_is_a_gap(loop: MakeLoop) -> None:
    run = loop()
    n = 8 * EPOCH
    run.push(noise(n), run.times(n))
    run.wait_for_posterior(n)
    run.outlet = None
    run.wait_for("notice", lambda event: "lost" in event.text)
    run.outlet = make_outlet(run.name)
    run.wait_for("notice", lambda event: "is back" in event.text)
    later = n + 20 * EPOCH
    run.push(noise(n, 1), run.times(n, later))
    run.wait_for_posterior(later + n)
    summary = run.finish()
    assert summary.counters["gaps"] == 1
    assert summary.counters["missing_samples"] == 20 * EPOCH
    assert_no_valid_output_touches(run, n, later)
    assert_recovers(run, later)


def test_an_outlet_that_returns_with_other_channels_is_not_used(loop: MakeLoop) -> None:
    run = loop(stall_s=0.5)
    n = 8 * EPOCH
    run.push(noise(n), run.times(n))
    run.wait_for_posterior(n)
    run.outlet = None
    run.wait_for("notice", lambda event: "lost" in event.text)
    run.outlet = make_outlet(run.name, labels=("EEG", "EMG"))
    refused = run.wait_for("notice", lambda event: "different" in event.text)
    assert "2 channels (EEG, EMG)" in refused.text
    run.wait_for("state", lambda event: event.state == "UNKNOWN" and "stalled" in event.reason)
    run.outlet = None
    run.outlet = make_outlet(run.name)
    run.wait_for("notice", lambda event: "is back" in event.text)
    run.finish()


def test_a_silent_stream_is_unknown_within_the_stall_time(loop: MakeLoop) -> None:
    run = loop(stall_s=0.3)
    n = 8 * EPOCH
    run.push(noise(n), run.times(n))
    run.wait_for_posterior(n)
    stalled = run.wait_for("state", lambda event: "stalled" in event.reason)
    assert (stalled.state, stalled.valid) == ("UNKNOWN", False)
    run.finish()


def test_a_stale_backlog_is_flushed_and_counted() -> None:
    outlet = make_outlet("backlog")
    source = lsl.build(lsl.Config(name="backlog", timeout_s=5.0), LslClock())
    source.open(("EEG",))
    source.begin()
    assert outlet.wait_for_consumers(5.0)
    outlet.push_chunk(noise(100))
    give_up_s = time.monotonic() + 5.0
    while source._inlet._inlet.samples_available() < 100 and time.monotonic() < give_up_s:
        time.sleep(0.001)
    assert source.begin() == 100
    source.close()


def test_stamps_ahead_of_the_clock_do_not_make_a_latency_negative(loop: MakeLoop) -> None:
    run = loop()
    n = 8 * EPOCH
    run.push(noise(n), run.times(n) + 1000.0)
    run.wait_for_posterior(n)
    run.finish()
    assert all(event.latency_ms >= 0 for event in run.of("posterior"))
