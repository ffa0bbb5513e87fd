from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import pyxdf
from hypothesis import given, settings
from hypothesis import strategies as st

from streamscore.errors import RecordError, RecordingError
from streamscore.record.append_file import AppendFile
from streamscore.record.xdf_writer import FORMATS, XdfWriter
from streamscore.recordings.base import read_recording

SFREQ = 10.0


def load(path: Path) -> list[dict]:
    streams, _ = pyxdf.load_xdf(str(path), synchronize_clocks=False, dejitter_timestamps=False)
    return streams


def recording(n_samples: int, n_channels: int = 2, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    data = (rng.normal(size=(n_samples, n_channels)) * 1000).astype(dtype)
    stamps_s = 1e5 + np.arange(n_samples) / SFREQ + rng.normal(scale=1e-3, size=n_samples)
    return data, stamps_s


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_pyxdf_reads_back_exactly(tmp_path: Path, dtype: str, n_channels: int) -> None:
    data, stamps_s = recording(333, n_channels, dtype)
    writer = XdfWriter(tmp_path / "a.xdf")
    labels = [f"C{k}" for k in range(n_channels)]
    stream = writer.add_stream("amp <1>", "EEG", SFREQ, labels, ["µV"] * n_channels, dtype=dtype, source_id="sn&7")
    writer.samples(stream, data, stamps_s)
    writer.clock_offset(stream, 1e5, -0.25)
    writer.clock_offset(stream, 1e5 + 5, -0.26)
    writer.close()

    (read,) = load(tmp_path / "a.xdf")
    assert read["time_series"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read["time_series"], data)
    np.testing.assert_array_equal(read["time_stamps"], stamps_s)
    assert read["clock_times"] == [1e5, 1e5 + 5]
    assert read["clock_values"] == [-0.25, -0.26]
    info = read["info"]
    assert (info["name"], info["type"], info["source_id"]) == (["amp <1>"], ["EEG"], ["sn&7"])
    assert float(info["nominal_srate"][0]) == SFREQ
    channels = info["desc"][0]["channels"][0]["channel"]
    assert [c["label"][0] for c in channels] == labels
    assert [c["unit"][0] for c in channels] == ["µV"] * n_channels
    footer = read["footer"]["info"]
    assert int(footer["sample_count"][0]) == 333
    assert float(footer["last_timestamp"][0]) == stamps_s[-1]


def test_not_a_number_is_kept(tmp_path: Path) -> None:
    data, stamps_s = recording(5)
    data[2, 1] = np.nan
    writer = XdfWriter(tmp_path / "a.xdf")
    writer.samples(writer.add_stream("amp", "EEG", SFREQ, ["a", "b"], ["", ""]), data, stamps_s)
    writer.close()
    np.testing.assert_array_equal(load(tmp_path / "a.xdf")[0]["time_series"], data)


def test_pyxdf_applies_the_offset_with_its_defaults(tmp_path: Path) -> None:
    data, stamps_s = recording(50)
    writer = XdfWriter(tmp_path / "a.xdf")
    stream = writer.add_stream("amp", "EEG", SFREQ, ["a", "b"], ["", ""])
    writer.clock_offset(stream, float(stamps_s[0]), 2.5)
    writer.samples(stream, data, stamps_s)
    writer.close()
    (read,), _ = pyxdf.load_xdf(str(tmp_path / "a.xdf"), dejitter_timestamps=False)
    np.testing.assert_allclose(read["time_stamps"], stamps_s + 2.5, rtol=0, atol=1e-6)


def test_description_nests_repeats_and_survives_control_characters(tmp_path: Path) -> None:
    writer = XdfWriter(tmp_path / "a.xdf")
    writer.add_stream(
        "amp",
        "EEG",
        SFREQ,
        ["C3\x00"],
        ["uV"],
        desc={"filter": {"low_hz": 0.5, "notch": [50, 60]}, "cap": "mouse"},
    )
    writer.close()
    desc = load(tmp_path / "a.xdf")[0]["info"]["desc"][0]
    assert desc["filter"][0] == {"low_hz": ["0.5"], "notch": ["50", "60"]}
    assert desc["cap"] == ["mouse"]
    assert desc["channels"][0]["channel"][0]["label"] == ["C3\ufffd"]


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 260), min_size=1, max_size=6), flush=st.booleans())
def test_chunking_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], flush: bool
) -> None:
    path = tmp_path_factory.mktemp("xdf") / "a.xdf"
    data, stamps_s = recording(sum(sizes))
    before = data.copy()
    writer = XdfWriter(path)
    stream = writer.add_stream("amp", "EEG", SFREQ, ["a", "b"], ["uV", "uV"])
    start = 0
    for size in sizes:
        writer.samples(stream, data[start : start + size], stamps_s[start : start + size])
        start += size
        if flush:
            writer.flush()
    writer.close()
    (read,) = load(path)
    np.testing.assert_array_equal(read["time_series"], data)
    np.testing.assert_array_equal(read["time_stamps"], stamps_s)
    np.testing.assert_array_equal(data, before)


