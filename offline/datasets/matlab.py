"""Variables of MATLAB files of any version: those of 7.3 are HDF5, older ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

from streamscore.errors import RecordingError


def variables(path: Path) -> tuple[str, ...]:
    """Names of the variables in a file.

    Raises
    ------
    RecordingError
        If it is no MATLAB file, or h5py is not installed.
    """
    try:
        if _is_hdf5(path):
            with _h5py().File(path) as file:
                return tuple(file)
        return tuple(name for name, _, _ in scipy.io.whosmat(path))
    except RecordingError:
        raise
    except Exception as error:  # each library has its own ways to say that a file is damaged
        raise RecordingError(f"{path}: is no MATLAB file ({error}); copy it again from its source") from error


def variable(path: Path, name: str) -> npt.NDArray[Any]:
    """One of :func:`variables`, with the axes that MATLAB shows."""
    if _is_hdf5(path):
        with _h5py().File(path) as file:
            return np.asarray(file[name]).T
    return np.asarray(scipy.io.loadmat(path, variable_names=[name])[name])


def _is_hdf5(path: Path) -> bool:
    """Whether it is of version 7.3: HDF5's signature stands at its start, or behind 512 bytes of MATLAB's."""
    with path.open("rb") as file:
        head = file.read(520)
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise RecordingError('reading MATLAB files needs h5py; run: pip install "streamscore[movies]"') from error
    return h5py
