"""One recording, scored and compared: what every figure of an evaluation is computed from.

A :class:`Scored` holds the truth and what a scorer said on the same grid of epochs, and how the scorer came to it.
It is a ``.npz`` file without pickles, so that figures can be computed again, and by others.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from offline.atomic import replacing
from streamscore.errors import RecordError, RecordingError
from streamscore.labels import UNKNOWN_CODE
from streamscore.types import FloatArray, TimeArray

Codes = npt.NDArray[np.int8]
Kind = Literal["final", "provisional", "baseline"]

#: Why an epoch is unknown that no output described, for example because the recording ended before the last word.
NO_OUTPUT = "no output"


def _no_codes() -> Codes:
    return np.zeros(0, np.int8)


def _no_times() -> TimeArray:
    return np.zeros(0, np.float64)


@dataclass(frozen=True, eq=False)
class Scored:
    """One recording at one look-ahead. Epoch `k` covers ``[t0_s + k * epoch_s, t0_s + (k + 1) * epoch_s)``.

    Parameters
    ----------
    subject, session
        Whose recording, and which.
    labels
        Vocabulary of truth and scorer.
    epoch_s, t0_s
        The grid: length of an epoch and start of the first one in seconds.
    lag_s
        Algorithmic lag: time from the end of the epoch described to the output, at most.
    kind
        Which outputs: ``"final"``, ``"provisional"``, or those of a ``"baseline"``.
    truth
        ``(n,)`` int8 codes; -1 where unlabelled, or outside the hours that count.
    codes
        ``(n,)`` int8 codes of the scorer; -1 where unknown.
    probs
        ``(n, n_labels)`` float32, rows of NaN where unknown.
    stream_s, compute_s
        Length of the recording, and wall time that scoring it took.
    reasons, reason
        Why epochs are unknown: the different reasons, and for each epoch ``(n,)`` int8 which one; -1 where known.
        Empty if nobody told.
    outputs_s, stops_s, output_codes
        Every output in the order in which it was given, those between the epochs of the grid too: when it was
        given and when the epoch that it describes ends, ``(m,)`` float64, and its code ``(m,)`` int8. Empty stands
        for those of the grid, each given as its epoch has ended and the lag has passed.
    target
        States that the policy acts on; empty if none was replayed.
    actions_s
        ``(n_actions, 2)`` float64: when the policy switched on, and when it was off again.
    hop_s
        Time between outputs in seconds; 0 stands for an epoch.

    Raises
    ------
    RecordingError
        If the arrays do not fit each other.
    """

    subject: str
    session: str
    labels: tuple[str, ...]
    epoch_s: float
    t0_s: float
    lag_s: float
    kind: Kind
    truth: Codes
    codes: Codes
    probs: FloatArray
    stream_s: float
    compute_s: float
    reasons: tuple[str, ...] = ()
    reason: Codes = field(default_factory=_no_codes)
    outputs_s: TimeArray = field(default_factory=_no_times)
    stops_s: TimeArray = field(default_factory=_no_times)
    output_codes: Codes = field(default_factory=_no_codes)
    target: tuple[str, ...] = ()
    actions_s: TimeArray = field(default_factory=lambda: np.zeros((0, 2), np.float64))
    hop_s: float = 0.0

    def __post_init__(self) -> None:
        n, n_labels = len(self.truth), len(self.labels)
        wrong = [
            f"{name} is {array.shape}, expected {shape}"
            for name, array, shape in (
                ("truth", self.truth, (n,)),
                ("codes", self.codes, (n,)),
                ("probs", self.probs, (n, n_labels)),
                ("reason", self.reason, (n if len(self.reason) else 0,)),
                ("stops_s", self.stops_s, self.outputs_s.shape),
                ("output_codes", self.output_codes, self.outputs_s.shape),
                ("actions_s", self.actions_s, (len(self.actions_s), 2)),
            )
            if array.shape != shape
        ]
        for name, codes, n_names in (
            ("truth", self.truth, n_labels),
            ("codes", self.codes, n_labels),
            ("output_codes", self.output_codes, n_labels),
            ("reason", self.reason, len(self.reasons)),
        ):
            if codes.size and not UNKNOWN_CODE <= codes.min() <= codes.max() < n_names:
                wrong.append(f"{name} has codes from {codes.min()} to {codes.max()} for {n_names} names")
        if not (0 < self.epoch_s < math.inf) or not math.isfinite(self.t0_s):
            wrong.append(f"epoch_s is {self.epoch_s} and t0_s {self.t0_s}")
        if wrong:
            raise RecordingError(f"scores of {self.session}: {'; '.join(wrong)}; score the recording again")

    @property
    def n_labelled(self) -> int:
        """Epochs that count."""
        return int((self.truth >= 0).sum())

    def outputs(self) -> tuple[TimeArray, TimeArray, Codes]:
        """When each output was given, when the epoch that it describes ends, and its code, all ``(m,)``."""
        if len(self.outputs_s):
            return self.outputs_s, self.stops_s, self.output_codes
        ends_s = np.asarray(self.t0_s + (np.arange(len(self.codes)) + 1.0) * self.epoch_s, np.float64)
        return ends_s + self.lag_s, ends_s, self.codes

    @property
    def file_name(self) -> str:
        """Name of its file in an evaluation folder, ``<session>@<look-ahead>.npz``."""
        at = "baseline" if self.kind == "baseline" else f"{self.lag_s:g}"
        return f"{safe_name(self.subject, self.session)}@{at}.npz"

    def answered_by(
        self,
        probs: npt.NDArray[np.float32],
        *,
        lag_s: float = 0.0,
        compute_s: float = 0.0,
        reasons: tuple[str, ...] = (),
        reason: Codes | None = None,
    ) -> Scored:
        """Return what another learner says of the same epochs, as kind ``"baseline"``, without outputs in between.

        Parameters
        ----------
        probs
            ``(n, n_labels)``, rows of NaN where it says nothing.
        lag_s, compute_s, reasons, reason
            As of the class; without `reason` the first of `reasons` holds wherever nothing is said.
        """
        known = np.isfinite(probs).all(axis=1)
        codes = np.full(len(probs), UNKNOWN_CODE, np.int8)
        codes[known] = probs[known].argmax(axis=1)
        if reason is None:
            reason = np.where(known, -1, 0).astype(np.int8) if reasons else np.zeros(0, np.int8)
        return replace(
            self,
            kind="baseline",
            lag_s=lag_s,
            codes=codes,
            probs=probs,
            compute_s=compute_s,
            reasons=reasons,
            reason=reason,
            outputs_s=np.zeros(0),
            stops_s=np.zeros(0),
            output_codes=np.zeros(0, np.int8),
        )

    def write(self, path: Path) -> None:
        """Write it as ``.npz``; a file of that name is replaced at once or not at all.

        Raises
        ------
        RecordError
            If it cannot be written.
        """
        arrays: dict[str, Any] = {item.name: np.asarray(getattr(self, item.name)) for item in fields(self)}
        for name in ("labels", "reasons", "target"):
            arrays[name] = np.array(getattr(self, name), np.str_)
        write_npz(path, arrays)


def read(path: Path) -> Scored:
    """Read what :meth:`Scored.write` wrote.

    Raises
    ------
    RecordingError
        If the file is absent, damaged or something else.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        values: dict[str, Any] = {}
        for item in fields(Scored):
            if item.name in ("labels", "reasons", "target"):
                values[item.name] = tuple(map(str, found[item.name]))
            elif found[item.name].ndim == 0:
                values[item.name] = found[item.name].item()
            else:
                values[item.name] = found[item.name]
        return Scored(**values)
    except KeyError as error:
        raise RecordingError(f"{path}: holds no {error}, so it is not one of scores; score again") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path}: cannot be read as scores: {error}; score again") from error


