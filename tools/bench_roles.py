"""The processes of the benchmark that are not the engine: a pusher, a bare LSL loop and a subscriber.

Each role is a function that runs in a process of its own and talks over a pipe: it says ``"ready"``, works until
it is told to stop, and sends what it measured. All times are LSL ``local_clock()`` seconds, which is one clock for
all processes of a host.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pylsl
import zmq

from streamscore.errors import LoopError
from streamscore.simulate import simulate
from tools import replay

Times = npt.NDArray[np.float64]


class Child:
    """A role in a process of its own; a context manager that ends it.

    Parameters
    ----------
    role
        Called with its end of the pipe and `options`.
    options
        What the role needs; must be picklable.
    lsl_config
        Configuration file of liblsl for the process.

    Attributes
    ----------
    pid
        Of the process.
    """

    def __init__(self, role: Callable[[Any, Any], None], options: object, lsl_config: Path) -> None:
        # A forked child would share the native threads of its parent, and liblsl reads its configuration once.
        context = multiprocessing.get_context("spawn")
        self._name = role.__name__
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=role, args=(theirs, options), daemon=True)
        before = os.environ.get("LSLAPICFG")
        os.environ["LSLAPICFG"] = str(lsl_config)
        try:
            self._process.start()
        finally:
            if before is None:
                del os.environ["LSLAPICFG"]
            else:
                os.environ["LSLAPICFG"] = before
        theirs.close()
        self.pid = int(self._process.pid or 0)

    def tell(self, message: object) -> None:
        """Send `message`."""
        self._connection.send(message)

    def hear(self, timeout_s: float) -> Any:
        """Return the next message.

        Raises
        ------
        LoopError
            If the process ended, or said nothing for `timeout_s`.
        """
        try:
            if self._connection.poll(timeout_s):
                return self._connection.recv()
        except EOFError:
            self._process.join(5)
            raise LoopError(
                f"bench: process {self._name!r} ended with exit code {self._process.exitcode}; it says why above"
            ) from None
        raise LoopError(
            f"bench: process {self._name!r} said nothing for {timeout_s:g} s; is the machine overloaded?"
        )

    def stop(self, timeout_s: float = 30.0) -> Any:
        """Tell the process to stop, and return what it measured."""
        self.tell("stop")
        return self.hear(timeout_s)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.join(0.0 if error else 5.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5.0)
        self._connection.close()


def stop_flag(connection: Connection) -> threading.Event:
    """Return a flag that the next message on `connection` sets; waiting for it costs nothing."""
    flag = threading.Event()

    def wait() -> None:
        with suppress(EOFError, OSError):  # whoever started this process is gone; a reason to stop as well
            connection.recv()
        flag.set()

    threading.Thread(target=wait, daemon=True).start()
    return flag


@dataclass(frozen=True)
class PushOptions:
    """What the pusher does.

    Parameters
    ----------
    names
        One LSL stream each.
    blocks
        Which stream is fed, and for how long in seconds; one after the other.
    n_channels, sfreq
        Of every stream.
    prefill_s
        Stream time that is delivered at once, stamped as if it had been delivered in time, so that whoever needs
        a minute of data to warm up does not keep everybody waiting.
    """

    names: tuple[str, ...]
    blocks: tuple[tuple[int, float], ...]
    n_channels: int = 8
    sfreq: float = 256.0
    prefill_s: float = 0.0


#: Silence between two blocks, so that nothing of one is still under way in the next.
PAUSE_S = 0.3
#: A pusher that was held up for longer does not make up for it, because nobody's amplifier stamps in bursts.
HELD_UP_S = 0.02


def push(connection: Connection, options: PushOptions) -> None:
    """Push one sample after the other, each stamped immediately before; sends the stamps of each block."""
    outlets = []
    for name in options.names:
        info = pylsl.StreamInfo(name, "EEG", options.n_channels, options.sfreq, "float32", f"{name}-id")
        info.set_channel_labels([f"ch{i + 1}" for i in range(options.n_channels)])
        info.set_channel_units("uV")
        outlets.append(pylsl.StreamOutlet(info))
    rng = np.random.default_rng(0)
    rows: list[list[float]] = (50.0 * rng.standard_normal((1024, options.n_channels))).tolist()
    connection.send("ready")
    connection.recv()
    t0_s = pylsl.local_clock() + PAUSE_S
    n_prefill = round(options.prefill_s * options.sfreq)
    if n_prefill:
        data = 50.0 * rng.standard_normal((n_prefill, options.n_channels), np.float32)
        outlets[0].push_chunk(data, t0_s + np.arange(-n_prefill, 0) / options.sfreq)
    stamps_s = []
    for which, duration_s in options.blocks:
        stamps_s.append(_push_block(outlets[which], rows, t0_s, round(duration_s * options.sfreq), options.sfreq))
        t0_s = pylsl.local_clock() + PAUSE_S
    time.sleep(PAUSE_S)
    connection.send(stamps_s)
    connection.recv()


def _push_block(outlet: pylsl.StreamOutlet, rows: list[list[float]], t0_s: float, n: int, sfreq: float) -> Times:
    stamps_s = array("d")
    for i in range(n):
        wait_s = t0_s + i / sfreq - pylsl.local_clock()
        if wait_s > 0:
            time.sleep(wait_s)
        elif wait_s < -HELD_UP_S:
            t0_s -= wait_s
        stamp_s = pylsl.local_clock()
        outlet.push_sample(rows[i % len(rows)], stamp_s)
        stamps_s.append(stamp_s)
    return np.asarray(stamps_s)


def pull(connection: Connection, name: str) -> None:
    """Pull with nothing around it: the floor. Sends stamp and time of arrival of each sample."""
    found = pylsl.resolve_byprop("name", name, timeout=10.0)
    if not found:
        raise LoopError(f"bench: stream {name!r} is not visible on this machine")
    inlet = pylsl.StreamInlet(found[0], recover=False, as_numpy=True)
    inlet.open_stream(5.0)
    connection.send("ready")
    stop = stop_flag(connection)
    stamps_s, arrived_s = array("d"), array("d")
    while not stop.is_set():
        _, stamps = inlet.pull_chunk(0.1, 1024, min_samples=1)
        now_s = pylsl.local_clock()
        if len(stamps):
            stamps_s.extend(stamps)
            arrived_s.extend([now_s] * len(stamps))
    connection.send((np.asarray(stamps_s), np.asarray(arrived_s)))


def listen(connection: Connection, endpoint: str) -> None:
    """Subscribe as anybody would; sends the events and the time at which each was here."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(endpoint)
    connection.send("ready")
    stop = stop_flag(connection)
    arrived_s = array("d")
    while not stop.is_set():
        if not socket.poll(100):
            continue
        text = socket.recv()
        now_s = pylsl.local_clock()
        # Known by its text, because parsing here would delay the next one.
        if b'"type":"posterior"' in text:
            arrived_s.append(now_s)
    socket.close(linger=0)
    connection.send(np.asarray(arrived_s))


@dataclass(frozen=True)
class PlayOptions:
    """Simulated sleep to be replayed at a multiple of its pace."""

    name: str
    sfreq: float
    duration_s: float
    speed: float


def play(connection: Connection, options: PlayOptions) -> None:
    """Replay simulated sleep over LSL, as ``streamscore replay`` does."""
    recording = simulate("human", options.duration_s, sfreq=options.sfreq)
    connection.send("ready")
    connection.recv()
    replay.play(recording, replay.Options(options.name, options.speed, linger_s=1.0), _ignore)
    connection.send("done")
    connection.recv()


def _ignore(line: str) -> None:
    del line
