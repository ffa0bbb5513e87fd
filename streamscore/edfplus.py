"""What an EDF or BDF file says of itself: header, time-keeping, annotations.

Read here and not by edfio, because a truncated file and a discontinuous one must be seen before anything
is decoded, and because real files carry µ signs and Latin-1 texts that the standard forbids.

Sources: https://www.edfplus.info/specs/edf.html, …/edfplus.html; https://www.biosemi.com/faq/file_format.htm.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamscore.annotations import Annotation
from streamscore.errors import RecordingError
from streamscore.types import TimeArray

logger = logging.getLogger(__name__)

_FIXED_BYTES = 256
_SIGNAL_BYTES = 256
#: Width in bytes of the per-signal header fields, in file order.
_SIGNAL_FIELDS = {
    "label": 16,
    "transducer": 80,
    "dimension": 8,
    "physical_min": 8,
    "physical_max": 8,
    "digital_min": 8,
    "digital_max": 8,
    "prefiltering": 80,
    "samples_per_record": 8,
    "reserved": 32,
}
#: Time-stamped annotation list: onset, optional duration, texts that each end with 0x14.
_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14((?:[^\x14\x00]*\x14)*)\x00")


@dataclass(frozen=True)
class EdfHeader:
    """A header, checked against the size of its file.

    Parameters
    ----------
    n_records, record_s
        Whole data records in the file, and the duration of one in seconds (0 in a file of annotations).
    labels, dimensions, samples_per_record
        One entry per signal, annotation signals included.
    is_exact
        Whether the header's count of records is the file's, to the byte.
    """

    path: Path
    is_bdf: bool
    is_plus: bool
    header_bytes: int
    n_records: int
    record_s: float
    recording_field: str
    labels: tuple[str, ...]
    dimensions: tuple[str, ...]
    samples_per_record: tuple[int, ...]
    is_exact: bool

    @property
    def bytes_per_sample(self) -> int:
        """2 (EDF) or 3 (BDF)."""
        return 3 if self.is_bdf else 2

    @property
    def record_bytes(self) -> int:
        """Size of a data record."""
        return sum(self.samples_per_record) * self.bytes_per_sample

    @property
    def annotation_signals(self) -> list[int]:
        """Indices of the signals that hold annotations."""
        wanted = "BDF Annotations" if self.is_bdf else "EDF Annotations"
        return [i for i, label in enumerate(self.labels) if label == wanted]

    @property
    def ordinary_signals(self) -> list[int]:
        """Indices of the signals that hold samples, in the order of edfio's ``signals``."""
        return [i for i in range(len(self.labels)) if i not in self.annotation_signals]

    @property
    def declarations(self) -> tuple[str, ...]:
        """Free subfields of a recording identification that streamscore wrote; others may mean anything."""
        words = self.recording_field.split()
        return tuple(words[5:]) if words[4:5] == ["streamscore"] else ()


