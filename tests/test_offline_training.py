"""Training sees what the engine sees, learns, keeps people apart, and states its figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offline import bandpower, sequences, training, ucddb
from offline.train_simulated import EPOCH_S, SFREQ, spec
from offline.training import Recipe
from streamscore.bundle import DEFAULT_BUNDLE, load_bundle, shipped_bundles
from streamscore.labels import UNKNOWN_CODE
from streamscore.models.tinysleepnet import Config
from streamscore.preprocess.base import Chain
from streamscore.recordings.base import Recording, read_recording
from streamscore.score import score_file
from streamscore.simulate import simulate
from tests.layouts import signals

DATA = Path(__file__).parents[2] / "shared" / "data" / "human_ucddb"
DOCS = Path(__file__).parents[1] / "docs" / "models"
STEP = round(EPOCH_S * SFREQ)
TINY = Config(sfreq=SFREQ, n_channels=3, n_filters=8, n_hidden=16, norm="batch", dropout=0.0)


def gapped_night() -> Recording:
    """Twenty minutes that lack epochs 10 to 12 and hold a flat line of 5 s in epoch 20."""
    whole = simulate("human", 1200.0, SFREQ, seed=3, cycle_s=300.0)
    data = whole.data.copy()
    data[20 * STEP + 400 : 20 * STEP + 900, 0] = data[20 * STEP + 400, 0]
    keep = np.ones(len(data), bool)
    keep[10 * STEP : 13 * STEP] = False
    return replace(whole, data=data[keep], stamps_s=whole.stamps_s[keep])


@pytest.fixture(scope="module")
def night() -> Recording:
    return gapped_night()


@pytest.fixture(scope="module")
def steps(night: Recording) -> sequences.Sequences:
    return sequences.sequences(night, spec({}, ""), EPOCH_S)


def test_what_is_missing_or_flat_is_no_training_data(steps: sequences.Sequences, night: Recording) -> None:
    expected = [k for k in range(40) if k not in (10, 11, 12, 20)]
    assert steps.step.tolist() == expected
    assert steps.runs == ((0, 10), (10, 17), (17, 36))
    assert steps.y.tolist() == night.states[expected].tolist()
    assert steps.n_labelled == 37


def test_training_input_is_the_output_of_the_chain(steps: sequences.Sequences) -> None:
    """Cut by hand: absolute indices, a reset at each gap, whole epochs only."""
    whole = gapped_night()
    chain = Chain(spec({}, "").preprocess, signals(SFREQ, 3))
    # A line is known to be flat after two seconds; what follows it starts afresh.
    for begin, stop, first in (
        (0, 10 * STEP, 0),
        (13 * STEP, 20 * STEP + 599, 10),
        (20 * STEP + 900, 40 * STEP, 17),
    ):
        at = begin if begin == 0 else begin - 3 * STEP  # the file does not hold the missing epochs
        x = chain.push(whole.data[at : at + stop - begin], begin)
        chain.reset()
        whole_from = -(-begin // STEP)
        for row, k in enumerate(range(whole_from, stop // STEP)):
            epoch = x[k * STEP - begin : (k + 1) * STEP - begin]
            np.testing.assert_array_equal(steps.x[first + row], epoch.T, err_msg=f"epoch {k}")


def test_chunking_does_not_change_training_data(
    steps: sequences.Sequences, night: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "CHUNK_S", 0.73)
    again = sequences.sequences(night, spec({}, ""), EPOCH_S)
    np.testing.assert_array_equal(again.x, steps.x)
    assert again.runs == steps.runs


def test_offline_logits_are_what_the_engine_says(
    steps: sequences.Sequences, night: Recording, tmp_path: Path
) -> None:
    bundle = load_bundle("tinysleepnet-simulated")
    path = tmp_path / "night.npz"
    np.savez(path, data=night.data, sfreq=SFREQ, stamps_s=night.stamps_s, channels=night.channels, unit="uV")
    said = [p for p in score_file(path, bundle).posteriors if p.valid]
    logits = torch.from_numpy(training.score(bundle.model, steps))  # type: ignore[arg-type]
    assert [p.start // STEP for p in said] == steps.step.tolist()
    np.testing.assert_allclose([p.probs for p in said], torch.softmax(logits, 1).numpy(), atol=1e-5)


def test_every_epoch_is_drawn_once(steps: sequences.Sequences) -> None:
    for joined in (0.0, 1.0):
        recipe = Recipe(joined=joined, sequence_steps=4, batch_steps=8)
        batches = training.draw_batches([steps, steps], recipe, np.random.default_rng(0))
        rows = sorted((i, k) for batch in batches for i, a, z in batch for k in range(a, z))
        assert rows == [(i, k) for i in range(2) for k in range(len(steps.y))]
        assert all(len({z - a for _, a, z in batch}) == 1 for batch in batches)
        crossing = [(a, z) for b in batches for _, a, z in b if any(a < begin < z for begin, _ in steps.runs)]
        assert bool(crossing) == bool(joined)


def test_augmentation_of_nothing_changes_nothing(steps: sequences.Sequences) -> None:
    x = steps.x[:4]
    none = Recipe(gain=0.0, tilt=0.0, noise=0.0, shift=0.0)
    np.testing.assert_allclose(training.augment(x, SFREQ, EPOCH_S, none, np.random.default_rng(0)), x, atol=1e-4)
    some = training.augment(x, SFREQ, EPOCH_S, Recipe(), np.random.default_rng(0))
    assert some.shape == x.shape
    assert some.dtype == np.float32
    assert np.abs(some - x).max() > 0.1


def test_training_learns_and_repeats(steps: sequences.Sequences) -> None:
    recipe = Recipe(passes=8, lr=1e-2, batch_steps=4, sequence_steps=2, smoothing=0.0)
    losses: list[float] = []
    training.fit([steps], TINY, recipe, 0, losses.append)
    assert losses[-1] < 0.8 * losses[0]
    recipe = replace(recipe, passes=1)
    model, again = (training.fit([steps], TINY, recipe, 0) for _ in range(2))
    for first, second in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second)
    other = training.fit([steps], TINY, recipe, 1)
    assert not torch.equal(model.head.weight, other.head.weight)


def test_unscored_epochs_teach_nothing(steps: sequences.Sequences) -> None:
    blank = replace(steps, x=np.full_like(steps.x, 3.0), y=np.full_like(steps.y, UNKNOWN_CODE))
    weights = training.class_weights([steps, blank], 5, 0.25)
    assert torch.equal(weights, training.class_weights([steps], 5, 0.25))
    codes = steps.y[steps.y >= 0]
    assert weights.numpy()[codes].mean() == pytest.approx(1.0)


@pytest.mark.parametrize("n_folds", [2, 6, 17])
def test_folds_share_no_subject(n_folds: int) -> None:
    folds = ucddb.split(17, n_folds)
    assert len(folds) == n_folds
    assert sorted(i for fold in folds for i in fold) == list(range(17))


def test_part_of_a_night(steps: sequences.Sequences) -> None:
    second = ucddb.part(steps, 12, 36)
    assert second.runs == ((0, 5), (5, 24))
    np.testing.assert_array_equal(second.x[0], steps.x[12])
    assert second.y.tolist() == steps.y[12:].tolist()


def test_baseline_features_follow_the_amplitude_only_where_they_should(steps: sequences.Sequences) -> None:
    louder = replace(steps, x=2 * steps.x)
    plain, doubled = bandpower.features(steps, SFREQ), bandpower.features(louder, SFREQ)
    n_bands = len(bandpower.EDGES_HZ) - 1
    np.testing.assert_allclose(doubled[:, :n_bands] - plain[:, :n_bands], np.log(4.0), atol=1e-2)
    np.testing.assert_allclose(doubled[:, n_bands : 2 * n_bands], plain[:, n_bands : 2 * n_bands], atol=1e-2)


def test_figures_of_a_perfect_and_a_useless_scorer(steps: sequences.Sequences) -> None:
    perfect = np.eye(5, dtype=np.float32)[steps.y]
    result = ucddb.figures([ucddb.HeldOut(steps, 0, perfect)])
    assert result["auc_pooled"] == 1.0
    assert result["argmax_accuracy"] == 1.0
    assert ucddb.figures([ucddb.HeldOut(steps, 0, 0 * perfect)])["auc_pooled"] == 0.5


@pytest.mark.parametrize("name", ["tinysleepnet-ucddb", "tinysleepnet-simulated"])
def test_shipped_bundles_come_with_their_card(name: str) -> None:
    assert name in shipped_bundles()
    spec_ = load_bundle(name).spec
    assert spec_.name == name
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == spec_.card
    assert "medical use" in spec_.card


def test_default_card_states_its_figures_and_limits() -> None:
    spec_ = load_bundle(DEFAULT_BUNDLE).spec
    figures = spec_.provenance["cross_validation"]
    for scorer in ("network", "baseline"):
        for key in ("auc_pooled", "auc_mean", "argmax_accuracy"):
            assert f"{figures[scorer][key]:.4f}" in spec_.card, (scorer, key)
    assert f"{spec_.provenance['within_018']['network']['kappa']:.3f}" in spec_.card
    assert "018 alone" in spec_.card
    assert "in-sample" in spec_.card
    assert "PhysioNet" in spec_.card
    subjects = figures["network"]["subjects"]
    assert len({row["subject"] for row in subjects}) == len(subjects) == 17
    assert figures["network"]["auc_pooled"] >= 0.99


def test_simulated_card_states_its_figures() -> None:
    spec_ = load_bundle("tinysleepnet-simulated").spec
    for row in spec_.provenance["test"]:
        assert f"{row['kappa']:.3f}" in spec_.card
        assert row["kappa"] > 0.8
    assert "simulated signals only" in spec_.card


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the UCDDB recordings are not at {DATA}")
def test_real_night_is_scored_as_trained() -> None:
    """The engine's outputs on a file are those of the training code on its sequences."""
    path = DATA / "ucddb017.npz"
    bundle = load_bundle(DEFAULT_BUNDLE)
    said = [p for p in score_file(path, bundle).posteriors if p.valid]
    data = sequences.sequences(read_recording(path), bundle.spec, ucddb.EPOCH_S)
    logits = torch.from_numpy(training.score(bundle.model, data))  # type: ignore[arg-type]
    assert [p.start // data.x.shape[2] for p in said] == data.step.tolist()
    np.testing.assert_allclose([p.probs for p in said], torch.softmax(logits, 1).numpy(), atol=1e-4)
