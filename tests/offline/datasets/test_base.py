"""Folders that are opened as data sets: recognised, described, refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from offline.datasets.base import KINDS, About, Options, load, open_dataset
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import AASM5, VOCABULARIES
from tests.offline.datasets.layouts import epochs, shared, write_npz, write_table

WORDS = ["W", "N1", "N2"]


def plain(folder: Path, *names: str) -> Path:
    for name in names:
        write_npz(folder / f"{name}.npz", 90)
        write_table(folder / f"{name}.labels.csv", epochs(WORDS, 30))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is(kind: str) -> None:
    module = load(kind)
    assert isinstance(module.ABOUT, About)
    assert all(vars(module.ABOUT).values())
    assert module.ABOUT.vocabulary in (*VOCABULARIES, "any")
    assert issubclass(module.Config, Options)
    assert (module.Config().vocabulary or "any") == module.ABOUT.vocabulary


def test_every_file_of_the_folder_that_has_an_about_is_a_kind() -> None:
    import offline.datasets

    folder = Path(offline.datasets.__file__).parent
    assert {path.stem for path in folder.glob("*.py") if "\nABOUT = " in path.read_text()} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "kind", "n"),
    [
        ("human_ucddb", "ucddb", 17),
        ("mouse_eeg_emg", "mouse_eeg", 1),
        ("mouse_utsn", "mouse_eeg", 1),
        ("mouse_bands", "mouse_bands", 1),
        ("wfci_roi_run_rest", "roi_tables", 1),
    ],
)
def test_real_folders_are_recognised(name: str, kind: str, n: int) -> None:
    dataset = open_dataset(shared(name))
    assert (dataset.kind, len(dataset.subjects), len(dataset.entries)) == (kind, n, n)


def test_entries_are_sorted_by_subject_and_session(tmp_path: Path) -> None:
    dataset = open_dataset(plain(tmp_path, "m2_b", "m10_a", "m2_a"))
    assert [(entry.subject, entry.session) for entry in dataset.entries] == [
        ("m10", "m10_a"),
        ("m2", "m2_a"),
        ("m2", "m2_b"),
    ]
    assert dataset.subjects == ("m10", "m2")
    assert [entry.session for entry in dataset.of(["m2"])] == ["m2_a", "m2_b"]
    with pytest.raises(ConfigError, match=r"no subject 'm3'; it has m10, m2"):
        dataset.of(["m2", "m3"])


def test_a_folder_of_no_kind_lists_what_was_tried(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(RecordingError, match="of no known kind") as error:
        open_dataset(tmp_path)
    assert all(f"  {kind}: " in str(error.value) for kind in KINDS)


def test_a_folder_that_is_absent_or_holds_none_of_the_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(RecordingError, match=r"no recording of the kind mass: 0\?-"):
        open_dataset(tmp_path, "mass")


def test_kinds_and_options_that_do_not_exist_are_told(tmp_path: Path) -> None:
    plain(tmp_path, "m1")
    with pytest.raises(ConfigError, match=r"kind of data set 'edf'; choose one of bids, "):
        open_dataset(tmp_path, "edf")
    with pytest.raises(ConfigError, match=r"option epochs of plain: .*its options are .*epoch_s"):
        open_dataset(tmp_path, epochs=30)
    with pytest.raises(ConfigError, match=r"vocabulary 'AASM': choose one of AASM5"):
        open_dataset(tmp_path, vocabulary="AASM").read(open_dataset(tmp_path).entries[0])


def test_dataset_json_names_the_kind_and_gives_options(tmp_path: Path) -> None:
    plain(tmp_path, "m1")
    write_table(tmp_path / "m1.labels.csv", epochs(["0", "1", "2"], 30))
    described = {
        "kind": "plain",
        "vocabulary": "AASM5",
        "states": {"0": "W", "1": "N1", "2": "N2"},
        "title": "Ours",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    dataset = open_dataset(tmp_path)
    assert dataset.read(dataset.entries[0]).states.tolist() == [0, 1, 2]
    assert dataset.described["title"] == "Ours"
    assert not dataset.is_simulated
    # What the caller says wins.
    mapped = open_dataset(tmp_path, states={"0": "N3", "1": "N3", "2": "REM"})
    assert mapped.read(mapped.entries[0]).states.tolist() == [3, 3, 4]


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "plain", "vocabulry": "AASM5"}'])
def test_a_damaged_dataset_json_is_told(tmp_path: Path, text: str) -> None:
    plain(tmp_path, "m1")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ConfigError, match=r"vocabulry|not JSON"):
        open_dataset(tmp_path)


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    plain(tmp_path, "m1")
    write_npz(tmp_path / "m1" / "m1.npz", 90)
    with pytest.raises(RecordingError, match=r"two recordings are called 'm1' \(.*m1\.npz, .*m1\.npz\)"):
        open_dataset(tmp_path)


def test_reading_gives_the_labels_with_the_signal(tmp_path: Path) -> None:
    dataset = open_dataset(plain(tmp_path, "m1"))
    recording = dataset.read(dataset.entries[0])
    assert recording.labels == AASM5
    assert recording.states.tolist() == [0, 1, 2]
    assert recording.epoch_s == 30


def test_a_data_set_travels_to_other_processes(tmp_path: Path) -> None:
    dataset = open_dataset(plain(tmp_path, "m1"), channels={"C3": "EEG"})
    there = pickle.loads(pickle.dumps(dataset))
    assert there == dataset
    assert there.read(there.entries[0]).channels == ("C3",)


def test_files_without_labels_are_told_as_unused() -> None:
    dataset = open_dataset(shared("mouse_eeg_emg"))
    assert [path.name for path in dataset.unused()] == ["acq1_unlabelled.npz", "acq3_unlabelled.npz"]
