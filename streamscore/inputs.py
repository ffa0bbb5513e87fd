"""Wait for several sources at once.

One source is waited for directly, which is quickest. With several, each is waited for by a thread that blocks in
native code and hands stamped chunks over a bounded queue; the thread that decides takes them in order of arrival.
Against a virtual clock there is no arrival: chunks are taken in order of stream time, the same in every run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from streamscore.clock import Clock, VirtualClock
from streamscore.sources.base import Source
from streamscore.types import Chunk


class Inputs:
    """All sources of a run.

    Parameters
    ----------
    sources
        Opened and begun before the first :meth:`read`.
    clock
        The engine's.
    """

    #: Chunks that may wait; a thread then waits too, and the sources' own buffers fill.
    MAX_WAITING = 1024
    #: Longest wait of a thread inside a source, so that it can end.
    TICK_S = 0.1

    def __init__(self, sources: Sequence[Source], clock: Clock) -> None:
        self._sources = sources
        self._clock = clock
        self._heads: list[Chunk | None] = [None] * len(sources)
        self._queue: queue.Queue[tuple[int, Chunk | BaseException]] = queue.Queue(self.MAX_WAITING)
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._failures: list[tuple[int, BaseException]] = []

    @property
    def ended(self) -> bool:
        """Whether the main source, the first, will never give anything again."""
        if len(self._sources) == 1 or isinstance(self._clock, VirtualClock):
            return self._sources[0].ended and self._heads[0] is None
        # In this order: a thread that has ended has put its last chunk into the queue.
        return self._sources[0].ended and not self._threads[0].is_alive() and self._queue.empty()

    def begin(self) -> None:
        """Start waiting."""
        if len(self._sources) == 1 or isinstance(self._clock, VirtualClock):
            return
        for k, source in enumerate(self._sources):
            thread = threading.Thread(target=self._pump, args=(k, source), name=f"source-{k}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def read(self, timeout_s: float) -> tuple[int, Chunk] | None:
        """Return the number of a source and what came from it; ``None`` if nothing did in time.

        Raises
        ------
        Exception
            Whatever the main source raised. What befalls another one is told by :meth:`take_failures`.
        """
        if len(self._sources) == 1:
            chunk = self._sources[0].read(timeout_s)
            return None if chunk is None else (0, chunk)
        if isinstance(self._clock, VirtualClock):
            return self._read_in_order(timeout_s)
        try:
            k, item = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if not isinstance(item, BaseException):
            return k, item
        if k == 0:
            raise item
        self._failures.append((k, item))
        return None

    def take_failures(self) -> list[tuple[int, BaseException]]:
        """Return, once each, the numbers of sources that are no longer read, and why."""
        taken, self._failures = self._failures, []
        return taken

    def close(self) -> None:
        """Let the threads end."""
        self._closed.set()
        for thread in self._threads:
            while thread.is_alive():
                try:
                    self._queue.get_nowait()  # room for a thread that waits with a chunk in hand
                except queue.Empty:
                    thread.join(self.TICK_S)

    def _pump(self, k: int, source: Source) -> None:
        """Hand over what comes; runs in a thread of its own."""
        try:
            while not self._closed.is_set() and not source.ended:
                chunk = source.read(self.TICK_S)
                if chunk is not None:
                    self._queue.put((k, chunk))
        except BaseException as error:  # told where decisions are made
            self._queue.put((k, error))

    def _read_in_order(self, timeout_s: float) -> tuple[int, Chunk] | None:
        for k, source in enumerate(self._sources):
            if self._heads[k] is None and not source.ended:
                self._heads[k] = source.read(timeout_s)
        ready = [(chunk.stamps_s[-1] + chunk.clock_offset_s, -k) for k, chunk in enumerate(self._heads) if chunk]
        if not ready:
            return None
        k = -min(ready)[1]  # of equal times a side stream first, so that gates know what the output may depend on
        chunk, self._heads[k] = self._heads[k], None
        assert chunk is not None
        return k, chunk
