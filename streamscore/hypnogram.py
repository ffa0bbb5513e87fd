"""A night of states: one code, and if known one probability per label, for each epoch.

A hypnogram is written as CSV for people and spreadsheets, and as an EDF+ file of annotations for the readers
of the field (EDFbrowser, MNE, YASA).
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from edfio import Edf, EdfAnnotation
from edfio import Recording as EdfRecording

from streamscore.annotations import declaration, declared, states_of, text_of
from streamscore.edfplus import read_annotations, read_header
from streamscore.errors import ConfigError, RecordError, RecordingError
from streamscore.labels import UNKNOWN_CODE, code_of, name_of
from streamscore.types import FloatArray, Posterior, TimeArray

_COLUMNS = ("epoch", "start_s", "duration_s", "state", "valid")
_PROB_PREFIX = "prob_"
#: A device runs at its nominal rate to within this part, so an epoch lasts that long by its stamps.
_RATE_TOLERANCE = 0.01
#: Room in an EDF+ recording identification behind "Startdate dd-MMM-yyyy X X streamscore ".
_DECLARATION_CHARS = 80 - 38


@dataclass(frozen=True, eq=False)
class Hypnogram:
    """States on a regular grid: epoch `k` covers ``[t0_s + k * epoch_s, t0_s + (k + 1) * epoch_s)``.

    Parameters
    ----------
    labels
        Vocabulary.
    epoch_s
        Length of an epoch in seconds.
    t0_s
        Start of the first epoch in seconds, on the clock of the recording or run.
    codes
        ``(n,)`` int8, index into `labels`; -1 is UNKNOWN.
    probs
        ``(n, len(labels))`` float32; rows of NaN where nothing is known.

    Raises
    ------
    ConfigError
        If the shapes disagree, a code is not of the vocabulary, or `epoch_s` is not above 0.
    """

    labels: tuple[str, ...]
    epoch_s: float
    t0_s: float
    codes: npt.NDArray[np.int8]
    probs: FloatArray

    def __post_init__(self) -> None:
        if self.codes.ndim != 1 or self.probs.shape != (len(self.codes), len(self.labels)):
            raise ConfigError(
                f"hypnogram: codes are {self.codes.shape} and probs {self.probs.shape}; with "
                f"{len(self.labels)} labels they must be (n,) and (n, {len(self.labels)})"
            )
        if len(self.codes) and not UNKNOWN_CODE <= self.codes.min() <= self.codes.max() < len(self.labels):
            raise ConfigError(
                f"hypnogram: codes run from {self.codes.min()} to {self.codes.max()}; with {len(self.labels)} "
                f"labels they must be from {UNKNOWN_CODE} (unknown) to {len(self.labels) - 1}"
            )
        if not 0 < self.epoch_s < np.inf or not np.isfinite(self.t0_s):
            raise ConfigError(f"hypnogram: epoch_s is {self.epoch_s} and t0_s {self.t0_s}; give seconds")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def starts_s(self) -> TimeArray:
        """Start of each epoch, ``(n,)`` in seconds."""
        return np.asarray(self.t0_s + np.arange(len(self)) * self.epoch_s, np.float64)

    @property
    def states(self) -> list[str]:
        """Name of each epoch's state, ``"UNKNOWN"`` where there is none."""
        return [name_of(int(code), self.labels) for code in self.codes]

    @classmethod
    def from_codes(
        cls, codes: npt.ArrayLike, labels: tuple[str, ...], epoch_s: float, t0_s: float = 0.0
    ) -> Hypnogram:
        """Hypnogram of `codes` ``(n,)`` without probabilities, as an expert or a recording gives it."""
        array = np.asarray(codes, np.int8)
        return cls(labels, epoch_s, t0_s, array, np.full((len(array), len(labels)), np.nan, np.float32))

    @classmethod
    def from_posteriors(
        cls,
        posteriors: Iterable[Posterior],
        labels: tuple[str, ...],
        epoch_s: float,
        t0_s: float = 0.0,
        tolerance_s: float | None = None,
    ) -> Hypnogram:
        """Hypnogram of a run.

        Only posteriors that describe one whole epoch of the grid are taken; a scorer with a shorter hop
        emits others between them. The first one that starts on the grid, to within `tolerance_s`, tells
        which sample indices are on it, and all others go by their index: the clock of a device drifts
        by more than a sample in minutes, and its stamps jitter.

        Where an epoch was scored more than once, a valid posterior stands above an invalid one (a gap may keep the
        final word from coming), a final above a revised above a provisional one, and a later one above an earlier
        one of its kind. Epochs without a valid posterior are UNKNOWN.

        Parameters
        ----------
        posteriors
            In the order in which they were emitted.
        labels
            Vocabulary of the scorer.
        epoch_s, t0_s
            The grid: length of an epoch and start of the first one in seconds.
        tolerance_s
            How far from the grid a start may be, in seconds; None is half a sample.

        Raises
        ------
        ConfigError
            If a posterior has a state or a number of probabilities that does not fit `labels`.
        """
        off_s = _RATE_TOLERANCE * epoch_s
        whole = [p for p in posteriors if p.stop > p.start and abs(p.t_stop_s - p.t_start_s - epoch_s) <= off_s]
        places = [round((p.t_start_s - t0_s) / epoch_s) for p in whole]
        anchor = None
        for posterior, k in zip(whole, places, strict=True):
            half_sample_s = 0.5 * epoch_s / (posterior.stop - posterior.start)
            limit_s = half_sample_s if tolerance_s is None else tolerance_s
            if abs(posterior.t_start_s - (t0_s + k * epoch_s)) <= limit_s:
                anchor = posterior
                break
        taken: dict[int, Posterior] = {}
        for posterior, k in zip(whole, places, strict=True):
            if k < 0 or anchor is None or not _same_grid(posterior, anchor):
                continue
            if k not in taken or _worth(posterior) >= _worth(taken[k]):
                taken[k] = posterior
        n_epochs = max(taken, default=-1) + 1
        codes = np.full(n_epochs, UNKNOWN_CODE, np.int8)
        probs = np.full((n_epochs, len(labels)), np.nan, np.float32)
        for k, posterior in taken.items():
            if posterior.valid:
                codes[k] = code_of(posterior.state, labels)
                if posterior.probs:
                    probs[k] = _check_probs(posterior, labels)
        return cls(labels, epoch_s, t0_s, codes, probs)

    def write_csv(self, path: Path | str) -> None:
        """Write one row per epoch: epoch, start_s, duration_s, state, valid and one ``prob_…`` per label.

        Times and probabilities are written so that they read back to the very same numbers; an unknown
        probability is an empty cell.

        Raises
        ------
        RecordError
            If the file cannot be written.
        """
        path = Path(path)
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow([*_COLUMNS, *(_PROB_PREFIX + label for label in self.labels)])
                for k, (start_s, code) in enumerate(zip(self.starts_s, self.codes, strict=True)):
                    state = name_of(int(code), self.labels)
                    probs = ["" if np.isnan(p) else str(p) for p in self.probs[k]]
                    row = (k, float(start_s), float(self.epoch_s), state, str(code >= 0).lower())
                    writer.writerow([*row, *probs])
        except OSError as error:
            raise _unwritable(path, error) from error

    def write_edf(self, path: Path | str, start_datetime: datetime.datetime | None = None) -> None:
        """Write an EDF+ file with one annotation per epoch.

        AASM5 states take the texts of the EDF+ standard (``Sleep stage N2``, ``Sleep stage R``), states of
        other vocabularies their names; unknown epochs are ``Sleep stage ?``. Onsets are the seconds of the
        grid. Probabilities have no place in such a file.

        Parameters
        ----------
        path
            File to write, ending in ``.edf``.
        start_datetime
            Date and time of second 0 of the grid's clock; None writes an anonymous date.

        Raises
        ------
        RecordError
            If there are no epochs, the date is not in 1985 to 2084 (a limit of EDF), or the file cannot be
            written.
        """
        path = Path(path)
        if len(self) == 0:
            raise RecordError(f"{path}: the hypnogram has no epochs, and EDF+ cannot hold an empty one")
        subfields = declaration(self.labels, float(self.epoch_s), _DECLARATION_CHARS)
        annotations = [
            EdfAnnotation(float(start_s), float(self.epoch_s), text_of(int(code), self.labels))
            for start_s, code in zip(self.starts_s, self.codes, strict=True)
        ]
        try:
            Edf(
                signals=[],
                annotations=annotations,
                starttime=start_datetime.time() if start_datetime else None,
                recording=EdfRecording(
                    startdate=start_datetime.date() if start_datetime else None,
                    equipment_code="streamscore",
                    additional=subfields,
                ),
            ).write(path)
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from error


