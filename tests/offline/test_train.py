"""A training from recipe to bundle: what it keeps, what it refuses, and that stopping it changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from offline import stages
from offline import train as train_module
from offline.datasets.base import Dataset, open_dataset
from offline.evaluate import training_subjects
from offline.folds import Split
from offline.stages import Machine
from offline.train import train
from streamscore.bundle import load_bundle
from streamscore.errors import BundleMismatchError, ConfigError, RecordError, StreamscoreError
from streamscore.models.base import ScoringModel
from streamscore.score import score_recording
from tests.offline.toys import EPOCH_S, toy_recipe, write_toy

CPU = Machine(device="cpu")
#: With all that draws or remembers: dropout, running statistics, averaged weights, altered examples.
RESTLESS = toy_recipe(
    {"dropout": 0.3, "norm": "batch"},
    passes=4,
    examples={"kind": "windows", "steps": 6, "stride": 0, "balance": "draw", "batch": 4},
    augment={"gain": 0.1, "noise": 1.0},
    optimizer={"kind": "adam", "lr": 0.01, "schedule": "cosine", "average": 0.9},
)
SPLIT = Split(train=("m0", "m1", "m2"), validation=("m3",), test=(), final=True)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_toy(tmp_path_factory.mktemp("toys")))


@pytest.fixture(scope="module")
def run(toys: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was never interrupted."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole") / "run"
    train(toy_recipe(), toys, SPLIT, out, machine=CPU, quiet=True)
    return out


def test_a_bundle_comes_out_that_scores_an_animal_it_never_saw(run: Path, tmp_path: Path) -> None:
    bundle = load_bundle(run / "bundle.safetensors")
    other = open_dataset(write_toy(tmp_path / "other", n_subjects=1, seed=5))
    recording = other.read(other.entries[0])
    scored = score_recording(recording, bundle)
    same = scored.hypnogram.codes[: len(recording.states)] == recording.states
    assert same.mean() > 0.8
    assert bundle.spec.provenance["subjects"] == {"train": ["m0", "m1", "m2"], "validation": ["m3"]}
    assert bundle.spec.model_args["n_classes"] == 3
    for text in ("m0, m1, m2", "κ", "never saw"):
        assert text in bundle.spec.card


def test_the_best_pass_is_kept(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "checkpoints/train/passes.jsonl").read_text().splitlines()]
    figures = json.loads((run / "checkpoints/train/figures.json").read_text())
    assert [row["pass"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert figures["val_kappa"] == max(row["val_kappa"] for row in rows)
    assert figures["val_kappa"] == rows[figures["pass"] - 1]["val_kappa"]


def test_a_run_that_is_done_is_not_done_again(run: Path, toys: Dataset) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    train(toy_recipe(), toys, SPLIT, run, machine=CPU, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_a_killed_training_goes_on_as_if_nothing_had_happened(toys: Dataset, tmp_path: Path) -> None:
    """The process dies by SIGKILL in the middle of a pass."""
    out = tmp_path / "run"
    program = f"""
import os, signal, torch
from pathlib import Path
from offline.datasets.base import open_dataset
from offline.learner import Learner
from tests.offline.test_train import CPU, RESTLESS, SPLIT
from offline.train import train
torch.set_num_threads(1)
step = Learner.training_step
def dying(self, batch, index):
    if (self.current_epoch, index) == (2, 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)
Learner.training_step = dying
train(RESTLESS, open_dataset(Path({str(toys.folder)!r})), SPLIT, Path({str(out)!r}), machine=CPU, quiet=True)
"""
    died = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not (out / "bundle.safetensors").exists()
    torch.set_num_threads(1)
    for folder in (out, tmp_path / "whole"):
        train(RESTLESS, toys, SPLIT, folder, machine=CPU, quiet=True)
    whole, resumed = (
        load_file(folder / "checkpoints/train/weights.safetensors") for folder in (tmp_path / "whole", out)
    )
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_processes_that_prepare_batches_change_nothing(toys: Dataset, tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        out = tmp_path / f"run{workers}"
        recipe = RESTLESS.model_copy(update={"stages": (RESTLESS.stages[0].model_copy(update={"passes": 1}),)})
        train(recipe, toys, SPLIT, out, machine=Machine("cpu", workers=workers), quiet=True)
        found.append(load_file(out / "checkpoints/train/weights.safetensors"))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_two_devices_share_each_batch(toys: Dataset, tmp_path: Path) -> None:
    """Two processes side by side, as two GPUs would be, give the weights of one."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys
