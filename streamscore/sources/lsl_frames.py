"""Frames of a camera over Lab Streaming Layer: one sample is one frame, flattened row by row.

The stream's description says how to fold it (``desc/frames``)::

    <frames>
      <height>128</height> <width>128</width>
      <dtype>uint16</dtype>        the pixels' real type; LSL itself has no unsigned ones and sends them as int16
      <extra>counter,tag</extra>   channels behind the pixels: the camera's counter, and the number of the light
    </frames>

Lights are numbered from 0 in the order of the rig file, unless its `tags` say otherwise.

`height` and `width` are needed; without `dtype` the pixels are what LSL says. Stamps are on the sender's clock,
whose offset liblsl measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from streamscore.camera.assembler import Assembler
from streamscore.camera.complaints import Complaints
from streamscore.camera.config import CameraConfig
from streamscore.camera.frame import RawFrame
from streamscore.camera.wire import DTYPES, MAX_COUNTER, MAX_EDGE
from streamscore.clock import Clock
from streamscore.errors import StreamFormatError
from streamscore.lsl_inlet import Inlet, Selection
from streamscore.sources.base import Source, select_channels
from streamscore.types import Chunk, StreamInfo

EXTRA = ("counter", "tag")


class Config(Selection, CameraConfig):
    """Which stream (:class:`Selection`) of which camera (:class:`CameraConfig`).

    Parameters
    ----------
    channels
        Input name of the bundle → light.
    """

    kind: Literal["lsl_frames"] = "lsl_frames"
    channels: dict[str, str] | None = None


class LslFramesSource(Source):
    """Read one camera."""

    #: Time for which liblsl keeps frames while the engine is busy; they are large.
    BUFFER_S = 10
    #: The rate that the stream declares may differ from the rig file's by this part.
    RATE_TOLERANCE = 0.01

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._inlet = Inlet(config, clock, self.BUFFER_S, self.BUFFER_S)
        self._complaints = Complaints(clock.now_s)
        self._assembler: Assembler | None = None

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        config = self._config
        info = self._inlet.open()
        name = info.name()
        declared = self._inlet.format
        self._shape, self._dtype, self._extra = read_frames_node(name, declared.frames, self._inlet.dtype)
        n_pixels = self._shape[0] * self._shape[1]
        if declared.n_channels != n_pixels + len(self._extra):
            raise StreamFormatError(
                f"stream {name!r} has {declared.n_channels} channels, but its description says {self._shape[0]} x "
                f"{self._shape[1]} pixels and {len(self._extra)} further channels, which are "
                f"{n_pixels + len(self._extra)}; correct desc/frames of the outlet"
            )
        if abs(declared.sfreq / config.rate_hz - 1.0) > self.RATE_TOLERANCE:
            raise StreamFormatError(
                f"stream {name!r} declares {declared.sfreq:g} frames a second, and source.rate_hz is "
                f"{config.rate_hz:g}; both are those of the camera, all lights together"
            )
        names, self._columns = select_channels(name, config.lights, wanted, config.channels)
        self._assembler = Assembler(config, self._shape, self._dtype, self._inlet.MAX_SAMPLES + 1)
        # A frame as the description promises them, to see whether the lights can be told apart.
        counter, tag = (0 if name in self._extra else None for name in EXTRA)
        if tag is None or not config.tags:
            self._assembler.check(RawFrame(np.zeros(self._shape, self._dtype), 0.0, counter, self._tag(tag), 0.0))
        layout = self._assembler.layout
        return StreamInfo(
            name=name,
            sfreq=layout.sfreq,
            channels=names,
            units=("",) * len(names),
            source_id=info.source_id(),
            speed=self._inlet.speed,
            frame_shape=layout.frame_shape,
            full_scale=self._assembler.full_scale,
        )

    def begin(self) -> int:
        return self._inlet.begin() // len(self._config.lights)

    def read(self, timeout_s: float) -> Chunk | None:
        assert self._assembler is not None, "open() comes before read()"
        pulled = self._inlet.pull(timeout_s)
        self.ended = self._inlet.ended
        if pulled is None:
            return None
        data, stamps_s, received_s = pulled
        height, width = self._shape
        data = data.view(self._dtype)
        extra = data[:, height * width :].tolist()
        for i, stamp_s in enumerate(stamps_s.tolist()):
            try:
                numbers = dict(zip(self._extra, map(_whole, extra[i]), strict=True))
            except ValueError as error:
                self._complaints.add("extra", "error", f"a frame is left out: its counter or tag is {error}")
                continue
            frame = data[i, : height * width].reshape(height, width)
            tag = self._tag(numbers.get("tag"))
            self._assembler.push(RawFrame(frame, stamp_s, numbers.get("counter"), tag, received_s))
        chunk = self._assembler.take(self._inlet.offset_s, received_s)
        if chunk is None or self._columns == list(range(len(self._config.lights))):
            return chunk
        return replace(chunk, data=chunk.data[:, self._columns])

    def close(self) -> None:
        self._inlet.close()
        self.ended = True

    def notices(self) -> list[tuple[str, str]]:
        ours = self._inlet.notices() + self._complaints.notices()
        return ours + (self._assembler.notices() if self._assembler else [])

    def _tag(self, number: int | None) -> str | int | None:
        """Number of a light → its name, unless the rig file says itself what the numbers mean."""
        lights = self._config.lights
        return lights[number] if number is not None and not self._config.tags and number < len(lights) else number

    @property
    def counters(self) -> dict[str, int]:
        """Frames that were left out, by cause, and what the lights' order found."""
        refused = {f"refused_{cause}": n for cause, n in self._complaints.counts.items()}
        return refused | (self._assembler.counters if self._assembler else {})