def read_csv(path: Path | str) -> Hypnogram:
    """Read what :meth:`Hypnogram.write_csv` wrote.

    Raises
    ------
    RecordingError
        If a column is missing, a row is damaged, or there are no epochs; the message names the line.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{path}: cannot be read as CSV: {error}; check the path") from error
    n_fixed = len(_COLUMNS)
    header = rows[0] if rows else []
    if tuple(header[:n_fixed]) != _COLUMNS or not all(c.startswith(_PROB_PREFIX) for c in header[n_fixed:]):
        raise RecordingError(
            f"{path}: line 1 must name the columns {', '.join(_COLUMNS)} and {_PROB_PREFIX}… for each label, but "
            f"is {','.join(header)!r}; write the file with streamscore"
        )
    labels = tuple(column.removeprefix(_PROB_PREFIX) for column in header[n_fixed:])
    if len(rows) < 2:
        raise RecordingError(f"{path}: holds no epochs; score a recording of at least one epoch")
    codes = np.empty(len(rows) - 1, np.int8)
    probs = np.empty((len(rows) - 1, len(labels)), np.float32)
    times_s = np.empty((len(rows) - 1, 2))
    for k, row in enumerate(rows[1:]):
        try:
            epoch, start_s, duration_s, state, valid, *values = row
            codes[k] = code_of(state, labels)
            times_s[k] = float(start_s), float(duration_s)
            probs[k] = [float(value) if value else np.nan for value in values]
            if int(epoch) != k or valid != str(codes[k] >= 0).lower():
                raise ValueError(f"epoch {epoch} (due: {k}) is {state} with valid = {valid}")
        except (ValueError, ConfigError) as error:
            raise RecordingError(
                f"{path}, line {k + 2}: {error}; correct the row or write the file again"
            ) from error
    t0_s, epoch_s = map(float, times_s[0])
    starts_s = t0_s + np.arange(len(codes)) * epoch_s
    off_grid = np.flatnonzero((times_s[:, 1] != epoch_s) | (np.abs(times_s[:, 0] - starts_s) > 1e-6))
    if len(off_grid) or not (0 < epoch_s < np.inf and np.isfinite(t0_s)):
        line = int(off_grid[0]) + 2 if len(off_grid) else 2
        raise RecordingError(
            f"{path}, line {line}: start_s and duration_s are not on a grid of {epoch_s:g}-s epochs from "
            f"{t0_s:g} s; correct the row or write the file again"
        )
    return Hypnogram(labels, epoch_s, t0_s, codes, probs)


def read_edf_hypnogram(path: Path | str, labels: tuple[str, ...] | None = None) -> Hypnogram:
    """Read the scored annotations of an EDF+ file, be it streamscore's or another program's.

    Parameters
    ----------
    path
        The file, with or without signals.
    labels
        Vocabulary; None takes the one that streamscore declared in the file, or finds it from the
        texts (see :func:`streamscore.annotations.states_of`).

    Raises
    ------
    RecordingError
        If the file is damaged, has no scored annotations, or they fit no grid of epochs.
    """
    path = Path(path)
    try:
        header = read_header(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error}; check the path") from error
    declared_labels, epoch_s = declared(header.declarations)
    scored = states_of(read_annotations(header), labels or declared_labels, epoch_s, where=str(path))
    if scored is None:
        raise RecordingError(
            f"{path}: has no annotations that score states, like 'Sleep stage N2'; name the file that holds the "
            "scoring, or give the labels of its vocabulary"
        )
    return Hypnogram.from_codes(scored.codes, scored.labels, scored.epoch_s, scored.t0_s)


def _worth(posterior: Posterior) -> tuple[bool, int]:
    """Which of several words on an epoch stands."""
    return posterior.valid, ("provisional", "revised", "final").index(posterior.kind)


def _same_grid(posterior: Posterior, anchor: Posterior) -> bool:
    """Whether both are as long, and a whole number of epochs apart."""
    n_samples = anchor.stop - anchor.start
    return posterior.stop - posterior.start == n_samples and (posterior.start - anchor.start) % n_samples == 0


def _check_probs(posterior: Posterior, labels: tuple[str, ...]) -> tuple[float, ...]:
    if len(posterior.probs) != len(labels):
        raise ConfigError(
            f"posterior at {posterior.t_start_s:g} s has {len(posterior.probs)} probabilities for "
            f"{len(labels)} labels ({', '.join(labels)}); use the labels of the scorer"
        )
    return posterior.probs


def _unwritable(path: Path, error: Exception) -> RecordError:
    return RecordError(f"{path}: hypnogram cannot be written: {error}; choose another folder or correct it")
