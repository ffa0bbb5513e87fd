"""The record of a run: a folder with ``run.json``, ``config.yaml``, ``events.jsonl`` and ``raw.xdf``.

The thread that decides only puts things into a queue in memory; :mod:`streamscore.record.write_queue` says what a
killed process, a power cut or a full disk can take from the record.
"""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from streamscore.clock import Clock, utc_now_iso
from streamscore.errors import RecordError
from streamscore.record.append_file import AppendFile
from streamscore.record.run_folder import (
    CONFIG_FILE,
    EVENTS_FILE,
    FORMAT,
    RAW_FILE,
    RUN_FILE,
    encode_event,
    versions,
    write_json,
)
from streamscore.record.write_queue import Lane, WriteQueue
from streamscore.record.xdf_writer import XdfWriter
from streamscore.types import Chunk, StreamInfo

#: Charged to the queue for a thing whose size is not known before it is encoded.
_ITEM_BYTES = 1024


def _told_apart(streams: Mapping[str, StreamInfo]) -> dict[str, StreamInfo]:
    """Give streams of the same name names of their own, by which they are found in the file again."""
    names = [stream.name for stream in streams.values()]
    return {
        lane: dataclasses.replace(stream, name=f"{stream.name} ({lane or 'main'})")
        if names.count(stream.name) > 1
        else stream
        for lane, stream in streams.items()
    }


class NullRecorder:
    """Stands in for a :class:`Recorder` in runs without a record: takes everything, keeps nothing."""

    failed: str | None = None
    backlog = 0.0
    dropped_events = 0
    dropped_chunks = 0

    @property
    def counters(self) -> dict[str, int]:
        return {"written_events": 0, "dropped_events": 0, "written_chunks": 0, "dropped_chunks": 0}

    def event(self, event: dict[str, Any] | str) -> None:
        del event

    def samples(self, chunk: Chunk, lane: str = "") -> None:
        del chunk, lane

    def take_notices(self) -> list[dict[str, Any]]:
        return []

    def close(self, summary: Mapping[str, Any] | None = None, timeout_s: float = 10.0) -> str | None:
        del summary, timeout_s
        return self.failed


