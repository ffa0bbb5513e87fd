"""Sleep-EDF, cassette study: healthy sleepers at home, EEG and EOG at 100 Hz, stages of Rechtschaffen and Kales.

Files are called ``SC4ssNE?-PSG.edf`` and ``SC4ssNE?-Hypnogram.edf``: subject ss, night N; the letters behind
them tell scorers. Most of a recording is wake by day, so papers keep 30 min of wake on both sides of sleep
(MODELS.md 2.1). Whether epochs of movement and unscored ones are dropped before or after that changes how
many wake epochs are left: DeepSleepNet and SalientSleepNet drop first, TinySleepNet trims first. Dropped
epochs stay in the signal, unscored.

Kemp et al. 2000, IEEE Trans. Biomed. Eng. 47:1185; https://physionet.org/content/sleep-edfx/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from offline.datasets.base import About, Dataset, Entry, Options
from offline.datasets.channels import read_signal
from offline.datasets.labels import on_grid
from offline.datasets.tables import read_edf_bouts
from streamscore.errors import RecordingError
from streamscore.labels import AASM5, UNKNOWN_CODE
from streamscore.recordings.base import Recording

ABOUT = About(
    title="Sleep-EDF cassette: 78 healthy adults, 153 nights, EEG and EOG at 100 Hz, 30-s epochs",
    source="https://physionet.org/content/sleep-edfx/1.0.0/",
    licence="Open Data Commons Attribution 1.0 (verify on the page)",
    layout="SC4ssN??-PSG.edf with SC4ssN??-Hypnogram.edf, in the folder or in sleep-cassette/",
    get="streamscore data fetch sleep_edf --to DIR (--subjects 00,01,… for a part)",
    vocabulary="AASM5",
)
EPOCH_S = 30.0
_NAME = re.compile(r"(?P<night>SC4(?P<subject>\d\d)(?P<number>\d)\w)\w-PSG", re.IGNORECASE)
#: Nights that were lost: the second of subject 13, the first of 36 and 52; and subjects that do not exist.
_LOST = {(13, 2), (36, 1), (52, 1)}
_NO_SUBJECTS = {39, 68, 69, 78, 79}
#: Set of the papers → its nights, and epochs in the order of AASM5, with ±30 min of wake (MODELS.md 2.1, 5.4).
SETS: dict[str, tuple[frozenset[tuple[int, int]], tuple[int, ...]]] = {
    name: (
        frozenset((s, n) for s in range(last) if s not in _NO_SUBJECTS for n in (1, 2) if (s, n) not in _LOST),
        counts,
    )
    for name, last, counts in (
        ("Sleep-EDF-39", 20, (8285, 2804, 17799, 5703, 7717)),
        ("Sleep-EDF-153", 83, (65951, 21522, 69132, 13039, 25835)),
    )
}


class Config(Options):
    """Options of Sleep-EDF."""

    channels: dict[str, str] = Field(
        default={"EEG": "EEG Fpz-Cz", "EOG": "EOG horizontal"},
        description="Name here → channel of the files; 'EEG Pz-Oz' is the other derivation.",
    )
    vocabulary: str | None = "AASM5"
    wake_min: float | None = Field(
        default=30.0, ge=0, description="Minutes of wake kept before and after sleep; none keeps all."
    )
    order: Literal["drop_then_trim", "trim_then_drop"] = Field(
        default="drop_then_trim",
        description="What is done first: epochs without a stage dropped, or wake trimmed.",
    )


def matches(folder: Path) -> bool:
    """Whether there is a night called as those of the set are."""
    return any(_NAME.fullmatch(path.stem) for path in folder.rglob("SC4*-PSG.edf"))


def find(folder: Path, _config: Config) -> list[Entry]:
    """Every night with a hypnogram beside it; the others stay among the unused files."""
    entries = []
    for path in folder.rglob("SC4*-PSG.edf"):
        name = _NAME.fullmatch(path.stem)
        scored = sorted(path.parent.glob(f"{name['night']}*-Hypnogram.edf")) if name else []
        if name and scored:
            details = {"night": name["number"]}
            entries.append(Entry(f"SC4{name['subject']}", name["night"], path, scored[0], details))
    return entries


def read(entry: Entry, config: Config) -> Recording:
    """Read a night from `wake_min` minutes before sleep to as long after it."""
    assert entry.labels is not None
    scored = on_grid(
        read_edf_bouts(entry.labels, entry.signal, config.naming), config.naming, entry.labels, EPOCH_S
    )
    recording = read_signal(entry.signal, config.channels)
    if config.wake_min is not None:
        kept = sleep_period(scored.codes, round(config.wake_min * 60.0 / EPOCH_S), config.order)
        if kept is None:
            raise RecordingError(
                f"{entry.labels}: scores no sleep, so there is nothing to keep; leave the night out"
            )
        first_s, stop_s = (scored.t0_s + k * EPOCH_S for k in kept)
        first, stop = np.searchsorted(recording.stamps_s, (first_s - 1e-6, stop_s - 1e-6))
        recording = replace(recording, data=recording.data[first:stop], stamps_s=recording.stamps_s[first:stop])
        scored = replace(scored, codes=scored.codes[kept[0] : kept[1]], t0_s=first_s)
    return replace(recording, labels=scored.labels, states=scored.codes, epoch_s=EPOCH_S, states_t0_s=scored.t0_s)


def sleep_period(codes: npt.NDArray[np.int8], n_wake: int, order: str) -> tuple[int, int] | None:
    """Range of epochs from `n_wake` before the first that is not wake to as many after the last.

    Parameters
    ----------
    codes
        ``(n,)`` codes of AASM5, -1 for epochs without a stage.
    n_wake
        Epochs to keep on either side.
    order
        ``"drop_then_trim"`` counts only epochs with a stage; ``"trim_then_drop"`` counts all, and takes those
        without a stage for sleep, as the published preparation does.

    Returns
    -------
    tuple or None
        First epoch and the one behind the last; ``None`` without sleep.
    """
    kept = np.flatnonzero(codes != UNKNOWN_CODE) if order == "drop_then_trim" else np.arange(len(codes))
    sleep = np.flatnonzero(codes[kept] != AASM5.index("W"))
    if not len(sleep):
        return None
    first, last = max(sleep[0] - n_wake, 0), min(sleep[-1] + n_wake, len(kept) - 1)
    return int(kept[first]), int(kept[last]) + 1


def expected(dataset: Dataset) -> tuple[str, Mapping[str, int]] | None:
    """Name of the set of a paper that `dataset` is, and its epochs of each state.

    ``None`` where nights are missing or added, or they are not cut as in the papers.
    """
    usual = Config()
    if any(getattr(dataset.config, name) != getattr(usual, name) for name in ("wake_min", "order", "vocabulary")):
        return None
    nights = frozenset((int(entry.subject[3:]), int(entry.details["night"])) for entry in dataset.entries)
    return next(
        (
            (name, dict(zip(AASM5, counts, strict=True)))
            for name, (whole, counts) in SETS.items()
            if nights == whole
        ),
        None,
    )
