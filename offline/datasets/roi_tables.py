"""Traces of regions of the cortex, with the speed of a wheel, labelled run or rest for every sample.

Three layouts: ``.npz`` with ``dff``, ``t``, ``wheel`` and ``fs`` (:mod:`offline.parcels`, which labels by the
deviation of the wheel); ``.csv`` with a column ``time_s``, one a region, and ``run`` or ``speed_cm_s``; and
MATLAB files with ``dat_roi`` (regions, frames) and ``runrest`` or ``speed_rs`` in the same file or in another
whose name starts alike.

Ajioka et al. 2024; https://zenodo.org/records/10408334.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from offline import parcels
from offline.datasets.base import About, Entry, Options
from offline.datasets.behaviour import (
    RUNS,
    SPEED_SUFFIX,
    SPEEDS,
    codes_in,
    from_runs,
    from_speed,
    mice,
    per_sample,
)
from offline.datasets.channels import pick
from offline.datasets.fitting import attach
from offline.datasets.matlab import variable, variables
from offline.datasets.plain import names
from streamscore.annotations import ScoredStates
from streamscore.errors import RecordingError
from streamscore.labels import RUNREST
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from streamscore.recordings.text import read as read_samples

ABOUT = About(
    title="Region traces of run and rest: cortex-wide calcium imaging, 10 or 30 samples a second",
    source="https://zenodo.org/records/10408334",
    licence="see the record (verify there)",
    layout="<mouse>[_<session>].npz (dff, t, wheel, fs), .csv (time_s, regions, run or speed_cm_s) or .mat",
    get="download the record by hand; `streamscore data simulate roi` writes simulated ones",
    vocabulary="RUNREST",
)
_PARCEL_KEYS = {"dff", "t", "wheel", "fs"}
_MAT_TRACES = "dat_roi"


class Config(Options):
    """Options of region traces."""

    vocabulary: str | None = "RUNREST"
    rate_hz: float = Field(
        default=30.0, gt=0, description="Samples a second of MATLAB files, which do not say it."
    )
    subject_pattern: str | None = Field(
        default=None, description="Regular expression whose first group is the mouse in a file's name."
    )


def matches(folder: Path) -> bool:
    """Whether there are traces of one of the layouts."""
    return any(_is_traces(path) for suffix in ("npz", "csv", "mat") for path in sorted(folder.glob(f"*.{suffix}")))


def find(folder: Path, config: Config) -> list[Entry]:
    """Every table of traces; mice are told by a table of sessions, else by folder or name."""
    mouse_of = mice(folder)
    entries = []
    for path in [path for suffix in ("npz", "csv", "mat") for path in folder.rglob(f"*.{suffix}")]:
        if not _is_traces(path):
            continue
        subject, session = names(path, folder, config.subject_pattern)
        subject = mouse_of.get(path.stem, subject)
        entries.append(Entry(subject, session, path, _behaviour_of(path) if path.suffix == ".mat" else None))
    return entries


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Read traces and label every sample."""
    if config.labels != RUNREST:
        raise RecordingError(f"{entry.signal}: traces are labelled run and rest only; leave --vocabulary out")
    reader = {".npz": _read_parcels, ".csv": _read_csv, ".mat": _read_mat}[entry.signal.suffix]
    recording, scored = reader(entry, config)
    return attach(pick(recording, config.channels, entry.signal), scored)


def _read_parcels(entry: Entry, _config: Config) -> tuple[Recording, ScoredStates]:
    found = parcels.read(entry.signal)
    return _recording(entry, found.dff, found.sfreq, found.channels), per_sample(found.codes, found.sfreq)


def _read_csv(entry: Entry, _config: Config) -> tuple[Recording, ScoredStates]:
    table = read_samples(entry.signal)
    found = codes_in(table)
    if found is None:
        raise RecordingError(
            f"{entry.signal}: has no column {RUNS[0]} or {SPEEDS[0]}, so nothing labels it; add one"
        )
    regions = {name: name for name in table.channels if name.lower() not in (*RUNS, *SPEEDS)}
    return pick(table, regions, entry.signal), per_sample(found[1], table.sfreq)


def _read_mat(entry: Entry, config: Config) -> tuple[Recording, ScoredStates]:
    traces = variable(entry.signal, _MAT_TRACES)
    for path in [path for path in (entry.labels, entry.signal) if path]:
        has = variables(path)
        name = next((name for name in (*RUNS, *SPEEDS) if name in has), None)
        if name is not None:
            values = variable(path, name).ravel()
            codes = from_runs(values) if name in RUNS else from_speed(values)
            break
    else:
        raise RecordingError(
            f"{entry.signal}: no file of its session has {RUNS[1]} or {SPEEDS[2]}; put it beside it"
        )
    if traces.ndim != 2:
        raise RecordingError(f"{entry.signal}: {_MAT_TRACES} is {traces.shape}; it must be (regions, frames)")
    traces = traces.T if traces.shape[0] < traces.shape[1] else traces
    channels = tuple(f"ROI{k}" for k in range(1, traces.shape[1] + 1))
    return _recording(entry, traces, config.rate_hz, channels), per_sample(codes, config.rate_hz)


def _recording(entry: Entry, data: npt.NDArray[Any], sfreq: float, channels: tuple[str, ...]) -> Recording:
    return Recording(
        name=entry.session,
        data=data.astype(np.float32),
        stamps_s=np.arange(len(data)) / sfreq,
        sfreq=sfreq,
        channels=channels,
        units=("",) * len(channels),
    )


def _behaviour_of(path: Path) -> Path | None:
    """The MATLAB file of the same session that tells running."""
    others = [other for other in sorted(path.parent.glob(f"{path.stem}*.mat")) if other != path]
    return next((other for other in others if set(variables(other)) & {*RUNS, *SPEEDS}), None)


def _is_traces(path: Path) -> bool:
    if path.name.endswith(SPEED_SUFFIX):
        return False
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return set(arrays.files) >= _PARCEL_KEYS
        if path.suffix == ".mat":
            return _MAT_TRACES in variables(path)
        with path.open(encoding="latin-1") as file:
            header = {name.strip().lower() for name in file.readline().lstrip("\ufeff").split(",")}
    except (OSError, ValueError, zipfile.BadZipFile, RecordingError):
        return False
    return bool(header & {"t", "t_s", "time", "time_s"}) and bool(header & {*RUNS, *SPEEDS}) and len(header) > 2
