"""A Lab Streaming Layer stream.

liblsl receives on its own threads. This file resolves one stream without guessing, waits natively for its next
sample and takes what else is there, keeps raw stamps and clock offsets, and finds the stream again when its
outlet comes back. The inlet is opened without liblsl's own recovery, because that would hide the loss, and would
wait for ever for an outlet that came back with other channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pylsl
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pylsl.util import LostError
from pylsl.util import TimeoutError as LslTimeoutError

from streamscore.clock import Clock
from streamscore.errors import (
    AmbiguousStreamError,
    ConfigError,
    SourceError,
    StreamFormatError,
    StreamNotFoundError,
)
from streamscore.sources.base import Source, select_channels
from streamscore.types import Chunk, StreamInfo, TimeArray


class Config(BaseModel):
    """Which stream, and how long to look for it.

    Parameters
    ----------
    name, type, source_id
        Properties that the stream must have; at least one.
    channels
        Input name → channel label of the stream. Without it, labels must equal the bundle's input names.
    timeout_s
        How long to look for the stream.
    stop_when_lost
        End the run when the outlet disappears (replays), instead of waiting for its return (rigs).
    offset_interval_s
        Time between measurements of the clock offset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lsl"] = "lsl"
    name: str | None = None
    type: str | None = None
    source_id: str | None = None
    channels: dict[str, str] | None = None
    timeout_s: float = Field(10.0, gt=0)
    stop_when_lost: bool = False
    offset_interval_s: float = Field(5.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if not (self.name or self.type or self.source_id):
            raise ValueError("say which LSL stream: give name, type or source_id")
        return self

    def predicate(self) -> str:
        """XPath condition for liblsl's resolver."""
        wanted = {"name": self.name, "type": self.type, "source_id": self.source_id}
        return " and ".join(f"{key}={_quoted(value)}" for key, value in wanted.items() if value)


def _quoted(value: str) -> str:
    if "'" in value and '"' in value:
        raise ConfigError(f"LSL cannot look for {value!r}: it holds both kinds of quotation mark")
    return f'"{value}"' if "'" in value else f"'{value}'"


@dataclass(frozen=True)
class Visible:
    """A stream that can be seen on the network."""

    name: str
    type: str
    source_id: str
    n_channels: int
    sfreq: float
    host: str

    def __str__(self) -> str:
        return (
            f"name={self.name!r} type={self.type!r} source_id={self.source_id!r} "
            f"({self.n_channels} channels, {self.sfreq:g} Hz, on {self.host})"
        )


def _describe(info: Any) -> Visible:
    return Visible(
        info.name(),
        info.type(),
        info.source_id(),
        info.channel_count(),
        info.nominal_srate(),
        info.hostname(),
    )


def visible_streams(wait_s: float = 1.0) -> list[Visible]:
    """Return the streams that answer within `wait_s`."""
    return sorted((_describe(info) for info in pylsl.resolve_streams(wait_s)), key=str)


def resolve(config: Config) -> Any:
    """Find the one stream that fits.

    Raises
    ------
    StreamNotFoundError
        If none shows up in time; lists what is visible.
    AmbiguousStreamError
        If several fit; lists them.
    """
    predicate = config.predicate()
    remaining_s = config.timeout_s
    found: list[Any] = []
    while not found and remaining_s > 0:
        # Asking for two makes liblsl wait the full second, so that a second candidate is seen.
        wait_s = min(remaining_s, 1.0)
        found = pylsl.resolve_bypred(predicate, minimum=2, timeout=wait_s)
        remaining_s -= wait_s
    if not found:
        seen = "\n  ".join(map(str, visible_streams())) or "(none)"
        raise StreamNotFoundError(
            f"no LSL stream with {predicate} within {config.timeout_s:g} s. Visible streams:\n  {seen}\n"
            "Start the outlet, or correct source.name, source.type or source.source_id in the rig file"
        )
    if len(found) > 1:
        seen = "\n  ".join(sorted(str(_describe(info)) for info in found))
        raise AmbiguousStreamError(
            f"{len(found)} LSL streams have {predicate}:\n  {seen}\n"
            "Add source.name or source.source_id so that one remains"
        )
    return found[0]


@dataclass(frozen=True)
class _Format:
    """What must not change when an outlet comes back."""

    n_channels: int
    sfreq: float
    labels: tuple[str, ...]


def _read_format(info: Any) -> _Format:
    n_channels = info.channel_count()
    labels = [label or "" for label in info.get_channel_labels() or []]
    if len(labels) != n_channels:
        labels = [f"ch{i + 1}" for i in range(n_channels)]
    return _Format(n_channels, info.nominal_srate(), tuple(labels))


class LslSource(Source):
    """Read one LSL stream.

    The channels of a stream without labels are called ch1, ch2 and so on.
    """

    #: Samples that one read takes at most; reads go on until the stream is drained.
    MAX_SAMPLES = 4096
    #: Time for which liblsl keeps samples while the engine is busy: at a rig, and in a fast replay.
    BUFFER_S, REPLAY_BUFFER_S = 360, 60
    #: How long an inlet may take to answer while a stream is opened.
    OPEN_TIMEOUT_S = 5.0

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._inlet: pylsl.StreamInlet | None = None
        self._resolver: pylsl.ContinuousResolver | None = None
        self._refused: set[str] = set()
        self._notices: list[tuple[str, str]] = []
        self._buffer_s = self.BUFFER_S
        self._offset_s = 0.0
        self._next_offset_s = 0.0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        found = resolve(self._config)
        try:
            info = self._new_inlet(found).info(self.OPEN_TIMEOUT_S)
        except (LslTimeoutError, LostError) as error:
            raise SourceError(f"{_describe(found)} is visible but does not answer; restart its outlet") from error
        self._format = _read_format(info)
        speed = float(info.desc().child("replay").child_value("speed") or 1.0)
        # liblsl's buffer counts nominal seconds, of which a replay sends `speed` in each real one.
        self._buffer_s = max(self.BUFFER_S, round(self.REPLAY_BUFFER_S * speed))
        self._inlet = self._new_inlet(found)  # the full description has no address to connect to
        if self._inlet.np_dtype is None:
            raise StreamFormatError(f"{_describe(info)} carries text, not samples; choose another stream")
        if self._format.sfreq <= 0:
            raise StreamFormatError(
                f"{_describe(info)} has no regular rate, so samples cannot be placed in time; "
                "make the outlet declare its rate"
            )
        labels = self._format.labels
        names, columns = select_channels(info.name(), labels, wanted, self._config.channels)
        self._columns = None if columns == list(range(len(labels))) else np.array(columns)
        all_units = [unit or "" for unit in info.get_channel_units() or []] or [""] * len(labels)
        self._buffer = np.empty((self.MAX_SAMPLES, self._format.n_channels), self._inlet.np_dtype)
        self._measure_offset(self.OPEN_TIMEOUT_S)
        return StreamInfo(
            name=info.name(),
            sfreq=self._format.sfreq,
            channels=names,
            units=tuple(all_units[c] for c in columns),
            source_id=info.source_id(),
            speed=speed,
        )

    def begin(self) -> int:
        assert self._inlet is not None, "open() comes before begin()"
        try:
            self._inlet.open_stream(self.OPEN_TIMEOUT_S)
        except (LslTimeoutError, LostError) as error:
            raise SourceError(
                f"stream {self._config.predicate()} went away while it was being opened; restart its outlet"
            ) from error
        n_stale = 0
        while n := len(self._drain()[1]):
            n_stale += n
        return n_stale

    def read(self, timeout_s: float) -> Chunk | None:
        if self._inlet is None:
            return self._find_again(timeout_s)
        try:
            pulled = self._pull(timeout_s)
        except LostError:
            self._lose()
            return None
        received_s = self._clock.now_s()
        if received_s >= self._next_offset_s:
            self._measure_offset(0.0)
        if pulled is None:
            return None
        data, stamps_s = pulled
        if self._columns is not None:
            data = data[:, self._columns]
        return Chunk(data.astype(np.float32, copy=False), stamps_s, self._offset_s, received_s)

    def close(self) -> None:
        self._inlet = None
        self._resolver = None
        self.ended = True

    def notices(self) -> list[tuple[str, str]]:
        told, self._notices = self._notices, []
        return told

    def _new_inlet(self, info: Any) -> pylsl.StreamInlet:
        return pylsl.StreamInlet(info, max_buflen=self._buffer_s, recover=False, as_numpy=True)

    def _pull(self, timeout_s: float) -> tuple[Any, TimeArray] | None:
        """Wait natively for the first sample, then take what else is there; the arrays belong to the caller."""
        assert self._inlet is not None
        # Asking for a chunk costs several times as much as asking for the one sample that there mostly is.
        sample, stamp_s = self._inlet.pull_sample(timeout_s)
        if sample is None:
            return None
        data, stamps_s = sample[None], np.array([stamp_s])
        if self._inlet.samples_available():
            more, more_stamps_s = self._drain()
            data, stamps_s = np.concatenate((data, more)), np.concatenate((stamps_s, more_stamps_s))
        return data, stamps_s

    def _drain(self) -> tuple[Any, TimeArray]:
        """Take what is there, into the buffer."""
        assert self._inlet is not None
        drained: tuple[Any, TimeArray] = self._inlet.pull_chunk(0.0, self.MAX_SAMPLES, dest_obj=self._buffer)
        return drained

    def _measure_offset(self, timeout_s: float) -> None:
        """Update the clock offset; liblsl measures in the background after the first call."""
        assert self._inlet is not None
        self._next_offset_s = self._clock.now_s() + self._config.offset_interval_s
        try:
            self._offset_s = self._inlet.time_correction(timeout_s)
        except (LslTimeoutError, LostError):
            self._notices.append(("warning", "clock offset could not be measured; the last one is kept"))

    def _lose(self) -> None:
        self._inlet = None
        if self._config.stop_when_lost:
            self.ended = True
            return
        self._notices.append(("error", f"stream {self._config.predicate()} is lost; waiting for its return"))
        self._resolver = pylsl.ContinuousResolver(pred=self._config.predicate(), forget_after=2.0)

    def _find_again(self, timeout_s: float) -> Chunk | None:
        """Look for the outlet; take it back only when its format is the one the run began with."""
        assert self._resolver is not None
        for info in self._resolver.results():
            if info.uid() in self._refused:
                continue
            inlet = self._new_inlet(info)
            try:
                found = _read_format(inlet.info(1.0))
                if found == self._format:
                    inlet.open_stream(1.0)
                    self._inlet, self._resolver = inlet, None
                    self._next_offset_s = 0.0
                    self._notices.append(("warning", f"stream {self._config.predicate()} is back"))
                    return None
            except (LslTimeoutError, LostError):
                continue
            self._refused.add(info.uid())
            self._notices.append(("error", f"stream came back different and is not used: {found}, "
                                           f"the run began with {self._format}"))  # fmt: skip
        self._clock.wait_s(min(timeout_s, 0.1))
        return None


def build(config: Config, clock: Clock) -> LslSource:
    """Return the source; the network is touched by ``open``."""
    return LslSource(config, clock)
