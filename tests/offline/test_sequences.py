"""What a network learns from is what the engine will give it: the same chain, the same gaps, the same state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offline import sequences
from offline.sequences import Sequences, kept_sequences, on_grid
from streamscore import score
from streamscore.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from streamscore.errors import RecordingError
from streamscore.movies.base import read_movie
from streamscore.preprocess.base import Chain
from streamscore.recordings.base import Recording, read_recording
from streamscore.score import score_recording
from streamscore.simulate import simulate
from tests.layouts import signals

DATA = Path(__file__).parents[3] / "shared" / "data" / "human_ucddb"
SFREQ, EPOCH_S = 100.0, 30.0
STEP = round(EPOCH_S * SFREQ)
BUNDLE = load_bundle("tinysleepnet-simulated")


def gapped_night() -> Recording:
    """Twenty minutes that lack epochs 10 to 12 and hold a flat line of 5 s in epoch 20."""
    whole = simulate("human", 1200.0, SFREQ, seed=3, cycle_s=300.0)
    data = whole.data.copy()
    data[20 * STEP + 400 : 20 * STEP + 900, 0] = data[20 * STEP + 400, 0]
    keep = np.ones(len(data), bool)
    keep[10 * STEP : 13 * STEP] = False
    return replace(whole, data=data[keep], stamps_s=whole.stamps_s[keep])


@pytest.fixture(scope="module")
def night() -> Recording:
    return gapped_night()


@pytest.fixture(scope="module")
def steps(night: Recording) -> Sequences:
    return sequences.sequences(night, BUNDLE.spec, EPOCH_S, subject="m1")


def logits_of(bundle: Bundle, data: Sequences) -> torch.Tensor:
    """One plain call of the network for each run, from a fresh state ``(n_steps, n_classes)``."""
    said = []
    with torch.inference_mode():
        for begin, end in data.runs:
            x = torch.from_numpy(data.x[begin:end]).transpose(0, 1).reshape(1, data.x.shape[1], -1)
            said.append(bundle.model(x, bundle.model.initial_state(1))[0][0, :, 0])
    return torch.cat(said)


def test_what_is_missing_or_flat_is_no_training_data(steps: Sequences, night: Recording) -> None:
    expected = [k for k in range(40) if k not in (10, 11, 12, 20)]
    assert steps.step.tolist() == expected
    assert steps.runs == ((0, 10), (10, 17), (17, 36))
    assert steps.y.tolist() == night.states[expected].tolist()
    assert steps.n_labelled == 37
    assert (steps.name, steps.subject) == (night.name, "m1")


def test_training_input_is_the_output_of_the_chain(steps: Sequences, night: Recording) -> None:
    """Cut by hand: absolute indices, a reset at each gap, whole epochs only."""
    chain = Chain(BUNDLE.spec.preprocess, signals(SFREQ, 3))
    # A line is known to be flat after two seconds; what follows it starts afresh.
    for begin, stop, first in (
        (0, 10 * STEP, 0),
        (13 * STEP, 20 * STEP + 599, 10),
        (20 * STEP + 900, 40 * STEP, 17),
    ):
        at = begin if begin == 0 else begin - 3 * STEP  # the file does not hold the missing epochs
        x = chain.push(night.data[at : at + stop - begin], begin)
        chain.reset()
        for row, k in enumerate(range(-(-begin // STEP), stop // STEP)):
            epoch = x[k * STEP - begin : (k + 1) * STEP - begin]
            np.testing.assert_array_equal(steps.x[first + row], epoch.T, err_msg=f"epoch {k}")


def test_chunking_does_not_change_training_data(
    steps: Sequences, night: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "SIGNALS_CHUNK_S", 7.3)
    again = sequences.sequences(night, BUNDLE.spec, EPOCH_S)
    np.testing.assert_array_equal(again.x, steps.x)
    assert again.runs == steps.runs


def test_offline_logits_are_what_the_engine_says(steps: Sequences, night: Recording) -> None:
    said = [p for p in score_recording(night, BUNDLE, hop_s=EPOCH_S).posteriors if p.valid]
    assert [p.start // STEP for p in said] == steps.step.tolist()
    probs = torch.softmax(logits_of(BUNDLE, steps), dim=1).numpy()
    np.testing.assert_allclose([p.probs for p in said], probs, atol=1e-5)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the UCDDB recordings are not at {DATA}")
def test_a_real_night_is_scored_as_trained() -> None:
    """The engine's outputs on a recording with many gaps are those of the network on its sequences."""
    recording, bundle = read_recording(DATA / "ucddb017.npz"), load_bundle(DEFAULT_BUNDLE)
    said = [p for p in score_recording(recording, bundle, hop_s=EPOCH_S).posteriors if p.valid]
    data = sequences.sequences(recording, bundle.spec, EPOCH_S)
    assert len(data.runs) > 5
    assert [p.start // data.x.shape[2] for p in said] == data.step.tolist()
    probs = torch.softmax(logits_of(bundle, data), dim=1).numpy()
    np.testing.assert_allclose([p.probs for p in said], probs, atol=1e-4)


def test_part_of_a_night(steps: Sequences) -> None:
    second = steps.part(12, 36)
    assert second.runs == ((0, 5), (5, 24))
    np.testing.assert_array_equal(second.x[0], steps.x[12])
    assert second.y.tolist() == steps.y[12:].tolist()


def test_a_recording_starts_on_the_grid_of_its_labels(night: Recording, steps: Sequences) -> None:
    """Labels that began before the first sample: what is left of that epoch is not learnt from."""
    late = replace(night, data=night.data[700:], stamps_s=night.stamps_s[700:])
    assert on_grid(late).stamps_s[0] == pytest.approx(night.stamps_s[STEP])
    cut = sequences.sequences(late, BUNDLE.spec, EPOCH_S)
    assert cut.y.tolist() == steps.y[1:].tolist()


@pytest.mark.parametrize("offset_s", [-1234.567, 0.05, EPOCH_S])
def test_labels_are_on_the_clock_of_the_device(night: Recording, steps: Sequences, offset_s: float) -> None:
    """Stamps of an XDF file come with offsets to the clock of the computer, which the labels know nothing of."""
    offsets = np.array([[night.stamps_s[0], offset_s], [night.stamps_s[-1], offset_s + 0.01]])
    found = sequences.sequences(replace(night, clock_offsets=offsets), BUNDLE.spec, EPOCH_S)
    assert found.y.tolist() == steps.y.tolist()
    assert found.runs == steps.runs
    np.testing.assert_array_equal(found.x, steps.x)


def test_two_labels_in_a_step_are_none(night: Recording) -> None:
    halves = replace(night, states=np.repeat(night.states, 2), epoch_s=EPOCH_S / 2)
    codes = halves.states.copy()
    codes[7] = (codes[6] + 1) % 5
    data = sequences.sequences(replace(halves, states=codes), BUNDLE.spec, EPOCH_S)
    assert data.y[3] == -1
    assert data.y[[2, 4]].tolist() == night.states[[2, 4]].tolist()


def test_nothing_to_score_is_told(night: Recording) -> None:
    short = replace(night, data=night.data[: STEP // 2], stamps_s=night.stamps_s[: STEP // 2])
    with pytest.raises(RecordingError, match="nothing of it can be scored"):
        sequences.sequences(short, BUNDLE.spec, EPOCH_S)


def test_frames_are_kept_on_the_disk(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 4000, (40, 6, 8)).astype(np.uint16)
    np.savez(tmp_path / "mouse.npz", frames=frames, rate=10.0)
    spec = BUNDLE.spec.model_copy(
        update={"preprocess": (), "sfreq": 10.0, "channels": ("frames",), "frame_shape": (6, 8), "unit": "any"}
    )
    path = tmp_path / "inputs" / "mouse.npy"
    assert kept_sequences(path) is None
    kept = sequences.sequences(
        read_movie(tmp_path / "mouse.npz", rate_hz=10.0),
        spec,
        1.0,
        model_channels=1,
        frame_shape=(6, 8),
        path=path,
    )
    assert isinstance(kept.x, np.memmap)
    np.testing.assert_array_equal(kept.x.reshape(40, 6, 8), frames.astype(np.float16))
    again = kept_sequences(path)
    assert again is not None
    assert again.runs == kept.runs == ((0, 4),)
    np.testing.assert_array_equal(again.x, kept.x)
    assert sorted(p.name for p in path.parent.iterdir()) == ["mouse.npy", "mouse.npz"]
