"""XDF files of LabRecorder and of streamscore's own runs.

The chunks of a file are walked here first, which finds the streams without decoding any of them, and the
place where a killed writer stopped. The chosen stream is then decoded by pyxdf, which must not see a torn
end: it raises at some cuts and makes up the values of a cut sample at others.

Source: https://github.com/sccn/xdf/wiki/Specifications
"""

from __future__ import annotations

import io
import logging
import struct
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyxdf

from streamscore.errors import RecordingError
from streamscore.recordings.base import Recording
from streamscore.types import FloatArray, TimeArray
from streamscore.units import normalise_unit

logger = logging.getLogger(__name__)

_MAGIC = b"XDF:"
_BOUNDARY_UUID = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
_STREAM_HEADER, _SAMPLES = 2, 3
#: Names of the numeric sample types of XDF → NumPy type of their bytes in the file.
_NUMERIC = {
    "int8": "<i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "float32": "<f4",
    "double64": "<f8",
}


@dataclass
class _Stream:
    """What a stream's header says."""

    stream_id: int
    name: str
    kind: str
    n_channels: int
    sfreq: float
    sample_format: str
    channels: tuple[str, ...]
    units: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.name!r} (#{self.stream_id}, {self.kind or 'no type'}, {self.n_channels} channels of "
            f"{self.sample_format} at {self.sfreq:g} Hz)"
        )


@dataclass
class _Layout:
    """Streams of a file, how many Samples chunks each has, and the bytes of a chunk that was cut off."""

    streams: dict[int, _Stream] = field(default_factory=dict)
    n_chunks: Counter[int] = field(default_factory=Counter)
    whole_bytes: int = 0
    torn: bytes = b""


def read(path: Path, stream: str | None = None) -> Recording:
    """Read one stream of an XDF file, with its stamps and clock offsets as they were recorded.

    Stamps are in file order on the clock of the stream's device: neither clock offsets nor dejittering
    are applied to them, so that a replay sees what the live run saw. A file whose writer was killed is
    read up to its last whole sample, and this is logged.

    Parameters
    ----------
    path
        The file.
    stream
        Name of the stream, or ``"#"`` and its id where names repeat. None takes the only numeric stream that
        has a nominal rate and samples.

    Raises
    ------
    RecordingError
        If the file is not XDF or damaged before its end, or if `stream` fits none or several of the
        streams; the message lists them.
    """
    layout = _walk(path)
    chosen = _choose(path, layout, stream)
    source: Path | BinaryIO = path
    if layout.torn:
        with path.open("rb") as file:
            source = io.BytesIO(file.read(layout.whole_bytes))
    loaded = _load(path, source, chosen.stream_id)
    values: FloatArray = np.asarray(loaded["time_series"], np.float32).reshape(-1, chosen.n_channels)
    stamps_s: TimeArray = np.asarray(loaded["time_stamps"], np.float64)
    if layout.torn:
        last_s = float(stamps_s[-1]) if len(stamps_s) else 0.0
        more_values, more_stamps_s = _salvage(layout.torn, chosen, last_s)
        values = np.concatenate([values, more_values])
        stamps_s = np.concatenate([stamps_s, more_stamps_s])
        logger.warning(
            "%s: ends inside a chunk, its writer did not finish it; stream %r is read up to sample %d",
            *(path, chosen.name, len(stamps_s)),
        )
    offsets = np.column_stack([loaded["clock_times"], loaded["clock_values"]]).astype(np.float64)
    return Recording(
        name=path.stem,
        data=values,
        stamps_s=stamps_s,
        sfreq=chosen.sfreq,
        channels=chosen.channels,
        units=chosen.units,
        clock_offsets=offsets.reshape(-1, 2),
    )


def _walk(path: Path) -> _Layout:
    """Step from chunk to chunk to the end of the file, or to where it was cut."""
    layout = _Layout()
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise RecordingError(
                f"{path}: not an XDF file ({size} bytes, without 'XDF:' at their start); check the file, or "
                "copy it again from its source"
            )
        layout.whole_bytes = file.tell()
        while layout.whole_bytes < size:
            length = _varlen(file)
            if length is None or length < 2 or file.tell() + length > size:
                file.seek(layout.whole_bytes)
                layout.torn = file.read()
                # Behind a cut there is nothing, or zeros where a file system had only reserved room.
                is_cut = layout.torn[0] in (1, 4, 8) if length is None else length >= 2
                if (any(layout.torn) and not is_cut) or _BOUNDARY_UUID in layout.torn:
                    raise RecordingError(
                        f"{path}: damaged at byte {layout.whole_bytes} of {size}, where a chunk should "
                        "start; copy the file again from its source, or cut it there to use what is before"
                    )
                break
            end = file.tell() + length
            (tag,) = struct.unpack("<H", file.read(2))
            if tag in (_STREAM_HEADER, _SAMPLES) and length >= 6:
                (stream_id,) = struct.unpack("<I", file.read(4))
                if tag == _SAMPLES:
                    layout.n_chunks[stream_id] += 1
                else:
                    layout.streams[stream_id] = _parse_header(path, stream_id, file.read(length - 6))
            layout.whole_bytes = file.seek(end)
    return layout


