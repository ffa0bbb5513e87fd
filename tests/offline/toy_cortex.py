"""Small movies and traces of a cortex whose states differ in where it beats, in the plain layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from streamscore.labels import MOUSE3, RUNREST
from streamscore.types import FloatArray

SFREQ = 8.0
#: Labelled interval of sleep.
EPOCH_S = 2.0
EPOCH_FRAMES = round(EPOCH_S * SFREQ)
#: Epochs, or eighths of a second of run or rest, that a bout lasts.
_BOUT_EPOCHS, _BOUT_FRAMES = 5, 40


def write_sleep_movies(folder: Path, n_subjects: int = 3, n_epochs: int = 45, side_px: int = 8) -> Path:
    """Wake is noise; in NREM the left half beats, in REM the right one."""
    codes, beat = _sleep(n_subjects, n_epochs, seed=0)
    left = np.arange(side_px) < side_px // 2
    halves = np.stack([np.zeros(side_px), left, ~left])
    for k in range(n_subjects):
        light = beat[:, None] * halves[codes[k].repeat(EPOCH_FRAMES)]  # (frames, width)
        _write_movie(folder, f"m{k}", np.broadcast_to(light[:, None], (len(light), side_px, side_px)), seed=k)
        _write_labels(folder, f"m{k}", codes[k].tolist(), EPOCH_S, MOUSE3)
    return _describe(folder, "MOUSE3")


def write_run_movies(folder: Path, n_subjects: int = 3, n_bouts: int = 10, side_px: int = 8) -> Path:
    """While the mouse runs, the left half is brighter."""
    left = (np.arange(side_px) < side_px // 2).astype(np.float64)
    for k in range(n_subjects):
        running = _runs(n_bouts, k)
        light = running.repeat(_BOUT_FRAMES)[:, None, None] * np.broadcast_to(left, (side_px, side_px))
        _write_movie(folder, f"m{k}", light, seed=k)
        _write_labels(folder, f"m{k}", running.tolist(), _BOUT_FRAMES / SFREQ, RUNREST)
    return _describe(folder, "RUNREST")


def write_run_traces(folder: Path, channels: tuple[str, ...], n_subjects: int = 3, n_bouts: int = 10) -> Path:
    """While the mouse runs, the first two regions are brighter."""
    for k in range(n_subjects):
        running = _runs(n_bouts, k)
        light = running.repeat(_BOUT_FRAMES)[:, None] * (np.arange(len(channels)) < 2)
        _write_traces(folder, f"m{k}", light, channels, seed=k)
        _write_labels(folder, f"m{k}", running.tolist(), _BOUT_FRAMES / SFREQ, RUNREST)
    return _describe(folder, "RUNREST")


def write_sleep_traces(folder: Path, channels: tuple[str, ...], n_subjects: int = 3, n_epochs: int = 45) -> Path:
    """Wake is noise; in NREM the first half of the parcels beats, in REM the other."""
    codes, beat = _sleep(n_subjects, n_epochs, seed=0)
    first = np.arange(len(channels)) < len(channels) // 2
    halves = np.stack([np.zeros(len(channels)), first, ~first])
    for k in range(n_subjects):
        light = 4.0 * beat[:, None] * halves[codes[k].repeat(EPOCH_FRAMES)]
        _write_traces(folder, f"m{k}", light, channels, seed=k)
        _write_labels(folder, f"m{k}", codes[k].tolist(), EPOCH_S, MOUSE3)
    return _describe(folder, "MOUSE3")


def _sleep(n_subjects: int, n_epochs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes ``(n_subjects, n_epochs)``, and the beat ``(frames,)`` of a second."""
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.arange(n_epochs // _BOUT_EPOCHS) % 3) for _ in range(n_subjects)]
    return np.repeat(order, _BOUT_EPOCHS, axis=1), np.sin(2 * np.pi * np.arange(n_epochs * EPOCH_FRAMES) / SFREQ)


def _runs(n_bouts: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.arange(n_bouts) % 2)


def _write_movie(folder: Path, name: str, light: FloatArray | np.ndarray, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    counts = 1000.0 + 100.0 * light + 30.0 * np.random.default_rng(seed).standard_normal(light.shape)
    np.save(folder / f"{name}.npy", counts.astype(np.uint16))
    (folder / f"{name}.json").write_text(json.dumps({"rate_hz": SFREQ, "lights": ["calcium"]}))


def _write_traces(folder: Path, name: str, light: np.ndarray, channels: tuple[str, ...], seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = (light + 0.3 * np.random.default_rng(seed).standard_normal(light.shape)).astype(np.float32)
    np.savez(folder / f"{name}.npz", data=data, sfreq=SFREQ, channels=channels, units=[""] * len(channels))


def _write_labels(folder: Path, name: str, codes: list[int], duration_s: float, labels: tuple[str, ...]) -> None:
    rows = [f"{k * duration_s},{duration_s},{labels[code]}" for k, code in enumerate(codes)]
    (folder / f"{name}.labels.csv").write_text("\n".join(["start_s,duration_s,state", *rows]) + "\n")


def _describe(folder: Path, vocabulary: str) -> Path:
    (folder / "dataset.json").write_text(json.dumps({"kind": "plain", "vocabulary": vocabulary}))
    return folder
