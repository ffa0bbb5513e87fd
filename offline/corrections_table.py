"""How far each causal correction of a movie is from its published whole-recording form.

    python -m offline.corrections_table
    python -m offline.corrections_table --frames ../shared/data/wfci_frames/two_camera_128.npz

Without a file the movie is simulated (:mod:`streamscore.simulate.cortex`), and how well the corrected movies agree
with the simulated calcium is printed too. Every step gets the same input as its published form: frames without the
dark level, and after the first step without the line of each pixel.

For each pixel of the brain, the root mean square of the difference is divided by the standard deviation of the
published output; printed are median and, in brackets, 95th percentile over the pixels, and the median correlation,
for an early and a late part of the recording. What keeps the level of a pixel is compared relative to that level.
The tables of ``docs/corrections.md`` are the output of these commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from streamscore.preprocess import delta_f, detrend, gaussian, global_signal, haemoglobin
from streamscore.preprocess.base import Chain
from streamscore.simulate.cortex import Cortex
from streamscore.types import FloatArray, Layout

LIGHTS = ("fluorescence_470", "reflectance_523", "reference_405")
SFREQ = 16.8
DURATION_S, CYCLE_S = 1200.0, 400.0
FRAME_SHAPE = (48, 48)
WARM_UP_S, TAUS_S = 60.0, (600.0, 120.0)
#: Pairs of a lit and a 405-nm frame a second in the recording, which lasts two minutes.
RECORDING_SFREQ, RECORDING_WARM_UP_S, RECORDING_TAUS_S = 1.0, 15.0, (600.0, 30.0)


@dataclass(frozen=True)
class Movie:
    """Frames to correct.

    Parameters
    ----------
    layout
        Its first channel is the fluorescence.
    x
        ``(n_frames, n_channels, height, width)`` without the dark level.
    brain
        ``(height, width)``: pixels that are compared.
    warm_up_s, taus_s
        Of all steps.
    clean
        ``(n_frames, height, width)`` true ΔF/F, of simulated movies.
    """

    layout: Layout
    x: FloatArray
    brain: npt.NDArray[np.bool_]
    warm_up_s: float
    taus_s: tuple[float, ...]
    clean: FloatArray | None = None

    @property
    def spans(self) -> dict[str, slice]:
        """An early and a late part, by name."""
        begin, middle = self.warm_up_s, 5 * self.warm_up_s
        end = len(self.x) / self.layout.sfreq
        edges = [round(t_s * self.layout.sfreq) for t_s in (begin, middle, end)]
        return {
            f"{begin:g} to {middle:g} s": slice(edges[0], edges[1]),
            f"{middle:g} to {end:g} s": slice(edges[1], edges[2]),
        }

    @property
    def has(self) -> frozenset[str]:
        """Its lights."""
        return frozenset(self.layout.channels)


#: Step, its arguments, and for each span median and 95th percentile of the difference, and the median correlation.
Row = tuple[str, str, list[tuple[float, float, float]]]


def simulated(duration_s: float = DURATION_S, seed: int = 1) -> Movie:
    """Return a simulated movie of a mouse that sleeps, wakes and runs."""
    cortex = Cortex(seed=seed, lights=LIGHTS, sfreq=SFREQ, frame_shape=FRAME_SHAPE, cycle_s=CYCLE_S, clean=True)
    movie = cortex.read(round(duration_s * SFREQ))
    x = movie.frames - cortex.dark_frame
    return Movie(Layout(SFREQ, LIGHTS, FRAME_SHAPE), x, cortex.mask, WARM_UP_S, TAUS_S, movie.clean)


def recorded(path: Path) -> Movie:
    """Return the red camera of ``wfci_frames``: lit and 405-nm frames in turn, a pair each second.

    Its dark level was not recorded; the darkest pixel stands in for it. Compared are pixels that are neither dark
    nor saturated.
    """
    with np.load(path, allow_pickle=False) as file:
        raw = file["cam_red"]
    pairs = raw.reshape(-1, 2, *raw.shape[1:]).astype(np.float32)
    x = pairs - pairs.mean(axis=0).min(axis=(1, 2), keepdims=True)
    mean = x.mean(axis=0)
    brain = (mean > 0.25 * mean.mean(axis=(1, 2), keepdims=True)).all(axis=0)
    brain &= (raw < np.iinfo(raw.dtype).max).all(axis=0)
    layout = Layout(RECORDING_SFREQ, ("fluorescence_470", "reference_405"), raw.shape[1:])
    return Movie(layout, x, brain, RECORDING_WARM_UP_S, RECORDING_TAUS_S)


def compared(
    movie: Movie, y: FloatArray, published: FloatArray, keeps_level: bool
) -> list[tuple[float, float, float]]:
    """Compare the first channels of `y` and `published`, in each span."""
    found = []
    for span in movie.spans.values():
        a, b = (z[span, 0, movie.brain].astype(np.float64) for z in (y, published))
        if keeps_level:
            a, b = (z / z.mean(axis=0) - 1.0 for z in (a, b))
        difference = np.sqrt(np.square(a - b).mean(axis=0)) / b.std(axis=0)
        correlation = float(np.median(correlations(a, b)))
        found.append((float(np.median(difference)), float(np.quantile(difference, 0.95)), correlation))
    return found


def correlations(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Correlate each column of `a` with that of `b`."""
    a, b = (z - z.mean(axis=0, dtype=np.float64) for z in (a, b))
    found: npt.NDArray[np.float64] = (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return found


def methods(movie: Movie) -> list[haemoglobin.Method]:
    """Return what the lights of `movie` allow."""
    return [method for method, light in haemoglobin.REFERENCE.items() if light in movie.has]


def rows(movie: Movie) -> Iterator[Row]:
    """Yield the rows of the table."""
    warm_up = {"warm_up_s": movie.warm_up_s}
    learnt: dict[str, dict[str, Any]] = {f"running, tau_s {tau_s:g}": {"tau_s": tau_s} for tau_s in movie.taus_s}
    learnt[f"calibration, {movie.warm_up_s:g} s"] = {"estimator": "calibration"}
    first = Layout(movie.layout.sfreq, movie.layout.channels[:1], movie.layout.frame_shape)
    f = movie.x[:, :1]
    published = detrend.whole_recording(f)
    for mode in ("subtract", "ratio"):
        for tau_s in movie.taus_s:
            y = detrend.build(detrend.Config(mode=mode, tau_s=tau_s, **warm_up), first).push(f, 0)
            yield f"detrend, {mode}", f"running, tau_s {tau_s:g}", compared(movie, y, published, True)
    straight = detrend.whole_recording(movie.x, mode="ratio")
    f = straight[:, :1]
    published = delta_f.whole_recording(f)
    for name, arguments in learnt.items():
        y = delta_f.build(delta_f.Config(**arguments, **warm_up), first).push(f, 0)
        yield "delta_f", name, compared(movie, y, published, False)
    for method in methods(movie):
        r = straight[:, movie.layout.channels.index(haemoglobin.REFERENCE[method])]
        published = haemoglobin.whole_recording(f[:, 0], r, method)[:, None]
        for name, arguments in learnt.items():
            step = haemoglobin.build(haemoglobin.Config(method=method, **arguments, **warm_up), movie.layout)
            yield f"haemoglobin, {method}", name, compared(movie, step.push(straight, 0), published, False)
    published = global_signal.whole_recording(f)
    for tau_s in movie.taus_s:
        y = global_signal.build(global_signal.Config(tau_s=tau_s, **warm_up), first).push(f, 0)
        yield "global_signal, regression", f"running, tau_s {tau_s:g}", compared(movie, y, published, True)
    yield from chain_rows(movie)


def chain_rows(movie: Movie) -> Iterator[Row]:
    """Yield the rows of whole chains in the published order, without and with the global signal taken off."""
    for name, is_global in (("detrend, haemoglobin, gaussian", False), ("the same with global_signal", True)):
        for method in methods(movie):
            published = whole_chain(movie, method, is_global)
            for tau_s in movie.taus_s:
                y = chain(movie, method, is_global, tau_s).push(movie.x, 0)
                yield f"{name} ({method})", f"running, tau_s {tau_s:g}", compared(movie, y, published, False)


def chain(movie: Movie, method: haemoglobin.Method, is_global: bool, tau_s: float) -> Chain:
    """Return the causal chain."""
    learns = {"tau_s": tau_s, "warm_up_s": movie.warm_up_s}
    steps: list[dict[str, Any]] = [
        {"kind": "detrend", **learns},
        {"kind": "haemoglobin", "method": method, **learns},
        {"kind": "gaussian"},
    ]
    if is_global:
        steps.insert(1, {"kind": "global_signal", **learns})
    return Chain(steps, movie.layout)


def whole_chain(movie: Movie, method: haemoglobin.Method, is_global: bool) -> FloatArray:
    """Return what the published forms give: a line taken off, not divided by."""
    x = detrend.whole_recording(movie.x)
    if is_global:
        x = global_signal.whole_recording(x)
    r = x[:, movie.layout.channels.index(haemoglobin.REFERENCE[method])]
    return smooth(movie, haemoglobin.whole_recording(x[:, 0], r, method)[:, None])


def smooth(movie: Movie, x: FloatArray) -> FloatArray:
    """Smooth ``(n_frames, 1, height, width)``."""
    first = Layout(movie.layout.sfreq, movie.layout.channels[:1], movie.layout.frame_shape)
    return gaussian.build(gaussian.Config(), first).push(x, 0)


def truth(movie: Movie) -> Iterator[tuple[str, float, float]]:
    """Yield what was done, and the median over the pixels of the correlation with the truth: online, published."""
    if movie.clean is None:
        return
    late = list(movie.spans.values())[1]
    clean = movie.clean[late][:, movie.brain]
    learns = {"tau_s": movie.taus_s[0], "warm_up_s": movie.warm_up_s}
    straight = detrend.whole_recording(movie.x, mode="ratio")
    corrections: dict[str, dict[str, Any]] = {"none": {"kind": "delta_f"}}
    for method in methods(movie):
        corrections[method] = {"kind": "haemoglobin", "method": method}
    for name, step in corrections.items():
        steps = ({"kind": "detrend", **learns}, {**step, **learns}, {"kind": "gaussian"})
        online = Chain(steps, movie.layout).push(movie.x, 0)
        if name == "none":
            published = delta_f.whole_recording(straight[:, :1])
        else:
            r = straight[:, movie.layout.channels.index(haemoglobin.REFERENCE[step["method"]])]
            published = haemoglobin.whole_recording(straight[:, 0], r, step["method"])[:, None]
        of_online, of_published = (
            float(np.median(correlations(y[late, 0][:, movie.brain], clean)))
            for y in (online, smooth(movie, published))
        )
        yield name, of_online, of_published


def main(
    frames: Annotated[
        Path | None, typer.Option(help="two_camera_128.npz of wfci_frames; a simulated movie if not given.")
    ] = None,
) -> None:
    """Print the tables."""
    movie = simulated() if frames is None else recorded(frames)
    names = list(movie.spans)
    typer.echo(f"| step | known from | {names[0]} | r | {names[1]} | r |")
    typer.echo("|---|---|---|---|---|---|")
    for step, arguments, found in rows(movie):
        cells = " | ".join(f"{100 * d:.1f} % ({100 * high:.1f} %) | {r:.3f}" for d, high, r in found)
        typer.echo(f"| {step} | {arguments} | {cells} |")
    if movie.clean is not None:
        typer.echo(f"\n| haemoglobin | r with the truth, online, {names[1]} | published form |\n|---|---|---|")
        for name, online, published in truth(movie):
            typer.echo(f"| {name} | {online:.3f} | {published:.3f} |")


if __name__ == "__main__":
    typer.run(main)
