"""What a network is given is what the engine gives it, cut at the gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from offline.explain.given import given, open_recording, part
from streamscore.bundle import Bundle, Spec
from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie
from streamscore.recordings.base import Recording
from streamscore.score import score_recording
from tests.bundles import EPOCH, EPOCH_S, SFREQ, signal
from tests.offline.explaining import SIDE, Place

LABELS = ("Wake", "NREM", "REM")


def recording(n_epochs: int, lost: slice | None = None) -> Recording:
    """Labelled noise that begins at 100 s, `lost` samples of it missing."""
    n = n_epochs * EPOCH
    keep = np.ones(n, bool)
    if lost is not None:
        keep[lost] = False
    return Recording(
        name="mouse",
        data=signal(n)[keep],
        stamps_s=100.0 + np.arange(n)[keep] / SFREQ,
        sfreq=SFREQ,
        channels=("EEG",),
        units=("uV",),
        labels=LABELS,
        states=(np.arange(n_epochs) % 3).astype(np.int8),
        epoch_s=EPOCH_S,
        states_t0_s=100.0,
    )


def test_the_network_scores_what_is_given_as_the_engine_does(small: Bundle) -> None:
    """Also behind a gap, where state and filters start afresh."""
    whole = recording(9, lost=slice(4 * EPOCH + 10, 4 * EPOCH + 90))
    what = given(whole, small)
    assert [run.x.shape[2] // EPOCH for run in what.runs] == [4, 4]
    assert [run.t0_s for run in what.runs] == pytest.approx([100.0, 100.0 + 5 * EPOCH_S])
    told = [p.probs for p in score_recording(whole, small, hop_s=EPOCH_S).posteriors if p.valid]
    ours = []
    with torch.inference_mode():
        for run in what.runs:
            logits, _ = small.model(run.x, small.model.initial_state(1))
            ours.append(torch.softmax(logits[0, :, 0], dim=-1).numpy())
    np.testing.assert_allclose(np.concatenate(ours), told, atol=1e-5)


def test_truth_is_that_of_the_middle(small: Bundle) -> None:
    what = given(recording(6), small)
    assert what.is_labelled
    starts_s = what.runs[0].t0_s + np.arange(6) * EPOCH_S
    assert what.truth(starts_s, EPOCH_S).tolist() == [0, 1, 2, 0, 1, 2]
    assert what.truth([90.0, 100.0 + 6 * EPOCH_S], EPOCH_S).tolist() == [-1, -1]
    assert what.truth(100.0 + EPOCH_S - 0.6, 1.0).tolist() == [0]


def test_a_part_keeps_clock_and_labels(small: Bundle) -> None:
    what = given(recording(8), small, begin_s=2 * EPOCH_S, seconds=3 * EPOCH_S)
    assert sum(run.x.shape[2] for run in what.runs) == 3 * EPOCH
    assert what.runs[0].t0_s == pytest.approx(100.0 + 2 * EPOCH_S)
    assert what.truth(what.runs[0].t0_s, EPOCH_S).tolist() == [2]
    with pytest.raises(RecordingError, match=r"has 32\.0 s and nothing from 40 s on"):
        part(recording(8), 40.0, None)


def test_what_cannot_be_scored_is_refused(small: Bundle) -> None:
    flat = recording(3)
    flat.data[:] = 5.0
    with pytest.raises(RecordingError, match="nothing of it can be scored"):
        given(flat, small)


@pytest.fixture
def frames(tmp_path: Path) -> tuple[Path, Bundle]:
    """A movie of 40 frames at 10 Hz whose light changes at frame 15, and a bundle for it."""
    pixels = np.random.default_rng(0).integers(100, 200, (40, SIDE, SIDE)).astype(np.uint16)
    path = tmp_path / "cortex.npz"
    states = np.array([0, 1, 1, 0], np.int8)
    np.savez(path, data=pixels, rate_hz=10.0, states=states, epoch_s=1.0, labels=np.array(["rest", "run"]))
    everywhere = slice(0, SIDE), slice(0, SIDE)
    spec = Spec(
        name="place", model="efficientnet", model_args={}, preprocess=(), vocabulary="RUNREST", sfreq=10.0,
        channels=("calcium",), hop_s=0.1,
    )  # fmt: skip
    return path, Bundle(spec, Place(everywhere, everywhere).eval(), sha256="")


def test_a_movie_is_given_frame_by_frame(frames: tuple[Path, Bundle]) -> None:
    path, bundle = frames
    with read_movie(path) as movie:
        pixels = movie.read(0, 40)
    what = given(open_recording(path, bundle), bundle)
    (run,) = what.runs
    np.testing.assert_array_equal(run.x[0].numpy(), pixels.astype(np.float32))
    assert what.truth(run.t0_s + np.arange(40) / 10.0, 0.1).tolist() == np.repeat([0, 1, 1, 0], 10).tolist()
    piece = given(open_recording(path, bundle), bundle, begin_s=1.0, seconds=1.5)
    np.testing.assert_array_equal(piece.runs[0].x[0].numpy(), pixels[10:25].astype(np.float32))
    assert piece.truth(piece.runs[0].t0_s, 0.1).tolist() == [1]


def test_the_kind_of_recording_must_be_that_of_the_bundle(frames: tuple[Path, Bundle], small: Bundle) -> None:
    with pytest.raises(RecordingError, match="holds a movie, and bundle 'small' takes signals"):
        open_recording(frames[0], small)