from pathlib import Path
import torch
from offline.datasets.base import open_dataset
from offline.stages import Machine
from offline.train import train
from tests.offline.test_train import SPLIT
from tests.offline.toys import toy_recipe
if __name__ == "__main__":
    torch.set_num_threads(1)
    examples = {{"kind": "windows", "steps": 10, "stride": 0, "per_pass": 16, "batch": 8}}
    n = int(sys.argv[1])
    machine = Machine("cpu", devices=n, strategy="ddp" if n > 1 else "auto")
    toys = open_dataset(Path({str(toys.folder)!r}))
    train(toy_recipe(passes=1, examples=examples), toys, SPLIT, Path(sys.argv[2]), machine=machine, quiet=True)
"""
    )
    root = Path(__file__).parents[2]
    surroundings = {**os.environ, "PYTHONPATH": str(root), "MASTER_ADDR": "127.0.0.1"}
    found = []
    for n in ("1", "2"):
        command = [sys.executable, str(program), n, str(tmp_path / n)]
        subprocess.run(command, cwd=root, env=surroundings, check=True, timeout=120, capture_output=True)
        found.append(load_file(tmp_path / n / "checkpoints/train/weights.safetensors"))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=1e-4, rtol=1e-4)


def test_ctrl_c_ends_it_and_works_again_afterwards(
    toys: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("offline.learner.Learner.training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(toy_recipe(), toys, SPLIT, tmp_path / "run", machine=CPU, quiet=True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_training_in_the_same_folder_is_refused(run: Path, toys: Dataset) -> None:
    with pytest.raises(ConfigError, match="another recipe, split, start or data"):
        train(toy_recipe(passes=7), toys, SPLIT, run, machine=CPU, quiet=True)


def test_a_full_disk_is_told_and_leaves_no_bundle(toys: Dataset, tmp_path: Path) -> None:
    """Files cannot grow beyond some kilobytes, in a process of its own."""
    out = tmp_path / "run"
    program = f"""
import resource, sys, torch
from pathlib import Path
from offline.datasets.base import open_dataset
from offline.train import train
from streamscore.errors import RecordError
from tests.offline.test_train import CPU, SPLIT
from tests.offline.toys import toy_recipe
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    train(toy_recipe(passes=1), open_dataset(Path({str(toys.folder)!r})), SPLIT, Path({str(out)!r}), machine=CPU,
          quiet=True)
except RecordError as error:
    print(error)
    sys.exit(7)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True
    )
    assert told.returncode == RecordError.exit_code, told.stderr
    assert "make room or choose another folder" in told.stdout
    assert not (out / "bundle.safetensors").exists()
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_a_damaged_checkpoint_is_told(toys: Dataset, tmp_path: Path) -> None:
    """Nothing in it is run, either."""
    folder = tmp_path / "run" / "checkpoints" / "train"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(RecordError, match=r"last.ckpt: checkpoint cannot be read .* remove"):
        train(toy_recipe(), toys, SPLIT, tmp_path / "run", machine=CPU, quiet=True)


def test_a_loss_that_is_no_number_ends_the_training(toys: Dataset, tmp_path: Path) -> None:
    recipe = toy_recipe(optimizer={"kind": "adam", "lr": 1e30})
    with pytest.raises(ConfigError, match=r"NaN or infinite.*lower"):
        train(recipe, toys, SPLIT, tmp_path / "run", machine=CPU, quiet=True)
    assert not (tmp_path / "run" / "bundle.safetensors").exists()


