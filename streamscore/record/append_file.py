"""A file that only ever grows, and that a failing disk does not spoil."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class AppendFile:
    """Append bytes in pieces that are either wholly in the file or not at all.

    What is `put` waits in memory until :meth:`flush` hands all of it to the operating system. When that
    fails half-way (no space left, an I/O error, a size limit), the file is cut back to the end of the last
    flush that succeeded, what waited keeps waiting, and the next flush tries again. So a record ends in a
    whole line or chunk, and goes on as soon as there is room.

    Parameters
    ----------
    path
        File to append to; created when it is absent. A pipe or device is written to as well, but cannot be
        cut back.
    resync
        Written ahead of the next piece when a torn one could not be cut off, so that a reader finds where
        whole pieces begin again: a newline for lines, a Boundary chunk for XDF.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, resync: bytes) -> None:
        self.path = path
        self._resync = resync
        # No buffer of Python's own: after a failure it would write its rest behind our back, in `close`.
        self._file = path.open("ab", buffering=0)
        status = os.fstat(self._file.fileno())
        self._is_regular = stat.S_ISREG(status.st_mode)
        self._good_bytes = status.st_size
        self._waiting: list[bytes] = []
        self._torn = False

    def put(self, data: bytes) -> None:
        """Let `data` wait for the next flush. Touches no disk."""
        self._waiting.append(data)

    def flush(self) -> None:
        """Hand all that waits to the operating system, from where a killed process cannot take it back.

        Raises
        ------
        OSError
            If not all of it could be written. Nothing is lost: the next call tries again.
        """
        if not self._waiting:
            return
        data = b"".join([self._resync, *self._waiting] if self._torn else self._waiting)
        try:
            self._write(data)
        except OSError:
            self._cut_back()
            raise
        self._waiting = []
        self._torn = False
        self._good_bytes = os.fstat(self._file.fileno()).st_size

    def sync(self) -> None:
        """Wait until what was flushed is on the medium, from where a power cut cannot take it back."""
        if self._is_regular:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. What was not flushed is forgotten."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            n_written = self._file.write(rest)
            if not n_written:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(self.path))
            rest = rest[n_written:]

    def _cut_back(self) -> None:
        self._torn = True
        if self._is_regular:
            try:
                self._file.truncate(self._good_bytes)
            except OSError:
                return  # the error that brought us here is raised; `resync` repairs what it can
            self._torn = False
