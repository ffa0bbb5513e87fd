from __future__ import annotations

import copy
import json
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import signal, special
from sklearn.svm import SVC

from offline.train_bands import export_svm, fit_platt, fit_svm
from streamscore.features.bands import BandArguments, BandFeatures
from streamscore.models.band_svm import ABOUT, BandSvm, Config, build, pairs_of
from tests.contracts.model import ModelContract

ARGUMENTS = BandArguments(sfreq=64.0, epoch_s=4.0, n_channels=2, edges_hz=(0.5, 4.0, 8.0, 16.0, 30.0))


def epochs(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose colour and loudness depend on the class, more or less."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    x = rng.standard_normal((n, 2, 256))
    for k in range(n):
        x[k] = signal.lfilter([1.0], [1.0, -0.3 * y[k] - 0.3 * rng.uniform() + 0.6], x[k], axis=-1)
    return (x * rng.uniform(0.5, 2.0, (n, 2, 1))).astype(np.float32), y


@cache
def machine(n_classes: int) -> BandSvm:
    """A machine fitted to 20 epochs of each class."""
    return fit_svm(*epochs(20 * n_classes, n_classes), ARGUMENTS, n_classes)


@pytest.fixture(scope="module", params=[2, 3, 5])
def fitted(request: pytest.FixtureRequest) -> tuple[SVC, BandSvm, np.ndarray]:
    """scikit-learn's machine, ours, and features of epochs that neither has seen."""
    rng = np.random.default_rng(1)
    features = BandFeatures(ARGUMENTS)
    n, n_classes = 300, request.param
    y = rng.integers(0, n_classes, n)
    z = (rng.standard_normal((n, features.n_features)) + y[:, None] * rng.standard_normal(26)).astype(np.float32)
    svc = SVC(gamma=1 / 26, decision_function_shape="ovo").fit(z, y)
    platt = [(-1.0 - 0.1 * k, 0.2 * k) for k in range(len(pairs_of(n_classes)))]
    return (
        svc,
        export_svm(svc, platt, features, ARGUMENTS, n_classes),
        rng.normal(0, 2, (200, 26)).astype(np.float32),
    )


class TestBandSvm(ModelContract):
    """A fitted machine."""

    def make(self) -> BandSvm:
        return copy.deepcopy(machine(3))


class TestTwoClasses(ModelContract):
    """The case in which scikit-learn turns the sign of the decision."""

    def make(self) -> BandSvm:
        return copy.deepcopy(machine(2))


def test_decisions_are_those_of_scikit_learn(fitted: tuple[SVC, BandSvm, np.ndarray]) -> None:
    svc, model, z = fitted
    wanted = svc.decision_function(z)
    wanted = -wanted[:, None] if wanted.ndim == 1 else wanted
    np.testing.assert_allclose(model.decisions(torch.from_numpy(z)).numpy(), wanted, rtol=0, atol=1e-10)


def test_votes_are_the_predictions_of_scikit_learn(fitted: tuple[SVC, BandSvm, np.ndarray]) -> None:
    svc, model, z = fitted
    won = model.votes(model.decisions(torch.from_numpy(z)))
    assert (won.sum(dim=1) == len(model.pairs)).all()
    np.testing.assert_array_equal(won.argmax(dim=1).numpy(), svc.predict(z))


@pytest.mark.skipif("probability" not in SVC().get_params(), reason="scikit-learn 1.11 gave up libsvm's coupling")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_probabilities_are_those_of_libsvm(n_classes: int) -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, n_classes, 250)
    z = (rng.standard_normal((250, 26)) + 0.5 * y[:, None] * rng.standard_normal(26)).astype(np.float32)
    svc = SVC(gamma=1 / 26, probability=True, random_state=0, decision_function_shape="ovo").fit(z, y)
    platt = list(zip(svc.probA_, svc.probB_, strict=True))
    model = export_svm(svc, platt, BandFeatures(ARGUMENTS), ARGUMENTS, n_classes)
    new = rng.normal(0, 1.5, (300, 26)).astype(np.float32)
    got = model.probabilities(model.decisions(torch.from_numpy(new))).numpy()
    np.testing.assert_allclose(got, svc.predict_proba(new), rtol=0, atol=1e-6)


def test_coupling_is_near_the_minimum_that_it_looks_for(fitted: tuple[SVC, BandSvm, np.ndarray]) -> None:
    """½ pᵀQp under Σp = 1, solved as a linear system; libsvm's iteration stops at an error of 0.005 / k."""
    _, model, z = fitted
    decisions = model.decisions(torch.from_numpy(z))
    probs = model.probabilities(decisions)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(len(z), dtype=torch.float64), rtol=0, atol=1e-9)
    k = model.n_classes
    r = np.zeros((len(z), k, k))
    for m, (i, j) in enumerate(model.pairs):
        first = special.expit(-(decisions[:, m] * model.platt_slope[m] + model.platt_offset[m]).numpy())
        r[:, i, j], r[:, j, i] = first, 1 - first
    for row in range(len(z)):
        q = -r[row] * r[row].T + np.diag((r[row] ** 2).sum(axis=0))
        system = np.block([[q, np.ones((k, 1))], [np.ones((1, k)), np.zeros((1, 1))]])
        exact = np.linalg.solve(system, [*np.zeros(k), 1.0])[:k]
        np.testing.assert_allclose(probs[row].numpy(), exact, rtol=0, atol=0.02)


