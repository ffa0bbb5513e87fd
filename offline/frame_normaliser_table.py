"""How far normalisation and baselines that do not look ahead are from the published ones, for frames and regions.

    python -m offline.frame_normaliser_table

The movie is simulated (:mod:`streamscore.simulate.cortex`). Both forms get the same input: for ``pixel_normalise``
frames of 16.8 Hz without the line of each pixel, for ``moving_average`` the drawn areas at 30 Hz, as they are. For
each second, the root mean square of the difference is divided by the standard deviation of the published output.
Printed are median and, in brackets, 95th percentile of the seconds from 1 to 5 min, and of those after. The tables
of ``docs/corrections.md`` are the output of this command.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from offline.normaliser_table import relative_difference
from streamscore.arrays import pack
from streamscore.preprocess import detrend, moving_average, pixel_normalise, roi_mean
from streamscore.simulate.cortex import ONE_LIGHT, Cortex
from streamscore.types import FloatArray, Layout

FRAME_SHAPE = (48, 48)
CYCLE_S = 300.0
PIXEL_SFREQ, ROI_SFREQ = 16.8, 30.0
WINDOW_SAMPLES = 1000
SPANS_S = {"1 to 5 min": (60.0, 300.0), "after 5 min": (300.0, float("inf"))}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "`running`, 600 s": {"tau_s": 600.0},
    "`running`, 60 s": {"tau_s": 60.0},
    "`calibration`, 60 s": {"estimator": "calibration"},
}


def main(
    minutes: Annotated[float, typer.Option(help="Length of the movie.")] = 15.0,
    seed: Annotated[int, typer.Option(help="Which mouse.")] = 6,
) -> None:
    """Print both tables as Markdown."""
    head = f"{' | '.join(SPANS_S)} |"
    typer.echo(f"| `pixel_normalise` | `scale` | {head}\n|---|---|---|---|")
    for row in pixel_rows(minutes, seed):
        typer.echo(row)
    typer.echo(f"\n| `moving_average` | late by | {head}\n|---|---|---|---|")
    for row in average_rows(minutes, seed):
        typer.echo(row)


def pixel_rows(minutes: float, seed: int) -> list[str]:
    """Return a row for each estimator and scale."""
    mouse, x, layout = _movie(PIXEL_SFREQ, minutes, seed)
    x = detrend.whole_recording(x)
    rows = []
    for name, arguments in ESTIMATORS.items():
        for scale in ("pixel", "global"):
            mean, std = pixel_normalise.whole_recording(x, scale)
            step = pixel_normalise.build(pixel_normalise.Config(scale=scale, **arguments), layout)
            y = step.push(x, 0)[:, 0, mouse.mask]
            published = ((x - mean) / std)[:, 0, mouse.mask].astype(np.float32)
            rows.append(f"| {name} | `{scale}` | {_cells(y, published, PIXEL_SFREQ)} |")
    return rows


def average_rows(minutes: float, seed: int) -> list[str]:
    """Return a row for each form."""
    mouse, x, layout = _movie(ROI_SFREQ, minutes, seed)
    areas = roi_mean.build(roi_mean.Config(regions=pack(mouse.areas), names=mouse.area_names), layout)
    traces = areas.push(x, 0)
    published = moving_average.whole_recording(traces, WINDOW_SAMPLES).astype(np.float32)
    rows = []
    for form in ("trailing", "centred"):
        config = moving_average.Config(form=form, window_samples=WINDOW_SAMPLES)
        step = moving_average.build(config, areas.layout)
        y = step.push(traces, 0)[step.lag_samples :]
        late_s = step.lag_samples / ROI_SFREQ
        rows.append(f"| `{form}`, 1,000 samples | {late_s:.1f} s | {_cells(y, published[: len(y)], ROI_SFREQ)} |")
    return rows


def _movie(sfreq: float, minutes: float, seed: int) -> tuple[Cortex, FloatArray, Layout]:
    mouse = Cortex(seed=seed, lights=ONE_LIGHT, sfreq=sfreq, frame_shape=FRAME_SHAPE, cycle_s=CYCLE_S)
    x = mouse.read(round(60.0 * minutes * sfreq)).frames.astype(np.float32)
    return mouse, x, Layout(sfreq, ONE_LIGHT, FRAME_SHAPE)


def _cells(y: FloatArray, published: FloatArray, sfreq: float) -> str:
    difference = relative_difference(y, published, sfreq)
    second = np.arange(len(difference))
    cells = []
    for begin_s, end_s in SPANS_S.values():
        inside = difference[(second >= begin_s) & (second < end_s)]
        cells.append(f"{100 * np.median(inside):.1f} % ({100 * np.quantile(inside, 0.95):.1f} %)")
    return " | ".join(cells)


if __name__ == "__main__":
    typer.run(main)
