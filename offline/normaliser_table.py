"""How far each causal normaliser is from the whole-night form that the papers use, on one recording.

    python -m offline.normaliser_table --recording ../shared/data/human_ucddb/ucddb018.npz

For each second, the root mean square of the difference between the two normalised signals is divided by the
standard deviation of the whole-night one over the night. Printed are median and, in brackets, 95th percentile of
the seconds from 10 min to 1 h, and of those from 1 h to the end. The table of ``docs/normalisers.md`` is the
output of this command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from streamscore.features.running import Statistic
from streamscore.preprocess.base import Chain
from streamscore.preprocess.normalise import Config, build, whole_recording
from streamscore.recordings.base import read_recording
from streamscore.types import FloatArray, Layout

#: What precedes the normaliser, as in any chain for human EEG.
FILTER: dict[str, Any] = {"kind": "bandpass", "low_hz": 0.3, "high_hz": 35.0, "order": 2}
STATISTICS: tuple[Statistic, ...] = ("scale", "zscore", "robust", "minmax")
ESTIMATORS: dict[str, dict[str, Any]] = {
    "running": {"estimator": "running"},
    "calibration, 1 min": {"estimator": "calibration", "warm_up_s": 60.0},
    "calibration, 10 min": {"estimator": "calibration", "warm_up_s": 600.0},
}
SPANS_S = {"10 min to 1 h": (600.0, 3600.0), "after 1 h": (3600.0, float("inf"))}


#: Statistic, estimator, and median and 95th percentile for each of `SPANS_S`.
Row = tuple[str, str, list[tuple[float, float]]]


def layout(sfreq: float) -> Layout:
    """One channel."""
    return Layout(sfreq, ("EEG",))


def relative_difference(y: FloatArray, reference: FloatArray, sfreq: float) -> FloatArray:
    """Difference of `y` to `reference` in each second, relative to the spread of `reference`; ``(n_seconds,)``."""
    n = round(sfreq)
    square = np.square(y.astype(np.float64) - reference).mean(axis=1)
    seconds = square[: len(square) // n * n].reshape(-1, n).mean(axis=1)
    relative: FloatArray = np.sqrt(seconds) / reference.std(dtype=np.float64)
    return relative


def rows(x: FloatArray, sfreq: float) -> list[Row]:
    """Return the rows of the table for the filtered signal ``(n_samples, 1)``."""
    found: list[Row] = []
    for statistic in STATISTICS:
        offset, scale = whole_recording(x, statistic, sfreq)
        constants = {"stored_scale": scale, "stored_offset": () if statistic == "scale" else offset}
        stored = build(Config(estimator="stored", statistic=statistic, **constants), layout(sfreq)).push(x, 0)
        for name, arguments in ESTIMATORS.items():
            y = build(Config(statistic=statistic, **arguments), layout(sfreq)).push(x, 0)
            difference = relative_difference(y, stored, sfreq)
            second = np.arange(len(difference))
            inside = [difference[(second >= begin) & (second < end)] for begin, end in SPANS_S.values()]
            spans = [(float(np.median(d)), float(np.quantile(d, 0.95))) for d in inside]
            found.append((statistic, name, spans))
    return found


def main(
    recording: Annotated[
        Path, typer.Option(help="A recording of at least two hours; its first channel is taken.")
    ],
) -> None:
    """Print the table."""
    read = read_recording(recording)
    x = Chain((FILTER,), layout(read.sfreq)).push(np.ascontiguousarray(read.data[:, :1], np.float32), 0)
    typer.echo(f"| statistic | estimator | {' | '.join(SPANS_S)} |")
    typer.echo("|---|---|---|---|")
    for statistic, estimator, spans in rows(x, read.sfreq):
        cells = " | ".join(f"{100 * median:.1f} % ({100 * high:.1f} %)" for median, high in spans)
        typer.echo(f"| {statistic} | {estimator} | {cells} |")


if __name__ == "__main__":
    typer.run(main)
