"""Annotations that score states: the words of EDF+ files ↔ the codes of a vocabulary.

Three dialects are met: the texts of the EDF+ standard (``Sleep stage W``, ``N1`` … ``R``, ``?``), the same
with the Rechtschaffen and Kales digits of Sleep-EDF (``Sleep stage 1`` … ``4``; 3 and 4 are both N3), and
plain names (``N2``, ``NREM``). A plain name counts only if it lasts: ``R`` without a duration is more
likely the R wave of a heart beat than REM.

Sources: https://www.edfplus.info/specs/edftexts.html; Sleep-EDF, https://physionet.org/content/sleep-edfx/.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamscore.errors import RecordingError
from streamscore.labels import AASM5, MOUSE3, RK6, UNKNOWN, UNKNOWN_CODE, VOCABULARIES

#: Epoch of human sleep scoring where a file only gives run lengths (AASM manual; R&K).
HUMAN_EPOCH_S = 30.0
_MAX_EPOCHS = 10_000_000
#: A scored bout may start this far from the grid, in epochs, before the grid is called wrong.
_GRID_TOLERANCE = 0.05

_STANDARD_TEXTS = dict(zip(AASM5, ("W", "N1", "N2", "N3", "R"), strict=True))
_HEADER_WORD = re.compile(r"[!-+\--~]+")  # printable ASCII without blank and comma
_PREFIX = re.compile(r"sleep stage\s+", re.IGNORECASE)
_UNSCORED = {"?", "m", "mt", "unscored", "unknown"}
_PLAIN_SLEEP = {"w", "wake", "n1", "n2", "n3", "r", "rem"}
_AASM_WORDS = {"W": "w wake", "N1": "n1 s1 1", "N2": "n2 s2 2", "N3": "n3 n4 s3 s4 3 4", "REM": "r rem"}
_RK_WORDS = {"W": "w wake", "S1": "s1 1", "S2": "s2 2", "S3": "s3 3", "S4": "s4 4", "REM": "r rem"}
_LABEL_OF_WORD: dict[tuple[str, ...], dict[str, str]] = {
    names: {word: label for label, words in table.items() for word in words.split()}
    for names, table in ((AASM5, _AASM_WORDS), (RK6, _RK_WORDS))
}


class Annotation(NamedTuple):
    """A text at a time. `onset_s` counts from the first sample; `duration_s` is 0 where none is given."""

    onset_s: float
    duration_s: float
    text: str


@dataclass(frozen=True)
class ScoredStates:
    """States on a regular grid: epoch `k` starts at ``t0_s + k * epoch_s`` and has code ``codes[k]``."""

    labels: tuple[str, ...]
    epoch_s: float
    t0_s: float
    codes: npt.NDArray[np.int8]


def text_of(code: int, labels: tuple[str, ...]) -> str:
    """Annotation text of state `code`: EDF+ standard texts for AASM5, plain names for other vocabularies."""
    if code < 0:
        return "Sleep stage ?"
    return f"Sleep stage {_STANDARD_TEXTS[labels[code]]}" if labels == AASM5 else labels[code]


def declaration(labels: tuple[str, ...], epoch_s: float, max_chars: int) -> tuple[str, ...]:
    """Subfields for an EDF+ header that state the grid, so that a file with few states reads back alike.

    A vocabulary whose names do not fit into `max_chars` (or hold blanks) is left out: the reader must
    then be told the labels.
    """
    known = [name for name, names in VOCABULARIES.items() if names == labels]
    fields: list[str] = []
    if known or all(_HEADER_WORD.fullmatch(label) for label in labels):
        fields.append(f"labels={known[0] if known else ','.join(labels)}")
    # Labels come first: the durations of the annotations tell the epoch in all but odd cases.
    fitting: list[str] = []
    for field in (*fields, f"epoch_s={epoch_s!r}"):
        if len(" ".join((*fitting, field))) <= max_chars:
            fitting.append(field)
    return tuple(fitting)


def declared(subfields: Sequence[str]) -> tuple[tuple[str, ...] | None, float | None]:
    """Labels and epoch length that :func:`declaration` wrote; None for what is not stated."""
    fields = dict(field.split("=", 1) for field in subfields if "=" in field)
    names = fields.get("labels", "")
    labels = VOCABULARIES.get(names) or (tuple(names.split(",")) if names else None)
    try:
        epoch_s = float(fields["epoch_s"]) if "epoch_s" in fields else None
    except ValueError:
        epoch_s = None
    return labels, epoch_s if epoch_s and epoch_s > 0 else None


def states_of(
    annotations: Iterable[Annotation],
    labels: tuple[str, ...] | None = None,
    epoch_s: float | None = None,
    where: str = "annotations",
) -> ScoredStates | None:
    """Put scored annotations on a grid of epochs.

    Parameters
    ----------
    annotations
        In any order; those that are not states are passed over.
    labels
        Vocabulary; None finds it from the texts (AASM5, or MOUSE3 where ``NREM`` occurs).
    epoch_s
        Length of an epoch in seconds. None takes the common duration of the annotations; where they are
        run lengths, 30 s if that divides all of them, otherwise their greatest common divisor.
    where
        File named in errors.

    Returns
    -------
    ScoredStates or None
        None if no annotation is a state. Epochs between annotations are unscored (-1).

    Raises
    ------
    RecordingError
        If a text ``Sleep stage …`` is not of the vocabulary, two annotations overlap (one may be repeated
        exactly), or they fit no regular grid.
    """
    ordered = sorted(set(annotations))
    labels = labels or _vocabulary_of(ordered)
    if labels is None:
        return None
    bouts = [(a, code) for a in ordered if (code := _code_of(a, labels, where)) is not None]
    if all(code == UNKNOWN_CODE for _, code in bouts) and not any(_PREFIX.match(a.text) for a, _ in bouts):
        return None  # "unknown" or "m" alone are not a hypnogram

    onsets_s = np.array([a.onset_s for a, _ in bouts])
    durations_s = _fill_durations(onsets_s, np.array([a.duration_s for a, _ in bouts]), epoch_s)
    found = first_overlap(onsets_s, durations_s, [code for _, code in bouts])
    if found is not None:
        (one, _), (two, _) = (bouts[k] for k in found)
        raise RecordingError(
            f"{where}: annotation {one.text!r} at {one.onset_s:g} s for {one.duration_s:g} s and {two.text!r} at "
            f"{two.onset_s:g} s overlap, so that it is not clear which holds; correct or remove one of them"
        )
    epoch_s = epoch_s or _epoch_of(durations_s, where)
    t0_s = float(onsets_s[0])
    first = (onsets_s - t0_s) / epoch_s
    last = (onsets_s + durations_s - t0_s) / epoch_s
    off_grid = np.abs(first - np.round(first)) > _GRID_TOLERANCE
    if off_grid.any():
        bad = bouts[int(np.argmax(off_grid))][0]
        raise RecordingError(
            f"{where}: annotation {bad.text!r} at {bad.onset_s:g} s is not on the grid of "
            f"{epoch_s:g}-s epochs that starts at {t0_s:g} s; correct its onset or remove the scoring annotations"
        )
    n_epochs = max(1, round(float(last.max())))
    if n_epochs > _MAX_EPOCHS:
        raise RecordingError(
            f"{where}: scoring annotations span {n_epochs} epochs of {epoch_s:g} s; an onset or a duration "
            "is wrong: correct it or remove the scoring annotations"
        )
    codes = np.full(n_epochs, UNKNOWN_CODE, np.int8)
    for (_, code), start, stop in zip(bouts, np.round(first), np.round(last), strict=True):
        codes[int(start) : int(stop)] = code
    return ScoredStates(labels, epoch_s, t0_s, codes)


def first_overlap(
    starts_s: npt.ArrayLike, durations_s: npt.ArrayLike, codes: npt.ArrayLike, slack_s: float | None = None
) -> tuple[int, int] | None:
    """Find two bouts that overlap, the first such two by time; bouts that repeat exactly do not count.

    Parameters
    ----------
    starts_s, durations_s, codes
        ``(n,)``, in any order.
    slack_s
        By how much neighbours may overlap, since files tell decimals; None is a part of the shortest bout.

    Returns
    -------
    tuple of int or None
        Their numbers.
    """
    starts, durations, states = np.asarray(starts_s), np.asarray(durations_s), np.asarray(codes)
    order = np.lexsort((states, durations, starts))
    keys = np.stack([starts, durations, states])[:, order]
    order = order[np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0))[: len(order)]]
    begins, ends = starts[order], (starts + durations)[order]
    if slack_s is None:
        slack_s = _GRID_TOLERANCE * float(durations[durations > 0].min(initial=HUMAN_EPOCH_S))
    reach = np.maximum.accumulate(ends)
    bad = np.flatnonzero((begins[1:] < reach[:-1] - slack_s) | (begins[1:] == begins[:-1]))
    if not len(bad):
        return None
    later = int(bad[0]) + 1
    return int(order[int(np.argmax(ends[:later]))]), int(order[later])


def _vocabulary_of(annotations: Sequence[Annotation]) -> tuple[str, ...] | None:
    if any(_PREFIX.match(a.text) for a in annotations):
        return AASM5
    plain = {a.text.strip().lower() for a in annotations if a.duration_s > 0}
    if "nrem" in plain:
        return MOUSE3
    return AASM5 if plain & _PLAIN_SLEEP else None


def _code_of(annotation: Annotation, labels: tuple[str, ...], where: str) -> int | None:
    """Code of a scored annotation; None if it is something else."""
    text = annotation.text.strip()
    if text in labels and annotation.duration_s > 0:
        return labels.index(text)
    word, has_prefix = text.lower(), False
    if match := _PREFIX.match(text):
        word, has_prefix = text[match.end() :].strip().lower(), True
    if not has_prefix and word == "movement time":
        return UNKNOWN_CODE
    if not has_prefix and (annotation.duration_s <= 0 or word in {"m", "?"}):
        return None
    if word in _UNSCORED:
        return UNKNOWN_CODE
    words = _LABEL_OF_WORD.get(labels, {})
    if word in words and (has_prefix or word in _PLAIN_SLEEP):
        return labels.index(words[word])
    if has_prefix:
        raise RecordingError(
            f"{where}: annotation {annotation.text!r} at {annotation.onset_s:g} s is not a state of "
            f"{', '.join(labels)}; correct the text or use 'Sleep stage ?' ({UNKNOWN})"
        )
    return None


def _fill_durations(
    onsets_s: npt.NDArray[np.float64], durations_s: npt.NDArray[np.float64], epoch_s: float | None
) -> npt.NDArray[np.float64]:
    """Give bouts without a duration the time to the next bout; the last one a single epoch."""
    missing = durations_s <= 0
    if not missing.any():
        return durations_s
    to_next_s = np.diff(onsets_s)
    spaces_s = [round(float(d), 6) for d in to_next_s if d > 0]
    common_s = epoch_s or (Counter(spaces_s).most_common(1)[0][0] if spaces_s else HUMAN_EPOCH_S)
    return np.where(missing, np.append(to_next_s, common_s), durations_s)


def _epoch_of(durations_s: npt.NDArray[np.float64], where: str) -> float:
    """Epoch length that a set of bout durations (all > 0, or 0 for overwritten bouts) is made of."""
    lasting = durations_s[durations_s > 0]
    if len(lasting) > 1 and np.ptp(lasting) < 1e-6:
        return float(lasting[0])
    in_human_epochs = lasting / HUMAN_EPOCH_S
    if np.allclose(in_human_epochs, np.round(in_human_epochs), rtol=0, atol=1e-6):
        return HUMAN_EPOCH_S
    if len(lasting) == 1:
        return float(lasting[0])
    common_s = math.gcd(*(round(float(d) * 1000) for d in lasting)) / 1000
    if common_s < 1.0:
        raise RecordingError(
            f"{where}: the durations of the scoring annotations have no common epoch of 1 s or more "
            f"(first ones: {', '.join(f'{d:g}' for d in lasting[:5])} s); correct them or remove the "
            "scoring annotations"
        )
    return common_s