def two_streams(path: Path) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Write a file of two streams in chunks of 5; return the first stream and the file size at each flush."""
    data, stamps_s = recording(40)
    writer = XdfWriter(path)
    eeg = writer.add_stream("amp", "EEG", SFREQ, ["a", "b"], ["uV", "uV"])
    other = writer.add_stream("loops", "Events", 0.0, ["n"], [""], dtype="int32")
    writer.flush()
    sizes = [path.stat().st_size]
    for start in range(0, 40, 5):
        writer.clock_offset(eeg, stamps_s[start], 0.5)
        writer.samples(other, np.array([[start]], np.int32), stamps_s[start : start + 1])
        writer.samples(eeg, data[start : start + 5], stamps_s[start : start + 5])
        writer.flush()
        sizes.append(path.stat().st_size)
    writer.close()
    return data, stamps_s, sizes


def test_a_file_cut_anywhere_reads_up_to_the_cut(tmp_path: Path) -> None:
    data, stamps_s, sizes = two_streams(tmp_path / "a.xdf")
    whole = (tmp_path / "a.xdf").read_bytes()
    cut = tmp_path / "cut.xdf"
    # Every byte of two rounds, of the last one and of the footers; the rounds between them are alike.
    for n_bytes in [*range(sizes[0], sizes[2]), *range(sizes[-2], len(whole) + 1)]:
        cut.write_bytes(whole[:n_bytes])
        read = read_recording(cut)
        n_samples = 5 * sum(n_bytes >= size for size in sizes[1:])
        assert n_samples <= len(read.data) < n_samples + 5
        np.testing.assert_array_equal(read.data, data[: len(read.data)])
        np.testing.assert_array_equal(read.stamps_s, stamps_s[: len(read.data)])
    # Before the end of the first stream's header, there is nothing that could be read.
    for n_bytes in range(0, whole.index(b"</info>", 300), 40):
        cut.write_bytes(whole[:n_bytes])
        with pytest.raises(RecordingError, match=r"cut\.xdf"):
            read_recording(cut)


def test_pyxdf_alone_reads_a_file_cut_inside_samples(tmp_path: Path) -> None:
    data, _, sizes = two_streams(tmp_path / "a.xdf")
    whole = (tmp_path / "a.xdf").read_bytes()
    # The samples of the first stream are the last 5 * (1 + 8 + 2 * 4) bytes of each flush.
    for n_bytes in range(sizes[3] - 5 * 17, sizes[3] - 8):
        (tmp_path / "cut.xdf").write_bytes(whole[:n_bytes])
        np.testing.assert_array_equal(load(tmp_path / "cut.xdf")[0]["time_series"], data[:10])


def test_a_damaged_place_costs_the_samples_up_to_the_next_boundary(tmp_path: Path) -> None:
    path = tmp_path / "a.xdf"
    data, stamps_s = recording(450)
    writer = XdfWriter(path)
    stream = writer.add_stream("amp", "EEG", SFREQ, ["a", "b"], ["uV", "uV"])
    sizes = []
    for start in range(0, 450, 10):
        writer.samples(stream, data[start : start + 10], stamps_s[start : start + 10])
        writer.flush()
        sizes.append(path.stat().st_size)
    writer.close()
    raw = bytearray(path.read_bytes())
    raw[sizes[14]] = 0  # the length of the chunk that holds samples 150 to 159
    path.write_bytes(raw)
    (read,) = load(path)
    # Boundaries stand every 10 s, so reading goes on at sample 200.
    np.testing.assert_array_equal(read["time_series"], np.concatenate([data[:150], data[200:]]))


def test_nothing_is_on_disk_before_a_flush(tmp_path: Path) -> None:
    writer = XdfWriter(tmp_path / "a.xdf")
    stream = writer.add_stream("amp", "EEG", SFREQ, ["a", "b"], ["", ""])
    writer.samples(stream, *recording(100))
    assert (tmp_path / "a.xdf").stat().st_size == 0
    writer.flush()
    assert len(load(tmp_path / "a.xdf")[0]["time_series"]) == 100
    writer.close()


def test_misuse_is_refused_and_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.xdf"
    data, stamps_s = recording(10)
    writer = XdfWriter(path)
    stream = writer.add_stream("amp", "EEG", SFREQ, ["a", "b"], ["", ""])
    with pytest.raises(RecordError, match="2 channels"):
        writer.samples(stream, data[:, :1], stamps_s)
    with pytest.raises(RecordError, match="9 stamps"):
        writer.samples(stream, data, stamps_s[:9])
    with pytest.raises(RecordError, match="cannot hold float64"):
        writer.samples(stream, data.astype(np.float64), stamps_s)
    with pytest.raises(RecordError, match="no stream 7"):
        writer.samples(7, data, stamps_s)
    with pytest.raises(RecordError, match="float32, float64, int16, int32"):
        writer.add_stream("x", "EEG", SFREQ, ["a"], [""], dtype="complex64")
    with pytest.raises(RecordError, match="1 channel labels and 2 units"):
        writer.add_stream("x", "EEG", SFREQ, ["a"], ["", ""])
    with pytest.raises(RecordError, match="sfreq = nan"):
        writer.add_stream("x", "EEG", np.nan, ["a"], [""])
    with pytest.raises(RecordError, match="'low pass'"):
        writer.add_stream("x", "EEG", SFREQ, ["a"], [""], desc={"low pass": 1})
    with pytest.raises(RecordError, match="'channels'"):
        writer.add_stream("x", "EEG", SFREQ, ["a"], [""], desc={"channels": 1})
    writer.samples(stream, data, stamps_s)
    writer.close()
    with pytest.raises(RecordError, match="closed"):
        writer.samples(stream, data, stamps_s)
    with pytest.raises(RecordError, match="already"):
        XdfWriter(path)
    np.testing.assert_array_equal(load(path)[0]["time_series"], data)


def test_the_layout_is_that_of_the_specification(tmp_path: Path) -> None:
    writer = XdfWriter(tmp_path / "a.xdf")
    stream = writer.add_stream("amp", "EEG", 1.0, ["a"], ["uV"], dtype="int16")
    writer.flush()
    start = (tmp_path / "a.xdf").stat().st_size
    writer.samples(stream, np.array([[258]], np.int16), [1.5])
    writer.clock_offset(stream, 2.0, 0.25)
    writer.flush()
    raw = (tmp_path / "a.xdf").read_bytes()
    samples = struct.pack("<BBHIBBBdh", 1, 19, 3, stream, 1, 1, 8, 1.5, 258)
    offset = struct.pack("<BBHIdd", 1, 22, 4, stream, 2.0, 0.25)
    assert raw[:4] == b"XDF:"
    assert raw[start:] == samples + offset
    writer.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe: the file that cannot be cut back")
def test_a_torn_piece_that_cannot_be_cut_off_is_followed_by_the_resync_mark(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = AppendFile(path, resync=b"\n")
    os.set_blocking(file._file.fileno(), False)  # so that a full pipe is an error, as a full disk is
    file.put(b"x" * 100_000)
    with pytest.raises(OSError, match="unavailable"):
        file.flush()
    torn = os.read(reader, 1 << 20)
    assert 0 < len(torn) < 100_000
    with pytest.raises(OSError, match="unavailable"):
        file.flush()
    assert os.read(reader, 1 << 20).startswith(b"\nxxx")
    file.close()
    os.close(reader)
