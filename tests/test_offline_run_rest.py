"""Run/rest from parcels: labels, training, and that what is tested was not taught and is scored by the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offline import run_rest
from offline.parcels import Parcels, codes_of, read
from offline.roi_training import Recipe, fit
from offline.run_rest_report import report
from streamscore.errors import RecordingError
from streamscore.models.roi_rnn import Config
from streamscore.types import FloatArray

DATA = Path(__file__).parents[2] / "shared" / "data" / "wfci_roi_run_rest" / "parcels_10hz.npz"
SFREQ = 10.0
SMALL = run_rest.Kind(Config(variant="causal", n_hidden=8), Recipe(steps=30, batch=16, sequence_s=2.0, lr=1e-2))


def mouse(n: int = 600, seed: int = 0) -> Parcels:
    """Four parcels, two of which follow the running, which comes every 15 s."""
    rng = np.random.default_rng(seed)
    t_s = 300.0 + np.arange(n) / SFREQ
    runs = (t_s % 15.0) > 10.0
    wheel = 0.05 * rng.standard_normal(n) + 2.0 * runs
    dff = rng.standard_normal((n, 4)) * 0.01 + 0.02 * runs[:, None] * np.array([1, 1, 0, 0])
    return Parcels("mouse", dff.astype(np.float32), t_s, codes_of(wheel, SFREQ), SFREQ)


def save(path: Path, **changes: Any) -> Path:
    """A file as the recordings are, with `changes`; None leaves a key out."""
    data = mouse()
    arrays = {"dff": data.dff, "t": data.t_s, "wheel": np.zeros(len(data.t_s)), "fs": 10, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_labels_come_from_a_second_of_deviation() -> None:
    wheel = np.full(400, -0.2)
    wheel[100:200] += 1.0
    wheel[200:250] -= 1.0  # backwards is movement too
    wheel[300:400:5] += 1.5  # a fifth of 1.5 is neither
    codes = codes_of(wheel, SFREQ)
    assert (codes[110:240] == 1).all()
    assert (codes[:90] == 0).all()
    assert (codes[260:290] == 0).all()
    assert (codes[310:390] == -1).all()
    # The second around the edge holds five moving frames, and the label asks for more than half.
    assert codes[99] == -1
    assert codes[102] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wheel": None}, "lacks wheel"),
        ({"t": np.zeros(3)}, r"t \(3,\)"),
        ({"dff": np.zeros(600)}, r"dff is \(600,\)"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read(save(tmp_path / "f.npz", **changes))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        read(tmp_path / "f.npz")


def test_training_learns_and_repeats() -> None:
    data = mouse()
    x = (data.dff / 0.01).astype(np.float32)
    config = SMALL.for_file(data).config
    model, again = (fit([(x, data.codes)], config, Recipe(steps=4, batch=16, sequence_s=2.0), 0) for _ in range(2))
    for first, second in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second)
    other = mouse(seed=1)
    probs = run_rest.scored(run_rest.train([data], SMALL, 0), other)
    assert run_rest.figures(other.codes, probs, SFREQ, 0.5)["auc"] > 0.9


def test_parts_too_short_teach_nothing() -> None:
    data = mouse()
    x = (data.dff / 0.01).astype(np.float32)
    config = SMALL.for_file(data).config
    recipe = Recipe(steps=3, batch=16, sequence_s=2.0)
    whole = fit([(x, data.codes)], config, recipe, 0)
    with_short = fit(
        [(np.full((19, 4), 1e3, np.float32), np.ones(19, np.int8)), (x, data.codes)], config, recipe, 0
    )
    assert torch.equal(whole.head.weight, with_short.head.weight)
    with pytest.raises(ValueError, match="0 frames of running"):
        fit([(x, np.zeros(len(x), np.int8))], config, recipe, 0)


@pytest.mark.parametrize("kind", [SMALL, run_rest.Kind(Config(half_window_frames=3), Recipe(steps=2), 6.0)])
def test_the_engine_scores_what_one_call_of_the_network_says(kind: run_rest.Kind) -> None:
    data = mouse(200)
    bundle = run_rest.train([data], kind, 0)
    probs = run_rest.scored(bundle, data)
    lag = bundle.model.timing.look_ahead_samples
    chain = bundle.chain()
    x = torch.from_numpy(chain.push(data.dff, 0)[chain.warm_up_samples :]).T[None]
    with torch.inference_mode():
        logits, _ = bundle.model(x, bundle.model.initial_state(1))
    # What a window of the network lacks at its start is unknown, and so is the end, whose future has not come.
    first = bundle.model.timing.warm_up_samples - 1
    expected = torch.softmax(logits[0, first:, -1], dim=-1)[:, 1].numpy()
    at = chain.warm_up_samples + first - lag
    np.testing.assert_allclose(probs[at : len(probs) - lag], expected, atol=1e-5)
    assert np.isnan(probs[:at]).all()
    assert np.isnan(probs[len(probs) - lag :]).all()


def test_normalisation_is_of_what_is_trained_on() -> None:
    data = mouse()
    (step,) = run_rest.train([data.part(0, 300)], SMALL, 0).spec.preprocess
    np.testing.assert_allclose(step["stored_offset"], data.dff[:300].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(step["stored_scale"], data.dff[:300].std(axis=0), rtol=1e-4)


def test_no_block_is_tested_by_what_was_taught_with_it() -> None:
    data = mouse()
    taught: list[np.ndarray[Any, Any]] = []

    def method(parts: Sequence[Parcels], test: Parcels) -> FloatArray:
        taught.append(np.concatenate([part.t_s for part in parts]))
        return np.zeros(len(test.codes), np.float32)

    result = run_rest.compare(data, (method, 0.5), 4)
    guard_s = run_rest.GUARD_S - 1e-6
    half, *blocks = taught
    assert data.t_s[300 + 30] - half.max() > guard_s
    for times, block in zip(blocks, np.array_split(data.t_s, 4), strict=True):
        outside = np.concatenate([block[0] - times[times < block[0]], times[times > block[-1]] - block[-1]])
        assert len(outside) == len(times)
        assert outside.min() > guard_s
        assert len(times) >= 600 - 150 - 60
    assert result["blocks"]["auc"] == 0.5


def test_figures_of_a_perfect_and_a_useless_scorer() -> None:
    codes = mouse().codes
    perfect = run_rest.figures(codes, codes.astype(np.float32), SFREQ, 0.5)
    assert perfect["auc"] == perfect["kappa"] == perfect["scored"] == 1.0
    assert perfect["interval"] == [1.0, 1.0]
    late = np.where(np.arange(600) < 300, np.nan, 0.0).astype(np.float32)
    useless = run_rest.figures(codes, late, SFREQ, 0.5)
    assert useless["auc"] == 0.5
    assert useless["scored"] == pytest.approx(0.5, abs=0.05)
    assert useless["confusion"][1][1] == 0


def test_trailing_mean_shrinks_at_the_start() -> None:
    x = np.arange(12, dtype=np.float32)[:, None]
    mean = run_rest.trailing_mean(x, 5)[:, 0]
    assert mean[:3].tolist() == [0.0, 0.5, 1.0]
    assert mean[5:].tolist() == [float(k - 2) for k in range(5, 12)]


def test_command_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mouse()
    paths = [save(tmp_path / f"{name}.npz", wheel=2.0 * (data.t_s % 15.0 > 10.0)) for name in ("first", "later")]
    monkeypatch.setattr(run_rest, "KINDS", {"causal": run_rest.Kind(SMALL.config, Recipe(steps=2))})
    monkeypatch.setattr(run_rest, "N_REDRAWN", 20)
    run_rest.main(paths[0], tmp_path, [paths[1]], folds=2, seed=0, threads=1)
    page = (tmp_path / "roi-gru-run-rest.md").read_text(encoding="utf-8")
    assert "`later`" in page
    assert "not shipped" in page
    assert page.count("| causal |") == 3
    assert page.count("| logistic regression |") == 3
    assert (tmp_path / "roi-gru-run-rest.safetensors").is_file()
    assert (tmp_path / "roi-gru-run-rest.json").is_file()


@pytest.mark.skipif(not DATA.is_file(), reason=f"the run/rest recording is not at {DATA}")
def test_real_recording() -> None:
    """Trained on the first half, a network of few steps tells the second half's running."""
    data = read(DATA)
    assert [int((data.codes == code).sum()) for code in (0, 1)] == [1960, 265]
    first, second = data.part(0, 1200), data.part(1230, 2400)
    line = run_rest.figures(second.codes, run_rest.baseline([first], second), SFREQ, 0.0)
    assert line["auc"] > 0.98
    kind = run_rest.Kind(Config(variant="causal"), Recipe(steps=40))
    probs = run_rest.scored(run_rest.train([first], kind, 0), second)
    assert run_rest.figures(second.codes, probs, SFREQ, 0.5)["auc"] > 0.9


def test_report_says_where_nothing_was_kept_aside() -> None:
    figures = run_rest.figures(mouse().codes, mouse().codes.astype(np.float32), SFREQ, 0.5)
    run = {"command": "c", "date": "d", "git_commit": "g", "machine": "m", "versions": {}, "wall_s": 1, "cpu_s": 1}
    rows = {"a": {"half": figures, "blocks": figures}}
    page = report({"run": run, "within": rows, "further": [], "file": mouse().describe(), "folds": 6}, "b", "a")
    assert "`--test FILE`" in page
    assert "| a | 1.0000 | 1.000–1.000 | 1.000 | 1.000 | 1.000 | 100.0 % |" in page
