"""Running and rest: from the speed of a wheel to a state for each sample, and whose recording it is.

Run is a speed above 0.5 cm/s (Ajioka et al. 2024). Their sessions are listed in a table with the columns
``Data_ID`` and ``mouse_No.`` (``data_64_5mice.csv`` in their repository); any ``*.csv`` with ``session`` and
``mouse`` does as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.datasets.tables import read_rows
from streamscore.annotations import ScoredStates
from streamscore.errors import RecordingError
from streamscore.labels import RUNREST, UNKNOWN_CODE
from streamscore.recordings.base import Recording
from streamscore.recordings.text import read as read_samples
from streamscore.simulate.cortex_behaviour import RUN_CM_S

SPEED_SUFFIX = ".speed.csv"
#: Names of a column of speeds in cm/s, and of one that is 1 where the animal runs.
SPEEDS = ("speed_cm_s", "speed", "speed_rs")
RUNS = ("run", "runrest", "running")
_SESSIONS, _MICE = ("session", "data_id"), ("mouse", "mouse_no.", "subject")


def from_speed(speed_cm_s: npt.NDArray[Any], above_cm_s: float = RUN_CM_S) -> npt.NDArray[np.int8]:
    """Code of each sample: 1 run, 0 rest, -1 where the speed is no number."""
    codes = (np.asarray(speed_cm_s, np.float64) > above_cm_s).astype(np.int8)
    codes[~np.isfinite(speed_cm_s)] = UNKNOWN_CODE
    return codes


def from_runs(runs: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Code of each sample from zeros and ones; whatever else stands there is unscored."""
    values = np.asarray(runs, np.float64).ravel()
    return np.where(values == 1, 1, np.where(values == 0, 0, UNKNOWN_CODE)).astype(np.int8)


def per_sample(codes: npt.NDArray[np.int8], sfreq: float) -> ScoredStates:
    """Codes as labels, an epoch a sample."""
    return ScoredStates(RUNREST, 1.0 / sfreq, 0.0, codes)


def read_speed(path: Path, n_samples: int, sfreq: float) -> ScoredStates:
    """Read a table of time and speed (or run), and give each of `n_samples` samples its state.

    A table of another rate is read at the last line before each sample.

    Raises
    ------
    RecordingError
        If the table has no such column.
    """
    table = read_samples(path)
    at = np.floor(np.arange(n_samples) / sfreq * table.sfreq + 1e-6).astype(np.int64)
    found = codes_in(table)
    if found is None:
        raise RecordingError(
            f"{path}: its columns are {', '.join(table.channels)}; one must be {SPEEDS[0]} or {RUNS[0]}"
        )
    return per_sample(found[1][at[at < len(table.data)]], sfreq)


def codes_in(table: Recording) -> tuple[str, npt.NDArray[np.int8]] | None:
    """Column of a table that tells running, and its codes; ``None`` if there is none."""
    by_name = {name.lower(): k for k, name in enumerate(table.channels)}
    for names, convert in ((RUNS, from_runs), (SPEEDS, from_speed)):
        for name in names:
            if name in by_name:
                column = by_name[name]
                return table.channels[column], convert(table.data[:, column])
    return None


def mice(folder: Path) -> Mapping[str, str]:
    """Session → mouse, from a table of sessions in `folder`; empty without one.

    Raises
    ------
    RecordingError
        If a line of it has too few cells.
    """
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="latin-1") as file:
            header = [name.strip().lower() for name in file.readline().lstrip("\ufeff").split(",")]
        session = next((header.index(name) for name in _SESSIONS if name in header), None)
        mouse = next((header.index(name) for name in _MICE if name in header), None)
        if session is None or mouse is None:
            continue
        found = {}
        for line, row in enumerate(read_rows(path)[1:], 2):
            if len(row) <= max(session, mouse):
                raise RecordingError(
                    f"{path}, line {line}: {','.join(row)!r} lacks a session or a mouse; correct it"
                )
            number = row[mouse].strip()
            found[row[session].strip()] = f"mouse{number}" if number.isdigit() else number
        return found
    return {}
