"""Draw what the simulated cortex looks like: ``python -m tools.plot_cortex [FILE]``.

Writes by default ``docs/images/simulated-cortex.png``: the drawing with its areas, one picture under each light,
successive frames of true ΔF/F and traces of areas by state, their spectra, and what blood makes of the light.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from scipy.signal import welch

from streamscore.simulate.cortex import Cortex
from streamscore.simulate.cortex_map import AREAS

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

DEFAULT_FILE = Path(__file__).parents[1] / "docs" / "images" / "simulated-cortex.png"
SEED, CYCLE_S, DURATION_S = 6, 150.0, 600.0
#: Length of a shown trace; how many of its frames are shown as pictures, and how many samples apart.
TRACE_S, STRIP, STRIDE = 10.0, 6, 2
SHOWN = ("M2", "HL", "BF", "RSP", "V1")
SITUATIONS = ("Wake, at rest", "Wake, running", "NREM", "REM")
COLOURS = ("#d1495b", "#edae49", "#66a182", "#2e4057")
INK = "#222222"


class Recording:
    """One simulated mouse: traces of areas and lights from a small camera, frames from a large one on demand."""

    def __init__(self) -> None:
        small = Cortex(seed=SEED, cycle_s=CYCLE_S, frame_shape=(48, 48), clean=True)
        weights = np.stack([small.areas == 1 + k for k in range(len(small.area_names))]).astype(np.float64)
        weights /= weights.sum(axis=(1, 2), keepdims=True)
        areas, lights, running, states, wheel = [], [], [], [], []
        limb = weights[AREAS.index("HL")]
        for _ in range(round(DURATION_S / 10)):
            movie = small.read(round(10 * small.sfreq))
            assert movie.clean is not None
            areas.append(np.tensordot(movie.clean, weights, ((1, 2), (1, 2))))
            lights.append(np.tensordot(movie.frames - small.dark_frame, limb, ((2, 3), (0, 1))))
            states.append(movie.states)
            running.append(movie.running)
            wheel.append(movie.wheel_cm_s)
        both = np.concatenate(areas).reshape(-1, 2, len(AREAS)).mean(axis=1)
        self.areas = {name: both[:, AREAS.index(name)] for name in SHOWN}
        self.light, self.wheel = np.concatenate(lights), np.concatenate(wheel)
        self.states, self.running = np.concatenate(states), np.concatenate(running)
        self.sfreq, self.light_names = small.sfreq, small.lights

    def situation(self, which: int) -> npt.NDArray[np.bool_]:
        """Samples of a situation out of :data:`SITUATIONS`."""
        if which < 2:
            return np.asarray((self.states == 0) & (self.running == which))
        return np.asarray(self.states == which - 1)

    def start_of(self, which: int) -> int:
        """Sample at which a typical window of `TRACE_S` begins."""
        n = round(TRACE_S * self.sfreq)
        score = np.convolve(self.situation(which), np.ones(n), "valid")
        if which == 1:
            # A bout with its onset: half of the window running, its beginning at rest.
            score = -np.abs(score - 0.6 * n) - n * (self.running[: len(score)] == 1)
            score -= n * (np.convolve(self.states != 0, np.ones(n), "valid") > 0)
        best = np.flatnonzero(score == score.max())
        return int(best[len(best) // 2])

    def frames_at(self, starts: list[int]) -> list[npt.NDArray[np.float32]]:
        """True ΔF/F of the strips that begin at some samples, ``(STRIP, height, width)`` each."""
        # Activity is the same whatever the size of the frames.
        large = Cortex(seed=SEED, cycle_s=CYCLE_S, clean=True)
        found: dict[int, npt.NDArray[np.float32]] = {}
        while len(found) < len(set(starts)):
            at = large.position_samples
            nearest = min(start for start in set(starts) - set(found))
            movie = large.read(min(nearest - at, 200) if nearest > at else STRIP * STRIDE)
            if at == nearest:
                assert movie.clean is not None
                found[nearest] = movie.clean[::STRIDE]
        return [found[start] for start in starts]


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_FILE)
    path: Path = parser.parse_args().file
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(Recording(), path)


def draw(recording: Recording, path: Path) -> None:
    """Write the figure of a recording."""
    figure = plt.figure(figsize=(14, 12.4), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(3.0, 6.2, 3.0))
    figure.get_layout_engine().set(h_pad=0.08)
    _draw_anatomy(top)
    _draw_states(middle, recording)
    _draw_spectra(bottom, recording)
    figure.savefig(path, dpi=72)
    plt.close(figure)


def _draw_anatomy(figure: SubFigure) -> None:
    cortex = Cortex(seed=SEED)
    frames = cortex.read(1).frames[0]
    axes = figure.subplots(1, 5)
    palette = plt.get_cmap("tab20")(np.arange(len(AREAS)) % 20)[:, :3]
    picture = np.ones((*cortex.frame_shape, 3))
    labelled = cortex.areas > 0
    picture[labelled] = 0.35 + 0.65 * palette[(cortex.areas[labelled] - 1) % len(AREAS)]
    axes[0].imshow(picture, interpolation="nearest")
    for k, name in enumerate(AREAS):
        row, column = np.argwhere(cortex.areas == 1 + k + len(AREAS)).mean(axis=0)
        axes[0].text(column, row, name, fontsize=7, ha="center", va="center", color=INK)
    for name, (row, column) in cortex.landmarks_px.items():
        axes[0].plot(column, row, "+", color="black", markersize=9)
        axes[0].annotate(name, (column, row), (-4, 4), textcoords="offset points", fontsize=7, ha="right")
    axes[0].set_title("our own drawing, 28 areas", fontsize=9)
    for axis, frame, light in zip(axes[1:], frames, cortex.lights, strict=True):
        axis.imshow(frame, cmap="gray", vmin=0, vmax=np.percentile(frame, 99.8))
        axis.set_title(light, fontsize=9)
    for axis in axes:
        axis.set_axis_off()


def _draw_states(figure: SubFigure, recording: Recording) -> None:
    n, half = round(TRACE_S * recording.sfreq), STRIP * STRIDE // 2
    starts = [recording.start_of(which) for which in range(len(SITUATIONS))]
    # Pictures are taken around the peak of what is typical: a whisk, the onset of running, a slow wave, theta.
    areas = recording.areas
    onsets = np.roll(np.diff(recording.running, append=0), half)
    typical = (areas["BF"] - areas["M2"], onsets, areas["M2"], areas["RSP"])
    at = []
    for which, start in enumerate(starts):
        at.append(start + int(np.argmax(typical[which][start + half : start + n - half])))
    strips = recording.frames_at(at)
    grid = figure.add_gridspec(2, len(SITUATIONS), height_ratios=(2.3, 3.4))
    for which, (start, strip_at, strip) in enumerate(zip(starts, at, strips, strict=True)):
        cells = grid[0, which].subgridspec(2, STRIP // 2, wspace=0.02, hspace=0.02)
        for k, frame in enumerate(strip):
            axes = figure.add_subplot(cells[k])
            axes.imshow(100 * frame, cmap="RdBu_r", vmin=-8, vmax=8)
            axes.set_axis_off()
            axes.text(3, 12, f"{k * STRIDE / recording.sfreq * 1e3:.0f} ms", fontsize=6, color=INK)
            if k == 1:
                axes.set_title(f"{SITUATIONS[which]}: ΔF/F, ±8 %", fontsize=9, color=COLOURS[which])
        _draw_traces(figure.add_subplot(grid[1, which]), recording, start, strip_at, COLOURS[which])


def _draw_traces(axes: Axes, recording: Recording, start: int, strip_at: int, colour: str) -> None:
    samples = slice(start, start + round(TRACE_S * recording.sfreq))
    t_s = np.arange(samples.stop - start) / recording.sfreq
    step = 12.0
    for k, name in enumerate(SHOWN):
        axes.plot(t_s, 100 * recording.areas[name][samples] - step * k, color=colour, linewidth=0.9)
        axes.text(-0.15, -step * k, name, ha="right", va="center", fontsize=8)
    base = -step * len(SHOWN)
    axes.fill_between(t_s, base, base + 0.5 * recording.wheel[samples], color="#999999", linewidth=0)
    axes.text(-0.15, base + 1, "wheel", ha="right", fontsize=8)
    first_s = (strip_at - start) / recording.sfreq
    axes.axvspan(first_s, first_s + STRIP * STRIDE / recording.sfreq, color="#dddddd", zorder=0)
    axes.plot([TRACE_S, TRACE_S], [2, 7], color=INK, linewidth=1.5, clip_on=False)
    axes.text(TRACE_S - 0.1, 4.5, "5 %", fontsize=7, ha="right", va="center")
    axes.set_xlim(0, TRACE_S)
    axes.set_ylim(base - 1, 9)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    axes.set_xlabel("s", fontsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_spectra(figure: SubFigure, recording: Recording) -> None:
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 2.2))
    n = round(2.5 * recording.sfreq)
    for axis, name in zip(axes, ("M2", "HL", "RSP"), strict=False):
        for which, situation in enumerate(SITUATIONS):
            held = recording.situation(which)[: len(recording.states) // n * n].reshape(-1, n).all(axis=1)
            windows = recording.areas[name][: len(held) * n].reshape(-1, n)[held]
            f_hz, power = welch(windows, recording.sfreq, nperseg=n)
            axis.plot(f_hz[1:], 10 * np.log10(1e4 * power.mean(axis=0)[1:]), color=COLOURS[which], label=situation)
        axis.set_title(f"{name}, dB re 1 %²/Hz", fontsize=9)
        axis.set_xlabel("Hz", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.set_xlim(0.4, 8.4)
    axes[0].legend(fontsize=7, frameon=False)
    _draw_light(axes[3], recording)


def _draw_light(axes: Axes, recording: Recording) -> None:
    """Forty seconds around a bout of running, as each light shows the hindlimb area."""
    start = max(recording.start_of(1) - round(12 * recording.sfreq), 0)
    samples = slice(start, start + round(40 * recording.sfreq))
    t_s = np.arange(samples.stop - start) / recording.sfreq
    rows = {"true ΔF/F": 100 * recording.areas["HL"][samples]}
    for k, name in enumerate(recording.light_names):
        seen = recording.light[samples, k]
        rows[name] = 100 * (seen / seen.mean() - 1)
    for k, (name, row) in enumerate(rows.items()):
        axes.plot(t_s, row - 9.0 * k, color=INK if k == 0 else "#3b7a9e", linewidth=0.9)
        axes.text(-0.5, -9.0 * k, name, ha="right", va="center", fontsize=7)
    runs = recording.running[samples] == 1
    axes.fill_between(t_s, -41, 9, where=runs, color="#fbe9c5", linewidth=0, zorder=0)
    axes.plot([40, 40], [-2.5, 2.5], color=INK, linewidth=1.5, clip_on=False)
    axes.text(39.7, 4, "5 %", fontsize=7, ha="right")
    axes.set_xlim(0, 40)
    axes.set_ylim(-41, 9)
    axes.set_yticks([])
    axes.set_xlabel("s", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_title("hindlimb area under each light; shaded: running", fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
