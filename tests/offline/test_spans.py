"""Hours of a recording stand for a subject, with the labels that lie in them and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from offline.spans import Span, SpanDataset, cut, with_spans
from streamscore.errors import ConfigError, RecordingError
from streamscore.recordings.base import Recording


@dataclass(frozen=True)
class OneEntry:
    """What an entry of a data set says."""

    subject: str
    session: str
    signal: Path
    labels: Path | None
    details: Mapping[str, str]


class OneMouse:
    """A data set in memory with one mouse and one recording."""

    kind = "memory"
    folder = Path("memory")
    subjects = ("M1",)
    entries = (OneEntry("M1", "day", Path("day.edf"), None, {}),)

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def read(self, entry: OneEntry) -> Recording:
        assert entry is self.entries[0]
        return self.recording


@pytest.fixture(scope="module")
def day() -> Recording:
    """Three hours at 16 Hz, labelled every 4 s, on a clock that starts at 1000 s."""
    n_samples, n_epochs = 3 * 3600 * 16, 3 * 3600 // 4
    return Recording(
        name="day",
        data=np.arange(n_samples, dtype=np.float32)[:, None],
        stamps_s=1000.0 + np.arange(n_samples) / 16.0,
        sfreq=16.0,
        channels=("EEG",),
        units=("uV",),
        labels=("Wake", "NREM", "REM"),
        states=(np.arange(n_epochs) % 3).astype(np.int8),
        epoch_s=4.0,
        states_t0_s=1000.0,
    )


def test_spans_read_back() -> None:
    for text in ("M1", "M1@0-16h", "M1@16-h", "M1@0.5-1.25h"):
        assert str(Span.parse(text)) == text
    assert Span.parse("a@b").is_whole


def test_spans_join_to_the_whole(day: Recording) -> None:
    parts = [cut(day, Span.parse(text)) for text in ("M@0-1h", "M@1-2.5h", "M@2.5-h")]
    assert [part.duration_s for part in parts] == pytest.approx([3600.0, 5400.0, 1800.0])
    np.testing.assert_array_equal(np.concatenate([part.data for part in parts]), day.data)
    np.testing.assert_array_equal(np.concatenate([part.stamps_s for part in parts]), day.stamps_s)
    np.testing.assert_array_equal(np.concatenate([part.states for part in parts]), day.states)
    assert [part.states_t0_s - day.states_t0_s for part in parts] == pytest.approx([0.0, 3600.0, 9000.0])


def test_an_epoch_across_the_border_is_in_neither_part(day: Recording) -> None:
    hours = (2 * day.epoch_s + 0.5 * day.epoch_s) / 3600.0
    before, after = cut(day, Span("M", 0.0, hours)), cut(day, Span("M", hours))
    assert len(before.states) == 2
    assert len(after.states) == len(day.states) - 3
    assert after.states_t0_s == pytest.approx(day.states_t0_s + 3 * day.epoch_s)
    assert len(before.data) + len(after.data) == len(day.data)


def test_a_span_beyond_the_recording_is_told(day: Recording) -> None:
    with pytest.raises(RecordingError, match=r"has 3 h and nothing in M@5-6h"):
        cut(day, Span("M", 5.0, 6.0))


def test_a_dataset_shows_spans_as_subjects(day: Recording) -> None:
    dataset = OneMouse(day)
    cuts = SpanDataset(dataset, ("M1@1-h", "M1@0-1h"))  # type: ignore[arg-type]
    assert cuts.subjects == ("M1@0-1h", "M1@1-h")
    assert [(entry.subject, entry.session) for entry in cuts.entries] == [
        ("M1@0-1h", "day@0-1h"),
        ("M1@1-h", "day@1-h"),
    ]
    part = cuts.read(cuts.entries[1])
    assert isinstance(part, Recording)
    np.testing.assert_array_equal(part.data, day.data[-2 * 3600 * 16 :])
    assert with_spans(dataset, ("M1",)) is dataset  # type: ignore[arg-type, comparison-overlap]
    with pytest.raises(ConfigError, match=r"no subject 'M2'; it has M1"):
        with_spans(dataset, ("M2@0-1h",))  # type: ignore[arg-type]
