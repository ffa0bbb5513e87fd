"""Draw what the simulated subjects look like: ``python -m tools.plot_simulated [folder]``.

Writes ``simulated_human.png`` and ``simulated_mouse.png``, by default to ``docs/images``. Each shows the true
states over time and, for each state, 20 s of every channel and the mean power spectra.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from scipy.signal import welch

from streamscore.recordings.base import Recording
from streamscore.simulate import simulate

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

DEFAULT_FOLDER = Path(__file__).parents[1] / "docs" / "images"
TRACE_S = 20.0
#: Half the height of a trace panel in µV, by channel.
SCALE_UV = {
    "human": {"EEG": 110.0, "EOG": 200.0, "EMG": 60.0},
    "mouse": {"EEG": 250.0, "EMG": 150.0},
}
COLOURS = ("#d1495b", "#edae49", "#66a182", "#2e4057", "#8d6a9f")
INK = "#222222"


def main() -> None:
    """Write both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    draw(simulate("human", 7200.0, seed=6, cycle_s=1500.0), "human", folder / "simulated_human.png")
    draw(simulate("mouse", 3600.0, seed=6), "mouse", folder / "simulated_mouse.png")


def draw(recording: Recording, species: str, path: Path) -> None:
    """Write one figure: the hypnogram on top, below it one row per state."""
    n_states, n_channels = len(recording.labels), len(recording.channels)
    figure = plt.figure(figsize=(14, 1.8 + 1.75 * n_states), layout="constrained")
    grid = figure.add_gridspec(
        1 + n_states, 2 + n_channels, width_ratios=[3.2, *[1.15] * n_channels, 0.01], hspace=0.05
    )
    _draw_hypnogram(figure.add_subplot(grid[0, :-1]), recording)
    for code, label in enumerate(recording.labels):
        rows = grid[1 + code, 0].subgridspec(n_channels, 1, hspace=0)
        start = _typical_start(recording, code)
        for channel in range(n_channels):
            axes = figure.add_subplot(rows[channel])
            _draw_trace(axes, recording, start, channel, SCALE_UV[species], COLOURS[code])
            if channel == 0:
                axes.set_title(f"{label}: {TRACE_S:g} s", loc="left", fontsize=9, color=COLOURS[code])
        for channel in range(n_channels):
            axes = figure.add_subplot(grid[1 + code, 1 + channel])
            _draw_spectra(axes, recording, code, channel)
            if code == 0:
                axes.set_title(f"{recording.channels[channel]}, dB re 1 µV²/Hz", fontsize=9)
            if code == n_states - 1:
                axes.set_xlabel("Hz", fontsize=8)
    figure.suptitle(f"Simulated {species}, {recording.name}, {recording.sfreq:g} Hz", fontsize=10)
    figure.savefig(path, dpi=72)
    plt.close(figure)


def epochs_of(recording: Recording, code: int, channel: int) -> npt.NDArray[np.float32]:
    """Return the epochs of one state on one channel, ``(n_epochs, n_samples)`` µV."""
    n = round(recording.epoch_s * recording.sfreq)
    epochs = recording.data[: len(recording.states) * n, channel].reshape(-1, n)
    chosen: npt.NDArray[np.float32] = epochs[recording.states == code]
    return chosen


def _typical_start(recording: Recording, code: int) -> int:
    """Sample at which the longest bout of the state is half a trace before its middle."""
    edges = np.flatnonzero(np.diff(np.r_[False, recording.states == code, False].astype(int)))
    bouts = edges.reshape(-1, 2)
    first, last = bouts[np.argmax(bouts[:, 1] - bouts[:, 0])]
    middle_s = (first + last) / 2 * recording.epoch_s
    return int(max(0.0, middle_s - TRACE_S / 2) * recording.sfreq)


def _draw_hypnogram(axes: Axes, recording: Recording) -> None:
    # Depth of sleep goes down the page; REM stands next to wake, as is the custom.
    order = [0, len(recording.labels) - 1, *range(1, len(recording.labels) - 1)]
    height = np.empty(len(order))
    height[order] = -np.arange(len(order))
    t_min = np.arange(len(recording.states) + 1) * recording.epoch_s / 60
    axes.stairs(height[recording.states], t_min, baseline=None, color=INK, linewidth=0.9)
    for code in order:
        held = np.where(recording.states == code, height[code], np.nan)
        axes.hlines(held, t_min[:-1], t_min[1:], color=COLOURS[code], linewidth=4)
    axes.set_yticks(height, recording.labels, fontsize=8)
    axes.set_xlim(0, t_min[-1])
    axes.set_xlabel("min", fontsize=8)
    axes.tick_params(labelsize=8)


def _draw_trace(
    axes: Axes, recording: Recording, start: int, channel: int, scale_uv: dict[str, float], colour: str
) -> None:
    name = recording.channels[channel]
    samples = slice(start, start + round(TRACE_S * recording.sfreq))
    t_s = recording.stamps_s[samples] - recording.stamps_s[start]
    axes.plot(t_s, recording.data[samples, channel], color=colour, linewidth=0.5)
    axes.set_ylim(-scale_uv[name], scale_uv[name])
    axes.set_xlim(0, TRACE_S)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel(f"{name}\n±{scale_uv[name]:g} µV", rotation=0, ha="right", va="center", fontsize=7)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _draw_spectra(axes: Axes, recording: Recording, code: int, channel: int) -> None:
    """The state's mean spectrum in colour over those of all others in grey."""
    seconds = 4.0
    for other in [*(c for c in range(len(recording.labels)) if c != code), code]:
        epochs = epochs_of(recording, other, channel)
        f_hz, density = welch(epochs, recording.sfreq, nperseg=round(seconds * recording.sfreq))
        shown = (f_hz >= 0.5) & (f_hz <= min(80.0, 0.48 * recording.sfreq))
        level_db = 10 * np.log10(density.mean(axis=0)[shown])
        own = other == code
        axes.plot(f_hz[shown], level_db, color=COLOURS[code] if own else "#cccccc", linewidth=1.4 if own else 0.8)
    axes.set_xscale("log")
    ticks = [t for t in (0.5, 1, 2, 4, 8, 16, 32, 64) if t <= f_hz[shown][-1]]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(color="#eeeeee")
    axes.tick_params(labelsize=7)


if __name__ == "__main__":
    main()
