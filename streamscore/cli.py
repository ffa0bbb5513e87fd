"""The command line. Heavy imports happen inside the commands, so that ``--help`` answers at once."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streamscore import __version__, cli_camera, cli_data, cli_evaluate, cli_explain, cli_report, cli_train
from streamscore.cli_options import parse_channels
from streamscore.errors import ConfigError, LoopError, StreamscoreError
from streamscore.stop import stop_on_signals

if TYPE_CHECKING:
    from streamscore.assemble import Assembly
    from streamscore.config import RigConfig
    from streamscore.panel.frames import Frames

EXIT_CODES = """
Exit codes: 0 done · 1 unexpected error · 2 wrong usage · 3 rig file or option · 4 source or file ·
5 bundle · 6 check, demo or replay failed · 7 record · 130 interrupted before the start.
"""

app = typer.Typer(
    name="streamscore",
    help="Score brain state while it streams, and act on it. Monitor mode is the default: nothing leaves.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class SourceKind(StrEnum):
    """Sources that need no rig file."""

    lsl = "lsl"
    file = "file"
    synthetic = "synthetic"
    noise = "noise"


class Modality(StrEnum):
    """What a demo streams."""

    eeg = "eeg"
    wfci = "wfci"


class ModeName(StrEnum):
    """What may leave the engine."""

    monitor = "monitor"
    dry = "dry"
    live = "live"


def _version(show: bool) -> None:
    if show:
        out.print(f"streamscore {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _rig_from_options(
    config: Path | None, source: SourceKind | None, overrides: dict[str, Any], section: dict[str, Any]
) -> RigConfig:
    """Combine a rig file with options; options win. Both go through the same checks."""
    import yaml

    from streamscore.config import load_rig_file, parse_rig

    content: dict[str, Any] = {}
    if config is not None:
        load_rig_file(config)  # errors of the file are told with its lines
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    given = {key: value for key, value in section.items() if value is not None}
    base = content.get("source", {})
    if source is not None and base.get("kind") != source.value:
        base = {"kind": source.value}
    if not base:
        raise ConfigError("say where samples come from: --config RIG.yaml or --source lsl|file|synthetic|noise")
    base = {**base, **given}
    if base["kind"] == "lsl" and not any(base.get(key) for key in ("name", "type", "source_id")):
        base["type"] = "EEG"
    content["source"] = base
    content.update({key: value for key, value in overrides.items() if value is not None})
    return parse_rig(yaml.safe_dump(content), "command line" if config is None else f"{config} with options")


@app.command(epilog=EXIT_CODES)
def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Rig file (YAML).")] = None,
    source: Annotated[SourceKind | None, typer.Option("--source", "-s", help="Kind of source.")] = None,
    name: Annotated[str | None, typer.Option(help="LSL: name of the stream.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="LSL: type of the stream. [EEG]")] = None,
    source_id: Annotated[str | None, typer.Option(help="LSL: source_id of the stream.")] = None,
    timeout_s: Annotated[float | None, typer.Option(help="LSL: how long to look for it. [10]")] = None,
    stop_when_lost: Annotated[
        bool | None, typer.Option("--stop-when-lost", help="LSL: end when the outlet disappears.")
    ] = None,
    path: Annotated[Path | None, typer.Option("--file", help="file: recording to play.")] = None,
    species: Annotated[str | None, typer.Option(help="synthetic: human or mouse. [human]")] = None,
    seed: Annotated[int | None, typer.Option(help="synthetic: which subject. [0]")] = None,
    cycle_s: Annotated[float | None, typer.Option(help="synthetic: length of a sleep cycle.")] = None,
    source_duration_s: Annotated[float | None, typer.Option(help="synthetic: length; 0 never ends. [0]")] = None,
    speed: Annotated[float | None, typer.Option(help="file, synthetic: seconds per second. [1]")] = None,
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="INPUT=LABEL: which channel of the stream is which.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Bundle file or name, yasa, or none. [default]")
    ] = None,
    hop_s: Annotated[float | None, typer.Option(help="Seconds between outputs. [the bundle's, 1]")] = None,
    look_ahead_s: Annotated[float | None, typer.Option(help="Look-ahead of final outputs. [the bundle's]")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto. [cpu]")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16. [float32]")] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="Latest time of an output. [one hop]")] = None,
    mode: Annotated[
        ModeName, typer.Option("--mode", "-m", help="monitor: nothing leaves; dry: would-have; live: acts.")
    ] = ModeName.monitor,
    record: Annotated[Path | None, typer.Option(help="Folder for records of runs. [runs]")] = None,
    no_record: Annotated[bool, typer.Option("--no-record", help="Keep no record.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Where events are published (ZeroMQ).")] = None,
    duration_s: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No screen, only the closing table.")] = False,
    pin_threads: Annotated[
        bool,
        typer.Option("--pin-threads", help="Keep each thread of the network on a core; one engine a machine."),
    ] = False,
    announce: Annotated[
        bool, typer.Option("--announce", help="Tell endpoint and record as a JSON line before starting.")
    ] = False,
) -> None:
    """Score a stream while it arrives. Ctrl-C ends the run cleanly.

    Without a rig file: streamscore run --source lsl --name MyAmp --channel EEG=C3
    """
    stop = stop_on_signals()
    if pin_threads:
        _pin_threads()
    section: dict[str, Any] = {
        "name": name,
        "type": type_,
        "source_id": source_id,
        "timeout_s": timeout_s,
        "stop_when_lost": stop_when_lost,
        "path": str(path) if path else None,
        "species": species,
        "seed": seed,
        "cycle_s": cycle_s,
        "duration_s": source_duration_s,
        "speed": speed,
        "channels": parse_channels(channel),
    }
    overrides = {
        "bundle": bundle,
        "hop_s": hop_s,
        "look_ahead_s": look_ahead_s,
        "device": device,
        "precision": precision,
        "deadline_ms": deadline_ms,
        "record": str(record) if record else None,
        "sinks": [{"kind": "zmq_pub", "endpoint": endpoint}, {"kind": "lsl_out"}] if endpoint else None,
    }
    rig = _rig_from_options(config, source, overrides, section)
    update: dict[str, Any] = {"record": None} if no_record else {}
    if bundle == "none":
        update["bundle"] = None
    rig = rig.model_copy(update=update)
    if stop.is_set():
        raise typer.Exit(130)
    from streamscore.assemble import Assembly

    assembly = Assembly(rig, mode.value)
    if announce:
        line = {
            "event": "assembled",
            "endpoint": assembly.endpoint,
            "frames": assembly.frames_endpoint,
            "run_folder": str(assembly.run_folder),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    screen = None if quiet or not assembly.endpoint else _start_screen(assembly, rig.bundle)
    if duration_s is not None:
        timer = threading.Timer(duration_s, stop.set)
        timer.daemon = True
        timer.start()
    try:
        summary = assembly.engine.run(stop)
    finally:
        if screen is not None:
            _end_screen(screen)
    _print_summary(summary, assembly.run_folder)


def _pin_threads() -> None:
    """Have OpenMP keep its threads where they are; it looks when torch is imported, so this comes first.

    The scheduler may put two threads that wait for each other on one core, and leave them there for a tenth of a
    second. Bound threads cannot be moved away either, which is why this is a choice.
    """
    os.environ.setdefault("OMP_PROC_BIND", "true")


def _start_screen(assembly: Assembly, bundle: object) -> subprocess.Popen[bytes]:
    """Show the run from another process, so that nothing a person looks at can delay a decision."""
    command = [sys.executable, "-m", "streamscore", *_screen_arguments(assembly, bundle)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def _screen_arguments(assembly: Assembly, bundle: object) -> list[str]:
    """Arguments of a screen that shows what there is; `bundle` is as the rig file names it."""
    arguments = ["watch", assembly.endpoint]
    if assembly.frames_endpoint:
        arguments += ["--frames", assembly.frames_endpoint]
        model = assembly.bundle.model if assembly.bundle else None
        if isinstance(bundle, str) and model is not None and model.frame_shape and model.timing.step_samples == 1:
            arguments += ["--bundle", bundle]
    return arguments


def _end_screen(screen: subprocess.Popen[bytes]) -> None:
    try:
        screen.wait(2.0)
    except subprocess.TimeoutExpired:
        screen.terminate()
        screen.wait(5.0)


def _print_summary(summary: Any, folder: Path | None) -> None:
    table = Table(title="run", show_header=False, title_justify="left")
    table.add_row("ended because", summary.stop_reason)
    table.add_row("outputs", str(summary.posteriors))
    table.add_row("commands", str(summary.commands))
    latency = summary.latency_ms
    table.add_row(
        "latency",
        f"p50 {latency['p50_ms']:.2f} ms · p99 {latency['p99_ms']:.2f} ms · max {latency['max_ms']:.2f} ms",
    )
    table.add_row("deadline", f"{summary.deadline_ms:.1f} ms, missed {summary.misses} times")
    losses = {
        key: n
        for key, n in summary.counters.items()
        if n and not key.startswith(("written", "samples", "frames", "cycles"))
    }
    table.add_row("losses", ", ".join(f"{key} {n}" for key, n in losses.items()) or "none")
    table.add_row("record", str(folder) if folder else "none kept")
    out.print(table)


@app.command(epilog=EXIT_CODES)
def watch(
    endpoint: Annotated[str, typer.Argument(help="Where a run publishes.")] = "tcp://127.0.0.1:5580",
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the panel.")] = False,
    frames: Annotated[
        str | None, typer.Option(help="Where the run publishes frames (sink zmq_frames), to draw them too.")
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help="With --frames: draw what its decisions rest on (Grad-CAM)."),
    ] = None,
) -> None:
    """Show a run: a live panel on a terminal, plain lines elsewhere."""
    from contextlib import nullcontext

    from streamscore.panel import watch as watch_run

    if bundle is not None and frames is None:
        raise ConfigError("--bundle is for what decisions on frames rest on; give --frames ENDPOINT too")
    plain = plain or not out.is_terminal
    with nullcontext() if frames is None or plain else _frames(frames, bundle) as feed:
        watch_run(endpoint, out, plain=plain, frames=feed)


def _frames(endpoint: str, bundle: str | None) -> Frames:
    """Listen to frames, and load what explains them."""
    from streamscore.bundle import load_bundle
    from streamscore.panel.frames import Frames
    from streamscore.panel.importance import Importance

    return Frames(endpoint, Importance(load_bundle(bundle).model) if bundle else None)


class ReplayTo(StrEnum):
    """Where a recording is played to."""

    lsl = "lsl"
    zmq = "zmq"


@app.command(epilog=EXIT_CODES)
def replay(
    file: Annotated[
        Path,
        typer.Argument(help="Recording (.npz, .npy, .edf, .bdf, .xdf) or movie (.tif, .h5, .mat, .nwb, .npy)."),
    ],
    to: Annotated[
        ReplayTo | None, typer.Option(help="lsl, or zmq for a movie. [lsl, and zmq for a movie]")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the LSL stream, or of the camera.")] = "streamscore-replay",
    stream: Annotated[str | None, typer.Option(help="Stream or dataset inside a file that holds several.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="Recorded seconds per second.")] = 1.0,
    chunk_s: Annotated[float, typer.Option(min=0.0001, help="Signals: recorded seconds per push.")] = 0.05,
    loops: Annotated[int, typer.Option(min=1, help="How often; each further round is announced.")] = 1,
    wait_s: Annotated[float, typer.Option(min=0, help="How long to wait for a consumer; 0: not.")] = 30.0,
    linger_s: Annotated[float, typer.Option(min=0, help="How long the outlet stays afterwards.")] = 2.0,
    endpoint: Annotated[str, typer.Option(help="Movie over ZeroMQ: where.")] = "tcp://127.0.0.1:5590",
    bind: Annotated[bool, typer.Option("--bind", help="Movie over ZeroMQ: this end binds.")] = False,
    pub: Annotated[
        bool, typer.Option("--pub", help="Movie over ZeroMQ: PUB, which loses frames, instead of PUSH.")
    ] = False,
    rate_hz: Annotated[
        float | None, typer.Option(help="Movie: frames a second, where the file does not say.")
    ] = None,
    lights: Annotated[
        str | None, typer.Option(help="Movie: names of its lights in turn, with commas. [as the file says]")
    ] = None,
) -> None:
    """Play a recording as if it were the rig, with its sample times; JSON lines tell progress."""
    from streamscore.movies.base import is_movie

    try:
        if not is_movie(file, stream):
            if to is ReplayTo.zmq:
                raise ConfigError(f"{file}: holds signals, which are played over LSL; --to zmq is for movies")
            from streamscore.recordings.base import read_recording

            player = _tool("tools.replay")
            options = player.Options(name, speed, chunk_s, loops, wait_s, linger_s=linger_s)
            player.run(read_recording(file, stream), options)
            return
        cli_camera.replay_movie(
            file,
            dataset=stream,
            rate_hz=rate_hz,
            lights=lights,
            to=(to or ReplayTo.zmq).value,
            endpoint=endpoint,
            bind=bind,
            pattern="pub" if pub else "push",
            name=name,
            speed=speed,
            loops=loops,
            wait_s=wait_s,
            linger_s=linger_s,
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


app.command(epilog=EXIT_CODES)(cli_camera.camera)
app.command(epilog=EXIT_CODES)(cli_camera.register)
app.command(epilog=EXIT_CODES)(cli_train.recipes)
app.command(epilog=EXIT_CODES)(cli_train.train)
app.command(epilog=EXIT_CODES)(cli_evaluate.evaluate)
app.command(epilog=EXIT_CODES)(cli_report.report)

data = typer.Typer(help="Data sets: list kinds, check a folder, fetch open sets, simulate.", no_args_is_help=True)
data.command("list", epilog=EXIT_CODES)(cli_data.list_)
for command in (cli_data.check, cli_data.fetch, cli_data.simulate):
    data.command(epilog=EXIT_CODES)(command)
app.add_typer(data, name="data")
app.add_typer(cli_explain.app, name="explain")


@app.command(epilog=EXIT_CODES)
def score(
    file: Annotated[Path, typer.Argument(help="Recording, or the folder of a run.")],
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help="Bundle file or name, or a rig file whose bundle is meant. [default]"),
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Stream inside a file that holds several.")] = None,
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="INPUT=LABEL: which channel of the file is which.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for results. [beside FILE]")
    ] = None,
    hop_s: Annotated[float | None, typer.Option(help="Seconds between outputs. [one epoch]")] = None,
    look_ahead_s: Annotated[float | None, typer.Option(help="Look-ahead of final outputs. [the bundle's]")] = None,
) -> None:
    """Score a recording offline with the same engine; writes a hypnogram as CSV and EDF+ annotations."""
    from streamscore.score import score_command

    result = score_command(file, bundle, stream, parse_channels(channel), hop_s, output, look_ahead_s)
    table = Table(title=f"{result.name}: {result.n_epochs} epochs", title_justify="left")
    for column in ("state", "epochs", "share"):
        table.add_column(column)
    for state, count in result.counts.items():
        table.add_row(state, str(count), f"{100 * count / max(result.n_epochs, 1):.1f} %")
    out.print(table)
    if result.agreement:
        out.print(result.agreement)
    for path in result.written:
        out.print(f"wrote {path}", soft_wrap=True)


@app.command(epilog=EXIT_CODES)
def check(
    config: Annotated[Path, typer.Argument(help="Rig file (YAML).")],
    listen_s: Annotated[float, typer.Option(min=0, help="How long to listen to the stream.")] = 3.0,
) -> None:
    """Preflight: find the streams of a rig file and compare them with the bundle."""
    from streamscore.preflight import preflight

    rows = preflight(config, listen_s)
    table = Table(title=f"check of {config}", title_justify="left")
    for column in ("what", "expected", "found", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        mark = "[green]right[/green]" if row.fits else "[red]WRONG[/red]"
        table.add_row(row.what, row.expected, row.found, mark)
    out.print(table)
    wrong = [row.what for row in rows if not row.fits]
    if wrong:
        raise LoopError(f"{len(wrong)} of {len(rows)} checks failed: {', '.join(wrong)}")
    out.print(f"all {len(rows)} checks passed")


@app.command(epilog=EXIT_CODES)
def rig(
    endpoint: Annotated[str, typer.Option(help="Where to take commands.")] = "tcp://127.0.0.1:5581",
) -> None:
    """Simulated rig: acknowledges commands and prints each edge of its output as a JSON line."""
    stop = stop_on_signals()
    tool = _tool("tools.sim_rig")
    tool.serve(endpoint, stop, tool.say_json)


@app.command(epilog=EXIT_CODES)
def bench(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the tables.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short, for a look; figures are rough.")] = False,
    networks: Annotated[bool, typer.Option("--networks", help="Steps of the networks, side by side.")] = False,
    cameras: Annotated[
        bool, typer.Option("--cameras", help="Cameras at their pace: chain, network and engine.")
    ] = False,
    score: Annotated[bool, typer.Option("--score", help="Scoring a night offline, beside YASA.")] = False,
    recording: Annotated[
        Path | None, typer.Option(help="Score: the night, which the default bundle scores. [simulated]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=20, help="Cameras: how long each.")] = 60.0,
    case: Annotated[str | None, typer.Option(help="Cameras: mesoscope or run-rest alone.")] = None,
    pin_threads: Annotated[bool, typer.Option("--pin-threads", help="Cameras: as of streamscore run.")] = False,
) -> None:
    """Measure latency, CPU and memory of the real path beside the floor; or networks, cameras or scoring alone.

    Scoring beside YASA: streamscore bench --score --recording NIGHT.npz
    """
    if score:
        _tool("tools.bench_score").run(out, output, quick, recording)
        return
    if cameras:
        if pin_threads:
            _pin_threads()
        _tool("tools.bench_camera").run(out, output, 20.0 if quick else seconds, case)
        return
    _tool("tools.bench_networks" if networks else "tools.bench").run(out, output, quick)


@app.command(epilog=EXIT_CODES)
def demo(
    recording: Annotated[Path | None, typer.Argument(help="A recording; a simulated night without.")] = None,
    modality: Annotated[
        Modality, typer.Option(help="eeg: a night over LSL; wfci: a camera over ZeroMQ.")
    ] = Modality.eeg,
    speed: Annotated[float | None, typer.Option(min=0.1, help="Seconds per second. [chosen to fit]")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the panel.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder for the record.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="Which simulated subject.")] = 11,
) -> None:
    """Close the whole loop on this machine: player → LSL → engine → simulated rig, three processes."""
    plain = plain or not out.is_terminal
    if modality is Modality.wfci:
        if recording is not None or speed is not None:
            raise ConfigError("demo --modality wfci shows a simulated camera at its own pace; leave RECORDING and "
                              "--speed out")  # fmt: skip
        _tool("tools.demo_camera").run(out, plain, runs)
        return
    _tool("tools.demo").run(out, recording, speed, plain, runs, seed)


@app.command(epilog=EXIT_CODES)
def bundles(
    name: Annotated[str | None, typer.Argument(help="Bundle to show.")] = None,
) -> None:
    """List the bundles that ship, or show the model card of one."""
    from streamscore.bundle import load_bundle, shipped_bundles

    if name is None:
        for shipped in shipped_bundles():
            spec = load_bundle(shipped).spec
            out.print(f"{shipped}: {spec.model}, {spec.sfreq:g} Hz, {'/'.join(spec.channels)} → {spec.vocabulary}")
        return
    loaded = load_bundle(name)
    out.print(f"sha256 {loaded.sha256}\n\n{loaded.spec.card}", markup=False)


@app.command(epilog=EXIT_CODES)
def models(
    name: Annotated[str | None, typer.Argument(help="Kind or name of networks; all without.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of tables.")] = False,
    time: Annotated[bool, typer.Option(help="Measure the time of a step here.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for measuring.")] = 1,
) -> None:
    """List the networks: input, size, timing, cost of a step on this machine, published figures."""
    import torch

    from streamscore import catalogue

    torch.set_num_threads(threads)
    entries = []
    for kind, example_name, about, example in catalogue.choose(name):
        with err.status(f"measuring {example_name}"):
            entries.append(catalogue.describe(kind, example_name, about, example, measure=time))
    if as_json:
        sys.stdout.write(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2) + "\n")
        return
    wide = Console(highlight=False, width=max(out.width, catalogue.TABLE_WIDTH))
    wide.print(catalogue.table(entries))
    wide.print(f"\n{catalogue.publications(entries)}", markup=False)


@app.command(epilog=EXIT_CODES)
def schema() -> None:
    """Print the JSON schema of every event."""
    from streamscore.events import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


def _tool(name: str) -> Any:
    """Import a module of ``tools`` by name; the package itself never depends on it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{name} needs {error.name!r}, which is not installed; install streamscore from its repository "
            "(pip install -e '.[dev]')"
        ) from error


def main() -> None:
    """Entry point: errors that a user can meet become one message and an exit code."""
    try:
        app(prog_name="streamscore", standalone_mode=True)
    except StreamscoreError as error:
        err.print(f"[red]error:[/red] {type(error).__name__}:", end=" ")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output went away; that is not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
