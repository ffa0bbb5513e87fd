from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from streamscore.models.tinysleepnet import Config, TinySleepNet, build
from tests.contracts.model import ModelContract, run

SMALL = {"sfreq": 64.0, "epoch_s": 4.0, "n_filters": 6, "n_hidden": 7}


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


class TestTinySleepNet(ModelContract):
    """The published network, small."""

    def make(self) -> TinySleepNet:
        torch.manual_seed(0)
        model = build(Config(**SMALL))
        with torch.no_grad():
            model.lstm.peephole.normal_()
        return model


class TestTinySleepNetWithBatchNorm(ModelContract):
    """The variant of the paper, with statistics that are not trivial, and two channels."""

    def make(self) -> TinySleepNet:
        torch.manual_seed(1)
        model = build(Config(**SMALL, norm="batch", n_channels=2, n_classes=3))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
        return model


class TestPublishedSize:
    """MODELS.md 6.1."""

    @pytest.mark.parametrize(("sfreq", "n_parameters"), [(100.0, 1_516_293), (256.0, 1_460_741)])
    def test_number_of_trainable_parameters(self, sfreq: float, n_parameters: int) -> None:
        assert build(Config(sfreq=sfreq)).n_trainable() == n_parameters

    def test_its_parts_at_100_hz(self) -> None:
        model = build(Config())
        blocks = (model.conv1, model.conv2, model.conv3, model.conv4)
        assert count(*(block.conv for block in blocks)) == 399_616
        assert count(*(block.norm for block in blocks)) == 1_024
        assert count(model.lstm) == 1_115_008
        assert count(model.head) == 645
        assert sum(kernel.numel() for kernel in model.l2_kernels()) == 399_616

    def test_lengths_of_its_layers_at_100_hz(self) -> None:
        model = build(Config())
        lengths: list[int] = []
        for block in (model.conv1, model.conv2, model.conv4):
            block.register_forward_hook(
                lambda _module, args, out: lengths.extend((args[0].shape[-1], out.shape[-1]))
            )
        with torch.inference_mode():
            features = model.features(torch.zeros(1, 1, 3000))
        assert lengths == [3000, 500, 63, 63, 63, 63]
        assert features.shape == (1, 16 * 128)

    def test_features_are_ordered_by_time_then_filter(self) -> None:
        model = build(Config())
        columns: list[torch.Tensor] = []
        model.conv4.register_forward_hook(lambda _module, _args, out: columns.append(out))
        x = torch.randn(1, 1, 3000, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            features = model.features(x).reshape(16, 128)
        last_window = columns[0][0, :, 60:63].amax(dim=1)  # the 64th column is padding, which never wins
        assert torch.equal(features[15], last_window)

    def test_timing_is_one_epoch_and_no_look_ahead(self) -> None:
        timing = build(Config()).timing
        assert (timing.step_samples, timing.look_ahead_samples, timing.warm_up_samples) == (3000, 0, 3000)
        assert timing.receptive_field_samples is None


class TestBatchNorm:
    """The variant with true batch normalisation: Keras' momentum 0.99 and eps 1e-3 (MODELS.md 0.2)."""

    def test_it_adds_no_trainable_parameter(self) -> None:
        assert build(Config(norm="batch")).n_trainable() == build(Config()).n_trainable()

    def test_untouched_statistics_are_the_affine_map(self) -> None:
        torch.manual_seed(0)
        affine, batch = build(Config(**SMALL)), build(Config(**SMALL, norm="batch"))
        batch.load_state_dict(affine.state_dict(), strict=False)
        x = torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            a, b = (model(x, model.initial_state(1))[0] for model in (affine, batch))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)

    def test_training_moves_its_statistics_by_one_hundredth(self) -> None:
        model = build(Config(**SMALL, norm="batch")).train()
        norm = model.conv1.norm
        x = 3.0 + torch.randn(4, 6, 50, generator=torch.Generator().manual_seed(0))
        norm(x)
        assert isinstance(norm, torch.nn.BatchNorm1d)
        torch.testing.assert_close(norm.running_mean, 0.01 * x.mean(dim=(0, 2)), rtol=0, atol=1e-6)
        assert norm.eps == 1e-3


