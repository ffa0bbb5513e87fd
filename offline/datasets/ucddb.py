"""The sleep apnea recordings of St Vincent's University Hospital / University College Dublin (UCDDB).

As PhysioNet has them: EDF called ``ucddb002.rec`` with ``ucddb002_stage.txt``, one digit a line for each 30-s
epoch (0 W, 1 REM, 2 to 5 S1 to S4, 6 artefact, 7 indeterminate). Or as ``ucddb002.npz`` with one derivation
(:mod:`streamscore.recordings.npz`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from offline.datasets.base import About, Entry, Options
from offline.datasets.channels import read_signal
from offline.datasets.fitting import attach
from offline.datasets.labels import Bout, on_grid
from streamscore.errors import RecordingError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording, read_recording

ABOUT = About(
    title="UCDDB: 25 adults with suspected apnoea, EEG at 128 Hz, 30-s epochs",
    source="https://physionet.org/content/ucddb/1.0.0/",
    licence="Open Data Commons Attribution 1.0 (verify on the page)",
    layout="ucddb???.rec with ucddb???_stage.txt, or ucddb???.npz",
    get="streamscore data fetch ucddb --to DIR",
    vocabulary="AASM5",
)
EPOCH_S = 30.0
#: Digit of a stage file → word of Rechtschaffen and Kales, which AASM5 knows too.
_STAGES = {"0": "W", "1": "REM", "2": "S1", "3": "S2", "4": "S3", "5": "S4", "6": "artefact", "7": "indeterminate"}


class Config(Options):
    """Options of UCDDB; `channels` apply to the EDF files, the ``.npz`` have one channel."""

    channels: dict[str, str] = Field(
        default={"EEG": "C3A2|C3-A2|C4A1|C4-A1|EEG"}, description="Name here → channel of the EDF files."
    )
    vocabulary: str | None = "AASM5"


def matches(folder: Path) -> bool:
    """Whether files are called as those of the set are."""
    return any(folder.glob("ucddb*.rec")) or any(folder.glob("ucddb*.npz"))


def find(folder: Path, _config: Config) -> list[Entry]:
    """One recording a subject; where there is both, the EDF file."""
    entries = {path.stem: Entry(path.stem, path.stem, path) for path in folder.glob("ucddb*.npz")}
    for path in folder.glob("ucddb*.rec"):
        if not path.stem.endswith("_lifecard"):  # the same night's ECG by another recorder
            entries[path.stem] = Entry(path.stem, path.stem, path, path.with_name(f"{path.stem}_stage.txt"))
    return list(entries.values())


def read(entry: Entry, config: Config) -> Recording | Movie:
    """Read a night with its stages."""
    if entry.labels is None:
        return read_recording(entry.signal)
    scored = on_grid(_read_stages(entry.labels), config.naming, entry.labels, EPOCH_S)
    return attach(read_signal(entry.signal, config.channels), scored)


def _read_stages(path: Path) -> list[Bout]:
    try:
        lines = path.read_text(encoding="latin-1").split("\n")
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be read ({error}); get it with streamscore data fetch ucddb"
        ) from error
    words = [(line, text.strip()) for line, text in enumerate(lines, 1) if text.strip()]
    return [Bout(k * EPOCH_S, EPOCH_S, _STAGES.get(word, word), line) for k, (line, word) in enumerate(words)]
