from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.quality import Config, Quality
from streamscore.types import FloatArray, Gap, Segment
from tests.streams import assert_same_pieces, cuts, joined, sizes

SFREQ = 50.0
FLAT = 100  # samples of 2 s


def noise(n: int, n_channels: int = 2) -> FloatArray:
    return np.random.default_rng(0).standard_normal((n, n_channels)).astype(np.float32)


def check(data: FloatArray, sizes: Sequence[int] = (64,), start: int = 0) -> tuple[Quality, list[Segment | Gap]]:
    """Push `data` in pieces."""
    quality = Quality(Config(), SFREQ, ("EEG", "EMG")[: data.shape[1]])
    stamps_s = 10.0 + np.arange(len(data)) / SFREQ
    pieces = [
        piece
        for part in cuts(len(data), sizes)
        for piece in quality.push(Segment(start + part.start, data[part], stamps_s[part]))
    ]
    return quality, pieces


def told(pieces: Sequence[Segment | Gap]) -> list[tuple[int, int, str]]:
    """Start, length and reason of each piece; a segment has none."""
    return [
        (p.start, len(p.data), "") if isinstance(p, Segment) else (p.start, p.n_samples, p.reason)
        for p in joined(pieces)
    ]


def test_good_samples_pass_untouched() -> None:
    data = noise(500)
    quality, pieces = check(data, [500])
    (segment,) = pieces
    assert isinstance(segment, Segment)
    assert segment.data is not None
    assert np.shares_memory(segment.data, data)
    assert (quality.counters.nonfinite_samples, quality.counters.flat_samples) == (0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_become_a_gap_that_names_the_channel(bad: float) -> None:
    data = noise(300)
    data[120:123, 1] = bad
    quality, pieces = check(data, start=1000)
    assert told(pieces) == [(1000, 120, ""), (1120, 3, "non-finite: EMG"), (1123, 177, "")]
    gap = joined(pieces)[1]
    assert isinstance(gap, Gap)
    assert gap.t_s == pytest.approx(10.0 + 120 / SFREQ)
    assert quality.counters.nonfinite_samples == 3


def test_a_flat_line_is_withheld_once_it_has_lasted() -> None:
    data = noise(600)
    data[200:400, 0] = data[199, 0]
    quality, pieces = check(data)
    first = 199 + FLAT - 1
    assert told(pieces) == [(0, first, ""), (first, 400 - first, "flat: EEG"), (400, 200, "")]
    assert quality.counters.flat_samples == 400 - first


@pytest.mark.parametrize("n", [FLAT - 1, FLAT])
def test_a_flat_line_begins_at_exactly_its_length(n: int) -> None:
    data = noise(300)
    data[100 : 100 + n, 0] = 5.0
    assert (len(told(check(data)[1])) == 1) == (n < FLAT)


@given(sizes)
def test_a_flat_line_is_followed_across_chunks(sizes: list[int]) -> None:
    data = noise(900)
    data[150:700] = 0.0
    assert told(check(data, sizes)[1]) == [(0, 249, ""), (249, 451, "flat: EEG, EMG"), (700, 200, "")]


def test_a_lost_electrode_that_reads_zero_from_the_start_is_flat() -> None:
    assert told(check(np.zeros((300, 1), np.float32))[1]) == [(0, 99, ""), (99, 201, "flat: EEG")]


def test_each_change_of_the_channels_at_fault_is_told() -> None:
    data = noise(600)
    data[100:400, 0] = 1.0
    data[150:400, 1] = 2.0
    data[300, 1] = np.nan
    assert told(check(data)[1]) == [
        (0, 199, ""),
        (199, 50, "flat: EEG"),
        (249, 51, "flat: EEG, EMG"),
        (300, 1, "non-finite: EMG"),
        (301, 99, "flat: EEG"),
        (400, 200, ""),
    ]


FAULTS = st.lists(
    st.tuples(
        st.integers(0, 900),
        st.sampled_from([1, 2, 50, FLAT, 250]),
        st.integers(0, 1),
        st.sampled_from([np.nan, np.inf, 0.0, 7.0]),
    ),
    max_size=6,
)


@given(FAULTS, sizes)
def test_any_chunking_gives_the_same(faults: list[tuple[int, int, int, float]], sizes: list[int]) -> None:
    data = noise(1000)
    for begin, n, channel, value in faults:
        data[begin : begin + n, channel] = value
    whole, wanted = check(data, [1000])
    cut, got = check(data, sizes)
    assert_same_pieces(got, wanted)
    assert cut.counters == whole.counters


@given(FAULTS, sizes)
def test_nothing_unusable_passes_and_nothing_is_lost(
    faults: list[tuple[int, int, int, float]], sizes: list[int]
) -> None:
    data = noise(1000)
    for begin, n, channel, value in faults:
        data[begin : begin + n, channel] = value
    at = 0
    for start, n, reason in told(check(data, sizes)[1]):
        assert start == at
        at += n
        if not reason:
            part = data[start : start + n]
            assert np.isfinite(part).all()
            runs = [np.diff(np.flatnonzero(np.r_[True, np.diff(part[:, c]) != 0, True])) for c in range(2)]
            assert max(int(run.max()) for run in runs) <= FLAT
    assert at == 1000


def test_what_may_stand_still_is_never_flat() -> None:
    quality = Quality(Config(flat_s=None), SFREQ, ("wheel",))
    still = Segment(0, np.zeros((100 * FLAT, 1), np.float32), np.arange(100 * FLAT) / SFREQ)
    assert told(quality.push(still)) == [(0, 100 * FLAT, "")]
    assert told(quality.push(Segment(100 * FLAT, np.full((1, 1), np.nan, np.float32), np.array([1e3])))) == [
        (100 * FLAT, 1, "non-finite: wheel")
    ]
