"""NumPy files: ``.npz`` archives of four layouts, and ``.npy`` arrays with a description beside them.

Nothing is ever unpickled: a pickle runs code of its author.

plain
    ``data`` (n_samples, n_channels) or (n_samples,) and ``sfreq`` in Hz. Optional: ``channels`` and ``units``
    (text, one a channel; ``unit`` for one of all), ``stamps_s`` (n_samples,), ``clock_offsets`` (m, 2) in s.
    With labels: ``states`` (n_epochs,) codes or names, ``epoch_s``, ``labels`` (the names in the order of the
    codes, or the name of a vocabulary), ``states_t0_s`` (start of the first epoch, 0 if absent).
UCDDB
    ``x`` (n_epochs, samples of an epoch) × ``scale``, ``epoch`` (n_epochs,) number of each row in the night,
    ``stage_all`` (all epochs of the night,), ``fs`` in Hz, ``epoch_s``.
EEG+EMG
    ``eeg`` and ``emg`` (n_samples,), ``fs`` or ``fs_eeg`` in Hz. Optional: ``states`` (1 Wake, 2 NREM, 3 REM)
    and ``epoch_s``.
bands
    ``bands`` (n_epochs, 6), powers of five EEG bands and of the EMG, ``state`` (n_epochs,) as above, ``epoch_s``.
    An epoch is a sample.
"""

from __future__ import annotations

import difflib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import AASM5, MOUSE3, UNKNOWN_CODE, VOCABULARIES, code_of
from streamscore.recordings.base import Recording
from streamscore.types import FloatArray
from streamscore.units import normalise_unit

Arrays = Mapping[str, npt.NDArray[Any]]

_PLAIN_KEYS = (
    *("data", "sfreq", "channels", "units", "unit", "stamps_s", "clock_offsets"),
    *("states", "epoch_s", "labels", "states_t0_s"),
)
_SIDECAR_KEYS = ("sfreq", "channels", "units", "unit")
#: UCDDB stage → AASM5 code: W, REM, N1, N2, N3 and N3 (stage 4 of R&K).
_UCDDB_CODES = {0: 0, 1: 4, 2: 1, 3: 2, 4: 3, 5: 3}
_MOUSE_CODES = {1: 0, 2: 1, 3: 2}
#: Columns of the layout "bands".
BANDS = ("delta", "theta", "alpha", "beta", "gamma", "EMG")
#: EEG and EMG of one file may end at different samples, but not at different rates.
_SHORTEST_PART = 0.9
#: More channels than this, and than samples, are samples.
_MAX_CHANNELS = 512


def read(path: Path, stream: str | None = None) -> Recording:
    """Read a NumPy file of one of the layouts above.

    Samples become float32 and keep what is not finite. Rows that a UCDDB file leaves out are gaps: the
    stamps step over them, and `states` covers the whole night nevertheless. For a ``.npy``, its JSON
    sidecar of the same name gives ``sfreq``, ``channels`` and ``units``.

    Parameters
    ----------
    path
        The file.
    stream
        Must be None or the name of the file: such a file holds one stream.

    Raises
    ------
    RecordingError
        If the file is damaged, holds pickled objects, is of no known layout, or its arrays do not fit
        together; the message names the key.
    """
    if stream not in (None, path.stem):
        raise RecordingError(f"{path}: has no stream {stream!r}, it holds a single one; leave `stream` out")
    with path.open("rb") as file:
        magic = file.read(6)
    try:
        if magic[:2] == b"PK":
            return _read_npz(path)
        if magic == b"\x93NUMPY":
            return _read_npy(path)
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordingError(
            f"{path}: damaged or truncated ({error}); copy the file again from its source"
        ) from error
    if magic[:1] == b"\x80":
        raise _pickled(path, "the file")
    raise RecordingError(
        f"{path}: not a NumPy file (first bytes {magic!r}); write it with numpy.savez or numpy.save"
    )


def _pickled(path: Path, what: str) -> RecordingError:
    return RecordingError(
        f"{path}: {what} holds pickled objects, which could run any code and are never loaded; save plain "
        "numeric or text arrays instead (for example numpy.asarray(x, dtype='float32'))"
    )


