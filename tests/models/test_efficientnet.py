from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from streamscore.models.efficientnet import (
    ABOUT,
    PIECE_IMAGES,
    Config,
    EfficientNetDecoder,
    SameConv2d,
    block_shapes,
    build,
    scaled_filters,
)
from tests.contracts.model import ModelContract, run

TINY = {"width": 0.1, "depth": 0.1, "frame_shape": (18, 20)}
TINY_RNN = {**TINY, "n_hidden": 4, "half_window_frames": 1}
TINY_CARRIED = {**TINY, "n_hidden": 4, "variant": "causal"}


def make(seed: int = 0, **args: object) -> EfficientNetDecoder:
    torch.manual_seed(seed)
    model = build(Config(**args))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.3, 1.0)
            torch.nn.init.normal_(module.bias, std=0.2)
    return model


class TestPublishedCnn(ModelContract):
    def make(self) -> EfficientNetDecoder:
        return make(**TINY)


class TestPublishedGru(ModelContract):
    def make(self) -> EfficientNetDecoder:
        return make(1, **TINY_RNN, rnn="gru")


class TestPublishedLstm(ModelContract):
    def make(self) -> EfficientNetDecoder:
        return make(2, **TINY_RNN, rnn="lstm", n_layers=1)


class TestCausalCnn(ModelContract):
    def make(self) -> EfficientNetDecoder:
        return make(3, **TINY, variant="causal")


class TestCausalGru(ModelContract):
    def make(self) -> EfficientNetDecoder:
        return make(4, **TINY_CARRIED, rnn="gru")


class TestCausalLstm(ModelContract):
    def make(self) -> EfficientNetDecoder:
        return make(5, **TINY_CARRIED, rnn="lstm")


class TestPublishedSize:
    """MODELS.md 4.2 and 9."""

    @pytest.mark.parametrize(
        ("args", "n_parameters"),
        [
            ({}, 4_008_829),
            ({"variant": "causal"}, 4_008_829),
            ({"rnn": "gru", "dead_head": True}, 4_649_470),
            ({"rnn": "lstm", "dead_head": True}, 4_862_974),
            ({"rnn": "gru"}, 4_649_470 - 1_281),
            ({"rnn": "lstm", "variant": "causal"}, 4_862_974 - 1_281),
        ],
    )
    def test_number_of_parameters(self, args: dict[str, object], n_parameters: int) -> None:
        assert build(Config(**args)).n_trainable() == n_parameters

    @pytest.mark.parametrize(("rnn", "n_parameters"), [("gru", 640_512), ("lstm", 854_016)])
    def test_parameters_of_the_recurrent_network(self, rnn: str, n_parameters: int) -> None:
        model = build(Config(rnn=rnn))
        assert model.rnn is not None
        assert sum(p.numel() for p in model.rnn.parameters()) == n_parameters

    def test_map_of_128_pixels_and_the_sizes_that_stride(self) -> None:
        model = build(Config())
        sizes: list[tuple[int, int, int]] = []
        for module in model.modules():
            if isinstance(module, SameConv2d) and module.stride == (2, 2):
                module.register_forward_hook(
                    lambda conv, args, out: sizes.append((conv.kernel_size[0], args[0].shape[-1], out.shape[-1]))
                )
        assert model.cnn.feature_map(torch.zeros(1, 3, 128, 128)).shape == (1, 1280, 4, 4)
        assert sizes == [(3, 128, 64), (3, 64, 32), (5, 32, 16), (3, 16, 8), (5, 8, 4)]

    def test_blocks(self) -> None:
        shapes = list(block_shapes(Config()))
        assert [shape.n_out for shape in shapes] == (
            [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
        )
        assert [shape.n_in for shape in shapes] == [32, *(shape.n_out for shape in shapes[:-1])]
        assert [index for index, shape in enumerate(shapes) if shape.stride == 2] == [1, 3, 5, 11]
        assert [index for index, shape in enumerate(shapes) if shape.kernel == 5] == [3, 4, *range(8, 15)]
        assert [index for index, shape in enumerate(shapes) if shape.expansion == 1] == [0]

    def test_normalisation_is_that_of_keras(self) -> None:
        norms = [m for m in build(Config()).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert len(norms) == 49
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}

    @pytest.mark.parametrize(
        ("args", "lag", "field", "warm_up"),
        [
            ({}, 1, 3, 3),
            ({"rnn": "gru"}, 6, 13, 13),
            ({"rnn": "lstm", "half_window_frames": 2}, 3, 7, 7),
            ({"variant": "causal"}, 0, 3, 3),
            ({"variant": "causal", "rnn": "gru"}, 0, None, 3),
        ],
    )
    def test_timing(self, args: dict[str, object], lag: int, field: int | None, warm_up: int) -> None:
        timing = build(Config(**args)).timing
        assert timing.step_samples == 1
        assert [(read.lag_samples, read.warm_up_samples) for read in timing.reads] == [(lag, warm_up)]
        assert timing.receptive_field_samples == field

    @pytest.mark.parametrize("name", ABOUT.examples)
    def test_each_example_fits_its_network(self, name: str) -> None:
        example = ABOUT.examples[name]
        model = build(Config(**example.args))
        assert (model.n_channels, model.n_classes) == (len(example.channels), 2)
        assert model.frame_shape == (128, 128)

    def test_the_first_example_is_the_publication(self) -> None:
        assert next(iter(ABOUT.examples.values())).args == {}


class TestPadding:
    """TensorFlow pads even sizes after their end only, unlike PyTorch and torchvision."""

    @pytest.mark.parametrize(("kernel", "pads"), [(3, (0, 1, 0, 1)), (5, (1, 2, 1, 2))])
    def test_strided_layers_of_even_size(self, kernel: int, pads: tuple[int, int, int, int]) -> None:
        conv, x = SameConv2d(2, 3, kernel, stride=2), torch.randn(1, 2, 8, 10)
        expected = F.conv2d(F.pad(x, pads), conv.weight, stride=2)
        torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-6)

    def test_each_side_is_padded_by_its_own_size(self) -> None:
        conv, x = SameConv2d(2, 3, 5, stride=2), torch.randn(1, 2, 7, 8)
        expected = F.conv2d(F.pad(x, (1, 2, 2, 2)), conv.weight, stride=2)
        torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-6)


