"""Simulated data sets in the plain layout, for trying a recipe out and for tests.

Subject `k` of a set comes from seed ``seed + k`` of :mod:`streamscore.simulate` and is called by that number,
so that two sets with other seeds have other subjects. Whatever is learnt from them says that the software
works, nothing more; ``README.txt`` and ``dataset.json`` in the folder say so too.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offline.atomic import replacing
from offline.datasets.base import OPTIONS_FILE
from offline.datasets.plain import TABLE_SUFFIX
from streamscore.errors import ConfigError
from streamscore.labels import MOUSE3, RUNREST
from streamscore.models.mvg_cnn import PARCELS
from streamscore.simulate.cortex import ONE_LIGHT, Cortex
from streamscore.simulate.cortex_map import CortexMap
from streamscore.simulate.simulator import Simulator
from streamscore.types import FloatArray

README = "README.txt"
#: Epochs that the public calcium recordings are scored in.
CALCIUM_EPOCH_S = 10.0
#: Regions of one hemisphere, as many as the published traces have, and their size.
ROIS_A_SIDE, ROI_RADIUS_MM = 25, 0.35
#: Parcels of one hemisphere that MVG-CNN reads.
PARCELS_A_SIDE = len(PARCELS) // 2
_ROI_SIDE_PX = 64
#: Samples or frames made at a time.
_PIECE = 4096
_MOVIE_PIECE = 64


@dataclass(frozen=True)
class Plan:
    """What to simulate.

    Parameters
    ----------
    n_subjects, hours, seed
        How many, how long each, and the seed of the first.
    sfreq
        Samples or frames a second; ``None`` for the usual of the kind.
    cycle_s
        Length of a sleep cycle; ``None`` for the natural one. A short one lets short recordings show all states.
    side_px
        Side of the frames of a movie.
    """

    n_subjects: int
    hours: float
    seed: int = 0
    sfreq: float | None = None
    cycle_s: float | None = None
    side_px: int = 128


@dataclass(frozen=True)
class Kind:
    """A kind of simulated recording: what it is, its labels and usual rate, and what writes one."""

    title: str
    vocabulary: str
    sfreq: float
    write: Callable[[Path, str, int, Plan, float], None]


def simulate(kind: str, folder: Path, plan: Plan) -> Iterator[Path]:
    """Write a data set, and yield each recording when it is written.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    folder
        Where; it is made if absent. The same plan writes the same files again.
    plan
        What.

    Raises
    ------
    ConfigError
        If a number is out of range, or the folder holds something else.
    RecordError
        If a file cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"cannot simulate {kind!r}; choose one of {', '.join(KINDS)}")
    if plan.n_subjects < 1 or not (math.isfinite(plan.hours) and plan.hours > 0) or plan.seed < 0:
        raise ConfigError(
            f"cannot simulate {plan.n_subjects} subjects of {plan.hours:g} h from seed {plan.seed}; choose "
            "--subjects 1 or more, --hours above 0 and --seed 0 or more"
        )
    settings = {"simulated": True, "simulator": kind, **vars(plan)}
    _claim(folder, settings)
    made = KINDS[kind]
    described = {
        "kind": "plain",
        "vocabulary": made.vocabulary,
        "title": f"SIMULATED: {made.title}",
        "source": "streamscore data simulate",
        "licence": "CC0-1.0",
        "simulated": True,
    }
    with replacing(folder / OPTIONS_FILE) as path:
        path.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    for k in range(plan.n_subjects):
        name = f"sim{plan.seed + k:05d}"
        made.write(folder, name, plan.seed + k, plan, plan.sfreq or made.sfreq)
        yield next(path for path in folder.glob(f"{name}.*") if path.suffix in (".npz", ".npy"))


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Say what the folder holds before anything else is in it; refuse one that holds something else."""
    text = (
        "SIMULATED recordings, made by `streamscore data simulate`. They are no measurements of any\n"
        "person or animal, and accuracies on them are not those on real recordings; see docs/simulated.md.\n\n"
        f"{json.dumps(settings)}\n"
    )
    readme = folder / README
    others = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if others and not (readme.is_file() and readme.read_text(encoding="utf-8") == text):
        raise ConfigError(
            f"{folder}: holds other files ({', '.join(sorted(others)[:3])}); choose an empty folder with --to, "
            "so that simulated and other recordings never mix"
        )
    with replacing(readme) as path:
        path.write_text(text, encoding="utf-8")


def _write_signals(species: str) -> Callable[[Path, str, int, Plan, float], None]:
    def write(folder: Path, name: str, seed: int, plan: Plan, sfreq: float) -> None:
        stream = Simulator(species, sfreq, seed, plan.hours * 3600.0, plan.cycle_s)  # type: ignore[arg-type]
        data, codes = stream.read(stream.n_samples or 0)
        _write_npz(folder, name, data, sfreq, stream.channels, stream.units)
        _write_epochs(folder, name, codes, sfreq, stream.epoch_s, stream.labels)

    return write


def _write_calcium(folder: Path, name: str, seed: int, plan: Plan, sfreq: float) -> None:
    shape = (plan.side_px, plan.side_px)
    cycle = {} if plan.cycle_s is None else {"cycle_s": plan.cycle_s}
    cortex = Cortex(seed=seed, lights=ONE_LIGHT, sfreq=sfreq, frame_shape=shape, **cycle)  # type: ignore[arg-type]
    codes, _ = _write_movie(folder, name, cortex, round(plan.hours * 3600 * sfreq), "calcium")
    _write_epochs(folder, name, codes, sfreq, CALCIUM_EPOCH_S, MOUSE3)


def _write_run_rest(folder: Path, name: str, seed: int, plan: Plan, sfreq: float) -> None:
    shape = (plan.side_px, plan.side_px)
    cortex = Cortex(seed=seed, lights=ONE_LIGHT, sfreq=sfreq, frame_shape=shape, sleeps=False)
    _, running = _write_movie(folder, name, cortex, round(plan.hours * 3600 * sfreq), ONE_LIGHT[0])
    _write_bouts(folder, name, running, sfreq, RUNREST)


def _write_roi(folder: Path, name: str, seed: int, plan: Plan, sfreq: float) -> None:
    shape = (_ROI_SIDE_PX, _ROI_SIDE_PX)
    cortex = Cortex(seed=seed, lights=ONE_LIGHT, sfreq=sfreq, frame_shape=shape, sleeps=False)
    traces, _, running = _traces(cortex, rois(cortex.drawing), round(plan.hours * 3600 * sfreq))
    channels = tuple(f"ROI{k}" for k in range(1, traces.shape[1] + 1))
    _write_npz(folder, name, traces, sfreq, channels, ("",) * len(channels))
    _write_bouts(folder, name, running, sfreq, RUNREST)


def _write_parcels(folder: Path, name: str, seed: int, plan: Plan, sfreq: float) -> None:
    shape = (_ROI_SIDE_PX, _ROI_SIDE_PX)
    cycle = {} if plan.cycle_s is None else {"cycle_s": plan.cycle_s}
    cortex = Cortex(seed=seed, lights=ONE_LIGHT, sfreq=sfreq, frame_shape=shape, **cycle)  # type: ignore[arg-type]
    traces, states, _ = _traces(cortex, rois(cortex.drawing, PARCELS_A_SIDE), round(plan.hours * 3600 * sfreq))
    _write_npz(folder, name, traces, sfreq, PARCELS, ("",) * len(PARCELS))
    _write_epochs(folder, name, states, sfreq, CALCIUM_EPOCH_S, MOUSE3)


def _traces(
    cortex: Cortex, discs: npt.NDArray[np.bool_], n_frames: int
) -> tuple[FloatArray, npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """ΔF/F of discs, ``(n_frames, n_discs)``, states and running.

    They are the means of raw fluorescence over discs: blood is in them, as in a one-colour recording.
    """
    weights = (discs / discs.sum(axis=(1, 2), keepdims=True)).reshape(len(discs), -1).T.astype(np.float32)
    traces, states, running = [], [], []
    for n in _pieces(n_frames, _MOVIE_PIECE):
        piece = cortex.read(n)
        traces.append((piece.frames[:, 0].reshape(n, -1) - cortex.dark_frame.ravel()) @ weights)
        states.append(piece.states)
        running.append(piece.running)
    raw = np.concatenate(traces)
    rest = raw.mean(axis=0)
    return ((raw - rest) / rest).astype(np.float32), np.concatenate(states), np.concatenate(running)


def rois(drawing: CortexMap, n_a_side: int = ROIS_A_SIDE) -> npt.NDArray[np.bool_]:
    """Discs spread evenly over both hemispheres, ``(2 * n_a_side, height, width)``: the left ones first.

    Each is as far from those before it as can be, beginning at the forelimb area; the right side mirrors the left.
    """
    x_mm, y_mm = drawing.xy_mm
    left = drawing.mask & (x_mm < -ROI_RADIUS_MM)
    places = np.stack([x_mm[left], y_mm[left]], axis=1)
    chosen = [int(np.argmin(np.hypot(places[:, 0] + 2.25, places[:, 1] - 0.25)))]
    far = np.full(len(places), np.inf)
    while len(chosen) < n_a_side:
        far = np.minimum(far, np.hypot(*(places - places[chosen[-1]]).T))
        chosen.append(int(np.argmax(far)))
    discs = [
        drawing.mask & (np.hypot(x_mm - side * x, y_mm - y) <= ROI_RADIUS_MM)
        for side in (1, -1)
        for x, y in places[chosen]
    ]
    return np.stack(discs)


#: What can be simulated.
KINDS = {
    "human": Kind("sleepers, EEG, EOG and EMG", "AASM5", 100.0, _write_signals("human")),
    "mouse": Kind("mice, EEG and EMG", "MOUSE3", 200.0, _write_signals("mouse")),
    "calcium": Kind("sleeping mice, movies of the cortex", "MOUSE3", 16.8, _write_calcium),
    "parcels": Kind("sleeping mice, traces of 36 cortical parcels", "MOUSE3", 16.8, _write_parcels),
    "run_rest": Kind("mice on a wheel, movies of the cortex", "RUNREST", 30.0, _write_run_rest),
    "roi": Kind("mice on a wheel, traces of 50 cortical regions", "RUNREST", 30.0, _write_roi),
}


def _pieces(n_samples: int, piece: int = _PIECE) -> Iterable[int]:
    return (min(piece, n_samples - at) for at in range(0, n_samples, piece))


def _write_movie(
    folder: Path, name: str, cortex: Cortex, n_frames: int, light: str
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Write the frames and what stands beside them; return states and running."""
    states, running = [], []
    beside = {"rate_hz": cortex.sfreq, "lights": [light], "mask": cortex.mask.astype(int).tolist()}
    with replacing(folder / f"{name}.json") as path:
        path.write_text(json.dumps(beside), encoding="utf-8")
    with replacing(folder / f"{name}.npy") as path:
        shape = (n_frames, *cortex.frame_shape)
        frames = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=shape)
        at = 0
        for n in _pieces(n_frames, _MOVIE_PIECE):
            piece = cortex.read(n)
            frames[at : at + n] = piece.frames[:, 0]
            states.append(piece.states)
            running.append(piece.running)
            at += n
        frames.flush()
    return np.concatenate(states), np.concatenate(running)


