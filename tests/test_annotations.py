from __future__ import annotations

import pytest

from streamscore.annotations import Annotation, ScoredStates, declaration, declared, states_of
from streamscore.errors import RecordingError
from streamscore.labels import AASM5, MOUSE3, RUNREST, VOCABULARIES
from streamscore.units import normalise_unit


def scored(*annotations: tuple[float, float, str], labels: tuple[str, ...] | None = None) -> ScoredStates:
    states = states_of([Annotation(*annotation) for annotation in annotations], labels)
    assert states is not None
    return states


def test_stages_without_durations_last_to_the_next() -> None:
    states = scored(
        (0, 0, "Sleep stage W"), (20, 0, "Sleep stage N1"), (80, 0, "Sleep stage N2"), (100, 0, "Sleep stage R")
    )
    assert states.epoch_s == 20.0
    assert states.codes.tolist() == [0, 1, 1, 1, 2, 4]
    assert scored((5, 0, "Sleep stage W")).epoch_s == 30.0


@pytest.mark.parametrize(
    "second",
    [(60, 30, "Sleep stage N1"), (0, 120, "Sleep stage N1"), (60, 60, "Sleep stage W"), (0, 0, "Sleep stage R")],
)
def test_bouts_that_overlap_are_refused_with_both_times(second: tuple[float, float, str]) -> None:
    both = r"night\.edf: annotation 'Sleep stage .' at 0 s for \S+ s and 'Sleep stage .+' at (0|60) s overlap"
    with pytest.raises(RecordingError, match=both):
        states_of([Annotation(0, 120, "Sleep stage W"), Annotation(*second)], where="night.edf")


def test_a_bout_that_is_written_twice_counts_once() -> None:
    twice = [(0.0, 30.0, "Sleep stage W"), (30.0, 30.0, "Sleep stage N1")] * 2
    assert scored(*twice).codes.tolist() == [0, 1]


def test_decimals_of_neighbours_are_no_overlap() -> None:
    assert scored((0, 30, "W"), (29.99, 30, "N1"), (60, 30, "N2")).codes.tolist() == [0, 1, 2]


def test_what_is_between_bouts_is_unscored() -> None:
    assert scored((60, 30, "N3"), (0, 30, "W")).codes.tolist() == [0, -1, 3]


@pytest.mark.parametrize(
    ("durations_s", "epoch_s"),
    [((10, 10), 10.0), ((60, 60), 60.0), ((60, 90), 30.0), ((8, 12), 4.0), ((2.5, 7.5), 2.5), ((600,), 30.0)],
)
def test_epoch_of_run_lengths(durations_s: tuple[float, ...], epoch_s: float) -> None:
    starts_s = [sum(durations_s[:k]) for k in range(len(durations_s))]
    states = scored(*((start_s, d, "N2") for start_s, d in zip(starts_s, durations_s, strict=True)))
    assert states.epoch_s == epoch_s
    assert states.codes.tolist() == [2] * round(sum(durations_s) / epoch_s)


def test_other_annotations_are_no_states() -> None:
    others = [
        (0, 0, "R"),
        (0, 5, "apnoea"),
        (3, 1, "rest"),
        (4, 1, "?"),
        (5, 9, "m"),
        (6, 2, "unknown"),
        (7, 1, "S1"),
    ]
    assert states_of([Annotation(*other) for other in others]) is None
    assert states_of([]) is None
    assert scored((0, 1, "rest"), (1, 1, "run"), labels=RUNREST).codes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([(0, 30, "Sleep stage X")], "here: annotation 'Sleep stage X' at 0 s is not a state of W, N1"),
        ([(0, 31.7, "N1"), (31.7, 30.03, "N2")], "here: .*no common epoch"),
        ([(0, 30, "N1"), (3e12, 30, "N2")], "here: .*an onset or a duration is wrong"),
    ],
)
def test_scoring_that_cannot_be_right(annotations: list[tuple[float, float, str]], message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        states_of([Annotation(*annotation) for annotation in annotations], where="here")


def test_what_a_header_declares() -> None:
    for labels in VOCABULARIES.values():
        assert declared(declaration(labels, 2.5, 80)) == (labels, 2.5)
    assert declared(declaration(("up", "down"), 4.0, 80)) == (("up", "down"), 4.0)
    assert declared(declaration(("go up", "down"), 4.0, 80)) == (None, 4.0)
    assert declared(declaration(("up" * 30, "down"), 4.0, 42)) == (None, 4.0)
    assert declared(("X", "epoch_s=soon", "labels=")) == (None, None)
    assert declared(declaration(AASM5, 30.0, 5)) == (None, None)
    assert declared(declaration(MOUSE3, 1 / 3, 20)) == (MOUSE3, None)


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        *((micro, "uV") for micro in ("uV", "µV", "μV", " UV ", "microvolts", "MicroVolt", "uV\0\0")),
        *(("mV", "mV"), ("millivolts", "mV"), ("V", "V"), ("volts", "V"), ("nV", "nV")),
        *(("", ""), (None, ""), ("degC", "degC"), ("µS", "uS"), ("%", "%")),
    ],
)
def test_units_are_spelt_one_way(written: str | None, unit: str) -> None:
    assert normalise_unit(written) == unit
