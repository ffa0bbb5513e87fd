"""What is in the folder of a run, and reading it, also of a run that is under way or was killed."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import streamscore
from streamscore.errors import RecordError

FORMAT = "streamscore-run/1"
RUN_FILE, CONFIG_FILE, EVENTS_FILE, RAW_FILE = "run.json", "config.yaml", "events.jsonl", "raw.xdf"


def encode_event(event: Mapping[str, Any] | str) -> bytes:
    """One line of JSON, which a text already is. An event that JSON cannot hold becomes a line that says so."""
    if isinstance(event, str):
        return event.encode() + b"\n"
    try:
        try:
            text = json.dumps(event, allow_nan=False, default=_plain)
        except ValueError:  # not finite, or circular
            text = json.dumps(_finite(event), allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        plain = {k: v for k, v in event.items() if isinstance(k, str) and isinstance(v, str | int)}
        text = json.dumps(plain | {"not_json": str(error)})
    return text.encode() + b"\n"


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def _finite(value: object) -> object:
    """Copy of `value` with null for numbers that are not finite, which JSON does not have."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` at once, so that it is whole at every instant."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(json.dumps(_finite(value), indent=2, default=str).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def versions() -> dict[str, str | int | None]:
    """Return the versions of what takes part in a run; None for what is not there."""
    found: dict[str, str | int | None] = {
        "streamscore": streamscore.__version__,
        "python": platform.python_version(),
    }
    for package in ("torch", "numpy", "pylsl"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    # Only if it is loaded: otherwise it has no part in the run, and loading it takes time and may fail.
    pylsl = sys.modules.get("pylsl")
    found["liblsl"] = None if pylsl is None else int(pylsl.library_version())
    return found


@dataclass(frozen=True)
class RunRecord:
    """A run as it was recorded.

    Parameters
    ----------
    folder
        Where it is.
    run
        Contents of ``run.json``. ``run["end"]`` is None for a run that was killed.
    events
        Events in the order of the file.
    n_damaged_lines
        Lines that were not whole: at most the last one of a run that was killed.
    config_text
        The resolved configuration.
    raw_path
        The raw stream, for :func:`streamscore.recordings.base.read_recording`.
    """

    folder: Path
    run: dict[str, Any]
    events: list[dict[str, Any]]
    n_damaged_lines: int
    config_text: str
    raw_path: Path


def read_run(folder: Path | str) -> RunRecord:
    """Read the record of a run, also of one that is under way or was killed.

    Raises
    ------
    RecordError
        If `folder` is not the folder of a run, or of one with another format.
    """
    folder = Path(folder)
    try:
        run = json.loads((folder / RUN_FILE).read_bytes())
        config_text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
        lines = (folder / EVENTS_FILE).read_bytes().splitlines()
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{folder}: not the folder of a run ({error}); name the folder that holds {RUN_FILE}"
        ) from error
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise RecordError(
            f"{folder / RUN_FILE}: not in the format {FORMAT}; read it with the version of streamscore "
            "that it names under 'versions'"
        )
    events, n_damaged_lines = [], 0
    for line in filter(None, lines):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            events.append(event)
        else:
            n_damaged_lines += 1
    return RunRecord(folder, run, events, n_damaged_lines, config_text, folder / RAW_FILE)
