"""The exception tree.

Every error that a user can meet is a :class:`StreamscoreError`. Its message says what is wrong, where
(file, field or stream) and what to do next; ``exit_code`` is what the command line returns::

    StreamscoreError                    1
    ├── ConfigError                     3   a rig file or option is wrong (names file, line, choices)
    ├── SourceError                     4   the input cannot be used
    │   ├── StreamNotFoundError             no visible stream fits (lists what is visible)
    │   ├── AmbiguousStreamError            several fit (lists them)
    │   ├── StreamFormatError               rate, channels, units or dtype cannot be used
    │   └── RecordingError                  a file is truncated, unsafe or of an unknown layout
    ├── BundleError                     5   a bundle cannot be used
    │   ├── BundleCorruptError              truncated, altered or of another version
    │   └── BundleMismatchError             the rig differs from what the bundle was trained for
    ├── LoopError                       6   a demo, check or replay did not do what it must
    └── RecordError                     7   the record of a run cannot be written or read
"""

from __future__ import annotations


class StreamscoreError(Exception):
    """Base of all errors that streamscore raises on purpose."""

    exit_code: int = 1


class ConfigError(StreamscoreError):
    """A rig file, option or plug-in name is wrong."""

    exit_code = 3


class SourceError(StreamscoreError):
    """The input cannot be used."""

    exit_code = 4


class StreamNotFoundError(SourceError):
    """No visible stream fits the selection."""


class AmbiguousStreamError(SourceError):
    """More than one visible stream fits the selection."""


class StreamFormatError(SourceError):
    """A stream's rate, channels, units or sample type cannot be used."""


class RecordingError(SourceError):
    """A recorded file is truncated, unsafe to open or of an unknown layout."""


class BundleError(StreamscoreError):
    """A bundle cannot be used."""

    exit_code = 5


class BundleCorruptError(BundleError):
    """A bundle is truncated, was altered or has another format version."""


class BundleMismatchError(BundleError):
    """A rig differs from what the bundle was trained for."""


class LoopError(StreamscoreError):
    """A demo, check or replay did not do what it must."""

    exit_code = 6


class RecordError(StreamscoreError):
    """The record of a run cannot be written or read."""

    exit_code = 7
