"""Calibration diagram: whether a probability of 80 % means right in four of five."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from offline.report.agreement import told
from offline.report.chart import ACCENT, MUTED, Chart, Scale
from offline.report.html import NOTHING, Html, el
from offline.report.page import figure

#: Bins with fewer epochs are drawn small, since their height is mostly chance.
FEW = 20


def calibration_figure(found: Mapping[str, Any]) -> Html:
    """Draw the bins of :func:`offline.measures.calibration.calibration`; empty where no epoch is in any."""
    bins = [one for one in found.get("bins", ()) if one.get("epochs")]
    if not bins:
        return NOTHING
    n = np.array([one["epochs"] for one in bins], float)
    probability = np.array([one["probability"] for one in bins], float)
    right = np.array([one["accuracy"] for one in bins], float)
    chart = Chart(
        Scale(0.0, 1.0, "probability of the state that was named"),
        Scale(0.0, 1.0, "share of these epochs that was right"),
        width=400,
        height=360,
    )
    chart.line([0, 1], [0, 1], MUTED, width=1.2, dash="4 3")
    chart.line(probability, right, ACCENT)
    many = n >= FEW
    for which, radius in ((many, 4.5), (~many, 2.2)):
        titles = [f"{int(count):,} epochs" for count in n[which]]
        chart.points(probability[which], right[which], ACCENT, radius=radius, titles=titles)
    share = n / n.sum()
    below = Chart(
        Scale(0.0, 1.0, "probability of the state that was named"),
        Scale(0.0, float(share.max()), "share of epochs"),
        width=400,
        height=360,
    )
    below.bars([one["low"] for one in bins], [one["high"] for one in bins], share, ACCENT)
    read = (
        "How to read it: epochs are grouped by how sure the network was (left; how many there are of each is on "
        "the right). On the dashed line, it is right as often as it says; below it, it is too sure of itself. "
        f"Small dots stand for fewer than {FEW} epochs. The mean distance from the line over all epochs, the "
        f"expected calibration error (ECE), is {told(found.get('ece'))}."
    )
    pictures = el(
        "div",
        chart.svg("How often the network was right, by its probability"),
        below.svg("How many epochs had each probability"),
        class_="side",
    )
    return figure(pictures, read)
