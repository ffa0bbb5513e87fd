"""A stream of features, one sample every 4 s, through the engine: a long period is no fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from streamscore.bundle import Bundle, Spec, load_bundle, save_bundle
from streamscore.cli import app
from streamscore.clock import VirtualClock
from streamscore.errors import BundleError
from streamscore.models.roi_rnn import Config, build
from streamscore.recordings.npz import BANDS
from streamscore.score import score_file
from streamscore.types import Chunk, FloatArray, StreamInfo, TimeArray
from tests.streams import Run, run_engine

PERIOD_S = 4.0
SFREQ = 1.0 / PERIOD_S
T0_S = 100.0
#: Samples of a run, and of the chain's warm-up.
N, WARM_UP = 60, 10
LAG = 2
ARGS: dict[str, Any] = {
    "direction": "bi",
    "variant": "lookahead",
    "n_channels": len(BANDS),
    "n_classes": 3,
    "n_hidden": 4,
    "sfreq": SFREQ,
    "look_ahead_s": LAG * PERIOD_S,
    "max_look_ahead_s": 60.0,
}
CHAIN: tuple[dict[str, Any], ...] = (
    {"kind": "log"},
    {"kind": "normalise", "statistic": "zscore", "warm_up_s": WARM_UP * PERIOD_S, "tau_s": 3600.0},
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained bundle that scores band powers."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bundle") / "bands.safetensors"
    spec = Spec(
        name="bands", model="roi_rnn", model_args=ARGS, preprocess=CHAIN, vocabulary="MOUSE3", sfreq=SFREQ,
        channels=BANDS, hop_s=None,
    )  # fmt: skip
    save_bundle(path, spec, build(Config(**ARGS)))
    return path


@pytest.fixture(scope="module")
def bundle(path: Path) -> Bundle:
    return load_bundle(path)


def powers(n: int = N) -> FloatArray:
    rng = np.random.default_rng(0)
    return np.exp(3.0 + rng.standard_normal((n, len(BANDS)))).astype(np.float32)


def stamps(period_s: float = PERIOD_S) -> TimeArray:
    return T0_S + period_s * np.arange(N, dtype=np.float64)


def live(bundle: Bundle, data: FloatArray, stamps_s: TimeArray, **config: Any) -> Run:
    """Each sample arrives by itself, when it is stamped, and the engine looks at its watch in between."""
    script: list[Any] = []
    now_s = T0_S
    for row, stamp_s in zip(data, stamps_s.tolist(), strict=True):
        script += [stamp_s - now_s] if stamp_s > now_s else []
        now_s = max(now_s, stamp_s)
        script.append(Chunk(row[None], np.array([stamp_s]), 0.0, now_s))
    info = StreamInfo("bands", SFREQ, BANDS, ("",) * len(BANDS))
    run = run_engine(bundle, script, clock=VirtualClock(T0_S), info=info, **config)
    if run.error is not None:
        raise run.error
    return run


def finals(run: Run) -> dict[int, Any]:
    """Final outputs by the sample that they describe."""
    return {event.start: event for event in run.of("posterior") if event.kind == "final"}


def test_each_sample_is_scored_as_by_one_call_of_the_network(bundle: Bundle) -> None:
    run = live(bundle, powers(), stamps())
    x = torch.from_numpy(bundle.chain().push(powers(), 0)[WARM_UP:].T.copy())[None]
    with torch.inference_mode():
        probs = torch.softmax(bundle.model(x, bundle.model.initial_state(1))[0], dim=-1)[0, LAG:, -1].numpy()
    got = {start: event.probs for start, event in finals(run).items() if event.valid}
    assert sorted(got) == list(range(WARM_UP, N - LAG))
    np.testing.assert_allclose(list(got.values()), probs, rtol=0, atol=1e-5)
    assert not run.of("gap")
    assert not any(event.late for event in run.of("posterior"))


def test_the_time_between_samples_is_no_stall_and_real_silence_is(bundle: Bundle) -> None:
    run = live(bundle, powers(), stamps())
    assert not run.of("notice")
    keep = np.r_[0:40, 44:N]
    (notice,) = live(bundle, powers()[keep], stamps()[keep]).of("notice")
    assert "stalled: no samples for 2 s" in notice.text
    assert notice.wall_s - stamps()[39] == pytest.approx(PERIOD_S + 2.0, abs=0.2)


def test_jitter_of_a_part_of_the_period_is_no_loss(bundle: Bundle) -> None:
    late_s = np.random.default_rng(1).uniform(0.0, 0.4, N)
    run = live(bundle, powers(), stamps() + late_s)
    assert run.summary is not None
    assert (run.summary.counters["gaps"], run.summary.counters["rate_faults"]) == (0, 0)
    assert sum(event.valid for event in finals(run).values()) == N - LAG - WARM_UP


def test_lost_samples_are_a_gap_of_as_many(bundle: Bundle) -> None:
    keep = np.r_[0:30, 32:N]
    run = live(bundle, powers()[keep], stamps()[keep])
    assert [(event.start, event.n_samples) for event in run.of("gap") if not event.open] == [(30, 2)]
    valid = [start for start, event in finals(run).items() if event.valid]
    assert valid == [*range(WARM_UP, 30 - LAG), *range(32, N - LAG)]


def test_a_sample_that_comes_twice_is_dropped_and_breaks_nothing(bundle: Bundle) -> None:
    twice = np.sort(np.r_[0:N, 29])
    run, once = live(bundle, powers()[twice], stamps()[twice]), live(bundle, powers(), stamps())
    assert run.summary is not None
    assert (run.summary.counters["duplicate_samples"], run.summary.counters["clock_jumps"]) == (1, 0)
    assert [e.probs for e in finals(run).values()] == [e.probs for e in finals(once).values()]


def test_a_wrong_rate_is_found(bundle: Bundle) -> None:
    run = live(bundle, powers(), stamps(1.06 * PERIOD_S))
    gap = run.of("gap")[0]
    assert gap.reason == "rate: stamps run at 0.236 Hz, the stream declares 0.25 Hz"
    assert not run.of("posterior")[-1].valid


def test_a_frozen_device_is_flat_after_two_samples(bundle: Bundle) -> None:
    data = powers()
    data[20:25] = data[20]
    run = live(bundle, data, stamps())
    (gap,) = [event for event in run.of("gap") if not event.open]
    assert (gap.start, gap.n_samples) == (21, 4)
    assert gap.reason.startswith("flat: ")


def test_the_normaliser_forgets_by_the_clock(bundle: Bundle) -> None:
    """`tau_s` is in seconds, of which a sample covers four."""
    x = np.concatenate([powers(900), 100.0 * powers(900)])
    y = bundle.chain().push(x, 0)
    # One time constant (3600 s) after a step by 2 decades, a running mean has gone 1 - 1/e of the way.
    offset = np.log10(x[-1]) - y[-1] * np.log10(x[900:]).std(axis=0)
    came = (offset - np.log10(x[:900]).mean(axis=0)) / 2.0
    assert 0.4 < came.mean() < 0.85


def test_seconds_of_a_slow_stream_have_no_scale(bundle: Bundle) -> None:
    spec = bundle.spec.model_copy(update={"preprocess": ({"kind": "normalise"},)})
    with pytest.raises(BundleError, match=r"at 0.25 Hz one holds no spread; choose statistic 'zscore'"):
        Bundle(spec, bundle.model, sha256="").chain()


def command(*words: str) -> str:
    """Run a command; return what it printed."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return str(result.output)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A file of band powers with labels."""
    path = tmp_path / "mouse.npz"
    state = np.random.default_rng(2).integers(1, 4, N).astype(np.int8)
    np.savez(path, bands=powers(), state=state, epoch_s=np.array(4))
    return path