def read_header(path: Path) -> EdfHeader:
    """Read and check the header of an EDF, EDF+ or BDF file.

    A file whose writer was killed (number of records -1) counts as long as it is; a few bytes behind the
    last record are passed over. Both are logged.

    Raises
    ------
    RecordingError
        If the file is no EDF or BDF, its header is damaged, or its size is not what the header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(_FIXED_BYTES)
        is_bdf = fixed[:8] == b"\xffBIOSEMI"
        if len(fixed) < _FIXED_BYTES or not (is_bdf or fixed[:8].strip() == b"0"):
            raise RecordingError(
                f"{path}: not an EDF or BDF file (first bytes {fixed[:8]!r}, {size} bytes in all); check "
                "the file, or copy it again from its source"
            )
        n_signals = int(_number(path, "number of signals", fixed[252:256]))
        raw = file.read(max(n_signals, 0) * _SIGNAL_BYTES)
    header_bytes = int(_number(path, "bytes in header", fixed[184:192]))
    needed_bytes = _FIXED_BYTES + n_signals * _SIGNAL_BYTES
    if n_signals <= 0 or header_bytes != needed_bytes:
        raise _damaged(path, f"header of {header_bytes} bytes with {n_signals} signals, which need {needed_bytes}")
    if size < header_bytes:
        raise _truncated(path, header_bytes)
    fields: dict[str, list[bytes]] = {}
    start = 0
    for field, width in _SIGNAL_FIELDS.items():
        fields[field] = [raw[start + i * width : start + (i + 1) * width] for i in range(n_signals)]
        start += n_signals * width
    samples = [int(_number(path, "samples per record", value)) for value in fields["samples_per_record"]]
    record_s = _number(path, "duration of a record", fixed[244:252])
    if min(samples) < 0 or sum(samples) == 0 or record_s < 0:
        raise _damaged(path, f"header gives records of {record_s:g} s with {samples} samples")

    record_bytes = sum(samples) * (3 if is_bdf else 2)
    promised = int(_number(path, "number of records", fixed[236:244]))
    n_records, is_exact = _count_records(path, promised, size - header_bytes, record_bytes, header_bytes)
    return EdfHeader(
        path=path,
        is_bdf=is_bdf,
        is_plus=fixed[192:196] in (b"EDF+", b"BDF+"),
        header_bytes=header_bytes,
        n_records=n_records,
        record_s=record_s,
        recording_field=_text(fixed[88:168]),
        labels=tuple(_text(value) for value in fields["label"]),
        dimensions=tuple(_text(value) for value in fields["dimension"]),
        samples_per_record=tuple(samples),
        is_exact=is_exact,
    )


def record_onsets_s(header: EdfHeader) -> TimeArray | None:
    """Start of each record by its time-keeping annotation, ``(n_records,)`` s; None for plain EDF.

    Raises
    ------
    RecordingError
        If a record of an EDF+ file does not say when it starts.
    """
    signals = header.annotation_signals
    if not header.is_plus or not signals:
        return None
    onsets_s = np.empty(header.n_records)
    for i, record in enumerate(_annotation_bytes(header, signals[0])):
        match = _TAL.match(record)
        if match is None:
            raise _damaged(header.path, f"record {i} has no time-keeping annotation, so its time is unknown")
        onsets_s[i] = float(match[1])
    return onsets_s


def read_annotations(header: EdfHeader) -> list[Annotation]:
    """Annotations of an EDF+ or BDF+ file in file order; onsets count from the first sample.

    Time-keeping annotations, which have no text, are left out.
    """
    found: list[Annotation] = []
    first_s: float | None = None
    for signal in header.annotation_signals:
        for record in _annotation_bytes(header, signal):
            for onset, duration, texts in _TAL.findall(record):
                # The first one of the file keeps the time of the first sample.
                first_s = float(onset) if first_s is None and header.is_plus else first_s
                onset_s = round(float(onset) - first_s, 9) if first_s else float(onset)
                found += [
                    Annotation(onset_s, float(duration or 0), text)
                    for text in texts.decode("utf-8", "replace").split("\x14")
                    if text
                ]
    return found


def _annotation_bytes(header: EdfHeader, signal: int) -> list[bytes]:
    """Bytes of one annotation signal, record by record."""
    if header.n_records == 0:
        return []
    start = sum(header.samples_per_record[:signal]) * header.bytes_per_sample
    stop = start + header.samples_per_record[signal] * header.bytes_per_sample
    shape = (header.n_records, header.record_bytes)
    records = np.memmap(header.path, np.uint8, "r", header.header_bytes, shape)
    return [row.tobytes() for row in np.array(records[:, start:stop])]


def _count_records(
    path: Path, promised: int, data_bytes: int, record_bytes: int, header_bytes: int
) -> tuple[int, bool]:
    """Whole records in the file, and whether the header promised just that."""
    whole, extra_bytes = divmod(data_bytes, record_bytes)
    if promised < 0:
        # -1 stands there from the start of a recording to its end: the writer was killed, and the header
        # promises no length that the file could miss.
        logger.warning("%s: its writer did not finish it; %d whole records are read", path, whole)
        return whole, False
    if whole < promised:
        raise _truncated(path, header_bytes + promised * record_bytes)
    if whole > promised:
        raise RecordingError(
            f"{path}: header says {promised} records, {header_bytes + promised * record_bytes} bytes, but "
            f"the file has {header_bytes + data_bytes} bytes; one of the two is wrong: set the header's "
            f"number of records to {whole} or cut the file"
        )
    if extra_bytes:
        logger.warning("%s: %d bytes behind the last record are passed over", path, extra_bytes)
    return whole, extra_bytes == 0


def _truncated(path: Path, expected_bytes: int) -> RecordingError:
    return RecordingError(
        f"{path}: truncated: expected {expected_bytes} bytes by its header, found {path.stat().st_size}; "
        "copy the file again from its source"
    )


def _damaged(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path}: {what}; the file is damaged: copy it again from its source")


def _number(path: Path, field: str, raw: bytes) -> float:
    try:
        value = float(raw)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise _damaged(path, f"header field '{field}' is not a number but {raw!r}")
    return value


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip(" \0")
