"""The recordings of an evaluation one by one: true and scored hypnogram, probabilities, what was unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offline.measures.epochs import kappa
from offline.report.html import NOTHING, Html, duration, el, join, number
from offline.report.hypnograms import Track, hypnograms, state_legend, unknown_text
from offline.report.page import folded
from offline.scored import NO_OUTPUT, Codes, Scored
from streamscore.metrics import accuracy, confusion_matrix

#: Recordings that are shown at once; the others are a click away.
N_OPEN = 3


def nights(scored: Sequence[Scored], main: Mapping[str, Any], labels: tuple[str, ...]) -> Html:
    """Draw each recording.

    Parameters
    ----------
    scored
        All scores of an evaluation.
    main
        Figures of the way of scoring whose probabilities are shown; others stand between it and the truth.
    labels
        Names of the states.
    """
    recordings: dict[tuple[str, str], list[Scored]] = {}
    for one in scored:
        recordings.setdefault((one.subject, one.session), []).append(one)
    drawn = [_night(group, main, labels) for group in recordings.values()]
    shown = [body for body in drawn if body]
    if not shown:
        return NOTHING
    rest = folded(f"More recordings: {len(shown) - N_OPEN}", join(shown[N_OPEN:])) if len(shown) > N_OPEN else ""
    read = el(
        "p",
        "How to read it: time runs to the right (hours:minutes:seconds from the start); the coloured line is on "
        "the row of the state. The first row of each recording is the truth, that is, the labels that came with "
        "it. Under the scored hypnogram are the probabilities of the states, one above the other: where one "
        "colour fills the height, the network was sure. Grey is unknown, or without a label. A triangle is a "
        "trigger of the policy.",
        class_="read",
    )
    return join([read, state_legend(labels), *shown[:N_OPEN], rest])


def _night(group: Sequence[Scored], main: Mapping[str, Any], labels: tuple[str, ...]) -> Html:
    own = next((one for one in group if is_of(one, main)), None)
    if own is None:
        return NOTHING
    others = sorted((one for one in group if one is not own), key=lambda one: (one.kind != "baseline", one.lag_s))
    beside = [others[0]] if others and others[0].kind == "baseline" else []
    ahead = [one for one in others if one.kind == own.kind]
    tracks = [_track("true", own, own.truth)]
    tracks += [_track(_name(one), one, one.codes) for one in (*beside, *ahead[-1:])]
    tracks.append(_track(_name(own) if len(tracks) > 1 else "scored", own, own.codes))
    marks = [(float(on_s), f"on for {duration(off_s - on_s)}") for on_s, off_s in own.actions_s]
    title = own.session if own.session.startswith(own.subject) else f"{own.subject}, {own.session}"
    counts = confusion_matrix(own.truth, own.codes, len(labels))
    words = (
        f"{own.n_labelled:,} labelled epochs of {duration(own.epoch_s)}; accuracy {number(accuracy(counts))}, "
        f"κ {number(kappa(counts))}. {unknown_text(_reasons(own), own.epoch_s)}"
    )
    return el(
        "figure",
        el("h3", title),
        hypnograms(f"{title}: true and scored states over time", labels, tracks, own.probs, marks),
        el("figcaption", words),
    )


def is_of(one: Scored, way: Mapping[str, Any]) -> bool:
    """Whether `way` tells the figures of `one`."""
    return bool(one.kind == way["kind"] and one.lag_s == way["lag_s"])


def _name(one: Scored) -> str:
    if one.kind == "baseline":
        return "baseline"
    return f"scored, look-ahead {duration(one.lag_s)}" if one.lag_s else "scored, without look-ahead"


def _track(name: str, one: Scored, codes: Codes) -> Track:
    starts_s = np.asarray(one.t0_s + np.arange(len(codes)) * one.epoch_s, np.float64)
    return Track(name, starts_s, starts_s + one.epoch_s, codes)


def _reasons(one: Scored) -> list[tuple[str, int]]:
    """Why how many epochs are unknown, the most frequent first."""
    unknown = one.codes < 0
    if not len(one.reason):
        return [("", int(unknown.sum()))]
    return Counter(one.reasons[k] if k >= 0 else NO_OUTPUT for k in one.reason[unknown]).most_common()