def _varlen(file: BinaryIO) -> int | None:
    """Read a variable-length integer; None where the file ends or holds none."""
    size = file.read(1)
    if size not in (b"\x01", b"\x04", b"\x08"):
        return None
    raw = file.read(size[0])
    return int.from_bytes(raw, "little") if len(raw) == size[0] else None


def _parse_header(path: Path, stream_id: int, xml: bytes) -> _Stream:
    try:
        info = ET.fromstring(xml.decode("utf-8", "replace"))
        n_channels = int(info.findtext("channel_count", ""))
        sfreq = float(info.findtext("nominal_srate", ""))
    except (ET.ParseError, ValueError) as error:
        raise RecordingError(
            f"{path}: header of stream #{stream_id} cannot be read ({error}); the file is damaged: copy it "
            "again from its source"
        ) from error
    described = info.findall("desc/channels/channel")
    if len(described) != n_channels:
        described = [ET.Element("channel") for _ in range(n_channels)]
    return _Stream(
        stream_id=stream_id,
        name=info.findtext("name") or "",
        kind=info.findtext("type") or "",
        n_channels=n_channels,
        sfreq=sfreq,
        sample_format=info.findtext("channel_format") or "",
        channels=tuple((c.findtext("label") or "").strip() or f"ch{i + 1}" for i, c in enumerate(described)),
        units=tuple(normalise_unit(c.findtext("unit")) for c in described),
    )


def _choose(path: Path, layout: _Layout, wanted: str | None) -> _Stream:
    streams = list(layout.streams.values())
    listing = "; ".join(map(str, streams)) or "none"
    usable = [s for s in streams if s.sample_format in _NUMERIC and s.sfreq > 0 and s.n_channels > 0]
    if wanted is None:
        found = [s for s in usable if layout.n_chunks[s.stream_id]] or usable
        what = "numeric stream with a nominal rate"
    else:
        found = [s for s in streams if wanted in (s.name, f"#{s.stream_id}")]
        what = f"stream {wanted!r}"
    if len(found) > 1:
        raise RecordingError(
            f"{path}: has more than one {what}; choose one by name, or by '#' and its id. Streams: {listing}"
        )
    if not found:
        raise RecordingError(f"{path}: has no {what}; choose one by name. Streams: {listing}")
    if found[0] not in usable:
        raise RecordingError(
            f"{path}: stream {found[0]} cannot be scored, since it is not numeric or has no nominal rate; "
            f"choose another. Streams: {listing}"
        )
    return found[0]


def _load(path: Path, source: Path | BinaryIO, stream_id: int) -> dict[str, Any]:
    """Decode one stream with pyxdf, whose log of damage becomes an error."""
    try:
        with _captured_log() as errors, np.errstate(divide="ignore", invalid="ignore"):
            # (errstate: pyxdf divides by the duration of a stream, which is 0 for a single stamp.)
            streams, _ = pyxdf.load_xdf(source, stream_id, synchronize_clocks=False, dejitter_timestamps=False)
        reason = "; ".join(errors)
    except (ValueError, LookupError, TypeError, OSError, MemoryError, struct.error, ET.ParseError) as error:
        streams, reason = [], str(error)
    if reason or len(streams) != 1:
        raise RecordingError(
            f"{path}: stream #{stream_id} cannot be decoded ({reason or 'not found'}); the file is "
            "damaged: copy it again from its source"
        )
    loaded: dict[str, Any] = streams[0]
    return loaded


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Keep pyxdf's messages off the screen; yield the list to which those of errors are added."""
    errors: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                errors.append(record.getMessage())

    log = logging.getLogger("pyxdf")
    keeper, propagate = Keeper(), log.propagate
    log.addHandler(keeper)
    log.propagate = False
    try:
        yield errors
    finally:
        log.removeHandler(keeper)
        log.propagate = propagate


def _salvage(torn: bytes, stream: _Stream, last_s: float) -> tuple[FloatArray, TimeArray]:
    """Whole samples at the start of a chunk that was cut off, if it is one of `stream`.

    Layout: length, tag (2 bytes), stream id (4), number of samples, and per sample a byte that tells
    whether a stamp (8) follows, or else one period is added to the stamp before; then the values.
    """
    file = io.BytesIO(torn)
    length = _varlen(file)
    head = file.read(6)
    n_samples = _varlen(file)
    values: list[Any] = []
    stamps_s: list[float] = []
    if length is not None and head == struct.pack("<HI", _SAMPLES, stream.stream_id) and n_samples:
        dtype = np.dtype(_NUMERIC[stream.sample_format])
        n_bytes = stream.n_channels * dtype.itemsize
        for _ in range(n_samples):
            has_stamp = file.read(1)
            stamp = file.read(8) if has_stamp == b"\x08" else b""
            raw = file.read(n_bytes)
            if len(raw) < n_bytes:
                break
            last_s = struct.unpack("<d", stamp)[0] if stamp else last_s + 1.0 / stream.sfreq
            stamps_s.append(last_s)
            values.append(np.frombuffer(raw, dtype).astype(np.float32))
    return np.array(values, np.float32).reshape(-1, stream.n_channels), np.array(stamps_s, np.float64)
