"""Text tables of samples: CSV and the exports of acquisition programs, one line a sample.

Above the samples there may be lines of description; the last one with as many cells as the samples names the
columns. Cells are parted by tabs, semicolons or commas. The first column is the time, in seconds or as a date
with a time of day, unless the file ``<name>.json`` beside it says ``sfreq`` (it may say ``channels`` and
``units`` too, as for ``.npy``). Rates are the mean of all steps, so a lost line shows as a lower rate and not
as a gap.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from streamscore.errors import RecordingError
from streamscore.recordings.base import Recording
from streamscore.types import FloatArray
from streamscore.units import normalise_unit

#: Lines of description that are looked through for the first sample.
_MAX_HEADER_LINES = 200
#: Rates are given with so many digits: stamps of milliseconds tell no more.
_RATE_DIGITS = 4
_TIME_NAMES = {"t", "t_s", "time", "time_s", "timestamp", "seconds"}
_DATES = (
    re.compile(r"(?P<d>\d{1,2})[/.](?P<m>\d{1,2})[/.](?P<y>\d{4})\s+(?P<time>\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)"),
    re.compile(r"(?P<y>\d{4})[-/](?P<m>\d{1,2})[-/](?P<d>\d{1,2})[T\s]+(?P<time>\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)"),
)
#: A column whose name is a unit is called by its number.
_UNITS = {"V", "mV", "uV", "nV"}


def read(path: Path, stream: str | None = None) -> Recording:
    """Read a table of samples.

    Parameters
    ----------
    path
        The file, UTF-8 or Latin-1.
    stream
        Must be None or the name of the file: such a file holds one stream.

    Raises
    ------
    RecordingError
        If there are no lines of numbers, a line is damaged (named), or the rate cannot be told.
    """
    if stream not in (None, path.stem):
        raise RecordingError(f"{path}: has no stream {stream!r}, it holds a single one; leave `stream` out")
    header, n_header, delimiter = _header(path)
    beside = _beside(path)
    with path.open(encoding="latin-1") as file:
        first = next(islice(file, n_header, None)).rstrip("\r\n").rstrip(delimiter).split(delimiter)
    n_columns = len(first)
    names = [name.strip() for name in header[:n_columns]] or [""] * n_columns
    dated = _seconds(first[0]) is not None
    timed = dated or names[0].lower() in _TIME_NAMES
    if not timed and "sfreq" not in beside:
        raise RecordingError(
            f'{path}: does not tell its rate: name the first column time_s, or write {{"sfreq": 128}} into '
            f"{path.with_suffix('.json').name} beside it"
        )
    data = _numbers(path, n_header, delimiter, range(1 if dated else 0, n_columns))
    sfreq = float(beside["sfreq"]) if "sfreq" in beside else 0.0
    if timed:
        last_s = _last_s(path, delimiter) if dated else float(data[-1, 0])
        first_s = _seconds(first[0]) if dated else float(data[0, 0])
        if sfreq == 0.0 and (first_s is None or last_s is None or not last_s > first_s):
            raise RecordingError(f"{path}: times run from {first_s} to {last_s} s; correct the first column")
        if sfreq == 0.0:
            assert first_s is not None
            assert last_s is not None
            sfreq = float(f"{(len(data) - 1) / (last_s - first_s):.{_RATE_DIGITS}g}")
        data = data if dated else data[:, 1:]
        names = names[1:]
    units = [normalise_unit(name) if normalise_unit(name) in _UNITS else "" for name in names]
    channels = [
        name if name and not unit else f"ch{k + 1}"
        for k, (name, unit) in enumerate(zip(names, units, strict=True))
    ]
    samples: FloatArray = data.astype(np.float32)
    return Recording(
        name=path.stem,
        data=samples,
        stamps_s=np.arange(len(samples)) / sfreq,
        sfreq=sfreq,
        channels=_told(path, beside, "channels", channels),
        units=tuple(normalise_unit(unit) for unit in _told(path, beside, "units", units)),
    )


def _header(path: Path) -> tuple[list[str], int, str]:
    """Names of the columns (none if there are none), number of lines above the samples, delimiter."""
    lines: list[str] = []
    with path.open(encoding="latin-1") as file:
        for line in islice(file, _MAX_HEADER_LINES):
            lines.append(line.rstrip("\r\n"))
            delimiter = max("\t;,", key=lines[-1].count)
            cells = lines[-1].rstrip(delimiter).split(delimiter)
            if (
                cells != [""]
                and all(map(_is_number, cells[1:]))
                and (_is_number(cells[0]) or _seconds(cells[0]) is not None)
            ):
                rows = [above.rstrip(delimiter).split(delimiter) for above in lines[:-1]]
                named = [row for row in rows if len(row) == len(cells)]
                return (named[-1] if named else []), len(lines) - 1, delimiter
    raise RecordingError(
        f"{path}: has no line of numbers among its first {_MAX_HEADER_LINES}; save one sample a line, cells "
        "parted by "
        "commas, semicolons or tabs"
    )


def _numbers(path: Path, n_header: int, delimiter: str, columns: range) -> Any:
    try:
        return np.loadtxt(
            path,
            delimiter=delimiter,
            skiprows=n_header,
            usecols=columns,
            ndmin=2,
            encoding="latin-1",
            comments=None,
        )
    except ValueError as error:
        raise RecordingError(
            f"{path}: {error} (counted from line {n_header + 1}); correct the line or cut it off"
        ) from error


def _last_s(path: Path, delimiter: str) -> float | None:
    """Time of the last line."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 4096, 0))
        lines = file.read().decode("latin-1").split("\n")
    return next((_seconds(line.split(delimiter)[0]) for line in reversed(lines) if line.strip()), None)


def _seconds(cell: str) -> float | None:
    """Date and time of day in seconds since 2000; ``None`` if it is none."""
    for pattern in _DATES:
        if found := pattern.match(cell.strip()):
            stamp = np.datetime64(f"{found['y']}-{int(found['m']):02}-{int(found['d']):02}", "D")
            hour, minute, second = found["time"].split(":")
            days = float((stamp - np.datetime64("2000-01-01", "D")) / np.timedelta64(1, "D"))
            return days * 86400.0 + int(hour) * 3600 + int(minute) * 60 + float(second)
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _beside(path: Path) -> dict[str, Any]:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        return {}
    try:
        told = json.loads(sidecar.read_text(encoding="utf-8"))
        if not float(told.get("sfreq", 1)) > 0:
            raise ValueError(f"sfreq is {told['sfreq']}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecordingError(f'{sidecar}: cannot be used ({error}); write it like {{"sfreq": 128.0}}') from error
    return dict(told)


def _told(path: Path, beside: dict[str, Any], key: str, found: list[str]) -> tuple[str, ...]:
    told = [str(text) for text in beside.get(key, found)]
    if len(told) != len(found):
        raise RecordingError(
            f"{path.with_suffix('.json')}: {key} has {len(told)} entries, but the table {len(found)} columns "
            "of samples"
        )
    return tuple(told)
