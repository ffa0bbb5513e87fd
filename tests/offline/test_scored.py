"""Scores are written whole, read back alike, and refused when they are not what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline.scored import read, read_folder, safe_name, write_all
from streamscore.errors import RecordError, RecordingError
from tests.offline.scores import scored

FULL: dict[str, Any] = {
    "codes": [0, -1, 2],
    "reasons": ("warming up", "gap (flat: EEG)"),
    "reason": np.array([-1, 1, -1], np.int8),
    "outputs_s": np.array([4.5, 8.5]),
    "stops_s": np.array([4.0, 8.0]),
    "output_codes": np.array([0, -1], np.int8),
    "target": ("REM",),
    "actions_s": np.array([[1.0, 2.0]]),
    "hop_s": 1.0,
}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    one = scored([0, 1, -1], **FULL)
    one.write(tmp_path / "one.npz")
    got = read(tmp_path / "one.npz")
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(got, name), value, err_msg=name)
        assert type(getattr(got, name)) is type(value)
    assert list(tmp_path.iterdir()) == [tmp_path / "one.npz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": [0, 1]}, r"codes is \(2,\), expected \(3,\)"),
        ({"codes": [0, 1, 3], "probs": np.zeros((3, 3))}, "codes has codes from 0 to 3 for 3 names"),
        ({"reason": np.array([0, 0, 0], np.int8)}, "reason has codes from 0 to 0 for 0 names"),
        ({"stops_s": np.zeros(2)}, "stops_s"),
        ({"epoch_s": 0.0}, "epoch_s is 0.0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        scored([0, 1, 2], **changes)


def test_files_that_are_no_scores_are_named(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    with pytest.raises(RecordingError, match=r"one\.npz: cannot be read"):
        read(path)
    scored([0, 1]).write(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RecordingError, match=r"one\.npz: cannot be read"):
        read(path)
    np.savez(path, truth=np.zeros(3))
    with pytest.raises(RecordingError, match="holds no 'subject'"):
        read(path)
    np.savez(path, subject=np.array({"a": 1}, object))  # a pickle is not opened
    with pytest.raises(RecordingError, match="cannot be read as scores"):
        read(path)
    with pytest.raises(RecordingError, match="holds no scores"):
        read_folder(tmp_path / "empty")


def test_a_folder_is_written_and_read(tmp_path: Path) -> None:
    group = [scored([0, 1], session=f"m1_{k}", lag_s=float(k)) for k in (0, 4)]
    group.append(scored([0, 1], session="m1_0", kind="baseline"))
    names = [path.name for path in write_all(tmp_path / "scored", group)]
    assert names == ["m1_0@0.npz", "m1_4@4.npz", "m1_0@baseline.npz"]
    assert {one.kind for one in read_folder(tmp_path)} == {"final", "baseline"}
    with pytest.raises(RecordError, match="two recordings of m1 are called m1_0"):
        write_all(tmp_path / "scored", [group[0], group[0]])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be written"):
        scored([0]).write(tmp_path / "file" / "one.npz")


def test_names_of_files_cannot_leave_the_folder() -> None:
    assert safe_name("m1", "m1@0-2h") == "m1_0-2h"
    assert safe_name("m1", "../../night") == "m1-.._.._night"
    assert safe_name("m1", "") == "m1"


def test_outputs_of_the_grid_stand_in_for_outputs_that_nobody_kept() -> None:
    given_s, stops_s, codes = scored([0, 1], t0_s=10.0, lag_s=2.0).outputs()
    assert (given_s.tolist(), stops_s.tolist(), codes.tolist()) == ([16.0, 20.0], [14.0, 18.0], [0, 1])
