"""A simulated camera: frames with everything that goes wrong on the way from a real one.

:func:`shots` decides when each frame is exposed, when it leaves, what is written on it, and which frames are
lost; it needs neither a clock nor a network, and gives the same for the same seed. :func:`run` sends them over
ZeroMQ or LSL at their times. Progress is told as JSON lines on standard output, as by the simulated rig.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from threading import Event as StopFlag
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import zmq

from streamscore.camera.wire import encode
from streamscore.clock import Clock, LslClock
from streamscore.errors import ConfigError
from tools.frames_outlet import FramesOutlet
from tools.sim_rig import say_json


@dataclass(frozen=True)
class Options:
    """What the camera is like, and what befalls its frames.

    Parameters
    ----------
    rate_hz
        Frames a second, under all lights together.
    lights
        In the order in which they flash.
    duration_s
        0 never ends.
    tags
        Whether each frame carries the name of its light (over LSL its number).
    counted, timed
        Whether frames carry a counter and a device time.
    counter_start, counter_bits
        First value of the counter, and after how many bits it wraps.
    clock_offset_s, drift_ppm
        Device time is ``(t - clock_offset_s) / (1 + drift_ppm / 1e6)``.
    delay_s, jitter_s
        Least time from exposure to sending, and the mean of an exponential one on top.
    burst_every_s, burst_s
        As often as the first (0: never), frames are held back for the second and then sent all at once.
    loss, loss_run
        Part of the frames that is lost, in runs of this mean length.
    seed
        Of jitter and losses.
    to, endpoint, bind, topic
        ``push``, ``pub`` or ``lsl``; for ZeroMQ the address, who binds, and the topic of ``pub``.
    name
        Of the camera, and of the LSL stream.
    wait_s
        How long to wait for somebody to take frames before the first; 0: not. PUB cannot tell, and does not wait.
    """

    rate_hz: float = 67.2
    lights: tuple[str, ...] = (
        "fluorescence_470", "reflectance_523", "reflectance_595", "reflectance_640")  # fmt: skip
    duration_s: float = 0.0
    tags: bool = True
    counted: bool = True
    timed: bool = True
    counter_start: int = 0
    counter_bits: int | None = None
    clock_offset_s: float = 0.0
    drift_ppm: float = 0.0
    delay_s: float = 2e-3
    jitter_s: float = 0.0
    burst_every_s: float = 0.0
    burst_s: float = 0.08
    loss: float = 0.0
    loss_run: float = 1.0
    seed: int = 0
    to: Literal["push", "pub", "lsl"] = "push"
    endpoint: str = "tcp://127.0.0.1:5590"
    bind: bool = False
    topic: str = ""
    name: str = "simulated-camera"
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame on its way.

    Parameters
    ----------
    index
        Number of the frame, from 0, losses counted.
    data
        ``(height, width)``.
    exposed_s, due_s
        Local clock at exposure, and at which it leaves.
    device_s, counter, tag
        What is written on it; ``None`` where the camera does not.
    light
        Number of its light.
    lost
        Whether it never leaves.
    """

    index: int
    data: npt.NDArray[Any]
    exposed_s: float
    due_s: float
    device_s: float | None
    counter: int | None
    tag: str | None
    light: int
    lost: bool


def shots(frames: Iterable[npt.NDArray[Any]], options: Options, t0_s: float = 0.0) -> Iterator[Shot]:
    """Expose `frames`, one after the other under the lights in turn, from local clock `t0_s` on.

    Yields all frames, those that are lost too, in the order in which they leave.
    """
    rng = np.random.default_rng(options.seed)
    n_lights = len(options.lights)
    n_frames = round(options.duration_s * options.rate_hz) or None
    # Probability that a run of losses begins after a frame that came.
    begin_loss = options.loss / (options.loss_run * max(1.0 - options.loss, 1e-9))
    drift = 1.0 + options.drift_ppm / 1e6
    due_s, lost = -math.inf, False
    for i, data in enumerate(itertools.islice(frames, n_frames)):
        exposed_s = t0_s + i / options.rate_hz
        ready_s = exposed_s + options.delay_s + options.jitter_s * rng.exponential()
        phase_s = (i / options.rate_hz) % options.burst_every_s if options.burst_every_s else math.inf
        if phase_s < options.burst_s:
            ready_s = max(ready_s, exposed_s - phase_s + options.burst_s)
        due_s = max(due_s, ready_s)  # none overtakes another
        lost = rng.random() < (1.0 - 1.0 / options.loss_run if lost else begin_loss)
        counter = options.counter_start + i
        if options.counter_bits is not None:
            counter %= 2**options.counter_bits
        yield Shot(
            index=i,
            data=data,
            exposed_s=exposed_s,
            due_s=due_s,
            device_s=(exposed_s - options.clock_offset_s) / drift if options.timed else None,
            counter=counter if options.counted else None,
            tag=options.lights[i % n_lights] if options.tags else None,
            light=i % n_lights,
            lost=lost,
        )


