"""Spectra by state: what each state looks like, to see whether states and channels are what they should be."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offline.report.chart import Chart, Scale, legend, log_ticks
from offline.report.html import NOTHING, Html, el
from offline.report.page import figure
from offline.spectra import Spectra
from streamscore.errors import RecordingError
from streamscore.panel.art import colour_of, hypnogram_order

#: Highest frequency shown, and channels shown at most.
HIGHEST_HZ, N_CHANNELS = 50.0, 8
#: Powers shown at most below the highest, in decades.
DECADES = 6.0


def read_spectra(path: Path) -> Spectra:
    """Read what an evaluation wrote.

    Raises
    ------
    RecordingError
        If the file is damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = {name: tuple(map(str, file[name])) for name in ("states", "channels", "units")}
            found = Spectra(file["f_hz"], file["psd"], epochs=file["epochs"], **names)
        if found.psd.shape != (len(found.states), len(found.channels), len(found.f_hz)):
            raise ValueError(f"psd is {found.psd.shape}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path}: holds no spectra ({error}); evaluate again") from error
    return found


def spectra_figure(all_spectra: Sequence[Spectra]) -> Html:
    """Draw the spectra of each channel, one line a state: the geometric mean over recordings, and their range."""
    if not all_spectra:
        return NOTHING
    first = all_spectra[0]
    alike = [s for s in all_spectra if s.channels == first.channels and np.array_equal(s.f_hz, first.f_hz)]
    alike = [s for s in alike if s.states == first.states]
    charts = []
    for k, channel in enumerate(first.channels[:N_CHANNELS]):
        stacked = np.stack([spectra.psd[:, k] for spectra in alike])  # (recordings, states, freqs)
        drawn = _channel(stacked, first, k)
        if drawn:
            charts.append(el("div", el("h3", channel), drawn))
    if not charts:
        return NOTHING
    words = [
        "How to read it: power against frequency, one line for each true state. Both how high a line is and "
        "where its bumps lie tell states apart. The power axis is logarithmic: a step from one tick to the next "
        "is a factor."
    ]
    if len(alike) > 1:
        words.append(
            f"Lines are geometric means over {len(alike)} recordings, and the shade around them holds the middle "
            "two thirds of these."
        )
    if len(alike) < len(all_spectra):
        words.append(f"{len(all_spectra) - len(alike)} recordings with other channels or rates are not in it.")
    if len(first.channels) > N_CHANNELS:
        words.append(f"The first {N_CHANNELS} of {len(first.channels)} channels are shown.")
    states = [(colour_of(state, first.states), state) for state in hypnogram_order(first.states)]
    return figure(el("div", *charts, class_="side"), " ".join(words), legend(states))


def _channel(stacked: npt.NDArray[np.floating], first: Spectra, k: int) -> Html:
    f_hz = first.f_hz
    shown = (f_hz > 0) & (f_hz <= HIGHEST_HZ)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(stacked[:, :, shown])
    logs[~np.isfinite(logs)] = np.nan
    lines = {}
    for code, state in enumerate(first.states):
        has = np.isfinite(logs[:, code]).all(axis=1)
        if has.any():
            lines[state] = np.quantile(logs[has, code], (1 / 6, 5 / 6), axis=0), logs[has, code].mean(axis=0)
    if not lines or shown.sum() < 2:
        return NOTHING
    top = max(float(mean.max()) for _, mean in lines.values()) + 0.2
    bottom = max(min(float(mean.min()) for _, mean in lines.values()) - 0.2, top - DECADES)
    unit = first.units[k].replace("uV", "µV")
    x = Scale(0.0, float(f_hz[shown][-1]), "frequency (Hz)")
    y = Scale(10**bottom, 10**top, f"power ({unit or 'unit'}²/Hz)", log=True, ticks=log_ticks(10**bottom, 10**top))
    chart = Chart(x, y)
    for state, ((low, high), mean) in lines.items():
        colour = colour_of(state, first.states)
        chart.band(f_hz[shown], 10**low, 10**high, colour)
        chart.line(f_hz[shown], 10**mean, colour)
    return chart.svg(f"Power spectra of {first.channels[k]} by state")
