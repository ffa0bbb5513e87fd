"""A movie with labels, as the command scores it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from streamscore.bundle import open_bundle
from streamscore.errors import ConfigError, RecordingError
from streamscore.movies.base import read_movie
from streamscore.registration import register_command
from streamscore.score import score_command, score_recording

RIG = """
source: {kind: movie, path: unused.mat}
bundle:
  model: cnn_bilstm
  model_args: {variant: causal, n_filters: 2, n_hidden: 2}
  preprocess: [{kind: pixel_normalise, warm_up_s: 2}]
"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Four epochs of the public calcium-sleep layout: wake, NREM, artefact, REM."""
    rng = np.random.default_rng(0)
    path = tmp_path / "mouse.mat"
    with h5py.File(path, "w") as file:
        file["data"] = rng.standard_normal((4, 168, 128, 128)).astype(np.float16).astype(np.float32)
        file["xform_mask"] = np.ones((128, 128))
        file["scoringindex_file"] = np.array([[0.0, 1.0, 2.0, 3.0]])
    (tmp_path / "rig.yaml").write_text(RIG)
    return path


def test_epochs_are_those_of_the_labels_and_artefacts_do_not_count(recording: Path, tmp_path: Path) -> None:
    report = score_command(recording, str(tmp_path / "rig.yaml"), None, None, None, tmp_path / "out")
    assert report.n_epochs == 4
    # The first epoch holds the warm-ups of chain and attention; of the other three one is an artefact.
    assert report.counts["UNKNOWN"] == 1
    assert "against the labels of the file" in report.agreement
    assert "66.7 % of labelled epochs scored" in report.agreement
    lines = (tmp_path / "out" / "mouse-hypnogram.csv").read_text().splitlines()
    assert len([line for line in lines if line[:1].isdigit()]) == 4


def test_a_file_of_one_light_is_not_taken_apart(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text(
        RIG.replace("path: unused.mat", "path: unused.mat, lights: [calcium, reference]")
    )
    with pytest.raises(RecordingError, match=r"has 1 lights .*but 2 are named"):
        score_command(recording, str(tmp_path / "rig.yaml"), None, None, None, tmp_path / "out")


def test_a_movie_that_names_no_light_has_the_one_that_is_wanted(tmp_path: Path) -> None:
    np.save(tmp_path / "mouse.npy", np.random.default_rng(0).normal(1000, 50, (40, 128, 128)).astype(np.float32))
    bundle = open_bundle({"model": "efficientnet"})
    score = score_recording(read_movie(tmp_path / "mouse.npy", rate_hz=30.0), bundle)
    assert score.info.channels == bundle.spec.channels
    assert any(posterior.valid for posterior in score.posteriors)


def test_a_transform_is_not_written_where_it_cannot_be(tmp_path: Path) -> None:
    np.save(tmp_path / "frame.npy", np.random.default_rng(0).normal(1000, 50, (128, 128)))
    with pytest.raises(ConfigError, match="folder is absent or cannot be written to; choose another"):
        register_command(str(tmp_path / "frame.npy"), "64,45", "64,95", tmp_path / "nowhere" / "mouse.json")