def test_what_cannot_be_read_does_not_claim_the_folder(tmp_path: Path) -> None:
    toys = open_dataset(write_toy(tmp_path / "data", n_subjects=3))
    split = Split(train=("m0", "m1"), validation=("m2",), test=(), final=True)
    damaged = tmp_path / "data" / "m1.npz"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(StreamscoreError, match=r"m1\.npz"):
        train(toy_recipe(passes=1), toys, split, tmp_path / "run", machine=CPU, quiet=True)
    damaged.unlink()
    (tmp_path / "data" / "m1.labels.csv").unlink()
    rest = Split(train=("m0",), validation=("m2",), test=(), final=True)
    train(toy_recipe(passes=1), open_dataset(tmp_path / "data"), rest, tmp_path / "run", machine=CPU, quiet=True)


def test_what_was_simulated_says_so(toys: Dataset, tmp_path: Path) -> None:
    simulated = replace(toys, described={**toys.described, "simulated": True})
    path = train(toy_recipe(passes=1), simulated, SPLIT, tmp_path / "run", machine=CPU, quiet=True)
    spec = load_bundle(path).spec
    assert spec.provenance["simulated"] is True
    assert "**Trained on simulated recordings only.**" in spec.card


def test_one_state_teaches_nothing(tmp_path: Path) -> None:
    toys = open_dataset(write_toy(tmp_path / "data", n_subjects=2, states=(1,)))
    split = Split(train=("m0",), validation=("m1",), test=(), final=True)
    with pytest.raises(ConfigError, match=r"one state alone \(NREM\)"):
        train(toy_recipe(), toys, split, tmp_path / "run", machine=CPU, quiet=True)


def test_subjects_that_are_not_there_are_named(toys: Dataset, tmp_path: Path) -> None:
    split = Split(train=("m0", "m9"), validation=("m1",), test=(), final=True)
    with pytest.raises(ConfigError, match="no subject 'm9'; it has m0, m1, m2, m3"):
        train(toy_recipe(), toys, split, tmp_path / "run", machine=CPU, quiet=True)


def test_runs_that_are_too_short_are_told(toys: Dataset, tmp_path: Path) -> None:
    recipe = toy_recipe(examples={"kind": "windows", "steps": 200, "batch": 2})
    with pytest.raises(ConfigError, match=r"200 steps: the longest uninterrupted part .* has 90 steps"):
        train(recipe, toys, SPLIT, tmp_path / "run", machine=CPU, quiet=True)


@pytest.mark.parametrize(
    ("model", "args", "n_steps"),
    [("sleepeegnet", {"window_epochs": 10}, 10), ("deepsleepnet", {"chunk_epochs": 12, "n_hidden": 8}, 12)],
)
def test_examples_in_which_nothing_is_said_are_refused(
    toys: Dataset, tmp_path: Path, model: str, args: dict[str, int], n_steps: int
) -> None:
    """A network of windows or chunks would be asked nothing in parts of eight epochs, and be kept as it began."""
    recipe = toy_recipe(examples={"kind": "windows", "steps": 8, "ragged": True})
    assert recipe.bundle is not None
    section = recipe.bundle.model_copy(update={"model": model, "model_args": {"epoch_s": EPOCH_S, **args}})
    recipe = recipe.model_copy(update={"bundle": section})
    wanted = (
        rf"before it has seen {n_steps} steps, but examples have 8; add --set stages.0.examples.steps={n_steps}"
    )
    with pytest.raises(ConfigError, match=wanted):
        train(recipe, toys, SPLIT, tmp_path / "run", machine=CPU, quiet=True)


