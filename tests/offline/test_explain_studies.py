"""Studies of the run/rest decoder find what was put into a table of traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offline import run_rest
from offline.explain.label_shift import label_shift
from offline.explain.regions import PUBLISHED, default_subsets, parse, regions
from offline.explain.study import Study, frames_of, shifted, variation
from offline.explain.window_length import window_length
from streamscore.errors import ConfigError
from tests.offline.explaining import written

SFREQ = 10.0


def write_table(path: Path, n_regions: int = 4, drawn: bool = True) -> Path:
    """A minute; the first region follows the wheel, the others are noise."""
    rng = np.random.default_rng(0)
    n = 600
    running = (np.arange(n) // 50) % 2
    dff = rng.standard_normal((n, n_regions)).astype(np.float32)
    dff[:, 0] = 3.0 * running + 0.3 * dff[:, 0]
    arrays = {
        "dff": dff,
        "t": np.arange(n) / SFREQ,
        "wheel": 3.0 * running * np.sign(rng.standard_normal(n)),
        "fs": SFREQ,
    }
    if drawn:
        arrays["parcel_map"] = np.repeat(np.arange(1, n_regions + 1), 12 // n_regions)[:, None] * np.ones(
            (1, 8), int
        )
    np.savez(path, **arrays)
    return path


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(run_rest, "N_REDRAWN", 20)  # intervals are not looked at here
    return Study(write_table(tmp_path / "table.npz"), tmp_path / "trainings", steps=15, n_folds=2)


def test_regions_find_the_one_that_tells(study: Study, tmp_path: Path) -> None:
    found = regions(study, {"tells": (1,)})
    arrays = written(found, tmp_path)
    assert arrays["auc_all"] > 0.8
    assert arrays["auc_kept"][0] > 0.9
    assert abs(arrays["auc_left_out"][0] - 0.5) < 0.25
    np.testing.assert_array_equal(arrays["member"], [[1, 0, 0, 0]])
    # What is done is not done again: the table is not even read by a job.
    results = sorted((tmp_path / "trainings").rglob("result.json"))
    assert len(results) == 3
    before = [path.stat().st_mtime_ns for path in results]
    again = regions(study, {"tells": (1,)})
    assert [path.stat().st_mtime_ns for path in results] == before
    assert again.figures == found.figures


def test_window_and_shift_are_whole_frames(study: Study, tmp_path: Path) -> None:
    found = window_length(study, (0.21,))
    assert written(found, tmp_path)["half_window_s"].tolist() == [0.2]
    assert found.rows[0][:2] == ("±0.20", "5")
    assert found.arrays["auc_blocks"][0] > 0.8
    moved = label_shift(study, (-2.5, 0.0))
    assert moved.figures["best_shift_s"] == 0.0
    # Bouts of 5 s: half a bout earlier is as often wrong as right.
    assert moved.arrays["auc_blocks"][1] - moved.arrays["auc_blocks"][0] > 0.1
    with pytest.raises(ConfigError, match=r"shifts 0, 0.01: at 10 frames a second these are 0, 0 frames"):
        label_shift(study, (0.0, 0.01))


def test_labels_are_shifted_towards_the_past_of_the_label() -> None:
    codes = np.array([0, 0, 1, 1, -1], np.int8)
    assert shifted(codes, 0).tolist() == codes.tolist()
    assert shifted(codes, 2).tolist() == [1, 1, -1, -1, -1]
    assert shifted(codes, -1).tolist() == [-1, 0, 0, 1, 1]
    assert frames_of((0.1, 0.5), 30.0, "shifts") == [3, 15]


def test_subsets_are_read_from_the_command_line() -> None:
    assert parse(["limbs=6-8,31", "one=2"], 50) == {"limbs": (6, 7, 8, 31), "one": (2,)}
    with pytest.raises(ConfigError, match="write NAME=NUMBERS"):
        parse(["6-8"], 50)
    with pytest.raises(ConfigError, match="regions are numbered from 1 to 5"):
        parse(["all=1-6"], 5)
    with pytest.raises(ConfigError, match="and not all"):
        parse(["all=1-5"], 5)


def test_default_subsets_are_the_papers_or_parts_of_the_map(tmp_path: Path) -> None:
    assert default_subsets(tmp_path / "none.npz", 50) == PUBLISHED
    table = write_table(tmp_path / "drawn.npz", n_regions=12)
    subsets = default_subsets(table, 12)
    assert sorted(k for chosen in subsets.values() for k in chosen) == list(range(1, 13))
    assert {len(chosen) for chosen in subsets.values()} == {2}
    assert subsets["upper-left"] + subsets["upper-right"] == (1, 2, 3, 4)
    with pytest.raises(ConfigError, match="has 12 regions and no parcel_map"):
        default_subsets(write_table(tmp_path / "bare.npz", n_regions=12, drawn=False), 12)


def test_a_longer_window_gets_longer_sequences(study: Study, tmp_path: Path) -> None:
    """A window of 6.1 s does not fit into the sequences of 5 s that others are trained with."""
    told = variation(tmp_path, table=str(study.table), steps=1, n_folds=2, seed=0, half_window_s=3.0)
    # 3 s at either end of the minute have no whole window.
    assert told["blocks"]["scored"] == pytest.approx(1.0 - 2 * 30 / 600, abs=0.01)
