"""What was decided online is what is decided offline: LSL at speed, ``score``, and one plain forward agree."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from streamscore.bundle import Bundle, load_bundle
from streamscore.record import read_run
from streamscore.recordings.base import Recording, read_recording
from streamscore.score import posterior_from, score_command, score_file
from streamscore.simulate import simulate
from streamscore.types import Posterior
from tests.online.process import Running

SHARED = Path(__file__).parents[3] / "shared" / "data"
UCDDB018 = SHARED / "human_ucddb" / "ucddb018.npz"
TOLERANCE = 1e-5


def one_shot(bundle: Bundle, recording: Recording, hop_samples: int) -> dict[int, np.ndarray]:
    """Probabilities by index of the epoch's end, from plain calls of the network on the whole array.

    Every phase is the published network, run on the recording from that phase on, after the samples that the
    chain needs to warm up.
    """
    spec, step = bundle.spec, bundle.model.timing.step_samples
    chain = bundle.chain()
    columns = [recording.channels.index(name) for name in spec.channels]
    x = torch.from_numpy(chain.push(np.ascontiguousarray(recording.data[:, columns]), 0).T.copy())[None]
    probs: dict[int, np.ndarray] = {}
    for phase in range(0, step, hop_samples):
        first = phase
        while first < chain.warm_up_samples:
            first += step
        n_steps = (x.shape[2] - first) // step
        if n_steps <= 0:
            continue
        with torch.inference_mode():
            logits, _ = bundle.model(x[..., first : first + n_steps * step], bundle.model.initial_state(1))
        for k, row in enumerate(torch.softmax(logits[0, :, 0], -1).numpy()):
            probs[first + (k + 1) * step] = row
    return probs


def assert_same(got: list[Posterior], expected: dict[int, np.ndarray]) -> None:
    """Every valid output is there, with the probabilities and the state expected."""
    valid = {p.stop: p for p in got if p.valid}
    assert valid.keys() == expected.keys()
    worst = max(float(np.abs(np.array(p.probs) - expected[stop]).max()) for stop, p in valid.items())
    assert worst < TOLERANCE
    for stop, posterior in valid.items():
        row = np.sort(expected[stop])
        if row[-1] - row[-2] > 2 * TOLERANCE:
            assert posterior.state == load_labels(posterior, expected[stop])


def load_labels(posterior: Posterior, row: np.ndarray) -> str:
    """State that `row` speaks for, by the order of the five AASM labels."""
    assert len(posterior.probs) == len(row) == 5
    return ("W", "N1", "N2", "N3", "REM")[int(row.argmax())]


def save_excerpt(recording: Recording, path: Path, duration_s: float) -> Path:
    """Write the first `duration_s` of a recording as a file that can be replayed."""
    n = round(duration_s * recording.sfreq)
    np.savez(
        path,
        data=recording.data[:n],
        sfreq=recording.sfreq,
        channels=np.array(recording.channels),
        units=np.array(recording.units),
    )
    return path


def play_and_run(file: Path, bundle: str, hop_s: float, speed: float, runs: Path) -> Path:
    """Play `file` over LSL from one process, score it in another; return the run folder."""
    name = f"same-{uuid.uuid4().hex[:8]}"
    player = Running("replay", file, "--name", name, "--speed", str(speed), "--linger-s", "1")
    engine = None
    try:
        player.wait_for("visible")
        engine = Running(
            "run", "--source", "lsl", "--name", name, "--bundle", bundle, "--hop-s", str(hop_s), "--record", runs,
            "--stop-when-lost", "-q", "--announce", "--endpoint", "tcp://127.0.0.1:*",
        )  # fmt: skip
        folder = Path(engine.wait_for("assembled")["run_folder"])
        assert player.end(300.0) == 0, player.text
        assert engine.end(60.0) == 0, engine.text
        return folder
    finally:
        player.close()
        if engine is not None:
            engine.close()


def check_all_agree(file: Path, bundle_name: str, hop_s: float, speed: float, tmp_path: Path) -> None:
    bundle = load_bundle(bundle_name)
    recording = read_recording(file)
    hop_samples = round(hop_s * recording.sfreq)
    plain = one_shot(bundle, recording, hop_samples)
    offline = score_file(file, bundle, hop_s=hop_s)
    assert_same(list(offline.posteriors), plain)
    folder = play_and_run(file, bundle_name, hop_s, speed, tmp_path / "runs")
    record = read_run(folder)
    online = [posterior_from(event) for event in record.events if event["type"] == "posterior"]
    assert_same(online, plain)
    assert [(p.start, p.stop, p.state, p.valid) for p in online] == [
        (p.start, p.stop, p.state, p.valid) for p in offline.posteriors
    ]
    # Scoring the run's own raw record gives the run's hypnogram again.
    again = score_command(folder, bundle_name, None, None, hop_s, tmp_path / "again")
    assert sum(again.counts.values()) == again.n_epochs > 0


def test_a_synthetic_night_at_20_times(tmp_path: Path) -> None:
    night = simulate("human", 600.0, seed=5, cycle_s=600.0)
    file = save_excerpt(night, tmp_path / "synthetic.npz", 600.0)
    check_all_agree(file, "tinysleepnet-simulated", 1.0, 30.0, tmp_path)


@pytest.mark.skipif(not UCDDB018.is_file(), reason=f"{UCDDB018} is not here")
def test_a_real_night_at_speed(tmp_path: Path) -> None:
    file = save_excerpt(read_recording(UCDDB018), tmp_path / "real.npz", 1200.0)
    check_all_agree(file, "default", 1.0, 60.0, tmp_path)


@pytest.mark.skipif(not UCDDB018.is_file(), reason=f"{UCDDB018} is not here")
def test_the_whole_real_night_on_the_published_grid(tmp_path: Path) -> None:
    bundle = load_bundle("default")
    recording = read_recording(UCDDB018)
    plain = one_shot(bundle, recording, bundle.model.timing.step_samples)
    offline = score_file(UCDDB018, bundle, hop_s=30.0)
    assert_same(list(offline.posteriors), plain)
    folder = play_and_run(UCDDB018, "default", 30.0, 600.0, tmp_path / "runs")
    events = read_run(folder).events
    assert_same([posterior_from(event) for event in events if event["type"] == "posterior"], plain)


@pytest.mark.skipif(not UCDDB018.is_file(), reason=f"{UCDDB018} is not here")
def test_truncating_the_future_of_a_real_night_changes_nothing_earlier(tmp_path: Path) -> None:
    bundle = load_bundle("default")
    night = read_recording(UCDDB018)
    whole = score_file(save_excerpt(night, tmp_path / "whole.npz", 600.0), bundle, hop_s=1.0).posteriors
    part = score_file(save_excerpt(night, tmp_path / "part.npz", 400.3), bundle, hop_s=1.0).posteriors
    for index, (early, late) in enumerate(zip(part, whole, strict=False)):
        assert (early.stop, early.state, early.valid) == (late.stop, late.state, late.valid), index
        assert np.allclose(early.probs, late.probs, atol=TOLERANCE), index


@pytest.mark.skipif(not UCDDB018.is_file(), reason=f"{UCDDB018} is not here")
@pytest.mark.parametrize("chunk_s", [1 / 128, 0.05, 1.7, 45.0, 600.0])
def test_any_chunking_of_a_real_night_gives_the_same(tmp_path: Path, chunk_s: float) -> None:
    bundle = load_bundle("default")
    file = save_excerpt(read_recording(UCDDB018), tmp_path / "excerpt.npz", 150.0)
    reference = score_file(file, bundle, hop_s=1.0).posteriors
    other = score_file(file, bundle, hop_s=1.0, chunk_s=chunk_s).posteriors
    assert [(p.stop, p.state, p.valid) for p in other] == [(p.stop, p.state, p.valid) for p in reference]
    for a, b in zip(reference, other, strict=True):
        assert np.allclose(a.probs, b.probs, atol=TOLERANCE)
