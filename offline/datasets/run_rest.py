"""Movies of the cortex of mice that run or rest, with a table of speeds beside each.

``<mouse>[_<session>].<tif, h5, npy, npz, mat, nwb>`` with ``<recording>.speed.csv``: ``time_s`` and
``speed_cm_s`` (run is above 0.5), or ``time_s`` and ``run`` (0 or 1). Whose a session is may stand in a table
with ``session`` and ``mouse``, or in that of the paper (``Data_ID``, ``mouse_No.``). Every sample is
labelled.

Ajioka et al. 2024; https://zenodo.org/records/10408334.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from offline.datasets.base import About, Entry, Options, recordings_in
from offline.datasets.behaviour import SPEED_SUFFIX, mice, read_speed
from offline.datasets.fitting import attach
from offline.datasets.plain import names
from streamscore.movies.base import Movie, read_movie
from streamscore.recordings.base import Recording

ABOUT = About(
    title="Movies of run and rest: cortex-wide calcium imaging, 128x128 at 30 frames a second",
    source="https://zenodo.org/records/10408334",
    licence="see the record (verify there)",
    layout="<mouse>[_<session>].<tif, h5, npy …> with <recording>.speed.csv (time_s, speed_cm_s or run)",
    get="download the record by hand; `streamscore data simulate run_rest` writes simulated ones",
    vocabulary="RUNREST",
)


class Config(Options):
    """Options of run/rest movies."""

    vocabulary: str | None = "RUNREST"
    rate_hz: float | None = Field(default=None, gt=0, description="Frames a second of movies that do not say it.")
    subject_pattern: str | None = Field(
        default=None, description="Regular expression whose first group is the mouse in a file's name."
    )


def matches(folder: Path) -> bool:
    """Whether there is a table of speeds."""
    return any(folder.rglob(f"*{SPEED_SUFFIX}"))


def find(folder: Path, config: Config) -> list[Entry]:
    """Every movie with a table of speeds."""
    mouse_of = mice(folder)
    entries = []
    for path in recordings_in(folder):
        speeds = path.with_name(path.stem + SPEED_SUFFIX)
        if speeds.is_file():
            subject, session = names(path, folder, config.subject_pattern)
            entries.append(Entry(mouse_of.get(path.stem, subject), session, path, speeds))
    return entries


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Open a movie and label its samples."""
    assert entry.labels is not None
    movie = read_movie(entry.signal, rate_hz=config.rate_hz)
    try:
        return attach(movie, read_speed(entry.labels, round(movie.duration_s * movie.sfreq), movie.sfreq))
    except BaseException:
        movie.close()
        raise
