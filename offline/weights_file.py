"""Read a local file of named tensors, whoever wrote it; nothing but tensors is ever unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from streamscore.errors import ConfigError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a local file of named tensors: ``.safetensors``, ``.pth`` or ``.pt`` (weights only), or ``.npz``.

    Raises
    ------
    ConfigError
        If there is no such file, its suffix is another, or it holds anything but named tensors.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    try:
        match path.suffix:
            case ".safetensors":
                state: object = load_file(path)
            case ".pth" | ".pt":
                state = torch.load(path, map_location="cpu", weights_only=True)
            case ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            case suffix:
                raise ConfigError(f"{path}: suffix {suffix!r} is not .safetensors, .pth, .pt or .npz")
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        ValueError,
        EOFError,
        TypeError,
    ) as error:
        raise ConfigError(f"{path} is not a file of weights that can be read safely: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(part, Tensor) for part in state.values()):
        raise ConfigError(f"{path} does not hold named tensors alone: save the state_dict of the network")
    return dict(state)