def _write_npz(
    folder: Path, name: str, data: FloatArray, sfreq: float, channels: Sequence[str], units: Sequence[str]
) -> None:
    with replacing(folder / f"{name}.npz") as path:
        np.savez(path, data=data, sfreq=sfreq, channels=np.array(channels), units=np.array(units))


def _write_epochs(
    folder: Path, name: str, codes: npt.NDArray[np.int8], sfreq: float, epoch_s: float, labels: Sequence[str]
) -> None:
    """One row an epoch, with the state that holds in most of it."""
    n_epochs = int(len(codes) / sfreq / epoch_s + 1e-9)
    edges = np.round(np.arange(n_epochs + 1) * epoch_s * sfreq).astype(np.int64)
    most = [int(np.bincount(codes[a:z]).argmax()) for a, z in pairwise(edges)]
    _write_table(folder, name, [(k * epoch_s, epoch_s, labels[code]) for k, code in enumerate(most)])


def _write_bouts(
    folder: Path, name: str, codes: npt.NDArray[np.int8], sfreq: float, labels: Sequence[str]
) -> None:
    """One row a bout."""
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    rows = [(a / sfreq, (z - a) / sfreq, labels[codes[a]]) for a, z in pairwise(edges)]
    _write_table(folder, name, rows)


def _write_table(folder: Path, name: str, rows: Iterable[tuple[float, float, str]]) -> None:
    with replacing(folder / f"{name}{TABLE_SUFFIX}") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("start_s", "duration_s", "state"))
        writer.writerows(
            (f"{start_s:.6f}".rstrip("0").rstrip("."), f"{duration_s:.6f}".rstrip("0").rstrip("."), state)
            for start_s, duration_s, state in rows
        )
