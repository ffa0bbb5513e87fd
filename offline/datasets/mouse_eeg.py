"""EEG and EMG of mice as labs keep them: EDF, ``.npz`` or text, with labels beside them or inside.

For each recording the labels are looked for in this order: the tables of the plain layout
(:mod:`offline.datasets.plain`), ``<recording>_scores.csv``, ``<recording>_labels.csv`` or ``.txt``, an EDF file of
annotations (``<recording>_hypnogram.edf`` …), SleepSign's ``judge.txt`` for a ``raw.txt``, and the file itself.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from offline.datasets.base import About, Entry, Options, recordings_in
from offline.datasets.channels import EDF_SUFFIXES, read_signal
from offline.datasets.fitting import attach
from offline.datasets.labels import Bout, on_grid
from offline.datasets.plain import declared, names, table_of
from offline.datasets.tables import read_edf_bouts, read_rows, read_table
from streamscore.edfplus import read_annotations, read_header
from streamscore.errors import RecordingError, StreamscoreError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

ABOUT = About(
    title="EEG and EMG of mice: EDF, npz or text, with a table, annotations or SleepSign judgements",
    source="docs/datasets.md",
    licence="yours",
    layout="<mouse>[_<session>].<edf, npz or txt> with a CSV or EDF of labels, or raw.txt with judge.txt",
    get="lay your files out so; `streamscore data simulate mouse` writes simulated ones",
    vocabulary="MOUSE3",
)
_TABLES = ("_scores.csv", "_labels.csv", "_states.csv", "_labels.txt", "_states.txt")
_ANNOTATED = ("_hypnogram.edf", "-Hypnogram.edf", "_labels.edf", "_annotations.edf")
#: SleepSign: the table of epochs, and words that are its own. "RW" is read as wake (rest), a star as a mark of the
#: scorer on an epoch whose state holds.
_JUDGED, _RAW = "judge.txt", "raw.txt"
_SLEEPSIGN_WORDS = {"W": "Wake", "RW": "Wake", "NR": "NREM", "S": "NREM", "R": "REM", "P": "REM"}


class Config(Options):
    """Options of mouse EEG."""

    vocabulary: str | None = "MOUSE3"
    epoch_s: float | None = Field(
        default=None, gt=0, description="Length of an epoch, where the labels do not tell."
    )
    subject_pattern: str | None = Field(
        default=None, description="Regular expression whose first group is the mouse in a file's name."
    )


def matches(folder: Path) -> bool:
    """Whether there is a recording with labels of one of these kinds."""
    return any(True for _ in _candidates(folder))


def find(folder: Path, config: Config) -> list[Entry]:
    """Recordings with labels; those without stay among the unused files."""
    return [
        Entry(*names(path, folder, config.subject_pattern), path, labels) for path, labels in _candidates(folder)
    ]


def _candidates(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Signal and label files; ``None`` where the signal's own labels are to be used."""
    annotated = {path for suffix in _ANNOTATED for path in folder.rglob(f"*{suffix}")}
    texts = [path for path in folder.rglob("*.txt") if not path.name.endswith((_JUDGED, *_TABLES))]
    for path in [*recordings_in(folder), *sorted(texts)]:
        if path in annotated:
            continue
        labels = table_of(path, folder) or _beside(path)
        if labels is not None or _is_labelled(path):
            yield path, labels


def _beside(path: Path) -> Path | None:
    choices = [path.with_name(path.stem + suffix) for suffix in (*_TABLES, *_ANNOTATED)]
    if path.name.endswith(_RAW):
        choices.append(path.with_name(path.name.removesuffix(_RAW) + _JUDGED))
    return next((choice for choice in choices if choice.is_file()), None)


def _is_labelled(path: Path) -> bool:
    """Whether a file may say itself what its states are: it has annotations, or an array of states."""
    try:
        if path.suffix.lower() in EDF_SUFFIXES:
            return bool(read_annotations(read_header(path)))
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return "states" in arrays.files and bool({"eeg", "data"} & set(arrays.files))
    except (StreamscoreError, OSError, ValueError, zipfile.BadZipFile):
        return True  # whoever reads it tells what is wrong
    return False


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Read a recording with its labels."""
    channels = config.channels
    if not channels and entry.signal.name.endswith(_RAW):
        channels = {"EEG": "ch1", "EMG": "ch2"}  # SleepSign's order
    recording = read_signal(entry.signal, channels)
    if entry.labels is None:
        if recording.labels or entry.signal.suffix.lower() not in EDF_SUFFIXES:
            return declared(recording, config, entry.signal)
        bouts = read_edf_bouts(entry.signal, entry.signal, config.naming)
    elif entry.labels.suffix.lower() == ".edf":
        bouts = read_edf_bouts(entry.labels, entry.signal, config.naming)
    elif entry.labels.name.endswith(_JUDGED):
        bouts = _judged(entry.labels)
    else:
        bouts = [b for b in read_table(entry.labels, config.epoch_s) if b.recording in ("", entry.session)]
    return attach(recording, on_grid(bouts, config.naming, entry.labels or entry.signal, config.epoch_s))


def _judged(path: Path) -> list[Bout]:
    """Epochs of a SleepSign export: lines of date and time, number and stage, all epochs as long as the first."""
    rows = [
        (line, row)
        for line, row in enumerate(read_rows(path), 1)
        if re.match(r"\d+/\d+/\d+\s", row[0] if row else "")
    ]
    if len(rows) < 2:
        raise RecordingError(f"{path}: has no lines of epochs ('date time,number,stage,…'); export it again")
    starts_s = [_time_of_day_s(path, line, row[0]) for line, row in rows]
    epoch_s = (starts_s[1] - starts_s[0]) % 86400.0
    # Every epoch by its own time: a line that is missing must not move those behind it.
    elapsed_s = np.cumsum([0.0, *(np.diff(starts_s) % 86400.0)])
    bouts = []
    for start_s, (line, row) in zip(elapsed_s.tolist(), rows, strict=True):
        if len(row) < 3:
            raise RecordingError(f"{path}, line {line}: has no stage; export the file again")
        word = row[2].strip().removesuffix("*")
        bouts.append(Bout(start_s, epoch_s, _SLEEPSIGN_WORDS.get(word, word), line))
    return bouts


def _time_of_day_s(path: Path, line: int, cell: str) -> float:
    try:
        hour, minute, second = cell.split()[1].split(":")
        return int(hour) * 3600.0 + int(minute) * 60.0 + float(second)
    except (ValueError, IndexError) as error:
        raise RecordingError(
            f"{path}, line {line}: {cell!r} is no date and time; export the file again"
        ) from error
