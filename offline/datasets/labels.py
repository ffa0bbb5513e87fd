"""Words and tables of expert scoring → states on a grid of epochs.

Labs write the same state in many ways, and a word that is not understood must never become another state or
vanish. So every word of a file is looked up in a closed table, to which the user may add (``--label
WORD=STATE``); what is not found is an error that names file, line, word and choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamscore.annotations import Annotation, ScoredStates, first_overlap, states_of
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import AASM5, MOUSE3, RK6, RUNREST, UNKNOWN, UNKNOWN_CODE, VOCABULARIES, code_of

#: Vocabulary → state → other words for it, lower case.
WORDS: dict[tuple[str, ...], dict[str, str]] = {
    AASM5: {"W": "wake awake", "N1": "s1", "N2": "s2", "N3": "s3 n4 s4", "REM": "r"},
    RK6: {"W": "wake awake", "REM": "r"},
    MOUSE3: {"Wake": "w awake", "NREM": "n nr sws nrem-sleep", "REM": "r ps rem-sleep"},
    RUNREST: {"rest": "resting still", "run": "running locomotion"},
}
#: The same where "Sleep stage" stands in front: there a digit is a stage of Rechtschaffen and Kales.
_DIGITS = {
    AASM5: {"N1": "1", "N2": "2", "N3": "3 4"},
    RK6: {"S1": "1", "S2": "2", "S3": "3", "S4": "4"},
}
#: Words for "no state", in any vocabulary.
UNSCORED = frozenset(
    (
        *("", "?", "-", "m", "mt", "movement", "movement time", "unscored", "unknown", "undefined"),
        *("artefact", "artifact", "indeterminate", "n/a", "none"),
    )
)
PREFIX = "sleep stage "

MAX_LISTED = 5


class Bout(NamedTuple):
    """One row of a label file. `line` is its number in the file, from 1; 0 where there are no lines."""

    start_s: float
    duration_s: float
    word: str
    line: int = 0
    recording: str = ""


@dataclass(frozen=True)
class Naming:
    """How the words of a data set are to be understood.

    Parameters
    ----------
    labels
        Vocabulary; ``None`` finds it from the words of each file.
    states
        Words of the files → state or ``UNKNOWN``; wins over :data:`WORDS`.
    """

    labels: tuple[str, ...] | None = None
    states: Mapping[str, str] | None = None


def on_grid(
    bouts: Sequence[Bout], naming: Naming, where: Path | str, epoch_s: float | None = None
) -> ScoredStates:
    """Put labelled bouts on a grid of epochs.

    Parameters
    ----------
    bouts
        In any order, times in seconds from the start of the recording.
    naming
        How words are understood.
    where
        File named in errors.
    epoch_s
        Length of an epoch; ``None`` finds it as :func:`streamscore.annotations.states_of` does.

    Raises
    ------
    RecordingError
        If a word is unknown, the vocabulary is not clear, two bouts overlap, or they fit no grid.
    """
    labels, codes = coded(bouts, naming, where)
    _refuse_overlaps(bouts, codes, where)
    annotations = [
        Annotation(bout.start_s, bout.duration_s, labels[code] if code >= 0 else "Sleep stage ?")
        for bout, code in zip(bouts, codes, strict=True)
    ]
    scored = states_of(annotations, labels, epoch_s, where=str(where))
    if scored is None:
        raise RecordingError(f"{where}: labels nothing; add rows, or remove the file")
    return scored


def by_sample(
    bouts: Sequence[Bout], naming: Naming, where: Path | str, n_samples: int, sfreq: float
) -> ScoredStates:
    """Give each of `n_samples` the state of the bout that its middle lies in; an epoch is one sample.

    Raises
    ------
    RecordingError
        If a word is unknown, the vocabulary is not clear, or two bouts overlap.
    """
    labels, codes = coded(bouts, naming, where)
    _refuse_overlaps(bouts, codes, where, slack_s=1.0 / sfreq)
    states = np.full(n_samples, UNKNOWN_CODE, np.int8)
    for bout, code in sorted(zip(bouts, codes, strict=True), key=lambda pair: pair[0].start_s):
        first, last = (round(t_s * sfreq) for t_s in (bout.start_s, bout.start_s + bout.duration_s))
        states[max(first, 0) : max(last, 0)] = code
    return ScoredStates(labels, 1.0 / sfreq, 0.0, states)


def _refuse_overlaps(
    bouts: Sequence[Bout], codes: Sequence[int], where: Path | str, slack_s: float | None = None
) -> None:
    """Nobody can say which of two bouts holds that overlap; one that is written twice is the same bout."""
    found = first_overlap([b.start_s for b in bouts], [b.duration_s for b in bouts], codes, slack_s)
    if found is not None:
        one, two = (
            f"{f'line {b.line}: ' if b.line else ''}{b.word!r} from {b.start_s:g} to "
            f"{b.start_s + b.duration_s:g} s"
            for b in (bouts[k] for k in found)
        )
        raise RecordingError(
            f"{where}: two bouts overlap, so that it is not clear which holds ({one}; {two}); correct or "
            "remove one"
        )


def coded(bouts: Sequence[Bout], naming: Naming, where: Path | str) -> tuple[tuple[str, ...], list[int]]:
    """Vocabulary, and the code of each bout.

    Raises
    ------
    RecordingError
        If a word is unknown (with its line and the choices), or fits several vocabularies.
    """
    told = {word.strip().lower(): state for word, state in (naming.states or {}).items()}
    labels = vocabulary_of(bouts, naming, where)
    table = _table(labels, told, where)
    unknown: dict[str, int] = {}
    for bout in bouts:
        if bout.word.strip().lower() not in table:
            unknown.setdefault(bout.word, bout.line)
    if unknown:
        raise _unknown_words(unknown, labels, where)
    return labels, [table[bout.word.strip().lower()] for bout in bouts]


def known_words(naming: Naming, where: Path | str) -> frozenset[str]:
    """Every word, lower case, that stands for a state; of all vocabularies if none is declared."""
    told = {word.strip().lower() for word in naming.states or {}}
    tables = [naming.labels] if naming.labels else list(VOCABULARIES.values())
    return frozenset(told.union(*(_table(labels, {}, where) for labels in tables)) - UNSCORED)


def _table(labels: tuple[str, ...], told: Mapping[str, str], where: Path | str) -> dict[str, int]:
    """Word, lower case → code."""
    table = dict.fromkeys(UNSCORED, UNKNOWN_CODE)
    for code, state in enumerate(labels):
        words = [state.lower(), *WORDS.get(labels, {}).get(state, "").split()]
        prefixed = [*words, *_DIGITS.get(labels, {}).get(state, "").split()]
        table |= dict.fromkeys(words, code) | dict.fromkeys((PREFIX + word for word in prefixed), code)
    table |= {PREFIX + word: UNKNOWN_CODE for word in UNSCORED}
    for word, state in told.items():
        try:
            table[word] = code_of(state, labels)
        except ConfigError as error:
            raise ConfigError(f"--label {word}={state}: {error} or {UNKNOWN} (for {where})") from error
    return table


def vocabulary_of(bouts: Iterable[Bout], naming: Naming, where: Path | str) -> tuple[str, ...]:
    """The vocabulary of `naming`, or the one that has all words; names as they stand go before synonyms.

    Raises
    ------
    RecordingError
        If there is none or more than one.
    """
    if naming.labels is not None:
        return naming.labels
    told = {word.strip().lower(): state for word, state in (naming.states or {}).items()}
    lines: dict[str, int] = {}
    for bout in bouts:
        word = told.get(bout.word.strip().lower(), bout.word.strip())
        if word != UNKNOWN and word.lower().removeprefix(PREFIX) not in UNSCORED:
            lines.setdefault(word, bout.line)
    exact = [labels for labels in VOCABULARIES.values() if lines and set(lines) <= set(labels)]
    fitting = exact or [
        labels
        for labels in VOCABULARIES.values()
        if lines and all(w.lower() in _table(labels, {}, where) for w in lines)
    ]
    if AASM5 in fitting and RK6 in fitting:  # what both have, they call alike
        fitting.remove(RK6)
    if len(fitting) == 1:
        return fitting[0]
    words = ", ".join(repr(word) for word in list(lines)[:MAX_LISTED]) or "none but unscored ones"
    if fitting:
        names = ", ".join(name for name, labels in VOCABULARIES.items() if labels in fitting)
        raise RecordingError(
            f"{where}: its words ({words}) fit {names}; say which with --vocabulary, or as vocabulary in "
            "dataset.json"
        )
    known = [
        labels for labels in VOCABULARIES.values() if any(w.lower() in _table(labels, {}, where) for w in lines)
    ]
    if known and lines:
        table = _table(known[0], {}, where)
        raise _unknown_words({w: n for w, n in lines.items() if w.lower() not in table}, known[0], where)
    raise RecordingError(
        f"{where}: its words ({words}) are of no known vocabulary ({', '.join(VOCABULARIES)}); choose one with "
        "--vocabulary and map them with --label WORD=STATE, or in dataset.json: "
        f'"vocabulary": "AASM5", "states": {{"{next(iter(lines), "WORD")}": "STATE"}}'
    )


def _unknown_words(unknown: Mapping[str, int], labels: tuple[str, ...], where: Path | str) -> RecordingError:
    listed = [f"line {n}: {word!r}" if n else repr(word) for word, n in list(unknown.items())[:MAX_LISTED]]
    more = f" and {len(unknown) - MAX_LISTED} more" if len(unknown) > MAX_LISTED else ""
    word = next(iter(unknown)) or "WORD"
    return RecordingError(
        f"{where}: not a state: {', '.join(listed)}{more}; choose from {', '.join(labels)}, or map it in "
        f'dataset.json: "states": {{"{word}": "STATE"}} ({UNKNOWN} leaves it unscored), to try out with '
        f"data check --label {word}=STATE"
    )
