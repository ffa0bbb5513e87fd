"""Which parts of the recordings a pass is made of, and that it is a function of seed, stage and pass."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from offline.examples import Cut, Pass, Plan, assemble, plan, plan_in_order
from offline.recipe import Augment, Examples
from offline.sequences import Sequences
from streamscore.errors import ConfigError

STEP = 10


def recording(n_steps: int, runs: tuple[tuple[int, int], ...] = (), codes: Any = None) -> Sequences:
    """Every sample of a recording is its own number."""
    x = np.arange(n_steps * STEP, dtype=np.float32).reshape(n_steps, 1, STEP)
    y = np.arange(n_steps) % 3 if codes is None else np.asarray(codes)
    return Sequences("night", x, y.astype(np.int64), np.arange(n_steps), runs or ((0, n_steps),), n_steps)


def planned(data: list[Sequences], *key: int, **config: Any) -> Plan:
    return plan(data, Examples(**config), np.random.default_rng(key or 0))


def covered(batches: Plan, n_steps: int, of: int = 0) -> list[int]:
    """How often each step of a recording is in a pass."""
    times = np.zeros(n_steps, np.int64)
    for cut in (cut for cuts in batches for cut in cuts if cut.recording == of):
        times[cut.begin : cut.end] += 1
    return times.tolist()


def test_windows_side_by_side_cover_a_run_once_and_never_cross_a_gap() -> None:
    batches = planned([recording(50, runs=((0, 23), (23, 50)))], steps=5, stride=5, batch=4)
    cuts = [cut for cuts in batches for cut in cuts]
    assert sorted(cut.begin for cut in cuts) == [0, 5, 10, 15, 23, 28, 33, 38, 43]
    assert {cut.end - cut.begin for cut in cuts} == {5}
    assert all(cut.seen == 0 for cut in cuts)  # each from a fresh state
    assert max(map(len, batches)) == 4


def test_windows_without_any_label_are_left_out() -> None:
    codes = np.full(20, -1)
    codes[12] = 1
    (batch,) = planned([recording(20, codes=codes)], steps=5, stride=5)
    assert [(cut.begin, cut.end) for cut in batch] == [(10, 15)]


@pytest.mark.parametrize(
    ("balance", "expected"), [("oversample", {0: 60, 1: 60, 2: 60}), ("undersample", {0: 5, 1: 5, 2: 5})]
)
def test_balanced_states_are_as_frequent_as_the_most_frequent_or_the_rarest(
    balance: str, expected: dict[int, int]
) -> None:
    data = [recording(81, codes=np.repeat([0, 1, 2, -1], [60, 15, 5, 1]))]
    batches = planned(data, steps=1, balance=balance, batch=16)
    counts = Counter(int(data[0].y[cut.begin]) for cuts in batches for cut in cuts)
    assert counts == expected


def test_oversampling_repeats_each_window_alike() -> None:
    data = [recording(40, codes=np.repeat([0, 1], [29, 11]))]
    times = covered(planned(data, steps=1, balance="oversample"), 40)
    assert set(times[:29]) == {1}
    assert set(times[29:]) == {2, 3}  # 29 = 2 × 11 + 7


def test_drawn_windows_hold_each_state_as_often() -> None:
    codes = np.zeros(400, np.int64)
    codes[200:204] = 1
    data = [recording(400, codes=codes)]
    batches = planned(data, steps=3, balance="draw", per_pass=300)
    cuts = [cut for cuts in batches for cut in cuts]
    assert len(cuts) == 300
    with_rare = np.mean([(codes[cut.begin : cut.end] == 1).any() for cut in cuts])
    assert 0.4 < with_rare < 0.65  # 1 % of all steps


def test_context_goes_before_what_is_asked() -> None:
    data = [recording(30)]
    batches = planned(data, steps=2, stride=2, context=6)
    assert {cut.end - cut.begin for cuts in batches for cut in cuts} == {8}
    batch = Pass(data, batches, n_past=0, first=6)[0]
    assert batch.first == 6
    assert batch.n_steps == 8


def test_ragged_parts_have_all_lengths_and_cover_everything_once() -> None:
    data = [recording(40 + k) for k in range(12)]
    batches = planned(data, ragged=True, steps=8, batch=4)
    for k, d in enumerate(data):
        assert set(covered(batches, len(d.y), of=k)) == {1}
    for cuts in batches:
        (length,) = {cut.end - cut.begin for cut in cuts}
        assert len(cuts) <= max(4 * 8 // length, 1)  # as many steps in each batch
    first = {cut.end for cuts in batches for cut in cuts if cut.begin == 0}
    assert len(first) > 3  # beginnings of streams are cut anywhere


def test_joined_recordings_ignore_their_gaps() -> None:
    runs = tuple((k, k + 2) for k in range(0, 40, 2))
    apart = planned([recording(40, runs)], ragged=True, steps=8)
    joined = planned([recording(40, runs)], ragged=True, steps=8, joined=1.0)
    assert max(cut.end - cut.begin for cuts in apart for cut in cuts) == 2
    assert max(cut.end - cut.begin for cuts in joined for cut in cuts) == 8
    assert all(cut.joined for cuts in joined for cut in cuts)


def test_nights_go_from_start_to_end_side_by_side() -> None:
    data = [recording(n) for n in (25, 10, 18)]
    batches = planned(data, kind="nights", steps=10, batch=2)
    for k, d in enumerate(data):
        assert covered(batches, len(d.y), of=k) == [1] * len(d.y)
        cuts = [cut for cuts in batches for cut in cuts if cut.recording == k and cut.end]
        assert [cut.seen for cut in cuts] == [cut.begin for cut in cuts]  # carried all through
        assert [cut.begin for cut in cuts] == sorted(cut.begin for cut in cuts)
    assert len(batches) in (4, 5)  # two nights side by side, the third alone


def test_nights_start_afresh_after_a_gap() -> None:
    batches = planned([recording(30, runs=((0, 12), (12, 30)))], kind="nights", steps=10, batch=1)
    assert [(c.begin, c.end, c.seen) for (c,) in batches] == [(0, 10, 0), (10, 12, 10), (12, 22, 0), (22, 30, 10)]


def test_rows_are_equal_parts_of_whole_chunks() -> None:
    batches = planned([recording(207)], kind="nights", rows=10, steps=5)
    assert len(batches) == 4  # 207 // 10 = 20 epochs a row, 4 chunks
    for number, cuts in enumerate(batches):
        assert [cut.begin for cut in cuts] == [20 * row + 5 * number for row in range(10)]
        assert [cut.seen for cut in cuts] == [5 * number] * 10
        assert {cut.end - cut.begin for cut in cuts} == {5}


def test_rows_drop_chunks_that_a_gap_cuts_off() -> None:
    batches = planned([recording(40, runs=((0, 7), (7, 40)))], kind="nights", rows=2, steps=5)
    lengths = {cut.end - cut.begin for cuts in batches for cut in cuts}
    assert lengths <= {0, 5}
    assert (7, 12) in {(cut.begin, cut.end) for cuts in batches for cut in cuts}


def test_a_shifted_night_is_read_as_many_samples_later() -> None:
    data = [recording(30)]
    shifts = set()
    for seed in range(20):
        batches = planned(data, seed, kind="nights", steps=10, batch=1, shift=0.3, skip=2)
        shift = batches[0][0].shift
        shifts.add(shift)
        assert abs(shift) <= 3
        read = np.concatenate([assemble(data, cuts, 0).x.numpy().ravel() for cuts in batches])
        np.testing.assert_array_equal(np.diff(read), 1)  # nothing is lost or repeated in between
        assert read[0] == STEP * batches[0][0].begin + shift
    assert min(shifts) < 0 < max(shifts)


def test_skipped_steps_are_at_the_start() -> None:
    begins = {
        planned([recording(30)], seed, kind="nights", steps=10, batch=1, skip=4)[0][0].begin for seed in range(40)
    }
    assert begins == {0, 1, 2, 3, 4}


def test_validation_sees_every_step_once_with_the_state_carried() -> None:
    data = [recording(25, runs=((0, 7), (7, 25))), recording(11)]
    batches = plan_in_order(data, n_steps=5, batch=8)
    for k, d in enumerate(data):
        assert set(covered(batches, len(d.y), of=k)) == {1}
    whole = plan_in_order(data, n_steps=5, batch=8, whole=True)
    assert {cut.end - cut.begin for cuts in whole for cut in cuts} <= {0, 5}
    assert sum(covered(whole, 25)) == 20


def test_labels_of_the_past_come_with_a_part() -> None:
    data = [recording(30)]
    batch = assemble(data, [Cut(0, 10, 15, seen=10), Cut(0, 20, 23, seen=1)], n_past=3)
    assert batch.y[0].tolist() == data[0].y[7:15].tolist()
    # One step was seen before, and two steps follow that are not there.
    assert batch.y[1].tolist() == [-1, -1, *data[0].y[19:23].tolist(), -1, -1]
    assert batch.x.shape == (2, 1, 5 * STEP)
    assert not batch.x[1, :, 3 * STEP :].any()
    assert batch.seen.tolist() == [10, 1]


def test_pictures_and_movies_keep_their_frames_in_order() -> None:
    movie = Sequences(
        "movie", np.arange(6 * 2 * 3 * 4).reshape(6, 2, 3, 4), np.zeros(6, np.int64), np.arange(6), ((0, 6),), 6
    )
    batch = assemble([movie], [Cut(0, 1, 3)], n_past=0)
    assert batch.x.shape == (1, 4, 3, 4)
    np.testing.assert_array_equal(batch.x[0].numpy().ravel(), np.arange(24, 72))


CONFIGS = [
    {"steps": 3, "stride": 1, "balance": "undersample"},
    {"steps": 3, "balance": "draw"},
    {"steps": 5, "ragged": True, "joined": 0.5},
    {"kind": "nights", "steps": 5, "batch": 2, "shift": 0.3, "skip": 4},
]


@pytest.mark.parametrize("config", CONFIGS, ids=["undersample", "draw", "ragged", "nights"])
def test_a_pass_is_a_function_of_seed_stage_and_number(config: dict[str, Any]) -> None:
    data = [recording(60, runs=((0, 31), (31, 60))), recording(45)]
    plans = [planned(data, 7, 0, number, **config) for number in (0, 0, 1)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_batches_are_the_same_whoever_makes_them_and_whenever() -> None:
    data = [recording(60)]
    batches = planned(data, steps=3, stride=3, batch=4)
    altered = Augment(gain=0.2, noise=0.1)
    one, two = (Pass(data, batches, 0, altered=altered, sfreq=10.0, key=(1, 0, 2)) for _ in range(2))
    later = Pass(data, batches, 0, altered=altered, sfreq=10.0, key=(1, 0, 3))
    two[3]
    assert torch.equal(one[1].x, two[1].x)
    assert not torch.equal(one[1].x, later[1].x)
    assert torch.equal(one[1].y, later[1].y)


def test_a_look_ahead_holds_as_long_as_a_state_is_carried() -> None:
    data = [recording(40), recording(40)]
    nights = Pass(data, planned(data, kind="nights", steps=4, batch=1), 0, key=(0,), n_look_aheads=5)
    drawn = [nights[k].look_ahead for k in range(len(nights))]
    assert drawn == [drawn[0]] * 10 + [drawn[10]] * 10
    windows = Pass(data, planned(data, steps=4, batch=1), 0, key=(0,), n_look_aheads=5)
    each = [windows[k].look_ahead for k in range(len(windows))]
    assert set(each) == set(range(5))
    assert any(a != z for a, z in pairwise(each))
    assert Pass(data, planned(data, steps=4), 0)[0].look_ahead == -1


def test_examples_longer_than_any_recording_are_refused_with_the_longest() -> None:
    with pytest.raises(ConfigError, match=r"of 20 steps: the longest .* has 15 steps"):
        planned([recording(25, runs=((0, 10), (10, 25)))], steps=20)
