"""Tables of samples as text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streamscore.errors import RecordingError
from streamscore.recordings.base import Recording, read_recording


def read(path: Path, text: str) -> Recording:
    path.write_text(text, encoding="latin-1")
    return read_recording(path)


def test_csv_with_seconds(tmp_path: Path) -> None:
    text = "time_s,EEG,EMG\n" + "".join(f"{k / 128:.4f},{k},{-k / 2}\n" for k in range(300))
    found = read(tmp_path / "m1.csv", text)
    assert (found.sfreq, found.channels, found.units) == (128, ("EEG", "EMG"), ("", ""))
    np.testing.assert_array_equal(
        found.data, np.stack([np.arange(300), -np.arange(300) / 2], 1).astype(np.float32)
    )
    np.testing.assert_array_equal(found.stamps_s, np.arange(300) / 128)
    assert found.name == "m1"


@pytest.mark.parametrize("date", ["04/12/2018  {}", "2018-12-04T{}", "4.12.2018 {}"])
def test_dates_lines_of_description_and_columns_named_by_their_unit(tmp_path: Path, date: str) -> None:
    rows = [date.format(f"23:59:{58 + k // 10:02}.{k % 10}00") + f";{k};{k}.5;\r\n" for k in range(20)]
    found = read(tmp_path / "raw.txt", "Subject;D1\r\n\r\nComment;a;b;c;d;e\r\nTime;\xb5V;V;\r\n" + "".join(rows))
    assert (found.sfreq, found.channels, found.units) == (10, ("ch1", "ch2"), ("uV", "V"))
    assert found.data.shape == (20, 2)


def test_midnight_does_not_matter(tmp_path: Path) -> None:
    rows = ["31/12/2018 23:59:59.500,1\n", "01/01/2019 00:00:00.000,2\n", "01/01/2019 00:00:00.500,3\n"]
    assert read(tmp_path / "a.txt", "".join(rows)).sfreq == 2


def test_rate_channels_and_units_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"sfreq": 50, "channels": ["EEG", "EMG"], "units": ["uV", "mV"]}))
    found = read(tmp_path / "a.txt", "1\t2\n3\t4\n")
    assert (found.sfreq, found.channels, found.units) == (50, ("EEG", "EMG"), ("uV", "mV"))
    assert found.data.tolist() == [[1, 2], [3, 4]]


def test_numbers_that_are_none_stay_none(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "t,EEG\n0,1\n1,nan\n2,inf\n")
    assert np.isnan(found.data[1, 0])
    assert np.isinf(found.data[2, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line of numbers"),
        ("a,b\nc,d\n", "no line of numbers"),
        ("EEG,EMG\n1,2\n3,4\n", "does not tell its rate: name the first column time_s"),
        ("time_s,EEG\n0,1\n1,x\n", r"line 2"),
        ("time_s,EEG\n0,1\n1\n", r"line 2|columns"),
        ("time_s,EEG\n1,1\n0,1\n", "times run from 1.0 to 0.0 s"),
        ("time_s,EEG\n1,1\n", "times run from 1.0 to 1.0 s"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecordingError, match=rf"a\.csv: .*({message})"):
        read(tmp_path / "a.csv", text)


@pytest.mark.parametrize("beside", ["{", "[]", '{"sfreq": 0}', '{"sfreq": 5, "channels": ["a"]}'])
def test_a_damaged_description_is_told(tmp_path: Path, beside: str) -> None:
    (tmp_path / "a.json").write_text(beside)
    with pytest.raises(RecordingError, match=r"a\.json: "):
        read(tmp_path / "a.csv", "1,2\n3,4\n")


def test_a_stream_of_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x\n0,1\n1,2\n")
    with pytest.raises(RecordingError, match="no stream 'b'"):
        read_recording(path, "b")
