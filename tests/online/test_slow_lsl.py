"""One sample every 4 s over real LSL. The stamps say so; the test does not wait for them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from streamscore.bundle import Bundle, Spec
from streamscore.models.roi_rnn import Config, build
from streamscore.recordings.npz import BANDS
from tests.online.loop import Loop, noise

N = 40


def untrained() -> Bundle:
    """A causal network for band powers."""
    torch.manual_seed(0)
    args = {"variant": "causal", "n_channels": len(BANDS), "n_classes": 3, "n_hidden": 4, "sfreq": 0.25}
    spec = Spec(
        name="bands",
        model="roi_rnn",
        model_args=args,
        preprocess=({"kind": "log"},),
        vocabulary="MOUSE3",
        sfreq=0.25,
        channels=BANDS,
        hop_s=None,
    )
    return Bundle(spec, build(Config(**args)).requires_grad_(False), sha256="")


@pytest.fixture
def run() -> Iterator[Loop]:
    """An engine that has found the stream."""
    loop = Loop(untrained(), sfreq=0.25, labels=BANDS)
    yield loop
    loop.close()


def test_band_powers_are_scored_and_a_lost_one_is_a_gap(run: Loop) -> None:
    keep = np.delete(np.arange(N), 20)
    run.push(np.exp(noise(N, n_channels=len(BANDS)) / 30.0)[keep], run.times(N)[keep])
    run.wait_for_posterior(N)
    summary = run.finish()
    assert [event.start for event in run.of("posterior") if event.valid] == keep.tolist()
    assert (summary.counters["gaps"], summary.counters["missing_samples"]) == (1, 1)
