from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamscore.timebase import Config, Timebase
from streamscore.types import Chunk, Gap, Segment, TimeArray
from tests.streams import assert_same_pieces, chunks, cuts, joined, sizes

SFREQ = 128.0
T0_S = 1000.0


def grid(n: int, sfreq: float = SFREQ, t0_s: float = T0_S) -> TimeArray:
    """Return exact stamps."""
    return t0_s + np.arange(n) / sfreq


def place(
    stamps_s: TimeArray, sizes: Sequence[int] = (50,), sfreq: float = SFREQ, **config: Any
) -> tuple[Timebase, list[Segment | Gap]]:
    """Push samples with these stamps; each sample's value is its number."""
    timebase = Timebase(Config(**config), sfreq)
    data = np.arange(len(stamps_s), dtype=np.float32)[:, None]
    pieces = [piece for chunk in chunks(data, stamps_s, sizes) for piece in timebase.push(chunk)]
    return timebase, pieces


def segments(pieces: Sequence[Segment | Gap]) -> list[Segment]:
    return [piece for piece in joined(pieces) if isinstance(piece, Segment)]


def gaps(pieces: Sequence[Segment | Gap]) -> list[Gap]:
    return [piece for piece in joined(pieces) if isinstance(piece, Gap)]


def values(pieces: Sequence[Segment | Gap]) -> list[int]:
    """Numbers of the samples that were kept."""
    return [int(v) for segment in segments(pieces) for v in segment.data[:, 0]]


def assert_gapless_index(timebase: Timebase, pieces: Sequence[Segment | Gap]) -> None:
    """Pieces must follow on, from 0 to the next index."""
    at = 0
    for piece in pieces:
        assert piece.start == at
        at += len(piece.data) if isinstance(piece, Segment) else piece.n_samples
    assert timebase.next_index == at


def longest_run(pieces: Sequence[Segment | Gap]) -> int:
    return max((len(segment.data) for segment in segments(pieces)), default=0)


