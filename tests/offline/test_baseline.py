"""The baseline learns what an epoch tells, from whom it may, and is scored where the bundle is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offline.baseline import Baseline
from offline.figures import figures
from offline.scored import Scored
from offline.scoring import Settings, score_one
from streamscore.bundle import Bundle, Spec
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import MOUSE3, RUNREST
from streamscore.movies.base import Movie
from streamscore.movies.frames import ArrayFrames
from streamscore.recordings.base import Recording
from tests.offline.scores import EPOCH_S, Level, level_bundle, night, recording, scored
from tests.offline.test_evaluate import InMemory
from tests.offline.test_spectra import tones


def accuracy(one: Scored) -> float:
    value = figures([one], n_draws=0)["pooled"]["accuracy"]["value"]
    assert value is not None
    return float(value)


def bundle_of(sfreq: float, channels: tuple[str, ...], vocabulary: str = "MOUSE3") -> Bundle:
    fields = {"name": "b", "model": "tinysleepnet", "model_args": {}, "preprocess": (), "hop_s": None}
    return Bundle(Spec(**fields, sfreq=sfreq, channels=channels, vocabulary=vocabulary), Level(), "0" * 64)


def noisy_tones(seed: int) -> Recording:
    clean = tones(night(seed, 120))
    noise = 5.0 * np.random.default_rng(seed).standard_normal(clean.data.shape)
    return replace(clean, name=f"m{seed}", data=(clean.data + noise).astype(np.float32))


def test_band_powers_tell_states_of_another_animal_and_whole_epochs_alone_are_scored() -> None:
    data = InMemory({f"m{k}": [noisy_tones(k)] for k in range(2)})
    baseline = Baseline(bundle_of(64.0, ("EEG",))).fit(data, ["m0"], EPOCH_S)
    assert baseline.name == "gradient boosting on band powers of single epochs"
    truth = night(1, 120)
    lost = replace(
        noisy_tones(1),
        data=np.delete(noisy_tones(1).data, 1300, axis=0),
        stamps_s=np.delete(noisy_tones(1).stamps_s, 1300),
    )
    one = baseline.score(lost, scored(truth, np.zeros(120, np.int8), lag_s=8.0))
    assert (one.kind, one.lag_s) == ("baseline", 0.0)
    assert np.flatnonzero(one.codes < 0).tolist() == [5]
    assert accuracy(one) > 0.98
    assert figures([one], n_draws=0)["pooled"]["coverage"]["unknown"] == {"samples of the epoch are missing": 1}


def test_hours_of_one_animal_may_be_learnt_from() -> None:
    states = night(0, 1000)
    rng = np.random.default_rng(0)
    values = (10.0 ** (np.eye(3)[states] + 0.1 * rng.standard_normal((1000, 3)))).astype(np.float32)
    stream = replace(
        recording([0]),
        data=values,
        stamps_s=np.arange(1000) * EPOCH_S,
        sfreq=0.25,
        channels=("a", "b", "c"),
        units=("", "", ""),
        states=states,
    )
    data = InMemory({"m0": [stream]})
    baseline = Baseline(bundle_of(0.25, ("c", "a")), "logistic").fit(data, ["m0@0-0.3h"], EPOCH_S)
    assert baseline.name == "logistic regression on the values themselves of single epochs"
    assert accuracy(baseline.score(stream, scored(states))) > 0.95
    with pytest.raises(RecordingError, match=r"usable epochs of \d state"):
        Baseline(bundle_of(0.25, ("c", "a"))).fit(data, ["m0@0-0.002h"], EPOCH_S)


def test_regions_are_told_by_their_means() -> None:
    runs = np.repeat(np.arange(40) % 2, 10).astype(np.int8)
    x = np.stack([runs, 1 - runs], axis=1) + 0.2 * np.random.default_rng(0).standard_normal((400, 2))
    rois = replace(
        recording([0]), data=x.astype(np.float32), stamps_s=np.arange(400) / 10, sfreq=10.0, channels=("R1", "R2"),
        units=("", ""), labels=RUNREST, states=runs, epoch_s=0.1,
    )  # fmt: skip
    baseline = Baseline(bundle_of(10.0, ("R1", "R2"), "RUNREST")).fit(InMemory({"m0": [rois]}), ["m0"], 0.1)
    assert baseline.name == "logistic regression on means of single epochs"
    assert accuracy(baseline.score(rois, scored(runs, labels=RUNREST, epoch_s=0.1))) > 0.99


def test_movies_are_told_by_means_of_tiles() -> None:
    states = night(3, 40)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 20, (40 * 8, 12, 10)).astype(np.uint16)
    frames[:, :6] += (10 * np.repeat(states, 8))[:, None, None].astype(np.uint16)

    def movie() -> Movie:
        stamps_s = np.arange(len(frames)) / 2.0
        return Movie("m0", ArrayFrames(frames), 2.0, stamps_s, labels=MOUSE3, states=states, epoch_s=EPOCH_S)

    baseline = Baseline(bundle_of(2.0, ("light",))).fit(InMemory({"m0": [movie()]}), ["m0"], EPOCH_S)
    assert baseline.name == "logistic regression on means of 8 × 8 tiles of single epochs"
    one = baseline.score(movie(), scored(states))
    assert accuracy(one) == 1.0


def test_it_stands_beside_what_the_engine_scored() -> None:
    truth = night(0, 60)
    beside = score_one(recording(truth), level_bundle(ahead=True), Settings(), subject="m0", session="m0")
    baseline = Baseline(level_bundle()).fit(InMemory({"m1": [recording(night(1, 200))]}), ["m1"], EPOCH_S)
    one = baseline.score(recording(truth), beside)
    assert one.truth.tolist() == beside.truth.tolist()
    assert one.t0_s == beside.t0_s
    np.testing.assert_array_equal(one.codes < 0, beside.codes < 0)  # the last epoch has no word of the bundle
    assert (one.codes < 0).sum() == 1
    assert one.target == ()


def test_unknown_learners_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown baseline 'forest'; choose auto, booster, logistic"):
        Baseline(level_bundle(), "forest")
