from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.frame_quality import Config, FrameQuality
from streamscore.types import FloatArray, Gap, Segment
from tests.layouts import frames
from tests.streams import assert_same_pieces, cuts, joined

SFREQ = 16.8
SHAPE = (8, 10)
BLUE, GREEN = "fluorescence_470", "reflectance_523"
LAYOUT = frames(SFREQ, *SHAPE, BLUE, GREEN)
FULL = 4095.0


def movie(n: int) -> FloatArray:
    """Frames under two lights, `n` of each, with noise."""
    levels = np.array([1000.0, 2000.0])[None, :, None, None]
    return (levels + np.random.default_rng(0).normal(0, 30, (n, 2, *SHAPE))).astype(np.float32)


def check(
    data: FloatArray, sizes: Sequence[int] = (64,), full_scale: float | None = FULL, **config: Any
) -> tuple[FrameQuality, list[Segment | Gap]]:
    """Push `data` in pieces, beginning with sample 1000."""
    quality = FrameQuality(Config(**config), LAYOUT, full_scale)
    stamps_s = 10.0 + np.arange(len(data)) / SFREQ
    pieces = [
        piece
        for part in cuts(len(data), sizes)
        for piece in quality.push(Segment(1000 + part.start, data[part], stamps_s[part]))
    ]
    return quality, pieces


def told(pieces: Sequence[Segment | Gap]) -> list[tuple[int, int, str]]:
    """Start from 0, length and reason of each piece; a segment has none."""
    return [
        (p.start - 1000, len(p.data), "") if isinstance(p, Segment) else (p.start - 1000, p.n_samples, p.reason)
        for p in joined(pieces)
    ]


def test_good_frames_pass_untouched() -> None:
    data = movie(200)
    quality, pieces = check(data, [200])
    (segment,) = pieces
    assert isinstance(segment, Segment)
    assert np.shares_memory(segment.data, data)
    assert not any(vars(quality.counters).values())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_pixel_that_is_no_number_loses_the_sample(bad: float) -> None:
    data = movie(50)
    data[20:23, 1, 3, 4] = bad
    quality, pieces = check(data)
    assert told(pieces) == [(0, 20, ""), (20, 3, f"non-finite: {GREEN}"), (23, 27, "")]
    gap = joined(pieces)[1]
    assert isinstance(gap, Gap)
    assert gap.t_s == pytest.approx(10.0 + 20 / SFREQ)
    assert quality.counters.nonfinite_frames == 3


def test_values_whose_sum_alone_overflows_are_numbers() -> None:
    data = movie(10) * np.float32(1e35)
    assert told(check(data, full_scale=None)[1]) == [(0, 10, "")]


class TestSaturated:
    """More pixels at full scale than can be spared."""

    @pytest.mark.parametrize("n_pixels", [4, 5])
    def test_a_frame_is_saturated_beyond_a_share_of_its_pixels(self, n_pixels: int) -> None:
        data = movie(50)
        data[20:24, 0].reshape(4, -1)[:, :n_pixels] = FULL  # 5 % of 80 pixels are 4
        quality, pieces = check(data)
        wanted = [(0, 20, ""), (20, 4, f"saturated: {BLUE}"), (24, 26, "")] if n_pixels > 4 else [(0, 50, "")]
        assert told(pieces) == wanted
        assert quality.counters.saturated_frames == (4 if n_pixels > 4 else 0)

    def test_the_rig_file_has_the_last_word_on_full_scale(self) -> None:
        assert told(check(movie(10), full_scale=1500.0)[1]) == [(0, 10, f"saturated: {GREEN}")]
        quality = FrameQuality(Config(full_scale=FULL), LAYOUT, full_scale=1500.0)
        (piece,) = quality.push(Segment(0, movie(10), np.arange(10) / SFREQ))
        assert isinstance(piece, Segment)

    def test_without_a_full_scale_nothing_is_saturated(self) -> None:
        assert told(check(movie(10) * 1e6, full_scale=None)[1]) == [(0, 10, "")]

    def test_a_camera_that_sees_nothing_but_white_is_saturated_and_not_black(self) -> None:
        assert told(check(np.full_like(movie(20), FULL))[1]) == [(0, 20, f"saturated: {BLUE}, {GREEN}")]


