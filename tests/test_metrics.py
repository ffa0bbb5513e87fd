from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamscore.labels import AASM5
from streamscore.metrics import (
    accuracy,
    auc,
    cohen_kappa,
    compare,
    confusion_matrix,
    coverage,
    f1_per_class,
    macro_f1,
    one_vs_rest_accuracy,
)

#: DeepSleepNet on MASS, 31 folds pooled (W N1 N2 N3 REM).
DEEPSLEEPNET = [
    [5433, 572, 107, 13, 102],
    [452, 2802, 827, 4, 639],
    [185, 906, 26786, 1158, 499],
    [18, 4, 1552, 6077, 0],
    [132, 356, 533, 1, 9442],
]
#: A VGG16 on spectrograms of Sleep-EDF (W N1 N2 N3 N4 R), whose paper prints 92.3 % as its accuracy.
VGG16 = [
    [495, 145, 29, 11, 1, 20],
    [25, 211, 43, 0, 0, 62],
    [4, 51, 1313, 104, 17, 68],
    [0, 2, 11, 164, 64, 0],
    [0, 0, 0, 54, 91, 0],
    [17, 80, 46, 0, 0, 591],
]

codes = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=60)


def test_published_deepsleepnet() -> None:
    assert 100 * accuracy(DEEPSLEEPNET) == pytest.approx(86.25, abs=0.005)
    assert 100 * macro_f1(DEEPSLEEPNET) == pytest.approx(81.66, abs=0.005)
    assert cohen_kappa(DEEPSLEEPNET) == pytest.approx(0.7969, abs=5e-5)
    assert 100 * f1_per_class(DEEPSLEEPNET) == pytest.approx([87.3, 59.8, 90.3, 81.5, 89.3], abs=0.05)


def test_published_vgg16() -> None:
    assert 100 * accuracy(VGG16) == pytest.approx(77.04, abs=0.005)
    assert 100 * macro_f1(VGG16) == pytest.approx(68.77, abs=0.005)
    assert cohen_kappa(VGG16) == pytest.approx(0.6943, abs=5e-5)
    assert 100 * one_vs_rest_accuracy(VGG16).mean() == pytest.approx(92.35, abs=0.005)
    assert 100 * f1_per_class(VGG16) == pytest.approx([79.7, 50.8, 87.6, 57.1, 57.2, 80.1], abs=0.05)


@settings(deadline=None, max_examples=40)
@given(codes)
def test_same_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    expert, scored = (np.array(side) for side in zip(*pairs, strict=True))
    result = compare(expert, scored, AASM5)
    both = (expert >= 0) & (scored >= 0)
    true, guess = expert[both], scored[both]
    if not len(true):
        assert np.isnan([result.accuracy, result.kappa, result.macro_f1]).all()
        return
    given_classes = np.unique(np.r_[true, guess])
    assert np.array_equal(result.confusion, sklearn.confusion_matrix(true, guess, labels=range(5)))
    assert result.accuracy == pytest.approx(sklearn.accuracy_score(true, guess))
    f1 = sklearn.f1_score(true, guess, labels=given_classes, average=None, zero_division=0)
    assert result.f1[given_classes] == pytest.approx(f1)
    assert np.isnan(np.delete(result.f1, given_classes)).all()
    assert result.macro_f1 == pytest.approx(f1.mean())
    if len(given_classes) > 1:
        assert result.kappa == pytest.approx(sklearn.cohen_kappa_score(true, guess))
    else:
        assert np.isnan(result.kappa)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=50))
def test_auc_is_that_of_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    positive, scores = (np.array(side) for side in zip(*pairs, strict=True))
    if positive.all() or not positive.any():
        assert np.isnan(auc(positive, scores))
    else:
        assert auc(positive, scores) == pytest.approx(sklearn.roc_auc_score(positive, scores))


def test_unknown_epochs_are_left_out_and_reported() -> None:
    expert, scored = [0, 1, -1, 2, 2, 4], [0, -1, 3, 2, 1, -1]
    assert confusion_matrix(expert, scored, 5).sum() == 3
    result = compare(expert, scored, AASM5)
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.coverage == coverage(expert, scored) == pytest.approx(3 / 5)
    assert np.isnan(result.auc).all()
    assert np.isnan(coverage([-1, -1], [0, 0]))


def test_auc_of_each_class() -> None:
    probs = np.full((5, 5), 0.2)
    probs[:4, 0] = [0.9, 0.6, 0.7, 0.1]
    probs[4] = np.nan
    result = compare([0, 0, 1, 1, 0], [0, 0, 0, 1, -1], AASM5, probs)
    assert result.auc[:2] == pytest.approx([0.75, 0.5])
    assert np.isnan(result.auc[2:]).all()


def test_folds_pool_by_adding_matrices() -> None:
    first, second = confusion_matrix([0, 1, 1], [0, 1, 0], 2), confusion_matrix([1, 0], [1, 1], 2)
    assert np.array_equal(first + second, confusion_matrix([0, 1, 1, 1, 0], [0, 1, 0, 1, 1], 2))


@pytest.mark.parametrize(
    ("expert", "scored", "message"),
    [
        ([0, 1], [0], "expert has 2 epochs and scored 1"),
        ([0, 5], [0, 0], "expert has code 5, but there are 5 labels"),
        ([0, 1], [0, 9], "scored has code 9"),
        ([0.0, 1.0], [0, 1], "expert is float64"),
        ([[0]], [[0]], r"give \(n,\) integer codes"),
    ],
)
def test_what_cannot_be_compared(expert: list[int], scored: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(expert, scored, 5)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="square"):
        accuracy([[1, 2, 3], [4, 5, 6]])
    with pytest.raises(ValueError, match=r"need \(2, 5\)"):
        compare([0, 1], [0, 1], AASM5, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"both must be \(n,\)"):
        auc([True, False], [0.5])
