"""Simulated movies behind the chain, for training: made once, kept on disk as float16.

What a network is trained on is what :class:`~streamscore.preprocess.base.Chain`, the engine's own, makes of the
frames of :class:`~streamscore.simulate.cortex.Cortex`. Each seed is another animal: another anatomy, other
vessels, other amplitudes and another recording. The drawing of the areas is the same for all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.bundle import Spec
from streamscore.preprocess.base import Chain
from streamscore.simulate.cortex import Cortex, Movie
from streamscore.types import FloatArray, Layout

CodeArray = npt.NDArray[np.int64]
#: What of a bundle decides the frames.
MADE_WITH = {"preprocess", "channels", "sfreq", "frame_shape", "vocabulary"}
#: Frames that are made at a time.
PIECE = 32


@dataclass(frozen=True)
class Clip:
    """A part of a movie behind the chain, from where it may be scored.

    Parameters
    ----------
    seed
        Of the animal.
    x
        ``(n_frames, height, width)`` float16, on disk.
    codes
        ``(n_frames,)`` what is true at each frame, codes of the vocabulary.
    areas
        ``(n_frames, n_areas)`` float32: mean of `x` over each area.
    """

    seed: int
    x: npt.NDArray[np.float16]
    codes: CodeArray
    areas: FloatArray


def layout(spec: Spec) -> Layout:
    """What the chain of `spec` takes."""
    return Layout(spec.sfreq, spec.channels, spec.frame_shape)


def cortex(spec: Spec, seed: int, cycle_s: float) -> Cortex:
    """The animal that `spec` scores; one that is to run or rest does not sleep."""
    assert spec.frame_shape is not None
    return Cortex(
        seed=seed,
        lights=spec.channels,
        sfreq=spec.sfreq,
        frame_shape=spec.frame_shape,
        cycle_s=cycle_s,
        sleeps=spec.vocabulary != "RUNREST",
    )


def truth(movie: Movie, spec: Spec) -> CodeArray:
    """Codes of the vocabulary of `spec`, ``(n_samples,)``."""
    return (movie.running if spec.vocabulary == "RUNREST" else movie.states).astype(np.int64)


def pieces(animal: Cortex, n_samples: int) -> Iterator[tuple[int, Movie]]:
    """Yield `n_samples` in parts, each with the index of its first sample."""
    for start in range(0, n_samples, PIECE):
        yield start, animal.read(min(PIECE, n_samples - start))


def area_means(x: FloatArray, areas: npt.NDArray[np.int16], n_areas: int) -> FloatArray:
    """Mean of frames ``(n, height, width)`` over each area of a label map, ``(n, n_areas)``."""
    pixels = np.stack([(areas == k + 1).ravel() for k in range(n_areas)], axis=1).astype(np.float32)
    means: FloatArray = x.reshape(len(x), -1) @ (pixels / pixels.sum(axis=0))
    return means


def clip(folder: Path, spec: Spec, seed: int, cycle_s: float, duration_s: float) -> Clip:
    """Return `duration_s` seconds of an animal, from `folder` where they have been made before."""
    what: dict[str, Any] = spec.model_dump(mode="json", include=MADE_WITH)
    key = hashlib.sha256(json.dumps([what, seed, cycle_s, duration_s], sort_keys=True).encode()).hexdigest()[:12]
    frames_path, truth_path = folder / f"{seed}-{key}.npy", folder / f"{seed}-{key}.npz"
    if not truth_path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _make(frames_path, truth_path, spec, seed, cycle_s, duration_s)
    with np.load(truth_path, allow_pickle=False) as arrays:
        codes, areas = arrays["codes"], arrays["areas"]
    return Clip(seed, np.load(frames_path, mmap_mode="r", allow_pickle=False), codes, areas)


def _make(frames_path: Path, truth_path: Path, spec: Spec, seed: int, cycle_s: float, duration_s: float) -> None:
    animal = cortex(spec, seed, cycle_s)
    chain = Chain(spec.preprocess, layout(spec))
    n_samples = chain.warm_up_samples + round(duration_s * spec.sfreq)
    shape = (n_samples - chain.warm_up_samples, *animal.frame_shape)
    kept = np.lib.format.open_memmap(frames_path, mode="w+", dtype=np.float16, shape=shape)
    codes, areas = [], []
    for start, movie in pieces(animal, n_samples):
        x = chain.push(movie.frames.astype(np.float32), start)[:, 0]
        first = max(chain.warm_up_samples - start, 0)
        if first >= len(x):
            continue
        at = start + first - chain.warm_up_samples
        kept[at : at + len(x) - first] = x[first:]
        codes.append(truth(movie, spec)[first:])
        areas.append(area_means(x[first:], animal.areas, len(animal.area_names)))
    kept.flush()
    np.savez(truth_path, codes=np.concatenate(codes), areas=np.concatenate(areas))
