from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.latency import Deadline, LatencyHistogram


def filled(latencies_s: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for latency_s in latencies_s:
        histogram.add(latency_s)
    return histogram


@given(
    st.lists(st.floats(1e-6, 999.0), min_size=1, max_size=300),
    st.sampled_from([1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0]),
)
def test_a_percentile_is_numpys_to_two_percent(latencies_s: list[float], percent: float) -> None:
    wanted_s = float(np.percentile(latencies_s, percent, method="inverted_cdf"))
    got_s = filled(latencies_s).percentile_s(percent)
    assert wanted_s * (1 - 1e-9) <= got_s <= wanted_s * 1.0203


@given(st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=100))
def test_the_maximum_is_exact_and_no_percentile_is_above_it(latencies_s: list[float]) -> None:
    histogram = filled(latencies_s)
    assert histogram.max_s == max(latencies_s)
    assert histogram.percentile_s(100) == pytest.approx(max(latencies_s), rel=0.0203, abs=1e-6)
    assert histogram.percentile_s(50) <= histogram.max_s


def test_nothing_counted_is_nothing() -> None:
    assert LatencyHistogram().summary_ms() == dict.fromkeys(("n", "p50_ms", "p99_ms", "p999_ms", "max_ms"), 0.0)


@pytest.mark.parametrize("latency_s", [0.0, -0.01, 1e-9, 1000.0, 1e9])
def test_what_is_out_of_range_is_counted_at_the_edge(latency_s: float) -> None:
    histogram = filled([latency_s])
    assert histogram.n == 1
    assert math.isfinite(histogram.percentile_s(50))


def test_a_summary_is_in_milliseconds() -> None:
    summary = filled([0.001] * 99 + [0.5]).summary_ms()
    assert summary == {"n": 100.0, "p50_ms": pytest.approx(1.0, rel=0.02), "p99_ms": pytest.approx(1.0, rel=0.02),
                       "p999_ms": 500.0, "max_ms": 500.0}  # fmt: skip


def test_memory_does_not_grow_with_a_run() -> None:
    histogram = LatencyHistogram()
    before = sys.getsizeof(histogram._counts)
    for k in range(20_000):
        histogram.add(1e-3 * (k % 977))
    assert sys.getsizeof(histogram._counts) == before


def test_only_what_is_later_than_the_deadline_is_a_miss() -> None:
    deadline = Deadline(0.05, ("score",))
    assert [deadline.add(latency_s) for latency_s in (0.01, 0.05, 0.0501, 3.0)] == [False, False, True, True]
    assert (deadline.misses, deadline.total.n) == (2, 4)
    assert list(deadline.stages) == ["score"]