class TestExactStamps:
    """A device counter, or stamps that were deduced from the rate."""

    def test_a_regular_stream_is_one_segment(self) -> None:
        timebase, pieces = place(grid(5000))
        assert [type(piece) for piece in joined(pieces)] == [Segment]
        assert values(pieces) == list(range(5000))
        assert timebase.stamps == "exact"
        assert timebase.counters.samples == 5000

    @pytest.mark.parametrize("n_lost", [1, 2, 3, 12, 13, 14, 128, 1280, 7680])
    def test_any_loss_from_one_sample_to_a_minute_is_measured(self, n_lost: int) -> None:
        stamps_s = np.delete(grid(2000 + n_lost), np.s_[1000 : 1000 + n_lost])
        timebase, pieces = place(stamps_s)
        (gap,) = gaps(pieces)
        assert (gap.start, gap.n_samples, gap.reason) == (1000, n_lost, "samples lost")
        assert gap.t_s == pytest.approx(T0_S + 1000 / SFREQ)
        assert [(s.start, len(s.data)) for s in segments(pieces)] == [(0, 1000), (1000 + n_lost, 1000)]
        assert (timebase.counters.gaps, timebase.counters.missing_samples) == (1, n_lost)
        assert_gapless_index(timebase, pieces)

    @given(st.lists(st.integers(0, 2999), unique=True, max_size=40), sizes)
    def test_the_index_stays_on_the_clock_whatever_is_lost(self, lost: list[int], sizes: list[int]) -> None:
        stamps_s = np.delete(grid(3000), lost)
        assume(len(stamps_s) and 0 not in lost)
        timebase, pieces = place(stamps_s, sizes)
        for segment in segments(pieces):
            index = segment.start + np.arange(len(segment.data))
            np.testing.assert_allclose(segment.stamps_s, T0_S + index / SFREQ, atol=1e-9)
        assert timebase.counters.missing_samples == len([k for k in lost if k < timebase.next_index])
        assert_gapless_index(timebase, pieces)

    def test_a_clock_that_drifts_by_a_percent_loses_nothing(self) -> None:
        timebase, pieces = place(grid(5000, SFREQ * 1.01))
        assert gaps(pieces) == []
        assert timebase.stamps == "exact"
        assert timebase.measured_sfreq == pytest.approx(SFREQ * 1.01, rel=1e-3)

    def test_a_duplicate_is_dropped_and_breaks_nothing(self) -> None:
        timebase, pieces = place(np.insert(grid(1000), 500, grid(1000)[499]))
        assert gaps(pieces) == []
        assert values(pieces) == [*range(500), *range(501, 1001)]
        assert timebase.counters.duplicate_samples == 1

    @pytest.mark.parametrize("n_late", [1, 5, 60])
    def test_samples_that_come_again_are_dropped_and_break_the_run(self, n_late: int) -> None:
        stamps_s = np.concatenate([grid(1000), grid(1000)[500 - n_late : 500], grid(500, t0_s=grid(1001)[-1])])
        timebase, pieces = place(stamps_s, stamps="exact")
        (gap,) = gaps(pieces)
        assert (gap.start, gap.n_samples, gap.reason) == (1000, 0, "late samples dropped")
        assert timebase.counters.late_samples == n_late
        assert timebase.counters.samples == 1500

    def test_neighbours_in_the_wrong_order_leave_a_gap_and_never_a_wrong_sample(self) -> None:
        order = np.arange(1000)
        order[[500, 501]] = 501, 500
        timebase, pieces = place(grid(1000)[order])
        assert values(pieces) == [*range(500), 500, *range(502, 1000)]
        assert [(g.start, g.n_samples) for g in gaps(pieces)] == [(500, 1), (502, 0)]
        for segment in segments(pieces):
            index = segment.start + np.arange(len(segment.data))
            np.testing.assert_allclose(segment.stamps_s, T0_S + index / SFREQ)
        assert timebase.counters.late_samples == 1

    @pytest.mark.parametrize("jump_s", [-2.0, -60.0, -1e6])
    def test_a_clock_that_jumps_back_is_seen_within_a_second(self, jump_s: float) -> None:
        timebase, pieces = place(np.concatenate([grid(1000), grid(1000, t0_s=T0_S + 1000 / SFREQ + jump_s)]))
        (gap,) = gaps(pieces)
        assert (gap.start, gap.n_samples, gap.reason) == (1000, 127, "clock jumped back")
        assert timebase.counters.clock_jumps == 1
        assert timebase.next_index == 2000  # what was dropped until then counts as time that passed
        assert_gapless_index(timebase, pieces)

    def test_a_clock_that_stands_still_is_a_gap_and_not_silence(self) -> None:
        timebase, pieces = place(np.concatenate([grid(1000), np.full(1280, grid(1000)[-1])]))
        assert timebase.next_index == 2280
        assert timebase.counters.clock_jumps == 10
        assert longest_run(joined(pieces)[1:]) == 1

    def test_a_jump_ahead_is_a_gap_as_long(self) -> None:
        timebase, pieces = place(np.concatenate([grid(1000), grid(1000, t0_s=T0_S + 86_400.0)]))
        (gap,) = gaps(pieces)
        assert gap.n_samples == 86_400 * 128 - 1000
        assert timebase.counters.gaps == 1


@pytest.mark.parametrize("stamps", ["auto", "exact", "arrival"])
class TestStampsThatAreNoNumbers:
    """NaN and infinity."""

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_the_sample_takes_its_place_and_is_not_used(self, stamps: Any, bad: float) -> None:
        stamps_s = grid(1000)
        stamps_s[[400, 401, 700]] = bad
        timebase, pieces = place(stamps_s, stamps=stamps)
        assert [(g.start, g.n_samples, g.reason) for g in gaps(pieces)] == [
            (400, 2, "stamp is not finite"),
            (700, 1, "stamp is not finite"),
        ]
        assert values(pieces) == [*range(400), *range(402, 700), *range(701, 1000)]
        assert all(np.isfinite(g.t_s) for g in gaps(pieces))
        assert timebase.counters.bad_stamps == 3
        assert_gapless_index(timebase, pieces)

    def test_a_stream_that_has_no_others_gives_nothing(self, stamps: Any) -> None:
        _, pieces = place(np.full(1000, np.nan), stamps=stamps)
        assert pieces == []

    def test_a_stream_that_loses_its_clock_goes_on_as_a_gap(self, stamps: Any) -> None:
        timebase, pieces = place(np.concatenate([grid(500), np.full(5000, np.nan)]), stamps=stamps)
        (gap,) = gaps(pieces)
        assert (gap.start, gap.n_samples) == (500, 5000)
        assert timebase.next_index == 5500


