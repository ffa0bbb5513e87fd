"""The benchmark measures what it says and fills its tables; how fast the machine is, is not tested."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from streamscore.bundle import Bundle, load_bundle
from streamscore.errors import LoopError
from tools import bench
from tools import bench_parts as parts
from tools.bench_engine import make_untrained
from tools.bench_report import Check, Distribution, Report
from tools.bench_roles import Child, PushOptions, listen, push
from tools.loopback import LOOPBACK


class InThread(Child):
    """A role in a thread, which spares the start of an interpreter."""

    def __init__(self, role: Callable[[Any, Any], None], options: object, lsl_config: Path) -> None:
        del lsl_config
        self._name = role.__name__
        self._connection, theirs = multiprocessing.Pipe()
        self._thread = threading.Thread(target=role, args=(theirs, options), daemon=True)
        self._thread.start()
        self.pid = os.getpid()

    def __exit__(self, *error: object) -> None:
        self._thread.join(30.0)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> parts.Bench:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "lsl_api.cfg").write_text(LOOPBACK, encoding="utf-8")
    return parts.Bench(folder, folder / "lsl_api.cfg")


def test_the_bare_loop_the_engine_and_the_subscriber_see_every_sample(workplace: parts.Bench) -> None:
    found = parts.latency(workplace, n_pairs=2, block_s=0.5)
    kept = round((0.5 - parts.SKIP_S) * parts.SFREQ)
    for blocks in (found.floor, found.published, found.received):
        assert [len(block) for block in blocks] == [kept, kept]
    # Nothing arrives before it was sent, and the stages are the whole way.
    assert min(block.min() for block in (*found.floor, *found.published, *found.received)) > 0
    whole = sum(found.stages.values())
    assert np.allclose(whole, np.concatenate(found.published), atol=0.1)
    report = Report(is_quick=True)
    bench.add_latency(report, found)
    check_complete(report, n_checks=2)


def test_a_network_is_measured_beside_the_bare_one(
    workplace: parts.Bench, small_path: Path, small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "Child", InThread)
    found = parts.sped_up(workplace, str(small_path), small.spec.sfreq, duration_s=0.2, speed=100.0)
    assert len(found.published) == len(found.handled) > 0
    assert len(found.bare) > 0
    report = Report(is_quick=True)
    bench.add_model(report, "replay", found)
    check_complete(report, n_checks=1)


def test_memory_is_watched_over_simulated_time(
    workplace: parts.Bench, small_path: Path, small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "Child", InThread)
    found = parts.memory(workplace, str(small_path), small.spec.sfreq, duration_h=300 / 3600)
    assert found.n_outputs == 300
    assert np.allclose(np.diff(found.t_h) * 3600, 30.0)
    assert found.rss_mb.min() > 10
    report = Report(is_quick=True)
    bench.add_memory(report, found)
    check_complete(report, n_checks=2)


def check_complete(report: Report, n_checks: int) -> None:
    """All figures are there, finite, and survive JSON and Markdown."""
    assert len(report.checks) == n_checks
    assert all(math.isfinite(check.value) for check in report.checks)
    for rows in report.distributions.values():
        for row in rows.values():
            assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms <= row.max_ms < 1e5
    content = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert [check["what"] for check in content["checks"]] == [check.what for check in report.checks]
    text = report.as_markdown()
    for name in (*report.distributions, *report.facts, *(check.what for check in report.checks)):
        assert name in text


def test_cpu_of_a_process_that_sleeps_is_that_of_one_wake_up() -> None:
    idle = parts.measure_cpu(os.getpid(), 0.05)
    assert math.isfinite(idle.percent)
    assert idle.duration_s >= 0.05
    assert idle.wakeups_hz > 0


def test_an_untrained_bundle_loads_and_is_the_published_network(tmp_path: Path) -> None:
    make_untrained(tmp_path / "untrained.safetensors", 100.0)
    bundle = load_bundle(tmp_path / "untrained.safetensors")
    assert bundle.model.n_trainable() == 0  # loaded for inference
    assert (bundle.spec.channels, bundle.spec.sfreq) == (("EEG",), 100.0)
    assert bundle.model.timing.step_samples == 3000


def test_paced_figures_fill_the_table() -> None:
    cpu = parts.Cpu(5.0, 512.0, 3.0, 60.0)
    values = np.linspace(1.0, 2.0, 50)
    report = Report(is_quick=False)
    bench.add_paced(report, parts.Paced(parts.Model(values + 1, values + 0.5, values), cpu, cpu))
    check_complete(report, n_checks=5)
    by_name = {check.what: check for check in report.checks}
    assert by_name["wake-ups a sample"].value == 2.0
    assert by_name["at a rig's pace, p99 above bare network"].value == pytest.approx(1.0)


def test_a_distribution_joins_blocks() -> None:
    found = Distribution.of([np.arange(50.0), np.arange(50.0, 101.0)])
    assert (found.n, found.p50_ms, found.p99_ms, found.max_ms) == (101, 50.0, 99.0, 100.0)


@pytest.mark.parametrize(("value", "met"), [(0.9, True), (1.0, True), (1.1, False), (math.nan, False)])
def test_a_target_is_met_up_to_its_limit_and_never_by_a_nan(value: float, met: bool) -> None:
    assert Check("x", value, "ms", 1.0).is_met is met


def test_reports_are_written_and_shown(tmp_path: Path) -> None:
    report = Report(is_quick=True)
    report.distributions["part"] = {"row": Distribution.of(np.arange(1.0, 5.0))}
    report.checks.append(Check("figure", 2.0, "ms", 1.0, "how"))
    report.facts["fact"] = "value"
    written = report.write(tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["bench.md", "bench.json"]
    assert "| figure | 2.000 ms | ≤ 1 ms | NOT MET | how |" in written[0].read_text(encoding="utf-8")
    assert json.loads(written[1].read_text(encoding="utf-8"))["checks"][0]["met"] is False
    screen = io.StringIO()
    report.show(Console(file=screen, width=100))
    shown = screen.getvalue()
    assert "NOT MET" in shown
    assert "rough" in shown


def test_a_role_that_ends_is_an_error_that_says_so(workplace: parts.Bench) -> None:
    before = os.environ.get("LSLAPICFG")
    with Child(listen, "nonsense", workplace.lsl_config) as child:
        assert os.environ.get("LSLAPICFG") == before
        with pytest.raises(LoopError, match="'listen' ended with exit code 1"):
            child.hear(30.0)


def test_a_role_that_says_nothing_is_an_error(workplace: parts.Bench) -> None:
    with InThread(push, PushOptions((), ()), workplace.lsl_config) as child:
        assert child.hear(30.0) == "ready"
        with pytest.raises(LoopError, match=r"'push' said nothing for 0\.1 s"):
            child.hear(0.1)
        child.tell("go")
        assert child.hear(30.0) == []
        child.tell("end")
