"""The plain layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline.datasets.base import open_dataset
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import MOUSE3, RUNREST
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from tests.offline.datasets.layouts import epochs, write_edf, write_npz, write_table


def only(folder: Path, **options: Any) -> Recording | Movie:
    dataset = open_dataset(folder, "plain", **options)
    assert len(dataset.entries) == 1
    return dataset.read(dataset.entries[0])


def test_folders_are_subjects_and_one_table_serves_all(tmp_path: Path) -> None:
    for name in ("m1/day1", "m1/day2", "m2/day1"):
        write_npz(tmp_path / f"{name}.npz", 20)
    rows = "m1_day1,0,10,Wake\nday2.npz,0,10,NREM\nm2_day1,10,10,REM\nm1_day1,10,10,REM\n"
    (tmp_path / "labels.csv").write_text("recording,start_s,duration_s,state\n" + rows)
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "plain"
    assert [(entry.subject, entry.session) for entry in dataset.entries] == [
        ("m1", "m1_day1"),
        ("m1", "m1_day2"),
        ("m2", "m2_day1"),
    ]
    states = [dataset.read(entry).states.tolist() for entry in dataset.entries]
    assert states == [[0, 2], [1], [-1, 2]]


def test_a_recording_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    write_npz(tmp_path / "m1.npz", 20)
    (tmp_path / "labels.csv").write_text("recording,start_s,duration_s,state\nm2,0,10,Wake\n")
    with pytest.raises(RecordingError, match=r"labels\.csv: has no rows for the recording m1"):
        only(tmp_path)


def test_subjects_may_be_told_by_a_pattern(tmp_path: Path) -> None:
    write_npz(tmp_path / "2024-01-01_m7.npz", 20)
    write_table(tmp_path / "2024-01-01_m7.labels.csv", epochs(["Wake"], 10))
    assert open_dataset(tmp_path).subjects == ("2024-01-01",)
    assert open_dataset(tmp_path, subject_pattern=r"_(m\d+)").subjects == ("m7",)
    with pytest.raises(RecordingError, match="does not fit subject_pattern"):
        open_dataset(tmp_path, subject_pattern=r"(x\d+)")
    with pytest.raises(ConfigError, match="subject_pattern"):
        open_dataset(tmp_path, subject_pattern=r"m\d+")


def test_run_and_rest_are_labelled_by_the_sample(tmp_path: Path) -> None:
    write_npz(tmp_path / "m1.npz", 2, sfreq=10)
    write_table(tmp_path / "m1.labels.csv", [(0, 0.55, "rest"), (0.55, 1.0, "run")])
    recording = only(tmp_path)
    assert (recording.labels, recording.epoch_s) == (RUNREST, 0.1)
    assert recording.states.tolist() == [0] * 6 + [1] * 10 + [-1] * 4


def test_movies_have_tables_too(tmp_path: Path) -> None:
    np.save(tmp_path / "m1.npy", np.ones((40, 6, 5), np.uint16))
    (tmp_path / "m1.json").write_text(json.dumps({"rate_hz": 2.0, "lights": ["calcium"]}))
    write_table(tmp_path / "m1.labels.csv", epochs(["Wake", "REM", "NREM"], 10))
    movie = only(tmp_path)
    assert isinstance(movie, Movie)
    with movie:
        assert (movie.labels, movie.states.tolist()) == (MOUSE3, [0, 2])
        assert movie.read(0, 3).shape == (3, 6, 5)


def test_channels_are_chosen_renamed_and_subtracted(tmp_path: Path) -> None:
    write_npz(tmp_path / "m1.npz", 20, channels=("a", "B-ref", "c"))
    write_table(tmp_path / "m1.labels.csv", epochs(["Wake"], 10))
    every = only(tmp_path)
    chosen = only(tmp_path, channels={"EEG": "x|b-REF", "EOG": "c - a"})
    assert isinstance(every, Recording)
    assert isinstance(chosen, Recording)
    assert chosen.channels == ("EEG", "EOG")
    np.testing.assert_array_equal(chosen.data[:, 0], every.data[:, 1])
    np.testing.assert_array_equal(chosen.data[:, 1], every.data[:, 2] - every.data[:, 0])
    with pytest.raises(RecordingError, match=r"no channel 'x'; it has a, B-ref, c; .*--channel"):
        only(tmp_path, channels={"EEG": "x"})


def test_edf_with_annotations_needs_no_table(tmp_path: Path) -> None:
    texts = [(30 * k, 30, f"Sleep stage {s}") for k, s in enumerate("W12R")]
    write_edf(tmp_path / "s1_night.edf", {"EEG": 10}, 120, texts)
    assert only(tmp_path).states.tolist() == [0, 1, 2, 4]


def test_edf_with_words_of_its_own_is_mapped(tmp_path: Path) -> None:
    write_edf(tmp_path / "m1.edf", {"EEG": 10}, 40, [(0, 10, "awake!"), (10, 20, "NREM"), (30, 10, "artefact")])
    recording = only(tmp_path, vocabulary="MOUSE3", states={"awake!": "Wake"}, epoch_s=10)
    assert recording.states.tolist() == [0, 1, 1, -1]


def test_edf_of_mixed_rates_is_read_by_the_channels_wanted(tmp_path: Path) -> None:
    write_edf(tmp_path / "s1.edf", {"EEG Cz": 20, "EOG": 20, "Temp": 1, "SpO2": 1, "Pulse": 1}, 60)
    write_table(tmp_path / "s1.labels.csv", epochs(["W", "N1"], 30))
    recording = only(tmp_path, channels={"T": "Temp"})
    assert (recording.sfreq, recording.channels) == (1, ("T",))  # type: ignore[union-attr]
    with pytest.raises(RecordingError, match=r"differ in rate \(EEG Cz 20 Hz, Temp 1 Hz\); .*resample"):
        only(tmp_path, channels={"EEG": "EEG Cz", "T": "Temp"})
    with pytest.raises(RecordingError, match=r"no channel 'EMG'; it has EEG Cz, EOG"):
        only(tmp_path, channels={"EMG": "EMG"})


def test_labels_in_the_file_must_be_the_declared_ones(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "m1.npz", data=np.ones(40, np.float32), sfreq=10.0, states=[0, 2], labels="MOUSE3", epoch_s=2.0
    )
    assert only(tmp_path, vocabulary="MOUSE3").states.tolist() == [0, 2]
    with pytest.raises(RecordingError, match=r"labelled with Wake, NREM, REM, not with AASM5"):
        only(tmp_path, vocabulary="AASM5")


def test_a_recording_without_labels_is_refused_when_it_is_read(tmp_path: Path) -> None:
    write_npz(tmp_path / "m1.npz", 20)
    with pytest.raises(RecordingError, match=r"m1\.npz: has no labels; put them beside it"):
        only(tmp_path)


def test_states_without_times_are_epochs_of_a_told_length(tmp_path: Path) -> None:
    write_npz(tmp_path / "m1.npz", 12)
    (tmp_path / "m1.labels.csv").write_text("state\nWake\nNREM\nREM\n")
    assert only(tmp_path, epoch_s=4).states.tolist() == [0, 1, 2]
