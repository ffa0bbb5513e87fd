"""A recipe is trained and tested on folds, goes on where it stopped, and no test has a say in a choice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline.crossval import crossval_command
from offline.evaluate import training_subjects
from offline.evaluation_folder import read_evaluation
from offline.recipe import Recipe, load_recipe
from offline.scored import read_folder
from offline.scoring import Settings
from offline.sweep import choose, monitor_of, parse_sweep, table_of
from streamscore.bundle import load_bundle
from streamscore.errors import ConfigError, RecordingError, StreamscoreError
from tests.offline.toys import toy_recipe, write_toy

MICE = ("m0", "m1", "m2")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings of three mice in ``data`` and a recipe in ``toy.yaml``."""
    folder = tmp_path_factory.mktemp("toy")
    write_toy(folder / "data", len(MICE), n_epochs=60)
    toy_recipe(passes=2).write(folder / "toy.yaml")
    return folder


def cross_validate(toy: Path, out: Path, **options: Any) -> Path:
    asked = {"folds": "loo", "draws": 20, **options}
    return crossval_command(recipe=str(toy / "toy.yaml"), data=toy / "data", out=out, **asked)


@pytest.fixture(scope="module")
def array_job(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, int]]:
    """The second fold of leave-one-out alone, and when its files were written."""
    folder = tmp_path_factory.mktemp("done")
    cross_validate(toy, folder, only_fold=1)
    return folder, modified_ns(folder, "**/*.*")


@pytest.fixture(scope="module")
def done(toy: Path, array_job: tuple[Path, dict[Path, int]]) -> Path:
    """All of it."""
    return cross_validate(toy, array_job[0])


def modified_ns(folder: Path, pattern: str) -> dict[Path, int]:
    found = {path: path.stat().st_mtime_ns for path in sorted(folder.glob(pattern))}
    assert found
    return found


def test_folds_of_an_array_job_are_gathered(
    toy: Path, array_job: tuple[Path, dict[Path, int]], request: pytest.FixtureRequest
) -> None:
    folder, written_ns = array_job
    assert [path.parent.name for path in folder.glob("tests/*/*/result.json")] == ["01"]
    with pytest.raises(RecordingError, match="no finished evaluation"):
        read_evaluation(folder)
    done = request.getfixturevalue("done")
    assert len(read_folder(done)) == 3
    assert written_ns.items() <= modified_ns(done, "**/*.*").items()
    with pytest.raises(ConfigError, match=r"--only-fold 3: loo makes folds 0 to 2"):
        cross_validate(toy, done, only_fold=3)


def test_every_mouse_is_tested_by_weights_that_never_saw_it(done: Path) -> None:
    content = read_evaluation(done)
    assert [fold["test"] for fold in content["folds"]] == [["m0"], ["m1"], ["m2"]]
    assert content["in_sample"] is False
    assert tuple(content["subjects"]) == MICE
    for fold in content["folds"]:
        bundle = load_bundle(done / fold["training"] / "bundle.safetensors")
        assert bundle.sha256 == fold["bundle_sha256"]
        assert training_subjects(bundle) == (*fold["train"], *fold["validation"])
        assert not set(fold["test"]) & set(fold["train"] + fold["validation"])


def test_figures_of_folds_stand_beside_those_of_all(done: Path) -> None:
    content = read_evaluation(done)
    (way,) = content["results"]
    assert [fold["subjects"] for fold in way["folds"]] == [["m0"], ["m1"], ["m2"]]
    accuracy = [fold["accuracy"] for fold in way["folds"]]
    assert way["over_folds"]["accuracy"] == pytest.approx(
        {"mean": np.mean(accuracy), "sd": np.std(accuracy, ddof=1), "n": 3}
    )
    scored = read_folder(done)
    right = sum(int((one.truth == one.codes).sum()) for one in scored)
    assert way["pooled"]["accuracy"]["value"] == pytest.approx(right / sum(one.n_labelled for one in scored))
    assert len(list((done / "spectra").glob("*.npz"))) == 3