def test_frames_that_are_kept_are_read_again_when_their_labels_mean_something_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "m1.npy", rng.normal(1000, 50, (90, 16, 16)).astype(np.float32))
    (data / "m1.labels.csv").write_text("start_s,duration_s,state\n0,1,a\n1,2,b\n")
    recipe = toy_recipe()
    assert recipe.bundle is not None
    small = {"frame_shape": (16, 16), "variant": "causal", "sfreq": 30.0, "n_filters": 2, "n_hidden": 2}
    changes = {"model": "cnn_bilstm", "model_args": small, "sfreq": 30.0, "channels": ("calcium",), "unit": "any"}
    section = recipe.bundle.model_copy(update={**changes, "frame_shape": (16, 16)})
    spec = train_module._spec(recipe.model_copy(update={"bundle": section}), None)
    seen = []
    for states in ({"a": "Wake", "b": "NREM"}, {"a": "REM", "b": "Wake"}):
        dataset = open_dataset(data, "plain", vocabulary="MOUSE3", states=states, rate_hz=30.0, epoch_s=1.0)
        (found,) = train_module._read(
            dataset, ["m1"], spec, stages.build_network(spec, {}), tmp_path / "kept", True
        )
        seen.append(np.unique(found.y).tolist())
    assert seen == [[0, 1], [0, 2]]


def test_frozen_parts_stand_still(run: Path, toys: Dataset, tmp_path: Path) -> None:
    """Fine-tuning from a bundle: layers with a learning rate of 0 keep every bit."""
    start = load_bundle(run / "bundle.safetensors")
    recipe = toy_recipe(passes=1, optimizer={"kind": "adam", "lr": 0.01, "lr_of": {"first": 0, "later": 0}})
    recipe = recipe.model_copy(update={"bundle": None})
    path = train(recipe, toys, SPLIT, tmp_path / "run", machine=CPU, start=start, quiet=True)
    tuned = load_bundle(path)
    assert tuned.spec.name == "toy-tuned"
    assert tuned.spec.provenance["started_from"] == start.sha256
    assert set(training_subjects(tuned) or ()) == {*SPLIT.train, *SPLIT.validation}
    assert tuned.spec.provenance["subjects"]["before"] == [*SPLIT.train, *SPLIT.validation]
    moved = {
        name for name, value in tuned.model.state_dict().items() if not value.equal(start.model.state_dict()[name])
    }
    assert moved
    assert not [name for name in moved if name.startswith(("first", "later"))]


def test_a_start_of_another_network_is_refused(run: Path, toys: Dataset, tmp_path: Path) -> None:
    start = load_bundle(run / "bundle.safetensors")
    recipe = toy_recipe()
    assert recipe.bundle is not None
    other = recipe.model_copy(update={"bundle": recipe.bundle.model_copy(update={"model": "utime"})})
    with pytest.raises(BundleMismatchError, match="is a tinysleepnet, the recipe trains a utime"):
        train(other, toys, SPLIT, tmp_path / "run", machine=CPU, start=start, quiet=True)


def test_nothing_to_start_from_is_told(toys: Dataset, tmp_path: Path) -> None:
    recipe = toy_recipe().model_copy(update={"bundle": None})
    with pytest.raises(ConfigError, match="--from BUNDLE"):
        train(recipe, toys, SPLIT, tmp_path / "run", machine=CPU, quiet=True)


def test_averaged_weights_are_the_result(toys: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An average that hardly moves stays where it began; the weights that are trained do not."""
    begun: list[torch.Tensor] = []

    def noting(model: ScoringModel, *_: object) -> None:
        begun.append(model.state_dict()["head.weight"].clone())

    monkeypatch.setattr("offline.stages._take_over", noting)
    moved = {}
    for average in (0.0, 0.9999):
        optimizer = {"kind": "adam", "lr": 0.01, "average": average}
        recipe = toy_recipe(passes=1, keep="last", optimizer=optimizer)
        path = train(recipe, toys, SPLIT, tmp_path / f"run{average}", machine=CPU, quiet=True)
        moved[average] = float((load_bundle(path).model.state_dict()["head.weight"] - begun[-1]).abs().max())
    assert moved[0.9999] < 0.02 < 0.05 < moved[0.0]
