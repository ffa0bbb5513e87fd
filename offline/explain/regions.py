"""Which regions tell run from rest: subsets kept and subsets left out, as in Ajioka et al. 2024.

In the paper the forelimb and hindlimb areas alone reach 0.966 of the 0.974 of all 50 regions, and all but these
0.938 (MODELS.md 4.3). Regions are set to 0 there, in training and test; here the network is not given them, which
is the same information.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.explain.result import Explained, new_picture
from offline.explain.study import COLUMNS, Study, row
from streamscore.errors import ConfigError
from streamscore.types import TimeArray

#: Subsets of the paper's 50 regions, by their numbers from 1.
PUBLISHED = {
    "FLa+HLa": (6, 8, 31, 33),
    "M2+M1": (1, 2, 3, 4, 26, 27, 28, 29),
    "FL+HL": (6, 7, 8, 9, 31, 32, 33, 34),
    "PT+RS": (14, 15, 16, 17, 39, 40, 41, 42),
    "V1+Vm": (18, 19, 20, 21, 43, 44, 45, 46),
    "Vl+A1": (22, 23, 24, 25, 47, 48, 49, 50),
}
#: Rows and columns that a map of parcels is divided into where no subsets are given.
MAP_PARTS = (3, 2)


def parse(texts: Sequence[str], n_regions: int) -> dict[str, tuple[int, ...]]:
    """Read subsets such as ``limbs=6-9,31``, numbers from 1.

    Raises
    ------
    ConfigError
        If one cannot be read or names a region that there is not.
    """
    subsets = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) or not re.fullmatch(
            r"\d+(-\d+)?(,\d+(-\d+)?)*", numbers
        ):
            raise ConfigError(f"subset {text!r}: write NAME=NUMBERS, for example --subset limbs=6-9,31-34")
        chosen: set[int] = set()
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            chosen |= set(range(int(first), int(last or first) + 1))
        outside = sorted(k for k in chosen if not 1 <= k <= n_regions)
        if outside or not chosen or len(chosen) == n_regions:
            raise ConfigError(
                f"subset {text!r}: regions are numbered from 1 to {n_regions}; name some of them, and not all"
            )
        subsets[name] = tuple(sorted(chosen))
    return subsets


def default_subsets(table: Path, n_regions: int) -> dict[str, tuple[int, ...]]:
    """The paper's subsets of 50 regions; else parts of the ``parcel_map`` that stands beside the traces.

    Raises
    ------
    ConfigError
        If there is neither.
    """
    if n_regions == 50:
        return dict(PUBLISHED)
    drawing = parcel_map(table)
    if drawing is None:
        raise ConfigError(
            f"{table}: has {n_regions} regions and no parcel_map, so that there are no subsets to begin with; "
            "name some, for example --subset limbs=6-9,31-34"
        )
    centres = np.array([np.argwhere(drawing == k).mean(axis=0) for k in range(1, n_regions + 1)])
    names_of_rows, names_of_columns = ("upper", "middle", "lower"), ("left", "right")
    by_row = _parts(centres[:, 0], MAP_PARTS[0])
    subsets = {}
    for i, name in enumerate(names_of_rows):
        inside = np.flatnonzero(by_row == i)
        by_column = _parts(centres[inside, 1], MAP_PARTS[1])
        for j, side in enumerate(names_of_columns):
            subsets[f"{name}-{side}"] = tuple(int(k) + 1 for k in inside[by_column == j])
    return subsets


def _parts(values: TimeArray, n: int) -> npt.NDArray[np.int64]:
    """Number of the part of each value; parts hold equally many."""
    parts = np.empty(len(values), np.int64)
    parts[np.argsort(values, kind="stable")] = np.arange(len(values)) * n // len(values)
    return parts


def parcel_map(table: Path) -> npt.NDArray[np.int64] | None:
    """Number of the region at each pixel ``(height, width)`` of a table, 0 outside; None if it has no map."""
    with np.load(table, allow_pickle=False) as arrays:
        return arrays["parcel_map"].astype(np.int64) if "parcel_map" in arrays.files else None


def regions(study: Study, subsets: Mapping[str, tuple[int, ...]] | None = None) -> Explained:
    """Train and test on all regions, on each subset alone, and on all but it.

    Parameters
    ----------
    study
        The table, and how to train and test.
    subsets
        Name → numbers of regions from 1; :func:`default_subsets` if not given.

    Returns
    -------
    Explained
        ``auc_all`` (); ``auc_kept``, ``auc_left_out`` (n_subsets,) over blocks; ``subset`` (n_subsets,) names;
        ``member`` (n_subsets, n_regions) of 0 and 1.

    Raises
    ------
    ConfigError
        If there are no subsets to take.
    """
    data = study.data()
    n_regions = data.dff.shape[1]
    subsets = dict(subsets or default_subsets(study.table, n_regions))
    variations: dict[str, dict[str, Any]] = {"all": {}}
    for name, chosen in subsets.items():
        columns = [k - 1 for k in chosen]
        variations[f"{name}/kept"] = {"regions": columns}
        variations[f"{name}/left-out"] = {"regions": sorted(set(range(n_regions)) - set(columns))}
    found = study.run("regions", variations)
    kept = np.array([found[f"{name}/kept"]["blocks"]["auc"] for name in subsets])
    left_out = np.array([found[f"{name}/left-out"]["blocks"]["auc"] for name in subsets])
    member = np.zeros((len(subsets), n_regions), np.int8)
    for k, chosen in enumerate(subsets.values()):
        member[k, [region - 1 for region in chosen]] = 1
    whole = float(found["all"]["blocks"]["auc"])
    rows = [("all", str(n_regions), *row(found["all"]))]
    for name, chosen in subsets.items():
        rows.append((f"{name} alone", str(len(chosen)), *row(found[f"{name}/kept"])))
        rows.append((f"all but {name}", str(n_regions - len(chosen)), *row(found[f"{name}/left-out"])))
    return Explained(
        method="regions",
        title=f"Regions, {data.name}, {study.n_folds} blocks",
        arrays={
            "auc_all": np.array(whole),
            "auc_kept": kept,
            "auc_left_out": left_out,
            "subset": np.array(list(subsets)),
            "member": member,
        },
        figures={**study.about(), "subsets": {k: list(v) for k, v in subsets.items()}, "variations": found},
        columns=("regions", "number", *COLUMNS),
        rows=tuple(rows),
        picture=_draw(whole, found, member, parcel_map(study.table), list(subsets), data.name),
    )


def _draw(
    whole: float,
    found: Mapping[str, Any],
    member: npt.NDArray[np.int8],
    drawing: npt.NDArray[np.int64] | None,
    names: list[str],
    title: str,
) -> Any:
    """Subsets alone and left out beside all, with intervals; on the left the map of what each alone reaches."""
    picture = new_picture(10.5 if drawing is not None else 7.0, 0.8 + 0.62 * len(names) + 0.8)
    if drawing is None:
        axes = picture.subplots()
    else:
        left, axes = picture.subplots(1, 2, width_ratios=(1.0, 1.35))
        kept = np.array([found[f"{name}/kept"]["blocks"]["auc"] for name in names])
        of_region = np.array([np.mean(kept[column == 1]) if column.any() else np.nan for column in member.T])
        painted = np.full(drawing.shape, np.nan)
        painted[drawing > 0] = of_region[drawing[drawing > 0] - 1]
        image = left.imshow(painted, cmap="cividis", interpolation="nearest")
        picture.colorbar(image, ax=left, label="AUC of the subset alone", shrink=0.8)
        left.set(xlabel="column (pixels of the map)", ylabel="row (pixels of the map)")
        places = np.argwhere(drawing > 0)
        (top, first), (bottom, last) = places.min(axis=0), places.max(axis=0)
        left.set(xlim=(first - 5, last + 5), ylim=(bottom + 5, top - 5))
    y = np.arange(len(names))
    for offset, colour, marker, key, words in (
        (-0.14, "#0072B2", "o", "kept", "alone"),
        (0.14, "#D55E00", "s", "left-out", "left out"),
    ):
        blocks = [found[f"{name}/{key}"]["blocks"] for name in names]
        low, high = np.array([block["interval"] for block in blocks]).T
        axes.hlines(y + offset, low, high, color=colour, alpha=0.4, linewidth=3)
        axes.plot([block["auc"] for block in blocks], y + offset, marker, color=colour, label=words)
    axes.axvline(whole, color="black", linestyle="--", linewidth=1.0, label=f"all regions, {whole:.3f}")
    axes.set(yticks=y, yticklabels=names, xlabel="AUC, run against rest (bars: 95 % interval)")
    axes.set_xlim(None, 1.005)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    picture.suptitle(f"Run or rest by region, {title}", fontsize=11)
    return picture
