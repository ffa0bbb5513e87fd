"""Band powers of a mouse: the recipe, the bundle that ships, and the boosters beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from offline import mouse_bands
from offline.datasets.base import open_dataset
from offline.evaluate import evaluate_bundle
from offline.folds import Split
from offline.mouse_bands import CONTEXTS, Context, boosted, features
from offline.recipe import load_recipe
from offline.scored import write_all
from offline.stages import Machine
from offline.train import train
from streamscore.bundle import find_bundle, load_bundle
from streamscore.errors import ConfigError
from streamscore.metrics import compare
from streamscore.recordings.base import Recording, read_recording

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "mouse_bands"
DOCS = Path(__file__).parents[2] / "docs"
N = 1800
CHEAP = {
    "stages.0.passes": 3,
    "stages.0.optimizer.lr": 0.03,
    "stages.0.optimizer.average": 0.0,
    "stages.0.examples.batch": 16,
    "stages.0.examples.steps": 32,
    "stages.0.examples.per_pass": 64,
    "bundle.model_args.n_hidden": 8,
    "bundle.preprocess.1.warm_up_s": 400.0,
}


def simulated(folder: Path, seed: int = 0) -> Path:
    """Two hours of a mouse whose states differ clearly, each told by four epochs or more in a row."""
    rng = np.random.default_rng(seed)
    state = np.repeat(rng.integers(0, 3, N // 4), rng.integers(4, 20, N // 4))[:N]
    centres = np.log([[150, 100, 40, 60, 45, 18000], [380, 120, 50, 60, 45, 6000], [90, 200, 40, 60, 45, 4400]])
    bands = np.exp(centres[state] + 0.6 * rng.standard_normal((N, 6))).astype(np.float32)
    np.savez(folder / "m1.npz", bands=bands, state=(state + 1).astype(np.int8), epoch_s=np.array(4))
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return read_recording(simulated(tmp_path) / "m1.npz")


def kappa(truth: np.ndarray, codes: np.ndarray) -> float:
    return compare(truth, codes, ("Wake", "NREM", "REM")).kappa


class TestRecipe:
    """What ``streamscore train mouse-bands`` does."""

    def test_one_set_of_weights_serves_every_look_ahead(self, tmp_path: Path) -> None:
        dataset = open_dataset(simulated(tmp_path))
        recipe = load_recipe("mouse-bands", CHEAP)
        split = Split(("m1@0-1h",), ("m1@1-1.5h",), ("m1@1.5-2h",))
        path = train(recipe, dataset, split, tmp_path / "run", machine=Machine("cpu"), quiet=True)
        bundle = load_bundle(path)
        scored = evaluate_bundle(bundle, dataset, split.test, (0.0, 60.0))
        assert [one.lag_s for one in scored] == [0.0, 60.0]
        for one in scored:
            assert kappa(one.truth, one.codes) > 0.5
        assert not np.array_equal(scored[0].codes, scored[1].codes)
        ends = bundle.at_look_ahead(0.0).model.state_dict(), bundle.at_look_ahead(60.0).model.state_dict()
        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])

    def test_another_amplifier_needs_only_its_own_constants(self) -> None:
        """The rig file's calibration moves the chain; nothing else has to be known of the amplifier."""
        x = np.exp(np.random.default_rng(0).standard_normal((2000, 6))).astype(np.float32)
        bundle = load_bundle("mouse-bands")
        offset = [value + np.log10(7.0) for value in bundle.spec.preprocess[1]["stored_offset"]]
        other = load_bundle("mouse-bands", {"normalise": {"stored_offset": offset}})
        np.testing.assert_allclose(other.chain().push(7.0 * x, 0), bundle.chain().push(x, 0), atol=1e-3)


