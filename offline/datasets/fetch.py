"""Open data sets from their archives, every file compared with its published checksum.

PhysioNet publishes ``SHA256SUMS.txt`` with each data set. It is fetched first; pooch then fetches the
recordings that are wanted, and keeps a file only if its checksum is right. Files that are there already and
right are not fetched again, so the same command goes on where it stopped.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from streamscore.errors import ConfigError, RecordError, SourceError

SUMS = "SHA256SUMS.txt"
_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})\s+\*?(?P<path>\S.*)")
_TIMEOUT_S = 60.0
#: Tries after the first, each a second later than the last.
RETRIES = 3


@dataclass(frozen=True)
class OpenSet:
    """A data set that may be fetched.

    Parameters
    ----------
    base_url
        Where it lies; ends with a slash.
    wanted
        Regular expression that a file's path must fit; its group ``subject`` says whose it is.
    """

    base_url: str
    wanted: str


SETS = {
    "sleep_edf": OpenSet(
        "https://physionet.org/files/sleep-edfx/1.0.0/",
        r"sleep-cassette/(?P<subject>SC4\d\d)\d\w\w-(PSG|Hypnogram)\.edf",
    ),
    "ucddb": OpenSet(
        "https://physionet.org/files/ucddb/1.0.0/",
        r"(?P<subject>ucddb\d{3})(\.rec|_stage\.txt)",
    ),
    "calcium_sleep": OpenSet(
        "https://physionet.org/files/calcium-imaging-sleep-state/1.0.1/",
        r"(?P<subject>[^/]+)/.*\.mat|(?P<alone>\d+-\w+\d+)-.*\.mat",
    ),
}


@dataclass(frozen=True)
class Remote:
    """A file to be fetched."""

    path: str
    sha256: str
    subject: str


def plan(
    kind: str,
    folder: Path,
    *,
    base_url: str | None = None,
    subjects: Collection[str] = (),
    retries: int = RETRIES,
) -> list[Remote]:
    """Fetch the list of checksums and tell which files of it are wanted.

    Parameters
    ----------
    kind
        One of :data:`SETS`.
    folder
        Where the data set goes.
    base_url
        A mirror; ``None`` takes the archive itself.
    subjects
        Whose recordings; none takes all. ``SC400`` may be called ``00``, and ``ucddb002`` ``002``.
    retries
        Tries after the first.

    Raises
    ------
    ConfigError
        If the set cannot be fetched, or has no such subject.
    SourceError
        If the list cannot be fetched or is damaged.
    RecordError
        If the folder cannot be written to.
    """
    if kind not in SETS:
        from offline.datasets.base import load

        raise ConfigError(f"{kind} cannot be fetched: {load(kind).ABOUT.get}; choose one of {', '.join(SETS)}")
    url = _base(kind, base_url) + SUMS
    text = _retrieve(url, folder / SUMS, None, retries).read_text(encoding="utf-8", errors="replace")
    found = []
    for line in text.splitlines():
        entry = _LINE.fullmatch(line.strip())
        name = re.fullmatch(SETS[kind].wanted, entry["path"]) if entry else None
        if entry and name:
            parts = PurePosixPath(entry["path"])
            if parts.is_absolute() or ".." in parts.parts:
                raise SourceError(
                    f"{url}: lists {entry['path']!r}, which lies outside of the folder; do not trust it"
                )
            found.append(Remote(entry["path"], entry["sha256"], next(filter(None, name.groupdict().values()))))
    if not found:
        raise SourceError(f"{url}: lists no recording of {kind}; check the address given with --base-url")
    return _of(found, subjects)


def fetch(
    kind: str, folder: Path, files: Collection[Remote], *, base_url: str | None = None, retries: int = RETRIES
) -> Iterator[Remote]:
    """Fetch `files` of :func:`plan`, and yield each when it is there and right.

    Raises
    ------
    SourceError
        If a file cannot be fetched, or is not the one published; nothing is left under its name.
    RecordError
        If the disk is full, or the folder may not be written to.
    """
    for file in files:
        _retrieve(_base(kind, base_url) + file.path, folder / file.path, f"sha256:{file.sha256}", retries)
        yield file


def _base(kind: str, base_url: str | None) -> str:
    return (base_url or SETS[kind].base_url).rstrip("/") + "/"


def _of(files: list[Remote], subjects: Collection[str]) -> list[Remote]:
    known = sorted({file.subject for file in files})
    wanted = set()
    for subject in subjects:
        named = [name for name in known if name == subject or (subject.isdigit() and name.endswith(subject))]
        if len(named) != 1:
            raise ConfigError(f"--subjects {subject}: there is no such subject; choose from {', '.join(known)}")
        wanted.update(named)
    return [file for file in files if not subjects or file.subject in wanted]


def _retrieve(url: str, path: Path, known_hash: str | None, retries: int) -> Path:
    """Fetch a file by way of a temporary one beside it; one that is there and right stays."""
    try:
        import pooch
        import requests
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'fetching needs the package {error.name}; run: pip install "streamscore[train]"'
        ) from error
    logging.getLogger("pooch").setLevel(logging.ERROR)  # what it says at other levels, the caller says
    try:
        if known_hash and path.is_file() and pooch.hashes.hash_matches(str(path), known_hash):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        downloader = pooch.HTTPDownloader(chunk_size=2**18, timeout=_TIMEOUT_S)
        pooch.core.stream_download(url, path, known_hash, downloader, retry_if_failed=retries)
        return path
    except requests.exceptions.RequestException as error:
        raise SourceError(
            f"{url}: cannot be fetched ({error}); check address and network, and run the command again: it "
            "goes on where it stopped"
        ) from error
    except ValueError as error:
        raise SourceError(
            f"{url}: is not the file that was published, its checksum differs; fetch it again, or from another "
            "mirror with --base-url"
        ) from error
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be written ({error}); make room or choose another folder with --to, and run the "
            "command again: it goes on where it stopped"
        ) from error
