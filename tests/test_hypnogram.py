from __future__ import annotations

import csv
import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pytest
from edfio import Edf, EdfAnnotation, read_edf
from hypothesis import given, settings
from hypothesis import strategies as st

from streamscore.errors import ConfigError, RecordError, RecordingError
from streamscore.hypnogram import Hypnogram, read_csv, read_edf_hypnogram
from streamscore.labels import AASM5, MOUSE3, RK6, RUNREST
from streamscore.types import Posterior, PosteriorKind

OWN = ("up", "down", "between")
NO_WORDS = ("très haut", "bas, ou pas")  # cannot stand in the header of an EDF+ file


def posterior(
    t_start_s: float,
    state: str = "N2",
    *,
    epoch_s: float = 30.0,
    valid: bool = True,
    kind: PosteriorKind = "final",
    probs: tuple[float, ...] = (0.1, 0.1, 0.6, 0.1, 0.1),
    sfreq: float = 100.0,
) -> Posterior:
    start = round(t_start_s * sfreq)
    stop = start + round(epoch_s * sfreq)
    return Posterior(start, stop, t_start_s, t_start_s + epoch_s, probs, state, valid, kind=kind)


def from_posteriors(*posteriors: Posterior, t0_s: float = 0.0) -> Hypnogram:
    return Hypnogram.from_posteriors(posteriors, AASM5, 30.0, t0_s)


@st.composite
def hypnograms(draw: st.DrawFn) -> Hypnogram:
    labels = draw(st.sampled_from([AASM5, RK6, MOUSE3, RUNREST, OWN, NO_WORDS]))
    n = draw(st.integers(1, 40))
    codes = draw(st.lists(st.integers(-1, len(labels) - 1), min_size=n, max_size=n))
    epoch_s = draw(st.sampled_from([0.1, 1 / 3, 2.5, 4.0, 10.0, 30.0, 60.0, 1e5]))
    t0_s = round(draw(st.floats(-1e6, 1e6)), 6)
    probs = np.random.default_rng(draw(st.integers(0, 99))).dirichlet(np.ones(len(labels)), n)
    probs[np.array(codes) < 0] = np.nan
    return Hypnogram(labels, epoch_s, t0_s, np.array(codes, np.int8), probs.astype(np.float32))


# --- from a run -----------------------------------------------------------------------------------------


def test_epochs_of_a_run() -> None:
    hypnogram = from_posteriors(posterior(30, "REM", probs=(0, 0, 0.25, 0, 0.75)), posterior(90, "W"))
    assert hypnogram.states == ["UNKNOWN", "REM", "UNKNOWN", "W"]
    assert hypnogram.codes.tolist() == [-1, 4, -1, 0]
    assert hypnogram.starts_s.tolist() == [0.0, 30.0, 60.0, 90.0]
    assert hypnogram.codes.dtype == np.int8
    assert hypnogram.probs.dtype == np.float32
    assert hypnogram.probs[1].tolist() == [0, 0, 0.25, 0, 0.75]
    assert np.isnan(hypnogram.probs[[0, 2]]).all()
    assert len(hypnogram) == 4


def test_only_epochs_on_the_grid_count() -> None:
    sliding = [posterior(float(t), "N1" if t % 30 else "N3") for t in range(0, 100, 5)]
    assert from_posteriors(*sliding).states == ["N3"] * 4
    assert from_posteriors(*sliding, t0_s=40.0).states == ["N1", "N1"]
    half_sample_s = 0.005
    assert len(from_posteriors(posterior(30 + 0.9 * half_sample_s))) == 2
    assert len(from_posteriors(posterior(30 + 1.1 * half_sample_s))) == 0
    assert len(from_posteriors(posterior(0, epoch_s=60))) == 0, "two epochs are not one"
    assert len(from_posteriors(posterior(-30))) == 0


def test_a_drifting_clock_loses_no_epoch() -> None:
    n, drift = 960, 1 + 5e-5  # 8 hours, at whose end the device is 1.4 s late
    run = []
    for k in range(n * 10):  # a hop of 3 s
        start, stop = k * 300, k * 300 + 3000
        state = "N3" if k % 10 == 0 else "N1"
        run.append(Posterior(start, stop, 7 + start / 100 * drift, 7 + stop / 100 * drift, (), state, True))
    assert from_posteriors(*run, t0_s=7.0).states == ["N3"] * n


