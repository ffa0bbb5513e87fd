from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import robust_scale

from streamscore.errors import ConfigError
from streamscore.features import yasa_classifier
from streamscore.features.yasa_features import (
    EPOCH_SAMPLES,
    SFREQ,
    Filter,
    measure,
    names,
    package,
    robust_statistics,
    smooth,
    smoothed_names,
)

mne = pytest.importorskip("mne")
KINDS = ("eeg", "eog", "emg")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 30.0, shape)


class TestFilter:
    """MNE does it to a whole file; a window of it must do."""

    def test_at_100_hz_a_file_is_filtered_as_by_mne(self) -> None:
        x = noise(2, 2 * EPOCH_SAMPLES) + 500.0
        expected = mne.filter.filter_data(x, 100.0, 0.4, 30.0, verbose=False)
        np.testing.assert_allclose(Filter(SFREQ)(x), expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("sfreq", [128, 200, 256])
    def test_another_rate_is_resampled_as_by_mne(self, sfreq: int) -> None:
        """White noise has as much at 50 Hz, where the kernels differ, as anywhere; EEG has little there."""
        x = noise(1, 10 * 30 * sfreq)
        resampled = mne.filter.resample(x, 100.0, float(sfreq), npad="auto", verbose=False)
        expected = mne.filter.filter_data(resampled, 100.0, 0.4, 30.0, verbose=False)[0]
        got = Filter(sfreq)(x)[0]
        assert got.shape == expected.shape
        inside = slice(EPOCH_SAMPLES, -EPOCH_SAMPLES)
        np.testing.assert_allclose(got[inside], expected[inside], rtol=0, atol=0.005)
        assert expected.std() > 10.0

    @pytest.mark.parametrize("sfreq", [100, 128])
    def test_an_epoch_depends_on_its_neighbours_only(self, sfreq: int) -> None:
        step = 30 * sfreq
        x = noise(1, 5 * step)
        whole = Filter(sfreq)(x)
        window = Filter(sfreq)(x[:, step : 4 * step])
        middle = slice(EPOCH_SAMPLES, 2 * EPOCH_SAMPLES)
        np.testing.assert_allclose(window[:, middle], whole[:, 2 * EPOCH_SAMPLES : 3 * EPOCH_SAMPLES], atol=1e-9)
        assert not np.allclose(window[:, -100:], whole[:, 4 * EPOCH_SAMPLES - 100 : 4 * EPOCH_SAMPLES], atol=1e-3)

    def test_a_lower_rate_is_raised(self) -> None:
        t_s = np.arange(60 * 90) / 90.0
        at_100_hz = np.arange(60 * SFREQ) / SFREQ
        got = Filter(90)(np.sin(2 * np.pi * 7.0 * t_s)[None])[0]
        np.testing.assert_allclose(got[1000:-1000], np.sin(2 * np.pi * 7.0 * at_100_hz)[1000:-1000], atol=0.005)

    @pytest.mark.parametrize("sfreq", [90, 100, 128, 250])
    def test_nothing_reaches_further_than_declared(self, sfreq: int) -> None:
        x = np.zeros((1, 90 * sfreq))
        x[0, 45 * sfreq] = 1.0
        response = np.abs(Filter(sfreq)(x)[0])
        reach = round(Filter.REACH_S * SFREQ) + 1
        outside = np.concatenate((response[: 45 * SFREQ - reach], response[45 * SFREQ + reach :]))
        assert outside.max() < 1e-9
        assert response.max() > 0.1


class TestMeasure:
    def test_its_columns_are_named(self) -> None:
        table = measure(noise(3, 2 * EPOCH_SAMPLES), KINDS)
        assert table.shape == (2, len(names(KINDS)))
        assert len(names(("eeg",))) == 21
        assert len(smoothed_names(("eeg",))) == 42
        assert smoothed_names(("eeg",))[21] == "eeg_std_p2min_norm"

    def test_it_measures_each_epoch_for_itself(self) -> None:
        x = noise(1, 3 * EPOCH_SAMPLES)
        alone = measure(x[:, EPOCH_SAMPLES : 2 * EPOCH_SAMPLES], ("eeg",))
        np.testing.assert_allclose(measure(x, ("eeg",))[1:2], alone, rtol=1e-12)

    def test_a_sine_has_its_frequency(self) -> None:
        t_s = np.arange(EPOCH_SAMPLES) / SFREQ
        row = dict(
            zip(names(("eeg",)), measure(10.0 * np.sin(2 * np.pi * 10.0 * t_s)[None], ("eeg",))[0], strict=True)
        )
        assert row["eeg_std"] == pytest.approx(10.0 / np.sqrt(2.0), rel=1e-3)
        assert row["eeg_nzc"] == pytest.approx(600, abs=2)
        assert row["eeg_alpha"] > 0.9
        assert row["eeg_kurt"] == pytest.approx(-1.5, abs=1e-3)

    def test_a_flat_line_warns_of_nothing(self) -> None:
        table = measure(np.zeros((3, EPOCH_SAMPLES)), KINDS)
        assert table[0, 0] == 0.0
        assert np.isnan(table[0, names(KINDS).index("eeg_skew")])


class TestSmooth:
    """As pandas does it for YASA."""

    @pytest.mark.parametrize("n_epochs", [1, 3, 14, 40])
    def test_it_is_that_of_pandas(self, n_epochs: int) -> None:
        table = noise(n_epochs, 3)
        table[::5, 1] = np.nan
        table[:, 2] = np.nan
        frame = pd.DataFrame(table)
        centred = frame.rolling(window=15, center=True, min_periods=1, win_type="triang").mean()
        past = frame.rolling(window=4, min_periods=1).mean()
        np.testing.assert_allclose(smooth(table), pd.concat((centred, past), axis=1).to_numpy(), atol=1e-9)

    def test_infinity_counts_as_unknown(self) -> None:
        table = np.array([[1.0], [np.inf], [3.0]])
        assert smooth(table)[2, 1] == pytest.approx(2.0)


class TestRobustStatistics:
    @pytest.mark.parametrize("n_epochs", [1, 2, 77])
    def test_it_is_that_of_scikit_learn(self, n_epochs: int) -> None:
        table = noise(n_epochs, 4)
        table[1::7, 1] = np.nan
        table[:, 2] = 5.0
        center, scale = robust_statistics(table)
        expected = robust_scale(table, quantile_range=(5, 95))
        np.testing.assert_allclose((table - center) / scale, expected, atol=1e-12)

    def test_a_column_without_a_number_changes_nothing(self) -> None:
        np.testing.assert_array_equal(robust_statistics(np.full((3, 1), np.nan)), [[0.0], [1.0]])


class TestClassifier:
    """All eight that YASA publishes."""

    @pytest.mark.parametrize("has_person", [False, True])
    @pytest.mark.parametrize("kinds", [("eeg",), ("eeg", "eog"), ("eeg", "emg"), KINDS])
    def test_it_is_the_published_one(self, kinds: tuple[str, ...], has_person: bool) -> None:
        classifier = yasa_classifier.load_classifier(kinds, has_person)
        assert set(names(kinds)) | set(smoothed_names(kinds)) | {"time_hour", "time_norm"} == set(
            classifier.inputs
        ) - {"age", "male"}
        probs = np.exp(classifier.log_probs(np.zeros((2, len(classifier.inputs)))))
        np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-6)

    def test_another_file_of_that_name_is_never_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(yasa_classifier.CLASSIFIERS, "clf_eeg_lgb_0.5.0.joblib", "0" * 64)
        with pytest.raises(ConfigError, match=r"clf_eeg_lgb_0\.5\.0\.joblib: not the published classifier"):
            yasa_classifier.load_classifier.__wrapped__(("eeg",), False)

    def test_a_yasa_that_measures_otherwise_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def other(filtered: np.ndarray, kinds: tuple[str, ...]) -> np.ndarray:
            table = measure(filtered, kinds)
            table[:, 4] += 1.0
            return table

        monkeypatch.setattr(yasa_classifier, "measure", other)
        with pytest.raises(ConfigError, match=r"measures eeg_nzc differently .* pip install 'yasa==0\.8\.1'"):
            yasa_classifier.load_classifier.__wrapped__(("eeg",), False)

    def test_without_yasa_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yasa", None)
        with pytest.raises(ConfigError, match=r"needs the package 'yasa'.*pip install 'streamscore\[yasa\]'"):
            package("yasa")
