"""A recorded file as a stream, paced at its own rate, faster, or as fast as possible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.clock import Clock
from streamscore.recordings.base import Recording, read_recording
from streamscore.sources.base import Pacer, Source, select_channels
from streamscore.types import Chunk, StreamInfo


class Config(BaseModel):
    """Arguments of :class:`FileSource`.

    Parameters
    ----------
    path
        Recording, see :mod:`streamscore.recordings`.
    stream
        Name of the stream inside a file that holds several.
    channels
        Input name → channel label of the file.
    speed
        Stream seconds per second; 0 plays as fast as possible.
    chunk_s
        Stream seconds per chunk at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["file"] = "file"
    path: Path
    stream: str | None = None
    channels: dict[str, str] | None = None
    speed: float = Field(1.0, ge=0)
    chunk_s: float = Field(0.1, gt=0)


class FileSource(Source):
    """Play one stream of a recording once. Its stamps keep their spacing; gaps stay gaps.

    Parameters
    ----------
    recording
        What to play, where it is in memory already; else it is read from the path.

    Attributes
    ----------
    recording
        The recording, once opened.
    """

    recording: Recording

    def __init__(self, config: Config, clock: Clock, recording: Recording | None = None) -> None:
        self._config = config
        self._given = recording
        self._clock = clock
        self._pacer = Pacer(clock, config.speed)
        self._at = 0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        recording = self._given or read_recording(self._config.path, self._config.stream)
        self.recording = recording
        names, columns = select_channels(recording.name, recording.channels, wanted, self._config.channels)
        takes_all = columns == list(range(recording.data.shape[1]))  # a night as it is needs no copy
        self._data = np.ascontiguousarray(recording.data if takes_all else recording.data[:, columns])
        self._stamps_s = recording.stamps_s
        self._offsets = recording.clock_offsets
        self._chunk_samples = max(round(self._config.chunk_s * recording.sfreq), 1)
        units = tuple(recording.units[c] for c in columns)
        return StreamInfo(recording.name, recording.sfreq, names, units, speed=self._config.speed)

    def begin(self) -> int:
        # A paced file starts now; an unpaced one keeps the times that it was recorded with.
        self._pacer.begin()
        if self._pacer.speed and len(self._stamps_s):
            self._stamps_s = self._stamps_s - self._stamps_s[0] + self._pacer.t0_s
            self._offsets = np.zeros((0, 2))
        return 0

    def read(self, timeout_s: float) -> Chunk | None:
        stamps_s = self._stamps_s[self._at : self._at + self._chunk_samples]
        n = self._pacer.due_count(stamps_s, timeout_s)
        data = self._data[self._at : self._at + n]
        self._at += n
        self.ended = self._at >= len(self._data)
        if n == 0:
            return None
        return Chunk(data, stamps_s[:n], self._offset_s(float(stamps_s[0])), self._clock.now_s())

    def close(self) -> None:
        self.ended = True

    @property
    def offset_s(self) -> float:
        """Clock offset of the first sample."""
        return self._offset_s(float(self._stamps_s[0])) if len(self._stamps_s) else 0.0

    def _offset_s(self, stamp_s: float) -> float:
        """Last clock offset that was measured before `stamp_s`, as the engine had it then."""
        if len(self._offsets) == 0:
            return 0.0
        row = max(int(self._offsets[:, 0].searchsorted(stamp_s, side="right")) - 1, 0)
        return float(self._offsets[row, 1])


def build(config: Config, clock: Clock) -> FileSource:
    """Return the source; the file is opened by ``open``."""
    return FileSource(config, clock)