def test_jittering_stamps_need_a_tolerance() -> None:
    jitter_s = np.random.default_rng(1).uniform(0.006, 0.02, 20)
    run = [posterior(30 * k, "N3") for k in range(20)]
    run = [dataclasses.replace(p, t_start_s=p.t_start_s + late_s) for p, late_s in zip(run, jitter_s, strict=True)]
    assert len(from_posteriors(*run)) == 0
    assert Hypnogram.from_posteriors(run, AASM5, 30.0, 0.0, tolerance_s=0.05).states == ["N3"] * 20


def test_invalid_epochs_are_unknown() -> None:
    hypnogram = from_posteriors(posterior(0, "N2", valid=False), posterior(30, "UNKNOWN", valid=False, probs=()))
    assert hypnogram.codes.tolist() == [-1, -1]
    assert np.isnan(hypnogram.probs).all()


def test_final_stands_above_provisional() -> None:
    early, late = posterior(0, "N1", kind="provisional"), posterior(0, "N2", kind="provisional")
    final = posterior(0, "N3")
    assert from_posteriors(early, late).states == ["N2"]
    assert from_posteriors(early, final).states == ["N3"]
    assert from_posteriors(final, late).states == ["N3"]
    invalid = posterior(0, "N3", valid=False)
    assert from_posteriors(late, invalid).states == ["N2"], "a gap kept the final word from coming"


def test_posteriors_of_another_scorer() -> None:
    with pytest.raises(ConfigError, match="unknown state 'NREM'"):
        from_posteriors(posterior(0, "NREM"))
    with pytest.raises(ConfigError, match="3 probabilities for 5 labels"):
        from_posteriors(posterior(0, "W", probs=(1, 0, 0)))
    assert np.isnan(from_posteriors(posterior(0, "W", probs=())).probs).all()


def test_shapes_are_checked() -> None:
    codes, probs = np.zeros(3, np.int8), np.zeros((3, 5), np.float32)
    with pytest.raises(ConfigError, match=r"\(n, 3\)"):
        Hypnogram(MOUSE3, 4.0, 0.0, codes, probs)
    with pytest.raises(ConfigError, match="from 0 to 7"):
        Hypnogram.from_codes([0, 7], AASM5, 30.0)
    with pytest.raises(ConfigError, match="epoch_s is 0"):
        Hypnogram(AASM5, 0.0, 0.0, codes, probs)


# --- CSV ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(hypnograms())
def test_csv_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, hypnogram: Hypnogram) -> None:
    path = tmp_path_factory.mktemp("csv") / "hypnogram.csv"
    hypnogram.write_csv(path)
    back = read_csv(path)
    assert (back.labels, back.epoch_s, back.t0_s) == (hypnogram.labels, hypnogram.epoch_s, hypnogram.t0_s)
    assert np.array_equal(back.codes, hypnogram.codes)
    assert np.array_equal(back.probs, hypnogram.probs, equal_nan=True)