def arrivals(seed: int, sfreq: float, jitter_s: float, n: int, chunk_s: float = 0.02) -> TimeArray:
    """Stamps as LSL gives them for chunks that were stamped on arrival, up to `jitter_s` late."""
    rng = np.random.default_rng(seed)
    stamps_s = grid(n, sfreq)
    size = max(round(chunk_s * sfreq), 1)
    for begin in range(0, n, size):
        stamps_s[begin : begin + size] += rng.uniform(0.0, jitter_s)
    return stamps_s


@pytest.mark.parametrize("sfreq", [128.0, 256.0, 1000.0])
@pytest.mark.parametrize("jitter_s", [0.005, 0.015, 0.03])
class TestArrivalStamps:
    """Stamps that were taken when a program got round to it."""

    @pytest.mark.parametrize("seed", range(3))
    def test_jitter_is_no_loss(self, sfreq: float, jitter_s: float, seed: int) -> None:
        n = round(12 * sfreq)
        timebase, pieces = place(arrivals(seed, sfreq, jitter_s, n), sfreq=sfreq, stamps="arrival")
        assert [type(piece) for piece in joined(pieces)] == [Segment]
        assert timebase.counters.samples == n

    @pytest.mark.parametrize("seed", range(3))
    def test_auto_takes_to_them_at_once_and_then_sees_no_loss(
        self, sfreq: float, jitter_s: float, seed: int
    ) -> None:
        stamps_s = arrivals(seed, sfreq, jitter_s, round(12 * sfreq))
        timebase, pieces = place(stamps_s, sfreq=sfreq)
        assert timebase.stamps == "arrival"
        # Before the first step that is off the grid, jitter of whole periods cannot be told from a loss.
        half_second = [gap for gap in gaps(pieces) if gap.start > sfreq / 2]
        assert half_second == []
        assert timebase.counters.gaps <= 1
        assert timebase.measured_sfreq == pytest.approx(sfreq, rel=0.01)

    @pytest.mark.parametrize("lost_s", [0.5, 2.0, 60.0])
    def test_a_loss_beyond_the_tolerance_is_measured(self, sfreq: float, jitter_s: float, lost_s: float) -> None:
        n_before, n_lost = round(8 * sfreq), round(lost_s * sfreq)
        stamps_s = arrivals(1, sfreq, jitter_s, n_before + n_lost + round(5 * sfreq))
        stamps_s = np.delete(stamps_s, np.s_[n_before : n_before + n_lost])
        timebase, pieces = place(stamps_s, sfreq=sfreq, stamps="arrival")
        (gap,) = gaps(pieces)
        assert gap.start == n_before
        assert gap.n_samples / sfreq == pytest.approx(lost_s, abs=jitter_s + 0.01)
        assert timebase.counters.rate_faults == 0


class TestArrivalDetails:
    """What else may happen to arrival stamps."""

    def test_a_sample_that_is_far_too_late_is_dropped_and_breaks_the_run_only_once(self) -> None:
        stamps_s = np.insert(arrivals(0, SFREQ, 0.01, 4000), 2000, T0_S + 2.0)
        timebase, pieces = place(stamps_s, stamps="arrival")
        (gap,) = gaps(pieces)
        assert (gap.start, gap.n_samples, gap.reason) == (2000, 0, "late samples dropped")
        assert timebase.counters.rate_faults == 0

    def test_a_rate_that_is_off_within_the_tolerance_is_followed(self) -> None:
        timebase, pieces = place(arrivals(0, SFREQ * 1.02, 0.01, 8000), stamps="arrival")
        assert gaps(pieces) == []
        assert timebase.measured_sfreq == pytest.approx(SFREQ * 1.02, rel=0.005)


