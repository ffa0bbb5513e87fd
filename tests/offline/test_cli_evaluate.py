"""``streamscore evaluate`` from files to a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from offline.evaluation_folder import read_evaluation, write_evaluation
from offline.scored import read_folder
from streamscore import cli_evaluate
from streamscore.bundle import Spec, save_bundle
from streamscore.errors import BundleError, ConfigError, RecordError, RecordingError
from streamscore.labels import MOUSE3
from streamscore.models.roi_rnn import Config, build
from tests.offline.scores import night, scored, with_errors

SFREQ = 0.25
N_EPOCHS = 250
MICE = ("m1", "m2", "m3", "m4")
ARGUMENTS = {
    "variant": "lookahead",
    "direction": "bi",
    "n_channels": 3,
    "n_hidden": 4,
    "n_classes": 3,
    "sfreq": SFREQ,
    "look_ahead_s": 8.0,
    "max_look_ahead_s": 16.0,
}

app = typer.Typer()
app.command()(cli_evaluate.evaluate)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four mice, three powers each, of which one is high in each state."""
    folder = tmp_path_factory.mktemp("mice")
    for k, mouse in enumerate(MICE):
        truth = night(k, N_EPOCHS)
        rng = np.random.default_rng(k)
        powers = 10.0 ** (2.0 * np.eye(3)[with_errors(truth, 0.1, k)] + 0.2 * rng.standard_normal((N_EPOCHS, 3)))
        np.savez(
            folder / f"{mouse}_day.npz",
            data=powers.astype(np.float32),
            sfreq=SFREQ,
            channels=["delta", "theta", "emg"],
            states=truth,
            epoch_s=4.0,
            labels="MOUSE3",
        )
    described = {"kind": "plain", "vocabulary": "MOUSE3", "simulated": True}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network with look-ahead that says it was trained on m4."""
    torch.manual_seed(2)
    model = build(Config(**ARGUMENTS))
    path = tmp_path_factory.mktemp("bundle") / "ahead.safetensors"
    spec = Spec(
        name="ahead",
        model="roi_rnn",
        model_args=ARGUMENTS,
        preprocess=({"kind": "log"},),
        vocabulary="MOUSE3",
        sfreq=SFREQ,
        channels=("delta", "theta", "emg"),
        hop_s=None,
        provenance={"subjects": {"train": ["m4"], "validation": []}},
    )
    save_bundle(path, spec, model)
    return path


def run(*arguments: object) -> str:
    """What the command prints; its errors are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_bundle_at_several_look_aheads_beside_a_baseline(data: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    arguments = (bundle, "--data", data, "--subjects", "m1,m2", "--look-ahead", "0,8,16", "--draws", 50)
    shown = run(*arguments, "--baseline", "auto", "--pair", "Wake,REM", "--out", out)
    told = read_evaluation(out)
    assert told["bundle"]["name"] == "ahead"
    assert (told["subjects"], told["in_sample"], told["dataset"]["simulated"]) == (["m1", "m2"], False, True)
    assert told["run"]["command"].startswith("streamscore ")
    ways = told["results"]
    assert [(way["kind"], way["lag_s"]) for way in ways] == [
        ("final", 0.0),
        ("final", 8.0),
        ("final", 16.0),
        ("baseline", 0.0),
    ]
    assert [row["look_ahead_s"] for row in told["look_ahead_curve"]] == [0.0, 8.0, 16.0]
    assert told["look_ahead_curve"][0]["kappa_gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert all(row["compute"]["p50_ms"] > 0 for row in told["look_ahead_curve"])
    # A tenth of the epochs look like another state, which is all that a booster could get wrong.
    assert ways[3]["pooled"]["accuracy"]["value"] == pytest.approx(0.9, abs=0.04)
    assert ways[3]["trained_on"] == ["m3", "m4"]
    assert ways[3]["name"] == "gradient boosting on the values themselves of single epochs"
    files = read_folder(out)
    assert {(one.session, one.kind, one.lag_s) for one in files} == {
        (f"{mouse}_day", kind, lag_s)
        for mouse in ("m1", "m2")
        for kind, lag_s in (("final", 0.0), ("final", 8.0), ("final", 16.0), ("baseline", 0.0))
    }
    assert not list(out.glob("spectra/*"))  # an epoch is one sample
    assert (out / "look-ahead.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "look-ahead.svg").stat().st_size > 1000
    for words in ("look-ahead 16 s", "baseline: gradient boosting", "SIMULATED", "Wake/REM", "wrote"):
        assert words in shown


def test_recordings_that_are_left_out_are_counted_and_named(data: Path, bundle: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(data, tmp_path / "mixed")
    (mixed / "m1_day.npz").write_bytes(b"PK\3\4 and no more")
    shown = run(bundle, "-d", mixed, "--subjects", "m1,m2", "--draws", 10, "-o", tmp_path / "out")
    told = read_evaluation(tmp_path / "out")
    assert (told["subjects"], told["recordings"]) == (["m2"], 1)
    (one,) = told["left_out"]
    assert (one["subject"], one["session"]) == ("m1", "m1_day")
    assert "m1_day.npz" in one["reason"]
    _, _, end = shown.partition("recordings left out: 1")
    assert "m1_day.npz" in end
    assert "ahead on m2 of" in shown


def test_the_same_command_twice_gives_the_same_figures_and_leaves_nothing_old(
    data: Path, bundle: Path, tmp_path: Path
) -> None:
    def figures(*more: object) -> Any:
        run(bundle, "-d", data, "--draws", 20, "--seed", 3, "-o", tmp_path, *more)
        content = read_evaluation(tmp_path)["results"]
        for way in content:
            for name in ("compute", "compute_s"):
                way.pop(name, None)
            for part in (way["pooled"], *way["subjects"]):
                del part["compute_s"]
        return content

    first = figures("--subjects", "m1,m2")
    assert figures("--subjects", "m1,m2") == first
    figures("--subjects", "m3")
    assert [path.name for path in (tmp_path / "scored").iterdir()] == ["m3_day@8.npz"]


def test_subjects_that_were_trained_on_must_be_allowed(data: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="was trained on m4"):
        run(bundle, "-d", data, "-o", tmp_path)
    assert not list(tmp_path.iterdir())
    shown = run(bundle, "-d", data, "-o", tmp_path, "--allow-training-subjects", "--draws", 10)
    assert "IN SAMPLE (trained on m4)" in shown
    assert read_evaluation(tmp_path)["in_sample"] is True


def test_other_hours_of_an_animal_that_was_learnt_from_are_marked(data: Path, tmp_path: Path) -> None:
    taught = {"subjects": {"train": ["m4@0-0.1h"], "validation": []}}
    path = tmp_path / "taught.safetensors"
    fields = {"name": "taught", "model": "roi_rnn", "model_args": ARGUMENTS, "preprocess": ({"kind": "log"},)}
    more = {"vocabulary": "MOUSE3", "sfreq": SFREQ, "channels": ("delta", "theta", "emg"), "hop_s": None}
    save_bundle(path, Spec(**fields, **more, provenance=taught), build(Config(**ARGUMENTS)))
    shown = run(path, "-d", data, "--subjects", "m1,m4@0.1-h", "--draws", 10, "-o", tmp_path / "out")
    told = read_evaluation(tmp_path / "out")
    assert (told["in_sample"], told["known_animals"]) == (False, ["m4@0.1-h"])
    assert "OF ANIMALS IT LEARNT FROM, at other hours (m4@0.1-h)" in shown


def test_hours_of_one_animal_beside_a_baseline_of_others(data: Path, bundle: Path, tmp_path: Path) -> None:
    common = (bundle, "-d", data, "-o", tmp_path, "--draws", 10, "--baseline", "logistic")
    run(*common, "--subjects", "m1@0.1-h", "--baseline-subjects", "m1@0-0.1h")
    told = read_evaluation(tmp_path)
    assert told["subjects"] == ["m1@0.1-h"]
    assert told["results"][1]["pooled"]["coverage"]["labelled_epochs"] == N_EPOCHS - 90
    with pytest.raises(ConfigError, match=r"m1@0-0\.2h .*share recordings"):
        run(*common, "--subjects", "m1@0.1-h", "--baseline-subjects", "m1@0-0.2h")
    with pytest.raises(ConfigError, match=r"none is left to learn from.*m1@0-16h"):
        run(*common, "--allow-training-subjects")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--look-ahead", "0,x"), "write seconds from 0 on"),
        (("--look-ahead", "-1"), "write seconds from 0 on"),
        (("--pair", "Wake"), "write two states"),
        (("--cluster", "auto"), "say which with --folds"),
        (("--folds", "3", "--subjects", "m1"), "folds say who is tested"),
        (("--channel", "delta"), "write INPUT=LABEL"),
        (("--folds", "3", "--set", "nonsense"), "--set 'nonsense': write FIELD=VALUE"),
        (("--folds", "3", "--sweep", "=1,2"), "--sweep '=1,2': write FIELD=VALUE"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    data: Path, bundle: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(bundle, "-d", data, *arguments)


def test_folds_without_the_training_extra_and_wrong_options_are_told_before_anything_heavy(data: Path) -> None:
    hide = "import sys; sys.modules.update(dict.fromkeys(('lightning', 'torch', 'offline')))"
    ask = (
        "import typer; from streamscore import cli_evaluate as c; a = typer.Typer(); a.command()(c.evaluate); a()"
    )
    told = {}
    for more in ((), ("--set", "nonsense")):
        command = [sys.executable, "-c", f"{hide}; {ask}", "tinysleepnet", "-d", str(data), "--folds", "2", *more]
        told[more] = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "400"}
        ).stderr
    assert 'this command needs lightning: pip install "streamscore[train]"' in told[()]
    assert "--set 'nonsense': write FIELD=VALUE" in told["--set", "nonsense"]


def test_errors_of_a_bundle_and_of_a_policy_come_before_scoring(data: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"look_ahead_s 20 .* max_look_ahead_s 16"):
        run(bundle, "-d", data, "--subjects", "m1", "--look-ahead", "0,20", "-o", tmp_path)
    rig = tmp_path / "rig.yaml"
    rig.write_text("source: {kind: lsl, name: amp}\n")
    with pytest.raises(ConfigError, match=r"rig\.yaml: has no policy section"):
        run(bundle, "-d", data, "--subjects", "m1", "--policy", rig)
    rig.write_text("source: {kind: lsl, name: amp}\npolicy: {kind: dwell, states: [REM], max_age_s: 2}\n")
    with pytest.raises(ConfigError, match="refuses outputs older than max_age_s 2"):
        run(bundle, "-d", data, "--subjects", "m1", "--policy", rig)
    with pytest.raises(ConfigError, match="is a recipe, which has no weights: add --folds"):
        run("tinysleepnet", "-d", data)


def test_a_policy_of_a_rig_file_is_replayed(data: Path, bundle: Path, tmp_path: Path) -> None:
    rig = tmp_path / "rig.yaml"
    policy = "{kind: dwell, states: [REM, NREM], probability: 0, dwell_s: 0, refractory_s: 100, max_age_s: 10}"
    rig.write_text(f"source: {{kind: lsl, name: amp}}\npolicy: {policy}\n")
    shown = run(bundle, "-d", data, "--subjects", "m1", "--policy", rig, "-o", tmp_path / "out", "--draws", 10)
    found = read_evaluation(tmp_path / "out")["results"][0]["pooled"]["triggers"]
    # Any probability will do: on every 100 s from the first output on, 1000 s long.
    assert found["true"] + found["false"] == 10
    assert "policy on NREM/REM" in shown


def test_the_curve_needs_the_same_recordings_everywhere() -> None:
    from offline.look_ahead_curve import curve_of

    ways = [[scored([0, 1], lag_s=lag_s, session=f"m1_{lag_s:g}")] for lag_s in (0.0, 4.0)]
    with pytest.raises(ConfigError, match="different recordings"):
        curve_of(ways, [{}, {}])


def test_what_waiting_buys_has_an_interval_of_its_own() -> None:
    from offline.look_ahead_curve import curve_of

    truths = [night(k, 300) for k in range(4)]
    ways = [
        [
            scored(truth, with_errors(truth, share, k), subject=f"m{k}", session=f"m{k}", lag_s=lag_s)
            for k, truth in enumerate(truths)
        ]
        for lag_s, share in ((8.0, 0.05), (0.0, 0.2))
    ]
    rows = curve_of(ways, [{"p50_ms": 2.0}, {"p50_ms": 1.0}], n_draws=200)
    assert [row["look_ahead_s"] for row in rows] == [0.0, 8.0]
    assert [row["compute"]["p50_ms"] for row in rows] == [1.0, 2.0]
    gain = rows[1]["kappa_gain"]
    assert gain["value"] == pytest.approx(rows[1]["kappa"]["value"] - rows[0]["kappa"]["value"])
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert rows[1]["onset_delay_s"]["value"] >= 8.0 + 4.0


def test_folders_that_are_no_evaluations_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"has no evaluation\.json"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RecordingError, match="cannot be read"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"format": "other"}')
    with pytest.raises(RecordingError, match="is not a streamscore-evaluation of version 1"):
        read_evaluation(tmp_path)


def test_a_folder_that_was_not_finished_is_no_evaluation(tmp_path: Path) -> None:
    group = [scored(night(0, 30)), scored(night(0, 30), lag_s=4.0)]
    write_evaluation(tmp_path, group, {"bundle": {"score": float("nan")}})
    assert read_evaluation(tmp_path)["bundle"]["score"] is None
    assert read_evaluation(tmp_path)["labels"] == list(MOUSE3)
    with pytest.raises(RecordError, match="two recordings"):
        write_evaluation(tmp_path, [group[0], group[0]], {})
    with pytest.raises(RecordingError, match="no finished evaluation"):
        read_evaluation(tmp_path)
