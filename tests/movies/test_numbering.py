from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.movies.numbering import frame_numbers
from streamscore.types import TimeArray


def evenly(numbers: object, rate_hz: float = 67.2) -> TimeArray:
    return 5.0 + np.asarray(numbers) / rate_hz


def kept(n: int, lost: set[int]) -> np.ndarray:
    return np.array([k for k in range(n) if k not in lost])


def test_without_a_loss_frames_are_counted() -> None:
    assert frame_numbers(evenly(range(100)), 67.2, 4).tolist() == list(range(100))
    assert frame_numbers(evenly([0]), 67.2).tolist() == [0]


@given(st.sets(st.integers(1, 298), max_size=150), st.sampled_from([1, 2, 4]), st.booleans())
def test_losses_are_counted_exactly(lost: set[int], n_lights: int, is_tagged: bool) -> None:
    truth = kept(300, lost)
    tags = truth % n_lights if is_tagged else None
    np.testing.assert_array_equal(frame_numbers(evenly(truth), 67.2, n_lights, tags), truth)


@given(st.sets(st.integers(200, 398), max_size=100))
def test_pairs_of_frames_need_not_be_evenly_spaced(lost: set[int]) -> None:
    truth = kept(400, lost)
    stamps_s = truth // 2 + 0.05 * (truth % 2)
    np.testing.assert_array_equal(frame_numbers(stamps_s, 2.0, 2), truth)
    np.testing.assert_array_equal(frame_numbers(stamps_s, 2.0, 2, truth % 2), truth)


def test_tags_place_the_first_frame() -> None:
    truth = np.arange(3, 40)
    assert frame_numbers(evenly(truth), 67.2, 4, truth % 4).tolist() == truth.tolist()


def test_tags_win_over_times() -> None:
    truth = kept(60, {30})
    stamps_s = evenly(truth)
    stamps_s[30] -= 0.6 / 67.2  # the frame after the loss is stamped too early for its light
    np.testing.assert_array_equal(frame_numbers(stamps_s, 67.2, 4, truth % 4), truth)


@pytest.mark.parametrize("late_s", [0.012, 0.04, 0.1])
def test_a_late_frame_is_no_loss(late_s: float) -> None:
    stamps_s = evenly(range(200), 30.0)
    pile_up = stamps_s[50] + late_s
    stamps_s[50:] = np.maximum(stamps_s[50:], pile_up + 1e-4 * np.arange(150))
    assert frame_numbers(stamps_s, 30.0).tolist() == list(range(200))


@pytest.mark.parametrize("error", [-0.02, 0.02])
def test_a_rate_that_is_a_little_off_does_not_add_up(error: float) -> None:
    truth = kept(5000, {1234, 3000, 3001})
    np.testing.assert_array_equal(frame_numbers(evenly(truth, 16.8 * (1 + error)), 16.8), truth)