def read_folder(folder: Path) -> list[Scored]:
    """Read all scores of an evaluation folder (or of its ``scored``), by name.

    Raises
    ------
    RecordingError
        If there are none, or one cannot be read.
    """
    inner = folder / "scored" if (folder / "scored").is_dir() else folder
    paths = sorted(inner.glob("*.npz"))
    if not paths:
        raise RecordingError(f"{folder}: holds no scores (scored/*.npz); run streamscore evaluate --out {folder}")
    return [read(path) for path in paths]


def write_all(folder: Path, scored: Iterable[Scored]) -> list[Path]:
    """Write each into `folder` under its own name, and return the paths.

    Raises
    ------
    RecordError
        If one cannot be written, or two have the same name.
    """
    written: list[Path] = []
    for one in scored:
        path = folder / one.file_name
        if path in written:
            raise RecordError(
                f"{path}: two recordings of {one.subject} are called {one.session}; rename one of them"
            )
        one.write(path)
        written.append(path)
    return written


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays compressed; the file appears whole or not at all.

    Raises
    ------
    RecordError
        If it cannot be written.
    """
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def safe_name(subject: str, session: str) -> str:
    """Name of a recording that can stand in a file's: the session, with the subject where it does not say so."""
    name = session if session.startswith(subject) else f"{subject}-{session}" if session else subject
    return "".join(letter if letter.isalnum() or letter in "-_.+" else "_" for letter in name)


def by_subject(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Group by subject, in the order in which they first occur."""
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        groups.setdefault(one.subject, []).append(one)
    return groups
