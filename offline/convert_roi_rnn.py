"""Make a bundle of a published ROI-RNN, from the arrays of its Keras model.

    python -m offline.convert_roi_rnn --weights ../shared/data/golden/roi_gru_keras.npz --out roi-gru.safetensors

The ``.npz`` holds the arrays of the stored model (TensorFlow 1.15, ``recurrent_activation`` hard sigmoid, GRU with
``reset_after=False``), each named ``<layer>__<array>``. Ours hold the same numbers:

====================================  =================================================================
Keras                                 ours
====================================  =================================================================
``gru__kernel`` (50, 96)              ``forward_cell.weight_x``, gates z, r, candidate (LSTM: i, f, c, o)
``gru__recurrent_kernel`` (32, 96)    ``forward_cell.weight_h``
``gru__bias`` (96,)                   ``forward_cell.bias``
``dense__kernel`` (32, 1)             ``head.weight`` (1, 32), transposed
``dense__bias`` (1,)                  ``head.bias``
====================================  =================================================================

The layer is ``simple_rnn``, ``gru`` or ``lstm``; a bidirectional network has two, with ``forward_`` and
``backward_`` before these names, and 64 rows in its dense kernel, forward first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from streamscore.bundle import Spec, save_bundle
from streamscore.models.roi_rnn import ABOUT, Config, build

KERAS_LAYERS = {"simple": "simple_rnn", "gru": "gru", "lstm": "lstm"}
ARRAYS = {"weight_x": "kernel", "weight_h": "recurrent_kernel", "bias": "bias"}
CARD = f"""# {{name}}

Run or rest of a mouse from cortex-wide calcium imaging, {ABOUT.source}: published weights, converted. It
expects what the publication feeds it: per region, the centred moving average of 1,000 frames subtracted, then
scaled to 0 … 1 over the session. With any other normalisation its accuracy is unknown.
"""


def keras_names(config: Config) -> dict[str, str]:
    """Return, for each of our weights, the name of the Keras array."""
    layer = KERAS_LAYERS[config.cell]
    layers = {"forward_cell": layer}
    if config.direction == "bi":
        layers = {f"{direction}_cell": f"{direction}_{layer}" for direction in ("forward", "backward")}
    names = {
        f"{cell}.{ours}": f"{keras}__{theirs}" for cell, keras in layers.items() for ours, theirs in ARRAYS.items()
    }
    return {**names, "head.weight": "dense__kernel", "head.bias": "dense__bias"}


def convert(arrays: Mapping[str, np.ndarray[Any, Any]], config: Config) -> dict[str, Tensor]:
    """Return Keras `arrays` as a state dict of ``build(config)``.

    Raises
    ------
    ValueError
        If arrays are missing, too many or of another shape than the configuration has; the message names them.
    """
    names = keras_names(config)
    missing, extra = sorted(set(names.values()) - set(arrays)), sorted(set(arrays) - set(names.values()))
    if missing or extra:
        raise ValueError(
            f"arrays do not fit a {config.direction} {config.cell}: missing {', '.join(missing) or 'none'}; "
            f"unexpected {', '.join(extra) or 'none'}. Choose the cell and direction that they were trained with"
        )
    state = {}
    for ours, wanted in build(config).state_dict().items():
        theirs = names[ours]
        expected = tuple(wanted.T.shape if ours == "head.weight" else wanted.shape)
        if arrays[theirs].shape != expected:
            raise ValueError(f"{theirs}: expected the shape {expected}, got {arrays[theirs].shape}")
        tensor = torch.from_numpy(np.array(arrays[theirs], dtype=np.float32))
        state[ours] = tensor.T.contiguous() if ours == "head.weight" else tensor
    return state


def main(
    weights: Annotated[Path, typer.Option(help="The .npz of Keras arrays.")],
    out: Annotated[Path, typer.Option(help="The bundle to write; its stem is its name.")],
    cell: Annotated[str, typer.Option(help="simple, gru or lstm.")] = "gru",
    direction: Annotated[str, typer.Option(help="uni or bi.")] = "uni",
    chain: Annotated[Path | None, typer.Option(help="JSON list of preprocessing steps; none by default.")] = None,
) -> None:
    """Convert the weights and write a bundle, of the published variant, for 50 regions at 30 Hz."""
    config = Config.model_validate({"cell": cell, "direction": direction})
    with np.load(weights, allow_pickle=False) as arrays:
        state = convert({name: arrays[name] for name in arrays.files}, config)
    model = build(config)
    model.load_state_dict(state)
    example = ABOUT.examples["roi-gru"]
    spec = Spec(
        name=out.stem,
        model="roi_rnn",
        model_args=config.model_dump(),
        preprocess=tuple(json.loads(chain.read_text(encoding="utf-8"))) if chain else (),
        vocabulary=example.vocabulary,
        sfreq=example.sfreq,
        channels=example.channels,
        hop_s=1 / example.sfreq,
        provenance={"converted_from": weights.name, "source": ABOUT.source},
        card=CARD.format(name=out.stem),
    )
    typer.echo(f"wrote {out}, sha256 {save_bundle(out, spec, model)[:12]}")


if __name__ == "__main__":
    typer.run(main)
