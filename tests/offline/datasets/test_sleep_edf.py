"""Sleep-EDF cassette: names, trimming, counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.datasets import sleep_edf
from offline.datasets.base import Dataset, Entry, open_dataset
from offline.datasets.check import Finding, across
from offline.datasets.sleep_edf import SETS, Config, sleep_period
from streamscore.errors import RecordingError
from streamscore.labels import AASM5, RK6
from streamscore.recordings.base import Recording
from tests.offline.datasets.layouts import Row, write_edf

CHANNELS = {"EEG Fpz-Cz": 10, "EEG Pz-Oz": 10, "EOG horizontal": 10, "Temp rectal": 1}


def night(folder: Path, stages: str, name: str = "SC4001E", n_epochs: int | None = None) -> Path:
    """Write a night with one letter an epoch: W 1 2 3 4 R, M movement, ? unscored."""
    rows: list[Row] = []
    for k, stage in enumerate(stages):
        text = "Movement time" if stage == "M" else f"Sleep stage {stage}"
        if rows and rows[-1][2] == text:
            rows[-1] = (rows[-1][0], rows[-1][1] + 30, text)
        else:
            rows.append((30.0 * k, 30.0, text))
    write_edf(folder / f"{name}0-PSG.edf", CHANNELS, 30 * (n_epochs or len(stages)))
    write_edf(folder / f"{name}C-Hypnogram.edf", None, annotations=rows)
    return folder


def read(folder: Path, **options: Any) -> Recording:
    dataset = open_dataset(folder, **options)
    assert dataset.kind == "sleep_edf"
    recording = dataset.read(dataset.entries[0])
    assert isinstance(recording, Recording)
    return recording


def test_stages_are_merged_and_wake_is_trimmed(tmp_path: Path) -> None:
    recording = read(night(tmp_path, "WWWWW1234RWWWWW?"), wake_min=1)
    assert recording.labels == AASM5
    assert recording.states.tolist() == [0, 0, 1, 2, 3, 3, 4, 0, 0]
    assert recording.channels == ("EEG", "EOG")
    assert recording.stamps_s[0] == 0
    assert recording.duration_s == 9 * 30


def test_stages_of_rechtschaffen_and_kales_are_kept_if_asked(tmp_path: Path) -> None:
    recording = read(night(tmp_path, "W1234RW?"), vocabulary="RK6")
    assert recording.labels == RK6
    assert recording.states.tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_the_signal_is_cut_as_the_labels_are(tmp_path: Path) -> None:
    whole = read(night(tmp_path, "WWWWW1234RWWWWW?"), wake_min=None)
    cut = read(tmp_path, wake_min=1)
    np.testing.assert_array_equal(cut.data, whole.data[3 * 300 : 12 * 300])
    np.testing.assert_array_equal(cut.states, whole.states[3:12])


def test_movement_stays_in_the_signal_without_a_stage(tmp_path: Path) -> None:
    assert read(night(tmp_path, "W2M2?2W")).states.tolist() == [0, 2, -1, 2, -1, 2, 0]


def test_dropping_first_counts_only_stages(tmp_path: Path) -> None:
    night(tmp_path, "WWMW2W?WW")
    assert read(tmp_path, wake_min=1).states.tolist() == [0, -1, 0, 2, 0, -1, 0]
    # Trimming first, movement and unscored epochs are no wake, and so within sleep.
    assert read(tmp_path, wake_min=1, order="trim_then_drop").states.tolist() == [0, 0, -1, 0, 2, 0, -1, 0, 0]
    assert read(tmp_path, wake_min=0, order="trim_then_drop").states.tolist() == [-1, 0, 2, 0, -1]


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=30), st.integers(0, 5))
def test_dropping_first_keeps_what_the_published_code_keeps(stages: list[int], n_wake: int) -> None:
    """MODELS.md 2.1: drop, then from n before the first epoch that is not wake to n after the last."""
    codes = np.array(stages, np.int8)
    dropped = codes[codes >= 0]
    sleep = np.flatnonzero(dropped != 0)
    found = sleep_period(codes, n_wake, "drop_then_trim")
    if not len(sleep):
        assert found is None
        return
    assert found is not None
    kept = codes[found[0] : found[1]]
    expected = dropped[max(sleep[0] - n_wake, 0) : sleep[-1] + n_wake + 1]
    np.testing.assert_array_equal(kept[kept >= 0], expected)


def test_a_night_without_sleep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="scores no sleep"):
        read(night(tmp_path, "WWWW"))


def test_a_hypnogram_that_is_longer_than_its_night_is_told(tmp_path: Path) -> None:
    dataset = open_dataset(night(tmp_path, "W2222W", n_epochs=4))
    recording, problems = dataset.inspect(dataset.entries[0])
    assert recording.states.tolist() == [0, 2, 2, 2]
    assert problems[0].text.startswith("2 scored epochs of 30 s lie behind the end")


def test_subject_and_night_are_told_by_the_name(tmp_path: Path) -> None:
    for name in ("SC4001E", "SC4002E", "SC4821G"):
        night(tmp_path / "sleep-cassette", "W2W", name)
    write_edf(tmp_path / "sleep-cassette" / "SC4031E0-PSG.edf", CHANNELS, 30)
    dataset = open_dataset(tmp_path)
    assert [(e.subject, e.session, e.details["night"]) for e in dataset.entries] == [
        ("SC400", "SC4001E", "1"),
        ("SC400", "SC4002E", "2"),
        ("SC482", "SC4821G", "1"),
    ]
    assert [path.name for path in dataset.unused()] == ["SC4031E0-PSG.edf"]


def whole_set(name: str, **options: Any) -> Dataset:
    entries = [
        Entry(f"SC4{s:02}", f"SC4{s:02}{n}E", Path("x"), None, {"night": str(n)}) for s, n in sorted(SETS[name][0])
    ]
    return Dataset("sleep_edf", Path(), tuple(entries), Config(**options))


@pytest.mark.parametrize(
    ("name", "n_nights", "n_epochs"), [("Sleep-EDF-39", 39, 42308), ("Sleep-EDF-153", 153, 195479)]
)
def test_complete_sets_are_known_by_their_nights(name: str, n_nights: int, n_epochs: int) -> None:
    """Counts of MODELS.md 2.1 and 5.4."""
    dataset = whole_set(name)
    assert len(dataset.entries) == n_nights
    found = sleep_edf.expected(dataset)
    assert found is not None
    assert found[0] == name
    assert sum(found[1].values()) == n_epochs


def test_sets_that_are_cut_otherwise_or_incomplete_are_not_compared() -> None:
    assert sleep_edf.expected(whole_set("Sleep-EDF-39", wake_min=10)) is None
    assert sleep_edf.expected(whole_set("Sleep-EDF-39", order="trim_then_drop")) is None
    dataset = whole_set("Sleep-EDF-39")
    assert sleep_edf.expected(Dataset("sleep_edf", Path(), dataset.entries[1:], Config())) is None


@pytest.mark.parametrize("extra", [0, 1])
def test_counts_of_a_complete_set_are_checked(tmp_path: Path, extra: int) -> None:
    dataset = Dataset("sleep_edf", tmp_path, whole_set("Sleep-EDF-39").entries, Config())
    counts = dict(zip(AASM5, SETS["Sleep-EDF-39"][1], strict=True))
    counts["W"] += extra
    empty = tuple((state, 0) for state in AASM5)
    findings = [Finding(e.subject, e.session, "x", ("EEG",), 100.0, states=empty) for e in dataset.entries[1:]]
    findings.append(Finding("SC400", "SC4001E", "x", ("EEG",), 100.0, states=tuple(counts.items())))
    (problem,) = across(dataset, findings)
    if extra:
        assert problem.is_error
        assert "W 8286 instead of 8285" in problem.text
    else:
        assert not problem.is_error
        assert "42308 epochs" in problem.text