def test_what_is_done_is_not_done_again(toy: Path, done: Path) -> None:
    before = modified_ns(done, "folds/*/*") | modified_ns(done, "tests/*/*/*")
    figures = read_evaluation(done)["results"][0]["folds"]
    cross_validate(toy, done)
    assert modified_ns(done, "folds/*/*") | modified_ns(done, "tests/*/*/*") == before
    assert read_evaluation(done)["results"][0]["folds"] == figures


def test_another_way_of_testing_needs_no_training(toy: Path, done: Path) -> None:
    before = modified_ns(done, "folds/*/*")
    cross_validate(toy, done, settings=Settings(hop_s=2.0))
    assert modified_ns(done, "folds/*/*") == before
    assert read_evaluation(done)["results"][0]["hop_s"] == 2.0
    assert len(list((done / "tests").iterdir())) == 2


def test_another_recipe_is_refused_in_the_same_folder(toy: Path, done: Path) -> None:
    before = modified_ns(done, "**/*")
    with pytest.raises(
        ConfigError, match=r"begun with other arguments: recipe\.stages\.0\.passes was 2, is 3; choose"
    ):
        cross_validate(toy, done, change={"stages.0.passes": 3})
    assert modified_ns(done, "**/*") == before


def test_a_sweep_is_chosen_by_validation_mice(toy: Path, tmp_path: Path) -> None:
    split = {"folds": "m0/m1/m2", "sweep": ["stages.0.optimizer.lr=1.0e-9,0.02"], "change": {"stages.0.passes": 4}}
    cross_validate(toy, tmp_path, **split)
    table = json.loads((tmp_path / "sweep.json").read_text())
    assert table["chosen_by"] == "val_kappa of the validation subjects, in each fold"
    figures = [row["validation"][0] for row in table["settings"]]
    best = int(np.argmax(figures))
    assert [row["chosen_in_folds"] for row in table["settings"]] == [[0] if k == best else [] for k in range(2)]
    (fold,) = read_evaluation(tmp_path)["folds"]
    assert fold["setting"] == {"stages.0.optimizer.lr": [1e-9, 0.02][best]}
    assert fold["training"] == f"sweep/{table['settings'][best]['name']}/00"
    # The others were trained and never tested.
    assert len(list(tmp_path.glob("sweep/*/00/bundle.safetensors"))) == 2
    assert [path.name for path in tmp_path.glob("tests/*/*")] == ["00"]


def test_repeated_tests_of_a_mouse_all_count(toy: Path, tmp_path: Path) -> None:
    """As in the 20 pairs of the run/rest paper, here with the trainings of two folds that test the same mouse."""
    from offline.fold_jobs import score_fold
    from offline.gather import Options, gather

    folders, folds = [], []
    for number, (train, validation) in enumerate((("m0", "m1"), ("m1", "m0"))):
        split = {"train": [train], "validation": [validation], "test": ["m2"]}
        place = f"folds/{number:02d}"
        score_fold(
            tmp_path / f"tests/x/{number:02d}",
            recipe=toy_recipe(passes=1).model_dump(mode="json"),
            data=str(toy / "data"),
            kind="plain",
            split=split,
            training=f"../../../{place}",
        )
        folders.append(tmp_path / f"tests/x/{number:02d}")
        folds.append({"fold": number, "training": place, **split})
    about = {"folds": folds, "dataset": {"simulated": True}, "recipe": "toy"}
    content = gather(tmp_path, folders, about, Options(draws=0))
    assert [one.session for one in read_folder(tmp_path)] == ["m2.fold-00", "m2.fold-01"]
    assert content["results"][0]["recordings"] == 2
    assert content["results"][0]["over_folds"]["kappa"]["n"] == 2


def test_a_fold_that_cannot_be_trained_is_told_and_the_others_are_done(tmp_path: Path, toy: Path) -> None:
    data = write_toy(tmp_path / "data", 3, n_epochs=40)
    write_toy(tmp_path / "other", 1, n_epochs=40, states=(0,))
    for name in ("m0.npz", "m0.labels.csv"):
        (tmp_path / "other" / name).replace(data / name)
    split = "m0/m1/m2"
    with pytest.raises(StreamscoreError, match=r"1 of 1 jobs failed:\n  tests/.*/00: .*one state alone"):
        crossval_command(recipe=str(toy / "toy.yaml"), data=data, folds=split, out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("**/bundle.safetensors"))


