"""The demo with a camera, short, on real sockets and processes, with a network that sees REM in everything."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from streamscore.bundle import Spec, save_bundle
from streamscore.errors import LoopError
from streamscore.labels import MOUSE3
from streamscore.models import cnn_bilstm
from streamscore.record import read_run
from streamscore.simulate.cortex import FOUR_LIGHTS
from tools import demo_camera

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
        {"kind": "haemoglobin", "method": "ratiometric", "estimator": "running", "tau_s": 5.0, "warm_up_s": 1.0},
    )
    spec = Spec(name="always-rem", model="cnn_bilstm", model_args=args, preprocess=chain, vocabulary="MOUSE3",
                sfreq=16.8, channels=FOUR_LIGHTS, hop_s=None)  # fmt: skip
    save_bundle(path, spec, model)
    return path


def show(tmp_path: Path, probability: float) -> tuple[str, Path]:
    """Run the demo for some seconds; return what it said and where its record is."""
    plan = demo_camera.Plan(
        bundle=str(write_bundle(tmp_path / "always-rem.safetensors", probability)),
        cycle_s=60.0,
        duration_s=6.0,
        side_px=SIDE_PX,
        dwell_s=0.5,
        loss=0.01,
    )
    runs = tmp_path / "runs"
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True, color_system="truecolor", legacy_windows=False)
    try:
        demo_camera.run(console, False, runs, plan)
    finally:
        (folder,) = runs.iterdir()
    return text.getvalue(), folder


def test_the_loop_closes(tmp_path: Path) -> None:
    text, folder = show(tmp_path, 0.9)
    assert "the loop closed" in text
    events = read_run(folder).events
    scored = [e for e in events if e["type"] == "posterior" and not e.get("lane") and e["valid"]]
    assert {e["state"] for e in scored} == {"REM"}
    assert len(scored) > 30
    assert any(e["type"] == "gap" for e in events)  # of the frames that were lost on purpose
    start = {e["lane"]: e for e in events if e["type"] == "start"}
    assert start["wheel"]["channels"] == ["speed"]
    assert "▀" in text  # the frame in the panel


def test_a_policy_that_never_acts_does_not_close_it(tmp_path: Path) -> None:
    with pytest.raises(LoopError, match="no command was sent"):
        show(tmp_path, 0.4)
