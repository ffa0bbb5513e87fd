"""Files that are either whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamscore.errors import RecordError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` when all is written, and goes when anything fails.

    The name starts with a dot, so that no data set takes half a file for a recording.

    Raises
    ------
    RecordError
        If it cannot be written: the disk is full, or the folder may not be written to.
    """
    # (The suffix stays at the end: numpy adds its own otherwise.)
    beside = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be written ({error}); make room, or choose another folder with --to"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