def noise_frames(
    shape: tuple[int, int] = (128, 128),
    dtype: str = "uint16",
    n_lights: int = 4,
    level: float = 2000.0,
    noise: float = 30.0,
    seed: int = 0,
) -> Iterator[npt.NDArray[Any]]:
    """Yield noise without end, each light brighter than the one before; 16 different cycles in turn."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    means = level * (1 + np.arange(n_lights)) / n_lights
    pool = rng.normal(means[None, :, None, None], noise, (16, n_lights, *shape)).clip(0, float(limits.max))
    return itertools.cycle(pool.astype(dtype).reshape(-1, *shape))


class Sender(Protocol):
    """Where frames go."""

    endpoint: str

    def send(self, shot: Shot) -> bool:
        """Send a frame; ``False`` if nobody took it."""
        ...

    def wait_for_consumers(self, timeout_s: float) -> bool:
        """Wait until somebody takes frames; ``False`` if nobody came."""
        ...

    def close(self) -> None:
        """Let what was sent go out, then close."""
        ...


class ZmqSender:
    """Send over PUSH or PUB as :mod:`streamscore.camera.wire` says. Frames that nobody takes are dropped.

    Attributes
    ----------
    endpoint
        Where the socket really is.
    """

    #: Frames that wait to be sent.
    HIGH_WATER_MARK = 256

    def __init__(self, options: Options) -> None:
        self._options = options
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(
            zmq.PUB if options.to == "pub" else zmq.PUSH)  # fmt: skip
        self._socket.setsockopt(zmq.SNDHWM, self.HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 2000)
        try:
            (self._socket.bind if options.bind else self._socket.connect)(options.endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ConfigError(f"camera: cannot use endpoint {options.endpoint!r} ({error.strerror})") from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, shot: Shot) -> bool:
        parts = encode(
            shot.data, frame=shot.counter, time_s=shot.device_s, channel=shot.tag, camera=self._options.name
        )
        topic = [self._options.topic.encode()] if self._options.topic else []
        try:
            self._socket.send_multipart([*topic, *parts], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def wait_for_consumers(self, timeout_s: float) -> bool:
        return bool(self._socket.poll(round(1e3 * timeout_s), zmq.POLLOUT))

    def close(self) -> None:
        self._socket.close()


class LslSender:
    """Send over LSL, with the counter and the number of the light behind the pixels where the camera tells them.

    Attributes
    ----------
    frames
        Where they go.
    counter_bits
        After how many bits the counter wraps.
    """

    def __init__(self, options: Options, shape: tuple[int, int], dtype: npt.DTypeLike) -> None:
        extra = [name for name, on in (("counter", options.counted), ("tag", options.tags)) if on]
        source_id = f"streamscore-camera-{options.name}"
        self.frames = FramesOutlet(options.name, source_id, shape, dtype, options.rate_hz, extra)
        self.counter_bits = self.frames.counter_bits
        self.endpoint = f"LSL stream {options.name!r}"

    def send(self, shot: Shot) -> bool:
        self.frames.push(shot.data, shot.counter or 0, shot.light, shot.device_s or 0.0)
        return True

    def wait_for_consumers(self, timeout_s: float) -> bool:
        """Wait until somebody listens."""
        return self.frames.wait_for_consumers(timeout_s)

    def close(self) -> None:
        del self.frames


@dataclass
class Sent:
    """What became of the frames."""

    frames: int = 0
    lost: int = 0
    refused: int = 0


def play(pictures: Iterable[Shot], sender: Sender, clock: Clock, stop: StopFlag | None = None) -> Sent:
    """Send each frame when it is due; a frame that nobody takes (`refused`) is lost too."""
    sent = Sent()
    for shot in pictures:
        clock.wait_s(shot.due_s - clock.now_s())
        if stop is not None and stop.is_set():
            break
        if shot.lost:
            sent.lost += 1
        elif sender.send(shot):
            sent.frames += 1
        else:
            sent.refused += 1
    return sent


def run(
    frames: Iterable[npt.NDArray[Any]],
    options: Options,
    stop: StopFlag,
    say: Callable[[dict[str, object]], None] = say_json,
) -> Sent:
    """Be the camera until `duration_s` is over, `frames` end, or `stop` is set."""
    waiting = iter(frames)
    first = next(waiting)
    sender: Sender = LslSender(options, first.shape, first.dtype) if options.to == "lsl" else ZmqSender(options)
    clock = LslClock()
    try:
        if options.wait_s:
            say({"event": "visible", "endpoint": sender.endpoint})
            sender.wait_for_consumers(options.wait_s)
        t0_s = clock.now_s()
        say({"event": "started", "to": options.to, "endpoint": sender.endpoint, "t0_s": t0_s,
             "rate_hz": options.rate_hz, "lights": list(options.lights), "dtype": first.dtype.name,
             "shape": list(first.shape)})  # fmt: skip
        sent = play(shots(itertools.chain([first], waiting), options, t0_s), sender, clock, stop)
        say({"event": "finished", **asdict(sent), "wall_s": clock.now_s() - t0_s})
    finally:
        sender.close()
    return sent