@pytest.mark.parametrize("stamps", ["auto", "exact", "arrival"])
@pytest.mark.parametrize("real_sfreq", [100.0, 256.0, 134.0])
class TestWrongRate:
    """A stream that declares 128 Hz and runs at another rate."""

    def test_it_says_so_and_gives_nothing_after_the_first_window(self, stamps: Any, real_sfreq: float) -> None:
        timebase, pieces = place(grid(round(35 * real_sfreq), real_sfreq), stamps=stamps)
        assert timebase.counters.rate_faults >= 2
        reason = f"rate: stamps run at {real_sfreq:.1f} Hz, the stream declares 128 Hz"
        assert reason in [gap.reason for gap in gaps(pieces)]
        last_used_s = max(segment.stamps_s[-1] for segment in segments(pieces))
        assert last_used_s - T0_S <= Timebase.RATE_WINDOW_S + 1 / SFREQ
        assert timebase.counters.wrong_rate_samples > 0
        assert_gapless_index(timebase, pieces)

    def test_it_comes_back_when_the_rate_does(self, stamps: Any, real_sfreq: float) -> None:
        wrong = grid(round(15 * real_sfreq), real_sfreq)
        right = grid(round(35 * SFREQ), t0_s=wrong[-1] + 1 / SFREQ)
        timebase, pieces = place(np.concatenate([wrong, right]), stamps=stamps)
        assert longest_run(pieces) > 12 * SFREQ
        assert values(pieces)[-1] == len(wrong) + len(right) - 1
        assert timebase.measured_sfreq == pytest.approx(SFREQ)


@pytest.mark.parametrize(
    ("stamps", "real_sfreq"),
    [("auto", 100.0), ("auto", 256.0), ("exact", 256.0), ("arrival", 100.0), ("arrival", 256.0)],
)
def test_a_rate_that_is_far_off_leaves_shreds_even_before_it_was_measured(stamps: Any, real_sfreq: float) -> None:
    _, pieces = place(grid(round(35 * real_sfreq), real_sfreq), stamps=stamps)
    assert longest_run(pieces) < 0.5 * SFREQ


