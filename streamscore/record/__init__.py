"""The record of a run: one folder, written by one thread behind a bounded queue."""

from streamscore.record.recorder import NullRecorder, Recorder
from streamscore.record.run_folder import RunRecord, read_run

__all__ = ["NullRecorder", "Recorder", "RunRecord", "read_run"]
