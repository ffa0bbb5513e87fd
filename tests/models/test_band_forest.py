from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.ensemble import RandomForestClassifier

from offline import train_bands
from offline.train_bands import Kind, export_forest, fit_forest, score
from streamscore.bundle import load_bundle
from streamscore.features.bands import BandArguments, BandFeatures
from streamscore.models.band_forest import ABOUT, BandForest, Config, build
from tests.contracts.model import ModelContract

ARGUMENTS = BandArguments(sfreq=64.0, epoch_s=4.0, n_channels=2, edges_hz=(0.5, 4.0, 8.0, 16.0, 30.0))


def epochs(n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of many loudnesses; the class is the loudness, more or less."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    loudness = 3.0 ** (y + rng.normal(0.0, 0.6, n))
    return (rng.standard_normal((n, 2, 256)) * loudness[:, None, None]).astype(np.float32), y


@cache
def overgrown() -> BandForest:
    """A forest that learnt nonsense by heart: it splits hairs where the contract's streams lie."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((200, 2, 256)) * rng.uniform(0.9, 1.2, (200, 2, 1))
    return fit_forest(x.astype(np.float32), rng.integers(0, 3, 200), ARGUMENTS, n_classes=3)


@cache
def forest() -> BandForest:
    """A forest fitted to what can be learnt."""
    return fit_forest(*epochs(60, 3), ARGUMENTS, n_classes=3)


@pytest.fixture(scope="module", params=[2, 5])
def fitted(request: pytest.FixtureRequest) -> tuple[RandomForestClassifier, BandForest]:
    rng = np.random.default_rng(1)
    y = rng.integers(0, request.param, 400)
    z = (rng.standard_normal((400, 26)) + y[:, None] * rng.standard_normal(26)).astype(np.float32)
    forest = RandomForestClassifier(30, random_state=0).fit(z, y)
    return forest, export_forest(forest, BandFeatures(ARGUMENTS), ARGUMENTS, request.param)


class TestBandForest(ModelContract):
    """A fitted forest."""

    def make(self) -> BandForest:
        return copy.deepcopy(overgrown())


def test_probabilities_are_those_of_scikit_learn(fitted: tuple[RandomForestClassifier, BandForest]) -> None:
    estimator, model = fitted
    z = np.random.default_rng(2).normal(0.0, 2.0, (500, 26)).astype(np.float32)
    got = model.probabilities(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(got, estimator.predict_proba(z), rtol=0, atol=1e-6)


def test_thresholds_are_met_to_the_last_bit(fitted: tuple[RandomForestClassifier, BandForest]) -> None:
    """At, just below and just above the first threshold of each tree, float64 there and float32 here."""
    estimator, model = fitted
    trees = estimator.estimators_
    z = np.random.default_rng(3).standard_normal((len(trees), 26)).astype(np.float32)
    for direction in (-np.inf, 0.0, np.inf):
        for k, tree in enumerate(trees):
            at = np.float32(tree.tree_.threshold[0])
            z[k, tree.tree_.feature[0]] = at if direction == 0.0 else np.nextafter(at, np.float32(direction))
        got = model.probabilities(torch.from_numpy(z)).numpy()
        np.testing.assert_allclose(got, estimator.predict_proba(z), rtol=0, atol=1e-6)


def test_buffers_have_the_shapes_of_the_arguments(fitted: tuple[RandomForestClassifier, BandForest]) -> None:
    estimator, model = fitted
    config = model.config
    assert config.n_trees == 30
    assert config.n_nodes == max(tree.tree_.node_count for tree in estimator.estimators_)
    assert config.depth == max(tree.get_depth() for tree in estimator.estimators_)
    assert model.shares.shape == (30, config.n_nodes, config.n_classes)
    assert model.child.shape == (30, config.n_nodes, 2)


def test_it_learns_and_is_rebuilt_from_arguments_that_json_keeps() -> None:
    x, y = epochs(60, 3)
    model = forest()
    assert model.config.n_trees == 100
    assert (score(model, x).argmax(axis=1) == y).mean() > 0.9
    again = build(Config(**json.loads(json.dumps(model.config.model_dump(mode="json")))))
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(score(again, x), score(model, x))


def test_logits_are_logarithms_of_the_probabilities() -> None:
    x, _ = epochs(60, 3)
    model = forest()
    probs = model.probabilities(model.features(torch.from_numpy(x))).numpy()
    np.testing.assert_allclose(np.exp(score(model, x)), probs, rtol=0, atol=1e-6)
    assert np.isfinite(score(model, x)).all()
    assert (probs == 0.0).any()


def test_the_seed_decides_the_forest() -> None:
    x, y = epochs(60, 3)
    first, again, other = (score(fit_forest(x, y, ARGUMENTS, 3, seed), x) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_without_epochs_has_no_probability() -> None:
    """UCDDB's other subjects have no REM, so that a fold can be without it."""
    x, y = epochs(60, 3)
    probs = np.exp(score(fit_forest(x, 2 * y, ARGUMENTS, n_classes=6), x))
    assert probs[:, 1::2].max() < 1e-8
    np.testing.assert_allclose(probs[:, ::2], np.exp(score(forest(), x)), rtol=0, atol=1e-6)


def write_ucddb(folder: Path, n_subjects: int) -> None:
    """Recordings in the layout of the UCDDB files, each stage a rhythm of its own; two epochs are missing."""
    rng, t_s = np.random.default_rng(0), np.arange(3840) / 128.0
    for k in range(n_subjects):
        epoch = np.delete(np.arange(24), [9, 10]).astype(np.int16)
        stage = rng.permutation(np.arange(24) % 5).astype(np.int8)
        rhythm = np.sin(2.0 * np.pi * (2.0 + 5.0 * stage[epoch, None]) * t_s)
        x = 300.0 * (rhythm + rng.standard_normal((len(epoch), 3840)))
        arrays = {
            "x": x.astype(np.int16),
            "scale": 0.1,
            "epoch": epoch,
            "stage_all": stage,
            "fs": 128,
            "epoch_s": 30,
        }
        np.savez(folder / f"ucddb{k + 2:03d}.npz", **arrays)


def test_the_command_writes_a_bundle_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ucddb(tmp_path, 3)
    for kind in Kind:
        train_bands.main(tmp_path, tmp_path, kind, folds="3", seed=0)
        bundle = load_bundle(tmp_path / f"band-{kind}-ucddb.safetensors")
        assert bundle.spec.model == f"band_{kind}"
        results = json.loads((tmp_path / f"band-{kind}-ucddb.json").read_text())
        assert results == bundle.spec.provenance
        assert results["subjects"]["train"] == ["ucddb002", "ucddb003", "ucddb004"]
        assert results["held_out"]["wake_n3"]["auc"]["value"] > 0.9
        assert [row["subject"] for row in results["held_out"]["subjects"]] != []
        assert "held-out AUC" in capsys.readouterr().out


def test_bad_input_gives_no_answer() -> None:
    model = forest()
    x = torch.zeros(2, 2, 256)
    x[1, 0, 5] = torch.nan
    logits, _ = model(x, model.initial_state(2))
    assert torch.isfinite(logits[0]).all()
    assert logits[1].isnan().all()


def test_a_forest_that_was_not_fitted_prefers_nothing() -> None:
    for example in ABOUT.examples.values():
        model = build(Config(**{**example.args, "n_trees": 2, "n_nodes": 3}))
        x = torch.randn(model.input_shape(1, model.timing.step_samples))
        probs = model(x, model.initial_state(1))[0].exp()
        torch.testing.assert_close(probs, torch.full_like(probs, 1 / model.n_classes))


@pytest.mark.parametrize("wrong", [{"n_trees": 0}, {"n_nodes": 0}, {"depth": -1}, {"leaves": 4}, {"epoch_s": 1.0}])
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config(**wrong)
