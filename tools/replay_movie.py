"""Play a movie over ZeroMQ or Lab Streaming Layer as if it were the camera.

Frame times keep the spacing of the movie: a frame recorded at `t` says ``t0 + t``, where `t0` is the local clock
at the start, and is sent at ``t0 + t / speed``. Each frame carries the number that the camera would have
counted, so that what was lost in the recording is lost again, and its light where the file tells it. Progress is
told as JSON lines.

Over ZeroMQ the first frame is sent once before the start: receivers learn size and type from it. Who listens
already sees a repeated number and leaves it out. Over LSL the stream's description tells both, and the speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pylsl
import zmq

from streamscore.camera.wire import encode
from streamscore.errors import ConfigError, LoopError
from streamscore.movies.base import Movie
from tools.frames_outlet import FramesOutlet
from tools.replay import LOOP_GAP_S
from tools.sim_rig import say_json

#: Recorded seconds that are read from disk at once.
_BLOCK_S = 0.25
#: Frames that wait in the queue to a receiver.
_QUEUE_FRAMES = 256


@dataclass(frozen=True)
class Options:
    """How to play.

    Parameters
    ----------
    to
        ``zmq`` or ``lsl``.
    endpoint, bind
        Address of the ZeroMQ socket, and whether this end binds it; the receiver does by default.
    pattern
        ``push``, which waits for a slow receiver, or ``pub``, which drops frames for it.
    topic
        Under which ``pub`` publishes, as the first of then three parts.
    name
        Of the camera, or of the LSL stream.
    speed
        Recorded seconds per second.
    loops
        How often to play it; each further round is announced, and a gap precedes it.
    wait_s
        How long to wait for a receiver; 0 starts at once.
    settle_s
        Time between the arrival of the receiver and the first frame, in which it gets ready.
    patience_s
        How long ``push`` waits for a receiver that takes no more frames.
    linger_s
        Time that the socket or outlet stays after the last frame, so that receivers can drain it.
    """

    to: Literal["zmq", "lsl"] = "zmq"
    endpoint: str = "tcp://127.0.0.1:5590"
    bind: bool = False
    pattern: Literal["push", "pub"] = "push"
    topic: str = ""
    name: str = "streamscore-replay"
    speed: float = 1.0
    loops: int = 1
    wait_s: float = 30.0
    settle_s: float = 1.0
    patience_s: float = 10.0
    linger_s: float = 2.0


class Out(Protocol):
    """Where frames go. `place` says where a receiver finds them."""

    place: dict[str, object]

    def wait(self, timeout_s: float) -> bool:
        """Wait for a receiver; return whether there is one."""
        ...

    def send(self, frame: npt.NDArray[Any], number: int, time_s: float, light: int) -> None:
        """Send one frame."""
        ...

    def close(self) -> None: ...


class ZmqOut:
    """Messages as :mod:`streamscore.camera.wire` describes them."""

    def __init__(self, movie: Movie, options: Options) -> None:
        self._movie, self._options = movie, options
        kind = zmq.PUSH if options.pattern == "push" else zmq.XPUB  # XPUB sees who subscribes
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE_FRAMES)
        self._socket.setsockopt(zmq.SNDTIMEO, round(1e3 * options.patience_s))
        self._socket.setsockopt(zmq.LINGER, round(1e3 * options.linger_s))
        try:
            (self._socket.bind if options.bind else self._socket.connect)(options.endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ConfigError(
                f"cannot use endpoint {options.endpoint!r} ({error.strerror}); choose another"
            ) from error
        self.place = {"endpoint": self._socket.getsockopt_string(zmq.LAST_ENDPOINT), "pattern": options.pattern}

    def wait(self, timeout_s: float) -> bool:
        event = zmq.POLLOUT if self._options.pattern == "push" else zmq.POLLIN
        return bool(self._socket.poll(round(1e3 * timeout_s), event))

    def send(self, frame: npt.NDArray[Any], number: int, time_s: float, light: int) -> None:
        tag = self._movie.lights[light] if self._movie.lights else None
        speed = self._options.speed
        parts = encode(
            frame, frame=number, time_s=time_s, channel=tag, camera=self._options.name,
            speed=None if speed == 1.0 else speed,
        )  # fmt: skip
        topic = [self._options.topic.encode()] if self._options.topic else []
        try:
            self._socket.send_multipart([*topic, *parts])
        except zmq.Again as error:
            raise LoopError(
                f"no receiver at {self.place['endpoint']} took a frame for {self._options.patience_s:g} s"
            ) from error

    def close(self) -> None:
        self._socket.close()


class LslOut:
    """A stream with the counter behind the pixels, and the light if it is known."""

    def __init__(self, movie: Movie, options: Options) -> None:
        extra = ["counter", "tag"] if movie.lights else ["counter"]
        self._outlet = FramesOutlet(
            options.name, f"streamscore-replay-{options.name}", movie.frame_shape, movie.dtype, movie.rate_hz,
            extra, speed=options.speed, file=movie.name,
        )  # fmt: skip
        self._linger_s = options.linger_s
        self.place = {"stream": options.name, "counter_bits": self._outlet.counter_bits}

    def wait(self, timeout_s: float) -> bool:
        return self._outlet.wait_for_consumers(timeout_s)

    def send(self, frame: npt.NDArray[Any], number: int, time_s: float, light: int) -> None:
        self._outlet.push(frame, number, light, time_s)

    def close(self) -> None:
        time.sleep(self._linger_s)
        del self._outlet


def play(movie: Movie, options: Options, say: Callable[[dict[str, object]], None] = say_json) -> int:
    """Play `movie`; return the number of frames sent.

    Raises
    ------
    ConfigError
        If the movie cannot go this way, or the endpoint cannot be used.
    LoopError
        If no receiver shows up within ``options.wait_s``, or it takes no more frames.
    """
    out: Out = ZmqOut(movie, options) if options.to == "zmq" else LslOut(movie, options)
    try:
        say({"event": "visible", "to": options.to, **out.place, "speed": options.speed})
        if options.wait_s > 0 and not out.wait(options.wait_s):
            raise LoopError(f"nobody connected to {out.place} within {options.wait_s:g} s")
        n_lights = max(len(movie.lights), 1)
        numbers = movie.numbers
        if options.to == "zmq":
            out.send(movie.read(0, 1)[0], int(numbers[0]), pylsl.local_clock(), int(numbers[0]) % n_lights)
        time.sleep(options.settle_s)
        t0_s = pylsl.local_clock()
        say({"event": "started", "t0_s": t0_s, "origin_s": float(movie.stamps_s[0])})
        round_cycles = -(-int(numbers[-1] + 1) // n_lights) + max(round(LOOP_GAP_S * movie.rate_hz / n_lights), 1)
        round_frames = round_cycles * n_lights
        pause_frames = round_frames - int(numbers[-1] - numbers[0])
        shift_s = float(movie.stamps_s[-1] - movie.stamps_s[0]) + pause_frames / movie.rate_hz
        for loop in range(options.loops):
            if loop:
                say({"event": "loop", "round": loop + 1, "of": options.loops})
            times_s = movie.stamps_s - movie.stamps_s[0] + loop * shift_s
            _send_all(movie, out, times_s, numbers + loop * round_frames, t0_s, options.speed)
        sent = options.loops * movie.n_frames
        say({"event": "finished", "frames": sent, "wall_s": pylsl.local_clock() - t0_s})
    finally:
        out.close()
    return sent


def _send_all(
    movie: Movie,
    out: Out,
    times_s: npt.NDArray[np.float64],
    numbers: npt.NDArray[np.int64],
    t0_s: float,
    speed: float,
) -> None:
    n_lights = max(len(movie.lights), 1)
    block = max(round(_BLOCK_S * movie.rate_hz), 1)
    for start in range(0, movie.n_frames, block):
        for k, frame in enumerate(movie.read(start, start + block), start):
            wait_s = t0_s + float(times_s[k]) / speed - pylsl.local_clock()
            if wait_s > 0:
                time.sleep(wait_s)
            out.send(frame, int(numbers[k]), t0_s + float(times_s[k]), int(numbers[k]) % n_lights)