def read_frames_node(
    name: str, frames: Sequence[str], sent: np.dtype[Any]
) -> tuple[tuple[int, int], np.dtype[Any], tuple[str, ...]]:
    """Read how samples are folded to frames.

    Parameters
    ----------
    name
        Of the stream, for messages.
    frames
        Values of :data:`streamscore.lsl_inlet.FRAME_KEYS`.
    sent
        Type of LSL's samples.

    Returns
    -------
    shape, dtype, extra
        ``(height, width)``, type of the pixels, names of the channels behind them.

    Raises
    ------
    StreamFormatError
        Saying what the description lacks.
    """
    height, width, dtype_name, extra_names = frames
    if not (_is_edge(height) and _is_edge(width)):
        raise StreamFormatError(
            f"stream {name!r} does not say how to fold its samples to frames: desc/frames/height is {height!r} "
            f"and width is {width!r}, each must be 1 to {MAX_EDGE}; docs/cameras.md shows the description"
        )
    dtype = DTYPES.get(dtype_name) if dtype_name else sent
    if dtype is None or dtype.itemsize != sent.itemsize or (dtype.kind == "f") != (sent.kind == "f"):
        raise StreamFormatError(
            f"stream {name!r} sends {sent.name}, which cannot be the {dtype_name!r} of its desc/frames/dtype"
        )
    extra = tuple(filter(None, (word.strip() for word in extra_names.split(","))))
    if len(set(extra)) < len(extra) or not set(extra) <= set(EXTRA):
        raise StreamFormatError(
            f"stream {name!r}: desc/frames/extra is {extra_names!r}; it may name {' and '.join(EXTRA)}, each once"
        )
    return (int(height), int(width)), dtype, extra


def _is_edge(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_EDGE


def _whole(value: float) -> int:
    """Check a number that stands behind the pixels."""
    if not 0 <= value <= MAX_COUNTER or value != int(value):
        raise ValueError(f"{value!r}")
    return int(value)


def build(config: Config, clock: Clock) -> LslFramesSource:
    """Return the source; the network is touched by ``open``."""
    return LslFramesSource(config, clock)
