"""The demo with a camera, short, on real sockets and processes, with a network that sees REM in everything."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from streamscore.bundle import Spec, save_bundle
from streamscore.errors import LoopError
from streamscore.labels import MOUSE3
from streamscore.models import cnn_bilstm
from streamscore.record import read_run
from streamscore.simulate.cortex import FOUR_LIGHTS
from tests.online.process import streamscore
from tools import demo_camera
from tools.demo_camera_report import CameraOutcome, report

SIDE_PX = 32
REM = MOUSE3.index("REM")


def write_bundle(path: Path, probability: float) -> Path:
    """Write a network for frames of four lights that gives REM always the same probability."""
    args = {"variant": "causal", "frame_shape": [SIDE_PX, SIDE_PX], "n_filters": 2, "n_blocks": 2, "n_hidden": 2,
            "attention_frames": 2}  # fmt: skip
    model = cnn_bilstm.build(cnn_bilstm.Config(**args))
    with torch.no_grad():
        model.head.weight.zero_()
        odds = torch.full((3,), (1.0 - probability) / 2)
        odds[REM] = probability
        model.head.bias.copy_(odds.log())
    chain = (
        {"kind": "dark_frame", "dark": 100.0},
        {"kind": "haemoglobin", "method": "ratiometric", "estimator": "running", "tau_s": 5.0, "warm_up_s": 0.5},
    )
    spec = Spec(name="always-rem", model="cnn_bilstm", model_args=args, preprocess=chain, vocabulary="MOUSE3",
                sfreq=16.8, channels=FOUR_LIGHTS, hop_s=None)  # fmt: skip
    save_bundle(path, spec, model)
    return path


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CameraOutcome]:
    """Run the demo for some seconds; return what the panel showed and what the processes left behind."""
    folder = tmp_path_factory.mktemp("demo")
    plan = demo_camera.Plan(
        bundle=str(write_bundle(folder / "always-rem.safetensors", 0.9)),
        cycle_s=60.0,
        duration_s=5.0,
        side_px=SIDE_PX,
        dwell_s=0.5,
        loss=0.01,
    )
    console = Console(
        file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    with ExitStack() as stack:
        outcome = demo_camera.close_loop(stack, console, plan, folder, False, folder / "runs")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), outcome


def said(outcome: CameraOutcome) -> str:
    """Return the report."""
    console = Console(file=io.StringIO(), width=120)
    report(console, outcome)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_loop_closes(shown: tuple[str, CameraOutcome]) -> None:
    panel, outcome = shown
    text = said(outcome)
    assert "the loop closed" in text
    assert "told after" in text
    events = read_run(outcome.run_folder).events
    scored = [e for e in events if e["type"] == "posterior" and not e.get("lane") and e["valid"]]
    assert {e["state"] for e in scored} == {"REM"}
    assert len(scored) > 20
    assert any(e["type"] == "gap" for e in events)  # of the frames that were lost on purpose
    assert {e["lane"]: e["channels"] for e in events if e["type"] == "start"}["wheel"] == ["speed"]
    assert "▀" in panel


def test_a_sample_is_stamped_with_the_last_flash_of_its_cycle(shown: tuple[str, CameraOutcome]) -> None:
    _, outcome = shown
    t0_s = outcome.line("started")["t0_s"]
    posteriors = [e for e in read_run(outcome.run_folder).events if e["type"] == "posterior" and not e.get("lane")]
    stamps_s = np.array([e["t_stop_s"] - 1 / outcome.sfreq for e in posteriors if e["stop"] > e["start"]])
    cycles = (stamps_s - t0_s) * outcome.sfreq
    parts = cycles - np.floor(cycles)
    assert 0 < cycles.min() < cycles.max() < 85
    assert np.ptp(parts) < 0.2  # of 60 ms: what the estimate of the camera's clock moved by
    assert parts.mean() == pytest.approx(0.75, abs=0.2)  # and the time on the way, at least 2 ms


def test_a_broken_link_is_named(shown: tuple[str, CameraOutcome]) -> None:
    _, outcome = shown
    with pytest.raises(LoopError, match=r"did not close: commands \[1.* did not switch the rig on"):
        said(replace(outcome, rig_lines=()))
    unfinished = tuple(line for line in outcome.camera_lines if line["event"] != "finished")
    with pytest.raises(LoopError, match="the camera did not come to its end"):
        said(replace(outcome, camera_lines=unfinished))
    with pytest.raises(LoopError, match="exit code 4: no camera"):
        said(replace(outcome, engine_exit=4, engine_errors="no camera"))


def test_a_camera_has_its_own_pace() -> None:
    result = streamscore("demo", "--modality", "wfci", "--speed", "2")
    assert result.returncode == 3
    assert "at its own pace" in result.stderr
