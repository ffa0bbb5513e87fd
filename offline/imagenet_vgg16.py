"""Public ImageNet weights of VGG16 → names of :mod:`streamscore.models.vgg16`.

The published networks start from the 13 convolutions of an ImageNet VGG16 (MODELS.md 3.2). Two families of names
are in use: torchvision's (``features.0.weight``, which timm shares) and TF-slim's
(``vgg_16/conv1/conv1_1/weights``, height × width × in × out). Fully connected layers are left out, since the
published training starts them anew.

The network is fed with 0 … 255, so that the weights should be of the Caffe kind, trained on 0 … 255 minus a mean:
TF-slim's, or torchvision's ``IMAGENET1K_FEATURES``. Nothing is downloaded here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from streamscore.errors import ConfigError
from streamscore.models.vgg16 import vgg_features

#: Convolutions in each block.
BLOCKS = (2, 2, 3, 3, 3)
#: Family → prefix of the names of its convolutions, and prefixes of what else it may hold, which is left out.
FAMILIES = {
    "torchvision": ("features.", ("classifier.", "pre_logits.", "head.")),
    "TF-slim": ("vgg_16/conv", ("vgg_16/fc", "vgg_16/mean_rgb", "global_step")),
}
#: Names that an error lists at most.
N_LISTED = 3


def load_imagenet(state: Mapping[str, Tensor], n_filters: int = 64) -> dict[str, Tensor]:
    """Map public weights to those of our convolutions.

    Parameters
    ----------
    state
        Names and tensors of a public file; see :func:`offline.weights_file.read_weights`.
    n_filters
        Of the network's first convolutions.

    Returns
    -------
    dict
        ``features.0.weight`` … ``features.28.bias``, float32, for ``load_state_dict(..., strict=False)``.

    Raises
    ------
    ConfigError
        If the names are of no known family, if names are missing or not known, or if shapes differ.
    """
    shapes = {f"features.{name}": part.shape for name, part in vgg_features(n_filters).state_dict().items()}
    family = _family(state)
    given = {name.removesuffix(":0"): tensor for name, tensor in state.items()}
    sources = dict(zip(shapes, shapes if family == "torchvision" else _slim_names(), strict=True))

    missing = [source for source in sources.values() if source not in given]
    if missing:
        raise ConfigError(f"{family} weights of VGG16 lack {_listed(missing)}: is the file of another network?")
    unexpected = sorted(
        name for name in set(given) - set(sources.values()) if not name.startswith(FAMILIES[family][1])
    )
    if unexpected:
        raise ConfigError(
            f"{family} weights hold {_listed(unexpected)}, which VGG16 has not: is it another network?"
        )
    weights = {name: _to_torch(given[source], family) for name, source in sources.items()}
    wrong = [
        f"{sources[name]} is {tuple(weights[name].shape)} instead of {tuple(shape)} (out, in, height, width)"
        for name, shape in shapes.items()
        if weights[name].shape != shape
    ]
    if wrong:
        raise ConfigError(f"{family} weights do not fit a VGG16 of {n_filters} filters: {_listed(wrong)}")
    return weights


def _family(names: Mapping[str, Tensor]) -> str:
    for family, (prefix, _) in FAMILIES.items():
        if any(name.startswith(prefix) for name in names):
            return family
    raise ConfigError(
        f"{_listed(sorted(names)) or 'no name'}: weights of VGG16 are named features.0.weight … (torchvision, "
        "timm) or vgg_16/conv1/conv1_1/weights … (TF-slim)"
    )


def _slim_names() -> list[str]:
    """TF-slim's names in the order of ours."""
    return [
        f"vgg_16/conv{block}/conv{block}_{k}/{part}"
        for block, n_convolutions in enumerate(BLOCKS, start=1)
        for k in range(1, n_convolutions + 1)
        for part in ("weights", "biases")
    ]


def _to_torch(tensor: Tensor, family: str) -> Tensor:
    if family == "TF-slim" and tensor.ndim == 4:
        tensor = tensor.permute(3, 2, 0, 1)
    return tensor.float().contiguous()


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - N_LISTED} more" if len(items) > N_LISTED else ""
    return ", ".join(items[:N_LISTED]) + more
