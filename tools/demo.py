"""The whole loop on one machine: player → LSL → engine → simulated rig, each a process of its own.

The demo plays a recording (a simulated night when none is given) with ``streamscore replay``, scores it with
``streamscore run --source lsl --mode live`` and lets ``streamscore rig`` take the commands. What it reports at the
end is read from the record of the run and from the rig, not from anything kept in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from streamscore.bundle import Spec, load_bundle
from streamscore.errors import LoopError
from streamscore.panel import watch
from streamscore.recordings.base import Recording, read_recording
from streamscore.simulate import simulate
from tools.demo_report import Outcome, report
from tools.loopback import LOOPBACK

#: Wall time that a demo should take to play, if the machine allows.
TARGET_S = 75.0
#: Fastest speed: a hop of 1 s then leaves 8 ms for each output.
MAX_SPEED = 120.0
#: Simulated night: five stages within 40 minutes.
NIGHT_S, CYCLE_S = 2400.0, 1200.0


@dataclass(frozen=True)
class Plan:
    """What is played and what scores it."""

    recording: Recording
    file: Path
    bundle: str | None
    channels: dict[str, str] | None
    speed: float
    policy_states: tuple[str, ...]
    why: str


def make_plan(recording: Recording, file: Path, bundle: str, speed: float | None) -> Plan:
    """Choose the bundle if it fits the recording; otherwise only stream, align and record."""
    spec = load_bundle(bundle).spec
    chosen = speed or min(max(recording.duration_s / TARGET_S, 1.0), MAX_SPEED)
    problem = _misfit(spec, recording)
    states = ("N3",) if "N3" in spec.labels else (spec.labels[-1],)
    return Plan(recording, file, None if problem else bundle, None, round(chosen, 1), states, problem)


def _misfit(spec: Spec, recording: Recording) -> str:
    if recording.sfreq != spec.sfreq:
        return f"{recording.name} has {recording.sfreq:g} Hz, bundle {spec.name} needs {spec.sfreq:g} Hz"
    absent = [name for name in spec.channels if name not in recording.channels]
    if absent:
        return f"{recording.name} has no channel {', '.join(absent)}"
    if recording.labels and recording.labels != spec.labels:
        return f"{recording.name} is labelled {'/'.join(recording.labels)}, bundle {spec.name} scores others"
    return ""


class Child:
    """A process of the demo, whose JSON lines are collected as they come.

    Parameters
    ----------
    arguments
        Of the ``streamscore`` command.
    log
        File for its standard error.
    """

    def __init__(self, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self.name = arguments[0]
        self._log = log
        self.lines: deque[dict[str, Any]] = deque(maxlen=100_000)
        self._changed = threading.Condition()
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamscore", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=env,
            )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b"{"):
                with self._changed:
                    self.lines.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, event: str, timeout_s: float) -> dict[str, Any]:
        """Return the first line with this ``event``; raises :class:`LoopError` if it does not come."""

        def seen() -> bool:
            return any(line.get("event") == event for line in self.lines) or not self._reader.is_alive()

        with self._changed:
            self._changed.wait_for(seen, timeout_s)
            hits = [line for line in self.lines if line.get("event") == event]
        if not hits:
            raise LoopError(f"process {self.name!r} did not report {event!r}: {self.errors() or 'no message'}")
        return hits[0]

    def errors(self) -> str:
        """Return the end of what the process wrote to standard error."""
        return self._log.read_text(errors="replace")[-2000:].strip()

    def stop(self) -> None:
        """End the process, politely first."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5.0)
        self._reader.join(5.0)
        assert self.process.stdout is not None
        self.process.stdout.close()


def loopback_environment(folder: Path) -> dict[str, str]:
    """Environment in which LSL stays on this machine; a configuration of the user's own is kept."""
    env = dict(os.environ)
    if "LSLAPICFG" not in env:
        config = folder / "lsl_api.cfg"
        config.write_text(LOOPBACK)
        env["LSLAPICFG"] = str(config)
    return env


@contextmanager
def running(arguments: list[str], env: dict[str, str], log: Path) -> Iterator[Child]:
    """A process for the length of a block."""
    child = Child(arguments, env, log)
    try:
        yield child
    finally:
        child.stop()


