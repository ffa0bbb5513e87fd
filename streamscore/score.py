"""Score a file or a run folder offline: the same engine on a virtual clock, as fast as possible."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopFlag
from typing import Any

from streamscore.bundle import Bundle, open_bundle
from streamscore.camera.config import CameraConfig
from streamscore.clock import VirtualClock
from streamscore.config import RigConfig, StreamConfig, load_rig_file
from streamscore.engine import Engine, Summary
from streamscore.errors import BundleMismatchError, ConfigError, RecordError
from streamscore.events import Event, PosteriorEvent
from streamscore.hypnogram import Hypnogram
from streamscore.labels import UNKNOWN, name_of
from streamscore.metrics import compare
from streamscore.misfit import refuse_misfit
from streamscore.movies.base import Movie, read_movie
from streamscore.record import NullRecorder, read_run
from streamscore.record.run_folder import CONFIG_FILE, RunRecord
from streamscore.recordings.base import Recording
from streamscore.sinks.base import Sink
from streamscore.sources import file as file_source
from streamscore.sources import movie as movie_source
from streamscore.sources.file import FileSource
from streamscore.sources.movie import MovieSource
from streamscore.types import Posterior, StreamInfo

#: What a rig file says of a camera that a movie's file does not say better.
_CAMERA_FIELDS = set(CameraConfig.model_fields) - {"counter_bits"}
#: Taken in at once by default. Sixteen epochs of a night are one call of a network; larger calls are no quicker.
SIGNALS_CHUNK_S, MOVIE_CHUNK_S = 480.0, 1.0


class _Keep(Sink):
    """Keeps posteriors in memory."""

    def __init__(self) -> None:
        self.posteriors: list[Posterior] = []

    def write(self, event: Event, text: str) -> None:
        if isinstance(event, PosteriorEvent) and not event.lane:
            self.posteriors.append(posterior_from(vars(event)))

    def close(self) -> None:
        pass


def posterior_from(event: Mapping[str, Any]) -> Posterior:
    """Rebuild a posterior from its event."""
    return Posterior(
        start=event["start"],
        stop=event["stop"],
        t_start_s=event["t_start_s"],
        t_stop_s=event["t_stop_s"],
        probs=tuple(event["probs"]),
        state=event["state"],
        valid=event["valid"],
        reason=event["reason"],
        kind=event["kind"],
        lag_s=event["lag_s"],
    )


@dataclass(frozen=True)
class Score:
    """What scoring a file gave.

    Parameters
    ----------
    posteriors
        All outputs in order, one a hop.
    hypnogram
        Those on the grid of the labels, or of the recording's start.
    recording
        What was scored, signals or a movie.
    info, summary
        The stream, and how the run went.
    """

    posteriors: tuple[Posterior, ...]
    hypnogram: Hypnogram
    recording: Recording | Movie
    info: StreamInfo
    summary: Summary


def score_file(
    path: Path,
    bundle: Bundle,
    *,
    stream: str | None = None,
    channels: Mapping[str, str] | None = None,
    hop_s: float | None = None,
    chunk_s: float | None = None,
    base: RigConfig | None = None,
    camera: Mapping[str, Any] | None = None,
) -> Score:
    """Run `bundle` over the recording at `path`.

    Parameters
    ----------
    path
        Any recording that :func:`streamscore.recordings.base.read_recording` reads, or a movie that
        :func:`streamscore.movies.base.read_movie` does.
    bundle
        What scores it.
    stream
        Name of the stream inside a file that holds several.
    channels
        Input name → channel label of the file.
    hop_s
        Time between outputs; one epoch (the published grid) by default.
    chunk_s
        Stream seconds taken in at once, :data:`SIGNALS_CHUNK_S` or :data:`MOVIE_CHUNK_S` by default; changes
        speed, never results.
    base
        Rig file whose time and quality rules are used (those of a run that is scored again).
    camera
        What a rig file says of the camera (:class:`~streamscore.camera.config.CameraConfig`), for movies.

    Raises
    ------
    RecordingError, StreamFormatError, BundleMismatchError
        If the file cannot be read or does not fit.
    """
    clock = VirtualClock()
    section = _section(path, bundle, stream, channels, chunk_s, camera)
    source: FileSource | MovieSource
    if section["kind"] == "movie":
        source = movie_source.build(movie_source.Config(**section), clock)
    else:
        source = file_source.build(file_source.Config(**section), clock)
    return _run(source, section, bundle, clock, hop_s, base)


def score_recording(
    recording: Recording | Movie,
    bundle: Bundle,
    *,
    channels: Mapping[str, str] | None = None,
    hop_s: float | None = None,
    chunk_s: float | None = None,
    base: RigConfig | None = None,
    camera: Mapping[str, Any] | None = None,
) -> Score:
    """Run `bundle` over a recording in memory, or over a movie that is open and is closed by it.

    Parameters are those of :func:`score_file`.

    Raises
    ------
    StreamFormatError, BundleMismatchError
        If the recording does not fit; the message names it. A movie is closed.
    """
    try:
        refuse_misfit(recording, bundle, channels)
    except BundleMismatchError:
        if isinstance(recording, Movie):
            recording.close()
        raise
    clock = VirtualClock()
    wanted = bundle.spec.channels
    if isinstance(recording, Movie) and not channels and len(wanted) == 1:  # the only light is the one wanted
        if len(recording.lights) == 1:
            channels = {wanted[0]: recording.lights[0]}
        elif not recording.lights and not {"lights", "tags"} & (camera or {}).keys():
            camera = {**(camera or {}), "lights": wanted}
    section = _section(Path(recording.name), bundle, None, channels, chunk_s, camera, is_open=True)
    source: FileSource | MovieSource
    if isinstance(recording, Movie):
        source = MovieSource(movie_source.Config(**section), clock, recording)
    else:
        source = FileSource(file_source.Config(**section), clock, recording)
    return _run(source, section, bundle, clock, hop_s, base)


def _section(
    path: Path,
    bundle: Bundle,
    stream: str | None,
    channels: Mapping[str, str] | None,
    chunk_s: float | None,
    camera: Mapping[str, Any] | None,
    is_open: bool = False,
) -> dict[str, Any]:
    """Return the source as a rig file would describe it."""
    common: dict[str, Any] = {"path": path, "channels": dict(channels) if channels else None, "speed": 0.0}
    if bundle.layout.frame_shape is None:
        return {"kind": "file", **common, "stream": stream, "chunk_s": chunk_s or SIGNALS_CHUNK_S}
    section = {"kind": "movie", **common, "dataset": stream, "chunk_s": chunk_s or MOVIE_CHUNK_S}
    section |= {"frame_shape": bundle.layout.frame_shape, **(camera or {})}
    if not is_open and len(bundle.spec.channels) == 1 and not {"lights", "tags"} & section.keys():
        with read_movie(path, dataset=stream, rate_hz=section.get("rate_hz")) as movie:
            if len(movie.lights) <= 1:  # the only light of a file is the one that is wanted
                section["lights"] = bundle.spec.channels
    return section


def _run(
    source: FileSource | MovieSource,
    section: Mapping[str, Any],
    bundle: Bundle,
    clock: VirtualClock,
    hop_s: float | None,
    base: RigConfig | None,
) -> Score:
    """Play `source` through an engine on a virtual clock."""
    timing = bundle.model.timing
    epoch_s, step_s = timing.epoch_samples / bundle.spec.sfreq, timing.step_samples / bundle.spec.sfreq
    config = (base or RigConfig(source={})).model_copy(
        update={
            "source": dict(section),
            "hop_s": hop_s or max(epoch_s, step_s),
            "policy": None,
            "rig": None,
            "streams": {},
            "gates": (),
            "sinks": (),
        }
    )
    keep = _Keep()
    infos: list[StreamInfo] = []

    def make_recorder(streams: Mapping[str, StreamInfo]) -> NullRecorder:
        infos.append(streams[""])
        return NullRecorder()

    engine = Engine(
        config,
        source,
        bundle=bundle,
        clock=clock,
        make_recorder=make_recorder,
        sinks=[keep],
        heartbeat_s=float("inf"),
    )
    summary = engine.run(StopFlag())
    recording = source.recording if isinstance(source, FileSource) else source.movie
    offset_s = source.offset_s if isinstance(source, FileSource) else 0.0
    t0_s = _grid_start_s(recording, epoch_s, infos[0].sfreq) + offset_s
    hypnogram = Hypnogram.from_posteriors(keep.posteriors, bundle.spec.labels, epoch_s, t0_s)
    return Score(tuple(keep.posteriors), hypnogram, recording, infos[0], summary)


def _grid_start_s(recording: Recording | Movie, epoch_s: float, sfreq: float) -> float:
    """Start of the scoring grid: that of the file's labels if the first sample lies on it."""
    if len(recording.stamps_s) == 0:
        return 0.0
    first_s = float(recording.stamps_s[0]) + _delay_s(recording)
    labels_s = recording.states_t0_s + _delay_s(recording)
    epochs = (first_s - labels_s) / epoch_s
    on_grid = abs(epochs - round(epochs)) * epoch_s < 0.5 / sfreq
    return labels_s if recording.labels and epochs >= 0 and on_grid else first_s


