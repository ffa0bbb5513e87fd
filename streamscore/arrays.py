"""Arrays inside a configuration: a brain mask, a map of regions, a dark frame, constants for each pixel.

A bundle carries them as text, so that it stays one file that holds no code (:func:`pack`); a rig file names a
file in which the lab keeps them. Both come back by :func:`read_array`, which trusts neither: size and type are
known and bounded before memory is taken, and nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streamscore.errors import ConfigError

Array = npt.NDArray[Any]

#: What a packed array begins with.
PACKED = "packed:"
#: Booleans, integers and floating-point numbers of at most 8 bytes.
_KINDS = "biuf"
_MAX_VALUE_BYTES = 8
_MAX_NDIM = 4
#: Bytes before the values, in a .npy or around the variables of other formats.
_MAX_HEADER_BYTES = 2**16
_NPY_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_FILES = ".npy, .npz, .mat or .tif"


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Inflated:
    """Deflated bytes, inflated no further than they are read."""

    def __init__(self, deflated: bytes) -> None:
        self._rest = deflated
        self._inflate = zlib.decompressobj()

    def read(self, size: int, /) -> bytes:
        if size == 0:  # which would mean all to zlib
            return b""
        found = self._inflate.decompress(self._rest, size)
        self._rest = self._inflate.unconsumed_tail
        return found


def pack(array: npt.ArrayLike) -> str:
    """Return an array as text for a configuration: ``packed:`` and the base64 of the deflated .npy.

    Raises
    ------
    ValueError
        If it is of a kind that :func:`read_array` would refuse.
    """
    values = np.asarray(array)
    if values.dtype.kind not in _KINDS or values.dtype.itemsize > _MAX_VALUE_BYTES:
        raise ValueError(f"an array of {values.dtype} cannot be packed; convert it to numbers, e.g. float32")
    with io.BytesIO() as file:
        np.save(file, values, allow_pickle=False)
        return PACKED + base64.b64encode(zlib.compress(file.getvalue(), 9)).decode("ascii")


def read_array(value: str | Path, what: str, max_values: int = 2**24) -> Array:
    """Read an array that a configuration carries or names.

    Parameters
    ----------
    value
        What :func:`pack` gave, or the path of a .npy, .npz, .mat or .tif file. Where an .npz or .mat holds several
        arrays, the name of one follows a colon: ``mouse12.mat:xform_mask``.
    what
        Names it in messages, for example ``"mask of step mask"``.
    max_values
        Refuse larger ones.

    Returns
    -------
    ndarray
        1 to 4 axes, C-contiguous, of its own boolean, integer or floating-point type, finite; owned by the caller.

    Raises
    ------
    ConfigError
        If it is absent, damaged, too large, not of numbers or not finite; names `what` and tells what to do.
    """
    try:
        text = str(value)
        found = _read_packed(text, max_values) if text.startswith(PACKED) else _read_file(text, max_values)
    except ValueError as error:
        raise ConfigError(f"{what}: {error}") from error
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise ConfigError(f"{what}: holds values that are not finite; replace them, e.g. by 0, and save it again")
    return np.array(found, dtype=found.dtype.newbyteorder("="), order="C")


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], max_values: int) -> None:
    """Refuse, by what a header says, what must not be loaded."""
    if dtype.hasobject:
        raise ValueError(
            "holds pickled objects, which could run any code and are never loaded; save plain numbers instead"
        )
    if dtype.kind not in _KINDS or dtype.itemsize > _MAX_VALUE_BYTES:
        raise ValueError(f"holds {dtype} and not numbers; save it as bool, int or float32")
    if not 1 <= len(shape) <= _MAX_NDIM:
        raise ValueError(f"has {len(shape)} axes; 1 to {_MAX_NDIM} can be used")
    if min(shape) < 1 or math.prod(shape) > max_values:
        raise ValueError(f"has shape {shape}; 1 to {max_values} values can be used")


def _read_npy(file: _Bytes, max_values: int) -> Array:
    """Read header and exactly as many bytes as it announces."""
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
        shape, is_fortran, dtype = _NPY_HEADERS[version](file)
    except Exception as error:  # it parses Python's own syntax, which can go wrong in many ways
        raise ValueError(f"is no array of numpy.save ({error}); copy or write it again") from error
    _check(shape, dtype, max_values)
    n_bytes = math.prod(shape) * dtype.itemsize
    content = file.read(n_bytes)
    if len(content) != n_bytes or file.read(1):
        raise ValueError(f"does not hold the {n_bytes} bytes that its header announces; copy or write it again")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_packed(text: str, max_values: int) -> Array:
    # What deflating cannot shrink takes 4/3 of its bytes as text, and zlib adds a little.
    if len(text) > 1.4 * (max_values * _MAX_VALUE_BYTES + _MAX_HEADER_BYTES):
        raise ValueError(f"packed text of {len(text)} characters; it can hold at most {max_values} values")
    try:
        return _read_npy(_Inflated(base64.b64decode(text.removeprefix(PACKED), validate=True)), max_values)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"packed text is damaged ({error}); export the bundle again") from error


def _read_file(text: str, max_values: int) -> Array:
    path, name = Path(text), None
    if not path.exists() and ":" in path.name:
        before, _, name = text.rpartition(":")
        path = Path(before)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the path of a {_FILES} file or a packed array")
    read = {".npy": _npy_file, ".npz": _npz_file, ".mat": _mat_file, ".tif": _tif_file, ".tiff": _tif_file}.get(
        path.suffix.lower()
    )
    if read is None:
        raise ValueError(f"{path}: of no known type; give a {_FILES} file")
    try:
        return read(path, name, max_values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # five libraries, each with its own ways to say that a file is damaged
        raise ValueError(f"{path}: damaged or not readable ({error}); copy or write it again") from error


def _npy_file(path: Path, _: str | None, max_values: int) -> Array:
    with path.open("rb") as file:
        return _read_npy(file, max_values)


def _npz_file(path: Path, name: str | None, max_values: int) -> Array:
    with zipfile.ZipFile(path) as archive:
        members = {member.removesuffix(".npy"): member for member in archive.namelist()}
        with archive.open(members[_choose(name, list(members))]) as file:
            return _read_npy(file, max_values)


def _choose(name: str | None, names: list[str]) -> str:
    """Return `name`, or the only one that there is."""
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        wanted = "several arrays" if name is None else f"no array {name!r}"
        raise ValueError(f"holds {wanted}; write :NAME after the file, one of {', '.join(names) or '(none)'}")
    return name


def _mat_file(path: Path, name: str | None, max_values: int) -> Array:
    import scipy.io

    try:
        shapes = {str(key): shape for key, shape, _ in scipy.io.whosmat(path)}
    except NotImplementedError:  # MATLAB 7.3 is HDF5
        return _hdf5_file(path, name, max_values)
    name = _choose(name, list(shapes))
    _check(shapes[name], np.dtype(float), max_values)
    found = np.asarray(scipy.io.loadmat(path, variable_names=[name])[name])
    _check(found.shape, found.dtype, max_values)
    return found


def _hdf5_file(path: Path, name: str | None, max_values: int) -> Array:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ValueError("a file of MATLAB 7.3 needs h5py; run: pip install 'streamscore[movies]'") from error
    with h5py.File(path, "r") as file:
        names = [key for key in file if isinstance(file[key], h5py.Dataset)]
        array = file[_choose(name, names)]
        _check(array.shape, array.dtype, max_values)
        return np.asarray(array[()]).T  # MATLAB's first axis is HDF5's last


def _tif_file(path: Path, _: str | None, max_values: int) -> Array:
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise ValueError("a TIFF needs tifffile; run: pip install 'streamscore[movies]'") from error
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        _check(series.shape, series.dtype, max_values)
        return np.asarray(series.asarray())
