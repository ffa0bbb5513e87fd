"""Traces of cortical parcels with the movement of a wheel, labelled run or rest.

A file (``.npz``) holds ``dff`` (n, parcels), ``t`` (n,) in s, ``wheel`` (n,) and ``fs`` in Hz. A frame is
running where the deviation of the wheel from its median, averaged over the second around it, is above 0.5, rest
where it is below 0.15, and between them it is unlabelled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.errors import RecordingError
from streamscore.types import FloatArray, TimeArray

CodeArray = npt.NDArray[np.int8]

#: Mean deviation of the wheel above which a frame is running, and below which it is rest.
RUN_ABOVE, REST_BELOW = 0.5, 0.15


@dataclass(frozen=True)
class Parcels:
    """A recording and its truth.

    Parameters
    ----------
    dff
        ``(n, parcels)`` float32.
    t_s
        ``(n,)`` float64.
    codes
        ``(n,)`` 0 rest, 1 run, -1 unlabelled.
    sfreq
        In Hz.
    """

    name: str
    dff: FloatArray
    t_s: TimeArray
    codes: CodeArray
    sfreq: float

    @property
    def channels(self) -> tuple[str, ...]:
        """A name for each parcel."""
        return tuple(f"parcel{k}" for k in range(1, self.dff.shape[1] + 1))

    def part(self, begin: int, end: int) -> Parcels:
        """Frames ``[begin, end)`` as a recording of their own."""
        cut = slice(begin, end)
        return replace(self, dff=self.dff[cut], t_s=self.t_s[cut], codes=self.codes[cut])

    def describe(self) -> dict[str, Any]:
        """What a report says of it."""
        counts = {
            "frames": len(self.codes),
            "run": int((self.codes == 1).sum()),
            "rest": int((self.codes == 0).sum()),
        }
        bouts = int((np.diff((self.codes == 1).astype(np.int8), prepend=0) == 1).sum())
        return {"name": self.name, "sfreq": self.sfreq, "parcels": self.dff.shape[1], "bouts": bouts, **counts}

    def write(self, path: Path) -> None:
        """Write what the engine may see: the traces and nothing else."""
        np.savez(path, data=self.dff, stamps_s=self.t_s, sfreq=self.sfreq, channels=self.channels)


def read(path: Path) -> Parcels:
    """Read a file and label it.

    Raises
    ------
    RecordingError
        If a key is missing or the arrays do not fit together.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; give a .npz with dff, t, wheel and fs")
    with np.load(path, allow_pickle=False) as arrays:
        missing = {"dff", "t", "wheel", "fs"} - set(arrays.files)
        if missing:
            raise RecordingError(f"{path}: lacks {', '.join(sorted(missing))}; it needs dff, t, wheel and fs")
        dff, t_s, wheel, sfreq = arrays["dff"], arrays["t"], arrays["wheel"], float(arrays["fs"])
    if dff.ndim != 2 or not len(dff) == len(t_s) == len(wheel):
        raise RecordingError(
            f"{path}: dff is {dff.shape}, t {t_s.shape}, wheel {wheel.shape}; give n rows in each"
        )
    return Parcels(path.stem, dff.astype(np.float32), t_s.astype(np.float64), codes_of(wheel, sfreq), sfreq)


def codes_of(wheel: npt.NDArray[Any], sfreq: float) -> CodeArray:
    """Label frames by the deviation of the wheel from its median, averaged over a second."""
    n = round(sfreq)
    deviation = np.abs(wheel.astype(np.float64) - np.median(wheel))
    mean = np.convolve(deviation, np.full(n, 1.0 / n), mode="same")
    return np.where(mean > RUN_ABOVE, 1, np.where(mean < REST_BELOW, 0, -1)).astype(np.int8)
