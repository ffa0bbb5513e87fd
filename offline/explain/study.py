"""Studies of the run/rest decoder: the same training again and again, with one thing changed.

A table of traces (:mod:`offline.parcels`) is cut in time, as in :mod:`offline.run_rest`: what the second half says
of a network trained on the first, and what blocks say of networks trained on the rest. Each variation is a job
(:mod:`offline.cluster`), so that a study that was stopped goes on where it was, here or on many machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.cluster import map_jobs
from offline.explain.result import new_picture
from offline.parcels import Parcels, read
from offline.roi_training import Recipe
from offline.run_rest import Kind, compare, method
from streamscore.errors import ConfigError
from streamscore.models.roi_rnn import Config

#: Reach of the published window to either side of the frame scored.
HALF_WINDOW_S = 0.5


@dataclass(frozen=True)
class Study:
    """How each variation is trained and tested.

    Parameters
    ----------
    table
        File of traces.
    folder
        Where finished variations are kept.
    steps
        Of the optimiser.
    n_folds
        Blocks of the cross-validation.
    seed
        Of weights, order and alterations.
    cluster
        As in :func:`offline.cluster.map_jobs`.
    """

    table: Path
    folder: Path
    steps: int = 150
    n_folds: int = 3
    seed: int = 0
    cluster: str | None = None

    def data(self) -> Parcels:
        """The table, read and labelled."""
        return read(self.table)

    def run(self, name: str, variations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Train and test each variation that is not done; return name → figures, as ``run_rest.compare``.

        Parameters
        ----------
        name
            Of the study.
        variations
            Name, good for a folder → arguments of :func:`variation` that differ.
        """
        same = {
            "table": str(self.table.absolute()),
            "steps": self.steps,
            "n_folds": self.n_folds,
            "seed": self.seed,
        }
        jobs = {key: {**same, **arguments} for key, arguments in variations.items()}
        return map_jobs(variation, jobs, self.folder / name, self.cluster)

    def about(self) -> dict[str, Any]:
        """Settings, for the figures."""
        return {
            "table": str(self.table),
            "steps": self.steps,
            "n_folds": self.n_folds,
            "seed": self.seed,
        }


def variation(
    _folder: Path,
    *,
    table: str,
    steps: int,
    n_folds: int,
    seed: int,
    regions: list[int] | None = None,
    half_window_s: float = HALF_WINDOW_S,
    shift_frames: int = 0,
) -> dict[str, Any]:
    """Train and test one variation of the published decoder; its folder keeps nothing but the result.

    Parameters
    ----------
    regions
        Columns of the table that the network is given; all by default. A region that is left out is one that the
        paper sets to 0 in training and test: it tells the network nothing.
    half_window_s
        Reach of the window on either side of the frame scored.
    shift_frames
        The label of a frame is that of so many frames later.
    """
    data = read(Path(table))
    if regions is not None:
        data = replace(data, dff=data.dff[:, regions])
    data = replace(data, codes=shifted(data.codes, shift_frames))
    half = max(round(half_window_s * data.sfreq), 1)
    recipe = Recipe(steps=steps)
    recipe = replace(recipe, sequence_s=max(recipe.sequence_s, 3.0 * (2 * half + 1) / data.sfreq))
    kind = Kind(Config(variant="published", half_window_frames=half), recipe)
    return compare(data, method(kind, seed), n_folds)


def shifted(codes: npt.NDArray[np.int8], n_frames: int) -> npt.NDArray[np.int8]:
    """Give each frame the label of the frame `n_frames` later (earlier if negative); -1 where there is none."""
    if n_frames == 0:
        return codes
    moved = np.full_like(codes, -1)
    if n_frames > 0:
        moved[:-n_frames] = codes[n_frames:]
    else:
        moved[-n_frames:] = codes[:n_frames]
    return moved


def frames_of(values_s: tuple[float, ...], sfreq: float, what: str) -> list[int]:
    """Turn seconds into whole frames, each once.

    Raises
    ------
    ConfigError
        If two of them are the same number of frames.
    """
    frames = [round(value * sfreq) for value in values_s]
    if len(set(frames)) != len(frames) or not frames:
        raise ConfigError(
            f"{what} {', '.join(f'{v:g}' for v in values_s)}: at {sfreq:g} frames a second these are "
            f"{', '.join(map(str, frames))} frames; give values a frame or more apart"
        )
    return frames


COLUMNS = ("AUC, blocks", "95 % interval", "AUC, second half")


def row(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    """Cells for the screen."""
    low, high = figures["blocks"]["interval"]
    return f"{figures['blocks']['auc']:.4f}", f"{low:.3f}–{high:.3f}", f"{figures['half']['auc']:.4f}"


def curve_of(found: Mapping[str, Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """Arrays ``auc_blocks``, ``auc_half`` (n,) and ``interval`` (n, 2) of variations in order."""
    return {
        "auc_blocks": np.array([one["blocks"]["auc"] for one in found.values()]),
        "auc_half": np.array([one["half"]["auc"] for one in found.values()]),
        "interval": np.array([one["blocks"]["interval"] for one in found.values()]),
    }


def draw_curve(x: npt.ArrayLike, arrays: Mapping[str, Any], title: str, x_label: str, marked: float) -> Any:
    """AUC against what was changed, with intervals; the published value is marked."""
    picture = new_picture(7.0, 4.2)
    axes = picture.subplots()
    x = np.asarray(x, np.float64)
    low, high = arrays["interval"].T
    axes.fill_between(x, low, high, color="#0072B2", alpha=0.2, linewidth=0, label="95 % interval (10-s blocks)")
    axes.plot(x, arrays["auc_blocks"], "o-", color="#0072B2", label="blocks, all frames")
    axes.plot(x, arrays["auc_half"], "s--", color="#D55E00", label="trained on the first half, second half")
    axes.axvline(marked, color="#777777", linestyle=":")
    axes.set(xlabel=x_label, ylabel="AUC, run against rest", title=title)
    axes.set_ylim(None, 1.005)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return picture
