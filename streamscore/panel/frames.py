"""Frames of a run for the screen: a thread that listens, keeps the newest, and explains one now and then.

Whoever draws asks for what is newest and never waits. The thread yields to everything else on the machine: a
picture may be late, a decision must not be.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from types import TracebackType
from typing import Self

import numpy as np
import torch
import zmq

from streamscore.camera.wire import MAX_FRAME_BYTES, FrameError, decode
from streamscore.errors import ConfigError
from streamscore.panel.importance import Importance
from streamscore.panel.pictures import Explanation, MaskArray, View
from streamscore.types import FloatArray

#: Stream time from one explanation to the next.
EXPLAIN_S = 1.0
#: A longer pause of the stream, or a step back, is taken for another piece of recording.
BREAK_S = 1.0
#: Percentiles of the pixels that the colours span, and how fast they follow: a quarter of the way in a second.
SPAN_PERCENT = (2.0, 99.5)
SPAN_TAU_S = 3.5
#: Frames that wait while one is explained; beyond, they are lost.
HIGH_WATER_MARK = 64
POLL_MS = 100
#: How much less than others this thread wants the processor, in Unix's steps.
NICENESS = 10


class Frames:
    """Keep up with the frames of a run; to be used in a ``with`` block.

    Parameters
    ----------
    endpoint
        Address of a ``zmq_frames`` sink; it need not be there yet.
    importance
        Explains decisions; ``None`` shows frames alone.

    Attributes
    ----------
    n_refused
        Messages that were no frame, or of another size than the network's.

    Raises
    ------
    ConfigError
        When the block is entered, if `endpoint` is not an address that can be connected to.
    """

    def __init__(self, endpoint: str, importance: Importance | None = None) -> None:
        self.n_refused = 0
        self._endpoint = endpoint
        self._importance = importance
        self._newest: View | None = None
        self._explained_s = float("-inf")
        self._explanation: Explanation | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="frames", daemon=True)

    @property
    def newest(self) -> View | None:
        """The newest frame; ``None`` before the first."""
        return self._newest

    @property
    def explains(self) -> bool:
        """Whether explanations will come."""
        return self._importance is not None

    def __enter__(self) -> Self:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            self._socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ConfigError(
                f"cannot connect to frames at {self._endpoint!r} ({error.strerror}); write it as "
                "tcp://HOST:PORT, as the sink zmq_frames of the run does"
            ) from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # not on Windows; on Linux it is of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        torch.set_num_threads(1)  # a setting of each thread
        while not self._stop.is_set():
            if not self._socket.poll(POLL_MS):
                continue
            try:
                raw = decode(self._socket.recv_multipart(), 0.0)
                self.take(raw.device_s, np.array(raw.data, np.float32))
            except FrameError:
                self.n_refused += 1

    def take(self, t_s: float, frame: FloatArray) -> None:
        """Take in a frame ``(height, width)`` of stream time `t_s`."""
        before = self._newest
        if before is not None and before.frame.shape != frame.shape:
            before = None
        if before is None or not 0.0 < t_s - before.t_s <= BREAK_S:
            self._begin_afresh()
        self._explain(t_s, frame)
        background: MaskArray = np.ones(frame.shape, np.bool_) if before is None else before.background
        if before is not None:
            background = background & (frame == before.frame)
        number = before.number + 1 if before is not None else 0
        span = self._span(frame, before, t_s, background)
        self._newest = View(number, t_s, frame, span, background, time.monotonic(), self._explanation)

    def _begin_afresh(self) -> None:
        self._explanation, self._explained_s = None, float("-inf")
        if self._importance is not None:
            self._importance.reset()

    def _explain(self, t_s: float, frame: FloatArray) -> None:
        if self._importance is None:
            return
        if frame.shape != self._importance.frame_shape:
            self.n_refused += 1  # of another network; it is shown, not explained
            return
        if t_s - self._explained_s < EXPLAIN_S:
            self._importance.push(frame)
            return
        self._explained_s, self._explanation = t_s, self._importance.explain(frame)

    @staticmethod
    def _span(frame: FloatArray, before: View | None, t_s: float, background: MaskArray) -> tuple[float, float]:
        """Percentiles of the pixels that change, followed slowly, lest the whole picture flicker."""
        pixels = frame[~background & np.isfinite(frame)]
        if not pixels.size:
            return before.span if before is not None else (0.0, 1.0)
        low, high = (float(value) for value in np.percentile(pixels, SPAN_PERCENT))
        if before is None or before.number == 0:
            return low, high
        share = float(1.0 - np.exp(-min(max(t_s - before.t_s, 0.0), BREAK_S) / SPAN_TAU_S))
        return before.span[0] + share * (low - before.span[0]), before.span[1] + share * (high - before.span[1])
