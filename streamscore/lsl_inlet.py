"""One stream of Lab Streaming Layer, kept open: what the sources of signals and of frames share.

liblsl receives on its own threads. This file resolves one stream without guessing, waits natively for its next
sample and takes what else is there, keeps raw stamps and clock offsets, and finds the stream again when its
outlet comes back. The inlet is opened without liblsl's own recovery, because that would hide the loss, and would
wait for ever for an outlet that came back with other channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
from streamscore.types import TimeArray

#: What a stream of frames says of them in its description, under ``frames``.
FRAME_KEYS = ("height", "width", "dtype", "extra")


class Selection(BaseModel):
    """Which stream, and how long to look for it; sources inherit it for their own ``Config``.

    Parameters
    ----------
    name, type, source_id
        Properties that the stream must have; at least one.
    timeout_s
        How long to look for the stream.
    stop_when_lost
        End the run when the outlet disappears (replays), instead of waiting for its return (rigs).
    offset_interval_s
        Time between measurements of the clock offset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    type: str | None = None
    source_id: str | None = None
    timeout_s: float = Field(10.0, gt=0)
    stop_when_lost: bool = False
    offset_interval_s: float = Field(5.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Selection:
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


def describe(info: Any) -> Visible:
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
    return sorted((describe(info) for info in pylsl.resolve_streams(wait_s)), key=str)


def resolve(config: Selection) -> Any:
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
        seen = "\n  ".join(sorted(str(describe(info)) for info in found))
        raise AmbiguousStreamError(
            f"{len(found)} LSL streams have {predicate}:\n  {seen}\n"
            "Add source.name or source.source_id so that one remains"
        )
    return found[0]


@dataclass(frozen=True)
class Format:
    """What must not change when an outlet comes back; `frames` are the values of :data:`FRAME_KEYS`."""

    n_channels: int
    sfreq: float
    labels: tuple[str, ...]
    frames: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.labels[:32]) + (", …" if len(self.labels) > 32 else "")
        frames = " ".join(f"{key}={value}" for key, value in zip(FRAME_KEYS, self.frames, strict=True) if value)
        return f"{self.n_channels} channels ({shown}) at {self.sfreq:g} Hz {frames}".rstrip()


def _read_format(info: Any) -> Format:
    n_channels = info.channel_count()
    labels = [label or "" for label in info.get_channel_labels() or []]
    if len(labels) != n_channels:
        labels = [f"ch{i + 1}" for i in range(n_channels)]
    node = info.desc().child("frames")
    frames = tuple(node.child_value(key) or "" for key in FRAME_KEYS)
    return Format(n_channels, info.nominal_srate(), tuple(labels), frames)


