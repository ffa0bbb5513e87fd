"""Small files of signals and labels, laid out as data sets have them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from edfio import Edf, EdfAnnotation, EdfSignal

#: Where the real recordings are; they are not part of the project and may be absent.
SHARED = Path(__file__).parents[4] / "shared" / "data"

Row = tuple[float, float, str]


def shared(name: str) -> Path:
    """Folder of real recordings; the test is skipped where it is absent."""
    folder = SHARED / name
    if not folder.exists():
        pytest.skip(f"{folder} is not here: recordings are kept outside the project")
    return folder


@contextmanager
def small_disk(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond `n_bytes`: writing fails with an ``OSError``, as on a full disk."""
    resource = pytest.importorskip("resource", reason="limits of files are Unix's")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noise(n_samples: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Samples between -100 and 100."""
    return np.random.default_rng(seed).uniform(-100, 100, n_samples)


def write_edf(
    path: Path,
    channels: Mapping[str, float] | None,
    n_s: float = 0,
    annotations: Iterable[Row] = (),
    start: datetime.time | None = None,
) -> Path:
    """Write an EDF+ file.

    Parameters
    ----------
    path
        The file.
    channels
        Label → rate in Hz of channels of noise; ``None`` for annotations alone.
    n_s
        Length in seconds.
    annotations
        Onset, duration and text.
    start
        Time of day that the header tells.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    signals = [
        EdfSignal(
            noise(round(n_s * sfreq), k), sfreq, label=label, physical_dimension="uV", physical_range=(-100, 100)
        )
        for k, (label, sfreq) in enumerate((channels or {}).items())
    ]
    texts = [EdfAnnotation(onset_s, duration_s, text) for onset_s, duration_s, text in annotations]
    duration = 1 if signals else None
    Edf(signals, annotations=texts, data_record_duration=duration, starttime=start).write(path)
    return path


def write_npz(path: Path, n_s: float, sfreq: float = 10.0, channels: Sequence[str] = ("EEG",)) -> Path:
    """Write noise in the plain layout of :mod:`streamscore.recordings.npz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_samples = round(n_s * sfreq)
    data = noise(n_samples * len(channels)).reshape(n_samples, -1).astype(np.float32)
    np.savez(path, data=data, sfreq=sfreq, channels=np.array(channels))
    return path


def write_table(path: Path, rows: Iterable[Row], header: str = "start_s,duration_s,state", cut: str = ",") -> Path:
    """Write a table of bouts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header.replace(",", cut), *(cut.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def epochs(words: Sequence[str], epoch_s: float, t0_s: float = 0.0) -> list[Row]:
    """One row an epoch."""
    return [(t0_s + k * epoch_s, epoch_s, word) for k, word in enumerate(words)]