class Naive:
    """The network of MODELS.md 6.1, written out in double precision."""

    def __init__(self, model: TinySleepNet) -> None:
        self.w = {name: value.double().numpy() for name, value in model.state_dict().items()}

    @staticmethod
    def pad(x: np.ndarray, kernel: int, stride: int, value: float) -> np.ndarray:
        total = max((math.ceil(x.shape[1] / stride) - 1) * stride + kernel - x.shape[1], 0)
        return np.pad(x, ((0, 0), (total // 2, total - total // 2)), constant_values=value)

    def block(self, x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        """Convolution, normalisation (untouched statistics are 0 and 1), ReLU."""
        kernel = self.w[f"{name}.conv.weight"]
        padded = self.pad(x, kernel.shape[2], stride, 0.0)
        starts = range(0, padded.shape[1] - kernel.shape[2] + 1, stride)
        y = np.stack([np.einsum("oik,ik->o", kernel, padded[:, s : s + kernel.shape[2]]) for s in starts])
        mean, var = self.w.get(f"{name}.norm.running_mean", 0.0), self.w.get(f"{name}.norm.running_var", 1.0)
        y = self.w[f"{name}.norm.weight"] * (y - mean) / np.sqrt(var + 1e-3) + self.w[f"{name}.norm.bias"]
        return np.maximum(y, 0.0).T

    def pool(self, x: np.ndarray, size: int) -> np.ndarray:
        return self.pad(x, size, size, -np.inf).reshape(len(x), -1, size).max(axis=2)

    def logits(self, signal: np.ndarray, epoch: int) -> np.ndarray:
        def sigmoid(z: np.ndarray) -> np.ndarray:
            return 1.0 / (1.0 + np.exp(-z))

        kernel = np.concatenate((self.w["lstm.weight_x"], self.w["lstm.weight_h"]))
        peep_i, peep_f, peep_o = self.w["lstm.peephole"]
        cell = hidden = np.zeros(len(peep_i))
        rows = []
        for at in range(0, signal.shape[1], epoch):
            x = self.pool(self.block(signal[:, at : at + epoch], "conv1", stride=4), 8)
            x = self.pool(self.block(self.block(self.block(x, "conv2"), "conv3"), "conv4"), 4).T.ravel()
            i, j, f, o = np.split(np.concatenate((x, hidden)) @ kernel + self.w["lstm.bias"], 4)
            new = sigmoid(f + peep_f * cell + 1.0) * cell + sigmoid(i + peep_i * cell) * np.tanh(j)
            hidden = sigmoid(o + peep_o * new) * np.tanh(new)
            cell = new
            rows.append(self.w["head.weight"] @ hidden + self.w["head.bias"])
        return np.stack(rows)


@pytest.mark.parametrize("norm", ["affine", "batch"])
def test_it_is_the_network_written_out(norm: str) -> None:
    model, rng = build(Config(**SMALL, norm=norm)), np.random.default_rng(0)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if name.endswith("running_var"):
                weight.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, weight.shape)))
            elif weight.is_floating_point():
                spread = weight[0].numel() if weight.ndim == 3 else 5
                weight.copy_(torch.from_numpy(rng.normal(0.0, spread**-0.5, weight.shape)))
    x = torch.from_numpy(rng.standard_normal((1, 1, 5 * 256)).astype(np.float32))
    wanted = Naive(model).logits(x[0].numpy(), 256)
    np.testing.assert_allclose(run(model, x)[0][0, :, 0].numpy(), wanted, rtol=0, atol=1e-5)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = build(Config(**SMALL))
    x = torch.randn(1, 1, 512)
    assert not model.training
    trained = [model.train()(x, model.initial_state(1))[0] for _ in range(2)]
    assert not torch.equal(*trained)
    scored = [model.eval()(x, model.initial_state(1))[0] for _ in range(2)]
    assert torch.equal(*scored)


def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    model = build(Config())
    for block, fan_in in ((model.conv1, 50), (model.conv2, 8 * 128)):
        assert block.conv.weight.std().item() == pytest.approx(1 / math.sqrt(fan_in), rel=0.05)


@pytest.mark.parametrize("wrong", [{"sfreq": 16}, {"n_filters": 0}, {"norm": "layer"}, {"layers": 3}])
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config(**wrong)
