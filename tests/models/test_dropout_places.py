"""Where each network drops out in training, and how much (MODELS.md 1.2, 2.2, 3.2, 6.1 to 6.3)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamscore import plugins

#: Small networks: epochs of 256 samples, 3 epochs; shape and rate of what is dropped, in order.
RAW = {"sfreq": 64.0, "epoch_s": 4.0, "n_filters": 3, "n_hidden": 5}
PLACES: dict[str, tuple[dict[str, Any], int, list[tuple[tuple[int, ...], float]]]] = {
    # pool of the first layer; features; output of the LSTM
    "tinysleepnet": (RAW, 768, [((3, 3, 8), 0.5), ((3, 6), 0.5), ((1, 3, 5), 0.5)]),
    # first pool of both CNNs; features; both layers of both stacks; the sum
    "deepsleepnet": (
        {**RAW, "chunk_epochs": 1},
        768,
        [
            ((3, 3, 8), 0.5),
            ((3, 3, 2), 0.5),
            ((3, 18), 0.5),
            *2 * [((1, 3, 5), 0.5)],
            *2 * [((3, 1, 5), 0.5)],
            ((1, 3, 1, 10), 0.5),
        ],
    ),
    # first pool of both CNNs; features
    "sleepeegnet": (
        {**RAW, "window_epochs": 3},
        768,
        [((3, 3, 8), 0.5), ((3, 3, 2), 0.5), ((3, 18), 0.5)],
    ),
    # inputs and outputs of each recurrent layer and direction: frames, then epochs
    "seqsleepnet": (
        {
            "sfreq": 16.0,
            "epoch_s": 4.0,
            "window_epochs": 3,
            "n_fft": 40,
            "high_hz": 8.0,
            "n_filters": 4,
            "n_hidden": 5,
        },
        192,
        [*2 * [((3, 3, 4), 0.25), ((3, 3, 5), 0.25)], *2 * [((1, 3, 10), 0.25), ((1, 3, 5), 0.25)]],
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_it_drops_out_where_the_paper_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    args, n_samples, wanted = PLACES[kind]
    module = plugins.load("models", kind)
    model = module.build(module.Config(**args)).train()
    places: list[tuple[tuple[int, ...], float]] = []

    def dropout(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        assert training
        places.append((tuple(x.shape), p))
        return x

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    model(torch.randn(1, 1, n_samples), model.initial_state(1))
    assert places == wanted
