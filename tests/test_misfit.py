"""A recording that a bundle was not trained for is named, with a remedy that there is without a rig file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamscore.bundle import load_bundle, open_bundle
from streamscore.errors import BundleMismatchError, StreamFormatError
from streamscore.movies.base import read_movie
from streamscore.recordings.base import Recording
from streamscore.score import score_recording
from tests.bundles import SFREQ, write_bundle


def signals(**changes: Any) -> Recording:
    """Ten epochs in the unit and at the rate of the small bundle."""
    data = np.random.default_rng(0).normal(0, 20, (round(40 * SFREQ), 1)).astype(np.float32)
    stamps_s = np.arange(len(data)) / SFREQ
    return replace(Recording("m7_day", data, stamps_s, SFREQ, ("EEG",), ("uV",)), **changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"sfreq": 50.0},
            BundleMismatchError,
            "m7_day: has 50 Hz, but bundle 'small' takes 64 Hz; resample the file",
        ),
        ({"units": ("V",)}, BundleMismatchError, "m7_day: channel EEG is in V, .* takes uV; write the file anew"),
        (
            {"units": ("",)},
            BundleMismatchError,
            "m7_day: channel EEG is in no stated unit, .* with the unit in it",
        ),
        (
            {"channels": ("C3",)},
            StreamFormatError,
            r"m7_day: has no channel 'EEG'; .* C3.*--channel EEG=.*dataset\.json",
        ),
    ],
)
def test_what_does_not_fit_is_told_of_the_file(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_bundle(tmp_path / "small.safetensors")
    bundle = load_bundle(tmp_path / "small.safetensors")
    assert len(score_recording(signals(), bundle).hypnogram) == 10
    with pytest.raises(error, match=message) as raised:
        score_recording(signals(**changes), bundle)
    assert "rig file" not in str(raised.value)


def test_a_network_for_any_rate_is_written_out_in_a_rig_file() -> None:
    bundle = open_bundle({"model": "yasa", "sfreq": 100.0})
    with pytest.raises(
        BundleMismatchError, match=r"has 64 Hz, .*give a rig file with bundle: \{model: yasa, sfreq: 64\}"
    ):
        score_recording(signals(), bundle)


def test_frames_and_signals_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(
        BundleMismatchError, match=r"m7_day: holds signals \(EEG …\), but .*efficientnet' takes frames of"
    ):
        score_recording(signals(), open_bundle({"model": "efficientnet"}))
    np.save(tmp_path / "brain.npy", np.zeros((20, 16, 16), np.float32))
    write_bundle(tmp_path / "small.safetensors")
    movie = read_movie(tmp_path / "brain.npy", rate_hz=10.0)
    with pytest.raises(
        BundleMismatchError, match=r"brain: holds a movie, but bundle 'small' takes signals \(EEG\)"
    ):
        score_recording(movie, load_bundle(tmp_path / "small.safetensors"))
