"""Mice: EEG and EMG, band powers, calcium in sleep, running and rest."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from offline import parcels
from offline.datasets.base import Dataset, Entry, open_dataset
from streamscore.errors import RecordingError
from streamscore.labels import MOUSE3, RUNREST
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from tests.offline.datasets.layouts import epochs, noise, shared, write_edf, write_npz, write_table

WORDS = ["W", "NR", "R"]


def signals(dataset: Dataset, entry: Entry | None = None) -> Recording:
    recording = dataset.read(entry or dataset.entries[0])
    assert isinstance(recording, Recording)
    return recording


# --- EEG and EMG ----------------------------------------------------------------------------------------


def test_edf_with_a_table_of_scores(tmp_path: Path) -> None:
    write_edf(tmp_path / "m1_day1.edf", {"EEG": 20, "EMG": 20}, 12)
    write_table(tmp_path / "m1_day1_scores.csv", epochs(WORDS, 4))
    dataset = open_dataset(tmp_path)
    assert (dataset.kind, dataset.subjects) == ("mouse_eeg", ("m1",))
    assert signals(dataset).states.tolist() == [0, 1, 2]


def test_edf_with_annotations_in_another_file_or_its_own(tmp_path: Path) -> None:
    write_edf(tmp_path / "m1.edf", {"EEG": 20}, 12)
    write_edf(tmp_path / "m1_hypnogram.edf", None, annotations=epochs(WORDS, 4))
    write_edf(tmp_path / "m2.edf", {"EEG": 20}, 12, epochs(["NREM", "NREM", "Wake"], 4))
    dataset = open_dataset(tmp_path)
    assert [entry.session for entry in dataset.entries] == ["m1", "m2"]
    assert [signals(dataset, entry).states.tolist() for entry in dataset.entries] == [[0, 1, 2], [1, 1, 0]]


def test_text_with_a_column_of_states(tmp_path: Path) -> None:
    rows = "\n".join(f"{k / 10},{k},{-k}" for k in range(120))
    (tmp_path / "m1.txt").write_text(f"time_s,EEG,EMG\n{rows}\n")
    (tmp_path / "m1_states.txt").write_text("state\nWake\nNREM\nREM\n")
    recording = signals(open_dataset(tmp_path, epoch_s=4))
    assert (recording.channels, recording.sfreq) == (("EEG", "EMG"), 10)
    assert recording.states.tolist() == [0, 1, 2]


def test_npz_with_states_of_real_mice() -> None:
    recording = signals(open_dataset(shared("mouse_eeg_emg")))
    assert (recording.channels, recording.labels) == (("EEG", "EMG"), MOUSE3)
    assert len(recording.states) == 338


def test_sleepsign_of_a_real_mouse() -> None:
    dataset = open_dataset(shared("mouse_utsn"))
    recording, problems = dataset.inspect(dataset.entries[0])
    assert isinstance(recording, Recording)
    assert (recording.sfreq, recording.channels, recording.units) == (128, ("EEG", "EMG"), ("uV", "uV"))
    assert (recording.epoch_s, len(recording.states)) == (10, 14)
    assert problems[0].text.startswith("66 scored epochs")


def sleepsign(folder: Path, stages: str) -> Path:
    header = "Subject,x\n\nTime,uV,uV,\n"
    rows = [f"04/12/2018  11:00:{k // 10:02}.{k % 10}00,{k}.5,{-k},\n" for k in range(200)]
    (folder / "raw.txt").write_text(header + "".join(rows))
    (folder / "judge.txt").write_text("Subject,x\n\nTime,Epoch No.,Stage,FFT,\n,,,%,\n" + stages)
    return folder


def test_sleepsign_words_and_stars(tmp_path: Path) -> None:
    lines = [
        f"04/12/2018 11:00:{4 * k:02},{k},{word},1.0,\n" for k, word in enumerate(("W*", "RW", "NR", "S", "R"))
    ]
    assert signals(open_dataset(sleepsign(tmp_path, "".join(lines)))).states.tolist() == [0, 0, 1, 1, 2]


def test_sleepsign_that_lacks_an_epoch(tmp_path: Path) -> None:
    lines = [f"04/12/2018 11:00:{4 * k:02},{k},{word},1.0,\n" for k, word in enumerate(("W", "W", "NR", "S", "R"))]
    del lines[2]
    assert signals(open_dataset(sleepsign(tmp_path, "".join(lines)))).states.tolist() == [0, 0, -1, 1, 2]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("", "no lines of epochs"),
        ("04/12/2018 11:00:00,0,W,\n04/12/2018 11:00:04,1,Z,\n", "line 6: 'Z'"),
        ("04/12/2018 11:00:00,0,W,\n04/12/2018 11:00:04,1\n", "line 6: has no stage"),
        ("04/12/2018 11:00,0,W,\n04/12/2018 11:00:04,1,W\n", "line 5: .*no date and time"),
    ],
)
def test_sleepsign_that_is_damaged(tmp_path: Path, stages: str, message: str) -> None:
    dataset = open_dataset(sleepsign(tmp_path, stages))
    with pytest.raises(RecordingError, match=rf"judge\.txt.*{message}"):
        dataset.read(dataset.entries[0])


def test_a_damaged_file_is_told_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "m1.npz").write_bytes(b"PK damaged")
    dataset = open_dataset(tmp_path, "mouse_eeg")
    with pytest.raises(RecordingError, match=r"m1\.npz: damaged"):
        dataset.read(dataset.entries[0])


# --- band powers ----------------------------------------------------------------------------------------


def test_bands_of_a_real_mouse_are_a_sample_an_epoch() -> None:
    recording = signals(open_dataset(shared("mouse_bands")))
    assert recording.data.shape == (21600, 6)
    assert (recording.sfreq, recording.epoch_s, recording.channels[-1]) == (0.25, 4, "EMG")
    # DATA.md gives medians in Wake, NREM and REM; those of the whole file are a few percent off.
    medians = [np.median(recording.data[recording.states == code], axis=0) for code in range(3)]
    assert [m[0] for m in medians] == pytest.approx([145, 378, 90], rel=0.06)
    assert [m[5] for m in medians] == pytest.approx([18422, 6082, 4403], rel=0.06)


def test_bands_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "m1.npz", bands=np.ones((10, 6)), state=np.ones(9, int), epoch_s=4)
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "mouse_bands"
    with pytest.raises(RecordingError, match=r"m1\.npz: bands is \(10, 6\), state \(9,\)"):
        dataset.read(dataset.entries[0])


# --- calcium in sleep -----------------------------------------------------------------------------------


def write_calcium(path: Path, scores: list[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((len(scores), 168, 6, 6), np.float32)  # MATLAB's axes in reverse
        file["scoringindex_file"] = np.array(scores, np.float64)[:, None]
        file["xform_mask"] = np.ones((6, 6))
    return path


def test_calcium_sleep_is_known_by_its_variables_and_names(tmp_path: Path) -> None:
    write_calcium(tmp_path / "191030-M5-fc1-GSR_Ben.mat", [0, 1, 2, 3])
    write_calcium(tmp_path / "191030-M5-fc2-GSR_Ben.mat", [0])
    write_calcium(tmp_path / "Ms8" / "part1.mat", [1])
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "calcium_sleep"
    assert [(entry.subject, entry.session) for entry in dataset.entries] == [
        ("191030-M5", "191030-M5-fc1-GSR_Ben"),
        ("191030-M5", "191030-M5-fc2-GSR_Ben"),
        ("Ms8", "Ms8_part1"),
    ]
    movie = dataset.read(dataset.entries[0])
    assert isinstance(movie, Movie)
    with movie:
        assert movie.states.tolist() == [0, 1, -1, 2]
        assert movie.epoch_s == pytest.approx(10)
        assert movie.n_frames == 4 * 168


def test_the_atlas_is_no_recording_and_a_damaged_file_is_told(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "AtlasandIsbrain.mat", {"AtlasSeeds": np.ones((4, 4))})
    write_calcium(tmp_path / "191030-M5-fc1.mat", [0, 1])
    (tmp_path / "191030-M5-fc2.mat").write_bytes(b"nothing")
    dataset = open_dataset(tmp_path)
    assert [entry.session for entry in dataset.entries] == ["191030-M5-fc1", "191030-M5-fc2"]
    assert [path.name for path in dataset.unused()] == ["AtlasandIsbrain.mat"]
    with pytest.raises(RecordingError, match=r"fc2\.mat: damaged"):
        dataset.read(dataset.entries[1])


# --- running and rest -----------------------------------------------------------------------------------


def test_parcels_of_a_real_mouse_are_labelled_as_before() -> None:
    folder = shared("wfci_roi_run_rest")
    recording = signals(open_dataset(folder))
    before = parcels.read(folder / "parcels_10hz.npz")
    np.testing.assert_array_equal(recording.states, before.codes)
    np.testing.assert_array_equal(recording.data, before.dff)
    assert (recording.labels, recording.channels) == (RUNREST, before.channels)


def test_traces_in_a_table_with_run_or_speed(tmp_path: Path) -> None:
    (tmp_path / "m1_a.csv").write_text(
        "time_s,FL,HL,run\n" + "".join(f"{k / 10},{k},1,{k % 2}\n" for k in range(6))
    )
    (tmp_path / "m2_a.csv").write_text(
        "time_s,FL,speed_cm_s,HL\n" + "".join(f"{k / 10},{k},{k / 5},1\n" for k in range(6))
    )
    dataset = open_dataset(tmp_path)
    one, two = (signals(dataset, entry) for entry in dataset.entries)
    assert dataset.kind == "roi_tables"
    assert one.channels == two.channels == ("FL", "HL")
    assert one.states.tolist() == [0, 1, 0, 1, 0, 1]
    assert two.states.tolist() == [0, 0, 0, 1, 1, 1]
    assert one.epoch_s == 0.1


def test_traces_in_matlab_files_with_the_mice_of_the_paper(tmp_path: Path) -> None:
    traces = noise(4 * 60).reshape(4, 60)
    scipy.io.savemat(tmp_path / "20180125_Emx1G6_R_1.mat", {"dat_roi": traces})
    scipy.io.savemat(tmp_path / "20180125_Emx1G6_R_1_behavior.mat", {"runrest": np.arange(60)[None] % 2})
    with h5py.File(tmp_path / "20180126_Emx1G6_L_1.mat", "w") as file:
        file["dat_roi"] = traces.T
        file["speed_rs"] = np.linspace(0, 1, 60)[:, None]
    (tmp_path / "data_64_5mice.csv").write_text(
        "Data_ID,mouse_No.\n20180125_Emx1G6_R_1,3\n20180126_Emx1G6_L_1,4\n"
    )
    dataset = open_dataset(tmp_path)
    one, two = (signals(dataset, entry) for entry in dataset.entries)
    assert (dataset.kind, dataset.subjects) == ("roi_tables", ("mouse3", "mouse4"))
    np.testing.assert_allclose(one.data, traces.T, rtol=1e-6)
    np.testing.assert_array_equal(one.data, two.data)
    assert (one.sfreq, one.channels) == (30, ("ROI1", "ROI2", "ROI3", "ROI4"))
    assert one.states.tolist() == [0, 1] * 30
    assert two.states.sum() == 30


def test_traces_that_nothing_labels_are_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "m1.mat", {"dat_roi": np.ones((4, 60))})
    dataset = open_dataset(tmp_path)
    with pytest.raises(RecordingError, match="no file of its session has runrest or speed_rs"):
        dataset.read(dataset.entries[0])


def test_movies_with_a_table_of_speeds(tmp_path: Path) -> None:
    np.savez(tmp_path / "s1.npz", frames=np.ones((30, 4, 4), np.uint16), rate_hz=10.0)
    # Speeds at twice the rate of the frames, and a little shorter.
    lines = "".join(f"{k / 20:.2f},{'nan' if k == 8 else (k >= 20) * 3.0}\n" for k in range(58))
    (tmp_path / "s1.speed.csv").write_text("time_s,speed_cm_s\n" + lines)
    (tmp_path / "sessions.csv").write_text("session,mouse\ns1,jerry\n")
    write_npz(tmp_path / "x.npz", 1)
    dataset = open_dataset(tmp_path)
    assert (dataset.kind, dataset.subjects) == ("run_rest", ("jerry",))
    movie = dataset.read(dataset.entries[0])
    assert isinstance(movie, Movie)
    with movie:
        assert movie.states.tolist() == [0] * 4 + [-1] + [0] * 5 + [1] * 19
        assert (movie.labels, movie.epoch_s) == (RUNREST, 0.1)


def test_a_table_without_speeds_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s1.npz", frames=np.ones((30, 4, 4), np.uint16), rate_hz=10.0)
    (tmp_path / "s1.speed.csv").write_text("time_s,wheel\n0,1\n0.1,1\n")
    dataset = open_dataset(tmp_path)
    with pytest.raises(
        RecordingError, match=r"s1\.speed\.csv: its columns are wheel; one must be speed_cm_s or run"
    ):
        dataset.read(dataset.entries[0])
