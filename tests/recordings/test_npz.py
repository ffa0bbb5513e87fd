from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamscore.errors import RecordingError
from streamscore.labels import AASM5, MOUSE3
from streamscore.recordings.base import read_recording

DataFile = Callable[[str], Path]


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "night.npz"


# --- real recordings ------------------------------------------------------------------------------------


def test_complete_night_of_ucddb(data_file: DataFile) -> None:
    path = data_file("human_ucddb/ucddb018.npz")
    recording = read_recording(path)
    assert recording.name == "ucddb018"
    assert recording.data.dtype == np.float32
    assert recording.data.shape == (822 * 3840, 1)
    assert (recording.sfreq, recording.channels, recording.units) == (128.0, ("EEG",), ("",))
    assert np.allclose(np.diff(recording.stamps_s), 1 / 128, rtol=0, atol=1e-9)
    assert recording.labels == AASM5
    assert recording.epoch_s == 30.0
    assert np.bincount(recording.states).tolist() == [328, 58, 280, 4 + 133, 19]
    with np.load(path) as archive:
        assert np.array_equal(
            recording.data[:3840, 0], archive["x"][0].astype(np.float32) * np.float32(archive["scale"])
        )


def test_rows_that_ucddb_leaves_out_are_gaps(data_file: DataFile) -> None:
    path = data_file("human_ucddb/ucddb002.npz")
    recording = read_recording(path)
    with np.load(path) as archive:
        epoch = archive["epoch"].astype(int)
        stages = archive["stage_all"]
    assert len(recording.states) == len(stages) == 748
    assert len(recording.data) == len(epoch) * 3840
    assert np.array_equal(recording.stamps_s[::3840], epoch * 30.0)
    steps = np.flatnonzero(np.diff(recording.stamps_s) > 1.5 / 128)
    assert np.array_equal(steps, np.flatnonzero(np.diff(epoch) > 1) * 3840 + 3839)
    # 0 W, 1 REM, 2 N1, 3 N2, 4 and 5 N3
    for theirs, ours in enumerate((0, 4, 1, 2, 3, 3)):
        assert (recording.states[stages == theirs] == ours).all()


def test_stages_outside_the_table_are_unscored(data_file: DataFile) -> None:
    recording = read_recording(data_file("human_ucddb/ucddb008.npz"))
    assert np.count_nonzero(recording.states == -1) == 11


def test_labelled_mouse(data_file: DataFile) -> None:
    path = data_file("mouse_eeg_emg/acq4_labelled.npz")
    recording = read_recording(path)
    assert recording.data.shape == (270_416, 2)
    assert recording.channels == ("EEG", "EMG")
    assert recording.labels == MOUSE3
    assert (recording.sfreq, recording.epoch_s, len(recording.states)) == (200.0, 4.0, 338)
    with np.load(path) as archive:
        assert np.array_equal(recording.states, archive["states"] - 1)
        assert np.array_equal(recording.data[:, 1], archive["emg"])


def test_mouse_parts_of_different_length_are_cut(data_file: DataFile) -> None:
    recording = read_recording(data_file("mouse_eeg_emg/acq1_unlabelled.npz"))
    assert recording.data.shape == (367_200, 2)
    assert (recording.labels, recording.epoch_s) == ((), 0.0)


def test_eeg_beside_camera_frames(data_file: DataFile) -> None:
    recording = read_recording(data_file("wfci_frames/two_camera_128.npz"))
    assert recording.data.shape == (120_000, 2)
    assert recording.duration_s == pytest.approx(120.0)


def test_weights_are_no_recording(data_file: DataFile) -> None:
    with pytest.raises(RecordingError, match=r"no known layout.*gru__kernel.*plain \(data, sfreq\)"):
        read_recording(data_file("golden/roi_gru_keras.npz"))


# --- plain layout ---------------------------------------------------------------------------------------


