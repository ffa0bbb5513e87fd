"""A folder of recordings as a data set: who was recorded, where signal and labels are, and how both are read.

A kind of data set is a file of this folder with

``ABOUT``
    What it is, for people.
``Config``
    :class:`Options`, or what it adds to them.
``matches(folder)``
    Whether the folder looks like one.
``find(folder, config)``
    Its recordings as entries, unread.
``read(entry, config)``
    One of them with its labels, as they are in the files.

and a line in :data:`KINDS`. A file ``dataset.json`` in the folder may name the kind and give options:
``{"kind": "plain", "vocabulary": "AASM5"}``. Folds are made of subjects, so a subject is a person or an
animal, and never a night.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from offline.datasets.fitting import Problem, fit
from offline.datasets.labels import Naming
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import VOCABULARIES
from streamscore.movies import base as movies
from streamscore.movies.base import Movie
from streamscore.recordings.base import READERS, Recording

#: Kinds in the order in which a folder is compared with them.
KINDS = (
    *("sleep_edf", "mass", "ucddb", "calcium_sleep", "mouse_bands", "roi_tables", "bids", "run_rest", "plain"),
    "mouse_eeg",
)
OPTIONS_FILE = "dataset.json"
#: Keys of ``dataset.json`` that describe and are no options.
_DESCRIPTIONS = ("kind", "title", "source", "licence", "simulated")


@dataclass(frozen=True)
class About:
    """What a kind is.

    Parameters
    ----------
    title, source, licence
        One line each; the source is an address where there is one.
    layout
        Which files are expected where.
    get
        How to come by the data.
    vocabulary
        Name of the states' vocabulary, or ``"any"``.
    """

    title: str
    source: str
    licence: str
    layout: str
    get: str
    vocabulary: str


class Options(BaseModel):
    """Options of every kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: dict[str, str] = Field(
        default={}, description="Name here → channel of the files ('A|B' tries both, 'A - B' is a difference)."
    )
    states: dict[str, str] = Field(default={}, description="Word of the label files → state, or UNKNOWN.")
    vocabulary: str | None = Field(default=None, description=f"One of {', '.join(VOCABULARIES)}.")

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The vocabulary; ``None`` if it is to be recognised."""
        if self.vocabulary is None:
            return None
        if self.vocabulary not in VOCABULARIES:
            raise ConfigError(f"vocabulary {self.vocabulary!r}: choose one of {', '.join(VOCABULARIES)}")
        return VOCABULARIES[self.vocabulary]

    @property
    def naming(self) -> Naming:
        """How words of label files are understood."""
        return Naming(self.labels, self.states)


@dataclass(frozen=True)
class Entry:
    """One recording, unread.

    Parameters
    ----------
    subject
        Person or animal.
    session
        Name of the recording; no two of a data set have the same.
    signal
        File of the samples or frames.
    labels
        File of the labels; ``None`` where they are in `signal`.
    details
        What else the kind knows, in words.
    """

    subject: str
    session: str
    signal: Path
    labels: Path | None = None
    details: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Dataset:
    """The recordings of a folder. Made by :func:`open_dataset`.

    Parameters
    ----------
    kind, folder
        What it is and where.
    entries
        Sorted by subject and session.
    config
        Options of the kind.
    described
        What ``dataset.json`` says beside options: title, source, licence, simulated.
    """

    kind: str
    folder: Path
    entries: tuple[Entry, ...]
    config: Options
    described: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Every person or animal once, sorted."""
        return tuple(sorted({entry.subject for entry in self.entries}))

    @property
    def is_simulated(self) -> bool:
        """Whether its recordings were simulated."""
        return bool(self.described.get("simulated", False))

    def of(self, subjects: Iterable[str]) -> tuple[Entry, ...]:
        """Entries of `subjects`.

        Raises
        ------
        ConfigError
            If the data set has no such subject; the message lists those that it has.
        """
        wanted = tuple(subjects)
        missing = sorted(set(wanted) - set(self.subjects))
        if missing:
            raise ConfigError(f"{self.folder}: has no subject {missing[0]!r}; it has {', '.join(self.subjects)}")
        return tuple(entry for entry in self.entries if entry.subject in wanted)

    def read(self, entry: Entry) -> Recording | Movie:
        """Read a recording with its labels; a movie is open, and its frames are read when asked for.

        Labels and signal are cut to what they share (:func:`offline.datasets.fitting.fit`).

        Raises
        ------
        RecordingError
            If it cannot be used; the message names file and remedy.
        """
        return self.inspect(entry)[0]

    def inspect(self, entry: Entry) -> tuple[Recording | Movie, tuple[Problem, ...]]:
        """Read a recording as :meth:`read` does, with what was left out."""
        recording = load(self.kind).read(entry, self.config)
        try:
            return fit(recording, str(entry.signal))
        except BaseException:
            if isinstance(recording, Movie):
                recording.close()
            raise

    def unused(self) -> tuple[Path, ...]:
        """Files of the folder that could hold signals and are in no entry."""
        used = {path.resolve() for entry in self.entries for path in (entry.signal, entry.labels) if path}
        return tuple(path for path in recordings_in(self.folder) if path.resolve() not in used)


