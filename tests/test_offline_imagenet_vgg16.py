from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from offline.imagenet_vgg16 import load_imagenet
from offline.weights_file import read_weights
from streamscore.errors import ConfigError
from streamscore.models.vgg16 import Config, build

N_FILTERS = 2
#: Places in torchvision's list of layers, and TF-slim's names.
PLACES = {
    0: "conv1/conv1_1",
    2: "conv1/conv1_2",
    5: "conv2/conv2_1",
    7: "conv2/conv2_2",
    10: "conv3/conv3_1",
    12: "conv3/conv3_2",
    14: "conv3/conv3_3",
    17: "conv4/conv4_1",
    19: "conv4/conv4_2",
    21: "conv4/conv4_3",
    24: "conv5/conv5_1",
    26: "conv5/conv5_2",
    28: "conv5/conv5_3",
}


def torchvision_file(n_filters: int = N_FILTERS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = [n_filters * k for k in (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)]
    state = {"classifier.0.weight": torch.zeros(3, 3), "classifier.0.bias": torch.zeros(3)}
    for place, n_in, n_out in zip(PLACES, [3, *widths], widths, strict=False):
        state[f"features.{place}.weight"] = torch.randn(n_out, n_in, 3, 3, generator=generator)
        state[f"features.{place}.bias"] = torch.randn(n_out, generator=generator)
    return state


def slim_file() -> dict[str, Tensor]:
    state = {"vgg_16/fc6/weights": torch.zeros(7, 7, 2, 2), "global_step": torch.tensor(7)}
    for place, name in PLACES.items():
        kernel = torchvision_file()[f"features.{place}.weight"]
        state[f"vgg_16/{name}/weights"] = torch.einsum("oihw->hwio", kernel).contiguous()
        state[f"vgg_16/{name}/biases"] = torchvision_file()[f"features.{place}.bias"]
    return state


def convolutions() -> dict[str, Tensor]:
    return {name: part for name, part in torchvision_file().items() if name.startswith("features")}


@pytest.mark.parametrize("state", [torchvision_file(), slim_file()], ids=["torchvision", "slim"])
def test_both_families_give_the_same_weights(state: dict[str, Tensor]) -> None:
    weights = load_imagenet(state, N_FILTERS)
    assert weights.keys() == convolutions().keys()
    assert all(torch.equal(weights[name], part) for name, part in convolutions().items())


def test_names_may_carry_the_output_of_their_operation() -> None:
    weights = load_imagenet({f"{name}:0": part for name, part in slim_file().items()}, N_FILTERS)
    assert weights.keys() == convolutions().keys()


def test_weights_fit_the_network() -> None:
    model = build(Config(image_size=32, n_filters=N_FILTERS, n_hidden=3))
    result = model.load_state_dict(load_imagenet(slim_file(), N_FILTERS), strict=False)
    assert not result.unexpected_keys
    assert not [name for name in result.missing_keys if name.startswith("features")]
    assert torch.equal(model.features[28].bias, convolutions()["features.28.bias"])


def test_half_precision_becomes_single() -> None:
    weights = load_imagenet({name: part.half() for name, part in torchvision_file().items()}, N_FILTERS)
    assert {part.dtype for part in weights.values()} == {torch.float32}


def test_shapes_of_the_published_size_by_default() -> None:
    weights = load_imagenet(torchvision_file(64))
    assert sum(part.numel() for part in weights.values()) == 14_714_688


def altered(state: dict[str, Tensor], remove: str = "", **add: Tensor) -> dict[str, Tensor]:
    return {name: part for name, part in state.items() if not remove or remove not in name} | add


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            altered(torchvision_file(), remove="features.28"),
            r"torchvision weights of VGG16 lack features\.28\.weight, features\.28\.bias:",
        ),
        (
            altered(slim_file(), remove="conv5"),
            r"TF-slim weights of VGG16 lack vgg_16/conv5/conv5_1/weights, .*conv5_2/weights and 3 more:",
        ),
        (
            torchvision_file() | {"features.30.weight": torch.zeros(1)},
            r"torchvision weights hold features\.30\.weight, which VGG16 has not",
        ),
        (
            slim_file() | {"vgg_16/conv3/conv3_4/weights": torch.zeros(1)},
            r"TF-slim weights hold vgg_16/conv3/conv3_4/weights, which VGG16 has not",
        ),
        (
            torchvision_file() | {"features.2.bias": torch.zeros(9)},
            r"do not fit a VGG16 of 2 filters: features\.2\.bias is \(9,\) instead of \(2,\)",
        ),
        (
            slim_file() | {"vgg_16/conv1/conv1_1/weights": torch.zeros(2, 3, 3, 3)},
            r"vgg_16/conv1/conv1_1/weights is \(3, 3, 2, 3\) instead of \(2, 3, 3, 3\)",
        ),
        (torchvision_file(4), r"do not fit a VGG16 of 2 filters: .* and 23 more$"),
        ({"layer1.0.weight": torch.zeros(1)}, r"layer1\.0\.weight: weights of VGG16 are named features\.0"),
        ({}, r"no name: weights of VGG16 are named"),
    ],
)
def test_other_weights_are_refused(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_imagenet(state, N_FILTERS)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".npz"])
def test_files_of_all_kinds_are_read(tmp_path: Path, suffix: str) -> None:
    path, state = tmp_path / f"weights{suffix}", slim_file()
    if suffix == ".safetensors":
        save_file(state, path)
    elif suffix == ".npz":
        np.savez(path, **{name: part.numpy() for name, part in state.items()})
    else:
        torch.save(state, path)
    got = read_weights(path)
    assert got.keys() == state.keys()
    assert all(torch.equal(got[name], part) for name, part in state.items())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*none\.npz"):
        read_weights(tmp_path / "none.npz")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg_16.ckpt"
    path.touch()
    with pytest.raises(ConfigError, match=r"suffix '\.ckpt' is not \.safetensors, \.pth, \.pt or \.npz"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_a_broken_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"not weights")
    with pytest.raises(ConfigError, match=r"not a file of weights that can be read safely"):
        read_weights(path)


class Intruder:
    """An object that only pickle could make."""


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Intruder()}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"not a file of weights that can be read safely"):
        read_weights(tmp_path / "weights.pth")
    np.savez(tmp_path / "weights.npz", a=np.array([Intruder()], dtype=object))
    with pytest.raises(ConfigError, match=r"not a file of weights that can be read safely"):
        read_weights(tmp_path / "weights.npz")


@pytest.mark.parametrize("content", [torch.zeros(2), {"state_dict": {"features.0.weight": torch.zeros(1)}}])
def test_a_file_that_holds_more_than_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"save the state_dict"):
        read_weights(tmp_path / "weights.pt")
