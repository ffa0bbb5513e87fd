"""The public wide-field calcium imaging recordings of sleeping mice: MATLAB files of version 7.3.

``191030-M5-fc1….mat``: date, mouse, number of the file; or a folder a mouse. Each holds epochs of 168 frames
with a label (:mod:`streamscore.movies.matlab`): wake, NREM, artefact, REM; artefact epochs are unscored.
Several files of a date are parts of one session of three hours.

Landsness et al. 2022, https://doi.org/10.13026/prp1-2d11; Zhang et al. 2022, J. Neurosci. Methods 366:109421.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from offline.datasets.base import About, Entry, Options
from offline.datasets.matlab import variables
from offline.datasets.plain import declared
from streamscore.errors import RecordingError
from streamscore.movies.base import Movie, read_movie
from streamscore.recordings.base import Recording

ABOUT = About(
    title="Wide-field calcium imaging of sleep: 12 mice, GCaMP6f, 16.8 frames a second, 10-s epochs",
    source="https://physionet.org/content/calcium-imaging-sleep-state/1.0.1/",
    licence="open access (verify the licence on the page)",
    layout="<date>-<mouse>-fc<n>….mat, or <mouse>/….mat, with data, xform_mask and scoringindex_file",
    get="streamscore data fetch calcium_sleep --to DIR (large; --subjects for a part)",
    vocabulary="MOUSE3",
)
_NAME = re.compile(r"(?P<subject>\d+-[A-Za-z]+\d+)-(?P<part>.+)")
_KEYS = {"data", "xform_mask", "scoringindex_file"}


class Config(Options):
    """Options of the calcium-sleep set."""

    vocabulary: str | None = "MOUSE3"
    subject_pattern: str | None = Field(
        default=None, description="Regular expression whose first group is the mouse in a file's name."
    )


def matches(folder: Path) -> bool:
    """Whether a MATLAB file has the variables of the set."""
    return any(_is_recording(path, if_damaged=False) for path in sorted(folder.rglob("*.mat")))


def find(folder: Path, config: Config) -> list[Entry]:
    """Every MATLAB file with such variables (not the atlas); the mouse is its folder, or stands in its name."""
    entries = []
    for path in (path for path in folder.rglob("*.mat") if _is_recording(path, if_damaged=True)):
        subject = path.relative_to(folder).parts[0] if path.parent != folder else path.stem
        pattern = re.compile(config.subject_pattern) if config.subject_pattern else None
        if pattern and (found := pattern.search(path.stem)):
            subject = found[1]
        elif path.parent == folder and (name := _NAME.fullmatch(path.stem)):
            subject = name["subject"]
        session = path.stem if path.parent == folder or path.stem.startswith(subject) else f"{subject}_{path.stem}"
        entries.append(Entry(subject, session, path))
    return entries


def _is_recording(path: Path, *, if_damaged: bool) -> bool:
    """Whether a file has the variables of the set; a damaged one is told about when it is read."""
    try:
        return set(variables(path)) >= _KEYS
    except RecordingError:
        return if_damaged


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Open a file; its frames stay on disk."""
    return declared(read_movie(entry.signal), config, entry.signal)
