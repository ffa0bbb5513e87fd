"""Losses against what their formulas say, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from offline.losses import class_weights, l2_of, loss_of
from offline.recipe import Loss

#: Two rows of three steps; the last step of the second row has no label.
CODES = torch.tensor([[0, 1, 1], [2, 1, -1]])
LOGITS = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
ONES = torch.ones(3)


def step_losses() -> tuple[Tensor, Tensor]:
    """Cross-entropy and probability of the true state, of the five labelled steps."""
    log_p = torch.log_softmax(LOGITS, dim=2)[CODES >= 0]
    told = log_p[torch.arange(5), CODES[CODES >= 0]]
    return -told, told.exp()


def test_cross_entropy_is_a_mean_over_the_labelled_steps() -> None:
    losses, _ = step_losses()
    torch.testing.assert_close(loss_of(Loss(), LOGITS, CODES, ONES), losses.mean())


def test_what_has_no_label_changes_nothing() -> None:
    other = LOGITS.clone()
    other[1, 2] = 100.0
    assert loss_of(Loss(), other, CODES, ONES) == loss_of(Loss(), LOGITS, CODES, ONES)


def test_weights_enter_the_sum_and_the_mean_as_told() -> None:
    losses, _ = step_losses()
    weights = torch.tensor([1.0, 1.5, 3.0])
    weight = weights[CODES[CODES >= 0]]
    plain = loss_of(Loss(), LOGITS, CODES, weights)
    torch.testing.assert_close(plain, (weight * losses).sum() / 5)  # TinySleepNet: by the number of steps
    weighted = loss_of(Loss(reduction="weighted"), LOGITS, CODES, weights)
    torch.testing.assert_close(weighted, (weight * losses).sum() / weight.sum())


def test_rows_sums_over_steps_and_averages_over_rows() -> None:
    losses, _ = step_losses()
    torch.testing.assert_close(loss_of(Loss(reduction="rows"), LOGITS, CODES, ONES), losses.sum() / 2)


def test_focal_loss_turns_to_what_is_still_wrong() -> None:
    losses, chance = step_losses()
    focal = loss_of(Loss(kind="focal", gamma=2.0), LOGITS, CODES, ONES)
    torch.testing.assert_close(focal, ((1 - chance) ** 2 * losses).mean())
    none = loss_of(Loss(kind="focal", gamma=0.0), LOGITS, CODES, ONES)
    torch.testing.assert_close(none, losses.mean())


def test_per_class_gives_a_rare_state_as_much_say_as_a_frequent_one() -> None:
    losses, _ = step_losses()
    codes = CODES[CODES >= 0]
    expected = sum(losses[codes == k].mean() for k in range(3))
    torch.testing.assert_close(loss_of(Loss(kind="per_class"), LOGITS, CODES, ONES), expected)


def test_symbols_beyond_the_classes_weigh_one() -> None:
    logits = torch.zeros(1, 1, 5)
    codes = torch.tensor([[4]])
    loss = loss_of(Loss(kind="per_class"), logits, codes, torch.tensor([7.0, 7.0, 7.0]))
    assert loss.item() == pytest.approx(np.log(5))


def test_without_labels_the_loss_is_zero_and_has_a_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = loss_of(Loss(), logits, torch.full((2, 3), -1), ONES)
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_class_weights_average_to_one_over_the_epochs() -> None:
    codes = np.repeat([0, 1, -1], [900, 100, 50])
    weights = class_weights(Loss(weight_power=0.5), codes, 3)
    assert weights[2] == 0  # never occurs
    assert weights[1] / weights[0] == pytest.approx(3.0)
    assert (900 * weights[0] + 100 * weights[1]) / 1000 == pytest.approx(1.0)


def test_as_many_weights_as_classes() -> None:
    with pytest.raises(ValueError, match="2 entries for 3 classes"):
        class_weights(Loss(weights=(1.0, 2.0)), np.zeros(1, np.int64), 3)
    assert class_weights(Loss(weights=(1.0, 2.0)), np.zeros(1, np.int64), 2).tolist() == [1.0, 2.0]


def test_l2_is_half_the_square() -> None:
    assert l2_of([torch.tensor([3.0]), torch.tensor([[4.0]])]).item() == 12.5
