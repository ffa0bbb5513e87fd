"""The loop with a camera: simulated microscope → ZeroMQ → correction → network → command, in three processes.

``streamscore camera`` shows a simulated mouse under four lights at 67.2 Hz, ``streamscore run --mode live``
corrects and scores each cycle of them, and ``streamscore rig`` is switched on while the mouse is in REM and keeps
still: the speed of its wheel comes over LSL and gates the policy. The panel draws the corrected frames and what
decisions rest on. A camera has one speed, so that the demo takes as long as what it shows.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from streamscore.bundle import load_bundle
from streamscore.cli_camera import LIGHTS
from streamscore.panel import watch
from streamscore.panel.frames import Frames
from streamscore.panel.importance import Importance
from tools.demo import Child, ended, loopback_environment, running
from tools.demo_camera_report import CameraOutcome, report

#: Rate of the cycles of four lights in Hz.
SFREQ = 16.8
#: From a speed at which the gate shuts; above 0.5 cm/s a mouse runs (Ajioka et al. 2024).
STILL_CM_S = 0.5


@dataclass(frozen=True)
class Plan:
    """What is shown and what scores it.

    Parameters
    ----------
    bundle
        Network for four lights.
    seed, cycle_s, duration_s
        The simulated mouse, one whose states all come within the time: REM from 48 s on, for 28 s.
    side_px
        Height and width of its frames.
    loss
        Part of the frames that the camera loses.
    state, dwell_s
        On which state the policy acts, and after how long.
    """

    bundle: str = "cnn-bilstm-simulated-causal"
    seed: int = 31
    cycle_s: float = 140.0
    duration_s: float = 100.0
    side_px: int = 128
    loss: float = 0.0
    state: str = "REM"
    dwell_s: float = 1.0


def run(console: Console, plain: bool, runs: Path, plan: Plan | None = None) -> None:
    """Run the demo and print its report.

    Raises
    ------
    LoopError
        If the loop did not close.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamscore-demo-")))
        outcome = close_loop(stack, console, plan or Plan(), folder, plain, runs.resolve())
    report(console, outcome)


def rig_file(plan: Plan, frames: str, wheel: str, rig: str, runs: Path) -> dict[str, Any]:
    """Rig file of the demo; the other arguments are where frames, wheel and rig are, and where records go."""
    lights = LIGHTS[4]
    return {
        "source": {
            "kind": "zmq_frames",
            "endpoint": frames,
            "bind": False,
            "rate_hz": SFREQ * len(lights),
            "lights": list(lights),
            "timeout_s": 60,
            "stop_when_silent_s": 1,
        },
        "bundle": plan.bundle,
        "record_raw": False,
        "streams": {
            "wheel": {
                "source": {"kind": "lsl", "name": wheel, "timeout_s": 60, "stop_when_lost": True},
                "quality": {"flat_s": None},  # it may stand still
            }
        },
        "gates": [{"stream": "wheel", "measure": "mean_abs", "window_s": 1, "below": STILL_CM_S}],
        "policy": {
            "kind": "dwell",
            "states": [plan.state],
            "probability": 0.5,
            "dwell_s": plan.dwell_s,
            "duration_s": 1,
            "refractory_s": 5,
        },
        "rig": {"kind": "zmq_dealer", "endpoint": rig},
        "sinks": [
            {"kind": "zmq_pub", "endpoint": "tcp://127.0.0.1:*"},
            {"kind": "zmq_frames", "endpoint": "tcp://127.0.0.1:*"},
        ],
        "record": str(runs),
    }


def camera_arguments(plan: Plan, wheel: str) -> list[str]:
    """Arguments of the simulated camera; its time begins when the engine is there."""
    return [
        "camera", "--bind", "--endpoint", "tcp://127.0.0.1:*", "--wait-s", "60", "--wheel", wheel,
        "--lights", "4", "--rate-hz", str(4 * SFREQ), "--shape", f"{plan.side_px}x{plan.side_px}",
        "--cycle-s", str(plan.cycle_s), "--seed", str(plan.seed), "--duration-s", str(plan.duration_s),
        "--loss", str(plan.loss),
    ]  # fmt: skip


def close_loop(
    stack: ExitStack, console: Console, plan: Plan, folder: Path, plain: bool, runs: Path
) -> CameraOutcome:
    """Start the three processes, show the run, and return what they left behind."""
    env = loopback_environment(folder)
    wheel = f"streamscore-wheel-{os.getpid()}"
    console.print(
        f"a simulated mouse under four lights at {4 * SFREQ:g} Hz over ZeroMQ, {plan.duration_s:g} s in real "
        f"time; scored by {plan.bundle} at every cycle of the lights ({1e3 / SFREQ:.1f} ms)",
        soft_wrap=True,
    )
    rig = stack.enter_context(running(["rig", "--endpoint", "tcp://127.0.0.1:*"], env, folder / "rig.log"))
    camera = stack.enter_context(running(camera_arguments(plan, wheel), env, folder / "camera.log"))
    rig_endpoint = str(rig.wait_for("listening", 30.0)["endpoint"])
    frames = str(camera.wait_for("visible", 60.0)["endpoint"])
    config = folder / "rig.yaml"
    config.write_text(yaml.safe_dump(rig_file(plan, frames, wheel, rig_endpoint, runs)))
    arguments = ["run", "--config", str(config), "--mode", "live", "--quiet", "--announce"]
    engine = stack.enter_context(running(arguments, env, folder / "engine.log"))
    announced = engine.wait_for("assembled", 60.0)
    listening = nullcontext() if plain else _frames(str(announced["frames"]), plan.bundle)
    with listening as feed:
        watch(
            str(announced["endpoint"]),
            console,
            plain=plain,
            title="streamscore demo · simulated camera, four lights",
            until=_over(engine, camera),
            frames=feed,
        )
    engine.process.wait(30.0)
    camera.wait_for("started", 1.0)
    return CameraOutcome(
        sfreq=SFREQ,
        run_folder=Path(str(announced["run_folder"])),
        engine_exit=engine.process.returncode,
        engine_errors=engine.errors(),
        rig_lines=tuple(rig.lines),
        camera_lines=tuple(camera.lines),
    )


def _frames(endpoint: str, bundle: str) -> Frames:
    return Frames(endpoint, Importance(load_bundle(bundle).model))


def _over(engine: Child, camera: Child) -> Callable[[], bool]:
    """Return what tells whether the engine has ended, or waits in vain for a camera that failed."""
    engine_ended, camera_ended = ended(engine), ended(camera)

    def is_over() -> bool:
        if camera_ended() and camera.process.returncode and not engine_ended():
            engine.stop()
        return engine_ended()

    return is_over
