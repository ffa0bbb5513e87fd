"""Start an EfficientNet decoder from ImageNet weights, as its publication does.

    model = build(Config(rnn="none"))
    start_from_imagenet(model, Path("efficientnet-b0-355c32eb.pth"))

The weights are a local file, which a user downloads; three ways of naming them are understood:

- ``efficientnet_pytorch`` (``_conv_stem.weight`` …), the publication's and ours
- ``torchvision`` (``features.0.0.weight`` …)
- ``timm`` (``conv_stem.weight`` …)

The first, and timm's ``tf_efficientnet_b0``, were trained with TensorFlow's padding, which our network has.
torchvision's, and timm's ``efficientnet_b0``, were trained with symmetric padding and a batch normalisation eps of
1e-5: they load, but what they compute here differs from what they computed there (MODELS.md 4.2). Training starts
from them all the same; do not expect to reproduce a publication with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

from offline.weights_file import read_weights
from streamscore.errors import ConfigError
from streamscore.models.efficientnet import BlockShape, EfficientNetDecoder, block_shapes

#: A counter that batch normalisation keeps for training without momentum; old files lack it.
OPTIONAL = "num_batches_tracked"
#: Longest list of names in an error.
N_NAMED = 3

_TORCHVISION = {
    "_conv_stem": "features.0.0",
    "_bn0": "features.0.1",
    "_conv_head": "features.8.0",
    "_bn1": "features.8.1",
}
_TORCHVISION_BLOCK = {
    "_expand_conv": "0.0",
    "_bn0": "0.1",
    "_depthwise_conv": "1.0",
    "_bn1": "1.1",
    "_se_reduce": "2.fc1",
    "_se_expand": "2.fc2",
    "_project_conv": "3.0",
    "_bn2": "3.1",
}
_TIMM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_TIMM_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
#: timm's first block, which does not expand, names what remains anew.
_TIMM_PLAIN_BLOCK = {**_TIMM_BLOCK, "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def _torchvision_layer(layer: str, shape: BlockShape | None) -> str:
    if shape is None:
        return _TORCHVISION[layer]
    number, rest = _TORCHVISION_BLOCK[layer].split(".", 1)
    # Without an expansion the parts of a block count from 0.
    part = int(number) - (shape.expansion == 1)
    return f"features.{shape.stage + 1}.{shape.position}.block.{part}.{rest}"


def _timm_layer(layer: str, shape: BlockShape | None) -> str:
    if shape is None:
        return _TIMM[layer]
    names = _TIMM_PLAIN_BLOCK if shape.expansion == 1 else _TIMM_BLOCK
    return f"blocks.{shape.stage}.{shape.position}.{names[layer]}"


#: Way of naming → name of a layer that marks it, prefix of the output layer for the 1,000 objects of ImageNet, and
#: how it calls one of our layers.
FAMILIES: dict[str, tuple[str, str, Callable[[str, BlockShape | None], str] | None]] = {
    "efficientnet_pytorch": ("_conv_stem.weight", "_fc.", None),
    "torchvision": ("features.0.0.weight", "classifier.", _torchvision_layer),
    "timm": ("conv_stem.weight", "classifier.", _timm_layer),
}


def family_of(names: Collection[str]) -> str:
    """Return the way of naming, a key of :data:`FAMILIES`.

    Raises
    ------
    ConfigError
        If it is unknown.
    """
    for family, (mark, _, _) in FAMILIES.items():
        if mark in names:
            return family
    marks = ", ".join(f"{mark} ({family})" for family, (mark, _, _) in FAMILIES.items())
    raise ConfigError(f"unknown names of weights ({_some(names)}); expected one of {marks}")


def their_names(model: EfficientNetDecoder, family: str) -> dict[str, str]:
    """Return, for each weight of ``model.cnn`` but those of the output layer, its name in `family`."""
    shapes = list(block_shapes(model.config))
    translate = FAMILIES[family][2]
    names = {}
    for ours in model.cnn.state_dict():
        if ours.startswith("_fc."):
            continue
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", ours)
        layer, kind = block.group(2, 3) if block else ours.split(".")
        shape = shapes[int(block.group(1))] if block else None
        names[ours] = f"{translate(layer, shape)}.{kind}" if translate else ours
    return names


def start_from_imagenet(model: EfficientNetDecoder, path: Path) -> str:
    """Put ImageNet weights into the convolutional network of `model`, all but the output layer.

    Returns
    -------
    str
        How the file names its weights, a key of :data:`FAMILIES`.

    Raises
    ------
    ConfigError
        If weights are missing, unexpected or of another shape; the message counts and names them.
    """
    weights = read_weights(path)
    family = family_of(weights)
    names = their_names(model, family)
    output_layer = FAMILIES[family][1]
    state = model.cnn.state_dict()
    required = {theirs for ours, theirs in names.items() if not ours.endswith(OPTIONAL)}
    missing = required - set(weights)
    unexpected = {name for name in weights if not name.startswith(output_layer)} - set(names.values())
    wrong = {
        f"{theirs} {tuple(weights[theirs].shape)} instead of {tuple(state[ours].shape)}"
        for ours, theirs in names.items()
        if theirs in weights and weights[theirs].shape != state[ours].shape
    }
    problems = [
        f"{len(found)} {what}: {_some(found)}"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of a wrong shape", wrong))
        if found
    ]
    if problems:
        raise ConfigError(f"{path}: weights named as by {family} do not fit this network; {'; '.join(problems)}")
    state.update({ours: weights[theirs] for ours, theirs in names.items() if theirs in weights})
    model.cnn.load_state_dict(state)
    return family


def _some(names: Collection[str]) -> str:
    """First of `names` in order, and a sign that there are more."""
    return ", ".join(sorted(names)[:N_NAMED]) + (", …" if len(names) > N_NAMED else "")
