from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

pytest.importorskip("yasa")

from offline import yasa_table
from streamscore.models.yasa import Config, build, night_statistics
from streamscore.recordings.base import Recording

N_EPOCHS = 12


def noise(n_channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    amplitude = np.repeat(rng.uniform(5.0, 60.0, N_EPOCHS), 3000)
    return amplitude * rng.normal(0.0, 1.0, (n_channels, N_EPOCHS * 3000))


def recording(x: np.ndarray, stamps_s: np.ndarray | None = None) -> Recording:
    n = x.shape[1]
    return Recording(
        name="night",
        data=x.T.astype(np.float32),
        stamps_s=np.arange(n) / 100.0 if stamps_s is None else stamps_s,
        sfreq=100.0,
        channels=tuple("ABC")[: len(x)],
        units=("uV",) * len(x),
    )


@pytest.mark.parametrize("scaling", ["running", "calibration"])
def test_what_is_scored_from_features_is_what_a_stream_scores(scaling: str) -> None:
    x = noise()
    night = yasa_table.measure_night(x, 100, np.zeros(N_EPOCHS, np.int64))
    config = Config(scaling=scaling, calibration_s=90.0, expected_duration_s=360.0, lag_epochs=5)
    scored = yasa_table.score(night, config)
    model = build(config)
    with torch.inference_mode():
        logits, _ = model(torch.from_numpy(x.astype(np.float32))[None], model.initial_state(1))
    codes = logits[0].argmax(dim=-1).numpy()
    np.testing.assert_array_equal(scored[0], codes[:, 0])
    np.testing.assert_array_equal(scored[5, :-5], codes[5:, 1])
    assert (scored[5, -5:] == -1).all()
    assert len(set(codes[:, 0])) > 1


def test_yasa_offline_gives_probabilities() -> None:
    np.testing.assert_allclose(yasa_table.yasa_offline(noise(), 100).sum(axis=1), 1.0, atol=1e-6)


def test_statistics_can_be_used_as_arguments(tmp_path: Path) -> None:
    x = noise(3).astype(np.float32)
    path = tmp_path / "night.npz"
    np.savez(path, data=x.T, sfreq=100.0, channels=["EEG", "EOG", "EMG"], unit="uV")
    app = typer.Typer()
    app.command()(yasa_table.main)
    result = CliRunner().invoke(app, [str(path), "--statistics", "--eog", "--emg"])
    assert result.exit_code == 0, result.output
    config = Config(eog=True, emg=True, scaling="stored", **json.loads(result.stdout))
    assert (config.stored_center, config.stored_scale) == night_statistics(config, x.astype(np.float64))


def test_gaps_and_missing_channels_are_refused() -> None:
    x = noise()
    late = np.arange(x.shape[1]) / 100.0 + np.where(np.arange(x.shape[1]) > 5000, 60.0, 0.0)
    for wrong, n_channels in ((recording(x, late), 1), (recording(x), 2)):
        with pytest.raises(typer.BadParameter, match="without gaps"):
            yasa_table.whole_epochs(wrong, n_channels)


def test_a_night_without_an_expert_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="AASM stages"):
        yasa_table.expert_codes(recording(noise()), N_EPOCHS)
