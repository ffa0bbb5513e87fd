from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from streamscore.bundle import open_bundle
from streamscore.errors import BundleMismatchError, ConfigError
from streamscore.features.yasa_classifier import load_classifier
from streamscore.models.base import ScoringModel
from streamscore.models.yasa import ABOUT, FULL_LAG_EPOCHS, Config, Yasa, build, night_statistics, provenance
from streamscore.types import StreamInfo
from tests.contracts.model import ModelContract, run

antropy = pytest.importorskip("antropy")
mne = pytest.importorskip("mne")
yasa = pytest.importorskip("yasa")

UCDDB018 = Path(__file__).parents[3] / "shared" / "data" / "human_ucddb" / "ucddb018.npz"
needs_night = pytest.mark.skipif(not UCDDB018.is_file(), reason=f"{UCDDB018} is not on this machine")
#: Least of everything, so that a read may be used as soon as it can be.
SHORT = {"calibration_s": 30.0, "history_s": 450.0}


def offline(x: np.ndarray, sfreq: int, **kwargs: Any) -> np.ndarray:
    """Probabilities of W, N1, N2, N3, REM that YASA itself gives for a file of these channels in µV."""
    kinds = ["eeg", "eog", "emg"][: len(x)]
    info = mne.create_info(kinds, float(sfreq), kinds)
    staging = yasa.SleepStaging(mne.io.RawArray(x.astype(np.float64) * 1e-6, info, verbose=False), "eeg", **kwargs)
    return staging.predict().proba[["WAKE", "N1", "N2", "N3", "REM"]].to_numpy()


def live(model: Yasa, x: np.ndarray) -> np.ndarray:
    """Probabilities ``(n_steps, n_reads, 5)``."""
    logits, _ = run(model, torch.from_numpy(x.astype(np.float32))[None])
    return torch.softmax(logits, dim=-1)[0].numpy()


def sleep_like(n_channels: int, n_epochs: int, sfreq: int = 100) -> np.ndarray:
    """Noise whose amplitude and slope change from epoch to epoch, float32 in µV."""
    rng = np.random.default_rng(3)
    white = rng.normal(0.0, 1.0, (n_channels, n_epochs, 30 * sfreq))
    slow = np.cumsum(white, axis=2) * 0.3
    share = np.abs(np.sin(np.arange(n_epochs) / 5.0))[None, :, None]
    x = 20.0 * (share * (slow - slow.mean(axis=2, keepdims=True)) + (1.0 - share) * white)
    return x.reshape(n_channels, -1).astype(np.float32)


@pytest.fixture
def no_crossing_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count crossings without the outermost samples of an epoch.

    The first and the last sample of a file, reflected about themselves, pass the filter as 0 but for rounding, so
    that YASA counts a crossing there by chance.
    """
    count = antropy.num_zerocross
    monkeypatch.setattr(antropy, "num_zerocross", lambda x, axis: count(x[:, 1:-1], axis=axis))


class YasaContract(ModelContract):
    """The classifier is a staircase: a change must be large to move it, and is then seen at once."""

    def stream(self, model: ScoringModel, batch_size: int = 1, n_steps: int = 4, seed: int = 0) -> Tensor:
        return 30.0 * super().stream(model, batch_size, n_steps, seed)

    def touch(self, model: ScoringModel, x: Tensor, sample: int) -> Tensor:
        """A spike of some millivolts in all channels."""
        return x + 100.0 * (super().touch(model, x, sample) - x)

    def test_saved_weights_give_the_same_outputs(self) -> None:
        """It has none: what it computes is fixed by its arguments and by YASA's classifier."""
        model, again = self.make(), self.make()
        assert model.state_dict() == {}
        assert model.n_trainable() == 0
        x = self.stream(model)
        assert torch.equal(run(model, x)[0], run(again, x)[0])


class TestYasaRunning(YasaContract):
    """One channel at 100 Hz, final read at lag 2."""

    def make(self) -> Yasa:
        return build(Config(lag_epochs=2, calibration_s=60.0, history_s=450.0))


@cache
def all_channels() -> Config:
    """Configuration with all channels, age, sex and the statistics of a short night."""
    config = Config(sfreq=128, eog=True, emg=True, age=30, male=False, lag_epochs=1)
    center, scale = night_statistics(config, sleep_like(3, 6, 128))
    stored = {"scaling": "stored", "stored_center": center, "stored_scale": scale}
    return Config(**config.model_dump() | stored)


class TestYasaStored(YasaContract):
    """All channels, age and sex, resampled; final read at lag 1."""

    def make(self) -> Yasa:
        return build(all_channels())