class Inlet:
    """Receive one stream.

    Parameters
    ----------
    config
        Which stream.
    clock
        Local clock.
    buffer_s, replay_buffer_s
        Time for which liblsl keeps samples while the engine is busy: at a rig, and in a fast replay.

    Attributes
    ----------
    format
        Channels and rate, once opened.
    dtype
        Type of its values.
    speed
        Of a replay, as its description tells.
    offset_s
        Measured clock offset: ``stream time = stamp + offset``.
    ended
        True when the outlet disappeared and the run is to end with it.
    """

    #: Samples that one pull takes at most; pulls go on until the stream is drained.
    MAX_SAMPLES = 4096
    #: Values that one pull takes at most from a stream of very many channels.
    MAX_BUFFER_VALUES = 2**24
    #: How long an inlet may take to answer while a stream is opened.
    OPEN_TIMEOUT_S = 5.0

    format: Format
    dtype: np.dtype[Any]
    speed: float
    offset_s: float = 0.0
    ended: bool = False

    def __init__(self, config: Selection, clock: Clock, buffer_s: int = 360, replay_buffer_s: int = 60) -> None:
        self._config = config
        self._clock = clock
        self._buffer_s = buffer_s
        self._replay_buffer_s = replay_buffer_s
        self._inlet: pylsl.StreamInlet | None = None
        self._resolver: pylsl.ContinuousResolver | None = None
        self._refused: set[str] = set()
        self._notices: list[tuple[str, str]] = []
        self._next_offset_s = 0.0

    def open(self) -> Any:
        """Find the stream and return its description (pylsl's).

        Raises
        ------
        SourceError
            If none or several fit, or the one does not answer, carries text or has no regular rate.
        """
        found = resolve(self._config)
        try:
            info = self._new_inlet(found).info(self.OPEN_TIMEOUT_S)
        except (LslTimeoutError, LostError) as error:
            raise SourceError(f"{describe(found)} is visible but does not answer; restart its outlet") from error
        self.format = _read_format(info)
        self.speed = float(info.desc().child("replay").child_value("speed") or 1.0)
        # liblsl's buffer counts nominal seconds, of which a replay sends `speed` in each real one.
        self._buffer_s = max(self._buffer_s, round(self._replay_buffer_s * self.speed))
        self._inlet = self._new_inlet(found)  # the full description has no address to connect to
        if self._inlet.np_dtype is None:
            raise StreamFormatError(f"{describe(info)} carries text, not samples; choose another stream")
        if self.format.sfreq <= 0:
            raise StreamFormatError(
                f"{describe(info)} has no regular rate, so samples cannot be placed in time; "
                "make the outlet declare its rate"
            )
        self.dtype = np.dtype(self._inlet.np_dtype)
        n_rows = max(min(self.MAX_SAMPLES, self.MAX_BUFFER_VALUES // self.format.n_channels), 1)
        self._buffer = np.empty((n_rows, self.format.n_channels), self.dtype)
        self._measure_offset(self.OPEN_TIMEOUT_S)
        return info

    def begin(self) -> int:
        """Connect, and return how many stale samples were thrown away."""
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

    def pull(self, timeout_s: float) -> tuple[Any, TimeArray, float] | None:
        """Wait natively for the first sample, then take what else is there.

        Returns
        -------
        data, stamps_s, received_s
            ``(n_samples, n_channels)`` in the stream's own type, ``(n_samples,)``, and the local clock. The arrays
            belong to the caller. ``None`` if nothing came.
        """
        if self._inlet is None:
            self._find_again(timeout_s)
            return None
        try:
            pulled = self._pull(timeout_s)
        except LostError:
            self._lose()
            return None
        received_s = self._clock.now_s()
        if received_s >= self._next_offset_s:
            self._measure_offset(0.0)
        return None if pulled is None else (*pulled, received_s)

    def close(self) -> None:
        """Let the stream go. May be called more than once."""
        self._inlet = None
        self._resolver = None
        self.ended = True

    def notices(self) -> list[tuple[str, str]]:
        """Return what a person should be told since the last call: pairs of level and text."""
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
        drained: tuple[Any, TimeArray] = self._inlet.pull_chunk(0.0, len(self._buffer), dest_obj=self._buffer)
        return drained

    def _measure_offset(self, timeout_s: float) -> None:
        """Update the clock offset; liblsl measures in the background after the first call."""
        assert self._inlet is not None
        self._next_offset_s = self._clock.now_s() + self._config.offset_interval_s
        try:
            self.offset_s = self._inlet.time_correction(timeout_s)
        except (LslTimeoutError, LostError):
            self._notices.append(("warning", "clock offset could not be measured; the last one is kept"))

    def _lose(self) -> None:
        self._inlet = None
        if self._config.stop_when_lost:
            self.ended = True
            return
        self._notices.append(("error", f"stream {self._config.predicate()} is lost; waiting for its return"))
        self._resolver = pylsl.ContinuousResolver(pred=self._config.predicate(), forget_after=2.0)

    def _find_again(self, timeout_s: float) -> None:
        """Look for the outlet; take it back only when its format is the one the run began with."""
        assert self._resolver is not None
        for info in self._resolver.results():
            if info.uid() in self._refused:
                continue
            inlet = self._new_inlet(info)
            try:
                found = _read_format(inlet.info(1.0))
                if found == self.format:
                    inlet.open_stream(1.0)
                    self._inlet, self._resolver = inlet, None
                    self._next_offset_s = 0.0
                    self._notices.append(("warning", f"stream {self._config.predicate()} is back"))
                    return
            except (LslTimeoutError, LostError):
                continue
            self._refused.add(info.uid())
            self._notices.append(("error", f"stream came back different and is not used: {found}, "
                                           f"the run began with {self.format}"))  # fmt: skip
        self._clock.wait_s(min(timeout_s, 0.1))
