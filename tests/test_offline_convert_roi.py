"""The published ROI-GRU, converted from Keras, gives its golden outputs, here and from a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from offline.convert_roi_rnn import convert, keras_names, main
from streamscore.bundle import load_bundle
from streamscore.models.roi_rnn import Config, build
from tests.contracts.model import run

KERAS = Path(__file__).parents[2] / "shared" / "data" / "golden" / "roi_gru_keras.npz"
needs_weights = pytest.mark.skipif(
    not KERAS.is_file(), reason=f"{KERAS} is not here: weights are kept outside the project"
)

Arrays = dict[str, np.ndarray[Any, Any]]

#: MODELS.md 4.3: zeros; 0.5; t / 30 in all regions; j / 49 in region j. Inputs (regions, frames).
INPUTS = (
    torch.zeros(50, 31),
    torch.full((50, 31), 0.5),
    (torch.arange(31) / 30).expand(50, 31),
    (torch.arange(50) / 49)[:, None].expand(50, 31),
)
GOLDEN = {
    "hard_sigmoid": (0.471080, 0.441386, 0.335614, 0.478660),
    "sigmoid": (0.466515, 0.343383, 0.305690, 0.387400),
}


def arrays_of(config: Config) -> Arrays:
    """Keras arrays with the right names and shapes, and numbers that are all different."""
    rng = np.random.default_rng(0)
    layers = ["gru"] if config.direction == "uni" else ["forward_gru", "backward_gru"]
    n_in, n = config.n_channels, config.n_hidden
    arrays = {"dense__kernel": rng.normal(size=(n * len(layers), 1)), "dense__bias": rng.normal(size=1)}
    for layer in layers:
        arrays[f"{layer}__kernel"] = rng.normal(size=(n_in, 3 * n))
        arrays[f"{layer}__recurrent_kernel"] = rng.normal(size=(n, 3 * n))
        arrays[f"{layer}__bias"] = rng.normal(size=3 * n)
    return arrays


@needs_weights
@pytest.mark.parametrize("activation", GOLDEN)
def test_golden_outputs(activation: str) -> None:
    config = Config(recurrent_activation=activation)
    model = build(config)
    with np.load(KERAS, allow_pickle=False) as arrays:
        model.load_state_dict(convert(dict(arrays), config))
    logits, _ = run(model, torch.stack(INPUTS))
    got = torch.softmax(logits, dim=-1)[:, -1, 0, 1]
    torch.testing.assert_close(got, torch.tensor(GOLDEN[activation]), rtol=0, atol=1e-5)


@needs_weights
def test_the_command_writes_a_bundle_that_gives_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "roi-gru.safetensors"
    main(KERAS, out)
    bundle = load_bundle(out)
    assert bundle.sha256[:12] in capsys.readouterr().out
    assert bundle.spec.name == "roi-gru"
    assert bundle.spec.labels == ("rest", "run")
    assert len(bundle.spec.channels) == 50
    assert bundle.spec.sfreq == 30.0
    assert "normalis" in bundle.spec.card
    logits, _ = run(bundle.model, torch.stack(INPUTS))
    got = torch.softmax(logits, dim=-1)[:, -1, 0, 1]
    torch.testing.assert_close(got, torch.tensor(GOLDEN["hard_sigmoid"]), rtol=0, atol=1e-5)


def test_a_bidirectional_network_from_a_file_with_a_chain(tmp_path: Path) -> None:
    arrays, steps = arrays_of(Config(direction="bi")), [{"kind": "normalise", "statistic": "minmax"}]
    np.savez(tmp_path / "weights.npz", **arrays)
    (tmp_path / "chain.json").write_text(json.dumps(steps), encoding="utf-8")
    main(tmp_path / "weights.npz", tmp_path / "bi.safetensors", "gru", "bi", tmp_path / "chain.json")
    bundle = load_bundle(tmp_path / "bi.safetensors")
    assert list(bundle.spec.preprocess) == steps
    weights = bundle.model.state_dict()
    for ours, theirs in {
        "forward_cell.weight_x": "forward_gru__kernel",
        "forward_cell.weight_h": "forward_gru__recurrent_kernel",
        "backward_cell.bias": "backward_gru__bias",
        "head.bias": "dense__bias",
    }.items():
        np.testing.assert_array_equal(weights[ours].numpy(), arrays[theirs].astype(np.float32))
    np.testing.assert_array_equal(weights["head.weight"].numpy(), arrays["dense__kernel"].T.astype(np.float32))


@pytest.mark.parametrize(
    ("cell", "direction", "names"),
    [
        ("simple", "uni", {"simple_rnn__kernel", "simple_rnn__recurrent_kernel", "simple_rnn__bias"}),
        ("lstm", "bi", {"forward_lstm__kernel", "backward_lstm__recurrent_kernel", "backward_lstm__bias"}),
    ],
)
def test_names_of_other_cells(cell: str, direction: str, names: set[str]) -> None:
    assert names <= set(keras_names(Config(cell=cell, direction=direction)).values())


def test_missing_and_unexpected_arrays_are_named() -> None:
    arrays = arrays_of(Config())
    arrays["lstm__kernel"] = arrays.pop("gru__kernel")
    with pytest.raises(ValueError, match=r"missing gru__kernel; unexpected lstm__kernel\. Choose the cell"):
        convert(arrays, Config())


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [("gru__bias", (2, 96), r"gru__bias: expected the shape \(96,\), got \(2, 96\)"),  # reset_after=True
     ("dense__kernel", (1, 32), r"dense__kernel: expected the shape \(32, 1\), got \(1, 32\)")],
)  # fmt: skip
def test_a_wrong_shape_is_named(name: str, shape: tuple[int, ...], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        convert({**arrays_of(Config()), name: np.zeros(shape)}, Config())


def test_an_unknown_cell_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'simple', 'gru' or 'lstm'"):
        main(tmp_path / "none.npz", tmp_path / "out.safetensors", "rnn")
