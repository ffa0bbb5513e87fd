"""TensorFlow's conventions, against equations written out by hand (MODELS.md 0.1 to 0.3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamscore.models.layers import (
    FrozenStatisticsNorm,
    PeepholeLstm,
    SameConv1d,
    fold_norms,
    same_max_pool,
    same_padding,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(
    ("kernel", "stride", "n", "n_out", "padding"),
    [
        (50, 6, 3000, 500, (22, 22)),
        (8, 8, 500, 63, (2, 2)),
        (8, 1, 63, 63, (3, 4)),
        (4, 4, 63, 16, (0, 1)),
        (400, 50, 3000, 60, (175, 175)),
        (4, 4, 60, 15, (0, 0)),
        (6, 1, 15, 15, (2, 3)),
        (2, 2, 15, 8, (0, 1)),
        (128, 16, 7680, 480, (56, 56)),
        (1024, 128, 7680, 60, (448, 448)),
    ],
)
def test_same_padding_is_tensorflows(
    kernel: int, stride: int, n: int, n_out: int, padding: tuple[int, int]
) -> None:
    assert same_padding(n, kernel, stride) == padding
    assert (n + sum(padding) - kernel) // stride + 1 == n_out == math.ceil(n / stride)


@pytest.mark.parametrize(("n", "kernel", "stride"), [(11, 4, 3), (12, 4, 3), (13, 5, 1), (13, 6, 1), (9, 2, 4)])
def test_convolution_is_the_written_out_sum(n: int, kernel: int, stride: int) -> None:
    conv = SameConv1d(2, 3, kernel, stride)
    x = noise(1, 2, n)
    left, _ = same_padding(n, kernel, stride)
    weight, signal = conv.weight.detach().numpy(), x[0].numpy()
    wanted = np.zeros((3, math.ceil(n / stride)))
    for out in range(wanted.shape[1]):
        for tap in range(kernel):
            at = out * stride - left + tap
            if 0 <= at < n:
                wanted[:, out] += weight[:, :, tap] @ signal[:, at]
    np.testing.assert_allclose(conv(x)[0].detach().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("n", "kernel"), [(500, 8), (63, 4), (60, 4), (15, 2)])
def test_pooling_windows_are_shifted_by_the_left_padding_and_padding_never_wins(n: int, kernel: int) -> None:
    x = noise(1, 3, n) - 10.0  # all negative, so that a zero would win
    left, _ = same_padding(n, kernel, kernel)
    pooled = same_max_pool(x, kernel)
    wanted = [
        x[:, :, max(k * kernel - left, 0) : (k + 1) * kernel - left].amax(dim=2)
        for k in range(math.ceil(n / kernel))
    ]
    assert torch.equal(pooled, torch.stack(wanted, dim=2))


def test_norm_is_the_affine_map_that_untouched_statistics_leave() -> None:
    norm = FrozenStatisticsNorm(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    x = noise(2, 4, 7)
    wanted = norm.weight[:, None] * x / math.sqrt(1.001) + norm.bias[:, None]
    torch.testing.assert_close(norm(x), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(norm.train()(x), wanted, rtol=0, atol=1e-6)
    assert sum(p.numel() for p in norm.parameters()) == 8


class TestPeepholeLstm:
    """The cell of TensorFlow 1 with peepholes."""

    n_in, n_hidden, n_steps = 6, 5, 5

    def make(self) -> PeepholeLstm:
        torch.manual_seed(0)
        cell = PeepholeLstm(self.n_in, self.n_hidden)
        with torch.no_grad():
            cell.bias.normal_()
            cell.peephole.normal_()
        return cell

    def written_out(self, cell: PeepholeLstm, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the equations of MODELS.md 0.3 over ``x`` (steps, n_in) in float64."""

        def sigmoid(z: np.ndarray) -> np.ndarray:
            return 1.0 / (1.0 + np.exp(-z))

        weight = np.concatenate([cell.weight_x.detach().numpy(), cell.weight_h.detach().numpy()]).astype(float)
        w_i, w_j, w_f, w_o = np.split(weight, 4, axis=1)
        b_i, b_j, b_f, b_o = np.split(cell.bias.detach().numpy().astype(float), 4)
        p_i, p_f, p_o = cell.peephole.detach().numpy().astype(float)
        c = h = np.zeros(self.n_hidden)
        outputs = []
        for row in x:
            xh = np.concatenate([row, h])
            i = sigmoid(xh @ w_i + p_i * c + b_i)
            f = sigmoid(xh @ w_f + p_f * c + b_f + 1.0)
            c = f * c + i * np.tanh(xh @ w_j + b_j)
            o = sigmoid(xh @ w_o + p_o * c + b_o)
            h = o * np.tanh(c)
            outputs.append(h)
        return np.array(outputs), c

    def test_five_steps_follow_the_equations(self) -> None:
        cell = self.make()
        x = noise(1, self.n_steps, self.n_in)
        outputs, (last_cell, last_hidden) = cell(x, cell.initial_state(1))
        wanted, wanted_cell = self.written_out(cell, x[0].numpy())
        np.testing.assert_allclose(outputs[0].detach().numpy(), wanted, atol=1e-6)
        np.testing.assert_allclose(last_cell[0].detach().numpy(), wanted_cell, atol=1e-6)
        np.testing.assert_allclose(last_hidden[0].detach().numpy(), wanted[-1], atol=1e-6)

    @pytest.mark.parametrize("row", [0, 1, 2])
    def test_each_peephole_matters(self, row: int) -> None:
        cell = self.make()
        x = noise(1, self.n_steps, self.n_in)
        before, _ = cell(x, cell.initial_state(1))
        with torch.no_grad():
            cell.peephole[row] += 1.0
        assert (cell(x, cell.initial_state(1))[0] - before).abs().max() > 1e-3

    def test_parameters_are_counted_as_in_the_tables(self) -> None:
        n = sum(p.numel() for p in self.make().parameters())
        assert n == (self.n_in + self.n_hidden) * 4 * self.n_hidden + 4 * self.n_hidden + 3 * self.n_hidden


def test_folding_leaves_no_norm_and_the_same_function() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3)),
        nn.BatchNorm2d(3),
    )  # fmt: skip
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(norm.weight)
    x = torch.randn(2, 2, 6, 6)
    with torch.inference_mode():
        expected = network.eval()(x)
        fold_norms(network)
        torch.testing.assert_close(network(x), expected)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 1  # the one that follows no convolution