class TestBlack:
    """A light that has failed."""

    @pytest.mark.parametrize("value", [0.0, 100.0, -3.0])
    def test_a_frame_of_one_value_is_black_from_the_start(self, value: float) -> None:
        data = movie(10)
        data[:2, 0] = value
        quality, pieces = check(data)
        assert told(pieces) == [(0, 2, f"black: {BLUE}"), (2, 8, "")]
        assert quality.counters.black_frames == 2

    def test_one_pixel_that_differs_is_enough(self) -> None:
        data = np.zeros_like(movie(2))
        data[:, :, 7, 9] = [[1, 1], [2, 2]]
        assert told(check(data)[1]) == [(0, 2, "")]

    @pytest.mark.parametrize("n_before", [15, 16, 17, 300])
    def test_a_frame_far_below_what_was_usual_is_black(self, n_before: int) -> None:
        data = movie(n_before + 20)
        data[n_before : n_before + 10, 1] *= 0.24
        wanted = [(0, n_before, ""), (n_before, 10, f"black: {GREEN}"), (n_before + 10, 10, "")]
        assert told(check(data)[1]) == (wanted if n_before >= 16 else [(0, n_before + 20, "")])

    def test_what_is_black_is_not_learnt_however_long_it_lasts(self) -> None:
        data = movie(5000)
        data[100:4900, 1] *= 0.1
        assert told(check(data)[1])[1] == (100, 4800, f"black: {GREEN}")

    def test_what_is_usual_follows_slow_bleaching(self) -> None:
        data = movie(12_000) * np.geomspace(1.0, 0.2, 12_000, dtype=np.float32)[:, None, None, None]
        data[11_990:] *= 0.1
        assert told(check(data)[1]) == [(0, 11_990, ""), (11_990, 10, f"black: {BLUE}, {GREEN}")]

    def test_what_is_usual_is_kept_over_a_gap(self) -> None:
        data = movie(60)
        data[50:] *= 0.1
        quality = FrameQuality(Config(), LAYOUT)
        for begin, end in ((0, 40), (50, 60)):
            pieces = quality.push(Segment(begin, data[begin:end], np.arange(begin, end) / SFREQ))
        assert [type(piece) for piece in pieces] == [Gap]

    def test_a_movie_around_zero_has_no_usual_brightness(self) -> None:
        data = np.random.default_rng(0).normal(0.001, 0.02, (2000, 2, *SHAPE)).astype(np.float32)
        assert told(check(data, full_scale=None)[1]) == [(0, 2000, "")]


class TestFrozen:
    """A grabber that sends the same frame again."""

    @pytest.mark.parametrize("n_same", [2, 3, 10])
    def test_the_third_of_the_same_is_the_first_that_is_withheld(self, n_same: int) -> None:
        data = movie(50)
        data[20 : 20 + n_same, 0] = data[20, 0]
        quality, pieces = check(data)
        n_bad = n_same - 2
        wanted = [(0, 22, ""), (22, n_bad, f"frozen: {BLUE}"), (22 + n_bad, 28 - n_bad, "")]
        assert told(pieces) == (wanted if n_bad else [(0, 50, "")])
        assert quality.counters.frozen_frames == n_bad

    def test_how_many_is_a_choice(self) -> None:
        data = np.repeat(movie(1), 20, axis=0)
        assert told(check(data, frozen_frames=11)[1]) == [(0, 10, ""), (10, 10, f"frozen: {BLUE}, {GREEN}")]

    def test_frames_with_the_same_mean_are_compared_pixel_by_pixel(self) -> None:
        data = np.stack([np.roll(movie(1)[0].round(), k, axis=-1) for k in range(10)])
        assert len({float(frame[0].mean()) for frame in data}) == 1
        assert told(check(data)[1]) == [(0, 10, "")]


def test_each_change_of_cause_or_light_is_told_once() -> None:
    data = movie(80)
    data[20:40, 0] = 0.0
    data[30:50, 1] *= 0.1
    data[35, 1, 0, 0] = np.nan
    quality, pieces = check(data, [1])
    assert told(pieces) == [
        (0, 20, ""),
        (20, 10, f"black: {BLUE}"),
        (30, 5, f"black: {BLUE}, {GREEN}"),
        (35, 1, f"non-finite: {GREEN}"),
        (36, 4, f"black: {BLUE}, {GREEN}"),
        (40, 10, f"black: {GREEN}"),
        (50, 30, ""),
    ]
    assert (quality.counters.black_frames, quality.counters.nonfinite_frames) == (29, 1)


FAULTS = st.lists(
    st.tuples(
        st.integers(0, 140),
        st.sampled_from([1, 2, 3, 30]),
        st.integers(0, 1),
        st.sampled_from([np.nan, 0.0, FULL, "dim", "frozen"]),
    ),
    max_size=6,
)


def spoilt(faults: list[tuple[int, int, int, float | str]]) -> FloatArray:
    data = movie(150)
    for begin, n, light, what in faults:
        part = data[begin : begin + n, light]
        part[...] = part[:1] if what == "frozen" else part * 0.1 if what == "dim" else what
    return data


@given(FAULTS, st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_any_chunking_gives_the_same(faults: list[tuple[int, int, int, float | str]], sizes: list[int]) -> None:
    data = spoilt(faults)
    whole, wanted = check(data, [150])
    cut, got = check(data, sizes)
    assert_same_pieces(got, wanted)
    assert cut.counters == whole.counters


@given(FAULTS, st.integers(1, 149))
def test_what_comes_later_changes_nothing(faults: list[tuple[int, int, int, float | str]], n: int) -> None:
    data = spoilt(faults)
    reasons = [reason for _, length, reason in told(check(data)[1]) for _ in range(length)]
    assert [reason for _, length, reason in told(check(data[:n])[1]) for _ in range(length)] == reasons[:n]
    assert len(reasons) == 150