def test_recordings_that_cannot_be_used_are_told_before_a_fold_is_trained(tmp_path: Path, toy: Path) -> None:
    data = shutil.copytree(toy / "data", tmp_path / "data")
    (data / "m1.npz").write_bytes(b"PK\3\4 and no more")
    labels = data / "m2.labels.csv"
    labels.write_text(labels.read_text() + "0,4,dreaming\n")
    message = r"(?s)2 of 3 recordings cannot be used, so no fold is trained.*m1\.npz.*m2\.labels\.csv.*dreaming"
    with pytest.raises(RecordingError, match=message) as raised:
        crossval_command(recipe=str(toy / "toy.yaml"), data=data, folds="loo", out=tmp_path / "out")
    assert raised.value.exit_code == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"bundle.sfreq": 64.0}, "m0.npz: has 32 Hz, but the recipe takes 64"),
        ({"bundle.channels": ["C3"]}, "channel 'C3'"),
    ],
)
def test_recordings_that_the_recipe_does_not_take_are_told_first(
    tmp_path: Path, toy: Path, field: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecordingError, match=told):
        cross_validate(toy, tmp_path / "out", change=field)


def recipes(toy: Path, *fields: dict[str, Any]) -> list[Recipe]:
    return [load_recipe(toy / "toy.yaml", one) for one in fields]


def test_sweeps_are_all_combinations() -> None:
    settings = parse_sweep(["stages.0.passes=2,4", "stages.0.optimizer.betas=[[0.9, 0.99], [0.8, 0.9]]"])
    assert [dict(setting.fields) for setting in settings] == [
        {"stages.0.passes": passes, "stages.0.optimizer.betas": betas}
        for passes in (2, 4)
        for betas in ([0.9, 0.99], [0.8, 0.9])
    ]
    assert settings[0].name == "stages.0.passes=2,stages.0.optimizer.betas=_0.9,_0.99_"


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["stages.0.passes"], "write FIELD=A,B"),
        (["stages.0.passes=2"], "write FIELD=A,B"),
        (["seed=1,1"], "different values"),
        (["=1,2"], "write FIELD=A,B"),
        (["seed=[1, 2"], "--sweep 'seed=\\[1, 2'"),
        (["seed=1,2", "seed=3,4"], "named twice"),
        (["title=a!,a?"], "same folder"),
    ],
)
def test_sweeps_that_make_no_sense_are_told(texts: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_sweep(texts)


def test_losses_of_different_kinds_choose_nothing(toy: Path) -> None:
    field = {"stages.0.monitor": "val_loss"}
    focal = {"stages.0.loss.kind": "focal", **field}
    assert monitor_of(recipes(toy, field, {"stages.0.passes": 5, **field})) == "val_loss"
    with pytest.raises(ConfigError, match=r"--set stages\.0\.monitor=val_kappa"):
        monitor_of(recipes(toy, field, focal))
    with pytest.raises(ConfigError, match="cannot be compared"):
        monitor_of(recipes(toy, field, {}))


def test_the_best_of_each_fold_is_chosen() -> None:
    figures = [[0.1, 0.9, float("nan")], [0.5, 0.9, 0.2]]
    assert choose(figures, "val_kappa") == [1, 0, 1]
    assert choose(figures, "val_loss") == [0, 0, 1]
    with pytest.raises(ConfigError, match="in fold 1 no setting has a val_kappa"):
        choose([[0.1, float("nan")]] * 2, "val_kappa")
    table = table_of(parse_sweep(["seed=1,2"]), [[0.1, 0.9], [0.5, 0.9]], [1, 0], "val_kappa")
    assert [row["chosen_in_folds"] for row in table["settings"]] == [[1], [0]]
    assert table["settings"][0]["mean"] == pytest.approx(0.5)
