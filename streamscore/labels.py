"""Closed vocabularies of states.

A vocabulary is an ordered tuple of names; a state is an index into it, or :data:`UNKNOWN_CODE`. Nothing
else may appear in a hypnogram, so a typo in a policy or a label file is an error and not a state that
never occurs.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamscore.errors import ConfigError

UNKNOWN = "UNKNOWN"
UNKNOWN_CODE = -1

#: AASM sleep stages.
AASM5 = ("W", "N1", "N2", "N3", "REM")
#: Rechtschaffen and Kales stages.
RK6 = ("W", "S1", "S2", "S3", "S4", "REM")
#: Rodent vigilance states.
MOUSE3 = ("Wake", "NREM", "REM")
#: Locomotion.
RUNREST = ("rest", "run")

VOCABULARIES: dict[str, tuple[str, ...]] = {
    "AASM5": AASM5,
    "RK6": RK6,
    "MOUSE3": MOUSE3,
    "RUNREST": RUNREST,
}


def vocabulary(name: str) -> tuple[str, ...]:
    """Return the vocabulary called `name`.

    Raises
    ------
    ConfigError
        If there is no such vocabulary; the message lists the choices.
    """
    try:
        return VOCABULARIES[name]
    except KeyError:
        raise ConfigError(f"unknown label vocabulary {name!r}; choose one of {', '.join(VOCABULARIES)}") from None


def code_of(label: str, labels: tuple[str, ...]) -> int:
    """Index of `label` in `labels`; ``UNKNOWN`` gives -1.

    Raises
    ------
    ConfigError
        If the label is not of the vocabulary; the message lists the choices.
    """
    if label == UNKNOWN:
        return UNKNOWN_CODE
    try:
        return labels.index(label)
    except ValueError:
        raise ConfigError(f"unknown state {label!r}; choose from {', '.join(labels)}") from None


def name_of(code: int, labels: tuple[str, ...]) -> str:
    """Name of state `code`; any negative code is ``UNKNOWN``."""
    return UNKNOWN if code < 0 else labels[code]


def check_states(states: Iterable[str], labels: tuple[str, ...]) -> frozenset[str]:
    """Return `states` as a set after checking that each is in `labels`."""
    wanted = frozenset(states)
    unknown = sorted(wanted - set(labels))
    if unknown:
        raise ConfigError(
            f"state {', '.join(map(repr, unknown))} is not scored by this bundle; choose from {', '.join(labels)}"
        )
    return wanted
