"""Band powers of a mouse, one row an epoch: five bands of EEG and the power of the EMG.

``bands_4s.npz`` holds ``bands`` (n, 6), ``state`` (n,) with 1 Wake, 2 NREM, 3 REM (anything else is unscored) and
``epoch_s``. As a recording that is six channels at 1 / epoch_s Hz with an epoch a sample.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from offline.datasets.base import About, Entry, Options
from offline.datasets.plain import names
from streamscore.errors import RecordingError
from streamscore.labels import MOUSE3, UNKNOWN_CODE
from streamscore.recordings.base import Recording

ABOUT = About(
    title="Mouse band powers: five EEG bands and EMG in epochs of 4 s",
    source="a public repository (BSD-2); see ../shared/DATA.md",
    licence="BSD-2-Clause",
    layout="<mouse>….npz with bands (n, 6), state (n,) and epoch_s",
    get="make such a file of your own bands",
    vocabulary="MOUSE3",
)
CHANNELS = ("delta", "theta", "alpha", "beta", "gamma", "EMG")
_KEYS = {"bands", "state", "epoch_s"}
_CODES = {1: 0, 2: 1, 3: 2}


class Config(Options):
    """Options of band powers."""

    vocabulary: str | None = "MOUSE3"
    subject_pattern: str | None = None


def matches(folder: Path) -> bool:
    """Whether there is such a file."""
    return any(_has_keys(path) for path in folder.glob("*.npz"))


def find(folder: Path, config: Config) -> list[Entry]:
    """Every such file."""
    paths = [path for path in folder.rglob("*.npz") if _has_keys(path)]
    return [Entry(*names(path, folder, config.subject_pattern), path) for path in paths]


def read(entry: Entry, _config: Config) -> Recording:
    """Read the bands as a recording."""
    with np.load(entry.signal, allow_pickle=False) as arrays:
        bands, raw, epoch_s = arrays["bands"], arrays["state"].ravel(), float(arrays["epoch_s"])
    if bands.ndim != 2 or bands.shape[1] != len(CHANNELS) or len(raw) != len(bands) or not epoch_s > 0:
        raise RecordingError(
            f"{entry.signal}: bands is {bands.shape}, state {raw.shape}, epoch_s {epoch_s:g}; give (n, "
            f"{len(CHANNELS)}) ({', '.join(CHANNELS)}) and n states"
        )
    states = np.full(len(raw), UNKNOWN_CODE, np.int8)
    for theirs, ours in _CODES.items():
        states[raw == theirs] = ours
    return Recording(
        name=entry.session,
        data=bands.astype(np.float32),
        stamps_s=np.arange(len(bands), dtype=np.float64) * epoch_s,
        sfreq=1.0 / epoch_s,
        channels=CHANNELS,
        units=("",) * len(CHANNELS),
        labels=MOUSE3,
        states=states,
        epoch_s=epoch_s,
    )


def _has_keys(path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return set(arrays.files) >= _KEYS
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
