"""Words, tables and grids of expert scoring."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

from offline.datasets.labels import WORDS, Bout, Naming, by_sample, coded, on_grid
from offline.datasets.tables import read_edf_bouts, read_table
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import AASM5, MOUSE3, RK6, RUNREST
from tests.offline.datasets.layouts import epochs, write_edf, write_table


def bouts(*words: str, epoch_s: float = 10.0) -> list[Bout]:
    return [Bout(k * epoch_s, epoch_s, word, k + 2) for k, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (("W", "N1", "N2", "N3", "REM"), AASM5),
        (("w", "n2", "R"), AASM5),
        (("Sleep stage W", "Sleep stage 4", "Sleep stage R", "Sleep stage ?"), AASM5),
        (("W", "S1", "S4"), RK6),
        (("Wake", "NREM", "REM", "artefact"), MOUSE3),
        (("Wake", "SWS"), MOUSE3),
        (("rest", "run", ""), RUNREST),
        (("still", "running"), RUNREST),
    ],
)
def test_recognises_the_vocabulary_that_has_all_words(words: tuple[str, ...], labels: tuple[str, ...]) -> None:
    assert coded(bouts(*words), Naming(), "f.csv")[0] == labels


def test_every_word_of_the_tables_is_its_state() -> None:
    for labels, table in WORDS.items():
        for state, others in table.items():
            for word in (state, *others.split()):
                found = coded(bouts(word.upper()), Naming(labels), "f.csv")[1]
                assert found == [labels.index(state)], word


def test_digits_are_stages_behind_sleep_stage_only() -> None:
    assert coded(bouts("Sleep stage 3", "Sleep stage 4"), Naming(AASM5), "f")[1] == [3, 3]
    with pytest.raises(RecordingError, match=r"line 2: '3'"):
        coded(bouts("3"), Naming(AASM5), "f")


def test_an_unknown_word_is_told_with_its_line_and_the_choices() -> None:
    with pytest.raises(
        RecordingError,
        match=r"n\.csv: not a state: line 3: 'N2x'.*W, N1, N2, N3, REM.*t\.json: \"states\": ..N2x.*--label N2x=",
    ):
        coded(bouts("N1", "N2x", "N2x"), Naming(), "n.csv")


def test_words_of_no_vocabulary_are_listed() -> None:
    with pytest.raises(RecordingError, match=r"'deep'.*no known vocabulary.*MOUSE3.*--label"):
        coded(bouts("deep"), Naming(), "n.csv")


def test_words_that_fit_several_vocabularies_ask_for_one() -> None:
    with pytest.raises(RecordingError, match=r"AASM5, MOUSE3.*--vocabulary"):
        coded(bouts("REM"), Naming(), "n.csv")


def test_words_may_be_mapped_and_left_out() -> None:
    naming = Naming(MOUSE3, {"0": "Wake", "X": "UNKNOWN", "nrem": "REM"})
    assert coded(bouts("0", "x", "NREM", "Wake"), naming, "f")[1] == [0, -1, 2, 0]


def test_a_word_is_mapped_to_states_only() -> None:
    with pytest.raises(ConfigError, match=r"--label 0=wake: .*'wake'.*Wake, NREM, REM"):
        coded(bouts("0"), Naming(MOUSE3, {"0": "wake"}), "f")


def test_bouts_of_several_epochs_are_spread_over_the_grid() -> None:
    scored = on_grid([Bout(5, 60, "W"), Bout(65, 30, "N2"), Bout(125, 30, "R")], Naming(), "f")
    assert (scored.epoch_s, scored.t0_s) == (30, 5)
    assert scored.codes.tolist() == [0, 0, 2, -1, 4]


def test_by_sample_takes_the_bout_that_a_sample_lies_in() -> None:
    scored = by_sample([Bout(0.5, 0.3, "run"), Bout(0, 0.5, "rest")], Naming(), "f", 10, 10.0)
    assert scored.codes.tolist() == [0] * 5 + [1] * 3 + [-1] * 2
    assert scored.epoch_s == 0.1


@pytest.mark.parametrize("cut", [",", ";", "\t"])
def test_tables_of_any_delimiter(tmp_path: Path, cut: str) -> None:
    path = write_table(tmp_path / "l.csv", epochs(["W", "N1"], 30), cut=cut)
    assert read_table(path) == [Bout(0, 30, "W", 2), Bout(30, 30, "N1", 3)]


def test_tables_with_other_names_blank_lines_and_a_mark_of_utf8(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("\ufeffOnset,Duration,Recording,Stage\n1,2,a,W\n\n3,2,b,N1\n", encoding="utf-8")
    assert read_table(path) == [Bout(1, 2, "W", 2, "a"), Bout(3, 2, "N1", 4, "b")]


def test_states_alone_are_epochs_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("state\nW\nN1\n")
    assert read_table(path, epoch_s=30) == [Bout(0, 30, "W", 2), Bout(30, 30, "N1", 3)]
    with pytest.raises(RecordingError, match=r"l\.csv, line 1: .*start_s, duration_s and state"):
        read_table(path)


@pytest.mark.parametrize("row", ["x,30,W", "0,nan,W", "0,-1,W", "0"])
def test_a_damaged_row_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text(f"start_s,duration_s,state\n0,30,W\n{row}\n")
    with pytest.raises(RecordingError, match=r"l\.csv, line 3"):
        read_table(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes(b"start_s,duration_s,state\n\xff\xfe\x00")
    with pytest.raises(RecordingError, match="cannot be read as a table"):
        read_table(path)


def test_annotations_are_put_on_the_clock_of_the_signal(tmp_path: Path) -> None:
    signal = write_edf(tmp_path / "s.edf", {"EEG": 10}, 100, start=datetime.time(22, 0, 0))
    texts = [(0, 30, "Sleep stage W"), (30, 30, "Sleep stage ?"), (60, 30, "arousal"), (70, 0, "Lights off")]
    path = write_edf(tmp_path / "h.edf", None, annotations=texts, start=datetime.time(22, 0, 20))
    found = read_edf_bouts(path, signal, Naming())
    assert [(bout.start_s, bout.word) for bout in found] == [(20, "Sleep stage W"), (50, "Sleep stage ?")]


def test_annotations_without_a_state_tell_what_they_are(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "h.edf", {"EEG": 10}, 100, [(0, 30, "arousal")])
    with pytest.raises(RecordingError, match=r"h\.edf: no annotation is a state \(its texts: 'arousal'\)"):
        read_edf_bouts(path, path, Naming())
    assert read_edf_bouts(path, path, Naming(AASM5, {"Arousal": "W"})) == [Bout(0, 30, "arousal")]


@pytest.mark.parametrize("second", [Bout(30, 30, "N2", 3), Bout(0, 45, "N2", 3), Bout(0, 30, "W", 3)])
def test_bouts_that_overlap_are_refused_with_both_lines(second: Bout) -> None:
    first = Bout(0, 45, "W", 2)
    message = r"f\.csv: two bouts overlap.*line [23]: '(W|N2)' from 0 to .*line [23]: .*; correct or remove one"
    with pytest.raises(RecordingError, match=message):
        on_grid([first, second], Naming(AASM5), "f.csv")
    with pytest.raises(RecordingError, match=r"f\.csv: two bouts overlap.*line 2: 'run' .*line 3: 'rest'"):
        by_sample([Bout(0, 1.0, "run", 2), Bout(0.5, 1.0, "rest", 3)], Naming(), "f.csv", 20, 10.0)


def test_a_bout_that_is_written_twice_counts_once() -> None:
    twice = [Bout(0, 30, "W", 2), Bout(0, 30, "W", 3), Bout(30, 30, "N1", 4)]
    np.testing.assert_array_equal(on_grid(twice, Naming(), "f").codes, [0, 1])