def open_dataset(folder: Path, kind: str | None = None, **options: Any) -> Dataset:
    """Find the recordings in `folder`; none is read.

    Parameters
    ----------
    folder
        Of the data set.
    kind
        One of :data:`KINDS`; ``None`` takes what ``dataset.json`` says, or else recognises the layout.
    **options
        Of the kind, see its ``Config``; they win over those in ``dataset.json``.

    Raises
    ------
    ConfigError
        If there is no such kind or option.
    RecordingError
        If the folder is absent, of no known kind, or holds no recording.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such folder; give the folder that holds the recordings")
    described = _described(folder)
    kind = kind or described.get("kind") or recognise(folder)
    module = load(kind)
    told = {key: value for key, value in described.items() if key not in _DESCRIPTIONS}
    if kind != described.get("kind", kind):  # its options are those of another kind
        told = {}
    try:
        config: Options = module.Config(**{**told, **options})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        choices = ", ".join(module.Config.model_fields)
        raise ConfigError(
            f"{folder}: option {name} of {kind}: {first['msg']}; its options are {choices}"
        ) from error
    entries = sorted(module.find(folder, config), key=lambda entry: (entry.subject, entry.session))
    if not entries:
        raise RecordingError(f"{folder}: holds no recording of the kind {kind}: {module.ABOUT.layout}")
    sessions = [entry.session for entry in entries]
    twice = next((name for name in sessions if sessions.count(name) > 1), None)
    if twice is not None:
        files = ", ".join(str(entry.signal) for entry in entries if entry.session == twice)
        raise RecordingError(f"{folder}: two recordings are called {twice!r} ({files}); rename or remove one")
    return Dataset(
        kind, folder, tuple(entries), config, {k: v for k, v in described.items() if k in _DESCRIPTIONS}
    )


def recognise(folder: Path) -> str:
    """Kind of `folder` by its layout.

    Raises
    ------
    RecordingError
        If it is of none; the message lists what was tried.
    """
    for kind in KINDS:
        if load(kind).matches(folder):
            return kind
    tried = "\n".join(f"  {kind}: {load(kind).ABOUT.layout}" for kind in KINDS)
    raise RecordingError(
        f"{folder}: of no known kind; name it with --dataset, or lay the files out as one of these:\n{tried}"
    )


def load(kind: str) -> ModuleType:
    """Module of a kind.

    Raises
    ------
    ConfigError
        If there is none; the message lists the choices.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of data set {kind!r}; choose one of {', '.join(sorted(KINDS))}")
    return importlib.import_module(f"offline.datasets.{kind}")


def recordings_in(folder: Path) -> list[Path]:
    """Files of `folder` and below it whose suffix is one of signals or movies; text and hidden files are not."""
    suffixes = {*READERS, *movies.READERS, ".rec"} - {".csv", ".tsv", ".txt"}
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _described(folder: Path) -> dict[str, Any]:
    path = folder / OPTIONS_FILE
    if not path.is_file():
        return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(described, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{path}: not JSON ({error}); write it like {{"kind": "plain", "vocabulary": "AASM5"}}'
        ) from error
    return described
