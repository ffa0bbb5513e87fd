"""Writing to disk on a thread of its own, behind a bounded queue, for callers that must not wait.

Two files share one queue and one thread: a *vital* one, whose items are few and small, and a *bulk* one,
whose items make way when the queue is full. About every 50 ms the thread hands all that waits to the
operating system, and once a second it waits for the medium. A killed process therefore loses at most what
was in the queue, and a power cut about the last second.

A failing disk stops nothing. The queue keeps what it can, each loss is counted, and writing goes on behind
the last whole line or chunk as soon as the disk allows. Only a medium that was taken out does not come back.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from streamscore.errors import RecordError

_POLL_S = 0.05
_RETRY_S = 1.0
_CYCLES_PER_SYNC = round(1.0 / _POLL_S)
#: Most that goes to the disk at once. Small, so that what is on its way to a stuck disk does not fill the
#: queue, and so that the lock is held for microseconds.
_STEP_BYTES = 4 << 20
_STEP_ITEMS = 256
_REMEDIES = {
    "ENOSPC": "free space on this disk",
    "EDQUOT": "free space in this account's quota",
    "EFBIG": "the file has the largest size allowed here (4 GiB on FAT32); use another disk for the next run",
    "EROFS": "the disk became read-only, often after an error; use another disk for the next run",
}


class _File(Protocol):
    def flush(self) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


@dataclass
class Lane:
    """One file: what waits for it, and how it fares. Files fail independently of each other.

    Parameters
    ----------
    path
        The file, for messages.
    put
        Encodes one item into the memory of `file`; runs on the writer thread. RecordError if it cannot.
    file
        Its ``flush`` takes all that was put, or raises OSError and may be repeated.
    """

    path: Path
    put: Callable[[Any], None]
    file: _File
    n_written: int = 0
    n_dropped: int = 0
    failed: str | None = None
    #: (bytes charged, 1 if it counts as written, item)
    waiting: deque[tuple[int, int, Any]] = field(default_factory=deque)
    # What left the queue and is not yet in the file: items, bytes charged, items that count as written.
    n_flying: int = 0
    flying_bytes: int = 0
    n_countable: int = 0
    n_announced: int = 0
    refused: bool = False


class WriteQueue:
    """Take items without waiting and write them in the background.

    Parameters
    ----------
    vital, bulk
        The two files. When the queue is full, items of `bulk` are dropped, newest first; items of `vital`
        only when no item of `bulk` is left that could make way.
    at_end
        Runs on the writer thread after both files are closed; may raise OSError.
    queue_bytes, queue_items
        Bounds of the queue.
    """

    def __init__(
        self, vital: Lane, bulk: Lane, at_end: Callable[[], None], queue_bytes: int, queue_items: int
    ) -> None:
        self._vital, self._bulk = vital, bulk
        self._at_end = at_end
        self._queue_bytes, self._queue_items = queue_bytes, queue_items
        self._step_bytes = min(queue_bytes // 16, _STEP_BYTES)
        self._lock = threading.Lock()  # held for a few operations in memory, never while writing
        self._n_bytes = 0
        self._n_items = 0
        self._in_trouble = False
        self._notices: deque[dict[str, Any]] = deque(maxlen=1000)
        self._broken: str | None = None
        self._closing = False
        self._finished = False
        self._wake = threading.Event()
        # A daemon, because a disk that hangs for ever must not keep a rig's process from ending.
        self._thread = threading.Thread(target=self._write, name="streamscore-record", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> str | None:
        """What is wrong at present and what to do; None while all is well."""
        return "; ".join(filter(None, (self._vital.failed, self._bulk.failed, self._broken))) or None

    @property
    def backlog(self) -> float:
        """How full the queue is, from 0 to 1."""
        return max(self._n_bytes / self._queue_bytes, self._n_items / self._queue_items)

    def offer(self, lane: Lane, n_bytes: int, item: object, count: int = 1) -> None:
        """Queue `item`, or count it as dropped. Never waits for the disk.

        Parameters
        ----------
        lane
            Where it goes.
        n_bytes
            What it takes of the queue.
        item
            Handed over: it must not change afterwards.
        count
            0 for an item that is not counted among those written.
        """
        with self._lock:
            while lane is self._vital and self._bulk.waiting and self._is_full(n_bytes):
                self._n_bytes -= self._bulk.waiting.pop()[0]
                self._n_items -= 1
                self._drop(self._bulk)
            if self._closing or self._is_full(n_bytes):
                self._drop(lane)
                return
            lane.waiting.append((n_bytes, count, item))
            self._n_bytes += n_bytes
            self._n_items += 1
            # The writer looks by itself soon enough; waking it costs more than all of the above.
            is_urgent = self._n_bytes > self._queue_bytes // 2 and not self._is_failing()
        if is_urgent:
            self._wake.set()

    def take_notices(self) -> list[dict[str, Any]]:
        """Return what happened since the last call, see :meth:`streamscore.record.Recorder.take_notices`."""
        return [self._notices.popleft() for _ in range(len(self._notices))]

    def close(self, timeout_s: float) -> str | None:
        """Write what waits and close the files; return what is wrong. Waits `timeout_s` at most."""
        with self._lock:
            self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        if not self._finished and self._broken is None:
            self._broken = (
                f"{self._vital.path.parent}: the disk did not take the end of the record within "
                f"{timeout_s:g} s; {self._n_items} items were not written then; check the disk"
            )
        return self.failed

    def _is_full(self, n_bytes: int) -> bool:
        return self._n_bytes + n_bytes > self._queue_bytes or self._n_items >= self._queue_items

    def _is_failing(self) -> bool:
        return self._vital.failed is not None or self._bulk.failed is not None

    def _drop(self, lane: Lane) -> None:
        lane.n_dropped += 1
        if not self._in_trouble:
            self._in_trouble = True
            self._notices.append({"type": "record_dropping"})

    # All below runs on the writer thread.

    def _write(self) -> None:
        n_cycles = 0
        try:
            while not self._closing:
                self._wake.wait(_RETRY_S if self._is_failing() else _POLL_S)
                self._wake.clear()
                n_cycles += 1
                for lane in (self._vital, self._bulk):
                    self._drain(lane, sync=n_cycles % _CYCLES_PER_SYNC == 0)
                self._announce()
            self._finish()
            self._finished = True
        finally:
            if not self._finished:  # an error in the code above; the run must learn of it
                self._broken = f"{self._vital.path.parent}: the writer stopped; nothing more is recorded"

    def _drain(self, lane: Lane, sync: bool) -> None:
        try:
            self._flush(lane)  # what a failure left behind
            while self._fill(lane):
                self._flush(lane)
            if sync or lane.failed:
                lane.file.sync()
        except OSError as error:
            self._fail(lane, error)
        else:
            lane.failed = None

    def _fill(self, lane: Lane) -> bool:
        """Move a step's worth out of the queue into the memory of the file."""
        step: list[tuple[int, Any]] = []
        with self._lock:
            while lane.waiting and len(step) < _STEP_ITEMS and lane.flying_bytes <= self._step_bytes:
                n_bytes, count, item = lane.waiting.popleft()
                lane.n_flying += 1
                lane.flying_bytes += n_bytes
                step.append((count, item))
        for count, item in step:
            try:
                lane.put(item)
                lane.n_countable += count
            except RecordError as error:
                self._refuse(lane, error)
        return bool(step)

    def _flush(self, lane: Lane) -> None:
        lane.file.flush()
        with self._lock:
            lane.n_written += lane.n_countable
            self._n_items -= lane.n_flying
            self._n_bytes -= lane.flying_bytes
            lane.n_flying = lane.flying_bytes = lane.n_countable = 0

    def _refuse(self, lane: Lane, error: RecordError) -> None:
        with self._lock:
            lane.n_dropped += 1
            lane.n_flying -= 1
            self._n_items -= 1
        if not lane.refused:  # once: whatever does not fit is likely to come again with each chunk
            lane.refused = True
            self._notices.append({"type": "record_refused", "file": str(lane.path), "message": str(error)})

    def _fail(self, lane: Lane, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        fate = "the end of it is lost" if self._closing else "the run goes on and its record waits in memory"
        remedy = _REMEDIES.get(name, "check the disk and its cable")
        message = f"{lane.path}: cannot be written ({name}: {error.strerror}); {fate}; {remedy}"
        with self._lock:
            if lane.failed != message:
                self._notices.append({"type": "record_failed", "file": str(lane.path), "message": message})
            lane.failed = message
            self._in_trouble = True

    def _announce(self) -> None:
        with self._lock:
            if not self._in_trouble or self._n_items or self._is_failing():
                return
            self._in_trouble = False
            lost = []
            for lane in (self._vital, self._bulk):
                lost.append(lane.n_dropped - lane.n_announced)
                lane.n_announced = lane.n_dropped
            self._notices.append({"type": "record_recovered", "lost_events": lost[0], "lost_chunks": lost[1]})

    def _finish(self) -> None:
        for lane in (self._vital, self._bulk):
            self._drain(lane, sync=True)
            try:
                lane.file.close()
            except OSError as error:
                self._fail(lane, error)
            with self._lock:
                lane.n_dropped += len(lane.waiting) + lane.n_flying
                lane.waiting.clear()
        try:
            self._at_end()
        except OSError as error:
            self._broken = f"the end of the run could not be written ({error}); all else is as counted"