def rig_file(plan: Plan, stream: str, rig_endpoint: str, runs: Path) -> dict[str, Any]:
    """Rig file of the demo."""
    content: dict[str, Any] = {
        "source": {"kind": "lsl", "name": stream, "timeout_s": 20, "stop_when_lost": True},
        "bundle": plan.bundle,
        "sinks": [{"kind": "zmq_pub", "endpoint": "tcp://127.0.0.1:*"}, {"kind": "lsl_out", "name": stream}],
        "record": str(runs),
    }
    if plan.bundle:
        content["rig"] = {"kind": "zmq_dealer", "endpoint": rig_endpoint}
        content["policy"] = {
            "kind": "dwell",
            "states": list(plan.policy_states),
            "probability": 0.6,
            "dwell_s": 10,
            "duration_s": 0.2,
            "refractory_s": 60,
        }
    return content


def save_simulated(folder: Path, seed: int) -> Path:
    """Write the simulated night as a file that the player can play."""
    night = simulate("human", NIGHT_S, seed=seed, cycle_s=CYCLE_S)
    path = folder / "simulated-night.npz"
    np.savez(
        path,
        data=night.data,
        sfreq=night.sfreq,
        channels=np.array(night.channels),
        units=np.array(night.units),
        states=night.states,
        epoch_s=night.epoch_s,
        labels=np.array(night.labels),
    )
    return path


def run(console: Console, recording: Path | None, speed: float | None, plain: bool, runs: Path, seed: int) -> None:
    """Run the demo and print its report.

    Raises
    ------
    LoopError
        If the loop did not close.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamscore-demo-")))
        file = recording or save_simulated(folder, seed)
        bundle = "tinysleepnet-simulated" if recording is None else "default"
        plan = make_plan(read_recording(file), file, bundle, speed)
        outcome = close_loop(stack, console, plan, folder, plain, runs.resolve())
    report(console, outcome)


def close_loop(stack: ExitStack, console: Console, plan: Plan, folder: Path, plain: bool, runs: Path) -> Outcome:
    """Start the three processes, show the run, and return what they left behind."""
    env = loopback_environment(folder)
    stream = f"streamscore-demo-{os.getpid()}"
    minutes = plan.recording.duration_s / 60
    console.print(
        f"playing {plan.recording.name} ({minutes:.0f} min) at {plan.speed:g}× real time over LSL; "
        f"scored by {plan.bundle or 'nobody: ' + plan.why}",
        soft_wrap=True,
    )
    rig = stack.enter_context(running(["rig", "--endpoint", "tcp://127.0.0.1:*"], env, folder / "rig.log"))
    rig_endpoint = str(rig.wait_for("listening", 30.0)["endpoint"])
    arguments = [
        "replay",
        str(plan.file),
        "--name",
        stream,
        "--speed",
        str(plan.speed),
        "--wait-s",
        "60",
        "--linger-s",
        "1",
    ]
    player = stack.enter_context(running(arguments, env, folder / "player.log"))
    player.wait_for("visible", 30.0)
    config = folder / "rig.yaml"
    config.write_text(yaml.safe_dump(rig_file(plan, stream, rig_endpoint, runs)))
    mode = "live" if plan.bundle else "monitor"
    arguments = ["run", "--config", str(config), "--mode", mode, "--quiet", "--announce"]
    engine = stack.enter_context(running(arguments, env, folder / "engine.log"))
    announced = engine.wait_for("assembled", 60.0)
    watch(
        str(announced["endpoint"]),
        console,
        plain=plain,
        title=f"streamscore demo · {plan.recording.name} · {plan.speed:g}×",
        until=ended(engine),
    )
    engine.process.wait(30.0)
    started = player.wait_for("started", 1.0)
    return Outcome(
        plan_bundle=plan.bundle,
        recording=plan.recording,
        speed=plan.speed,
        run_folder=Path(str(announced["run_folder"])),
        engine_exit=engine.process.returncode,
        engine_errors=engine.errors(),
        t0_s=float(started["t0_s"]),
        rig_lines=tuple(rig.lines),
        player_lines=tuple(player.lines),
    )


def ended(child: Child) -> Callable[[], bool]:
    """Return what tells whether a process has ended."""
    return lambda: child.process.poll() is not None
