"""Figures against published matrices, other packages and counts by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support, roc_auc_score

from offline.figures import figures
from offline.measures.bouts import bouts_of, transitions_of
from offline.measures.calibration import bins_of, error
from offline.measures.onsets import delays_of
from offline.measures.resampling import interval, median_draws, units_of
from streamscore.errors import ConfigError
from streamscore.labels import AASM5, MOUSE3
from streamscore.metrics import auc
from tests.offline.scores import from_confusion, night, scored, with_errors

#: Matrices of MODELS.md 2.4 and 3.4 (rows: expert).
DEEPSLEEPNET = (
    (5433, 572, 107, 13, 102),
    (452, 2802, 827, 4, 639),
    (185, 906, 26786, 1158, 499),
    (18, 4, 1552, 6077, 0),
    (132, 356, 533, 1, 9442),
)
VGG16 = (
    (495, 145, 29, 11, 1, 20),
    (25, 211, 43, 0, 0, 62),
    (4, 51, 1313, 104, 17, 68),
    (0, 2, 11, 164, 64, 0),
    (0, 0, 0, 54, 91, 0),
    (17, 80, 46, 0, 0, 591),
)


@pytest.mark.parametrize(
    ("matrix", "labels", "accuracy", "macro_f1", "kappa"),
    [
        (DEEPSLEEPNET, AASM5, 0.8625, 0.8166, 0.7969),
        (VGG16, ("W", "N1", "N2", "N3", "N4", "R"), 0.7704, 0.6877, 0.6943),
    ],
)
def test_published_matrices_give_the_published_figures(
    matrix: tuple[tuple[int, ...], ...], labels: tuple[str, ...], accuracy: float, macro_f1: float, kappa: float
) -> None:
    pooled = figures([from_confusion(matrix, labels)], n_draws=0)["pooled"]
    assert pooled["confusion"] == [list(row) for row in matrix]
    assert pooled["accuracy"]["value"] == pytest.approx(accuracy, abs=5e-5)
    assert pooled["macro_f1"]["value"] == pytest.approx(macro_f1, abs=5e-5)
    assert pooled["kappa"]["value"] == pytest.approx(kappa, abs=5e-5)
    if labels == AASM5:
        f1 = [pooled["classes"][label]["f1"]["value"] for label in AASM5]
        assert f1 == pytest.approx([0.873, 0.598, 0.903, 0.815, 0.893], abs=5e-4)
    else:  # macro precision and recall of the paper
        for name, published in (("precision", 0.679), ("recall", 0.714), ("one_vs_rest_accuracy", 0.9235)):
            values = [pooled["classes"][label][name]["value"] for label in labels]
            assert np.mean(values) == pytest.approx(published, abs=6e-4)


def test_figures_are_those_of_scikit_learn_over_all_epochs_of_all_subjects() -> None:
    rng = np.random.default_rng(1)
    group = []
    for subject in range(3):
        truth = night(subject)
        logits = 1.2 * np.eye(3)[truth] + rng.standard_normal((len(truth), 3))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        probs = np.round(probs, 2)  # ties
        codes = probs.argmax(axis=1).astype(np.int8)
        truth[::17] = -1
        codes[5:9], probs[5:9] = -1, np.nan
        group.append(scored(truth, codes, probs, subject=f"m{subject}", session=f"m{subject}_a"))
    pooled = figures(group, pairs=(("Wake", "REM"),), n_draws=20)["pooled"]
    truth, codes, probs = (
        np.concatenate([getattr(one, name) for one in group]) for name in ("truth", "codes", "probs")
    )
    known = (truth >= 0) & (codes >= 0)
    truth, codes, probs = truth[known], codes[known], probs[known].astype(np.float64)
    assert pooled["kappa"]["value"] == pytest.approx(cohen_kappa_score(truth, codes))
    theirs = precision_recall_fscore_support(truth, codes, labels=range(3))
    for k, label in enumerate(MOUSE3):
        ours = pooled["classes"][label]
        got = [ours[name]["value"] for name in ("precision", "recall", "f1")]
        assert got == pytest.approx([values[k] for values in theirs[:3]])
        assert ours["auc"]["value"] == pytest.approx(roc_auc_score(truth == k, probs[:, k]))
        assert ours["auc"]["low"] < ours["auc"]["value"] < ours["auc"]["high"]
    both = np.isin(truth, (0, 2))
    ratio = np.log(np.maximum(probs[both], 1e-46))
    (pair,) = pooled["pairs"]
    assert pair["auc"]["value"] == pytest.approx(auc(truth[both] == 2, ratio[:, 2] - ratio[:, 0]))
    assert pair["epochs"] == [sum(int((one.truth == k).sum()) for one in group) for k in (0, 2)]
    assert pooled["coverage"]["scored_epochs"] == known.sum()


def test_intervals_are_those_of_redrawn_subjects() -> None:
    group = []
    for subject, share in enumerate((0.05, 0.2, 0.4, 0.1)):
        truth = night(subject, 60 + 40 * subject)
        group.append(
            scored(truth, with_errors(truth, share, subject), subject=f"m{subject}", session=f"m{subject}")
        )
    units = units_of(group, n_draws=200, seed=3)
    assert units.name == "subjects"
    assert (units.counts.sum(axis=1) == 4).all()
    by_hand = []
    for counts in units.counts.astype(int):
        drawn = [one for one, n in zip(group, counts, strict=True) for _ in range(n)]
        truth, codes = (np.concatenate([getattr(one, name) for one in drawn]) for name in ("truth", "codes"))
        by_hand.append(cohen_kappa_score(truth, codes))
    low, high = np.quantile(by_hand, (0.025, 0.975))
    kappa = figures(group, n_draws=200, seed=3)["pooled"]["kappa"]
    assert (kappa["low"], kappa["high"]) == pytest.approx((low, high))


def test_one_subject_has_intervals_over_recordings_and_one_recording_over_hours_or_none() -> None:
    truth = night(0, 6 * 900)
    two = [scored(truth[:900], with_errors(truth[:900], 0.1, k), session=f"m1_{k}") for k in range(2)]
    assert figures(two, n_draws=10)["interval_over"] == "recordings"
    long = figures([scored(truth, with_errors(truth, 0.1, 0))], n_draws=50)
    assert (long["interval_over"], long["interval_units"]) == ("hours", 6)
    assert long["pooled"]["kappa"]["low"] is not None
    assert long["pooled"]["onsets"]["all"]["median_s"]["low"] is None  # hours would cut bouts
    short = figures([two[0]], n_draws=50)
    assert short["interval_over"] is None
    assert short["pooled"]["kappa"]["value"] is not None
    assert short["pooled"]["kappa"]["low"] is None


def test_days_of_one_recording_are_redrawn_in_at_most_48_parts() -> None:
    truth = np.tile(night(0, 900), 24 * 4 + 1)
    assert len(units_of([scored(truth)], n_draws=1).parts) in range(33, 49)


def test_a_figure_that_most_draws_lack_has_no_interval() -> None:
    assert all(math.isnan(value) for value in interval([0.5] * 90 + [math.nan] * 10))
    assert interval([0.5] * 99 + [math.nan]) == (0.5, 0.5)
    assert all(math.isnan(value) for value in interval([]))


def test_what_is_undefined_is_null_and_never_0() -> None:
    group = [scored([0, 0, 0], [0, 0, -1], subject="m1"), scored([0, 0], [0, 0], subject="m2", session="m2")]
    told = figures(group, n_draws=20)
    json.dumps(told, allow_nan=False)
    pooled = told["pooled"]
    assert pooled["accuracy"]["value"] == 1.0
    assert pooled["kappa"]["value"] is None  # one class: chance agrees on everything
    pooled = figures([scored([0] * 20, [0] * 15 + [1] * 5)], n_draws=0)["pooled"]
    assert pooled["kappa"]["value"] is None  # and one true class: every scorer would have 0
    rem = pooled["classes"]["REM"]
    assert [rem[name]["value"] for name in ("precision", "recall", "f1", "auc")] == [None] * 4
    assert pooled["onsets"]["REM"]["median_s"]["value"] is None
    assert pooled["structure"]["truth"]["bouts"]["REM"]["mean_s"]["value"] is None


def test_two_states_in_truth_are_compared_alone_without_being_asked() -> None:
    pooled = figures([scored([0, 0, 1, 1], [0, 2, 1, 1], np.eye(3)[[0, 2, 1, 1]])], n_draws=0)["pooled"]
    assert pooled["pairs"][0]["states"] == ["Wake", "NREM"]
    assert pooled["pairs"][0]["auc"]["value"] == pytest.approx(0.875 + 0.125)


def test_mixed_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be pooled"):
        figures([scored([0]), scored([0], kind="baseline")])
    with pytest.raises(ConfigError, match="no scores"):
        figures([])
    with pytest.raises(ConfigError, match="unknown state 'N3'"):
        figures([scored([0, 1])], pairs=(("Wake", "N3"),))


def test_calibration_error_by_hand() -> None:
    # Five epochs at 0.9 of which three are right, five at 0.5 of which all are: (5 × 0.3 + 5 × 0.5) / 10.
    probs = np.repeat([[0.9, 0.1, 0.0], [0.25, 0.5, 0.25]], 5, axis=0)
    one = scored([0, 0, 0, 1, 2, 1, 1, 1, 1, 1], probs.argmax(axis=1), probs)
    assert error(bins_of([one])) == pytest.approx(0.4)
    found = figures([one], n_draws=0)["pooled"]["calibration"]
    assert found["ece"]["value"] == pytest.approx(0.4)
    assert sum(row["epochs"] for row in found["bins"]) == 10
    full = [row for row in found["bins"] if row["epochs"]]
    assert [row["accuracy"] for row in full] == [1.0, pytest.approx(0.6)]
    assert full[1]["low"] <= full[1]["probability"] <= full[1]["high"]


def test_a_scorer_that_means_what_it_says_has_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet((1.0, 1.0, 1.0), 40000)
    truth = (rng.random(40000)[:, None] > probs.cumsum(axis=1)).sum(axis=1)
    assert error(bins_of([scored(truth, probs.argmax(axis=1), probs)])) < 0.02


def test_bouts_and_transitions_by_hand() -> None:
    codes = np.array([-1, 0, 0, 1, -1, 1, 1, 1, 2, 0])
    bouts = bouts_of(codes)
    assert bouts.code.tolist() == [0, 1, 1, 2, 0]
    assert (bouts.end - bouts.begin).tolist() == [2, 1, 3, 1, 1]
    assert bouts.has_onset.tolist() == [False, True, False, True, True]
    assert bouts.is_whole.tolist() == [False, False, False, True, False]
    assert transitions_of(codes, 3).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert bouts_of([]).code.tolist() == []


def test_structure_compares_the_epochs_that_both_know() -> None:
    truth = [0, 0, 0, 0, 1, 1, 1, 1, -1]
    codes = [0, 1, 0, 0, 1, 1, -1, 1, 1]
    structure = figures([scored(truth, codes)], n_draws=0)["pooled"]["structure"]
    true, said = structure["truth"], structure["scored"]
    assert true["bouts"]["Wake"] == {
        "n": 1,
        "n_cut": 1,
        "mean_s": {"value": 16.0, "low": None, "high": None},
        "median_s": {"value": 16.0, "low": None, "high": None},
    }
    assert true["bouts"]["NREM"]["mean_s"]["value"] == pytest.approx(6.0)  # 8 s and 4 s around the unknown one
    assert said["bouts"]["NREM"]["n"] == 3
    assert said["transitions"]["counts"][0][1] == 2
    assert said["transitions"]["per_hour"]["value"] == pytest.approx(3 / (7 * 4 / 3600))


def test_onset_delays_by_hand() -> None:
    truth = [0, 0, 1, 1, 1, 0, 2, 0, 0]
    codes = [0, 0, 0, 1, 1, 1, 0, 0, 0]
    delays, early = delays_of(scored(truth, codes, lag_s=2.0))
    # NREM is told an epoch late, Wake at 20 s never in its one epoch, REM never; the last Wake is told already.
    assert delays.tolist() == pytest.approx([10.0, math.nan, math.nan, 6.0], nan_ok=True)
    assert early.tolist() == [False, False, False, True]
    told = figures([scored(truth, codes, lag_s=2.0)], n_draws=0)["pooled"]["onsets"]
    assert (told["all"]["n"], told["all"]["missed"], told["all"]["early"]) == (4, 2, 1)
    assert told["all"]["median_s"]["value"] == pytest.approx(8.0)
    assert told["REM"]["missed_share"]["value"] == 1.0


def test_outputs_between_the_epochs_tell_an_onset_sooner() -> None:
    stops_s = np.arange(4.0, 21.0)
    named = np.where(stops_s >= 9.0, 1, 0).astype(np.int8)  # says NREM a second after it began
    one = scored([0, 0, 1, 1, 1], [0, 0, 1, 1, 1], outputs_s=stops_s + 0.5, stops_s=stops_s, output_codes=named)
    delays, early = delays_of(one, 1)
    assert delays.tolist() == [1.5]
    assert not early[0]


def test_medians_of_draws_are_those_of_repeated_values() -> None:
    units = units_of([scored([0], subject=f"m{k}", session=f"m{k}") for k in range(3)], n_draws=50, seed=1)
    values = [np.array([1.0, 5.0]), np.array([2.0]), np.array([7.0, 3.0, 4.0])]
    for counts, median in zip(units.counts.astype(int), median_draws(units, values), strict=True):
        drawn = np.concatenate([np.tile(some, n) for some, n in zip(values, counts, strict=True)])
        assert median == np.median(drawn)