def _read_npz(path: Path) -> Recording:
    # (The file is opened here since np.load leaves it open where the archive is damaged.)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        for key in archive.files:
            with archive.zip.open(key if key in archive.zip.namelist() else f"{key}.npy") as member:
                if _holds_objects(member):
                    raise _pickled(path, f"array {key!r}")
        keys = set(archive.files)
        reader: Callable[[Path, Arrays], Recording]
        if "data" in keys:
            reader = _plain
        elif {"x", "scale", "epoch", "stage_all", "fs", "epoch_s"} <= keys:
            reader = _ucddb
        elif {"eeg", "emg"} <= keys and keys & {"fs", "fs_eeg"}:
            reader = _eeg_emg
        elif {"bands", "state", "epoch_s"} <= keys:
            reader = _bands
        else:
            raise RecordingError(
                f"{path}: of no known layout; it has the keys {', '.join(sorted(keys)) or '(none)'}. Known "
                "are: plain (data, sfreq), UCDDB (x, scale, epoch, stage_all, fs, epoch_s), EEG+EMG (eeg, emg, "
                "fs or fs_eeg) and bands (bands, state, epoch_s); save the signal as data (n_samples, n_channels) "
                "with sfreq"
            )
        return reader(path, archive)


def _holds_objects(member: Any) -> bool:
    """Whether an array in an archive is pickled, by its header; other members are no arrays at all."""
    version = np.lib.format.read_magic(member)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    return bool(read_header(member)[2].hasobject) if read_header else False


