"""Commands for cameras; :mod:`streamscore.cli` adds them to the command line."""

from __future__ import annotations

import importlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streamscore.errors import ConfigError
from streamscore.stop import stop_on_signals

#: Lights of the mesoscope that the calcium-sleep recordings were made with, and of two- and one-colour rigs.
LIGHTS = {
    1: ("fluorescence_470",),
    2: ("fluorescence_470", "reference_405"),
    4: ("fluorescence_470", "reflectance_523", "reflectance_595", "reflectance_640"),
}


class FramesTo(StrEnum):
    """Ways out for frames."""

    push = "push"
    pub = "pub"
    lsl = "lsl"


class FramesFrom(StrEnum):
    """What a simulated camera sees."""

    cortex = "cortex"
    noise = "noise"


def parse_shape(text: str) -> tuple[int, int]:
    """Turn ``HEIGHTxWIDTH`` into numbers; raises ``ConfigError``."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise ConfigError(f"--shape {text!r}: write HEIGHTxWIDTH, for example --shape 128x128")
    return int(height), int(width)


def register(
    frame: Annotated[str, typer.Argument(help="A frame, or several of one light: .npy, .npz, .tif …")],
    bregma: Annotated[str, typer.Option(help="X,Y of bregma on the frame, in pixels from its top left.")],
    lambda_: Annotated[str, typer.Option("--lambda", help="X,Y of lambda.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the transform.")] = Path(
        "transform.json"
    ),
    landmark: Annotated[
        list[str] | None, typer.Option(help="X,Y=X,Y: a further pair, on the frame and in the atlas.")
    ] = None,
    atlas: Annotated[str | None, typer.Option(help="Mask of an atlas of your own. [our drawing]")] = None,
    atlas_bregma: Annotated[str | None, typer.Option(help="X,Y of bregma on it.")] = None,
    atlas_lambda: Annotated[str | None, typer.Option(help="X,Y of lambda on it.")] = None,
    max_rotation_deg: Annotated[float, typer.Option(help="More than this is taken for a mistake.")] = 60.0,
    picture: Annotated[Path | None, typer.Option(help="Overlay to look at (.png). [beside the transform]")] = None,
    no_picture: Annotated[bool, typer.Option("--no-picture", help="Write no overlay.")] = False,
) -> None:
    """Find the transform from a camera to the atlas, from bregma and lambda marked on a frame.

    It goes into the rig file: calibration: {affine: {path: transform.json}}. Look at the picture.
    """
    from streamscore.registration import register_command

    overlay = None if no_picture else picture or output.with_suffix(".png")
    told = register_command(
        frame,
        bregma,
        lambda_,
        output,
        landmarks=landmark or (),
        atlas=atlas,
        atlas_bregma=atlas_bregma,
        atlas_lambda=atlas_lambda,
        max_rotation_deg=max_rotation_deg,
        picture=overlay,
    )
    for line in told:
        typer.echo(line)


def camera(
    to: Annotated[FramesTo, typer.Option(help="ZeroMQ PUSH or PUB, or LSL.")] = FramesTo.push,
    endpoint: Annotated[str, typer.Option(help="ZeroMQ: where.")] = "tcp://127.0.0.1:5590",
    bind: Annotated[bool, typer.Option("--bind", help="ZeroMQ: this end binds.")] = False,
    topic: Annotated[str, typer.Option(help="PUB: topic.")] = "",
    name: Annotated[str, typer.Option(help="Name of the camera, or of the LSL stream.")] = "simulated-camera",
    sees: Annotated[FramesFrom, typer.Option(help="A simulated cortex, or noise.")] = FramesFrom.cortex,
    lights: Annotated[int, typer.Option(help="How many flash in turn: 1, 2 or 4.")] = 4,
    rate_hz: Annotated[float | None, typer.Option(help="Frames a second, all lights. [16.8 a light, 30]")] = None,
    shape: Annotated[str, typer.Option(help="HEIGHTxWIDTH of a frame.")] = "128x128",
    dtype: Annotated[str, typer.Option(help="Noise: type of its pixels.")] = "uint16",
    cycle_s: Annotated[float | None, typer.Option(help="Cortex: length of a sleep cycle.")] = None,
    running: Annotated[bool, typer.Option("--running", help="Cortex: awake only, at rest or running.")] = False,
    wheel: Annotated[str | None, typer.Option(help="Cortex: LSL stream for the speed of its wheel.")] = None,
    seed: Annotated[int, typer.Option(help="Of the cortex, of jitter and losses.")] = 0,
    duration_s: Annotated[float, typer.Option(help="0 never ends.")] = 0.0,
    wait_s: Annotated[
        float, typer.Option(min=0, help="How long to wait for a receiver before the first frame.")
    ] = 0.0,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Frames do not name their light.")] = False,
    no_counter: Annotated[bool, typer.Option("--no-counter", help="Frames carry no number.")] = False,
    no_time: Annotated[bool, typer.Option("--no-time", help="Frames carry no device time.")] = False,
    counter_bits: Annotated[int | None, typer.Option(help="The counter wraps after so many bits.")] = None,
    clock_offset_s: Annotated[float, typer.Option(help="Of the camera's own clock.")] = 0.0,
    drift_ppm: Annotated[float, typer.Option(help="Of the camera's own clock.")] = 0.0,
    jitter_ms: Annotated[float, typer.Option(help="Mean of a random delay of each frame.")] = 0.0,
    burst_every_s: Annotated[float, typer.Option(help="Hold frames back as often as this. [never]")] = 0.0,
    burst_ms: Annotated[float, typer.Option(help="And for so long; they then come at once.")] = 80.0,
    loss: Annotated[float, typer.Option(min=0, max=0.9, help="Part of the frames that is lost.")] = 0.0,
    loss_run: Annotated[float, typer.Option(min=1, help="In runs of this mean length.")] = 1.0,
) -> None:
    """Simulated camera: strobed frames with jitter, losses, bursts; JSON lines tell progress and true states."""
    if lights not in LIGHTS:
        raise ConfigError(f"--lights {lights}: choose {', '.join(map(str, LIGHTS))}")
    height_width = parse_shape(shape)
    stop = stop_on_signals()
    tool = importlib.import_module("tools.sim_camera")
    rate = rate_hz or (30.0 if lights == 1 else 16.8 * lights)
    options = tool.Options(
        rate_hz=rate,
        lights=LIGHTS[lights],
        duration_s=duration_s,
        tags=not no_tags,
        counted=not no_counter,
        timed=not no_time,
        counter_bits=counter_bits,
        clock_offset_s=clock_offset_s,
        drift_ppm=drift_ppm,
        jitter_s=jitter_ms / 1e3,
        burst_every_s=burst_every_s,
        burst_s=burst_ms / 1e3,
        loss=loss,
        loss_run=loss_run,
        seed=seed,
        to=to.value,
        endpoint=endpoint,
        bind=bind,
        topic=topic,
        name=name,
        wait_s=wait_s,
    )
    if sees is FramesFrom.noise:
        if wheel is not None:
            raise ConfigError("--wheel: noise has none; leave it out, or choose --sees cortex")
        tool.run(tool.noise_frames(height_width, dtype, lights, seed=seed), options, stop)
        return
    from streamscore.labels import MOUSE3, RUNREST
    from streamscore.simulate.cortex import Cortex
    from streamscore.simulate.mouse import CYCLE_S

    cortex = Cortex(
        seed=seed,
        lights=LIGHTS[lights],
        sfreq=rate / lights,
        frame_shape=height_width,
        cycle_s=cycle_s or CYCLE_S,
        sleeps=not running,
    )
    seen = importlib.import_module("tools.cortex_frames")
    seen.play(cortex, options, stop, labels=RUNREST if running else MOUSE3, wheel=wheel)


def replay_movie(
    file: Path, *, dataset: str | None, rate_hz: float | None, lights: str | None, **options: object
) -> None:
    """Play a movie; `options` are those of the player."""
    from streamscore.movies.base import read_movie

    player = importlib.import_module("tools.replay_movie")
    names = tuple(lights.split(",")) if lights else None
    with read_movie(file, dataset=dataset, rate_hz=rate_hz, lights=names) as movie:
        player.play(movie, player.Options(**options))