def test_a_file_is_scored_as_the_stream_is(bundle: Bundle, recording: Path) -> None:
    score = score_file(recording, bundle)
    file = {p.start: p.probs for p in score.posteriors if p.valid and p.kind == "final"}
    stream = {start: tuple(event.probs) for start, event in finals(live(bundle, powers(), stamps())).items()}
    assert file == {start: pytest.approx(probs, abs=1e-6) for start, probs in stream.items() if start in file}
    assert len(file) == N - LAG - WARM_UP
    assert (len(score.hypnogram), score.hypnogram.epoch_s) == (N, PERIOD_S)


def test_the_commands_run_and_score_it(path: Path, recording: Path, tmp_path: Path) -> None:
    bundle = ("--bundle", str(path), "--look-ahead-s", "60")
    file = ("--source", "file", "--file", str(recording), "--speed", "0")
    command("run", *file, *bundle, "--record", str(tmp_path / "runs"))
    (run,) = (tmp_path / "runs").iterdir()
    command("score", str(run))
    agreement = command("score", str(recording), *bundle)
    assert "against the labels of the file: accuracy" in agreement
    scored = (run / f"{run.name}-hypnogram.csv", recording.parent / "mouse-hypnogram.csv")
    states = [[line.split(",")[3] for line in file.read_text().splitlines()[-N:]] for file in scored]
    assert states[0] == states[1]
    assert states[0].count("UNKNOWN") == WARM_UP
