from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.ring import Ring

CAPACITY = 7

#: Numbers of samples to append, or to skip (negative).
OPERATIONS = st.lists(st.integers(-10, CAPACITY), max_size=40)


def sample(index: int) -> list[float]:
    return [float(index), -float(index)]


def filled(operations: list[int]) -> tuple[Ring, list[int]]:
    """Carry out operations on a ring, and on a plain list of the indices that it may still know."""
    ring = Ring(CAPACITY, (2,))
    known: list[int] = []
    stop = 0
    for operation in operations:
        if operation < 0:
            stop -= operation
            ring.skip_to(stop)
            known = []
            continue
        indices = list(range(stop, stop + operation))
        data = np.array([sample(i) for i in indices], np.float32).reshape(-1, 2)
        ring.append(data, np.array(indices, float) / 4.0)
        stop += operation
        known = (known + indices)[-CAPACITY:]
    return ring, known


@given(OPERATIONS)
def test_it_holds_what_a_plain_list_holds(operations: list[int]) -> None:
    ring, known = filled(operations)
    assert ring.oldest == (known[0] if known else ring.stop)
    for i, begin in enumerate(known):
        for end in known[i:]:
            wanted = [sample(k) for k in range(begin, end + 1)]
            np.testing.assert_array_equal(ring.window(begin, end + 1), wanted)
        assert ring.stamp_s(begin) == begin / 4.0


@given(OPERATIONS, st.integers(-5, 60), st.integers(-5, 60))
def test_what_it_does_not_hold_is_an_error_that_says_what_it_holds(
    operations: list[int], begin: int, end: int
) -> None:
    ring, known = filled(operations)
    if begin < end and known and known[0] <= begin and end - 1 <= known[-1]:
        return
    with pytest.raises(
        IndexError, match=rf"\[{begin}, {end}\) asked for, the ring holds \[{ring.oldest}, {ring.stop}\)"
    ):
        ring.window(begin, end)


def test_more_than_it_can_hold_is_an_error() -> None:
    ring = Ring(CAPACITY, (2,))
    with pytest.raises(ValueError, match="8 samples do not fit a ring of 7"):
        ring.append(np.zeros((8, 2), np.float32), np.zeros(8))


def test_an_overwritten_sample_cannot_be_read() -> None:
    ring, _ = filled([CAPACITY, 1])
    with pytest.raises(IndexError):
        ring.window(0, 3)
    with pytest.raises(IndexError):
        ring.stamp_s(0)


def test_a_window_never_reaches_across_a_gap() -> None:
    ring, _ = filled([4, -2, 3])
    assert ring.run_start == 6
    with pytest.raises(IndexError):
        ring.window(3, 7)


def test_reading_copies_nothing_and_writing_allocates_nothing() -> None:
    ring = Ring(CAPACITY, (2,))
    memory = ring.window.__self__._data
    ring.append(np.ones((5, 2), np.float32), np.zeros(5))
    ring.append(np.ones((5, 2), np.float32), np.zeros(5))
    assert np.shares_memory(ring.window(4, 10), memory)
    assert ring.window(4, 10).flags["C_CONTIGUOUS"]


def test_it_does_not_go_back() -> None:
    ring, _ = filled([5])
    ring.skip_to(3)
    assert (ring.stop, ring.run_start) == (5, 5)


def test_it_holds_frames() -> None:
    ring = Ring(CAPACITY, (3, 2))
    frames = np.arange(10 * 6, dtype=np.float32).reshape(10, 3, 2)
    for k in range(10):
        ring.append(frames[k : k + 1], np.array([k / 30.0]))
    np.testing.assert_array_equal(ring.window(4, 10), frames[4:10])
