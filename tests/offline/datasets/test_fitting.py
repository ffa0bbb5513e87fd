"""Labels and signals that do not lie alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.datasets.fitting import attach, fit
from streamscore.annotations import ScoredStates
from streamscore.errors import RecordingError
from streamscore.labels import MOUSE3
from streamscore.movies.base import read_movie
from streamscore.recordings.base import Recording

SFREQ, EPOCH_S = 10.0, 4.0


def recording(n_samples: int = 200, first_s: float = 0.0) -> Recording:
    data = np.arange(n_samples, dtype=np.float32)[:, None]
    return Recording("r", data, first_s + np.arange(n_samples) / SFREQ, SFREQ, ("EEG",), ("uV",))


def labelled(codes: list[int], t0_s: float = 0.0, n_samples: int = 200) -> Recording:
    scored = ScoredStates(MOUSE3, EPOCH_S, t0_s, np.array(codes, np.int8))
    found = attach(recording(n_samples), scored)
    assert isinstance(found, Recording)
    return found


def fitted(found: Recording) -> tuple[Recording, list[str]]:
    result, problems = fit(found, "r.npz")
    assert isinstance(result, Recording)
    return result, [problem.text for problem in problems]


def test_what_fits_is_left_as_it_is() -> None:
    result, problems = fitted(labelled([0, 1, 2, 0, 1]))
    assert problems == []
    assert result.states.tolist() == [0, 1, 2, 0, 1]
    assert len(result.data) == 200
    assert result.states_t0_s == result.stamps_s[0] == 0


def test_labels_behind_the_end_are_left_out_and_counted() -> None:
    result, problems = fitted(labelled([0, 1, 2, 0, 1, 2, -1, 0]))
    assert result.states.tolist() == [0, 1, 2, 0, 1]
    assert problems == ["2 scored epochs of 4 s lie behind the end of the signal and are left out"]


def test_an_epoch_that_the_signal_does_not_fill_is_left_out() -> None:
    result, problems = fitted(labelled([0, 1], n_samples=79))
    assert result.states.tolist() == [0]
    assert problems[0].startswith("1 scored")
    assert fitted(labelled([0, 1], n_samples=80))[0].states.tolist() == [0, 1]


def test_labels_before_the_start_are_left_out_and_counted() -> None:
    result, problems = fitted(labelled([0, 1, 2, 0], t0_s=-5.0))
    # Epochs start at -5, -1, 3 and 7 s: the first whole one at 3 s.
    assert result.states.tolist() == [2, 0]
    assert result.data[0, 0] == 30
    assert result.stamps_s[0] == result.states_t0_s == 0
    assert problems == ["2 scored epochs of 4 s lie before the signal begins and are left out"]


def test_signal_ahead_of_the_labels_is_kept_in_whole_epochs() -> None:
    result, problems = fitted(labelled([2, 1], t0_s=9.0))
    assert result.states.tolist() == [-1, -1, 2, 1]
    assert result.data[0, 0] == 10
    assert problems == []


def test_labels_shorter_than_the_signal_leave_its_end_without_labels() -> None:
    result, problems = fitted(labelled([0, 1]))
    assert result.states.tolist() == [0, 1]
    assert len(result.data) == 200
    assert problems == []


def test_the_clock_of_the_file_does_not_matter() -> None:
    found = attach(recording(first_s=1000.0), ScoredStates(MOUSE3, EPOCH_S, 0.0, np.array([0, 1], np.int8)))
    result, _ = fit(found, "r")
    assert result.stamps_s[0] == result.states_t0_s == 0


def test_a_gap_over_the_start_moves_to_the_next_epoch_that_has_a_sample() -> None:
    found = labelled([0, 1, 2, 0, 1], t0_s=-2.0)
    keep = (found.stamps_s < 1.0) | (found.stamps_s >= 5.0)
    found = replace(found, data=found.data[keep], stamps_s=found.stamps_s[keep])
    result, problems = fitted(found)
    # Epochs start at -2, 2, 6, 10 and 14 s; the second begins in the gap from 1 to 5 s.
    assert result.data[0, 0] == 60
    assert result.states.tolist() == [2, 0, 1]
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (recording(0), "holds no samples"),
        (recording(), "has no labels"),
        (labelled([-1, -1]), "no scored epoch lies on the signal"),
        (labelled([0, 1], t0_s=30.0), "no scored epoch lies on the signal"),
        (labelled([0, 1], t0_s=-30.0), "no scored epoch lies on the signal"),
    ],
)
def test_what_cannot_be_used_is_refused(found: Recording, message: str) -> None:
    with pytest.raises(RecordingError, match=rf"r\.npz: {message}"):
        fit(found, "r.npz")


def test_a_channel_without_a_number_is_refused() -> None:
    found = labelled([0, 1])
    with pytest.raises(RecordingError, match="channel EEG holds no finite sample"):
        fit(replace(found, data=np.full_like(found.data, np.nan)), "r.npz")


@given(
    t0=st.integers(-100, 150),
    n_epochs=st.integers(1, 8),
    n_samples=st.integers(50, 200),
)
def test_every_label_stays_on_the_samples_that_it_was_given_to(t0: int, n_epochs: int, n_samples: int) -> None:
    """Whatever is cut: the samples of each labelled epoch are those between its times."""
    codes = [k % 3 for k in range(n_epochs)]
    found = labelled(codes, t0_s=t0 / 10, n_samples=n_samples)
    whole = [k for k in range(n_epochs) if t0 + 40 * k >= 0 and t0 + 40 * (k + 1) <= n_samples]
    if not whole:
        with pytest.raises(RecordingError):
            fit(found, "r")
        return
    result, _ = fitted(found)
    scored = np.flatnonzero(result.states >= 0)
    assert [codes[k] for k in whole] == result.states[scored].tolist()
    for row, k in zip(scored, whole, strict=True):
        at = int(np.searchsorted(result.stamps_s, row * EPOCH_S - 1e-6))
        assert result.data[at, 0] == t0 + 40 * k


def test_frames_are_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, frames=np.ones((100, 4, 4), np.uint16), rate_hz=10.0)
    scored = ScoredStates(MOUSE3, EPOCH_S, -3.0, np.array([0, 1, 2, 0], np.int8))
    with read_movie(path) as movie:
        result, problems = fit(attach(movie, scored), "m")
    assert result.states.tolist() == [1, 2]
    assert result.states_t0_s == 1.0
    assert len(problems) == 2
