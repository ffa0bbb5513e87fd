from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from edfio import Bdf, BdfSignal, Edf, EdfAnnotation, EdfSignal
from hypothesis import given, settings
from hypothesis import strategies as st

from streamscore.edfplus import read_header
from streamscore.errors import RecordingError
from streamscore.labels import AASM5, MOUSE3
from streamscore.recordings.base import read_recording

DataFile = Callable[[str], Path]
RNG = np.random.default_rng(3)


def signal(label: str = "EEG Fpz-Cz", sfreq: float = 10, n_s: int = 10, unit: str = "uV") -> EdfSignal:
    values = RNG.uniform(-100, 100, round(sfreq * n_s))
    return EdfSignal(values, sfreq, label=label, physical_dimension=unit, physical_range=(-100, 100))


def write(path: Path, *signals: EdfSignal, annotations: Sequence[EdfAnnotation] | None = None) -> Path:
    Edf(signals or (signal(),), annotations=annotations, data_record_duration=1).write(path)
    return path


def shift_records(path: Path, first_record: int, by_s: float) -> None:
    """Let all records from `first_record` on start later, as in a discontinuous file."""
    header = read_header(path)
    raw = path.read_bytes()
    index = header.annotation_signals[0]
    assert index == len(header.labels) - 1
    old_bytes = 2 * header.samples_per_record[index]
    new_bytes = old_bytes + 8  # room for longer onsets
    at = 256 + 216 * len(header.labels) + 8 * index
    fields = raw[:at] + str(new_bytes // 2).ljust(8).encode() + raw[at + 8 : header.header_bytes]
    out = fields[:192] + b"EDF+D" + fields[197:]
    for k in range(header.n_records):
        start = header.header_bytes + k * header.record_bytes
        record = raw[start : start + header.record_bytes]
        onset, rest = record[-old_bytes:].rstrip(b"\0").split(b"\x14", 1)
        later = f"{float(onset) + by_s * (k >= first_record):+g}".encode()
        out += record[:-old_bytes] + (later + b"\x14" + rest).ljust(new_bytes, b"\0")
    path.write_bytes(out)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "night.edf"


# --- samples, channels, units ---------------------------------------------------------------------------


def test_real_recording(data_file: DataFile) -> None:
    recording = read_recording(data_file("human_edf/sample_short.edf"))
    assert recording.data.shape == (96_000, 10)
    assert recording.sfreq == 200.0
    assert recording.channels[:2] == ("C3-M2", "C4-M1")
    assert set(recording.units) == {"uV"}
    assert recording.duration_s == pytest.approx(480.0)
    assert recording.labels == ()
    assert 1 < np.median(np.abs(recording.data[:, 0])) < 100  # an EEG in µV


def test_calibrated_samples(file: Path) -> None:
    eeg = signal()
    recording = read_recording(write(file, eeg))
    assert recording.data.dtype == np.float32
    assert np.array_equal(recording.data[:, 0], eeg.data.astype(np.float32))
    assert np.array_equal(recording.stamps_s, np.arange(100) / 10)


def test_bdf(tmp_path: Path) -> None:
    values = RNG.uniform(-1000, 1000, 40)
    eeg = BdfSignal(values, 10, label="A1", physical_dimension="uV", physical_range=(-1000, 1000))
    notes = [EdfAnnotation(0, 2, "N2"), EdfAnnotation(2, 2, "N3")]
    Bdf([eeg], annotations=notes, data_record_duration=1).write(tmp_path / "night.bdf")
    recording = read_recording(tmp_path / "night.bdf")
    assert np.allclose(recording.data[:, 0], values, rtol=0, atol=2e-4)
    assert recording.states.tolist() == [2, 3]
    raw = (tmp_path / "night.bdf").read_bytes()
    (tmp_path / "night.bdf").write_bytes(raw[:-3])
    with pytest.raises(RecordingError, match=rf"expected {len(raw)} bytes by its header, found {len(raw) - 3}"):
        read_recording(tmp_path / "night.bdf")


def test_rate_of_the_first_eeg_is_taken(file: Path) -> None:
    write(file, signal("SaO2", 1), signal("EMG", 20), signal("EEG C3", 10), signal("EOG", 10), signal("ECG", 20))
    recording = read_recording(file)
    assert (recording.sfreq, recording.channels) == (10.0, ("EEG C3", "EOG"))


def test_most_common_rate_without_an_eeg(file: Path) -> None:
    write(file, signal("Resp", 5), signal("x", 20), signal("y", 20), signal("Flow", 5))
    assert read_recording(file).channels == ("x", "y")
    write(file, signal("x", 20), signal("Resp", 5), signal("Flow", 5))
    assert read_recording(file).channels == ("Resp", "Flow")


@pytest.mark.parametrize("unit", [b"uV", b"\xb5V", "µV".encode(), "μV".encode()])
def test_microvolts_however_they_are_written(file: Path, unit: bytes) -> None:
    raw = bytearray(write(file, signal()).read_bytes())
    at = 256 + 96
    assert raw[at : at + 2] == b"uV"
    raw[at : at + 8] = unit.ljust(8)
    file.write_bytes(raw)
    assert read_recording(file).units == ("uV",)


# --- gaps -----------------------------------------------------------------------------------------------


def test_gaps_of_a_discontinuous_file(file: Path) -> None:
    write(file, signal(n_s=12), annotations=[EdfAnnotation(0, None, "start")])
    continuous = read_recording(file)
    shift_records(file, 4, 2.5)
    shift_records(file, 9, 30)
    recording = read_recording(file)
    expected = np.arange(120) / 10 + np.repeat([0.0, 2.5, 32.5], [40, 50, 30])
    assert np.allclose(recording.stamps_s, expected, rtol=0, atol=1e-9)
    assert np.flatnonzero(np.diff(recording.stamps_s) > 0.15).tolist() == [39, 89]
    assert np.array_equal(recording.data, continuous.data)
    assert recording.duration_s == pytest.approx(44.5)


def test_rounded_onsets_are_no_gaps(file: Path) -> None:
    write(file, signal(n_s=12), annotations=[])
    shift_records(file, 5, 0.01)
    assert np.array_equal(read_recording(file).stamps_s, np.arange(120) / 10)


def test_a_start_between_seconds_moves_nothing(file: Path) -> None:
    write(file, annotations=[EdfAnnotation(0, 5, "N1"), EdfAnnotation(5, 5, "N2")])
    shift_records(file, 0, 0.25)
    recording = read_recording(file)
    assert recording.stamps_s[0] == 0.0
    assert recording.states_t0_s == -0.25


def test_time_that_runs_backwards(file: Path) -> None:
    write(file, annotations=[])
    shift_records(file, 4, -2)
    with pytest.raises(RecordingError, match="record 4 starts at 2 s, before"):
        read_recording(file)


def test_a_record_without_its_time(file: Path) -> None:
    raw = write(file, annotations=[]).read_bytes()
    file.write_bytes(raw.replace(b"+7\x14\x14", b"+\0\0\0"))
    with pytest.raises(RecordingError, match="record 7 has no time-keeping"):
        read_recording(file)


# --- labels ---------------------------------------------------------------------------------------------


def test_run_lengths_as_in_sleep_edf(file: Path) -> None:
    notes = [
        EdfAnnotation(0, 60, "Sleep stage W"),
        EdfAnnotation(60, 30, "Sleep stage 1"),
        EdfAnnotation(75, None, "Lights off"),
        EdfAnnotation(90, 90, "Sleep stage 4"),
        EdfAnnotation(180, 30, "Movement time"),
        EdfAnnotation(210, 30, "Sleep stage R"),
        EdfAnnotation(240, 30, "Sleep stage ?"),
    ]
    recording = read_recording(write(file, signal(n_s=10), annotations=notes))
    assert recording.labels == AASM5
    assert (recording.epoch_s, recording.states_t0_s) == (30.0, 0.0)
    assert recording.states.tolist() == [0, 0, 1, 3, 3, 3, -1, 4, -1]


def test_mouse_states_by_name(file: Path) -> None:
    notes = [EdfAnnotation(2 + 4 * k, 4, text) for k, text in enumerate(["Wake", "NREM", "REM"])]
    recording = read_recording(write(file, annotations=notes))
    assert (recording.labels, recording.epoch_s, recording.states_t0_s) == (MOUSE3, 4.0, 2.0)
    assert recording.states.tolist() == [0, 1, 2]


def test_heart_beats_are_not_rem(file: Path) -> None:
    beats = [EdfAnnotation(0.8 * k, None, "R") for k in range(10)]
    assert read_recording(write(file, annotations=beats)).labels == ()


# --- files that are broken ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data())
def test_a_cut_file_is_an_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.mktemp("cut") / "night.edf"
    raw = write(file).read_bytes()
    n_bytes = data.draw(st.integers(0, len(raw) - 1))
    file.write_bytes(raw[:n_bytes])
    with pytest.raises(RecordingError, match=r"night\.edf: ") as caught:
        read_recording(file)
    if n_bytes >= 512:
        assert f"expected {len(raw)} bytes by its header, found {n_bytes}" in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=600), st.booleans())
