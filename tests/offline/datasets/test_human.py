"""UCDDB, MASS and BIDS-like folders."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

from offline.datasets.base import open_dataset
from streamscore.errors import RecordingError
from streamscore.labels import AASM5, MOUSE3
from streamscore.recordings.base import Recording, read_recording
from tests.offline.datasets.layouts import Row, epochs, shared, write_edf, write_table

#: As in UCDDB: most channels are slow, so that the EEG must be asked for by name.
UCDDB = {"Lefteye": 64, "EMG": 64, "C3A2": 128, "C4A1": 128, "SpO2": 8, "Flow": 8, "Sum": 8, "Pulse": 8}


def ucddb(folder: Path, lines: str, n_s: float = 210) -> Path:
    write_edf(folder / "a.edf", UCDDB, n_s).rename(folder / "ucddb002.rec")
    (folder / "ucddb002_stage.txt").write_text(lines)
    return folder


def test_ucddb_as_physionet_has_it(tmp_path: Path) -> None:
    dataset = open_dataset(ucddb(tmp_path, "0\r\n1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n"))
    (entry,) = dataset.entries
    recording = dataset.read(entry)
    assert isinstance(recording, Recording)
    assert (dataset.kind, entry.subject) == ("ucddb", "ucddb002")
    assert (recording.sfreq, recording.channels) == (128, ("EEG",))
    assert recording.labels == AASM5
    assert recording.states.tolist() == [0, 4, 1, 2, 3, 3, -1]


def test_ucddb_keeps_the_stages_of_rechtschaffen_and_kales_if_asked(tmp_path: Path) -> None:
    dataset = open_dataset(ucddb(tmp_path, "0\n4\n5\n"), vocabulary="RK6")
    assert dataset.read(dataset.entries[0]).states.tolist() == [0, 3, 4]


def test_ucddb_takes_the_other_derivation_if_asked(tmp_path: Path) -> None:
    folder = ucddb(tmp_path, "0\n1\n")
    one, other = (
        open_dataset(folder, channels={"EEG": name}).read(open_dataset(folder).entries[0])
        for name in ("C3A2", "C4A1")
    )
    assert isinstance(one, Recording)
    assert isinstance(other, Recording)
    assert not np.array_equal(one.data, other.data)


def test_ucddb_with_an_unknown_digit_or_without_stages_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(ucddb(tmp_path, "0\n9\n"))
    with pytest.raises(RecordingError, match=r"ucddb002_stage\.txt: not a state: line 2: '9'"):
        dataset.read(dataset.entries[0])
    (tmp_path / "ucddb002_stage.txt").unlink()
    with pytest.raises(RecordingError, match="data fetch ucddb"):
        dataset.read(dataset.entries[0])


def test_ucddb_as_it_is_here() -> None:
    dataset = open_dataset(shared("human_ucddb"))
    entry = next(entry for entry in dataset.entries if entry.session == "ucddb018")
    recording = dataset.read(entry)
    assert isinstance(recording, Recording)
    same = read_recording(entry.signal)
    np.testing.assert_array_equal(recording.data, same.data)
    np.testing.assert_array_equal(recording.states, same.states)


MASS = {
    "EEG F4-LER": 16,
    "EEG Cz-LER": 16,
    "EOG Left Horiz": 16,
    "EOG Right Horiz": 16,
    "EMG Chin1": 16,
    "SaO2": 4,
}


def test_mass_takes_the_difference_of_f4_and_the_left_eye(tmp_path: Path) -> None:
    write_edf(tmp_path / "01-03-0001 PSG.edf", MASS, 100, start=datetime.time(22, 0))
    rows: list[Row] = [(10 + 30 * k, 30, f"Sleep stage {s}") for k, s in enumerate("W2R")]
    write_edf(tmp_path / "01-03-0001 Base.edf", None, annotations=rows, start=datetime.time(22, 0))
    dataset = open_dataset(tmp_path)
    recording = dataset.read(dataset.entries[0])
    assert isinstance(recording, Recording)
    assert (dataset.kind, dataset.subjects) == ("mass", ("01-03-0001",))
    assert recording.channels == ("EEG", "EOG", "EMG")
    assert recording.states.tolist() == [0, 2, 4]
    whole = open_dataset(tmp_path, channels={"a": "EEG F4-LER", "b": "EOG Left Horiz"}).read(dataset.entries[0])
    assert isinstance(whole, Recording)
    np.testing.assert_array_equal(recording.data[:, 0], whole.data[:, 0] - whole.data[:, 1])
    # The scoring starts 10 s into the recording, and so does what was read.
    assert recording.duration_s == 90


def test_bids_takes_events_that_last(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "ses-1" / "eeg"
    write_edf(folder / "sub-01_ses-1_task-sleep_eeg.edf", {"Cz": 10}, 90)
    rows = [*epochs(["W", "N1", "N2"], 30), (12, "n/a", "stimulus"), (13, 0, "click")]
    write_table(
        folder / "sub-01_ses-1_task-sleep_events.tsv",
        rows,  # type: ignore[arg-type]
        header="onset,duration,trial_type",
        cut="\t",
    )
    write_edf(tmp_path / "sub-02" / "eeg" / "sub-02_task-sleep_eeg.edf", {"Cz": 10}, 90)
    dataset = open_dataset(tmp_path)
    recording = dataset.read(dataset.entries[0])
    assert (dataset.kind, dataset.subjects) == ("bids", ("sub-01",))
    assert dataset.entries[0].session == "sub-01_ses-1_task-sleep"
    assert recording.states.tolist() == [0, 1, 2]
    assert [path.name for path in dataset.unused()] == ["sub-02_task-sleep_eeg.edf"]


def test_bids_events_of_other_words_are_told_with_their_line(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "eeg"
    write_edf(folder / "sub-01_eeg.edf", {"Cz": 10}, 90)
    header = "onset,duration,stage"
    path = write_table(
        folder / "sub-01_events.tsv", [(0, 30, "Wake"), (30, 30, "drowsy")], header=header, cut="\t"
    )
    dataset = open_dataset(tmp_path)
    with pytest.raises(RecordingError, match=r"events\.tsv: not a state: line 3: 'drowsy'"):
        dataset.read(dataset.entries[0])
    mapped = open_dataset(tmp_path, vocabulary="MOUSE3", states={"drowsy": "UNKNOWN"})
    assert mapped.read(mapped.entries[0]).labels == MOUSE3
    write_table(path, [(0, 0, "click")], header=header, cut="\t")
    with pytest.raises(RecordingError, match="no event has a duration"):
        dataset.read(dataset.entries[0])
