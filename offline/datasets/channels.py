"""Channels by the names that a network knows them by, wherever a file keeps them.

A data set says for each name what stands in its files: a label (``EEG Fpz-Cz``), several to try in turn
(``EEG F4-CLE|EEG F4-LER``), or the difference of two (``EEG F4-CLE - EOG Left Horiz``, with blanks around the
minus).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamscore.edfplus import read_header
from streamscore.errors import RecordingError
from streamscore.recordings import edf
from streamscore.recordings.base import Recording, read_recording

#: EDF under the names that data sets give it.
EDF_SUFFIXES = (".edf", ".bdf", ".rec")


def read_signal(path: Path, channels: Mapping[str, str]) -> Recording:
    """Read the recording at `path` with `channels` only, under their names here and in their order.

    Parameters
    ----------
    path
        A file that :func:`streamscore.recordings.base.read_recording` reads, or EDF called ``.rec``.
    channels
        Name here → what stands in the file; none takes all channels as they are.

    Raises
    ------
    RecordingError
        If the file cannot be read, or a channel is missing or of another rate.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; copy it again, or leave the recording out")
    if path.suffix.lower() not in EDF_SUFFIXES:
        return pick(read_recording(path), channels, path)
    header = read_header(path)
    labels = tuple(header.labels[i] for i in header.ordinary_signals)
    parts = [part for expression in channels.values() for part in _parts(expression, labels, path)]
    return pick(edf.read(path, None, tuple(dict.fromkeys(parts))), channels, path)


def pick(recording: Recording, channels: Mapping[str, str], where: Path | str) -> Recording:
    """Return `recording` with `channels` only; see :func:`read_signal`."""
    if not channels:
        return recording
    columns, units = [], []
    for expression in channels.values():
        parts = [recording.channels.index(label) for label in _parts(expression, recording.channels, where)]
        column = recording.data[:, parts[0]]
        columns.append(column - recording.data[:, parts[1]] if len(parts) == 2 else column)
        units.append(recording.units[parts[0]])
    data = np.stack(columns, axis=1).astype(np.float32)
    return replace(recording, data=data, channels=tuple(channels), units=tuple(units))


def _parts(expression: str, labels: tuple[str, ...], where: Path | str) -> list[str]:
    """Labels of the one or two channels that `expression` names."""
    return [_found(part, labels, where) for part in expression.split(" - ", 1)]


def _found(part: str, labels: tuple[str, ...], where: Path | str) -> str:
    by_name = {label.strip().lower(): label for label in reversed(labels)}
    for choice in part.split("|"):
        if choice.strip().lower() in by_name:
            return by_name[choice.strip().lower()]
    raise RecordingError(
        f"{where}: has no channel {part.strip()!r}; it has {', '.join(labels) or 'none'}; name one of these in "
        f'dataset.json: "channels": {{"NAME": "{labels[0] if labels else "LABEL"}"}} (data check tries it with '
        "--channel)"
    )
