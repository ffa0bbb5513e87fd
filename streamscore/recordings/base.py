"""A recording in memory, whatever file it came from.

Adding a format is adding one file here with a function ``read(path) -> Recording`` and one line in
:data:`READERS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamscore.errors import RecordingError
from streamscore.types import FloatArray, TimeArray

#: File suffix → module of this folder.
READERS = {
    ".npz": "npz",
    ".npy": "npz",
    ".edf": "edf",
    ".bdf": "edf",
    ".xdf": "xdf",
    ".csv": "text",
    ".txt": "text",
}


@dataclass(frozen=True)
class Recording:
    """One stream of a recording.

    Parameters
    ----------
    name
        File name without suffix.
    data
        ``(n_samples, n_channels)`` float32.
    stamps_s
        ``(n_samples,)`` float64, ascending. Gaps are steps larger than one sample: nothing is filled in.
        Seconds from the start of the recording, except for files that carry their own clock (XDF).
    sfreq
        Nominal rate in Hz.
    channels, units
        One label and one unit (``""`` where not stated) per channel.
    labels
        Vocabulary of `states`; empty when the file has no labels.
    states
        ``(n_epochs,)`` int8 codes into `labels`, -1 where unscored. Epoch `k` covers the times
        ``[t0 + k * epoch_s, t0 + (k + 1) * epoch_s)``, where ``t0`` is `states_t0_s`.
    epoch_s
        Length of a labelled epoch in seconds; 0 without labels.
    states_t0_s
        Time of the start of the first labelled epoch, on the clock of `stamps_s`.
    clock_offsets
        ``(m, 2)`` float64 pairs (device time, offset) as recorded; empty where the file has none.
    """

    name: str
    data: FloatArray
    stamps_s: TimeArray
    sfreq: float
    channels: tuple[str, ...]
    units: tuple[str, ...]
    labels: tuple[str, ...] = ()
    states: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    epoch_s: float = 0.0
    states_t0_s: float = 0.0
    clock_offsets: TimeArray = field(default_factory=lambda: np.zeros((0, 2), np.float64))

    def __post_init__(self) -> None:
        n_samples, n_channels = self.data.shape
        if len(self.stamps_s) != n_samples:
            raise RecordingError(f"{self.name}: {n_samples} samples but {len(self.stamps_s)} stamps")
        if len(self.channels) != n_channels or len(self.units) != n_channels:
            raise RecordingError(
                f"{self.name}: {n_channels} channels but {len(self.channels)} labels and {len(self.units)} units"
            )

    @property
    def duration_s(self) -> float:
        """Time from the first sample to the end of the last one, gaps included."""
        if len(self.stamps_s) == 0:
            return 0.0
        return float(self.stamps_s[-1] - self.stamps_s[0] + 1.0 / self.sfreq)


def read_recording(path: Path | str, stream: str | None = None) -> Recording:
    """Read the recording at `path`.

    Parameters
    ----------
    path
        ``.npz``, ``.npy``, ``.edf``, ``.bdf``, ``.xdf``, or a table as ``.csv`` or ``.txt``.
    stream
        Name of the stream to take from a file that holds several (XDF).

    Raises
    ------
    RecordingError
        If the file is absent, of an unknown kind, truncated, or would have to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    module_name = READERS.get(path.suffix.lower())
    if module_name is None:
        raise RecordingError(f"{path}: unknown kind of recording {path.suffix!r}; known are {', '.join(READERS)}")
    module = importlib.import_module(f"streamscore.recordings.{module_name}")
    recording: Recording = module.read(path, stream)
    return recording