def test_csv_is_for_people(tmp_path: Path) -> None:
    path = tmp_path / "hypnogram.csv"
    from_posteriors(posterior(30, "REM", probs=(0, 0, 0.3, 0, 0.7))).write_csv(path)
    with path.open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert list(first) == ["epoch", "start_s", "duration_s", "state", "valid", *(f"prob_{name}" for name in AASM5)]
    assert list(first.values()) == ["0", "0.0", "30.0", "UNKNOWN", "false", "", "", "", "", ""]
    assert (second["state"], second["valid"], second["prob_N2"]) == ("REM", "true", "0.3")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epoch,start_s", "epoch,onset", "line 1 must name the columns epoch, start_s"),
        ("N2,true", "N9,true", "line 3: unknown state 'N9'"),
        ("1,30.0", "2,30.0", r"line 3: epoch 2 \(due: 1\)"),
        ("1,30.0", "1,31.0", "line 3: start_s and duration_s are not on a grid of 30-s epochs"),
        ("N2,true", "N2,false", "line 3: epoch 1 .* with valid = false"),
        ("0.6", "0.6,0.7", "line 3: could not broadcast"),
        ("0.6", "many", "line 3: could not convert"),
        ("N2,true,0.1,0.1,0.6,0.1,0.1", "N2", "line 3: not enough values"),
    ],
)
def test_damaged_csv(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "hypnogram.csv"
    from_posteriors(posterior(0, "W", probs=()), posterior(30, "N2")).write_csv(path)
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(RecordingError, match=message):
        read_csv(path)


def test_csv_without_epochs_or_file(tmp_path: Path) -> None:
    path = tmp_path / "hypnogram.csv"
    from_posteriors().write_csv(path)
    with pytest.raises(RecordingError, match="holds no epochs"):
        read_csv(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordingError, match="cannot be read as CSV"):
        read_csv(path)
    with pytest.raises(RecordingError, match="cannot be read as CSV"):
        read_csv(tmp_path / "absent.csv")
    with pytest.raises(RecordError, match="cannot be written"):
        from_posteriors().write_csv(tmp_path / "absent" / "hypnogram.csv")


# --- EDF+ -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(hypnograms())
def test_edf_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, hypnogram: Hypnogram) -> None:
    path = tmp_path_factory.mktemp("edf") / "hypnogram.edf"
    hypnogram.write_edf(path)
    back = read_edf_hypnogram(path, hypnogram.labels if hypnogram.labels == NO_WORDS else None)
    assert (back.labels, back.epoch_s, back.t0_s) == (hypnogram.labels, hypnogram.epoch_s, hypnogram.t0_s)
    assert np.array_equal(back.codes, hypnogram.codes)
    assert np.isnan(back.probs).all()


def test_edf_has_the_texts_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "hypnogram.edf"
    start = datetime.datetime(2024, 5, 6, 22, 30, 15, 250_000)
    Hypnogram.from_codes([0, 1, 2, 3, 4, -1], AASM5, 30.0, 60.0).write_edf(path, start)
    file = read_edf(path)
    texts = [f"Sleep stage {name}" for name in ("W", "N1", "N2", "N3", "R", "?")]
    assert file.annotations == tuple(EdfAnnotation(60 + 30 * k, 30, text) for k, text in enumerate(texts))
    assert file.startdatetime == start
    assert read_edf_hypnogram(path).t0_s == 60.0
    Hypnogram.from_codes([1, 2], MOUSE3, 4.0).write_edf(path)
    assert [a.text for a in read_edf(path).annotations] == ["NREM", "REM"]


def test_edf_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "hypnogram.edf"
    notes = [EdfAnnotation(0, 90, "Sleep stage 2"), EdfAnnotation(90, 30, "Sleep stage 3")]
    Edf([], annotations=notes).write(path)
    assert read_edf_hypnogram(path).states == ["N2", "N2", "N2", "N3"]
    assert read_edf_hypnogram(path, RK6).states == ["S2", "S2", "S2", "S3"]
    with pytest.raises(RecordingError, match="'Sleep stage 2' at 0 s is not a state of Wake, NREM, REM"):
        read_edf_hypnogram(path, MOUSE3)


def test_edf_without_a_hypnogram(tmp_path: Path) -> None:
    path = tmp_path / "hypnogram.edf"
    Edf([], annotations=[EdfAnnotation(0, 1, "Lights off")]).write(path)
    with pytest.raises(RecordingError, match="no annotations that score states"):
        read_edf_hypnogram(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        read_edf_hypnogram(tmp_path / "absent.edf")


def test_edf_that_cannot_be_written(tmp_path: Path) -> None:
    hypnogram = Hypnogram.from_codes([0], AASM5, 30.0)
    with pytest.raises(RecordError, match="no epochs"):
        from_posteriors().write_edf(tmp_path / "empty.edf")
    with pytest.raises(RecordError, match="1985 to 2084"):
        hypnogram.write_edf(tmp_path / "old.edf", datetime.datetime(1950, 1, 1))
    with pytest.raises(RecordError, match="cannot be written"):
        hypnogram.write_edf(tmp_path / "absent" / "hypnogram.edf")