EVENTS = st.sampled_from(
    [
        "lose 1",
        "lose 5",
        "lose 200",
        "twice",
        "again",
        "swap",
        "back",
        "ahead",
        "nan",
        "jitter",
        "calm",
        "fast",
        "slow",
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> TimeArray:
    """Stamps of a stream to which everything happens."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    parts: list[TimeArray] = []
    t_s, jitter_s, period_s = T0_S, 0.0, 1 / SFREQ
    for event in draw(st.lists(EVENTS, min_size=1, max_size=8)):
        part = t_s + np.arange(draw(st.sampled_from([1, 40, 400, 1500]))) * period_s
        part = part + np.repeat(rng.uniform(0, jitter_s, len(part) // 5 + 1), 5)[: len(part)]
        t_s += len(part) * period_s
        if event.startswith("lose"):
            t_s += int(event.split()[1]) * period_s
        elif event == "twice":
            part = np.repeat(part, rng.integers(1, 3, len(part)))
        elif event == "again":
            part = np.concatenate([part, part[-50:]])
        elif event == "swap":
            part[-2:] = part[-2:][::-1]
        elif event == "nan":
            part[rng.random(len(part)) < 0.1] = rng.choice([np.nan, np.inf])
        elif event in ("back", "ahead"):
            t_s += {"back": -7.3, "ahead": 3600.0}[event]
        elif event in ("jitter", "calm"):
            jitter_s = {"jitter": 0.02, "calm": 0.0}[event]
        else:
            period_s = {"fast": 0.9, "slow": 1.1}[event] / SFREQ
        parts.append(part)
    return np.concatenate(parts)


@given(streams(), sizes, st.sampled_from(["auto", "exact", "arrival"]))
def test_any_chunking_gives_the_same_whatever_happens(stamps_s: TimeArray, sizes: list[int], stamps: Any) -> None:
    whole, wanted = place(stamps_s, [len(stamps_s)], stamps=stamps)
    cut, got = place(stamps_s, sizes, stamps=stamps)
    assert_same_pieces(got, wanted)
    assert cut.counters == whole.counters
    assert (cut.measured_sfreq, cut.stamps, cut.next_index) == (
        whole.measured_sfreq,
        whole.stamps,
        whole.next_index,
    )


@given(streams(), sizes, st.sampled_from(["auto", "exact", "arrival"]))
def test_pieces_follow_on_and_account_for_every_sample(stamps_s: TimeArray, sizes: list[int], stamps: Any) -> None:
    timebase, pieces = place(stamps_s, sizes, stamps=stamps)
    assert_gapless_index(timebase, pieces)
    assert all(np.isfinite(segment.stamps_s).all() for segment in segments(pieces))
    assert all(np.isfinite(gap.t_s) and gap.n_samples >= 0 for gap in gaps(pieces))
    counters = timebase.counters
    dropped = (
        counters.duplicate_samples + counters.late_samples + counters.bad_stamps + counters.wrong_rate_samples
    )
    kept = values(pieces)
    assert kept == sorted(set(kept))
    assert len(kept) == counters.samples
    assert len(stamps_s) - len(kept) <= dropped


def test_one_sample_at_a_time_is_one_call() -> None:
    stamps_s = np.concatenate([grid(500), grid(500, t0_s=T0_S + 700 / SFREQ)])
    assert_same_pieces(place(stamps_s, [1])[1], place(stamps_s, [1000])[1])


def test_an_empty_chunk_is_nothing() -> None:
    timebase = Timebase(Config(), SFREQ)
    assert timebase.push(chunks(np.zeros((1, 1), np.float32), grid(1), [1])[0]) != []
    empty = chunks(np.zeros((1, 1), np.float32), grid(1), [1])[0]
    empty = type(empty)(empty.data[:0], empty.stamps_s[:0], 0.0, 0.0)
    assert timebase.push(empty) == []


def test_stream_time_is_the_stamp_plus_the_clock_offset() -> None:
    timebase = Timebase(Config(), SFREQ)
    stamps_s = np.delete(grid(200), np.s_[100:110])
    for chunk in chunks(np.zeros((190, 1), np.float32), stamps_s, [64], offset_s=-7.5):
        for piece in timebase.push(chunk):
            if isinstance(piece, Segment):
                np.testing.assert_allclose(
                    piece.stamps_s, T0_S - 7.5 + (piece.start + np.arange(len(piece.data))) / SFREQ
                )
            else:
                assert piece.t_s == pytest.approx(T0_S - 7.5 + 100 / SFREQ)


def test_a_change_of_the_clock_offset_is_no_loss() -> None:
    timebase = Timebase(Config(), SFREQ)
    first, second = chunks(np.zeros((200, 1), np.float32), grid(200), [100])
    timebase.push(first)
    (piece,) = timebase.push(type(second)(second.data, second.stamps_s, 0.25, 0.0))
    assert isinstance(piece, Segment)
    assert timebase.stamps == "exact"


class TestCounted:
    """A device that numbers its samples: stamps may jitter as they like."""

    def place(self, counters: list[int], stamps_s: list[float], sizes: Sequence[int] = (1000,)) -> Any:
        n = len(counters)
        data = np.arange(n, dtype=np.float32)[:, None]
        timebase = Timebase(Config(), 16.8)
        pieces: list[Any] = []
        for part in cuts(n, sizes):
            chunk = Chunk(data[part], np.array(stamps_s)[part], 0.0, 0.0, np.array(counters, np.int64)[part])
            pieces += timebase.push(chunk)
        return timebase, joined(pieces)

    def test_a_jump_of_the_counter_is_a_gap_of_exactly_what_it_passes_over(self) -> None:
        jitter = [0.0, 0.09, 0.11, 0.20, 0.21, 0.33]
        timebase, pieces = self.place([7, 8, 9, 12, 13, 14], jitter)
        assert [(type(p).__name__, p.start) for p in pieces] == [("Segment", 0), ("Gap", 3), ("Segment", 5)]
        assert (pieces[1].n_samples, pieces[1].reason) == (2, "samples lost")
        assert timebase.stamps == "counted"
        assert (timebase.counters.missing_samples, timebase.next_index) == (2, 8)

    def test_repeats_are_dropped_and_what_comes_late_breaks_the_run(self) -> None:
        timebase, pieces = self.place([1, 2, 2, 3, 2, 4], [0.0, 0.06, 0.06, 0.12, 0.06, 0.18])
        assert (timebase.counters.duplicate_samples, timebase.counters.late_samples) == (1, 1)
        assert [p.reason for p in pieces if isinstance(p, Gap)] == ["late samples dropped"]
        assert [p.data[:, 0].tolist() for p in pieces if isinstance(p, Segment)] == [[0.0, 1.0, 3.0], [5.0]]

    def test_a_stamp_that_is_no_number_takes_its_place(self) -> None:
        timebase, pieces = self.place([1, 2, 5, 6], [0.0, 0.06, math.nan, 0.3])
        assert [(type(p).__name__, p.start) for p in pieces] == [("Segment", 0), ("Gap", 2), ("Segment", 5)]
        assert timebase.next_index == 6

    @pytest.mark.parametrize("rate_hz", [33.6, 20.0, 10.0, 8.0, 6.0, 4.2, 1.0, 0.3])
    def test_a_camera_at_another_rate_is_never_scored_for_long(self, rate_hz: float) -> None:
        n = 600
        _, pieces = self.place(list(range(n)), [k / rate_hz for k in range(n)])
        longest = max(len(p.data) for p in pieces if isinstance(p, Segment))
        scored = sum(len(p.data) for p in pieces if isinstance(p, Segment))
        if rate_hz < 6.5:  # each step is a pause: no two samples follow on
            assert longest == 1
        else:
            quick = abs(rate_hz / 16.8 - 1) > 0.25
            assert scored <= (18 if quick else 10 * rate_hz + 2)
            assert f"stamps run at {rate_hz:.1f} Hz, the stream declares 16.8 Hz" in pieces[-1].reason

    @pytest.mark.parametrize("loss", [0.01, 0.05, 0.3])
    def test_lost_samples_are_no_other_rate(self, loss: float) -> None:
        kept = np.flatnonzero(np.random.default_rng(0).random(3000) >= loss)
        timebase, pieces = self.place(kept.tolist(), (kept / 16.8).tolist())
        assert timebase.counters.rate_faults == 0
        assert sum(len(p.data) for p in pieces if isinstance(p, Segment)) == len(kept)

    @pytest.mark.parametrize(("really_hz", "n_scored"), [(33.6, 18), (18.0, 180), (16.8, 600), (16.5, 600)])
    def test_stamps_that_are_made_up_do_not_hide_another_rate(self, really_hz: float, n_scored: int) -> None:
        """Number over nominal rate as device time: what really passed is in the clock offset."""
        timebase = Timebase(Config(), 16.8)
        pieces = []
        for k in range(600):
            offset_s = 50.0 + k / really_hz - k / 16.8
            chunk = Chunk(
                np.zeros((1, 1), np.float32), np.array([k / 16.8]), offset_s, 0.0, np.array([k], np.int64)
            )
            pieces += timebase.push(chunk)
        scored = sum(len(p.data) for p in pieces if isinstance(p, Segment))
        assert n_scored - 10 <= scored <= n_scored + 10

    def test_an_offset_that_is_learnt_anew_is_no_rate(self) -> None:
        timebase = Timebase(Config(), 16.8)
        for k in range(600):
            offset_s = 50.0 + 3.0 * (k > 200) + 0.01 * (k % 2)
            chunk = Chunk(
                np.zeros((1, 1), np.float32), np.array([k / 16.8]), offset_s, 0.0, np.array([k], np.int64)
            )
            timebase.push(chunk)
        assert timebase.counters.rate_faults == 0

    def test_a_camera_that_pauses_and_counts_on_leaves_a_gap_as_long_as_the_pause(self) -> None:
        stamps_s = [k / 16.8 + (0.5 if k >= 20 else 0.0) for k in range(40)]
        _, pieces = self.place(list(range(40)), stamps_s)
        assert [(type(p).__name__, p.start) for p in pieces] == [("Segment", 0), ("Gap", 20), ("Segment", 28)]
        assert pieces[1].n_samples == 8

    @pytest.mark.parametrize("jump_s", [1000.0, 1.5, -1.5, -1000.0])
    def test_a_clock_that_jumps_withholds_the_sample_that_tells_it(self, jump_s: float) -> None:
        stamps_s = [k / 16.8 + (jump_s if k >= 20 else 0.0) for k in range(40)]
        timebase, pieces = self.place(list(range(40)), stamps_s)
        assert timebase.counters.clock_jumps == 1
        assert [(type(p).__name__, p.start) for p in pieces] == [("Segment", 0), ("Gap", 20), ("Segment", 21)]
        assert (pieces[1].n_samples, pieces[1].reason) == (1, "clock jumped")

    @given(sizes, st.sets(st.integers(0, 99), max_size=60))
    def test_any_chunking_gives_the_same(self, sizes: list[int], lost: set[int]) -> None:
        kept = [k for k in range(100) if k not in lost]
        stamps_s = [k / 16.8 for k in kept]
        _, one = self.place(kept, stamps_s, sizes)
        _, other = self.place(kept, stamps_s)
        assert_same_pieces(one, other)
        index = [p.start + i + kept[0] for p in one if isinstance(p, Segment) for i in range(len(p.data))]
        assert index == kept
