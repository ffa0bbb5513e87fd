"""The plain layout, for recordings of one's own: a file a recording, its labels in a CSV file beside it.

::

    folder/
      dataset.json                    optional: {"kind": "plain", "vocabulary": "MOUSE3"}
      m1_day1.edf                     <subject>[_<session>].<suffix>
      m1_day1.labels.csv              start_s,duration_s,state
      m2/night.npz                    or a folder a subject
      labels.csv                      or one table for all, with a column recording

Times are seconds from the first sample. A file that holds its labels (``.npz``, EDF+ annotations) needs no table.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from offline.datasets.base import About, Entry, Options, recordings_in
from offline.datasets.channels import EDF_SUFFIXES, read_signal
from offline.datasets.fitting import attach
from offline.datasets.labels import Bout, Naming, by_sample, on_grid, vocabulary_of
from offline.datasets.tables import read_edf_bouts, read_table
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import RUNREST
from streamscore.movies.base import Movie, is_movie, read_movie
from streamscore.recordings.base import Recording

ABOUT = About(
    title="Recordings of your own, in the plain layout",
    source="docs/datasets.md",
    licence="yours",
    layout="<subject>[_<session>].<edf, npz, xdf, tif, h5 …> with <recording>.labels.csv, or labels.csv for all",
    get="lay your files out so; `streamscore data simulate` writes simulated ones",
    vocabulary="any",
)

TABLE = "labels.csv"
TABLE_SUFFIX = ".labels.csv"


class Config(Options):
    """Options of the plain layout."""

    epoch_s: float | None = Field(
        default=None, gt=0, description="Length of an epoch; found from the labels if left out."
    )
    rate_hz: float | None = Field(default=None, gt=0, description="Frames a second of movies that do not say it.")
    subject_pattern: str | None = Field(
        default=None, description="Regular expression whose first group is the subject in a file's name."
    )


def matches(folder: Path) -> bool:
    """Whether the folder has a table of labels under one of the two names."""
    return any(path.name == TABLE or path.name.endswith(TABLE_SUFFIX) for path in folder.rglob(f"*{TABLE}"))


def find(folder: Path, config: Config) -> list[Entry]:
    """Every file that holds signals or a movie."""
    entries = []
    for path in recordings_in(folder):
        subject, session = names(path, folder, config.subject_pattern)
        entries.append(Entry(subject, session, path, table_of(path, folder)))
    return entries


def names(path: Path, folder: Path, pattern: str | None) -> tuple[str, str]:
    """Subject and session of a file: its folder or the part of its name before ``_``, and its name.

    Raises
    ------
    ConfigError
        If `pattern` is no regular expression with a group.
    RecordingError
        If the name does not fit it.
    """
    stem = path.stem
    if pattern is not None:
        try:
            found = re.search(pattern, stem)
            subject = found[1] if found else None
        except (re.error, IndexError) as error:
            raise ConfigError(f"subject_pattern {pattern!r}: {error}; write it like '^(m[0-9]+)'") from error
        if not subject:
            raise RecordingError(
                f"{path}: its name does not fit subject_pattern {pattern!r}; rename it, or correct that"
            )
    elif path.parent != folder:
        subject = path.relative_to(folder).parts[0]
    else:
        subject = stem.split("_")[0]
    return subject, stem if stem.startswith(subject) else f"{subject}_{stem}"


def table_of(path: Path, folder: Path) -> Path | None:
    """Table of labels for the recording at `path`: its own, that of its folder, or that of all."""
    own = path.with_name(path.stem + TABLE_SUFFIX)
    choices = [own, *(parent / TABLE for parent in path.parents if parent == folder or folder in parent.parents)]
    return next((choice for choice in choices if choice.is_file()), None)


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Read a recording and put its labels on a grid of epochs; run and rest are labelled by the sample."""
    recording = open_signal(entry.signal, config)
    try:
        found = _bouts(entry, config)
        if found is None:
            return declared(recording, config, entry.signal)
        bouts, naming = found
        where = entry.labels or entry.signal
        scored = None
        # Running comes and goes within fractions of a second.
        if config.epoch_s is None and vocabulary_of(bouts, naming, where) == RUNREST:
            n_samples = round(recording.duration_s * recording.sfreq)
            scored = by_sample(bouts, naming, where, n_samples, recording.sfreq)
        return attach(recording, scored or on_grid(bouts, naming, where, config.epoch_s))
    except BaseException:
        if isinstance(recording, Movie):
            recording.close()
        raise


def open_signal(path: Path, config: Config) -> Recording | Movie:
    """Signals or a movie, whatever the file holds."""
    return read_movie(path, rate_hz=config.rate_hz) if is_movie(path) else read_signal(path, config.channels)


def declared(recording: Recording | Movie, config: Options, where: Path) -> Recording | Movie:
    """Labels that stand in the file itself, which must be those that are declared.

    Raises
    ------
    RecordingError
        If they are of another vocabulary.
    """
    if config.labels and recording.labels and recording.labels != config.labels:
        raise RecordingError(
            f"{where}: is labelled with {', '.join(recording.labels)}, not with {config.vocabulary} "
            f"({', '.join(config.labels)}); leave --vocabulary out, or put other labels beside it"
        )
    return recording


def _bouts(entry: Entry, config: Config) -> tuple[list[Bout], Naming] | None:
    """Bouts of a recording, and how its words are understood; ``None`` if its file says itself."""
    naming = config.naming
    if entry.labels is not None:
        bouts = read_table(entry.labels, config.epoch_s)
        if entry.labels.name.endswith(TABLE_SUFFIX) or not any(bout.recording for bout in bouts):
            return bouts, naming
        # One recording may lack states that tell the vocabulary: all of the table do.
        naming = replace(naming, labels=vocabulary_of(bouts, naming, entry.labels))
        own = {entry.session, entry.signal.stem, entry.signal.name}
        bouts = [bout for bout in bouts if bout.recording in own]
        if bouts:
            return bouts, naming
        raise RecordingError(
            f"{entry.labels}: has no rows for the recording {entry.signal.stem}; add them, or move "
            f"{entry.signal} away"
        )
    if entry.signal.suffix.lower() in EDF_SUFFIXES and config.states:
        return read_edf_bouts(entry.signal, entry.signal, naming), naming
    return None
