"""Commands that explain networks; :mod:`streamscore.cli` adds them as ``streamscore explain METHOD``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamscore.errors import ConfigError

if TYPE_CHECKING:
    from offline.explain.given import Given
    from offline.explain.result import Explained
    from offline.explain.study import Study
    from streamscore.bundle import Bundle

app = typer.Typer(
    name="explain",
    help="Why a network decides as it does: arrays (.npz), figures (.json) and a picture (.png) for each method.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: Movies are kept in memory as the network sees them, so that only a part is taken by default.
MOVIE_SECONDS = 300.0
#: Of the studies with ``--quick``: steps of the optimiser, and blocks.
QUICK_STEPS, QUICK_FOLDS = 60, 2

BundleName = Annotated[str, typer.Argument(help="Bundle file, or name of one that ships.")]
RecordingFile = Annotated[Path, typer.Argument(help="Recording or movie, as streamscore score reads it.")]
TableFile = Annotated[Path, typer.Argument(help="Traces of regions (.npz with dff, t, wheel and fs).")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")]
Channels = Annotated[
    list[str] | None, typer.Option("--channel", help="INPUT=LABEL: which channel of the file is which.")
]
Begin = Annotated[float, typer.Option(min=0, help="Leave out so many seconds at the start.")]
Seconds = Annotated[
    float | None,
    typer.Option(min=0.1, help=f"Length of the part that is taken. [all; of a movie {MOVIE_SECONDS:g}]"),
]
LookAhead = Annotated[float | None, typer.Option(help="Look-ahead of final outputs. [the bundle's]")]
Lights = Annotated[
    str | None, typer.Option(help="Names of the movie's lights in turn, with commas. [as the file says]")
]
Rate = Annotated[float | None, typer.Option(help="Frames a second, where the movie does not say.")]
Seed = Annotated[int, typer.Option(help="Of what is drawn.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of the optimiser in each training.")]
Folds = Annotated[int, typer.Option(min=2, help="Blocks of the cross-validation.")]
Quick = Annotated[
    bool, typer.Option("--quick", help=f"For a look: {QUICK_STEPS} steps, {QUICK_FOLDS} blocks; rough figures.")
]
Cluster = Annotated[
    str | None, typer.Option(help="auto, or HOST:PORT of a Ray cluster: several trainings at once.")
]


@app.command("grad-cam")
def grad_cam(
    bundle: BundleName,
    recording: RecordingFile,
    output: Out,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
    look_ahead_s: LookAhead = None,
    lights: Lights = None,
    rate_hz: Rate = None,
) -> None:
    """Where in the frames lies what speaks for each state (Grad-CAM).

    Example: streamscore explain grad-cam cnn-bilstm-simulated-causal movie.tif --out why
    """
    from offline.explain.grad_cam import grad_cam as method

    loaded = _load(bundle, look_ahead_s)
    given = _given(loaded, recording, None, begin_s, seconds, lights, rate_hz)
    _finish(method(loaded.model, given), output, _about(loaded, recording, begin_s, seconds))


@app.command()
def attention(
    bundle: BundleName,
    recording: RecordingFile,
    output: Out,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
    look_ahead_s: LookAhead = None,
    lights: Lights = None,
    rate_hz: Rate = None,
) -> None:
    """Which frames of an epoch the CNN-BiLSTM reads (attention weights).

    Example: streamscore explain attention cnn-bilstm-simulated-causal movie.tif --out why
    """
    from offline.explain.attention import attention as method

    loaded = _load(bundle, look_ahead_s)
    given = _given(loaded, recording, None, begin_s, seconds, lights, rate_hz)
    _finish(method(loaded.model, given), output, _about(loaded, recording, begin_s, seconds))


@app.command("cut-out")
def cut_out(
    output: Out,
    bundle: Annotated[str | None, typer.Argument(help="Bundle file or name; not with --retrain.")] = None,
    recording: Annotated[Path | None, typer.Argument(help="Movie with labels; not with --retrain.")] = None,
    inner: Annotated[
        bool, typer.Option("--inner", help="Only the 49 squares inside the frame, not the 15 around its edges.")
    ] = False,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
    look_ahead_s: LookAhead = None,
    lights: Lights = None,
    rate_hz: Rate = None,
    retrain: Annotated[
        str | None, typer.Option(help="Recipe to train anew for each square, as the paper does.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="With --retrain: folder of recordings.")] = None,
    kind: Annotated[str | None, typer.Option(help="With --retrain: kind of data set. [recognised]")] = None,
    folds: Annotated[
        str, typer.Option(help="With --retrain: how subjects are held out; the first fold is taken.")
    ] = "loo",
    device: Annotated[str, typer.Option(help="With --retrain: auto, cpu or cuda.")] = "auto",
    cluster: Cluster = None,
    seed: Seed = 0,
) -> None:
    """What is lost without a square of the cortex: loss of AUC in an 8 × 8 map.

    Example: streamscore explain cut-out cnn-gru-simulated movie.tif --out why

    Example: streamscore explain cut-out --retrain RECIPE --data mice --out why
    """
    if retrain is not None:
        if data is None or bundle is not None or recording is not None:
            raise ConfigError("--retrain trains its own networks: give --data FOLDER, and no bundle or recording")
        from offline.explain.masked_training import cut_out_retrained

        found = cut_out_retrained(
            retrain,
            data,
            output,
            kind=kind,
            folds=folds,
            seed=seed,
            wrap=not inner,
            device=device,
            cluster=cluster,
        )
        about = {"recipe": retrain, "data": str(data), "folds": folds, "seed": seed, "device": device}
        _finish(found, output, about)
        return
    if bundle is None or recording is None:
        raise ConfigError("cut-out takes a bundle and a recording with labels, or --retrain RECIPE --data FOLDER")
    from offline.explain.cut_out import cut_out as method

    loaded = _load(bundle, look_ahead_s)
    given = _given(loaded, recording, None, begin_s, seconds, lights, rate_hz)
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("squares", total=None)
        found = method(
            loaded.model,
            given,
            wrap=not inner,
            tell=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _finish(found, output, _about(loaded, recording, begin_s, seconds))


@app.command()
def shap(
    bundle: BundleName,
    recording: RecordingFile,
    output: Out,
    channel: Channels = None,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
    look_ahead_s: LookAhead = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows that are explained, drawn at random.")] = 200,
    background: Annotated[int, typer.Option(min=2, help="Windows that they are compared with.")] = 100,
    window_s: Annotated[
        float, typer.Option(min=0.01, help="Past of a network that carries its state, in seconds.")
    ] = 3.0,
    seed: Seed = 0,
) -> None:
    """What each region at each frame adds to the probability of running (Deep SHAP of a ROI-RNN).

    Example: streamscore explain shap roi-gru.safetensors traces.npz --out why
    """
    from offline.explain.shap import shap as method

    loaded = _load(bundle, look_ahead_s)
    given = _given(loaded, recording, channel, begin_s, seconds)
    with err.status("taking the network apart"):
        found = method(
            loaded.model,
            given,
            loaded.spec.channels,
            n_windows=windows,
            n_background=background,
            window_s=window_s,
            seed=seed,
        )
    settings = {"windows": windows, "background": background, "window_s": window_s, "seed": seed}
    _finish(found, output, {**_about(loaded, recording, begin_s, seconds), **settings})


@app.command()
def sensitivity(
    bundle: BundleName,
    recording: RecordingFile,
    output: Out,
    channel: Channels = None,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
) -> None:
    """Which frequencies and times of its image a VGG16 is sensitive to, by class.

    Example: streamscore explain sensitivity vgg.safetensors night.edf --channel EEG="EEG Fpz-Cz" --out why
    """
    from offline.explain.sensitivity import sensitivity as method

    loaded = _load(bundle)
    given = _given(loaded, recording, channel, begin_s, seconds)
    _finish(method(loaded.model, given), output, _about(loaded, recording, begin_s, seconds))


@app.command()
def filters(
    bundle: BundleName,
    recording: RecordingFile,
    output: Out,
    channel: Channels = None,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
) -> None:
    """Which first-layer filters of DeepSleepNet or TinySleepNet are active in which stage.

    Example: streamscore explain filters tinysleepnet-ucddb night.edf --channel EEG=C3-A2 --out why
    """
    from offline.explain.filters import filters as method

    loaded = _load(bundle)
    given = _given(loaded, recording, channel, begin_s, seconds)
    _finish(method(loaded.model, given), output, _about(loaded, recording, begin_s, seconds))


@app.command()
def memory(
    bundle: BundleName,
    recording: RecordingFile,
    output: Out,
    channel: Channels = None,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
) -> None:
    """Memory cells of DeepSleepNet or TinySleepNet through a night, beside the hypnogram.

    Example: streamscore explain memory tinysleepnet-ucddb night.edf --channel EEG=C3-A2 --out why
    """
    from offline.explain.memory import memory as method

    loaded = _load(bundle)
    given = _given(loaded, recording, channel, begin_s, seconds)
    _finish(method(loaded.model, given), output, _about(loaded, recording, begin_s, seconds))


@app.command()
def salience(
    bundle: BundleName,
    recording: RecordingFile,
    output: Out,
    channel: Channels = None,
    begin_s: Begin = 0.0,
    seconds: Seconds = None,
) -> None:
    """Which waves a SalientSleepNet responds to, under the signal.

    Example: streamscore explain salience salient.safetensors night.edf --channel EEG=Fpz-Cz --out why
    """
    from offline.explain.salience import salience as method

    loaded = _load(bundle)
    given = _given(loaded, recording, channel, begin_s, seconds)
    found = method(loaded.model, given, loaded.spec.channels)
    _finish(found, output, _about(loaded, recording, begin_s, seconds))


@app.command()
def regions(
    table: TableFile,
    output: Out,
    subset: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=NUMBERS of regions from 1, as limbs=6-9,31-34. [the paper's, or parts of the map]"
        ),
    ] = None,
    steps: Steps = 150,
    folds: Folds = 3,
    seed: Seed = 0,
    cluster: Cluster = None,
    quick: Quick = False,
) -> None:
    """Which regions tell run from rest: trained on subsets, and on all but them.

    Stopped, the same command goes on where it was.

    Example: streamscore explain regions parcels_10hz.npz --out why --quick
    """
    from offline.explain.regions import parse
    from offline.explain.regions import regions as method

    study = _study(table, output, steps, folds, seed, cluster, quick)
    subsets = parse(subset, study.data().dff.shape[1]) if subset else None
    _finish(method(study, subsets), output, {})


@app.command("window-length")
def window_length(
    table: TableFile,
    output: Out,
    half_window_s: Annotated[
        list[float] | None, typer.Option("--half-window-s", help="Reach to either side; may be given again.")
    ] = None,
    steps: Steps = 150,
    folds: Folds = 3,
    seed: Seed = 0,
    cluster: Cluster = None,
    quick: Quick = False,
) -> None:
    """How long a window the run/rest decoder needs: trained with windows of several lengths.

    Stopped, the same command goes on where it was.

    Example: streamscore explain window-length parcels_10hz.npz --out why --quick
    """
    from offline.explain.window_length import HALF_WINDOWS_S
    from offline.explain.window_length import window_length as method

    study = _study(table, output, steps, folds, seed, cluster, quick)
    _finish(method(study, tuple(sorted(half_window_s or HALF_WINDOWS_S))), output, {})


@app.command("label-shift")
def label_shift(
    table: TableFile,
    output: Out,
    shift_s: Annotated[
        list[float] | None, typer.Option("--shift-s", help="How much later the label is; may be given again.")
    ] = None,
    steps: Steps = 150,
    folds: Folds = 3,
    seed: Seed = 0,
    cluster: Cluster = None,
    quick: Quick = False,
) -> None:
    """Whether the cortex tells of running before or after it: trained with shifted labels.

    Stopped, the same command goes on where it was.

    Example: streamscore explain label-shift parcels_10hz.npz --out why --quick
    """
    from offline.explain.label_shift import SHIFTS_S
    from offline.explain.label_shift import label_shift as method

    study = _study(table, output, steps, folds, seed, cluster, quick)
    _finish(method(study, tuple(sorted(shift_s or SHIFTS_S))), output, {})


def _load(name: str, look_ahead_s: float | None = None) -> Bundle:
    from streamscore.bundle import load_bundle

    bundle = load_bundle(name)
    return bundle if look_ahead_s is None else bundle.at_look_ahead(look_ahead_s)


def _given(
    bundle: Bundle,
    recording: Path,
    channels: list[str] | None,
    begin_s: float,
    seconds: float | None,
    lights: str | None = None,
    rate_hz: float | None = None,
) -> Given:
    """Play the recording through the engine as far as the network."""
    from offline.explain.given import given, open_recording

    pairs = {}
    for pair in channels or ():
        name, equals, label = pair.partition("=")
        if not equals or not name or not label:
            raise ConfigError(f"--channel {pair!r}: write INPUT=LABEL, for example --channel EEG=C3-A2")
        pairs[name] = label
    opened = open_recording(recording, bundle, tuple(lights.split(",")) if lights else (), rate_hz)
    if bundle.layout.frame_shape is not None:
        seconds = seconds or MOVIE_SECONDS
    with err.status(f"playing {recording.name}"):
        return given(opened, bundle, channels=pairs or None, begin_s=begin_s, seconds=seconds)


def _study(
    table: Path, output: Path, steps: int, folds: int, seed: int, cluster: str | None, quick: bool
) -> Study:
    from offline.explain.study import Study as Settings

    if quick:
        steps, folds = QUICK_STEPS, QUICK_FOLDS
    return Settings(table, output / "trainings", steps, folds, seed, cluster)


def _about(bundle: Bundle, recording: Path, begin_s: float, seconds: float | None) -> dict[str, Any]:
    from offline.explain.marks import marks_of

    return {
        "marks": list(marks_of(bundle, recording)),
        "bundle": {"name": bundle.spec.name, "sha256": bundle.sha256, "model_args": bundle.spec.model_args},
        "recording": str(recording),
        "begin_s": begin_s,
        "seconds": seconds,
    }


def _finish(found: Explained, output: Path, about: Mapping[str, Any]) -> None:
    """Write the files and show the table."""
    written = found.write(output, about)
    table = Table(title=found.title, title_justify="left")
    for column in found.columns:
        table.add_column(column)
    for cells in found.rows:
        table.add_row(*cells)
    out.print(table)
    for path in written:
        out.print(f"wrote {path}", soft_wrap=True)