def test_plain_with_everything(file: Path) -> None:
    data = np.arange(20.0).reshape(10, 2)
    data[3, 0], data[4, 1] = np.nan, np.inf
    stamps_s = np.r_[np.arange(5) / 100, 1.0 + np.arange(5) / 100]
    save(
        file,
        data=data,
        sfreq=100,
        channels=np.array(["C3", "EMG"]),
        units=np.array(["µV", " mV"]),
        stamps_s=stamps_s,
        states=np.array([0, 4, -1, -7]),
        epoch_s=30.0,
        labels="AASM5",
        states_t0_s=-2.5,
        clock_offsets=np.array([[0.0, 0.25]]),
        subject="m12",
    )
    recording = read_recording(file)
    assert recording.data.dtype == np.float32
    assert np.array_equal(recording.data, data.astype(np.float32), equal_nan=True)
    assert np.array_equal(recording.stamps_s, stamps_s)
    assert recording.channels == ("C3", "EMG")
    assert recording.units == ("uV", "mV")
    assert recording.states.tolist() == [0, 4, -1, -1]
    assert (recording.labels, recording.epoch_s, recording.states_t0_s) == (AASM5, 30.0, -2.5)
    assert recording.clock_offsets.tolist() == [[0.0, 0.25]]


def test_plain_with_the_least(file: Path) -> None:
    recording = read_recording(save(file, data=np.zeros(5, np.int16), sfreq=np.array([50.0])))
    assert recording.data.shape == (5, 1)
    assert recording.stamps_s.tolist() == [0.0, 0.02, 0.04, 0.06, 0.08]
    assert (recording.channels, recording.units, recording.labels) == (("ch1",), ("",), ())


def test_states_by_name_and_own_vocabulary(file: Path) -> None:
    save(
        file,
        data=np.zeros((4, 3)),
        sfreq=1,
        unit="uV",
        states=np.array(["up", "UNKNOWN", "down"]),
        epoch_s=1,
        labels=np.array(["down", "up"]),
    )
    recording = read_recording(file)
    assert recording.labels == ("down", "up")
    assert recording.states.tolist() == [1, -1, 0]
    assert recording.units == ("uV",) * 3


def test_beyond_float32_is_inf(file: Path) -> None:
    assert np.isinf(read_recording(save(file, data=np.full(3, 1e300), sfreq=1)).data).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has no 'sfreq'"),
        ({"sfreq": 0}, "sfreq is 0.0; it must be above 0"),
        ({"sfreq": np.nan}, "sfreq is nan"),
        ({"sfreq": "fast"}, "sfreq must be one number"),
        ({"sfreq": 1, "chanels": np.array(["a", "b"])}, "did you mean 'channels'"),
        ({"sfreq": 1, "channels": np.array(["a"])}, "2 channels but channels 1 entries"),
        ({"sfreq": 1, "channels": np.array([1, 2])}, "channels must be text"),
        ({"sfreq": 1, "stamps_s": np.arange(3.0)}, "4 samples but 3 stamps"),
        ({"sfreq": 1, "stamps_s": np.array([0.0, 2, 1, 3])}, r"stamps_s\[2\] is 1.0"),
        ({"sfreq": 1, "stamps_s": np.array([0.0, 2, np.nan, 3])}, "finite and ascending"),
        ({"sfreq": 1, "clock_offsets": np.zeros(4)}, r"give \(m, 2\) pairs"),
        ({"sfreq": 1, "states": np.zeros(3, int)}, "states without labels"),
        ({"sfreq": 1, "states": np.zeros(3, int), "labels": "AASM5"}, "has no 'epoch_s'"),
        ({"sfreq": 1, "states": np.array([5]), "labels": "AASM5", "epoch_s": 1}, "integers below 5"),
        ({"sfreq": 1, "states": np.array([0.5]), "labels": "AASM5", "epoch_s": 1}, "integers below 5"),
        ({"sfreq": 1, "states": np.array(["N4"]), "labels": "AASM5", "epoch_s": 1}, "unknown state 'N4'"),
        ({"sfreq": 1, "data": np.zeros((2, 100_000), np.int8)}, "100000 channels; save it as"),
        ({"sfreq": 1, "data": np.zeros((2, 2, 2))}, r"data is \(2, 2, 2\)"),
        ({"sfreq": 1, "data": np.zeros((2, 2), complex)}, "save real numbers"),
    ],
)
def test_what_is_wrong_is_named(file: Path, arrays: dict[str, Any], message: str) -> None:
    save(file, **({"data": np.zeros((4, 2))} | arrays))
    with pytest.raises(RecordingError, match=message) as caught:
        read_recording(file)
    assert "night" in str(caught.value)


