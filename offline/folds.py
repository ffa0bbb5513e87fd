"""Who is learnt from, who chooses, who tests: splits are made of whole subjects.

Epochs of one night resemble each other far more than those of two people, so that a split of epochs drawn at
random measures memory. A subject (person or animal) is therefore in one part only; recordings never count. Where
there is only one animal, spans of its recordings stand for subjects (:mod:`offline.spans`).

Published splits: MODELS.md 1.4, 2.3, 3.4, 4.1, 5.3, 6.1; Supratak et al. 2017, doi:10.1109/TNSRE.2017.2721116;
Supratak & Guo 2020, doi:10.1109/EMBC44109.2020.9176741; Vilamala et al. 2017, doi:10.1109/MLSP.2017.8168133.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from offline.spans import Span, overlap
from streamscore.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Subjects of one training.

    Parameters
    ----------
    train, validation, test
        Subjects to learn from, to choose weights and settings by, and to report on.
    final
        Nobody is held out for a test: the bundle is to be used, and its figures come from other trainings.

    Raises
    ------
    ConfigError
        If a part is empty (`test` alone may be, and must be, if `final`), a subject is in two parts or twice in
        one, or two spans of one subject overlap.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    final: bool = False

    def __post_init__(self) -> None:
        if self.final and self.test:
            raise ConfigError(
                f"split: a final training tests nobody, but `test` has {_named(self.test)}; drop one"
            )
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        for part, subjects in parts.items():
            if not subjects and not (self.final and part == "test"):
                raise ConfigError(f"split: `{part}` has no subject; give it one, or choose fewer folds")
        spans = [(part, Span.parse(subject)) for part, subjects in parts.items() for subject in subjects]
        for (part, one), (other, two) in combinations(spans, 2):
            if overlap(one, two):
                raise ConfigError(
                    f"split: {one} in `{part}` and {two} in `{other}` share recordings; a subject belongs to one "
                    "part, once: remove it from the other"
                )


def make_folds(
    subjects: Sequence[str], folds: str, *, seed: int = 0, validation_share: float = 0.1
) -> tuple[Split, ...]:
    """Split `subjects` so that each is tested.

    Parameters
    ----------
    subjects
        All of a data set.
    folds
        ``"5"``: so many folds of nearly equal size, drawn at random. ``"loo"``: one subject each.
        ``"published:NAME"``: one of :data:`PUBLISHED`. ``"A,B/C/D"``: a single split, with A and B to train, C to
        validate and D to test; these may be spans, such as ``"M1@0-13h/M1@13-16h/M1@16-h"``.
    seed
        Of the draws. It gives the same folds everywhere.
    validation_share
        Part of the subjects that are not tested that is drawn for validation; at least one subject. Published
        splits that state their validation subjects ignore it.

    Returns
    -------
    tuple of Split
        One for each fold.

    Raises
    ------
    ConfigError
        If there are too few subjects, or not those of the published split.
    """
    ordered = sorted(set(subjects), key=_natural)
    if len(ordered) != len(subjects):
        raise ConfigError(f"folds: subjects are named twice: {_named(sorted(subjects))}")
    if not 0.0 < validation_share < 1.0:
        raise ConfigError(f"folds: validation share {validation_share:g} must be between 0 and 1, for example 0.1")
    kind, _, name = folds.partition(":")
    if kind == "published":
        return _published(ordered, name, seed, validation_share)
    if "/" in folds:
        return (_written(ordered, folds),)
    if kind == "loo":
        return leave_one_out(ordered, seed=seed, validation_share=validation_share)
    if re.fullmatch(r"[0-9]+", folds):
        return k_fold(ordered, int(folds), seed=seed, validation_share=validation_share)
    raise ConfigError(
        f"folds: unknown {folds!r}; write a number, loo, TRAIN/VALIDATION/TEST, or published:NAME with NAME one "
        f"of {', '.join(PUBLISHED)}"
    )


def k_fold(
    subjects: Sequence[str], n_folds: int, *, seed: int = 0, validation_share: float = 0.1, shuffle: bool = True
) -> tuple[Split, ...]:
    """Return `n_folds` splits that test each subject once; consecutive chunks of `subjects` if not `shuffle`."""
    if n_folds < 2:
        raise ConfigError(f"folds: {n_folds} leaves nobody to learn from; use 2 or more")
    if len(subjects) < n_folds:
        raise ConfigError(
            f"folds: {len(subjects)} subjects ({_named(subjects)}) cannot fill {n_folds} folds; use loo or fewer"
        )
    order = list(subjects)
    if shuffle:
        order = [order[k] for k in np.random.default_rng(seed).permutation(len(order))]
    chunks = [chunk.tolist() for chunk in np.array_split(np.arange(len(order)), n_folds)]
    return tuple(
        _hold_out(subjects, [order[k] for k in chunk], (seed, fold), validation_share)
        for fold, chunk in enumerate(chunks)
    )


def leave_one_out(subjects: Sequence[str], *, seed: int = 0, validation_share: float = 0.1) -> tuple[Split, ...]:
    """Return one split for each subject, in their order."""
    return k_fold(subjects, len(subjects), seed=seed, validation_share=validation_share, shuffle=False)


def train_all(subjects: Sequence[str], *, seed: int = 0, validation_share: float = 0.1) -> Split:
    """Return the split of a bundle that is to be used: everybody is learnt from or chooses, nobody tests."""
    return _hold_out(sorted(subjects, key=_natural), [], (seed, 0), validation_share, final=True)


def _hold_out(
    subjects: Sequence[str], test: Sequence[str], seed: tuple[int, int], share: float, final: bool = False
) -> Split:
    """Test `test`, draw validation subjects from the others."""
    rest = [subject for subject in subjects if subject not in test]
    if len(rest) < 2:
        raise ConfigError(
            f"folds: with {_named(test) or 'nobody'} held out, {len(rest)} subjects are left, but one must train "
            "and another choose; bring more subjects, or split hours of one: M1@0-13h/M1@13-16h/M1@16-h"
        )
    n_validation = min(max(round(share * len(rest)), 1), len(rest) - 1)
    drawn = set(np.random.default_rng(seed).choice(len(rest), n_validation, replace=False).tolist())
    return Split(
        train=tuple(subject for k, subject in enumerate(rest) if k not in drawn),
        validation=tuple(subject for k, subject in enumerate(rest) if k in drawn),
        test=tuple(test),
        final=final,
    )


@dataclass(frozen=True)
class Published:
    """A split of a paper.

    Parameters
    ----------
    about
        What it is, in one line.
    n_subjects
        How many subjects it needs; 0 if any number will do.
    make
        From sorted subjects, seed and validation share to splits.
    """

    about: str
    n_subjects: int
    make: Callable[[Sequence[str], int, float], tuple[Split, ...]]


def _chunks(n_folds: int) -> Callable[[Sequence[str], int, float], tuple[Split, ...]]:
    def make(subjects: Sequence[str], seed: int, share: float) -> tuple[Split, ...]:
        return k_fold(subjects, n_folds, seed=seed, validation_share=share, shuffle=False)

    return make


def _vilamala(subjects: Sequence[str], seed: int, _: float) -> tuple[Split, ...]:
    return leave_one_out(subjects, seed=seed, validation_share=4 / 19)


def _baek(subjects: Sequence[str], _seed: int, _share: float) -> tuple[Split, ...]:
    return (Split(train=tuple(subjects[1:18]), validation=tuple(subjects[18:]), test=(subjects[0],)),)


def _ajioka(subjects: Sequence[str], _seed: int, _share: float) -> tuple[Split, ...]:
    return tuple(
        Split(tuple(subject for subject in subjects if subject not in pair), pair[:1], pair[1:])
        for pair in permutations(subjects, 2)
    )


def _wfci_held_out(subjects: Sequence[str], seed: int, share: float) -> tuple[Split, ...]:
    mouse = "200128"
    if mouse not in subjects:
        raise ConfigError(
            f"folds: published:wfci-200128 holds out mouse {mouse}, but the data have {_named(subjects)}; use loo"
        )
    return (_hold_out(subjects, [mouse], (seed, 0), share),)


def _wfci_random(_subjects: Sequence[str], _seed: int, _share: float) -> tuple[Split, ...]:
    raise ConfigError(
        "folds: the 80/10/10 split of the calcium-sleep papers draws epochs at random, so that every mouse is in "
        "all three parts; such a score says nothing about another mouse and is not offered. Use "
        "published:wfci-200128 (the mouse that the authors held out) or loo"
    )


#: Name → split of a paper. Where a paper has no validation subjects, they are drawn from those that train there.
PUBLISHED = {
    "sleep-edf-39": Published("Sleep-EDF 2013, 20 folds of one subject", 20, _chunks(20)),
    "sleep-edf-153": Published("Sleep-EDF 2018, 10 folds of consecutive subjects (TinySleepNet)", 78, _chunks(10)),
    "sleep-edf-153-20": Published("Sleep-EDF 2018, 20 folds (SalientSleepNet)", 78, _chunks(20)),
    "mass": Published("MASS-SS3, 31 folds of two subjects (DeepSleepNet)", 62, _chunks(31)),
    "baek": Published("Sleep-EDF 2013, subject 1 tests, 19 and 20 validate", 20, _baek),
    "vilamala": Published("Sleep-EDF 2013, one subject tests, 4 drawn validate, 15 train", 20, _vilamala),
    "ajioka": Published("run/rest, 20 ordered pairs (validation, test) of five mice", 5, _ajioka),
    "wfci-200128": Published("calcium sleep, mouse 200128 tests", 0, _wfci_held_out),
    "wfci": Published("calcium sleep, random epochs: refused, not by subject", 0, _wfci_random),
}


def _written(subjects: Sequence[str], text: str) -> Split:
    """Read ``TRAIN/VALIDATION/TEST``."""
    parts = [tuple(name.strip() for name in part.split(",") if name.strip()) for part in text.split("/")]
    if len(parts) != 3:
        raise ConfigError(
            f"folds: {text!r} has {len(parts)} parts; write TRAIN/VALIDATION/TEST, names with commas"
        )
    unknown = [name for part in parts for name in part if Span.parse(name).subject not in subjects]
    if unknown:
        raise ConfigError(f"folds: the data have no subject {unknown[0]!r}; they have {_named(subjects)}")
    train, validation, test = parts
    return Split(train, validation, test)


def _published(subjects: Sequence[str], name: str, seed: int, share: float) -> tuple[Split, ...]:
    """Make the published split `name`, if these can be its subjects."""
    if name not in PUBLISHED:
        raise ConfigError(f"folds: unknown published split {name!r}; choose one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    if published.n_subjects not in (0, len(subjects)):
        raise ConfigError(
            f"folds: published:{name} ({published.about}) needs {published.n_subjects} subjects, but the data "
            f"have {len(subjects)}: {_named(subjects)}; complete the data, or use loo"
        )
    return published.make(subjects, seed, share)


def _natural(subject: str) -> list[tuple[int, int, str]]:
    """Key that puts ``m2`` before ``m10``."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", subject) if part
    ]


def _named(subjects: Sequence[str]) -> str:
    """Subjects for a message, not more than fit a line."""
    shown = ", ".join(subjects[:8])
    return f"{shown}, … ({len(subjects)})" if len(subjects) > 8 else shown
