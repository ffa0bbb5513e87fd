"""Simulated data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offline.datasets.base import open_dataset
from offline.datasets.check import across, check
from offline.datasets.simulated import KINDS, Plan, rois, simulate
from streamscore.errors import ConfigError, RecordError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from streamscore.simulate.cortex_map import CortexMap
from streamscore.simulate.simulator import simulate as simulate_recording
from tests.offline.datasets.layouts import small_disk

SMALL = {
    "human": Plan(2, 0.1, seed=3, sfreq=50.0, cycle_s=300.0),
    "mouse": Plan(2, 0.03, seed=3, sfreq=50.0, cycle_s=60.0),
    "calcium": Plan(2, 0.01, seed=3, cycle_s=60.0, side_px=16),
    "parcels": Plan(2, 0.01, seed=3, cycle_s=60.0),
    "run_rest": Plan(2, 0.01, seed=3, side_px=16),
    "roi": Plan(2, 0.005, seed=3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_simulated_sets_are_sound_plain_sets_and_say_what_they_are(tmp_path: Path, kind: str) -> None:
    written = list(simulate(kind, tmp_path, SMALL[kind]))
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "plain"
    assert dataset.is_simulated
    assert dataset.subjects == ("sim00003", "sim00004")
    assert [entry.signal for entry in dataset.entries] == written
    assert "SIMULATED" in (tmp_path / "README.txt").read_text()
    assert "SIMULATED" in str(dataset.described["title"])
    findings = list(check(dataset))
    assert across(dataset, findings) == ()
    assert all(finding.is_usable and finding.unlabelled == 0 and finding.gaps == 0 for finding in findings)
    assert not list(tmp_path.glob(".*"))


def test_the_same_plan_writes_the_same_again(tmp_path: Path) -> None:
    """So an interrupted simulation is gone on with, and a set need not be kept."""
    for folder in ("a", "b", "b"):
        list(simulate("mouse", tmp_path / folder, SMALL["mouse"]))
    for path in (tmp_path / "a").iterdir():
        assert path.suffix == ".npz" or path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    one, other = (np.load(tmp_path / folder / "sim00004.npz")["data"] for folder in "ab")
    np.testing.assert_array_equal(one, other)


def test_signals_and_states_are_those_of_the_simulator(tmp_path: Path) -> None:
    list(simulate("human", tmp_path, SMALL["human"]))
    dataset = open_dataset(tmp_path)
    recording = dataset.read(dataset.entries[1])
    truth = simulate_recording("human", 360.0, 50.0, 4, 300.0)
    assert isinstance(recording, Recording)
    np.testing.assert_array_equal(recording.data, truth.data)
    np.testing.assert_array_equal(recording.states, truth.states)
    assert (recording.channels, recording.units) == (("EEG", "EOG", "EMG"), ("uV", "uV", "uV"))


def test_movies_have_size_rate_mask_and_labels(tmp_path: Path) -> None:
    list(simulate("calcium", tmp_path, SMALL["calcium"]))
    dataset = open_dataset(tmp_path)
    movie = dataset.read(dataset.entries[0])
    assert isinstance(movie, Movie)
    with movie:
        assert (movie.frame_shape, movie.rate_hz, movie.lights) == ((16, 16), 16.8, ("calcium",))
        assert movie.mask is not None
        assert 0.2 < movie.mask.mean() < 0.9
        assert (movie.epoch_s, len(movie.states)) == (10, 3)


def test_rois_lie_apart_on_both_hemispheres() -> None:
    drawing = CortexMap((64, 64))
    discs = rois(drawing)
    assert discs.shape == (50, 64, 64)
    assert (discs.sum(axis=(1, 2)) >= 4).all()
    assert not (discs & ~drawing.mask).any()
    x_mm = drawing.xy_mm[0]
    centres = np.array([x_mm[disc].mean() for disc in discs])
    assert (centres[:25] < 0).all()
    np.testing.assert_allclose(centres[25:], -centres[:25], atol=0.1)
    assert len({disc.tobytes() for disc in discs}) == 50


def test_running_shows_in_the_traces(tmp_path: Path) -> None:
    list(simulate("roi", tmp_path, Plan(1, 0.02)))
    dataset = open_dataset(tmp_path)
    recording = dataset.read(dataset.entries[0])
    assert isinstance(recording, Recording)
    assert recording.data.shape == (2160, 50)
    assert abs(float(recording.data.mean())) < 0.01
    assert set(np.unique(recording.states)) == {0, 1}
    run, rest = (recording.data[recording.states == code].mean(axis=0) for code in (1, 0))
    assert (run - rest).max() > 0.5 * recording.data.std(axis=0).mean()


def test_simulated_and_other_recordings_never_mix(tmp_path: Path) -> None:
    (tmp_path / "real.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds other files \(real\.npz\)"):
        list(simulate("mouse", tmp_path, SMALL["mouse"]))
    list(simulate("mouse", tmp_path / "new", SMALL["mouse"]))
    with pytest.raises(ConfigError, match="holds other files"):
        list(simulate("mouse", tmp_path / "new", Plan(2, 0.03, seed=4, sfreq=50.0)))


@pytest.mark.parametrize(
    ("kind", "plan"),
    [
        ("cat", Plan(1, 1)),
        ("human", Plan(0, 1)),
        ("human", Plan(1, 0)),
        ("human", Plan(1, 1, seed=-1)),
        ("human", Plan(1, 0.1, sfreq=10)),
        ("calcium", Plan(1, 0.01, side_px=4)),
    ],
)
def test_what_cannot_be_simulated_is_told(tmp_path: Path, kind: str, plan: Plan) -> None:
    with pytest.raises(ConfigError, match="choose"):
        list(simulate(kind, tmp_path / "new", plan))


def test_a_full_disk_is_told_and_leaves_no_half_recording(tmp_path: Path) -> None:
    with small_disk(20_000), pytest.raises(RecordError, match=r"sim00003\.npz: cannot be written.*make room"):
        list(simulate("mouse", tmp_path, SMALL["mouse"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "dataset.json"]


def test_the_plan_is_written_down(tmp_path: Path) -> None:
    list(simulate("mouse", tmp_path, SMALL["mouse"]))
    settings = json.loads((tmp_path / "README.txt").read_text().splitlines()[-1])
    assert settings["simulator"] == "mouse"
    assert Plan(**{key: settings[key] for key in vars(SMALL["mouse"])}) == SMALL["mouse"]
