from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamscore.errors import RecordingError
from streamscore.record.xdf_writer import XdfWriter
from streamscore.recordings.base import read_recording

DataFile = Callable[[str], Path]

BOUNDARY = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
CHANNELS = (
    "<desc><channels><channel><label>C3</label><unit>microvolts</unit></channel>"
    "<channel><label/><unit>mV</unit></channel></channels></desc>"
)


def chunk(tag: int, content: bytes) -> bytes:
    length = len(content) + 2
    head = struct.pack("<BB", 1, length) if length < 256 else struct.pack("<BI", 4, length)
    return head + struct.pack("<H", tag) + content


def header(stream_id: int, name: str, kind: str = "float32", sfreq: float = 10, n_channels: int = 2) -> bytes:
    xml = (
        f'<?xml version="1.0"?><info><name>{name}</name><type>EEG</type>'
        f"<channel_count>{n_channels}</channel_count><nominal_srate>{sfreq}</nominal_srate><channel_format>{kind}</channel_format>{CHANNELS}</info>"
    )
    return chunk(2, struct.pack("<I", stream_id) + xml.encode())


def samples(stream_id: int, values: np.ndarray, first_s: float) -> bytes:
    """One Samples chunk in which only the first sample has a stamp of its own."""
    rows = [
        (struct.pack("<Bd", 8, first_s) if k == 0 else b"\0") + row.astype("<f4").tobytes()
        for k, row in enumerate(values)
    ]
    return chunk(3, struct.pack("<IBB", stream_id, 1, len(values)) + b"".join(rows))


def offset(stream_id: int, time_s: float, value_s: float) -> bytes:
    return chunk(4, struct.pack("<Idd", stream_id, time_s, value_s))


