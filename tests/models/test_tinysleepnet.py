from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from streamscore.models.tinysleepnet import Config, TinySleepNet, build
from tests.contracts.model import ModelContract

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
