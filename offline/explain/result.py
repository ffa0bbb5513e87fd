"""What a method found: arrays, figures, rows for the screen, and a picture; written as three files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.atomic import replacing
from offline.provenance import provenance
from streamscore.errors import ConfigError

#: Of pictures, in dots an inch.
DPI = 110
#: Okabe and Ito's colours, which the colour-blind tell apart, without yellow; doi.org/10.1038/nmeth.1618 (Wong).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")


@dataclass(frozen=True, eq=False)
class Explained:
    """The outcome of a method.

    Parameters
    ----------
    method
        Its name, which names the files.
    title
        One line for the screen.
    arrays
        For the ``.npz``: numbers and text.
    figures
        For the ``.json``.
    columns, rows
        A table for the screen.
    picture
        A figure of matplotlib.
    """

    method: str
    title: str
    arrays: Mapping[str, npt.NDArray[Any]]
    figures: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    picture: Any

    def write(self, folder: Path, about: Mapping[str, Any]) -> tuple[Path, ...]:
        """Write ``METHOD.npz``, ``.json`` and ``.png`` into `folder` and return their paths.

        Parameters
        ----------
        about
            What was explained: bundle, recording, settings. Date, commit and machine are added; ``marks``,
            if there are any, are written into the picture too.

        Raises
        ------
        RecordError
            If a file cannot be written.
        """
        paths = tuple(folder / f"{self.method}.{suffix}" for suffix in ("npz", "json", "png"))
        told = {"method": self.method, **about, "run": provenance("streamscore")}
        with replacing(paths[0]) as path, path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)
        with replacing(paths[1]) as path:
            text = json.dumps({**told, "figures": self.figures}, indent=1, ensure_ascii=False)
            path.write_text(text, encoding="utf-8")
        marks = about.get("marks") or ()
        if marks:
            self.picture.text(0.995, 0.995, " · ".join(marks), ha="right", va="top", color="#C0271C", fontsize=8)
        with replacing(paths[2]) as path:
            self.picture.savefig(path, format="png", dpi=DPI)
        return paths


def new_picture(width: float, height: float) -> Any:
    """Return an empty figure of matplotlib, `width` × `height` in inches.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ConfigError('pictures need matplotlib; run: pip install "streamscore[train]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def state_colour(code: int) -> str:
    """Colour of a state by its code."""
    return COLOURS[code % len(COLOURS)]


def draw_states(axes: Any, begins_s: npt.ArrayLike, codes: npt.ArrayLike, labels: tuple[str, ...]) -> None:
    """Draw a hypnogram over hours, the first state on top; unknown ones leave a gap."""
    hours = np.asarray(begins_s, np.float64) / 3600.0
    levels = np.where(np.asarray(codes) >= 0, codes, np.nan)
    axes.step(hours, levels, where="post", color="#000000", linewidth=1.0)
    axes.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))


def decided(codes: npt.NDArray[np.int8], truth: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int8], str]:
    """Return the codes to sort by, and in words which: the file's labels if it has any, else the network's."""
    if (truth >= 0).any():
        return truth, "labels of the file"
    return codes, "states as the network scored them"