FILE = b"XDF:" + chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>')
VALUES = np.arange(40, dtype=np.float32).reshape(20, 2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.xdf"


# --- real files -----------------------------------------------------------------------------------------


def test_minimal_file(data_file: DataFile) -> None:
    recording = read_recording(data_file("xdf/minimal.xdf"))
    assert recording.data.dtype == np.float32
    assert recording.data[:2].tolist() == [[192, 255, 238], [12, 22, 32]]
    assert np.allclose(recording.stamps_s, 5.1 + np.arange(9) / 10)  # raw: no clock offset is in them
    assert (recording.sfreq, recording.channels) == (10.0, ("ch1", "ch2", "ch3"))
    assert recording.clock_offsets.tolist() == [[6.1, -0.1], [7.1, -0.1]]


def test_streams_without_samples_are_not_chosen(data_file: DataFile) -> None:
    path = data_file("xdf/empty_streams.xdf")
    recording = read_recording(path)
    assert recording.data[:, 0].tolist() == list(range(10))
    assert recording.channels == ("ch:00",)
    assert recording.clock_offsets.shape == (7, 2)
    empty = read_recording(path, "Empty data stream: test stream 0 counter")
    assert empty.data.shape == (0, 1)
    assert empty.duration_s == 0.0
    with pytest.raises(RecordingError, match=r"'ctrl'.* cannot be scored"):
        read_recording(path, "ctrl")
    with pytest.raises(
        RecordingError, match=r"no stream 'EEG'.*Streams: .*'ctrl' .#1, control, 1 channels of string"
    ):
        read_recording(path, "EEG")


def test_cut_at_every_byte(data_file: DataFile, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = data_file("xdf/minimal.xdf").read_bytes()
    whole = read_recording(data_file("xdf/minimal.xdf"))
    file.write_bytes(raw)
    counts = []
    for n_bytes in reversed(range(len(raw))):
        os.truncate(file, n_bytes)
        try:
            recording = read_recording(file)
        except RecordingError:
            break
        counts.append(len(recording.data))
        assert np.array_equal(recording.data, whole.data[: counts[-1]]), f"made-up samples at {n_bytes} bytes"
        assert np.array_equal(recording.stamps_s, whole.stamps_s[: counts[-1]])
        assert len(recording.clock_offsets) <= 2
    assert counts == sorted(counts, reverse=True)
    assert set(counts) == set(range(10)), "samples of a torn chunk are kept one by one"
    for shorter in reversed(range(n_bytes)):  # within the header of the stream, or before it
        os.truncate(file, shorter)
        with pytest.raises(RecordingError, match=r"run\.xdf"):
            read_recording(file)
    assert "ends inside a chunk" in caplog.text


# --- made files -----------------------------------------------------------------------------------------


def test_what_streamscore_itself_records(file: Path) -> None:
    writer = XdfWriter(file)
    eeg = writer.add_stream("EEG", "EEG", 100, ["C3", "C4"], ["µV", "uV"])
    aux = writer.add_stream("Wheel", "Misc", 100, ["speed"], [""])
    values = np.random.default_rng(2).normal(size=(1500, 2)).astype(np.float32)
    stamps_s = 5e4 + np.arange(1500) / 100
    for start in range(0, 1500, 300):
        writer.samples(eeg, values[start : start + 300], stamps_s[start : start + 300])
        writer.samples(aux, values[start : start + 300, :1], stamps_s[start : start + 300])
        writer.clock_offset(eeg, float(stamps_s[start]), 0.25)
    writer.close()
    recording = read_recording(file, "EEG")
    assert np.array_equal(recording.data, values)
    assert np.array_equal(recording.stamps_s, stamps_s)
    assert (recording.channels, recording.units) == (("C3", "C4"), ("uV", "uV"))
    assert recording.clock_offsets.tolist() == [[5e4 + 3 * k, 0.25] for k in range(5)]
    n_bytes = file.stat().st_size
    for cut in range(n_bytes - 7, 2000, -997):
        os.truncate(file, cut)
        part = read_recording(file, "EEG")
        assert np.array_equal(part.data, values[: len(part.data)])
        assert np.array_equal(part.stamps_s, stamps_s[: len(part.data)])


def test_labels_units_and_deduced_stamps(file: Path) -> None:
    file.write_bytes(
        FILE
        + header(7, "Amp")
        + samples(7, VALUES[:12], 100.0)
        + offset(7, 101.0, -3.0)
        + samples(7, VALUES[12:], 105.0)
    )
    recording = read_recording(file)
    assert np.array_equal(recording.data, VALUES)
    assert np.allclose(recording.stamps_s, np.r_[100 + np.arange(12) / 10, 105 + np.arange(8) / 10])
    assert (recording.channels, recording.units) == (("C3", "ch2"), ("uV", "mV"))
    assert recording.clock_offsets.tolist() == [[101.0, -3.0]]


def test_several_streams_must_be_chosen_from(file: Path) -> None:
    file.write_bytes(
        FILE
        + header(1, "Amp")
        + header(2, "Amp")
        + header(3, "Aux")
        + header(4, "Slow", sfreq=0)
        + samples(1, VALUES, 0.0)
        + samples(2, -VALUES, 0.0)
        + samples(3, VALUES[:5], 0.0)
    )
    with pytest.raises(RecordingError, match=r"more than one numeric.*'Amp' \(#1.*'Amp' \(#2.*'Aux' \(#3"):
        read_recording(file)
    with pytest.raises(RecordingError, match="more than one stream 'Amp'"):
        read_recording(file, "Amp")
    assert np.array_equal(read_recording(file, "#2").data, -VALUES)
    assert len(read_recording(file, "Aux").data) == 5
    with pytest.raises(RecordingError, match=r"'Slow'.*no nominal rate"):
        read_recording(file, "Slow")


def test_one_sample_and_equal_stamps(file: Path) -> None:
    """pyxdf divides by the duration of a stream."""
    file.write_bytes(FILE + header(1, "Amp") + samples(1, VALUES[:1], 3.0) + samples(1, VALUES[:1], 3.0))
    assert read_recording(file).stamps_s.tolist() == [3.0, 3.0]


def test_cut_in_a_later_chunk_of_another_stream(file: Path) -> None:
    whole = FILE + header(1, "Amp") + header(2, "Aux", sfreq=5) + samples(1, VALUES, 0.0)
    file.write_bytes(whole + samples(2, VALUES, 0.0)[:-1])
    assert np.array_equal(read_recording(file, "Amp").data, VALUES)
    assert np.array_equal(read_recording(file, "Aux").data, VALUES[:-1])
    assert np.allclose(read_recording(file, "Aux").stamps_s, np.arange(19) / 5)


def test_zeros_at_the_end_are_a_cut(file: Path) -> None:
    file.write_bytes(FILE + header(1, "Amp") + samples(1, VALUES, 0.0) + bytes(300))
    assert np.array_equal(read_recording(file).data, VALUES)


def test_damage_before_the_end_is_an_error(file: Path) -> None:
    good = FILE + header(1, "Amp") + samples(1, VALUES, 0.0)
    rest = chunk(5, BOUNDARY) + samples(1, VALUES, 2.0)
    for damage in (b"\x07garbage", b"\x01\x01", b"\x04\xff\xff\xff\x7f\x03\x00"):
        file.write_bytes(good + damage + rest)
        with pytest.raises(RecordingError, match=f"damaged at byte {len(good)} of"):
            read_recording(file)


def test_what_pyxdf_only_logs_is_an_error(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    lying = chunk(3, struct.pack("<IBB", 1, 1, 200) + bytes(9))  # 200 samples in 9 bytes
    file.write_bytes(FILE + header(1, "Amp") + lying)
    with caplog.at_level(logging.DEBUG), pytest.raises(RecordingError, match=r"#1 cannot be decoded.*corruption"):
        read_recording(file)
    assert not caplog.records
    assert logging.getLogger("pyxdf").propagate


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an XDF file"),
        (b"PK\3\4 and so on", "not an XDF file"),
        (b"XDF:", "no numeric stream.*Streams: none"),
        (FILE, "no numeric stream.*Streams: none"),
        (FILE + header(1, "Marks", kind="string", sfreq=0), "no numeric stream.*'Marks'"),
        (FILE + chunk(2, struct.pack("<I", 5) + b"<info><name>"), "header of stream #5 cannot be read"),
        (FILE + header(1, "Amp").replace(b"<channel_count>2", b"<channel_count>x"), "stream #1 cannot be read"),
        (FILE.replace(b"<info>", b"<in<o>") + header(1, "Amp"), "#1 cannot be decoded"),
    ],
)
def test_garbage_is_an_error(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        read_recording(file)
