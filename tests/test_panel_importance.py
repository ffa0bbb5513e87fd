from __future__ import annotations

import numpy as np
import pytest
import torch

from streamscore.errors import ConfigError
from streamscore.models import cnn_bilstm, efficientnet, tinysleepnet
from streamscore.models.base import Read, ScoringModel, State, Timing
from streamscore.panel.importance import Importance
from streamscore.types import FloatArray

SIDE = 32


def frame(*bright: tuple[slice, slice]) -> FloatArray:
    """Return a dark frame with bright places."""
    picture = np.zeros((SIDE, SIDE), np.float32)
    for place in bright:
        picture[place] = 1.0
    return picture


UPPER_LEFT = slice(0, SIDE // 2), slice(0, SIDE // 2)
LOWER_RIGHT = slice(SIDE // 2, SIDE), slice(SIDE // 2, SIDE)


class Corners(ScoringModel):
    """Says class 1 for light in the upper left corner and class 0 for light in the lower right one."""

    n_channels, n_classes = 1, 2
    frame_shape = (SIDE, SIDE)
    timing = Timing(step_samples=1, reads=(Read(0, 1),), receptive_field_samples=None)

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
        self.weight = torch.zeros(2, SIDE, SIDE)
        self.weight[1][UPPER_LEFT] = 1.0
        self.weight[0][LOWER_RIGHT] = 1.0

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        maps = torch.relu_(self.conv(x.flatten(0, 1)[:, None]))  # in place, as our networks do
        logits = (maps * self.weight).mean(dim=(2, 3)).flip(1).flip(1)
        return logits.reshape(1, -1, 1, 2), (state[0] + x.shape[1],)


def test_a_decision_on_one_corner_lights_up_that_corner() -> None:
    importance = Importance(Corners())
    found = importance.explain(frame(UPPER_LEFT))
    assert found.state == 1
    assert found.heat.shape == (SIDE, SIDE)
    assert found.heat[UPPER_LEFT].mean() > 0.95
    assert found.heat[LOWER_RIGHT].max() == 0.0
    found = importance.explain(frame(LOWER_RIGHT))
    assert found.state == 0
    assert found.heat[LOWER_RIGHT].mean() > 0.95
    assert found.heat[UPPER_LEFT].max() == 0.0


def test_a_frame_that_says_nothing_lights_up_nothing() -> None:
    assert not Importance(Corners()).explain(frame()).heat.any()


SMALL = {"frame_shape": (SIDE, SIDE), "width": 0.2, "depth": 0.2}
NETWORKS = {
    "causal": lambda: cnn_bilstm.build(
        cnn_bilstm.Config(variant="causal", frame_shape=(SIDE, SIDE), n_filters=4, n_blocks=2, n_hidden=4)
    ),
    "lookahead": lambda: cnn_bilstm.build(
        cnn_bilstm.Config(variant="lookahead", frame_shape=(SIDE, SIDE), n_filters=4, n_blocks=2, n_hidden=4,
                          look_ahead_s=0.25, max_look_ahead_s=1.0)
    ),
    "efficientnet": lambda: efficientnet.build(
        efficientnet.Config(**SMALL)
    ),
    "efficientnet-gru": lambda: efficientnet.build(
        efficientnet.Config(rnn="gru", **SMALL, n_hidden=4)
    ),
    "efficientnet-gru-causal": lambda: efficientnet.build(
        efficientnet.Config(rnn="gru", variant="causal", **SMALL, n_hidden=4)
    ).for_inference(),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_copy_decides_as_the_network_does(kind: str) -> None:
    torch.manual_seed(0)
    model = NETWORKS[kind]().requires_grad_(False)
    movie = torch.randn(1, 12, SIDE, SIDE)
    with torch.no_grad():
        logits, _ = model(movie, model.initial_state(1))
    importance = Importance(model)
    for k in range(12):
        picture = movie[0, k].numpy()
        if k % 3:
            importance.push(picture)
            continue
        found = importance.explain(picture)
        assert found.state == int(logits[0, k, 0].argmax())
        assert found.heat.shape == (SIDE, SIDE)
        assert 0.0 <= found.heat.min() <= found.heat.max() <= 1.0
    assert not any(part.requires_grad for part in importance._state)
    assert any(value.abs().sum() > 0 for value in importance._state)
    importance.reset()
    assert importance.explain(movie[0, 0].numpy()).state == int(logits[0, 0, 0].argmax())


def test_the_gradient_is_that_of_the_whole_network() -> None:
    """The graph begins at the last convolution; a finite difference there gives the same weights."""
    torch.manual_seed(1)
    model = NETWORKS["causal"]().requires_grad_(False).double()
    seen: list[torch.Tensor] = []
    shift = [torch.zeros(4, dtype=torch.float64)]

    def hook(_module: torch.nn.Module, _inputs: object, maps: torch.Tensor) -> torch.Tensor:
        seen.append(maps.clone())
        return maps + shift[0][:, None, None]

    model.cnn.convs[-1].register_forward_hook(hook)
    x = torch.randn(1, 1, SIDE, SIDE, dtype=torch.float64)

    def logit(code: int) -> float:
        return float(model(x, tuple(s.double() for s in model.initial_state(1)))[0][0, 0, 0, code])

    found = Importance(model).explain(x[0, 0].numpy())
    weights = []
    for k in range(4):
        values = []
        for step in (-1e-4, 1e-4):
            shift[0] = torch.zeros(4, dtype=torch.float64)
            shift[0][k] = step
            values.append(logit(found.state))
        weights.append((values[1] - values[0]) / 2e-4 / seen[0][0, 0].numel())
    heat = torch.relu((torch.tensor(weights)[:, None, None] * seen[0][0]).sum(0))
    heat = (heat - heat.min()) / (heat.max() - heat.min())
    expected = torch.nn.functional.interpolate(heat[None, None], (SIDE, SIDE), mode="bilinear")[0, 0]
    np.testing.assert_allclose(found.heat, expected.numpy(), atol=1e-4)


def test_a_network_that_does_not_take_frames_one_by_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Published .* does not take frames one by one"):
        Importance(cnn_bilstm.build(cnn_bilstm.Config(n_filters=2)))
    with pytest.raises(ConfigError, match="does not take frames one by one"):
        Importance(tinysleepnet.build(tinysleepnet.Config(n_filters=2, n_hidden=2)))
