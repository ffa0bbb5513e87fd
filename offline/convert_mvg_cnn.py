"""Turn the published weights of MVG-CNN into a bundle.

    python -m offline.convert_mvg_cnn --weights ../shared/data/golden/mvg_cnn_keras.npz --out runs/mvg_cnn

The archive holds the eight arrays of the Keras checkpoint of comp-imaging-sci/MVG-CNN (MIT), kernels as
``(height, width, in, out)`` and ``(in, out)``. The traces of the bundle's channels are means over parcels of the
published atlas; the network needs no normalisation, as no affine change of a trace changes its graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated
from zipfile import BadZipFile

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from streamscore.bundle import Spec, save_bundle
from streamscore.errors import BundleError
from streamscore.models.mvg_cnn import PARCELS, Config, build

NAME = "mvg-cnn-published"
SFREQ = 16.8
#: Keras' name of a layer → ours.
LAYERS = {
    "layer_with_weights-0": "conv1",
    "layer_with_weights-1": "conv2",
    "layer_with_weights-2": "conv3",
    "layer_with_weights-3": "head",
}


def keras_state(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Return the weights of a published-size :class:`~streamscore.models.mvg_cnn.MvgCnn`.

    Parameters
    ----------
    arrays
        ``layer_with_weights-{0..3}__{kernel,bias}``.

    Raises
    ------
    BundleError
        If arrays are missing, too many or of another shape; the message names them all.
    """
    names = {f"{keras}__{part}" for keras in LAYERS for part in ("kernel", "bias")}
    missing, extra = sorted(names - set(arrays)), sorted(set(arrays) - names)
    if missing or extra:
        raise BundleError(
            f"not the weights of MVG-CNN: missing {', '.join(missing) or 'nothing'}; "
            f"unknown {', '.join(extra) or 'nothing'}"
        )
    expected = build(Config()).state_dict()
    state, wrong = {}, []
    for keras, ours in LAYERS.items():
        for part, name in (("kernel", f"{ours}.weight"), ("bias", f"{ours}.bias")):
            array = np.asarray(arrays[f"{keras}__{part}"], dtype=np.float32)
            # Keras puts the filters last, torch puts them first, before the inputs.
            ordered = np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array
            if ordered.shape != tuple(expected[name].shape):
                wrong.append(f"{keras}__{part} is {array.shape}")
            state[name] = torch.from_numpy(ordered.copy())
    if wrong:
        raise BundleError(f"not the weights of MVG-CNN for 36 parcels: {'; '.join(wrong)}")
    return state


def read_keras(path: Path) -> dict[str, Tensor]:
    """Return :func:`keras_state` of an ``.npz`` archive; nothing in it is unpickled.

    Raises
    ------
    BundleError
        If the file is no such archive.
    """
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise BundleError(f"{path}: not an .npz archive of plain arrays ({error})") from error
    try:
        return keras_state(arrays)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def convert(weights: Path, out: Path, stride_frames: int) -> str:
    """Write a bundle that scores a window every `stride_frames` to `out` and return its hash."""
    config = Config(stride_frames=stride_frames)
    model = build(config)
    model.load_state_dict(read_keras(weights))
    spec = Spec(
        name=NAME,
        model="mvg_cnn",
        model_args=config.model_dump(mode="json"),
        preprocess=(),
        vocabulary="MOUSE3",
        sfreq=SFREQ,
        channels=PARCELS,
        unit="any",
        hop_s=stride_frames / SFREQ,
        provenance={
            "weights": "ckpt_38 of comp-imaging-sci/MVG-CNN",
            "licence": "MIT, copyright (c) 2021 Computational Imaging Science Lab @ UIUC",
        },
        card="MVG-CNN with the weights that its authors published. Not trained or tested by streamscore.",
    )
    return save_bundle(out, spec, model)


def main(
    weights: Annotated[Path, typer.Option(help="Archive of the Keras weights.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    stride_frames: Annotated[int, typer.Option(help="Frames between outputs; a divisor of 168.")] = 168,
) -> None:
    """Turn the published weights of MVG-CNN into a bundle."""
    path = out / f"{NAME}.safetensors"
    typer.echo(f"{path} {convert(weights, path, stride_frames)}")


if __name__ == "__main__":
    typer.run(main)