def test_a_row_does_not_depend_on_its_neighbours(fitted: tuple[SVC, BandSvm, np.ndarray]) -> None:
    _, model, z = fitted
    decisions = model.decisions(torch.from_numpy(z))
    whole = model.probabilities(decisions)
    alone = torch.cat([model.probabilities(decisions[k : k + 1]) for k in range(20)])
    torch.testing.assert_close(alone, whole[:20], rtol=0, atol=1e-12)


def test_logits_are_logarithms_of_the_probabilities() -> None:
    x, y = epochs(60, 3)
    model = machine(3)
    with torch.inference_mode():
        logits, _ = model(torch.from_numpy(x), model.initial_state(60))
        probs = model.probabilities(model.decisions(model.features(torch.from_numpy(x))))
    torch.testing.assert_close(logits[:, 0, 0].exp().double(), probs, rtol=1e-5, atol=1e-6)
    assert (logits[:, 0, 0].argmax(dim=1).numpy() == y).mean() > 0.8


def test_training_rebuilds_from_arguments_that_json_keeps() -> None:
    x, _ = epochs(60, 3)
    model = machine(3)
    again = build(Config(**json.loads(json.dumps(model.config.model_dump(mode="json")))))
    again.load_state_dict(model.state_dict())
    state = model.initial_state(60)
    assert torch.equal(again(torch.from_numpy(x), state)[0], model(torch.from_numpy(x), state)[0])


def test_a_class_without_epochs_loses_to_all_others() -> None:
    """UCDDB's other subjects have no REM, so that a fold can be without it."""
    x, y = epochs(60, 3)
    model = fit_svm(x, 2 * y, ARGUMENTS, n_classes=6)  # 0, 2 and 4 are known, 1, 3 and 5 are not
    decisions = model.decisions(model.features(torch.from_numpy(x)))
    probs = model.probabilities(decisions)
    assert probs[:, 1::2].max() < 0.01
    few = machine(3)
    wanted = few.probabilities(few.decisions(few.features(torch.from_numpy(x))))
    torch.testing.assert_close(probs[:, ::2], wanted, rtol=0, atol=0.02)
    assert (model.votes(decisions).argmax(dim=1) % 2 == 0).all()


@pytest.mark.parametrize("y", [[0, 0, 0, 0], [0, 0, 3, 3], [-1, -1, 1, 1]])
def test_labels_must_be_at_least_two_of_the_classes(y: list[int]) -> None:
    with pytest.raises(ValueError, match="at least two of the codes 0 to 2 are needed"):
        fit_svm(epochs(4, 2)[0], np.array(y), ARGUMENTS, n_classes=3)


def test_a_class_of_a_single_epoch_is_an_error() -> None:
    with pytest.raises(ValueError, match="single epoch"):
        fit_svm(epochs(5, 3)[0], np.array([0, 0, 1, 1, 2]), ARGUMENTS, n_classes=3)


def test_platts_sigmoid_is_found_again() -> None:
    rng = np.random.default_rng(0)
    decision = rng.normal(0, 2, 20_000)
    slope, offset = fit_platt(decision, rng.uniform(size=20_000) < special.expit(1.5 * decision - 0.5))
    assert slope == pytest.approx(-1.5, abs=0.1)
    assert offset == pytest.approx(0.5, abs=0.1)
    assert np.isfinite(fit_platt(np.array([-1.0, 1.0]), np.array([False, True]))).all()


def test_bad_input_gives_no_answer() -> None:
    model = machine(3)
    x = torch.zeros(2, 2, 256)
    x[1, 0, 5] = torch.nan
    logits, _ = model(x, model.initial_state(2))
    assert torch.isfinite(logits[0]).all()
    assert logits[1].isnan().all()


def test_a_machine_that_was_not_fitted_prefers_nothing() -> None:
    for example in ABOUT.examples.values():
        model = build(Config(**{**example.args, "n_support": 3}))
        x = torch.randn(model.input_shape(1, model.timing.step_samples))
        probs = model(x, model.initial_state(1))[0].exp()
        torch.testing.assert_close(probs, torch.full_like(probs, 1 / model.n_classes))


@pytest.mark.parametrize("wrong", [{"n_support": 0}, {"n_classes": 1}, {"kernel": "rbf"}, {"sfreq": 20.0}])
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config(**wrong)