def _delay_s(recording: Recording | Movie) -> float:
    """Time from the first frame of a movie's sample to its stamp, which is that of its last frame."""
    return recording.sample_delay_s if isinstance(recording, Movie) else 0.0


@dataclass(frozen=True)
class Report:
    """What the command shows.

    Parameters
    ----------
    name
        File or run.
    n_epochs
        Epochs of the hypnogram, unknown ones included.
    counts
        Epochs by state.
    agreement
        Accuracy and κ against the labels of the file; empty where it has none.
    written
        Files written.
    """

    name: str
    n_epochs: int
    counts: dict[str, int]
    agreement: str
    written: tuple[Path, ...]


def score_command(
    file: Path,
    bundle_name: str | None,
    stream: str | None,
    channels: Mapping[str, str] | None,
    hop_s: float | None,
    output: Path | None,
    look_ahead_s: float | None = None,
) -> Report:
    """Score a recording or a run folder and write its hypnogram as CSV and EDF+ annotations.

    A run folder brings its own rig file: rules of time and quality, channel names, bundle.
    """
    base = None
    path = file
    bundle_choice: str | dict[str, Any] = bundle_name or "default"
    camera: dict[str, Any] = {}
    if file.is_dir():
        record = read_run(file)
        lane = stream or ""
        base, stream = _of_run(record, lane)
        path = record.raw_path
        if bundle_name is None and base.bundle is not None:
            bundle_choice = base.bundle
        look_ahead_s = base.look_ahead_s if look_ahead_s is None else look_ahead_s
        channels = None  # raw.xdf holds the channels under the bundle's names
    elif bundle_name is not None and Path(bundle_name).suffix in (".yaml", ".yml"):
        base = load_rig_file(Path(bundle_name))
        camera = {key: value for key, value in base.source.items() if key in _CAMERA_FIELDS}
    if hop_s is not None and not (math.isfinite(hop_s) and hop_s > 0):
        raise ConfigError(f"hop_s is {hop_s:g}; choose a number of seconds above 0")
    bundle = open_bundle(bundle_choice, look_ahead_s, base.calibration if base else None)
    if file.is_dir() and not lane and record.run["bundle_hash"] not in ("", bundle.sha256):
        raise BundleMismatchError(
            f"{file}: the run was scored by bundle {record.run['bundle_hash'][:12]}, but {bundle.spec.name!r} "
            f"here is {bundle.sha256[:12]}; give the bundle of the run with --bundle"
        )
    result = score_file(path, bundle, stream=stream, channels=channels, hop_s=hop_s, base=base, camera=camera)
    folder = output or file.parent if not file.is_dir() else output or file
    folder.mkdir(parents=True, exist_ok=True)
    stem = file.resolve().stem
    written = (folder / f"{stem}-hypnogram.csv", folder / f"{stem}-hypnogram.edf")
    result.hypnogram.write_csv(written[0])
    result.hypnogram.write_edf(written[1])
    names = [name_of(int(code), bundle.spec.labels) for code in result.hypnogram.codes]
    counts = {state: names.count(state) for state in (*bundle.spec.labels, UNKNOWN)}
    return Report(stem, len(names), counts, _agreement(result, bundle), written)


