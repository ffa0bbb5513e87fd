"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from streamscore.errors import RecordError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when all went well, else it is removed.

    Its name starts with a dot, so that nobody takes half a file for a recording, and ends as that of `path`.

    Raises
    ------
    RecordError
        If it cannot be written, such as on a full disk.
    """
    beside = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error}; make room or choose another folder") from error
    finally:
        with contextlib.suppress(OSError):  # a folder that could not be made holds nothing either
            beside.unlink(missing_ok=True)
