"""Montreal Archive of Sleep Studies, subset SS3: polysomnography at 256 Hz, AASM stages in 30-s epochs.

A recording is ``01-03-0001 PSG.edf`` with its stages as annotations in ``01-03-0001 Base.edf`` (or ``…
Annotations.edf``). DeepSleepNet takes the EEG as F4 minus the left EOG (MODELS.md 2.1); the reference of F4
differs between recordings (linked ears or computed linked ears) and cancels out of no difference, so either
is taken.

O'Reilly et al. 2014, J. Sleep Res. 23:628; http://ceams-carsm.ca/mass/.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from offline.datasets.base import About, Entry, Options
from offline.datasets.channels import read_signal
from offline.datasets.fitting import attach
from offline.datasets.labels import on_grid
from offline.datasets.tables import read_edf_bouts
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

ABOUT = About(
    title="MASS SS3: 62 healthy adults, EEG, EOG and EMG at 256 Hz, 30-s epochs",
    source="http://ceams-carsm.ca/mass/",
    licence="by application only; may not be passed on",
    layout="0?-0?-???? PSG.edf with 0?-0?-???? Base.edf (stages as annotations)",
    get="apply to the archive; it cannot be fetched",
    vocabulary="AASM5",
)
EPOCH_S = 30.0
_NAME = re.compile(r"(\d\d-\d\d-\d{4}) PSG", re.IGNORECASE)
_SCORED = ("Base", "Annotations", "Stages")


class Config(Options):
    """Options of MASS."""

    channels: dict[str, str] = Field(
        default={
            "EEG": "EEG F4-CLE|EEG F4-LER - EOG Left Horiz",
            "EOG": "EOG Left Horiz - EOG Right Horiz",
            "EMG": "EMG Chin1|EMG Chin",
        },
        description="Name here → channel of the files, or a difference.",
    )
    vocabulary: str | None = "AASM5"


def matches(folder: Path) -> bool:
    """Whether there is a recording called as those of the archive are."""
    return any(_NAME.fullmatch(path.stem) for path in folder.rglob("*PSG.edf"))


def find(folder: Path, _config: Config) -> list[Entry]:
    """Every recording with its annotations beside it; one a subject."""
    entries = []
    for path in folder.rglob("*PSG.edf"):
        if name := _NAME.fullmatch(path.stem):
            choices = [path.with_name(f"{name[1]} {word}.edf") for word in _SCORED]
            entries += [Entry(name[1], name[1], path, choice) for choice in choices if choice.is_file()][:1]
    return entries


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Read a night with its stages."""
    assert entry.labels is not None
    scored = on_grid(
        read_edf_bouts(entry.labels, entry.signal, config.naming), config.naming, entry.labels, EPOCH_S
    )
    return attach(read_signal(entry.signal, config.channels), scored)