def _of_run(record: RunRecord, lane: str) -> tuple[RigConfig, str]:
    """Return the rules by which a stream of a run was scored, and its name in the raw file.

    Raises
    ------
    RecordError
        If the run kept no raw samples of it; lists the streams that it has.
    """
    base = load_rig_file(record.folder / CONFIG_FILE)
    streams = {"": record.run["stream"], **record.run.get("streams", {})}
    kept = {name: info for name, info in streams.items() if info}
    if lane not in kept:
        which = f"stream {lane!r}" if lane else "its main stream"
        raise RecordError(
            f"{record.folder}: the run kept no raw samples of {which}; it has those of "
            f"{', '.join(name or 'the main stream' for name in kept) or 'none'}. Score the movie that was played, "
            "or name a stream with --stream"
        )
    if lane:
        section = base.streams[lane]
        base = base.model_copy(update={name: getattr(section, name) for name in StreamConfig.model_fields})
    return base, str(kept[lane]["name"])


def _agreement(result: Score, bundle: Bundle) -> str:
    """Compare with the labels of the file, where it has some of the same kind on the same grid."""
    truth, hypnogram = result.recording, result.hypnogram
    same_grid = truth.epoch_s == hypnogram.epoch_s and truth.states_t0_s + _delay_s(truth) == hypnogram.t0_s
    if truth.labels != bundle.spec.labels or not same_grid:
        return ""
    n = min(len(truth.states), len(hypnogram))
    report = compare(truth.states[:n], hypnogram.codes[:n], truth.labels)
    return (
        f"against the labels of the file: accuracy {report.accuracy:.3f}, kappa {report.kappa:.3f}, "
        f"{100 * report.coverage:.1f} % of labelled epochs scored"
    )