class TestBoosters:
    """What stands beside it."""

    def test_features_are_the_epochs_around_in_order(self, recording: Recording) -> None:
        logs = np.log10(recording.data.astype(np.float64))
        x = features(recording, Context("", 2, 1))
        np.testing.assert_allclose(x[10], logs[8:12].ravel())
        assert np.isnan(x[1, :6]).all()
        np.testing.assert_allclose(x[1, 6:], logs[0:3].ravel())
        assert np.isnan(x[-1, -6:]).all()

    def test_a_stream_with_gaps_is_refused(self, recording: Recording) -> None:
        keep = np.delete(np.arange(N), 30)
        gappy = dataclasses.replace(recording, data=recording.data[keep], stamps_s=recording.stamps_s[keep])
        with pytest.raises(ConfigError, match="without gaps"):
            features(gappy, CONTEXTS[0])

    def test_it_learns_nothing_from_what_it_is_tested_on(self, recording: Recording, tmp_path: Path) -> None:
        bundle = load_bundle("mouse-bands")
        (beside,) = evaluate_bundle(bundle, open_dataset(tmp_path), ("m1@1-2h",), (0.0,))
        learnt = np.where(np.arange(N) < N // 2, recording.states, -1).astype(np.int8)
        one = boosted(recording, learnt, beside, Context("", 2, 2), 20)
        tested = beside.truth >= 0
        assert kappa(beside.truth, one.codes) > 0.8
        assert one.lag_s == 8.0
        changed = recording.data.copy()
        changed[N // 2 + 100 :] = changed[N // 2 + 100 :, ::-1]
        other = boosted(dataclasses.replace(recording, data=changed), learnt, beside, Context("", 2, 2), 20)
        np.testing.assert_array_equal(one.probs[: N // 2 + 98], other.probs[: N // 2 + 98])
        assert not np.array_equal(one.probs[tested], other.probs[tested])

    def test_the_command_puts_them_beside_an_evaluation(self, tmp_path: Path) -> None:
        dataset, shipped = open_dataset(simulated(tmp_path)), find_bundle("mouse-bands")
        scored = evaluate_bundle(load_bundle(shipped), dataset, ("m1@1-2h",), (0.0, 8.0))
        write_all(tmp_path / "eval" / "scored", scored)
        words = ["--data", str(tmp_path), "--evaluation", f"GRU={tmp_path / 'eval'}", "--bundle", str(shipped)]
        words += ["--test", "m1@1-2h", "--draws", "10", "--trees", "10", "--out", str(tmp_path / "out"), "--train"]
        result = CliRunner().invoke(app(), [*words, "m1@0-1h"])
        assert result.exit_code == 0, result.output
        content = json.loads((tmp_path / "out" / "figures.json").read_text())
        assert [row["lag_s"] for row in content["rows"]] == [0.0, 8.0, 0.0, 0.0, 60.0]
        assert content["rows"][2]["kappa_gain"]["value"] == 0.0
        assert content["rows"][4]["kappa"]["value"] > 0.6
        assert "| booster, the epoch alone | 0 | 0." in (tmp_path / "out" / "page.md").read_text()
        written = load_bundle(tmp_path / "out" / "mouse-bands.safetensors")
        assert written.spec.card == (tmp_path / "out" / "card.md").read_text()
        overlap = CliRunner().invoke(app(), [*words, "m1@0.5-1.5h"])
        assert isinstance(overlap.exception, ConfigError)


def app() -> typer.Typer:
    """The command, as ``python -m`` runs it."""
    application = typer.Typer()
    application.command()(mouse_bands.main)
    return application


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the recordings in {DATA}")
def test_the_bundle_that_ships_scores_the_last_hours_of_the_real_mouse() -> None:
    bundle = load_bundle("mouse-bands")
    (one,) = evaluate_bundle(bundle, open_dataset(DATA), ("bands@16-24h",), (8.0,))
    told = bundle.spec.provenance["held_out"]["kappa"]["8"]["value"]
    assert kappa(one.truth, one.codes) == pytest.approx(told, abs=2e-3)
    assert told > 0.9
    assert (one.codes[one.truth >= 0] >= 0).mean() > 0.99


def test_the_bundle_that_ships_comes_with_its_card() -> None:
    spec = load_bundle("mouse-bands").spec
    assert (DOCS / "models" / "mouse-bands.md").read_text(encoding="utf-8") == spec.card
    assert "medical use" in spec.card
    assert "It has seen one mouse" in " ".join(spec.card.split())
    for lag_s, kappa in spec.provenance["held_out"]["kappa"].items():
        assert f"| {lag_s} | {kappa['value']:.3f} (" in spec.card
        assert f"| {lag_s} | {kappa['value']:.3f} (" in (DOCS / "results-mouse-bands.md").read_text(
            encoding="utf-8"
        )
