"""Truth and scorer on one grid and in one vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from offline.comparison import truth_on_grid, vocabulary_of
from streamscore.errors import ConfigError
from streamscore.labels import AASM5, MOUSE3, RK6
from tests.offline.scores import EPOCH_S, recording

STATES = np.array([0, 1, 1, -1, 2], np.int8)


def test_labels_on_the_grid_are_taken_as_they_are() -> None:
    assert truth_on_grid(recording(STATES), 0.0, EPOCH_S, 3).tolist() == STATES.tolist()
    assert truth_on_grid(recording(STATES), 0.0, EPOCH_S, 7).tolist() == [*STATES.tolist(), -1, -1]


def test_labels_may_begin_elsewhere() -> None:
    late = recording([0, *STATES], STATES, states_t0_s=EPOCH_S)
    assert truth_on_grid(late, 0.0, EPOCH_S, 0).tolist() == [-1, *STATES.tolist()]
    assert truth_on_grid(late, EPOCH_S, EPOCH_S, 0).tolist() == STATES.tolist()


def test_finer_and_coarser_epochs_take_the_label_that_covers_more_than_half() -> None:
    whole = recording(STATES)
    assert truth_on_grid(whole, 0.0, 1.0, 0).tolist() == np.repeat(STATES, 4).tolist()
    # 8-s epochs: half Wake and half NREM is neither; NREM and no label is not more than half either.
    assert truth_on_grid(whole, 0.0, 8.0, 0).tolist() == [-1, -1, -1]
    # 10-s epochs: 4 s Wake + 6 s NREM; 2 s NREM, 4 s none, 4 s REM.
    assert truth_on_grid(whole, 0.0, 10.0, 0).tolist() == [1, -1]
    assert truth_on_grid(whole, 1.0, EPOCH_S, 0).tolist() == [0, 1, 1, -1, 2]  # 3 s of 4


def test_an_epoch_without_samples_is_unlabelled() -> None:
    whole = recording([0, 1, 2])
    gone = (whole.stamps_s >= 4.0) & (whole.stamps_s < 8.0)
    lost = recording([0, 1, 2], data=whole.data[~gone], stamps_s=whole.stamps_s[~gone])
    assert truth_on_grid(lost, 0.0, EPOCH_S, 0).tolist() == [0, -1, 2]


def test_vocabularies_are_matched_by_name() -> None:
    found = vocabulary_of(("a", "b", "c"), ("c", "a"), "f")
    assert found.truth(np.array([0, 1, -1], np.int8)).tolist() == [2, 0, -1]


@pytest.mark.parametrize(
    ("bundle", "truth", "coarser", "joined"),
    [(AASM5, RK6, AASM5, "N3"), (RK6, AASM5, AASM5, "N3"), (AASM5, MOUSE3, MOUSE3, "NREM")],
)
def test_states_are_merged_only_on_demand(
    bundle: tuple[str, ...], truth: tuple[str, ...], coarser: tuple[str, ...], joined: str
) -> None:
    with pytest.raises(ConfigError, match=r"night: its labels are \w+ \(.*add --merge to compare both as"):
        vocabulary_of(bundle, truth, "night")
    found = vocabulary_of(bundle, truth, "night", merge=True)
    assert found.labels == coarser
    finer = max((bundle, truth), key=len)
    codes = np.arange(len(finer), dtype=np.int8)
    probs = np.eye(len(bundle), dtype=np.float32) * 0.5 + 0.5 / len(bundle)
    merged = found.truth(codes) if finer == truth else found.scored(codes, probs)[0]
    assert [coarser[code] for code in merged].count(joined) == len(finer) - len(coarser) + 1
    np.testing.assert_allclose(found.scored(np.zeros(len(bundle), np.int8), probs)[1].sum(axis=1), 1.0, rtol=1e-6)


def test_vocabularies_that_nothing_joins_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"labels are RUNREST \(rest, run\).*no standard joins them"):
        vocabulary_of(AASM5, ("rest", "run"), "night", merge=True)


def test_a_policy_must_act_on_all_of_a_merged_state() -> None:
    found = vocabulary_of(AASM5, MOUSE3, "night", merge=True)
    assert found.target(("N1", "N2", "N3"), AASM5) == ("NREM",)
    assert found.target(("REM",), AASM5) == ("REM",)
    with pytest.raises(ConfigError, match="acts on N3, which merging joins with N1, N2"):
        found.target(("N3",), AASM5)