def test_garbage_is_an_error(tmp_path_factory: pytest.TempPathFactory, garbage: bytes, looks_right: bool) -> None:
    file = tmp_path_factory.mktemp("garbage") / "night.edf"
    file.write_bytes(b"0       " * looks_right + garbage)
    with pytest.raises(RecordingError, match=r"night\.edf"):
        read_recording(file)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_header_is_an_error_or_readable(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("damaged") / "night.edf"
    raw = bytearray(write(file).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    file.write_bytes(raw)
    with contextlib.suppress(RecordingError):  # and nothing else, nor a warning
        read_recording(file)


def test_a_writer_that_was_killed(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    eeg = signal()
    raw = bytearray(write(file, eeg).read_bytes())
    raw[236:244] = b"-1      "
    file.write_bytes(raw[:-7])
    with caplog.at_level(logging.WARNING):
        recording = read_recording(file)
    assert np.array_equal(recording.data[:, 0], eeg.data[:90].astype(np.float32))
    assert "9 whole records are read" in caplog.text
    file.write_bytes(raw[:512])
    assert read_recording(file).data.shape == (0, 1)


def test_a_file_longer_than_its_header_says(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(file).read_bytes()
    file.write_bytes(raw + b"\r\n")
    with caplog.at_level(logging.WARNING):
        assert len(read_recording(file).data) == 100
    assert "2 bytes behind the last record" in caplog.text
    file.write_bytes(raw + bytes(20))
    with pytest.raises(RecordingError, match=r"header says 10 records.*number of records to 11"):
        read_recording(file)


def test_no_calibration(file: Path) -> None:
    raw = bytearray(write(file).read_bytes())
    at = 256 + 16 + 80 + 8
    raw[at + 8 : at + 16] = raw[at : at + 8]
    file.write_bytes(raw)
    with pytest.raises(RecordingError, match="samples cannot be decoded: Physical minimum equals"):
        read_recording(file)


def test_annotations_only(file: Path) -> None:
    Edf([], annotations=[EdfAnnotation(0, 30, "Sleep stage W")]).write(file)
    with pytest.raises(RecordingError, match="no signals, only annotations"):
        read_recording(file)


def test_scoring_off_the_grid(file: Path) -> None:
    notes = [EdfAnnotation(0, 30, "Sleep stage W"), EdfAnnotation(45, 30, "Sleep stage 2")]
    with pytest.raises(RecordingError, match="'Sleep stage 2' at 45 s is not on the grid of 30-s epochs"):
        read_recording(write(file, annotations=notes))


def test_a_stream_cannot_be_chosen(file: Path) -> None:
    write(file)
    assert read_recording(file, "night").name == "night"
    with pytest.raises(RecordingError, match="no stream 'C3'"):
        read_recording(file, "C3")
