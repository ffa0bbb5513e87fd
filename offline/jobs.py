"""A job: a call of a function, in a folder of its own, done once.

The folder says what was asked for (``job.json``) and holds what the function needs to go on after an interruption.
In the end, it has the result (``result.json``), which appears whole or not at all. What is done is not done again.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from offline.atomic import replacing
from streamscore.errors import ConfigError, RecordError, StreamscoreError

#: Fields that an error names; more are counted.
_MAX_LISTED = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,@+-]*")


class Failure(NamedTuple):
    """What went wrong with a job, and what a command that fails of it exits with."""

    text: str
    exit_code: int = StreamscoreError.exit_code


@dataclass(frozen=True)
class Job:
    """What to call, with what, and where.

    Parameters
    ----------
    name
        That of its folder; with ``/``, of one inside another.
    path
        ``module:name`` of the function. It takes the folder first.
    arguments
        Further arguments, as JSON holds them.
    folder
        Absolute; the same on every machine.
    """

    name: str
    path: str
    arguments: Mapping[str, Any]
    folder: Path

    @classmethod
    def of(cls, function: Callable[..., Any], name: str, arguments: Mapping[str, Any], inside: Path) -> Job:
        """Make the job `name` in a folder of that name.

        Raises
        ------
        ConfigError
            If another process could not import the function, the arguments are not for JSON, the name is not for
            a folder, or the job was begun there with other arguments.
        """
        path = f"{function.__module__}:{function.__qualname__}"
        if "<" in path or "." in function.__qualname__ or function.__module__ == "__main__":
            raise ConfigError(f"jobs: a worker cannot import {path}; use a function of a module's top level")
        if not all(_NAME.fullmatch(part) for part in name.split("/")):
            raise ConfigError(f"jobs: {name!r} cannot name a folder; use letters, digits and . _ = , @ + -")
        try:
            plain = json.loads(json.dumps(dict(arguments)))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"job {name}: arguments cannot be written as JSON: {error}") from error
        job = cls(name, path, plain, inside.absolute() / name)
        job._refuse_another()
        return job

    @property
    def asked(self) -> Path:
        """File with what was asked for."""
        return self.folder / "job.json"

    @property
    def answer(self) -> Path:
        """File with the result."""
        return self.folder / "result.json"

    @property
    def log(self) -> Path:
        """File with what it printed on a cluster."""
        return self.folder / "log.txt"

    @property
    def trace(self) -> Path:
        """File with where it stood at a mistake of its own."""
        return self.folder / "error.txt"

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        return self.answer.exists()

    def begin(self) -> None:
        """Make its folder."""
        _write(self.asked, {"function": self.path, "arguments": self.arguments})

    def attempt(self, n_threads: int) -> Failure | None:
        """Run it here with so many threads and write its result; returns what went wrong, if anything did."""
        module, _, name = self.path.partition(":")
        n_threads_before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            result = getattr(importlib.import_module(module), name)(self.folder, **self.arguments)
            _write(self.answer, {"result": result})
        except StreamscoreError as error:
            return Failure(str(error), error.exit_code)
        except Exception as error:  # a mistake of one job must not take the others with it
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                return Failure(
                    f"the disk is full ({error}); make room there, or choose another folder", RecordError.exit_code
                )
            with contextlib.suppress(OSError):
                self.trace.write_text(traceback.format_exc(), encoding="utf-8")
            return Failure(f"{type(error).__name__}: {error}; see {self.trace}")
        finally:
            torch.set_num_threads(n_threads_before)
        return None

    def result(self) -> Any:
        """Read its result.

        Raises
        ------
        RecordError
            If it cannot be read.
        """
        return _read(self.answer)["result"]

    def _refuse_another(self) -> None:
        """Compare with what was begun in the folder."""
        if not self.asked.exists():
            return
        found = _read(self.asked)
        begun = {"(function)": found["function"], **found["arguments"]}
        wanted = {"(function)": self.path, **self.arguments}
        changed = list(_differences(begun, wanted))
        if changed:
            told = ", ".join(changed[:_MAX_LISTED])
            told += f" and {len(changed) - _MAX_LISTED} more" if len(changed) > _MAX_LISTED else ""
            raise ConfigError(
                f"{self.folder}: begun with other arguments: {told}; choose another folder, or remove this one to "
                "run it anew"
            )


def _differences(begun: Any, wanted: Any, name: str = "") -> Iterator[str]:
    """Say of each field in which two arguments differ what it was and is; fields inside others by their path."""
    pairs: Iterable[tuple[object, Any, Any]]
    if isinstance(begun, dict) and isinstance(wanted, dict):
        pairs = [(key, begun.get(key), wanted.get(key)) for key in sorted(begun.keys() | wanted.keys())]
    elif isinstance(begun, list) and isinstance(wanted, list) and len(begun) == len(wanted):
        pairs = [(k, *pair) for k, pair in enumerate(zip(begun, wanted, strict=True))]
    else:
        if begun != wanted:
            yield f"{name} was {_short(begun)}, is {_short(wanted)}"
        return
    for key, one, two in pairs:
        yield from _differences(one, two, f"{name}.{key}" if name else str(key))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _read(file: Path) -> dict[str, Any]:
    """Read a file that was written whole."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{file}: cannot be read: {error}; if other machines wrote it, the folder must be on a file system "
            "that all share"
        ) from error
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    with replacing(file) as beside:
        beside.write_text(json.dumps(content, indent=1), encoding="utf-8")