class Recorder:
    """Keep the record of one run.

    :meth:`event` and :meth:`samples` never wait and never touch the disk. They keep
    what they are given, so the caller must not change it afterwards.

    Parameters
    ----------
    folder
        Folder of the run; created when it is absent.
    run_id
        Identifier of the run, the same as on the wire.
    streams
        Name of a stream in the run (the main one's is empty) → the stream. Raw samples of these are recorded, each
        as a stream of its own in one file.
    clock
        Gives the stream time that is paired with UTC, at the start and at the end.
    config_text
        The resolved configuration, as YAML.
    bundle_hash
        Hash of the bundle that scores; empty without one.
    content_type
        Type of the stream as LSL understands it.
    desc
        Further entries of the stream's description in ``raw.xdf``.
    queue_bytes, queue_items
        Bounds of the queue. When either is reached, raw chunks are dropped, newest first, and counted;
        events are dropped only when no raw chunk is left that could make way.

    Raises
    ------
    RecordError
        If the folder cannot be written to, or holds a run already.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        run_id: str,
        streams: Mapping[str, StreamInfo],
        clock: Clock,
        config_text: str,
        bundle_hash: str = "",
        content_type: str = "EEG",
        desc: Mapping[str, object] | None = None,
        queue_bytes: int = 64 << 20,
        queue_items: int = 100_000,
    ) -> None:
        self.folder = Path(folder)
        self._clock = clock
        self._stream_ids: dict[str, int] = {}
        self._offsets: dict[str, tuple[float, float]] = {}
        streams = _told_apart(streams)
        self._run: dict[str, Any] = {
            "format": FORMAT,
            "run_id": run_id,
            "versions": versions(),
            "host": platform.node(),
            "platform": platform.platform(),
            "bundle_hash": bundle_hash,
            "start": {"utc": utc_now_iso(), "stream_time_s": clock.now_s()},
            "stream": dataclasses.asdict(streams[""]) if "" in streams else None,
            "streams": {name: dataclasses.asdict(stream) for name, stream in streams.items() if name},
            "end": None,
        }
        self._end: dict[str, Any] | None = None
        try:
            with ExitStack() as undo:
                self._create(undo, streams, content_type, desc, config_text)
                undo.pop_all()
        except OSError as error:
            raise RecordError(
                f"{self.folder}: the record of the run cannot be created ({error}); name a folder on a disk "
                "that is present, writable and not full"
            ) from error
        self._vital = Lane(self._events.path, lambda event: self._events.put(encode_event(event)), self._events)
        self._bulk = Lane(self._xdf.path, self._put_raw, self._xdf)
        self._queue = WriteQueue(self._vital, self._bulk, self._write_end, queue_bytes, queue_items)

    def _create(
        self,
        undo: ExitStack,
        streams: Mapping[str, StreamInfo],
        content_type: str,
        desc: Mapping[str, object] | None,
        config_text: str,
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / name for name in (RUN_FILE, CONFIG_FILE, EVENTS_FILE, RAW_FILE)]
        for path in paths:
            if path.is_file():
                raise RecordError(
                    f"{self.folder}: holds the record of a run already ({path.name}), which is never "
                    "overwritten; name another folder"
                )
        for path in paths:  # so that the same folder will do once the cause is removed
            undo.callback(path.unlink, missing_ok=True)
        (self.folder / CONFIG_FILE).write_text(config_text, encoding="utf-8", newline="\n")
        self._events = AppendFile(self.folder / EVENTS_FILE, resync=b"\n")
        undo.callback(self._events.close)
        self._xdf = XdfWriter(self.folder / RAW_FILE)
        undo.callback(self._xdf.close)
        for name, stream in streams.items():
            self._stream_ids[name] = self._xdf.add_stream(
                stream.name,
                content_type,
                stream.sfreq,
                stream.channels,
                stream.units,
                source_id=stream.source_id,
                desc={**(desc or {}), **({"lane": name} if name else {})} or None,
            )
        self._xdf.flush()
        write_json(self.folder / RUN_FILE, self._run)

    @property
    def failed(self) -> str | None:
        """What is wrong with the record at present and what to do; None while all is well."""
        return self._queue.failed

    @property
    def backlog(self) -> float:
        """How full the queue is, from 0 to 1. A replay that is not paced waits while this is above 0.5."""
        return self._queue.backlog

    @property
    def dropped_events(self) -> int:
        """Number of events that are lost."""
        return self._vital.n_dropped

    @property
    def dropped_chunks(self) -> int:
        """Number of raw chunks that are lost."""
        return self._bulk.n_dropped

    @property
    def counters(self) -> dict[str, int]:
        """Numbers of events and raw chunks that reached the operating system, and that are lost."""
        return {
            "written_events": self._vital.n_written,
            "dropped_events": self.dropped_events,
            "written_chunks": self._bulk.n_written,
            "dropped_chunks": self.dropped_chunks,
        }

    def event(self, event: dict[str, Any] | str) -> None:
        """Record one event, which carries its sequence number.

        Parameters
        ----------
        event
            Its fields, of which numbers that are not finite become null; or the line of JSON that it is.
        """
        self._queue.offer(self._vital, _ITEM_BYTES, event)

    def samples(self, chunk: Chunk, lane: str = "") -> None:
        """Record raw samples of a stream as they arrived, and their clock offset whenever it differs from the
        last.

        Those of a stream that is not recorded are passed over.
        """
        if lane in self._stream_ids:
            n_bytes = chunk.data.nbytes + chunk.stamps_s.nbytes + _ITEM_BYTES
            self._queue.offer(self._bulk, n_bytes, (lane, chunk))

    def take_notices(self) -> list[dict[str, Any]]:
        """Return, once each, what the caller should announce as events of its own.

        ``{"type": "record_failed", "file", "message"}`` when a file cannot be written,
        ``{"type": "record_dropping"}`` when the queue is full, ``{"type": "record_refused", "file",
        "message"}`` for the first samples that do not fit the stream, and, when all is well again,
        ``{"type": "record_recovered", "lost_events", "lost_chunks"}``.
        """
        return self._queue.take_notices()

    def close(self, summary: Mapping[str, Any] | None = None, timeout_s: float = 10.0) -> str | None:
        """Write what waits, the footers and the end of ``run.json``. Never raises for a disk's sake.

        Parameters
        ----------
        summary
            What ``run.json`` should keep about how the run went.
        timeout_s
            How long to wait for the disk, in seconds.

        Returns
        -------
        str or None
            What is wrong with the record and what to do; None when all that was queued is on disk.
        """
        if self._end is None:
            now = {"utc": utc_now_iso(), "stream_time_s": self._clock.now_s()}
            self._end = now | {"summary": dict(summary or {})}
        return self._queue.close(timeout_s)

    def _put_raw(self, item: tuple[str, Chunk]) -> None:
        lane, chunk = item
        stream_id = self._stream_ids[lane]
        time_s, offset_s = self._offsets.get(lane, (math.nan, math.nan))
        if len(chunk.stamps_s) and math.isfinite(chunk.clock_offset_s) and chunk.clock_offset_s != offset_s:
            # Ahead of its samples, so that whoever reads in file order knows the offset of each sample. Not twice
            # for the same time: pyxdf fits a line through the offsets and gives up on that.
            at_s = float(chunk.stamps_s[0])
            if at_s != time_s:
                self._xdf.clock_offset(stream_id, at_s, chunk.clock_offset_s)
            self._offsets[lane] = (at_s, chunk.clock_offset_s)
        self._xdf.samples(stream_id, chunk.data, chunk.stamps_s)

    def _write_end(self) -> None:
        end = (self._end or {}) | {"counters": self.counters, "failed": self.failed}
        write_json(self.folder / RUN_FILE, self._run | {"end": end})
