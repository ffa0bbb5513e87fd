"""Spectra of the true states, and the epochs that they are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offline.spectra import spectra_of
from offline.windows import whole_epochs
from streamscore.recordings.base import Recording
from tests.offline.scores import EPOCH_S, recording, scored

SFREQ = 64.0
#: Amplitude and frequency of each state.
TONES = ((30.0, 8.0), (60.0, 2.0), (10.0, 20.0))


def tones(states: np.ndarray) -> Recording:
    """Two channels: the tone of each state, and a tenth of it."""
    t_s = np.arange(round(len(states) * EPOCH_S * SFREQ)) / SFREQ
    level, f_hz = np.array(TONES)[np.repeat(states, round(EPOCH_S * SFREQ))].T
    x = level * np.sin(2 * np.pi * f_hz * t_s)
    return replace(
        recording([0]),
        data=np.stack([x, x / 10], axis=1).astype(np.float32),
        stamps_s=t_s,
        sfreq=SFREQ,
        channels=("EEG", "EMG"),
        units=("uV", "uV"),
        states=states.astype(np.int8),
    )


def test_each_state_has_the_power_of_its_tone() -> None:
    states = np.repeat([0, 1, 2], 4)
    found = spectra_of(tones(states), scored(states))
    assert found is not None
    assert found.psd.shape == (3, 2, len(found.f_hz))
    assert found.epochs.tolist() == [4, 4, 4]
    df_hz = found.f_hz[1]
    for k, (level, f_hz) in enumerate(TONES):
        assert found.f_hz[found.psd[k, 0].argmax()] == f_hz
        assert found.psd[k, 0].sum() * df_hz == pytest.approx(level**2 / 2, rel=0.02)  # µV² of a sine
        assert found.psd[k, 1].sum() * df_hz == pytest.approx(level**2 / 200, rel=0.02)


def test_only_whole_epochs_of_the_truth_count(tmp_path: Path) -> None:
    states = np.repeat([0, 1, 2], 4)
    whole = tones(states)
    data = whole.data.copy()
    data[10, 1] = np.inf
    lost = np.arange(len(data)) != 5 * 256 + 7
    broken = replace(whole, data=data[lost], stamps_s=whole.stamps_s[lost])
    truth = np.where(states == 2, -1, states)
    found = spectra_of(broken, scored(truth, states))
    assert found is not None
    assert found.epochs.tolist() == [3, 3, 0]
    assert np.isnan(found.psd[2]).all()
    assert np.isfinite(found.psd[:2]).all()
    found.write(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        assert file["psd"].shape == (3, 2, len(file["f_hz"]))
        assert file["states"].tolist() == ["Wake", "NREM", "REM"]
        assert file["units"].tolist() == ["uV", "uV"]


def test_epochs_of_a_few_samples_have_no_spectrum() -> None:
    assert spectra_of(replace(tones(np.zeros(4, int)), sfreq=4.0), scored([0])) is None


def test_windows_are_found_by_time_not_by_count() -> None:
    whole = recording([0, 1, 2, 0])
    keep = (whole.stamps_s < 3.0) | (whole.stamps_s >= 8.0)
    lost = replace(whole, data=whole.data[keep], stamps_s=whole.stamps_s[keep])
    ((rows, samples),) = whole_epochs(lost, np.arange(5) * EPOCH_S, EPOCH_S)
    assert rows.tolist() == [2, 3]
    np.testing.assert_array_equal(samples, whole.data.reshape(4, 64, 1)[2:])
