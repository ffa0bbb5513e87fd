"""EDF, EDF+C, EDF+D and BDF files.

Samples are decoded and calibrated by edfio; header, time-keeping and annotations by
:mod:`streamscore.edfplus`.
"""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from edfio import Bdf, Edf, read_bdf, read_edf

from streamscore.annotations import declared, states_of
from streamscore.edfplus import EdfHeader, read_annotations, read_header, record_onsets_s
from streamscore.errors import RecordingError
from streamscore.recordings.base import Recording
from streamscore.types import FloatArray, TimeArray
from streamscore.units import normalise_unit

_EEG_LIKE = re.compile(
    r".*EEG|(?:FP|AF|F|FT|FC|C|T|TP|CP|P|PO|O)(?:Z|\d{1,2})(?![A-Z0-9])", re.IGNORECASE | re.DOTALL
)


def read(path: Path, stream: str | None = None, channels: Sequence[str] = ()) -> Recording:
    """Read the signals of an EDF or BDF file and, if it has them, its scored stages.

    All channels of one rate are taken, or those named. If a file mixes rates, that is the rate of the first
    channel that looks like an EEG (``EEG …`` or a 10-20 name), and without such a channel the most common
    rate (the higher one of a tie). Records of a discontinuous file (EDF+D) stay where their time-keeping
    annotations put them: `stamps_s` steps over the gap. Annotations of sleep stages become `states`, see
    :mod:`streamscore.annotations`.

    Parameters
    ----------
    path
        The file.
    stream
        Must be None or the name of the file: such a file holds one stream.
    channels
        Labels of the channels to read, in this order; none reads those described above.

    Raises
    ------
    RecordingError
        If the file is no EDF or BDF, is shorter or longer than its header says, has no signals or no
        calibration, lacks one of `channels`, these differ in rate, its time runs backwards, or its scoring fits
        no grid of epochs.
    """
    if stream not in (None, path.stem):
        raise RecordingError(f"{path}: has no stream {stream!r}, it holds a single one; leave `stream` out")
    header = read_header(path)
    picked = _named_channels(header, channels) if channels else _pick_channels(header)
    n_per_record = header.samples_per_record[picked[0]]
    sfreq = n_per_record / header.record_s
    recording = Recording(
        name=path.stem,
        data=_read_samples(header, picked),
        stamps_s=_stamps_s(header, n_per_record, sfreq),
        sfreq=sfreq,
        channels=tuple(header.labels[i] for i in picked),
        units=tuple(normalise_unit(header.dimensions[i]) for i in picked),
    )
    scored = states_of(read_annotations(header), *declared(header.declarations), where=str(path))
    if scored is None:
        return recording
    return dataclasses.replace(
        recording,
        labels=scored.labels,
        states=scored.codes,
        epoch_s=scored.epoch_s,
        states_t0_s=scored.t0_s,
    )


def _pick_channels(header: EdfHeader) -> list[int]:
    """Indices of the signals that share the rate described in :func:`read`."""
    per_record = {i: n for i in header.ordinary_signals if (n := header.samples_per_record[i]) > 0}
    if not per_record or header.record_s == 0:
        raise RecordingError(
            f"{header.path}: has no signals, only annotations; give the file that holds the signals (a "
            "hypnogram is read by streamscore.hypnogram.read_edf_hypnogram)"
        )
    eeg_like = [i for i in per_record if _EEG_LIKE.match(header.labels[i])]
    counts = Counter(per_record.values())
    wanted = per_record[eeg_like[0]] if eeg_like else max(counts, key=lambda n: (counts[n], n))
    return [i for i, n in per_record.items() if n == wanted]


def _named_channels(header: EdfHeader, channels: Sequence[str]) -> list[int]:
    """Indices of the signals called `channels`, which must share a rate."""
    places = {header.labels[i]: i for i in reversed(header.ordinary_signals)}
    for name in channels:
        if name not in places:
            raise RecordingError(
                f"{header.path}: has no channel {name!r}; it has {', '.join(places) or 'none'}; name one of these"
            )
    picked = [places[name] for name in channels]
    rates = {
        name: header.samples_per_record[i] / header.record_s for name, i in zip(channels, picked, strict=True)
    }
    if len(set(rates.values())) > 1:
        told = ", ".join(f"{name} {rate:g} Hz" for name, rate in rates.items())
        raise RecordingError(
            f"{header.path}: channels differ in rate ({told}); choose channels of one rate, or resample the file"
        )
    return picked


def _read_samples(header: EdfHeader, picked: list[int]) -> FloatArray:
    """Calibrated samples, ``(n_samples, n_channels)``."""
    data = np.empty((header.n_records * header.samples_per_record[picked[0]], len(picked)), np.float32)
    if header.n_records == 0:
        return data
    source: Path | io.BytesIO = header.path
    if not header.is_exact:
        # edfio trusts the size of the file: hand it the whole records only, under a header that agrees.
        raw = header.path.read_bytes()[: header.header_bytes + header.n_records * header.record_bytes]
        source = io.BytesIO(raw[:236] + str(header.n_records).ljust(8).encode() + raw[244:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # edfio only warns where a channel has no usable calibration
        try:
            file: Edf | Bdf
            if header.is_bdf:
                file = read_bdf(source, header_encoding="latin-1")
            else:
                file = read_edf(source, header_encoding="latin-1")
            for column, index in enumerate(picked):
                data[:, column] = file.signals[header.ordinary_signals.index(index)].data
        except (ValueError, ArithmeticError, UserWarning) as error:
            raise RecordingError(
                f"{header.path}: samples cannot be decoded: {error}; correct the header of that channel, or "
                "write the file again without it"
            ) from error
    return data


def _stamps_s(header: EdfHeader, n_per_record: int, sfreq: float) -> TimeArray:
    """Seconds from the first sample, ``(n_samples,)``: exact within a run of records, a step at each gap."""
    stamps_s: TimeArray = np.arange(header.n_records * n_per_record) / sfreq
    onsets_s = record_onsets_s(header)
    if onsets_s is None or header.n_records == 0:
        return stamps_s
    # How much later each record starts than it would without any gap.
    late_s = onsets_s - onsets_s[0] - np.arange(header.n_records) * header.record_s
    shifts_s = np.zeros(header.n_records)
    for record in range(1, header.n_records):
        # Onsets are decimals of a few digits: only a step of half a sample or more is a gap.
        step_s = late_s[record] - shifts_s[record - 1]
        if step_s < -0.5 / sfreq:
            raise RecordingError(
                f"{header.path}: record {record} starts at {onsets_s[record]:g} s, before the one "
                "ahead of it ends; the file is damaged: copy it again from its source"
            )
        shifts_s[record] = late_s[record] if step_s > 0.5 / sfreq else shifts_s[record - 1]
    return stamps_s + np.repeat(shifts_s, n_per_record)