class TestYasaCalibration(YasaContract):
    """Two channels, causal: lag 0 only."""

    def make(self) -> Yasa:
        return build(Config(eog=True, lag_epochs=0, scaling="calibration", calibration_s=60.0))


@dataclass(frozen=True)
class Night:
    """ucddb018 with an assumed amplitude, and what YASA offline says about it."""

    x: np.ndarray
    offline: np.ndarray
    stored: dict[str, Any]

    def model(self, lag_epochs: int) -> Yasa:
        """Rate, duration, and median and spread of the whole night."""
        return build(Config(sfreq=128, lag_epochs=lag_epochs, expected_duration_s=822 * 30.0, **self.stored))


@pytest.fixture(scope="module")
def night() -> Night:
    with np.load(UCDDB018) as file:
        x = (file["x"].astype(np.float32) * np.float32(file["scale"])).reshape(1, -1)
    x *= np.float32(20.0 / x.std())
    center, scale = night_statistics(Config(sfreq=128), x)
    stored = {"scaling": "stored", "stored_center": center, "stored_scale": scale}
    with pytest.warns(UserWarning, match="Trying to unpickle estimator LabelEncoder"):
        return Night(x, offline(x, 128), stored)


@needs_night
def test_at_full_lag_a_night_is_scored_as_by_yasa_offline(night: Night) -> None:
    """And its last epochs, whose future never comes, by the reads that have less lag."""
    model, x = night.model(FULL_LAG_EPOCHS), torch.from_numpy(night.x)[None]
    before_last = x.shape[2] - model.timing.step_samples
    logits, state = run(model, x[:, :, :before_last])
    final = torch.softmax(logits[0, FULL_LAG_EPOCHS:, -1], dim=-1).numpy()
    for lag in range(FULL_LAG_EPOCHS, -1, -1):
        logits, _ = run(night.model(lag), x[:, :, before_last:], state)
        final = np.concatenate((final, torch.softmax(logits[0, :, -1], dim=-1).numpy()))
    assert final.shape == night.offline.shape == (822, 5)
    np.testing.assert_array_equal(final.argmax(axis=1), night.offline.argmax(axis=1))
    np.testing.assert_allclose(final, night.offline, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")
@pytest.mark.usefixtures("no_crossing_by_chance")
@pytest.mark.parametrize("lag", [0, 3, 8])
def test_a_read_is_what_yasa_says_about_the_file_up_to_now(lag: int) -> None:
    """With running scaling, at every step; the expected duration is that of the longest file tried."""
    x = sleep_like(1, 40)
    for n_epochs in (12, 25, 40):
        probs = live(
            build(Config(lag_epochs=lag, expected_duration_s=n_epochs * 30.0, **SHORT | {"history_s": 1200.0})), x
        )
        expected = offline(x[:, : n_epochs * 3000], 100)
        np.testing.assert_allclose(probs[n_epochs - 1, 0], expected[-1], rtol=0, atol=1e-5)
        np.testing.assert_allclose(probs[n_epochs - 1, -1], expected[-1 - lag], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")
@pytest.mark.usefixtures("no_crossing_by_chance")
def test_other_channels_and_the_person_go_where_yasa_puts_them() -> None:
    x = sleep_like(3, 20)
    person = {"age": 61, "male": True}
    model = build(
        Config(
            eog=True, emg=True, lag_epochs=8, expected_duration_s=600.0, **SHORT | {"history_s": 600.0}, **person
        )
    )
    expected = offline(x, 100, eog_name="eog", emg_name="emg", metadata=person)
    last = live(model, x)[-1]
    np.testing.assert_allclose(last, expected[[-1, -9]], rtol=0, atol=1e-5)
    assert abs(last - live(build(model.config.model_copy(update={"age": 20})), x)[-1]).max() > 1e-3


@pytest.mark.usefixtures("no_crossing_by_chance")
class TestScaling:
    """What the classifier is given, seen through a hook, since its output is a staircase."""

    def inputs(self, config: Config, x: np.ndarray) -> np.ndarray:
        """``(n_steps, n_inputs)`` at lag 0."""
        model, seen = build(config), []
        classify = model.log_probs
        model.log_probs = lambda inputs: (seen.append(inputs[0]), classify(inputs))[1]  # type: ignore[method-assign]
        live(model, x)
        return np.array(seen)

    def test_a_calibration_is_running_at_first_and_then_frozen(self) -> None:
        x = sleep_like(1, 12)
        running = self.inputs(Config(lag_epochs=0, **SHORT), x)
        frozen = self.inputs(Config(lag_epochs=0, scaling="calibration", calibration_s=150.0), x)
        np.testing.assert_array_equal(frozen[:5], running[:5])
        assert (np.abs(frozen[5:] - running[5:]).max(axis=1) > 1e-3).all()
        early = 100.0 * x
        early[:, : 5 * 3000] = x[:, : 5 * 3000]
        center, scale = night_statistics(Config(), x[:, : 5 * 3000])
        stored = Config(lag_epochs=0, scaling="stored", stored_center=center, stored_scale=scale)
        again = self.inputs(Config(lag_epochs=0, scaling="calibration", calibration_s=150.0), early)
        np.testing.assert_allclose(again[5:], self.inputs(stored, early)[5:], rtol=1e-6)

    def test_running_forgets_what_is_older_than_its_history(self) -> None:
        x = sleep_like(1, 20)
        other = x.copy()
        other[:, :3000] *= 50.0
        short, long = (Config(lag_epochs=0, **SHORT | {"history_s": s}) for s in (450.0, 600.0))
        np.testing.assert_allclose(self.inputs(short, other)[-1], self.inputs(short, x)[-1], rtol=1e-6)
        assert np.abs(self.inputs(long, other)[-1] - self.inputs(long, x)[-1]).max() > 1e-3

    def test_time_is_told_by_the_expected_duration_and_ends_with_it(self) -> None:
        model = build(Config(lag_epochs=0, expected_duration_s=165.0, **SHORT))
        where = {name: k for k, name in enumerate(model._classifier.inputs)}
        rows = self.inputs(model.config, sleep_like(1, 6))
        np.testing.assert_allclose(rows[:, where["time_norm"]], [0, 0.25, 0.5, 0.75, 1, 1], rtol=1e-6)
        np.testing.assert_allclose(rows[:, where["time_hour"]], np.arange(6) / 120.0, rtol=1e-6)


class TestTiming:
    def test_reads_of_the_published_form(self) -> None:
        timing = build(Config(lag_epochs=8, scaling="running", calibration_s=300.0)).timing
        assert [(read.lag_samples, read.warm_up_samples) for read in timing.reads] == [
            (0, 30_000),
            (24_000, 30_000),
        ]
        assert (timing.step_samples, timing.epoch_samples, timing.receptive_field_samples) == (3000, 3000, None)

    def test_a_read_waits_for_its_lag(self) -> None:
        timing = build(Config(lag_epochs=7, **SHORT)).timing
        assert [read.warm_up_samples // 3000 for read in timing.reads] == [1, 8]

    def test_lag_0_is_a_single_read(self) -> None:
        assert len(build(Config(lag_epochs=0)).timing.reads) == 1


def test_its_state_does_not_depend_on_the_lag() -> None:
    shapes = [[part.shape for part in build(Config(lag_epochs=lag)).initial_state(2)] for lag in (0, 8)]
    assert shapes[0] == shapes[1]


def test_zeros_are_scored_without_a_warning() -> None:
    assert np.isfinite(live(build(Config(**SHORT)), np.zeros((1, 4 * 3000)))).all()


def test_nan_is_answered_by_nan_while_it_is_in_the_window() -> None:
    x = sleep_like(1, 6)
    x[0, 3100] = np.nan
    probs = live(build(Config(lag_epochs=0, **SHORT)), x)
    assert np.isfinite(probs).all(axis=(1, 2)).tolist() == [True, False, False, False, True, True]


class TestNightStatistics:
    def test_epochs_that_are_not_whole_are_left_out(self) -> None:
        x = sleep_like(1, 3)
        assert night_statistics(Config(), x[:, :8999]) == night_statistics(Config(), x[:, :6000])

    @pytest.mark.parametrize("shape", [(2, 6000), (1, 2999), (6000,)])
    def test_a_wrong_shape_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="at least 3000 samples"):
            night_statistics(Config(), np.ones(shape))

    def test_nan_is_refused(self) -> None:
        with pytest.raises(ValueError, match="all finite"):
            night_statistics(Config(), np.full((1, 6000), np.nan))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sfreq": 80}, "greater than 80"),
        ({"sfreq": 100.5}, "integer"),
        ({"lag_epochs": 9}, "less than or equal to 8"),
        ({"age": 30}, "both or neither"),
        ({"scaling": "stored"}, "needs 42 numbers .* got 0 and 0"),
        ({"stored_center": (1.0,), "stored_scale": (1.0,)}, "'running' needs 0 numbers .* got 1 and 1"),
        ({"scaling": "stored", "stored_center": (0.0,) * 42, "stored_scale": (0.0,) * 42}, "above 0"),
        ({"calibration_s": 45.0}, "multiple of 30"),
        ({"history_s": 900.0}, "calibration_s 1800 is longer than history_s 900"),
        ({"smoothing": "none"}, "not permitted"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)


def test_provenance_names_package_and_classifier() -> None:
    assert provenance(Config(age=20, male=True)) == {
        "yasa": yasa.__version__,
        "mne": mne.__version__,
        "lightgbm": sys.modules["lightgbm"].__version__,
        "antropy": antropy.__version__,
        "classifier": "clf_eeg+demo_lgb_0.5.0.joblib",
        "sha256": "686fd99ad834d657833d7d7c2b3256f9689c023cf13aee16381b2b2cd6f0e86b",
    }


def test_without_yasa_it_is_listed_but_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    load_classifier.cache_clear()
    monkeypatch.setitem(sys.modules, "yasa", None)
    with pytest.raises(ConfigError, match=r"pip install 'streamscore\[yasa\]'"):
        build(Config())


@pytest.mark.parametrize("name", ABOUT.examples)
def test_each_example_can_be_built(name: str) -> None:
    example = ABOUT.examples[name]
    model = build(Config(**example.args))
    assert model.n_channels == len(example.channels)
    assert model.timing.step_samples == 30 * example.sfreq


class TestGap:
    """A gap leaves the night as it is, without the epochs that it spoilt."""

    def after_gap(self, n_before: int, n_missing: int, n_after: int, **args: Any) -> tuple[Any, Any, Yasa]:
        """Probabilities with a gap, and those of a stream whose lost epochs were no numbers."""
        model = build(Config(**{**SHORT, "lag_epochs": 1, **args}))
        x = torch.from_numpy(sleep_like(1, n_before + n_missing + n_after))[None]
        begin, end = n_before * 3000, (n_before + n_missing) * 3000
        _, state = run(model, x[:, :, :begin])
        logits, _ = run(model, x[:, :, end:], model.state_after_gap(state, n_missing))
        spoilt = x.clone()
        spoilt[:, :, begin:end] = torch.nan
        whole, _ = run(model, spoilt)
        return (
            torch.softmax(logits, -1)[0].numpy(),
            torch.softmax(whole, -1)[0, n_before + n_missing :].numpy(),
            model,
        )

    @pytest.mark.parametrize("n_missing", [1, 4])
    @pytest.mark.parametrize("scaling", ["running", "calibration"])
    def test_time_means_and_scaling_go_on(self, n_missing: int, scaling: str) -> None:
        got, whole, _ = self.after_gap(20, n_missing, 8, scaling=scaling)
        # NaN reaches into two epochs more than a gap does, which stay unknown to the means of the other stream.
        np.testing.assert_allclose(got[4:], whole[4:], atol=0.1)
        assert (got[4:].argmax(-1) == whole[4:].argmax(-1)).all()

    def test_a_fresh_start_would_say_something_else(self) -> None:
        got, _, model = self.after_gap(20, 1, 8)
        fresh = live(model, sleep_like(1, 29)[:, 21 * 3000 :])
        assert np.abs(got[2:, 0] - fresh[2:, 0]).max() > 0.05

    def test_a_gap_longer_than_the_history_leaves_only_the_clock(self) -> None:
        model = build(Config(**SHORT, lag_epochs=1))
        _, state = run(model, torch.from_numpy(sleep_like(1, 5))[None])
        _, history, n_seen, _ = model.state_after_gap(state, 500)
        assert history.isnan().all()
        assert n_seen.tolist() == [[505, 0]]

    def test_the_calibration_is_not_asked_for_again(self) -> None:
        model = build(Config(calibration_s=1800, lag_epochs=2))
        final = model.timing.reads[-1]
        assert (final.warm_up_samples, final.settle_samples) == (60 * 3000, 3 * 3000)
        assert final.is_usable(63 * 3000, 3 * 3000)
        assert not final.is_usable(62 * 3000, 2 * 3000)
        assert not final.is_usable(59 * 3000, 9 * 3000)


def test_another_rate_is_refused_with_what_to_write() -> None:
    bundle = open_bundle("yasa")
    assert bundle.is_trained
    assert bundle.spec.provenance[
        "classifier_sha256" if "classifier_sha256" in bundle.spec.provenance else "sha256"
    ]
    with pytest.raises(BundleMismatchError, match=r"expected 100, got 256.*bundle: \{model: yasa, sfreq: 256\}"):
        bundle.check(StreamInfo("amp", 256.0, ("EEG",), ("uV",)))
    fits = open_bundle({"model": "yasa", "sfreq": 256})
    fits.check(StreamInfo("amp", 256.0, ("EEG",), ("uV",)))
    assert fits.model.timing.step_samples == 30 * 256