def test_other_layouts_are_checked_too(file: Path) -> None:
    ucddb = {"scale": 1.0, "fs": 4, "epoch_s": 2, "stage_all": np.zeros(3, np.int8)}
    save(file, x=np.zeros((2, 8), np.int16), epoch=np.array([2, 0]), **ucddb)
    with pytest.raises(RecordingError, match="epoch is not ascending"):
        read_recording(file)
    save(file, x=np.zeros((2, 7), np.int16), epoch=np.array([0, 2]), **ucddb)
    with pytest.raises(RecordingError, match="an epoch 8 samples"):
        read_recording(file)
    save(file, eeg=np.zeros(100), emg=np.zeros(50), fs=10)
    with pytest.raises(RecordingError, match="cannot share the rate"):
        read_recording(file)
    save(file, eeg=np.zeros(100), emg=np.zeros(100), fs=10, states=np.ones(2, np.int8))
    with pytest.raises(RecordingError, match="has no 'epoch_s'"):
        read_recording(file)


def test_a_stream_cannot_be_chosen(file: Path) -> None:
    save(file, data=np.zeros(4), sfreq=1)
    assert read_recording(file, "night").name == "night"
    with pytest.raises(RecordingError, match="no stream 'EEG'"):
        read_recording(file, "EEG")


# --- files that are unsafe or broken --------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("key", ["data", "notes"])
def test_pickles_are_refused_wherever_they_are(file: Path, key: str) -> None:
    arrays = {"data": np.zeros(4), "sfreq": 1} | {key: np.array([Bomb()], dtype=object)}
    np.savez(file, allow_pickle=True, **arrays)
    with pytest.raises(RecordingError, match=f"'{key}' holds pickled objects.*save plain"):
        read_recording(file)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_bare_pickles_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"night{suffix}"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(RecordingError, match="pickled objects"):
        read_recording(file)
    np.save(tmp_path / "objects.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="pickled objects"):
        read_recording(tmp_path / "objects.npy")


def test_archive_without_arrays(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(RecordingError, match="damaged or truncated"):
        read_recording(file)
    np.savez(file)
    with pytest.raises(RecordingError, match=r"\(none\)"):
        read_recording(file)


@settings(deadline=None)
@given(st.data())
def test_a_cut_archive_is_an_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = io.BytesIO()
    np.savez_compressed(whole, data=np.arange(100.0), sfreq=1)
    cut = whole.getvalue()[: data.draw(st.integers(0, len(whole.getvalue()) - 1))]
    file = tmp_path_factory.mktemp("cut") / "night.npz"
    file.write_bytes(cut)
    with pytest.raises(RecordingError, match=r"night\.npz: (damaged|not a NumPy file)"):
        read_recording(file)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".npz", ".npy"]), st.sampled_from([b"", b"PK\3\4", b"\x93NUMPY"]))
def test_garbage_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, suffix: str, magic: bytes
) -> None:
    file = tmp_path_factory.mktemp("garbage") / f"night{suffix}"
    file.write_bytes(magic + garbage)
    with pytest.raises(RecordingError, match="night"):
        read_recording(file)


# --- npy ------------------------------------------------------------------------------------------------


def test_npy_with_its_sidecar(tmp_path: Path) -> None:
    file = tmp_path / "night.npy"
    np.save(file, np.ones((6, 2), np.float32))
    with pytest.raises(RecordingError, match=r"write it into night\.json.*sfreq"):
        read_recording(file)
    sidecar = tmp_path / "night.json"
    sidecar.write_text(json.dumps({"sfreq": 2, "channels": ["C3", "C4"], "units": "μV"}), encoding="utf-8")
    recording = read_recording(file)
    assert (recording.sfreq, recording.channels, recording.units) == (2.0, ("C3", "C4"), ("uV", "uV"))
    assert recording.duration_s == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[250]", "not a JSON object"),
        ("{", "not a JSON object"),
        ('{"sfreq": [1, [2]]}', "not a JSON object"),
        ('{"sfreq": 1, "rate": 2}', "unknown key 'rate'; choose from sfreq"),
        ('{"channels": ["a"]}', "has no 'sfreq'"),
        ('{"sfreq": null}', "sfreq must be one number"),
    ],
)
def test_bad_sidecars(tmp_path: Path, text: str, message: str) -> None:
    np.save(tmp_path / "night.npy", np.ones(6))
    (tmp_path / "night.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecordingError, match=message):
        read_recording(tmp_path / "night.npy")