def _read_npy(path: Path) -> Recording:
    with path.open("rb") as file:
        if _holds_objects(file):
            raise _pickled(path, "the array")
        file.seek(0)
        data = np.load(file, allow_pickle=False)
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        raise RecordingError(
            f"{path}: a .npy file does not say its sampling rate; write it into {sidecar.name} beside it, "
            'for example {"sfreq": 250.0, "channels": ["EEG"], "units": ["uV"]}'
        )
    try:
        described = json.loads(sidecar.read_text(encoding="utf-8"))
        arrays = {key: np.asarray(value) for key, value in described.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise RecordingError(
            f'{sidecar}: not a JSON object ({error}); write it like {{"sfreq": 250.0, "channels": ["EEG"]}}'
        ) from error
    unknown = sorted(set(arrays) - set(_SIDECAR_KEYS))
    if unknown:
        raise RecordingError(f"{sidecar}: unknown key {unknown[0]!r}; choose from {', '.join(_SIDECAR_KEYS)}")
    return _plain(path, {"data": data, **arrays})


def _plain(path: Path, arrays: Arrays) -> Recording:
    for key in arrays:
        near = difflib.get_close_matches(key, _PLAIN_KEYS, 1, 0.8)
        if key not in _PLAIN_KEYS and near:  # other keys may hold what the owner likes
            raise RecordingError(f"{path}: unknown key {key!r}; did you mean {near[0]!r}?")
    data = _samples(path, "data", arrays["data"])
    n_samples, n_channels = data.shape
    if n_channels > max(n_samples, _MAX_CHANNELS):
        raise RecordingError(
            f"{path}: data is {data.shape}, which would be {n_channels} channels; save it as "
            "(n_samples, n_channels)"
        )
    sfreq = _scalar(path, arrays, "sfreq")
    stamps_s = np.arange(n_samples) / sfreq
    if "stamps_s" in arrays:
        stamps_s = _numbers(path, "stamps_s", arrays["stamps_s"]).astype(np.float64).ravel()
        falling = np.flatnonzero(~(np.diff(stamps_s) >= 0))
        if not np.isfinite(stamps_s).all() or len(falling):
            where = int(falling[0]) + 1 if len(falling) else int(np.argmin(np.isfinite(stamps_s)))
            raise RecordingError(
                f"{path}: stamps_s must be finite and ascending, but stamps_s[{where}] is {stamps_s[where]}; "
                "sort or repair the stamps, or leave them out"
            )
    channels = _texts(path, arrays, "channels", n_channels) or tuple(f"ch{i + 1}" for i in range(n_channels))
    units = _texts(path, arrays, "units" if "units" in arrays else "unit", n_channels) or ("",) * n_channels
    offsets = _numbers(path, "clock_offsets", arrays["clock_offsets"]) if "clock_offsets" in arrays else None
    if offsets is not None and (offsets.ndim != 2 or offsets.shape[1] != 2):
        raise RecordingError(
            f"{path}: clock_offsets is {offsets.shape}; give (m, 2) pairs of device time and offset in s"
        )
    labels, states = _states(path, arrays)
    return Recording(
        name=path.stem,
        data=data,
        stamps_s=stamps_s,
        sfreq=sfreq,
        channels=channels,
        units=tuple(normalise_unit(unit) for unit in units),
        labels=labels,
        states=states,
        epoch_s=_scalar(path, arrays, "epoch_s") if labels else 0.0,
        states_t0_s=_scalar(path, arrays, "states_t0_s", positive=False) if "states_t0_s" in arrays else 0.0,
        clock_offsets=np.zeros((0, 2)) if offsets is None else offsets.astype(np.float64),
    )


def _states(path: Path, arrays: Arrays) -> tuple[tuple[str, ...], npt.NDArray[np.int8]]:
    """Vocabulary and codes of the plain layout."""
    if "states" not in arrays:
        return (), np.zeros(0, np.int8)
    if "labels" not in arrays:
        raise RecordingError(
            f"{path}: states without labels; add labels, the names in the order of the codes or one of "
            f"{', '.join(VOCABULARIES)}"
        )
    names = tuple(str(name) for name in np.atleast_1d(arrays["labels"]))
    labels = VOCABULARIES.get(names[0], names) if len(names) == 1 else names
    states = arrays["states"].ravel()
    if states.dtype.kind in "US":
        try:
            return labels, np.array([code_of(str(name), labels) for name in states.astype(str)], np.int8)
        except ConfigError as error:
            raise RecordingError(f"{path}: states: {error}, or UNKNOWN") from error
    if states.dtype.kind not in "iu" or (len(states) and int(states.max()) >= len(labels)):
        raise RecordingError(
            f"{path}: states must be integers below {len(labels)} (-1 where unscored) or names of "
            f"{', '.join(labels)}"
        )
    return labels, np.maximum(states, UNKNOWN_CODE).astype(np.int8)


def _ucddb(path: Path, arrays: Arrays) -> Recording:
    rows, epoch = _numbers(path, "x", arrays["x"]), arrays["epoch"].astype(np.int64)
    sfreq, epoch_s = _scalar(path, arrays, "fs"), _scalar(path, arrays, "epoch_s")
    if rows.ndim != 2 or len(epoch) != len(rows) or rows.shape[1] != round(sfreq * epoch_s):
        raise RecordingError(
            f"{path}: x is {rows.shape}, but epoch has {len(epoch)} entries and an epoch "
            f"{sfreq * epoch_s:g} samples; give one row of x for each entry of epoch"
        )
    if (np.diff(epoch) <= 0).any():
        raise RecordingError(f"{path}: epoch is not ascending; sort the rows of x by epoch")
    stamps_s = epoch[:, None] * epoch_s + np.arange(rows.shape[1]) / sfreq
    return Recording(
        name=path.stem,
        data=(rows.astype(np.float32) * np.float32(_scalar(path, arrays, "scale"))).reshape(-1, 1),
        stamps_s=stamps_s.ravel(),
        sfreq=sfreq,
        channels=("EEG",),
        units=("",),
        labels=AASM5,
        states=_recode(arrays["stage_all"], _UCDDB_CODES),
        epoch_s=epoch_s,
    )


def _eeg_emg(path: Path, arrays: Arrays) -> Recording:
    sfreq = _scalar(path, arrays, "fs" if "fs" in arrays else "fs_eeg")
    parts = [_samples(path, key, arrays[key].ravel()) for key in ("eeg", "emg")]
    n_samples, longest = sorted(len(part) for part in parts)
    if n_samples < _SHORTEST_PART * longest:
        raise RecordingError(
            f"{path}: eeg has {len(parts[0])} samples and emg {len(parts[1])}, so they cannot share the rate "
            f"{sfreq:g} Hz; resample one of them"
        )
    has_states = "states" in arrays
    return Recording(
        name=path.stem,
        data=np.hstack([part[:n_samples] for part in parts]),
        stamps_s=np.arange(n_samples) / sfreq,
        sfreq=sfreq,
        channels=("EEG", "EMG"),
        units=("", ""),
        labels=MOUSE3 if has_states else (),
        states=_recode(arrays["states"], _MOUSE_CODES) if has_states else np.zeros(0, np.int8),
        epoch_s=_scalar(path, arrays, "epoch_s") if has_states else 0.0,
    )


def _bands(path: Path, arrays: Arrays) -> Recording:
    data, states = _samples(path, "bands", arrays["bands"]), arrays["state"].ravel()
    if data.shape[1] != len(BANDS) or len(states) != len(data):
        raise RecordingError(
            f"{path}: bands is {data.shape} and state has {len(states)} entries; give one row of {len(BANDS)} "
            f"({', '.join(BANDS)}) for each entry of state"
        )
    epoch_s = _scalar(path, arrays, "epoch_s")
    return Recording(
        name=path.stem,
        data=data,
        stamps_s=epoch_s * np.arange(len(data), dtype=np.float64),
        sfreq=1.0 / epoch_s,
        channels=BANDS,
        units=("",) * len(BANDS),
        labels=MOUSE3,
        states=_recode(states, _MOUSE_CODES),
        epoch_s=epoch_s,
    )


def _recode(states: npt.NDArray[Any], codes: Mapping[int, int]) -> npt.NDArray[np.int8]:
    """Codes of a file → codes of a vocabulary; whatever else stands there is unscored."""
    out = np.full(states.size, UNKNOWN_CODE, np.int8)
    for theirs, ours in codes.items():
        out[states.ravel() == theirs] = ours
    return out


def _numbers(path: Path, key: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "iuf":
        raise RecordingError(f"{path}: {key} is of type {array.dtype}; save real numbers")
    return array


def _samples(path: Path, key: str, array: npt.NDArray[Any]) -> FloatArray:
    """``(n_samples, n_channels)`` float32, what is not finite included."""
    if _numbers(path, key, array).ndim not in (1, 2):
        raise RecordingError(f"{path}: {key} is {array.shape}; save it as (n_samples, n_channels)")
    with np.errstate(over="ignore"):  # beyond float32 is inf, which the engine handles as bad input
        samples: FloatArray = array.astype(np.float32)
    return samples.reshape(len(samples), -1)


def _scalar(path: Path, arrays: Arrays, key: str, positive: bool = True) -> float:
    if key not in arrays:
        raise RecordingError(f"{path}: has no {key!r}; add it to the file")
    array = arrays[key]
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise RecordingError(f"{path}: {key} must be one number, but is {array.dtype} of shape {array.shape}")
    value = float(array.ravel()[0])
    if not np.isfinite(value) or (positive and value <= 0):
        raise RecordingError(f"{path}: {key} is {value}; it must be {'above 0' if positive else 'finite'}")
    return value


def _texts(path: Path, arrays: Arrays, key: str, n_channels: int) -> tuple[str, ...]:
    """One text a channel; empty if the file has no such key. A single unit holds for all channels."""
    if key not in arrays:
        return ()
    array = np.atleast_1d(arrays[key])
    if array.dtype.kind not in "US" or array.ndim != 1:
        raise RecordingError(f"{path}: {key} must be text, one a channel, but is of type {array.dtype}")
    texts = tuple(str(text) for text in array.astype(str))
    if len(texts) == 1 and key in ("unit", "units"):
        texts *= n_channels
    if len(texts) != n_channels:
        raise RecordingError(
            f"{path}: data has {n_channels} channels but {key} {len(texts)} entries; data must be "
            "(n_samples, n_channels)"
        )
    return texts
