"""ImageNet weights of all three ways of naming land where they belong."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from offline.imagenet_efficientnet import FAMILIES, family_of, start_from_imagenet, their_names
from streamscore.errors import ConfigError
from streamscore.models.efficientnet import Config, EfficientNetDecoder, build

SMALL = Config(width=0.1, depth=0.1, frame_shape=(32, 32))
OUTPUT_LAYERS = {"efficientnet_pytorch": "_fc", "torchvision": "classifier.1", "timm": "classifier"}
#: SHA-256 over the sorted lines "name shape" of B0's state dict, made once with efficientnet_pytorch 0.7.1,
#: torchvision 0.28.0 and timm 1.0.31.
PUBLISHED = {
    "efficientnet_pytorch": "46d4a316864cc7cb2f6ff126d7cfb14ab510e6d12516273ce028d291267cd978",
    "torchvision": "98a6d92c040c4bca9b0daea5616d2df84c1cbc4d570afdfbdd5e6ede87f9a700",
    "timm": "9311fe3ac4384e5f8b3803d4095782d0db2ce2d0e1df42fd49bdc2ee30a61b01",
}


def random_model(seed: int) -> EfficientNetDecoder:
    torch.manual_seed(seed)
    model = build(SMALL)
    for weight in model.cnn.state_dict().values():
        if weight.is_floating_point():
            weight.uniform_(0.1, 1.0)
    return model


def weights_of(model: EfficientNetDecoder, family: str) -> dict[str, Tensor]:
    """As the file of `family` would hold them, with an output layer for 1,000 objects."""
    ours = model.cnn.state_dict()
    weights = {theirs: ours[name] for name, theirs in their_names(model, family).items()}
    weights[f"{OUTPUT_LAYERS[family]}.weight"] = torch.zeros(1000, model.cnn.n_features)
    weights[f"{OUTPUT_LAYERS[family]}.bias"] = torch.zeros(1000)
    return weights


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes_are_those_of_the_published_networks(family: str) -> None:
    model = build(Config())
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in weights_of(model, family).items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED[family]


@pytest.mark.parametrize(
    ("ours", "torchvision", "timm"),
    [
        ("_conv_stem.weight", "features.0.0.weight", "conv_stem.weight"),
        ("_bn1.bias", "features.8.1.bias", "bn2.bias"),
        ("_blocks.0._depthwise_conv.weight", "features.1.0.block.0.0.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.0._bn2.running_var", "features.1.0.block.2.1.running_var", "blocks.0.0.bn2.running_var"),
        ("_blocks.2._bn0.weight", "features.2.1.block.0.1.weight", "blocks.1.1.bn1.weight"),
        ("_blocks.2._bn1.weight", "features.2.1.block.1.1.weight", "blocks.1.1.bn2.weight"),
        ("_blocks.15._se_reduce.bias", "features.7.0.block.2.fc1.bias", "blocks.6.0.se.conv_reduce.bias"),
        ("_blocks.15._se_expand.bias", "features.7.0.block.2.fc2.bias", "blocks.6.0.se.conv_expand.bias"),
        ("_blocks.15._project_conv.weight", "features.7.0.block.3.0.weight", "blocks.6.0.conv_pwl.weight"),
    ],
)
def test_each_weight_has_its_counterpart(ours: str, torchvision: str, timm: str) -> None:
    model = build(Config())
    assert their_names(model, "torchvision")[ours] == torchvision
    assert their_names(model, "timm")[ours] == timm


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_fills_everything_but_the_output_layer(tmp_path: Path, family: str, suffix: str) -> None:
    source, model = random_model(0), random_model(1)
    output = model.cnn.state_dict()["_fc.weight"].clone()
    weights, path = weights_of(source, family), tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    elif suffix == ".pth":
        torch.save(weights, path)
    else:
        np.savez(path, **{name: value.numpy() for name, value in weights.items()})
    assert start_from_imagenet(model, path) == family
    for name, value in model.cnn.state_dict().items():
        assert torch.equal(value, output if name == "_fc.weight" else source.cnn.state_dict()[name]) or (
            name == "_fc.bias"
        )


def test_the_network_under_a_recurrent_one_starts_alike(tmp_path: Path) -> None:
    source = random_model(0)
    save_file(weights_of(source, "timm"), tmp_path / "weights.safetensors")
    model = build(SMALL.model_copy(update={"rnn": "gru"}))
    start_from_imagenet(model, tmp_path / "weights.safetensors")
    assert torch.equal(model.cnn.state_dict()["_conv_head.weight"], source.cnn.state_dict()["_conv_head.weight"])


def test_a_file_without_the_counters_of_old_batch_normalisation_is_enough(tmp_path: Path) -> None:
    source, model = random_model(0), random_model(1)
    weights = {k: v for k, v in weights_of(source, "torchvision").items() if "num_batches" not in k}
    save_file(weights, tmp_path / "weights.safetensors")
    start_from_imagenet(model, tmp_path / "weights.safetensors")
    assert torch.equal(model.cnn.state_dict()["_bn0.running_var"], source.cnn.state_dict()["_bn0.running_var"])


class TestErrors:
    def refuse(self, tmp_path: Path, weights: dict[str, Tensor]) -> str:
        """Return the message, and see that nothing was loaded."""
        save_file(weights, tmp_path / "weights.safetensors")
        model = random_model(1)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(
            ConfigError, match=r"weights\.safetensors: weights named as by timm do not fit"
        ) as error:
            start_from_imagenet(model, tmp_path / "weights.safetensors")
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        return str(error.value)

    def test_missing_weights_are_counted_and_some_named(self, tmp_path: Path) -> None:
        weights = {k: v for k, v in weights_of(random_model(0), "timm").items() if not k.startswith("blocks.6.")}
        message = self.refuse(tmp_path, weights)
        assert (
            "19 missing: blocks.6.0.bn1.bias, blocks.6.0.bn1.running_mean, blocks.6.0.bn1.running_var, …"
            in message
        )
        assert "unexpected" not in message
        assert "wrong shape" not in message

    def test_unexpected_weights_are_named(self, tmp_path: Path) -> None:
        weights = weights_of(random_model(0), "timm") | {"blocks.7.0.bn1.bias": torch.zeros(1)}
        assert "1 unexpected: blocks.7.0.bn1.bias" in self.refuse(tmp_path, weights)

    def test_wrong_shapes_are_named(self, tmp_path: Path) -> None:
        weights = weights_of(random_model(0), "timm") | {"bn1.bias": torch.zeros(3)}
        assert "1 of a wrong shape: bn1.bias (3,) instead of (8,)" in self.refuse(tmp_path, weights)

    def test_unknown_names(self) -> None:
        message = r"\(layer\.weight\); expected one of .*features\.0\.0\.weight \(torchvision\)"
        with pytest.raises(ConfigError, match=message):
            family_of({"layer.weight"})
