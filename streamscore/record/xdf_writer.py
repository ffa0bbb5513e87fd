"""Write XDF 1.0, the file format of LabRecorder, so that it survives a killed process.

A file is ``XDF:`` and then chunks, each ``[length of the rest][tag][content]``, little-endian throughout;
nothing is ever written twice, and a Boundary chunk about every 10 s lets a reader find its way again behind
a damaged place. Source: https://github.com/sccn/xdf/wiki/Specifications

A killed process leaves a file that ends in a whole chunk, which any reader takes. A power cut may leave one
that ends anywhere: :mod:`streamscore.recordings` reads it up to its last whole sample, whereas pyxdf by
itself raises where the cut goes through a tag or a ClockOffset, and makes up the values of a cut sample.
"""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamscore.clock import utc_now_iso
from streamscore.errors import RecordError
from streamscore.record.append_file import AppendFile

#: numpy type → name of the type in a StreamHeader.
FORMATS = {"float32": "float32", "float64": "double64", "int16": "int16", "int32": "int32"}

_MAGIC = b"XDF:"
_FILE_HEADER, _STREAM_HEADER, _SAMPLES, _CLOCK_OFFSET, _BOUNDARY, _STREAM_FOOTER = range(1, 7)
_BOUNDARY_UUID = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
_BOUNDARY_EVERY_S = 10.0
#: Longest Samples chunk: all of a chunk is lost when its end is cut off.
_CHUNK_S = 1.0
#: Rate assumed for these two lengths where a stream has none.
_IRREGULAR_SFREQ = 100.0

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML_NAME = re.compile(r"[A-Za-z_][\w.-]*")


def _varlen(value: int) -> bytes:
    """Encode a length: how many bytes it takes, then its bytes."""
    if value < 1 << 8:
        return struct.pack("<BB", 1, value)
    if value < 1 << 32:
        return struct.pack("<BI", 4, value)
    return struct.pack("<BQ", 8, value)


def _chunk(tag: int, *content: bytes) -> bytes:
    length = 2 + sum(map(len, content))
    return b"".join((_varlen(length), struct.pack("<H", tag), *content))


def _add_xml(parent: ET.Element, key: str, value: object) -> None:
    """Add `value` under `parent`: a mapping nests, a list repeats its element, all else is text."""
    if not _XML_NAME.fullmatch(key):
        raise RecordError(f"desc entry {key!r} cannot be an XML element; use letters, digits, '_', '-' and '.'")
    if isinstance(value, list | tuple):
        for item in value:
            _add_xml(parent, key, item)
        return
    element = ET.SubElement(parent, key)
    if isinstance(value, Mapping):
        for child, child_value in value.items():
            _add_xml(element, str(child), child_value)
    else:
        # A control character in a device's label must not make the whole file unreadable.
        element.text = _NOT_XML.sub("\ufffd", str(value))


def _info_xml(entries: Mapping[str, object]) -> bytes:
    root = ET.Element("info")
    for key, value in entries.items():
        _add_xml(root, key, value)
    text: str = ET.tostring(root, encoding="unicode")
    return b'<?xml version="1.0"?>' + text.encode()


@dataclass
class _Stream:
    """What the writer remembers of a stream, to place boundaries and to write its footer."""

    name: str
    dtype: np.dtype[np.void]  # one sample as it is in the file: stamp size, stamp, values
    values: np.dtype[np.generic]
    n_channels: int
    samples_per_chunk: int
    samples_per_boundary: int
    n_samples: int = 0
    n_since_boundary: int = 0
    first_stamp_s: float = math.nan
    last_stamp_s: float = math.nan
    offsets: list[tuple[float, float]] = field(default_factory=list)


