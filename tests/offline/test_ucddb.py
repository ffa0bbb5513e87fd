"""UCDDB and the two human bundles that ship: fair comparisons, and cards that say what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline.datasets.base import Dataset, open_dataset
from offline.datasets.simulated import Plan, simulate
from offline.folds import train_all
from offline.recipe import load_recipe
from offline.scored import Scored
from offline.stages import Machine
from offline.train import train
from offline.ucddb_pages import confusion_table, five_table, pair_table, shown, subject_table
from offline.ucddb_results import TUNED_ON, beside_folds, kept, on_common_epochs, parse_night, questions, rows_of
from streamscore.bundle import DEFAULT_BUNDLE, load_bundle, shipped_bundles
from streamscore.errors import ConfigError
from streamscore.labels import AASM5

DOCS = Path(__file__).parents[2] / "docs"
BUNDLES = ("tinysleepnet-ucddb", "tinysleepnet-simulated")


def write_recordings(folder: Path, n_subjects: int = 3) -> Path:
    """Recordings in the layout of the UCDDB files, each stage a rhythm of its own; two epochs are missing."""
    rng, t_s = np.random.default_rng(0), np.arange(3840) / 128.0
    for k in range(n_subjects):
        epoch = np.delete(np.arange(24), [9, 10]).astype(np.int16)
        stage = rng.permutation(np.arange(24) % 5).astype(np.int8)
        x = 300.0 * np.sin(2.0 * np.pi * (2.0 + 5.0 * stage[epoch, None]) * t_s)
        x = (x + 300.0 * rng.standard_normal(x.shape)).astype(np.int16)
        path = folder / f"ucddb{k + 2:03d}.npz"
        np.savez(path, x=x, scale=0.1, epoch=epoch, stage_all=stage, fs=128, epoch_s=30)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_recordings(tmp_path_factory.mktemp("ucddb")))


def answered(asked: Scored, codes: Any) -> Scored:
    """Say `codes`, quite surely."""
    codes = np.asarray(codes, np.int8)
    probs = np.where(codes[:, None] == np.arange(5), 0.8, 0.05).astype(np.float32)
    probs[codes < 0] = np.nan
    return replace(asked, codes=codes, probs=probs)


class TestComparison:
    """What stands beside what."""

    def test_missing_epochs_and_other_hours_are_not_asked_about(self, dataset: Dataset) -> None:
        ((_, whole),) = questions(dataset, ["ucddb002"])
        assert np.flatnonzero(whole.truth < 0).tolist() == [9, 10]
        ((_, part),) = questions(dataset, ["ucddb002@0.1-h"])
        assert np.flatnonzero(part.truth >= 0).tolist() == list(range(12, 24))

    def test_baselines_learn_from_the_subjects_of_the_fold_alone(self, dataset: Dataset) -> None:
        fold = {"train": ["ucddb002", "ucddb003"], "test": ["ucddb004"]}
        (one,) = beside_folds(dataset, [fold], load_bundle(DEFAULT_BUNDLE), "logistic")
        assert one.subject == "ucddb004"
        known = one.codes >= 0
        assert known.sum() == 22
        assert (one.codes == one.truth)[known].mean() > 0.9

    def test_all_are_compared_on_the_epochs_that_all_have_scored(self, dataset: Dataset) -> None:
        ((_, asked),) = questions(dataset, ["ucddb003"])
        late = asked.truth.copy()
        late[:5] = -1
        ways = on_common_epochs({"all": [answered(asked, asked.truth)], "late": [answered(asked, late)]})
        assert [np.flatnonzero(way[0].truth >= 0).min() for way in ways.values()] == [5, 5]
        rows = rows_of(ways, 0)
        assert [row["kappa"]["value"] for row in rows] == [1.0, 1.0]
        assert {row["coverage"]["labelled_epochs"] for row in rows} == {17}

    def test_what_is_done_is_not_done_again(self, dataset: Dataset, tmp_path: Path) -> None:
        made = []

        def make() -> list[Scored]:
            made.append(1)
            return [answered(asked, asked.truth) for _, asked in questions(dataset, ["ucddb002"])]

        first, again = (kept(tmp_path / "ways" / "right", make) for _ in range(2))
        assert len(made) == 1
        np.testing.assert_array_equal(first[0].codes, again[0].codes)

        def fail() -> list[Scored]:
            raise ConfigError("no")

        with pytest.raises(ConfigError):
            kept(tmp_path / "ways" / "wrong", fail)
        assert [path.name for path in (tmp_path / "ways").iterdir()] == ["right"]

    def test_a_night_needs_a_name(self) -> None:
        assert parse_night("as shipped=runs/night") == ("as shipped", Path("runs/night"))
        with pytest.raises(ConfigError, match="write NAME=FOLDER"):
            parse_night("runs/night")


def test_tables_tell_the_figures(dataset: Dataset) -> None:
    ways = {
        name: [answered(asked, np.where(asked.truth < 0, -1, code)) for (_, asked) in questions(dataset, names)]
        for name, code, names in (("never N3", 0, ["ucddb002", "ucddb003"]),)
    }
    ways["right"] = [answered(one, one.truth) for one in ways["never N3"]]
    rows = rows_of(on_common_epochs(ways), 20)
    folds = {
        "rows": rows,
        "untuned": {row["name"]: row["pair"]["auc"] for row in rows},
        "folds": [{"test": ["ucddb002"]}, {"test": ["ucddb003"]}],
    }
    pair = pair_table(folds).splitlines()
    assert pair[0] == "| Wake against N3, held-out subjects | never N3 | right |"
    assert pair[2] == "| AUC, all held-out epochs pooled | 0.5000 (0.5000–0.5000) | 1.0000 (1.0000–1.0000) |"
    n = [rows[0]["subjects"][0]["epochs"][k] for k in (0, 1)]
    assert f"| ucddb002 · | 1 | {n[0]} | {n[1]} | 0.5000 | 1.0000 |" in subject_table(folds, TUNED_ON)
    assert five_table(rows, AASM5).splitlines()[3].startswith("| right | 1.000")
    n3 = sum(rows[0]["confusion"][3])
    assert f"| N3 | {n3} | 0 | 0 | 0 | 0 |" in confusion_table(rows[0], AASM5, ["N3"])
    assert shown({"value": None, "low": None, "high": None}) == "–"


@pytest.mark.parametrize("name", BUNDLES)
def test_shipped_bundles_come_with_their_card(name: str) -> None:
    assert name in shipped_bundles()
    spec = load_bundle(name).spec
    assert spec.name == name
    assert (DOCS / "models" / f"{name}.md").read_text(encoding="utf-8") == spec.card
    assert "medical use" in spec.card


@pytest.mark.parametrize("name", BUNDLES)
def test_a_recipe_trains_what_ships(name: str) -> None:
    section, spec = load_recipe(name).bundle, load_bundle(name).spec
    assert section is not None
    for field in ("name", "model", "preprocess", "vocabulary", "sfreq", "channels", "unit", "hop_s"):
        assert getattr(section, field) == getattr(spec, field), field
    assert {key: spec.model_args[key] for key in section.model_args} == section.model_args


def test_the_recipe_of_simulated_sleep_runs_on_what_the_command_simulates(tmp_path: Path) -> None:
    list(simulate("human", tmp_path / "sim", Plan(n_subjects=2, hours=0.2, seed=10_000, cycle_s=300.0)))
    small = {"stages.0.passes": 1, "bundle.model_args.n_filters": 4, "bundle.model_args.n_hidden": 4}
    recipe = load_recipe("tinysleepnet-simulated", small)
    dataset = open_dataset(tmp_path / "sim")
    split = train_all(dataset.subjects)
    path = train(recipe, dataset, split, tmp_path / "run", machine=Machine("cpu"), quiet=True)
    assert load_bundle(path).spec.channels == ("EEG", "EOG", "EMG")


def test_default_card_states_its_figures_and_limits() -> None:
    spec = load_bundle(DEFAULT_BUNDLE).spec
    page = (DOCS / "results-ucddb.md").read_text(encoding="utf-8")
    held_out = spec.provenance["held_out"]
    assert len(held_out) == 3  # the network and two baselines
    for way in held_out.values():
        for text in (spec.card, page):
            assert shown(way["auc"], 4) in text
        assert len({row["subject"] for row in way["subjects"]}) == len(way["subjects"]) == 17
    for name, kappa in spec.provenance["within_018_kappa"].items():
        for text in (spec.card, page):
            assert f"| {name} | {shown(kappa)} |" in text
    assert held_out["TinySleepNet"]["auc"]["value"] >= 0.99
    for words in ("018 alone", "in-sample", "PhysioNet", "it only tells Wake from N3"):
        assert words in " ".join(spec.card.split())
    subjects = spec.provenance["subjects"]
    assert not set(subjects["train"]) & set(subjects["validation"])
    assert len(subjects["train"]) + len(subjects["validation"]) == 17


def test_simulated_card_states_its_figures() -> None:
    spec = load_bundle("tinysleepnet-simulated").spec
    for row in spec.provenance["test"]:
        assert f"{row['kappa']:.3f}" in spec.card
        assert row["kappa"] > 0.8
    assert "simulated signals only" in spec.card
