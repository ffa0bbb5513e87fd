"""Jobs end the same wherever they run and however often they are stopped, and tell what went wrong."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from offline import cluster
from offline.cluster import Size, map_jobs
from offline.scored import read_folder
from streamscore.errors import ConfigError, RecordError, StreamscoreError
from tests.offline.cluster_jobs import descend, descend_or_train, fill_disk, threads, unspeakable
from tests.offline.toys import toy_recipe, write_toy


@pytest.fixture
def told() -> Console:
    return Console(file=io.StringIO(), width=200)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def steps_of(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "steps.txt").read_text().split()]


def test_a_job_that_is_done_is_not_run_again(tmp_path: Path, told: Console) -> None:
    jobs = {"a/1": {"seed": 1}, "a/2": {"seed": 2}}
    first = map_jobs(descend, jobs, tmp_path, console=told)
    assert list(first) == ["a/1", "a/2"]
    assert first["a/1"]["weights"] != first["a/2"]["weights"]
    assert "a/2: done (2 of 2 after" in text_of(told)
    for name in ("result.json", "kept.pt"):
        (tmp_path / "a/2" / name).unlink()
    assert map_jobs(descend, jobs, tmp_path, console=told) == first
    assert "1 of 2 jobs were done before" in text_of(told)
    assert steps_of(tmp_path / "a/1") == list(range(40))
    assert steps_of(tmp_path / "a/2") == 2 * list(range(40))


def test_other_arguments_are_refused_before_anything_runs(tmp_path: Path, told: Console) -> None:
    map_jobs(descend, {"fold-2": {"seed": 1}}, tmp_path, console=told)
    with pytest.raises(ConfigError, match=r"fold-2: begun with other arguments: seed was 1, is 5; choose another"):
        map_jobs(descend, {"fold-1": {"seed": 5}, "fold-2": {"seed": 5}}, tmp_path, console=told)
    assert not (tmp_path / "fold-1").exists()
    with pytest.raises(ConfigError, match=r"\(function\) was .*descend.*, is .*threads"):
        map_jobs(threads, {"fold-2": {"seed": 1}}, tmp_path, console=told)


def test_jobs_that_fail_alike_have_the_exit_code_of_their_cause(tmp_path: Path, told: Console) -> None:
    unreadable = {"seed": 0, "end": "refused"}
    for ends, code in (
        ({"a": unreadable, "b": unreadable}, 4),
        ({"a": unreadable, "c": {"end": "mistaken", "seed": 0}}, 1),
    ):
        with pytest.raises(StreamscoreError, match="2 of 2 jobs failed") as raised:
            map_jobs(descend, ends, tmp_path, console=told)
        assert raised.value.exit_code == code


def test_failures_are_told_at_the_end(tmp_path: Path, told: Console) -> None:
    jobs = {
        "a": {"seed": 0, "end": "refused"},
        "b": {"seed": 0, "end": "mistaken"},
        "c": {"seed": 0},
    }
    with pytest.raises(StreamscoreError) as raised:
        map_jobs(descend, jobs, tmp_path, console=told)
    message = str(raised.value)
    assert message.startswith("2 of 3 jobs failed:\n  a: night3.edf: truncated; copy it again\n  b: ZeroDivision")
    assert "give the same command again" in message
    assert "in descend" in (tmp_path / "b/error.txt").read_text()
    assert not (tmp_path / "a/error.txt").exists()
    assert (tmp_path / "c/result.json").exists()


def test_a_full_disk_and_results_that_cannot_be_kept_are_told(tmp_path: Path, told: Console) -> None:
    with pytest.raises(StreamscoreError, match=r"the disk is full .*make room there"):
        map_jobs(fill_disk, {"a": {}}, tmp_path, console=told)
    with pytest.raises(StreamscoreError, match="not JSON serializable"):
        map_jobs(unspeakable, {"b": {}}, tmp_path, console=told)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"job.json", "error.txt"}


def test_a_damaged_result_is_told(tmp_path: Path, told: Console) -> None:
    map_jobs(threads, {"a": {}}, tmp_path, console=told)
    (tmp_path / "a/result.json").write_text('{"result": ')
    with pytest.raises(RecordError, match=r"a/result.json: cannot be read"):
        map_jobs(threads, {"a": {}}, tmp_path, console=told)


def test_threads_are_those_asked_for(tmp_path: Path, told: Console) -> None:
    before = torch.get_num_threads()
    assert map_jobs(threads, {"a": {}}, tmp_path, size=Size(cpus=3), console=told) == {"a": 3}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["", "../x", "/tmp/x", "a//b", "a b", ".hidden"])
def test_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder"):
        map_jobs(threads, {name: {}}, tmp_path)


def test_what_a_worker_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot import .*top level"):
        map_jobs(lambda _folder: 1, {"a": {}}, tmp_path)
    with pytest.raises(ConfigError, match="job a: arguments cannot be written as JSON"):
        map_jobs(threads, {"a": {"where": tmp_path}}, tmp_path)


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", "nothing answers at 127.0.0.1:1.*ray start --head"), ("nowhere", "is no address")],
)
def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        map_jobs(threads, {"a": {}}, tmp_path, address)


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'pip install "streamscore\[cluster\]"'):
        map_jobs(threads, {"a": {}}, tmp_path, "auto")


class Watching(Console):
    """A console that looks at Ray's processes when the first job is told as done."""

    processes: tuple[psutil.Process, ...] = ()
    listens: frozenset[str] = frozenset()

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if "done (" not in str(objects[0]) or self.processes:
            return
        self.processes = tuple(psutil.Process().children(recursive=True))
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # a worker that was just killed
                found = {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
                self.listens |= {ip.removeprefix("::ffff:") for ip in found}


def same_fold(one: Path, two: Path) -> None:
    """Compare what two trainings and their tests wrote, but for times."""
    weights = [load_file(folder / "bundle.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    (first,), (second,) = read_folder(one), read_folder(two)
    np.testing.assert_array_equal(first.truth, second.truth)
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(first.probs, second.probs)


@pytest.mark.slow
def test_a_cluster_of_two_workers_ends_as_one_process_does(
    tmp_path: Path, told: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs streamscore[cluster]")
    fold = {
        "job": "train",
        "recipe": toy_recipe(passes=3).model_dump(mode="json"),
        "data": str(write_toy(tmp_path / "data", 3, n_epochs=40)),
        "kind": "plain",
        "split": {"train": ["m0"], "validation": ["m1"], "test": ["m2"]},
    }
    jobs: dict[str, dict[str, Any]] = {
        "fold": fold,
        **{f"net-{k}": {"job": "descend", "seed": k} for k in range(3)},
    }
    here = map_jobs(descend_or_train, jobs, tmp_path / "here", console=told)

    monkeypatch.setattr(cluster, "MAX_ATTEMPTS", 2)
    watching = Watching(file=io.StringIO(), width=200)
    jobs["fold"] = {**fold, "end": "killed once"}
    jobs["lost"] = {"job": "descend", "seed": 0, "end": "killed"}
    jobs["refused"] = {"job": "descend", "seed": 0, "end": "refused"}
    with pytest.raises(StreamscoreError) as raised:
        map_jobs(descend_or_train, jobs, tmp_path / "ray", "auto", size=Size(workers=2), console=watching)
    lines = text_of(watching)
    assert "fold: its worker was killed (attempt 1 of 2); begun again, from what it wrote" in lines
    assert str(raised.value).startswith("2 of 6 jobs failed:\n")
    assert "lost: its worker was killed (attempt 2 of 2); see " in str(raised.value)
    assert "refused: night3.edf: truncated" in str(raised.value)
    assert raised.value.exit_code == 1  # of several causes

    # What is done is read back without a cluster, and is what one process alone gave.
    good = {name: arguments for name, arguments in jobs.items() if name not in ("lost", "refused")}
    there = map_jobs(descend_or_train, good, tmp_path / "ray", console=watching)
    for k in range(3):
        assert there[f"net-{k}"]["weights"] == here[f"net-{k}"]["weights"]
    assert steps_of(tmp_path / "ray/lost") == list(range(20))
    assert (tmp_path / "ray/lost/log.txt").read_text() == 2 * f"begins as {Path(sys.argv[0]).name}\n"
    assert there["fold"]["validation"] == here["fold"]["validation"]
    same_fold(tmp_path / "here/fold", tmp_path / "ray/fold")

    # Nobody else could reach the workers, and none is left.
    assert watching.listens == {"127.0.0.1"}
    _, left = psutil.wait_procs(watching.processes, timeout=10.0)
    assert not left
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
