"""Frames of a camera over ZeroMQ, from any program that sends two byte strings; see
:mod:`streamscore.camera.wire`.

libzmq receives on its own thread into a queue of bounded length and bounded messages; a full queue makes a PUSH
camera wait and a PUB camera lose frames, which their counters tell. The pixels go from the message straight to
where samples are gathered. A message that is no frame, or a frame unlike the first one, is counted, told and left
out: what is missing then is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import zmq
from pydantic import Field

from streamscore.camera.assembler import Assembler
from streamscore.camera.backlog import Backlog
from streamscore.camera.complaints import Complaints
from streamscore.camera.config import CameraConfig
from streamscore.camera.device_clock import DeviceClock
from streamscore.camera.frame import RawFrame
from streamscore.camera.wire import MAX_FRAME_BYTES, FrameError, decode, parse_header
from streamscore.clock import Clock
from streamscore.errors import ConfigError, StreamNotFoundError
from streamscore.sources.base import Source, select_channels
from streamscore.types import Chunk, StreamInfo


class Config(CameraConfig):
    """Where frames come from; the rest describes the camera, see :class:`CameraConfig`.

    Parameters
    ----------
    endpoint
        Address of the socket; port ``*`` lets the system choose one (with `bind`).
    pattern
        ``pull`` from a PUSH socket, where no frame is lost on the way; ``sub`` from a PUB socket.
    bind
        Whether this end binds and the camera connects, or the other way round.
    topic
        Topic that the camera publishes under, which is then the first of three parts; ``sub`` only.
    channels
        Input name of the bundle → light.
    high_water_mark
        Frames of each connection that wait in the queue at most.
    max_frame_bytes
        Longest message that is received; times `high_water_mark` it is the memory that the queue can take.
    timeout_s
        How long to wait for the first frame.
    stop_when_silent_s
        End the run after so long without a frame (replays), instead of waiting for its return (rigs).
    """

    kind: Literal["zmq_frames"] = "zmq_frames"
    endpoint: str = "tcp://127.0.0.1:5590"
    pattern: Literal["pull", "sub"] = "pull"
    bind: bool = True
    topic: str = ""
    channels: dict[str, str] | None = None
    high_water_mark: int = Field(64, ge=1, le=100_000)
    max_frame_bytes: int = Field(2**23, ge=2**16, le=MAX_FRAME_BYTES)
    timeout_s: float = Field(10.0, gt=0)
    stop_when_silent_s: float | None = Field(None, gt=0)


class ZmqFramesSource(Source):
    """Read one camera.

    Attributes
    ----------
    endpoint
        Where the socket really is, once opened.
    """

    #: Frames that one read takes at most, so that the engine is never away for long.
    MAX_FRAMES = Assembler.MAX_FRAMES
    #: A frame that came later than this into an empty queue is fresh; a queue that is being filled is not empty.
    LEAST_WAIT_MS = 1
    #: Longest time for which stale frames are thrown away.
    FLUSH_S = 2.0
    #: Messages looked at for a first frame.
    MAX_TRIES = 1000
    #: Silence after which a connection is made anew. libzmq itself gives a peer up that sent too large a message.
    RECONNECT_S = 2.0

    endpoint: str = ""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._socket: zmq.Socket[bytes] | None = None
        self._device_clock = DeviceClock(config.rate_hz, config.counter_bits)
        self._backlog = Backlog()
        self._complaints = Complaints(clock.now_s)
        self._assembler: Assembler | None = None
        self._silent_s = self._since_connect_s = 0.0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        config = self._config
        names, self._columns = select_channels("camera", config.lights, wanted, config.channels)
        self._socket = self._make_socket()
        first, self._speed = self._first_frame()
        self._like = first.data.shape, first.data.dtype, math.isfinite(first.device_s)
        height, width = first.data.shape
        self._assembler = Assembler(config, (height, width), first.data.dtype)
        self._assembler.check(first)
        layout = self._assembler.layout
        return StreamInfo(
            name=f"camera at {self.endpoint}",
            sfreq=layout.sfreq,
            channels=names,
            units=("",) * len(names),
            speed=self._speed,
            frame_shape=layout.frame_shape,
            full_scale=self._assembler.full_scale,
        )

    def begin(self) -> int:
        assert self._socket is not None, "open() comes before begin()"
        n_frames = 0
        half_a_frame_ms = max(round(500.0 / self._config.rate_hz), 1)
        end_s = self._clock.now_s() + self.FLUSH_S
        # What waits here is stale, and so is what a camera that had to wait holds: it comes at once, and not at
        # the pace of frames.
        while self._clock.now_s() < end_s:
            while self._receive() is not None:
                n_frames += 1
            if not self._socket.poll(half_a_frame_ms, zmq.POLLIN):
                break
        return n_frames // len(self._config.lights)

    def read(self, timeout_s: float) -> Chunk | None:
        assert self._assembler is not None, "open() comes before read()"
        if self._socket is None:
            return None
        waited = False
        if not self._assembler.n_waiting:  # a sample that the last read left is not kept waiting
            waited = timeout_s > 1e-3 * self.LEAST_WAIT_MS and not self._socket.poll(self.LEAST_WAIT_MS)
            if not self._wait(timeout_s):
                return None
        chunk = self._take_frames(self._assembler, waited)
        if chunk is None or self._columns == list(range(len(self._config.lights))):
            return chunk
        return replace(chunk, data=chunk.data[:, self._columns])

    def _take_frames(self, assembler: Assembler, waited: bool) -> Chunk | None:
        """Take what is there, up to a step of the camera's clock: a chunk has one offset."""
        clock = self._device_clock
        offset_s, fresh, chunk = clock.offset_s, False, None
        for _ in range(self.MAX_FRAMES):
            if chunk is not None or (parts := self._receive()) is None:
                break
            fresh = waited and not self._is_there()
            frame = self._decode(parts, fresh)
            if frame is None:
                continue
            if (
                self._speed == 1.0
            ):  # the times of a replay run at another pace than this clock, from the same start
                clock.add(frame.device_s, frame.received_s, frame.counter, fresh=fresh)
            if abs(clock.offset_s - offset_s) > clock.STEP_S:
                chunk, offset_s = assembler.take(offset_s, frame.received_s), clock.offset_s
            assembler.push(frame)
        now_s = self._clock.now_s()
        chunk = chunk or assembler.take(clock.offset_s, now_s)
        if chunk is not None and self._speed == 1.0:
            self._backlog.add(now_s - float(chunk.stamps_s[-1]) - chunk.clock_offset_s, now_s, fresh)
        return chunk

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.ended = True

    def notices(self) -> list[tuple[str, str]]:
        ours = self._complaints.notices() + self._device_clock.notices() + self._backlog.notices()
        return ours + (self._assembler.notices() if self._assembler else [])

    @property
    def counters(self) -> dict[str, int]:
        """Messages that were left out, by cause, and what the lights' order found."""
        refused = {f"refused_{cause}": n for cause, n in sorted(self._complaints.counts.items())}
        return refused | (self._assembler.counters if self._assembler else {})

    def _make_socket(self) -> zmq.Socket[bytes]:
        config = self._config
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(
            zmq.PULL if config.pattern == "pull" else zmq.SUB
        )
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, config.high_water_mark)
        socket.setsockopt(zmq.MAXMSGSIZE, config.max_frame_bytes)
        if config.pattern == "sub":
            socket.setsockopt(zmq.SUBSCRIBE, config.topic.encode())
        try:
            (socket.bind if config.bind else socket.connect)(config.endpoint)
        except zmq.ZMQError as error:
            socket.close()
            what = "bind" if config.bind else "connect to"
            raise ConfigError(
                f"source: zmq_frames cannot {what} {config.endpoint!r} ({error.strerror}); "
                "choose another endpoint, or let the other end bind (bind: true or false)"
            ) from error
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        return socket

    def _first_frame(self) -> tuple[RawFrame, float]:
        """Wait for a frame, from which shape and type are learnt; return it with the speed of a replay."""
        config = self._config
        end_s = self._clock.now_s() + config.timeout_s
        refusal = "no message came at all"
        for _ in range(self.MAX_TRIES):
            parts = self._receive() if self._wait(max(end_s - self._clock.now_s(), 0.0)) else None
            if parts is None:
                break
            try:
                frame = decode(self._strip_topic(parts), self._clock.now_s())
                return frame, parse_header(self._strip_topic(parts)[0]).speed
            except FrameError as error:
                refusal = f"messages came, but {error}"
        self.close()
        here, there = ("bound", "connect to it") if config.bind else ("connected", "be bound there")
        partner = "PUSH" if config.pattern == "pull" else "PUB"
        topic = f" and publish under {config.topic!r}" if config.topic else ""
        raise StreamNotFoundError(
            f"no frame from a camera within {config.timeout_s:g} s: {refusal}.\n"
            f"This end is {here} at {self.endpoint} with pattern {config.pattern!r}: the camera must {there} "
            f"with a {partner} socket{topic}, and must be running. Frames of more than "
            f"{config.max_frame_bytes} bytes need a larger max_frame_bytes. docs/cameras.md shows a sender to try"
        )

    def _wait(self, timeout_s: float) -> bool:
        """Wait natively for a message; note how long there was none."""
        assert self._socket is not None
        if self._socket.poll(math.ceil(1e3 * timeout_s), zmq.POLLIN):
            self._silent_s = self._since_connect_s = 0.0
            return True
        self._silent_s += timeout_s
        self._since_connect_s += timeout_s
        limit_s = self._config.stop_when_silent_s
        self.ended |= limit_s is not None and self._silent_s >= limit_s
        if not self._config.bind and self._since_connect_s >= self.RECONNECT_S:
            self._since_connect_s = 0.0
            self._socket.disconnect(self.endpoint)
            self._socket.connect(self.endpoint)
        return False

    def _is_there(self) -> bool:
        """Whether a message waits to be taken."""
        assert self._socket is not None
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def _receive(self) -> list[memoryview] | None:
        """Take the parts of one message, without a copy; ``None`` if there is none."""
        assert self._socket is not None, "open() comes first"
        try:
            return [part.buffer for part in self._socket.recv_multipart(zmq.NOBLOCK, copy=False)]
        except zmq.Again:
            return None

    def _strip_topic(self, parts: list[memoryview]) -> list[memoryview]:
        return parts[1:] if self._config.topic else parts

    def _decode(self, parts: list[memoryview], fresh: bool) -> RawFrame | None:
        """Return the frame of a message; ``None`` if it is left out."""
        try:
            frame = decode(self._strip_topic(parts), self._clock.now_s())
            self._check_like_first(frame)
        except FrameError as error:
            self._complaints.add(error.cause, "error", f"a message from the camera is left out: {error}")
            return None
        return frame if fresh else replace(frame, fresh=False)

    def _check_like_first(self, frame: RawFrame) -> None:
        """Frames of another size, type or way of telling time are not samples of this stream."""
        like = frame.data.shape, frame.data.dtype, math.isfinite(frame.device_s)
        if like != self._like:
            raise FrameError(
                "changed",
                f"frames are now {_describe(*like)}, and the run began with {_describe(*self._like)}; "
                "set the camera back, or start the run anew",
            )


def _describe(shape: tuple[int, ...], dtype: object, has_time: bool) -> str:
    return f"{shape[0]} x {shape[1]} {dtype} {'with' if has_time else 'without'} time_s"


def build(config: Config, clock: Clock) -> ZmqFramesSource:
    """Return the source; the network is touched by ``open``."""
    return ZmqFramesSource(config, clock)