def reference_features(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The convolutional network written down once more, in plain functions and double precision."""

    def conv(name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, weights.get(f"{name}.bias"), stride, groups=groups)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, gain, offset = (
            weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * gain + offset

    def swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    x = swish(norm("_bn0", conv("_conv_stem", images, 2)))
    for index, (kernel, stride) in enumerate([(3, 1), (3, 2), (5, 2), (3, 2), (5, 1), (5, 2), (3, 1)]):
        at, y = f"_blocks.{index}", x
        if index > 0:
            y = swish(norm(f"{at}._bn0", conv(f"{at}._expand_conv", y)))
        assert weights[f"{at}._depthwise_conv.weight"].shape[-1] == kernel
        y = swish(norm(f"{at}._bn1", conv(f"{at}._depthwise_conv", y, stride, y.shape[1])))
        squeezed = swish(conv(f"{at}._se_reduce", y.mean(dim=(2, 3), keepdim=True)))
        y = torch.sigmoid(conv(f"{at}._se_expand", squeezed)) * y
        y = norm(f"{at}._bn2", conv(f"{at}._project_conv", y))
        x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    return swish(norm("_bn1", conv("_conv_head", x))).mean(dim=(2, 3))


def double_weights(model: EfficientNetDecoder, prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value.double()
        for name, value in model.state_dict().items()
        if name.startswith(prefix)
    }


def reference_rnn(model: EfficientNetDecoder, features: Tensor) -> Tensor:
    """Outputs of the top layer for features (n, n_features) from a zero state, by PyTorch's equations."""
    weights, n = double_weights(model, "rnn."), model.config.n_hidden
    for layer in range(model.config.n_layers):
        w, u, b, c = (weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        hidden, cell, outputs = torch.zeros(n).double(), torch.zeros(n).double(), []
        for x in features:
            if model.config.rnn == "gru":
                (r_x, z_x, n_x), (r_h, z_h, n_h) = (w @ x + b).chunk(3), (u @ hidden + c).chunk(3)
                z = torch.sigmoid(z_x + z_h)
                hidden = (1 - z) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + z * hidden
            else:
                i, f, g, o = (w @ x + b + u @ hidden + c).chunk(4)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
            outputs.append(hidden)
        features = torch.stack(outputs)
    return features


def probability(model: EfficientNetDecoder, layer: str, features: Tensor) -> Tensor:
    weights = double_weights(model, f"{layer}.")
    return torch.sigmoid(features @ weights["weight"][0] + weights["bias"][0])


def scored(model: EfficientNetDecoder, frames: Tensor) -> Tensor:
    """Probability of run at each step, (n,)."""
    return torch.softmax(run(model, frames[None])[0], dim=-1)[0, :, 0, 1].double()


@pytest.fixture
def frames() -> Tensor:
    return torch.randn(9, 18, 20, generator=torch.Generator().manual_seed(0))


class TestAgainstThePaper:
    """Each window computed by itself, from its frames."""

    def features(self, model: EfficientNetDecoder, frames: Tensor) -> Tensor:
        """Of the images of three frames, (n - 2, n_features)."""
        images = torch.stack([frames[k : k + 3] for k in range(len(frames) - 2)]).double()
        return reference_features(double_weights(model, "cnn."), images)

    @pytest.mark.parametrize("variant", ["published", "causal"])
    def test_cnn(self, variant: str, frames: Tensor) -> None:
        model = make(**TINY, variant=variant)
        expected = probability(model, "cnn._fc", self.features(model, frames))
        assert expected.std() > 1e-4
        torch.testing.assert_close(scored(model, frames)[2:], expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("n_layers", [1, 2])
    @pytest.mark.parametrize("rnn", ["gru", "lstm"])
    def test_each_window_of_images_runs_from_zero(self, rnn: str, n_layers: int, frames: Tensor) -> None:
        model = make(**TINY, rnn=rnn, n_hidden=4, n_layers=n_layers, half_window_frames=2)
        features = self.features(model, frames)
        hidden = torch.stack([reference_rnn(model, features[k : k + 5])[-1] for k in range(3)])
        expected = probability(model, "head", hidden)
        assert expected.std() > 1e-5
        torch.testing.assert_close(scored(model, frames)[6:], expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("rnn", ["gru", "lstm"])
    def test_a_carried_state_runs_over_all_images(self, rnn: str, frames: Tensor) -> None:
        model = make(**TINY_CARRIED, rnn=rnn)
        padded = torch.cat((torch.zeros(2, 18, 20), frames))
        expected = probability(model, "head", reference_rnn(model, self.features(model, padded)))
        torch.testing.assert_close(scored(model, frames), expected, rtol=0, atol=1e-5)

    def test_many_images_pass_in_pieces_but_in_training_at_once(self) -> None:
        model = make(**TINY, drop_connect=0)
        sizes: list[int] = []
        model.cnn._conv_stem.register_forward_hook(lambda _module, args, _out: sizes.append(len(args[0])))
        images = torch.randn(PIECE_IMAGES + 3, 3, 18, 20)
        with torch.inference_mode():
            together = model.cnn.features(images)
            last = model.cnn.features(images[-1:])
            model.train().cnn.features(images)
        assert sizes == [PIECE_IMAGES, 3, 1, PIECE_IMAGES + 3]
        torch.testing.assert_close(together[-1:], last, rtol=0, atol=1e-5)

    def test_each_image_passes_the_network_once(self, frames: Tensor) -> None:
        model = make(**TINY_RNN, rnn="gru")
        n_images: list[int] = []
        model.cnn._conv_stem.register_forward_hook(lambda _conv, args, _out: n_images.append(len(args[0])))
        state = model.initial_state(1)
        for k in range(5):
            _, state = run(model, frames[None, k : k + 1], state)
        assert n_images == [1] * 5


def test_published_names_of_weights() -> None:
    names = set(build(Config()).cnn.state_dict())
    assert {
        "_conv_stem.weight",
        "_bn0.running_mean",
        "_blocks.0._depthwise_conv.weight",
        "_blocks.1._expand_conv.weight",
        "_blocks.15._se_reduce.bias",
        "_blocks.15._bn2.num_batches_tracked",
        "_conv_head.weight",
        "_fc.weight",
    } <= names
    assert not any("_blocks.0._expand_conv" in name for name in names)


def test_the_dead_head_changes_nothing_but_the_weights(frames: Tensor) -> None:
    kept, dropped = make(**TINY_RNN, rnn="gru", dead_head=True), make(1, **TINY_RNN, rnn="gru")
    missing, unexpected = dropped.load_state_dict(kept.state_dict(), strict=False)
    assert (missing, sorted(unexpected)) == ([], ["cnn._fc.bias", "cnn._fc.weight"])
    assert torch.equal(scored(kept, frames), scored(dropped, frames))


def test_the_second_stage_of_training_starts_from_the_first() -> None:
    first, second = make(**TINY), make(1, **TINY_RNN, rnn="lstm", dead_head=True)
    second.cnn.load_state_dict(first.cnn.state_dict())
    image = torch.randn(1, 3, 18, 20)
    with torch.inference_mode():
        assert torch.equal(first.cnn.features(image), second.cnn.features(image))


class TestRegularisation:
    def test_nothing_is_dropped_in_evaluation(self, frames: Tensor) -> None:
        model = make(**TINY, dropout=0.5, drop_connect=0.5)
        assert not model.training
        assert torch.equal(scored(model, frames), scored(make(**TINY, dropout=0, drop_connect=0), frames))

    @pytest.mark.parametrize(
        "args", [{"dropout": 0.5, "drop_connect": 0}, {"dropout": 0.5, "drop_connect": 0, "rnn": "gru"}]
    )
    def test_dropout_acts_in_training(self, args: dict[str, object], frames: Tensor) -> None:
        model = make(**TINY, **args).train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        assert not torch.equal(scored(model, frames), scored(model, frames))

    def test_drop_connect_rises_with_the_blocks(self) -> None:
        blocks = build(Config()).cnn._blocks
        assert [block.drop_connect for block in blocks] == pytest.approx([0.2 * k / 16 for k in range(16)])

    def test_drop_connect_leaves_whole_images_out_and_keeps_the_mean(self) -> None:
        block = make(width=0.1, depth=0.2, frame_shape=(18, 20), drop_connect=0.5).train().cnn._blocks[-1]
        block.drop_connect = 0.75
        torch.manual_seed(0)
        kept = block._drop(torch.ones(2000, 2, 2, 2))
        assert set(kept.flatten().tolist()) == {0.0, 4.0}
        assert torch.equal(kept.amin(dim=(1, 2, 3)), kept.amax(dim=(1, 2, 3)))
        assert kept.mean().item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("n_filters", "width", "expected"), [(32, 1.0, 32), (32, 1.1, 32), (32, 0.1, 8), (24, 0.5, 16), (40, 1.4, 56)]
)
def test_filters_are_scaled_to_multiples_of_8(n_filters: int, width: float, expected: int) -> None:
    assert scaled_filters(n_filters, width) == expected


def test_depth_scales_the_blocks_of_each_stage() -> None:
    shapes = list(block_shapes(Config(depth=1.1)))
    assert [sum(shape.stage == stage for shape in shapes) for stage in range(7)] == [2, 3, 3, 4, 4, 5, 2]
    assert [shape.stride for shape in shapes if shape.stage == 1] == [2, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rnn": "simple"}, "'none', 'gru' or 'lstm'"),
        ({"variant": "lookahead"}, "'published' or 'causal'"),
        ({"classes": 2}, "Extra inputs"),
        ({"frame_shape": (0, 128)}, "greater than 0"),
        ({"width": 0}, "greater than 0"),
        ({"dropout": 1.0}, "less than 1"),
        ({"dead_head": True}, "dead_head would be ignored with rnn 'none'"),
        ({"n_hidden": 64, "n_layers": 1}, "n_hidden, n_layers would be ignored with rnn 'none'"),
        ({"rnn": "gru", "variant": "causal", "half_window_frames": 2}, "half_window_frames would be ignored"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
