"""Files of expert scoring → labelled bouts: tables, and annotations of EDF+ files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offline.datasets.labels import MAX_LISTED, PREFIX, UNSCORED, Bout, Naming, known_words
from streamscore.edfplus import read_annotations, read_header
from streamscore.errors import RecordingError

_STARTS = ("start_s", "onset", "onset_s", "start", "time_s", "t_s")
_DURATIONS = ("duration_s", "duration")
_STATES = ("state", "stage", "sleep_stage", "staging", "label", "trial_type", "description")
_RECORDINGS = ("recording", "file", "filename")


def read_table(path: Path, epoch_s: float | None = None, *, events: bool = False) -> list[Bout]:
    """Read a table of bouts: CSV with commas, semicolons or tabs, and a line of column names.

    Parameters
    ----------
    path
        Needs columns ``start_s``, ``duration_s`` and ``state`` (or ``onset``, ``duration``, ``stage``,
        ``trial_type`` …); a ``recording`` column says of which recording where one file holds several.
    epoch_s
        Stands for a missing ``duration_s``; without ``start_s`` too, rows are epochs from 0 s on.
    events
        A duration of ``n/a`` is 0, as in BIDS.

    Raises
    ------
    RecordingError
        If a column is missing or a number cannot be read; the message names the line.
    """
    rows = read_rows(path)
    header = [name.strip().lower() for name in rows[0]] if rows else []
    start, duration = _column(header, _STARTS), _column(header, _DURATIONS)
    state, recording = _column(header, _STATES), _column(header, _RECORDINGS)
    if state is None or (epoch_s is None and (start is None or duration is None)):
        raise RecordingError(
            f"{path}, line 1: the columns are {', '.join(header) or 'none'}; a label file needs start_s, "
            "duration_s and state"
        )
    bouts: list[Bout] = []
    counts: dict[str, int] = {}
    for line, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            name = row[recording].strip() if recording is not None else ""
            k = counts[name] = counts.get(name, -1) + 1
            start_s = float(row[start]) if start is not None else k * float(epoch_s or 0)
            length = row[duration] if duration is not None else str(epoch_s)
            duration_s = 0.0 if events and length.strip().lower() == "n/a" else float(length)
            word = row[state]
            if not (np.isfinite(start_s) and np.isfinite(duration_s) and duration_s >= 0):
                raise ValueError(f"start {start_s:g} s and duration {duration_s:g} s are no times")
        except (ValueError, IndexError) as error:
            raise RecordingError(f"{path}, line {line}: {','.join(row)!r}: {error}; correct the row") from error
        bouts.append(Bout(start_s, duration_s, word, line, name))
    return bouts


def read_rows(path: Path) -> list[list[str]]:
    """Cells of a table, its delimiter told by its first line.

    Raises
    ------
    RecordingError
        If the file cannot be read as text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max("\t;,", key=first.count)
            file.seek(0)
            return list(csv.reader(file, delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{path}: cannot be read as a table: {error}; save it as CSV in UTF-8") from error


def read_edf_bouts(path: Path, signal: Path, naming: Naming) -> list[Bout]:
    """Annotations of states in the EDF+ file at `path`, on the clock of the EDF file `signal`.

    Both headers say when the file starts, to the second; where they differ, onsets are moved. Such files annotate
    other things too (lights off, arousals), so only texts ``Sleep stage …`` and known words that last are taken.

    Raises
    ------
    RecordingError
        If either file is no EDF, or no annotation is a state.
    """
    late_s = _start_s(path) - _start_s(signal) if path != signal else 0.0
    known = known_words(naming, path)
    found = read_annotations(read_header(path))
    bouts = [
        Bout(a.onset_s + late_s, a.duration_s, a.text)
        for a in found
        if a.duration_s > 0 and ((word := a.text.strip().lower()) in known or word.startswith(PREFIX))
    ]
    if not bouts:
        texts = ", ".join(repr(a.text) for a in found[:MAX_LISTED]) or "none"
        raise RecordingError(
            f"{path}: no annotation is a state (its texts: {texts}); give the file of the scoring, or map the "
            "texts with --label TEXT=STATE"
        )
    # Words for "no state" count only beside those that are states: elsewhere they mean anything.
    nothing = [a for a in found if a.duration_s > 0 and a.text.strip().lower() in UNSCORED]
    return bouts + [Bout(a.onset_s + late_s, a.duration_s, "?") for a in nothing]


def _start_s(path: Path) -> float:
    """When a recording starts by its header, in seconds since 2000."""
    with path.open("rb") as file:
        raw = file.read(184)[168:184].decode("latin-1")
    century = "19" if raw[6:8] >= "85" else "20"
    try:
        stamp = np.datetime64(f"{century}{raw[6:8]}-{raw[3:5]}-{raw[:2]}T{raw[8:10]}:{raw[11:13]}:{raw[14:16]}")
    except ValueError as error:
        raise RecordingError(
            f"{path}: its header says {raw!r} for its start; write dd.mm.yyhh.mm.ss there"
        ) from error
    return float((stamp - np.datetime64("2000-01-01T00:00:00")) / np.timedelta64(1, "s"))


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)
