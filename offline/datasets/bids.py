"""Folders laid out after BIDS-EEG: ``sub-01/[ses-1/]eeg/sub-01_[ses-1_]task-sleep_eeg.edf`` with ``…_events.tsv``.

Of the events only those that last are labels: ``onset``, ``duration`` and one of ``stage``, ``state``,
``sleep_stage`` or ``trial_type``. Stimuli have no duration and are passed over.

Pernet et al. 2019, Sci. Data 6:103; https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from offline.datasets.base import About, Entry, Options
from offline.datasets.channels import read_signal
from offline.datasets.fitting import attach
from offline.datasets.labels import on_grid
from offline.datasets.tables import read_table
from streamscore.errors import RecordingError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

ABOUT = About(
    title="BIDS-like folders of EEG with events",
    source="https://bids-specification.readthedocs.io",
    licence="that of the data set",
    layout="sub-*/[ses-*/]eeg/*_eeg.<edf or bdf> with *_events.tsv",
    get="any BIDS data set whose events score states",
    vocabulary="any",
)
_SUFFIXES = (".edf", ".bdf")
_SUBJECT = re.compile(r"(sub-[A-Za-z0-9]+)_")


class Config(Options):
    """Options of BIDS-like folders."""

    epoch_s: float | None = Field(
        default=None, gt=0, description="Length of an epoch; found from the events if left out."
    )


def matches(folder: Path) -> bool:
    """Whether there is a recording in a folder of a subject."""
    return any(path.suffix.lower() in _SUFFIXES for path in folder.glob("sub-*/**/*_eeg.*"))


def find(folder: Path, _config: Config) -> list[Entry]:
    """Every recording with events beside it."""
    entries = []
    for path in folder.glob("sub-*/**/*_eeg.*"):
        name = _SUBJECT.match(path.name)
        events = path.with_name(path.stem.removesuffix("_eeg") + "_events.tsv")
        if name and path.suffix.lower() in _SUFFIXES and events.is_file():
            entries.append(Entry(name[1], path.stem.removesuffix("_eeg"), path, events))
    return entries


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Read a recording with the events that last."""
    assert entry.labels is not None
    bouts = [bout for bout in read_table(entry.labels, config.epoch_s, events=True) if bout.duration_s > 0]
    if not bouts:
        raise RecordingError(
            f"{entry.labels}: no event has a duration, so none is a state; leave the recording out"
        )
    return attach(
        read_signal(entry.signal, config.channels), on_grid(bouts, config.naming, entry.labels, config.epoch_s)
    )