class XdfWriter:
    """Append streams to a new XDF file.

    Nothing but :meth:`flush` and :meth:`close` touches the disk; until then, chunks wait in memory. After a
    flush the file ends in a whole chunk. A flush that fails leaves the file as it was and may be repeated.
    Not thread-safe: one thread owns a writer.

    Parameters
    ----------
    path
        File to create.

    Raises
    ------
    RecordError
        If there is such a file already.
    OSError
        If the file cannot be created.

    Examples
    --------
    >>> writer = XdfWriter(Path("rest.xdf"))  # doctest: +SKIP
    >>> eeg = writer.add_stream("amp", "EEG", 250.0, ["C3", "C4"], ["uV", "uV"])  # doctest: +SKIP
    >>> writer.samples(eeg, data, stamps_s)  # doctest: +SKIP
    >>> writer.close()  # doctest: +SKIP
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        if path.is_file():
            raise RecordError(f"{path}: there is a file of this name already; choose another name")
        self.path = path
        self._streams: dict[int, _Stream] = {}
        self._boundary = _chunk(_BOUNDARY, _BOUNDARY_UUID)
        self._file = AppendFile(path, resync=self._boundary)
        self._file.put(_MAGIC)
        header = _info_xml({"version": "1.0", "datetime": utc_now_iso()})
        self._file.put(_chunk(_FILE_HEADER, header))

    def add_stream(
        self,
        name: str,
        content_type: str,
        sfreq: float,
        channels: Sequence[str],
        units: Sequence[str],
        *,
        dtype: str = "float32",
        source_id: str = "",
        desc: Mapping[str, object] | None = None,
    ) -> int:
        """Announce a stream.

        Parameters
        ----------
        name, content_type
            Name of the stream, and its type as LSL understands it, such as ``"EEG"``.
        sfreq
            Nominal rate in Hz; 0 for a stream without one.
        channels, units
            One label and one unit (``""`` where none is known) per channel.
        dtype
            ``"float32"``, ``"float64"``, ``"int16"`` or ``"int32"``.
        source_id
            Identifier of the device.
        desc
            Further entries of the stream's description. Mappings nest, lists repeat, all else is text.

        Returns
        -------
        int
            The identifier that the other methods take.

        Raises
        ------
        RecordError
            If the type is not supported, the numbers of labels and units differ, or an entry of `desc` has
            no name that XML allows.
        """
        if dtype not in FORMATS:
            raise RecordError(f"stream {name!r}: XDF has no type {dtype!r}; choose one of {', '.join(FORMATS)}")
        if not channels or len(units) != len(channels):
            raise RecordError(
                f"stream {name!r}: {len(channels)} channel labels and {len(units)} units; "
                "give one of each per channel"
            )
        if not (math.isfinite(sfreq) and sfreq >= 0):
            raise RecordError(f"stream {name!r}: sfreq = {sfreq} Hz; give 0 for a stream without a fixed rate")
        if desc and "channels" in desc:
            raise RecordError(f"stream {name!r}: desc has 'channels'; give `channels` and `units` instead")
        named = [
            {"label": label, "unit": unit, "type": content_type}
            for label, unit in zip(channels, units, strict=True)
        ]
        header = _info_xml(
            {
                "name": name,
                "type": content_type,
                "channel_count": len(channels),
                "nominal_srate": float(sfreq),
                "channel_format": FORMATS[dtype],
                "source_id": source_id,
                "desc": {"channels": {"channel": named}, **(desc or {})},
            }
        )
        values = np.dtype(dtype).newbyteorder("<")
        rate = sfreq or _IRREGULAR_SFREQ
        stream_id = len(self._streams) + 1
        self._streams[stream_id] = _Stream(
            name=name,
            dtype=np.dtype([("size", "u1"), ("stamp_s", "<f8"), ("values", values, (len(channels),))]),
            values=values,
            n_channels=len(channels),
            samples_per_chunk=max(1, math.ceil(rate * _CHUNK_S)),
            samples_per_boundary=max(1, math.ceil(rate * _BOUNDARY_EVERY_S)),
        )
        self._file.put(_chunk(_STREAM_HEADER, struct.pack("<I", stream_id), header))
        return stream_id

    def samples(self, stream_id: int, data: npt.ArrayLike, stamps_s: npt.ArrayLike) -> None:
        """Append samples. How they are cut into calls makes no difference to a reader.

        Parameters
        ----------
        stream_id
            What :meth:`add_stream` returned.
        data
            ``(n_samples, n_channels)``, of a type that the stream's type holds exactly.
        stamps_s
            ``(n_samples,)`` time stamps in seconds, on the clock of the device.

        Raises
        ------
        RecordError
            If shapes or types do not fit the stream; nothing is written then.
        """
        stream = self._stream(stream_id)
        data, stamps_s = np.asarray(data), np.asarray(stamps_s, np.float64)
        if data.shape != (len(stamps_s), stream.n_channels):
            raise RecordError(
                f"{self.path}: stream {stream.name!r} has {stream.n_channels} channels, but the data are "
                f"{data.shape} with {len(stamps_s)} stamps; give (n_samples, n_channels) and (n_samples,)"
            )
        # A record holds what was measured: no rounding, no wrap-around.
        if not np.can_cast(data.dtype, stream.values, "safe"):
            raise RecordError(
                f"{self.path}: stream {stream.name!r} is {stream.values.name}, which cannot hold "
                f"{data.dtype} exactly; convert the data or add the stream with another dtype"
            )
        rows = np.empty(len(data), stream.dtype)
        rows["size"] = 8
        rows["stamp_s"] = stamps_s
        rows["values"] = data
        for start in range(0, len(rows), stream.samples_per_chunk):
            part = rows[start : start + stream.samples_per_chunk]
            if stream.n_since_boundary >= stream.samples_per_boundary:
                self._file.put(self._boundary)
                stream.n_since_boundary = 0
            self._file.put(_chunk(_SAMPLES, struct.pack("<I", stream_id), _varlen(len(part)), part.tobytes()))
            stream.n_since_boundary += len(part)
        if len(rows):
            if stream.n_samples == 0:
                stream.first_stamp_s = float(stamps_s[0])
            stream.last_stamp_s = float(stamps_s[-1])
            stream.n_samples += len(rows)

    def clock_offset(self, stream_id: int, time_s: float, offset_s: float) -> None:
        """Append a measured offset: ``time on the recording host = stamp + offset_s``.

        Parameters
        ----------
        stream_id
            What :meth:`add_stream` returned.
        time_s
            When it held, in seconds on the clock of the stamps (LabRecorder: ``local_clock() - offset``).
        offset_s
            The offset in seconds.
        """
        stream = self._stream(stream_id)
        stream.offsets.append((float(time_s), float(offset_s)))
        self._file.put(_chunk(_CLOCK_OFFSET, struct.pack("<Idd", stream_id, time_s, offset_s)))

    def flush(self) -> None:
        """Hand all chunks to the operating system.

        Raises
        ------
        OSError
            If the disk does not take them. The file is as before; the next flush tries again.
        """
        self._file.flush()

    def sync(self) -> None:
        """Wait until what was flushed is on the medium (OSError if it does not get there)."""
        self._file.sync()

    def close(self) -> None:
        """Write the footers and close the file, even if the disk does not take them (OSError)."""
        for stream_id, stream in self._streams.items():
            footer: dict[str, object] = {"sample_count": stream.n_samples}
            if stream.n_samples:
                footer["first_timestamp"] = stream.first_stamp_s
                footer["last_timestamp"] = stream.last_stamp_s
            footer["clock_offsets"] = {"offset": [{"time": t, "value": v} for t, v in stream.offsets]}
            self._file.put(_chunk(_STREAM_FOOTER, struct.pack("<I", stream_id), _info_xml(footer)))
        self._streams = {}
        try:
            self._file.flush()
            self._file.sync()
        finally:
            self._file.close()

    def _stream(self, stream_id: int) -> _Stream:
        try:
            return self._streams[stream_id]
        except KeyError:
            raise RecordError(
                f"{self.path}: no stream {stream_id} in this file, or it is closed; call add_stream first"
            ) from None
