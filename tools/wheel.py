"""The wheel under a simulated camera: the speed of each sample of the movie, over LSL, when its time has come."""

from __future__ import annotations

import queue
import threading

import pylsl

from streamscore.clock import LslClock
from streamscore.types import FloatArray


class Wheel:
    """An LSL stream with one channel, ``speed`` in cm/s, stamped as the frames that it belongs to.

    Parameters
    ----------
    name
        Of the stream.
    sfreq
        Samples a second, as many as cycles of the lights.
    """

    #: Longest wait of its thread, after which it looks whether it should end.
    PATIENCE_S = 0.2

    def __init__(self, name: str, sfreq: float) -> None:
        info = pylsl.StreamInfo(name, "Wheel", 1, sfreq, "float32", f"streamscore-wheel-{name}")
        channel = info.desc().append_child("channels").append_child("channel")
        channel.append_child_value("label", "speed")
        channel.append_child_value("unit", "cm/s")
        self._outlet = pylsl.StreamOutlet(info)
        self._sfreq = sfreq
        self._speeds: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, speeds_cm_s: FloatArray) -> None:
        """Take the speeds of the next samples ``(n,)``; may be ahead of their time."""
        for speed in speeds_cm_s.tolist():
            self._speeds.put(speed)

    def begin(self, t0_s: float) -> None:
        """Start: the first sample was taken at `t0_s` of the local clock."""
        self._thread = threading.Thread(target=self._play, args=(t0_s,), name="wheel", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _play(self, t0_s: float) -> None:
        clock, n = LslClock(), 0
        while not self._stop.is_set():
            try:
                speed = self._speeds.get(timeout=self.PATIENCE_S)
            except queue.Empty:
                continue
            t_s = t0_s + n / self._sfreq
            n += 1
            self._stop.wait(max(t_s - clock.now_s(), 0.0))
            self._outlet.push_sample([speed], t_s)
