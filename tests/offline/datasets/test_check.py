"""What a check tells of a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from offline.datasets.base import open_dataset
from offline.datasets.check import Finding, across, check
from offline.datasets.fitting import Problem
from tests.offline.datasets.layouts import epochs, shared, write_npz, write_table

WORDS = ["Wake", "NREM", "REM"]


def add(folder: Path, name: str, words: list[str] = WORDS, **options: Any) -> Path:
    path = write_npz(folder / f"{name}.npz", 12, **options)
    write_table(folder / f"{name}.labels.csv", epochs(words, 4))
    return path


def checked(folder: Path, **options: Any) -> tuple[list[Finding], tuple[Problem, ...]]:
    dataset = open_dataset(folder, **options)
    findings = list(check(dataset))
    return findings, across(dataset, findings)


def change(path: Path, **arrays: Any) -> None:
    with np.load(path) as file:
        np.savez(path, **{**dict(file), **arrays})


def texts(finding: Finding) -> str:
    return "; ".join(problem.text for problem in finding.problems)


def test_a_sound_set_has_no_problems(tmp_path: Path) -> None:
    for name in ("m1", "m2"):
        add(tmp_path, name)
    findings, problems = checked(tmp_path)
    assert problems == ()
    (first, second) = findings
    assert (first.subject, first.sfreq, first.epoch_s, first.channels) == ("m1", 10, 4, ("EEG",))
    assert dict(first.states) == {"Wake": 1, "NREM": 1, "REM": 1}
    assert (first.hours * 3600, first.unlabelled, first.gaps, first.problems) == (12, 0, 0, ())
    assert second.is_usable
    assert json.loads(json.dumps(first.as_json()))["states"] == {"Wake": 1, "NREM": 1, "REM": 1}


def test_gaps_and_epochs_without_a_signal_are_counted() -> None:
    """UCDDB as it is here holds signal for most W and N3 epochs only."""
    dataset = open_dataset(shared("human_ucddb"))
    entry = dataset.entries[0]
    finding = next(check(dataset))
    recording = dataset.read(entry)
    with np.load(entry.signal) as arrays:
        stages = np.bincount(arrays["stage_all"][arrays["epoch"]], minlength=6)
    w, rem, n1, n2, *n3 = stages
    assert finding.states == (("W", w), ("N1", n1), ("N2", n2), ("N3", sum(n3)), ("REM", rem))
    assert sum(dict(finding.states).values()) + finding.in_gaps + finding.unlabelled == len(recording.states)
    assert finding.gap_s == 30 * (len(recording.states) - stages.sum())


def test_a_recording_that_cannot_be_read_is_an_error_and_the_others_are_told(tmp_path: Path) -> None:
    add(tmp_path, "m1")
    add(tmp_path, "m2").write_bytes(b"PK")
    add(tmp_path, "m3", ["Wake", "NREMM", "REM"])
    findings, _ = checked(tmp_path)
    assert [finding.is_usable for finding in findings] == [True, False, False]
    assert "m2.npz: damaged" in texts(findings[1])
    assert "m3.labels.csv: not a state: line 3: 'NREMM'" in texts(findings[2])


def test_samples_that_are_no_numbers_are_told_by_stretch(tmp_path: Path) -> None:
    path = add(tmp_path, "m1", channels=("EEG", "EMG"))
    data = np.load(path)["data"]
    data[[20, 21, 50], 1] = np.nan
    change(path, data=data)
    (finding,), _ = checked(tmp_path)
    assert texts(finding) == (
        "EMG: 0.3 s are no numbers, in 2 stretches, the first at 2 s; the engine takes them for gaps"
    )
    assert finding.is_usable


def test_a_flat_channel_is_an_error(tmp_path: Path) -> None:
    path = add(tmp_path, "m1")
    change(path, data=np.full((120, 1), 5.0, np.float32))
    (finding,), _ = checked(tmp_path)
    assert "EEG: is 5 throughout; choose another channel with --channel" in texts(finding)
    assert not finding.is_usable


def test_one_class_and_short_signals_are_told(tmp_path: Path) -> None:
    add(tmp_path, "m1", ["Wake"] * 5)
    (finding,), _ = checked(tmp_path)
    assert "2 scored epochs of 4 s lie behind the end" in texts(finding)
    assert "every labelled epoch is Wake" in texts(finding)
    assert finding.is_usable


def test_labels_that_end_long_before_the_signal_are_told(tmp_path: Path) -> None:
    write_npz(tmp_path / "m1.npz", 36 * 4)
    write_table(tmp_path / "m1.labels.csv", epochs(["Wake", "NREM", "REM"] * 3, 4))
    (finding,), _ = checked(tmp_path)
    assert finding.unlabelled == 27
    assert "27 of 36 epochs have no label, 27 of them behind the end of the labels" in texts(finding)
    assert finding.is_usable


def test_labels_that_all_lie_in_gaps_are_an_error(tmp_path: Path) -> None:
    path = add(tmp_path, "m1", ["?", "REM", "?", "?"])
    stamps_s = np.arange(120) / 10
    stamps_s[41:] += 8
    change(path, stamps_s=stamps_s)
    (finding,), _ = checked(tmp_path, vocabulary="MOUSE3")
    assert (finding.gaps, finding.gap_s, finding.in_gaps) == (1, 8, 1)
    assert "no labelled epoch has a signal" in texts(finding)


def test_recordings_that_differ_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    add(tmp_path, "m1")
    add(tmp_path, "m2", sfreq=20.0, channels=("C3",))
    _, problems = checked(tmp_path)
    told = [problem.text for problem in problems if problem.is_error]
    assert "recordings differ in rate (10 Hz: m1; 20 Hz: m2); a network has one rate: resample" in told[0]
    assert "recordings differ in channels (EEG: m1; C3: m2); name the ones to use with --channel" in told[1]
    assert len(told) == 2
    assert checked(tmp_path, channels={"EEG": "EEG|C3"})[1] == problems[:1]


def test_one_subject_and_files_that_nothing_labels_are_told(tmp_path: Path) -> None:
    add(tmp_path, "m_1")
    add(tmp_path, "m_2")
    write_npz(tmp_path / "x" / "extra.npz", 12)
    np.savez(tmp_path / "m_3.npz", data=np.ones(5), sfreq=1.0)
    findings, problems = checked(tmp_path)
    assert [finding.is_usable for finding in findings] == [True, True, False, False]
    assert "all recordings are of one subject, m" in problems[0].text
    dataset = open_dataset(tmp_path, "mouse_eeg")
    assert "2 files are not used, since nothing labels them: m_3.npz, x/extra.npz" in [
        problem.text for problem in across(dataset, list(check(dataset)))
    ]


def test_movies_are_looked_at(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(100, 10, (120, 4, 5)).astype(np.float32)
    for name in ("m1", "m2", "m3"):
        write_table(tmp_path / f"{name}.labels.csv", epochs(WORDS, 4))
        np.savez(tmp_path / f"{name}.npz", frames=frames, rate_hz=10.0)
    bad = frames.copy()
    bad[60, 1, 1] = np.nan
    np.savez(tmp_path / "m2.npz", frames=bad, rate_hz=10.0)
    np.savez(tmp_path / "m3.npz", frames=np.zeros((120, 4, 5)), rate_hz=10.0)
    findings, problems = checked(tmp_path)
    assert findings[0].channels == ("frames", "4x5")
    assert findings[0].problems == ()
    assert "pixels that are no numbers" in texts(findings[1])
    assert "one brightness" in texts(findings[2])
    assert [finding.is_usable for finding in findings] == [True, True, False]
    assert problems == ()
