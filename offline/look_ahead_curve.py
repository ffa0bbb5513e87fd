"""What waiting buys: agreement and onset delay of one set of weights against its look-ahead and its cost.

A scorer that may look a few seconds ahead agrees better with the expert, and tells a new state later. The curve
shows both for one bundle, so that a user can choose the look-ahead that an experiment allows. Draws are the same
at all look-aheads, so that the gain over the least one has an interval of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offline.atomic import replacing
from offline.figures import figures
from offline.measures.epochs import kappa_gain
from offline.measures.resampling import units_of
from offline.scored import Scored
from offline.scoring import lag_of
from streamscore.bundle import Bundle
from streamscore.errors import ConfigError
from streamscore.scorer import Scorer
from streamscore.types import Segment

#: Outputs that are measured, and the time after which measuring ends with fewer.
_HOPS = 200
_FEWEST_HOPS = 5
_MEASURE_S = 2.0
#: Blue, orange and grey of Okabe & Ito, which colour-blind people tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#666666")


def hop_cost(bundle: Bundle, hop_s: float | None = None) -> dict[str, float]:
    """Measure what an output costs when samples come hop by hop, as from a rig: chain and network, on noise.

    Returns
    -------
    dict
        ``p50_ms`` and ``p99_ms`` an output, ``hop_s``, the number of outputs ``n``, and ``rtf``: time of computing
        by time of stream (median), below 1 for a scorer that keeps up.
    """
    scorer = Scorer(bundle, hop_s)
    scorer.warm_up()
    sfreq, n = bundle.spec.sfreq, scorer.hop_samples
    rng = np.random.default_rng(0)
    shape = bundle.layout.sample_shape

    def push(start: int, n_samples: int) -> float:
        data = rng.standard_normal((n_samples, *shape)).astype(np.float32)
        segment = Segment(start, data, (start + np.arange(n_samples)) / sfreq)
        at_s = time.perf_counter()
        scorer.push(segment)
        return time.perf_counter() - at_s

    # Before chain and network have warmed up, the network is not asked, and an output costs next to nothing.
    lead = bundle.chain().warm_up_samples + bundle.model.timing.warm_up_samples + bundle.model.timing.step_samples
    size = n * max(round(sfreq / n), 1)
    start = 0
    while start < lead:
        push(start, size)
        start += size
    took_s: list[float] = []
    begun_s = time.perf_counter()
    while len(took_s) < _HOPS and (len(took_s) < _FEWEST_HOPS or time.perf_counter() - begun_s < _MEASURE_S):
        took_s.append(push(start, n))
        start += n
    p50_s, p99_s = np.percentile(took_s, (50, 99))
    hop_s = n / sfreq
    return {
        "p50_ms": 1e3 * float(p50_s),
        "p99_ms": 1e3 * float(p99_s),
        "hop_s": hop_s,
        "n": float(len(took_s)),
        "rtf": float(p50_s) / hop_s,
    }


def curve_of(
    ways: Sequence[Sequence[Scored]],
    costs: Sequence[Mapping[str, float]],
    results: Sequence[Mapping[str, Any]] | None = None,
    *,
    n_draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return one row for each look-ahead, least first.

    Parameters
    ----------
    ways
        Scores of the same recordings at each look-ahead.
    costs
        What :func:`hop_cost` measured for each.
    results
        Figures of each, where they are computed already.
    n_draws, seed
        Of the bootstrap.

    Raises
    ------
    ConfigError
        If the look-aheads were not evaluated on the same recordings.
    """
    order = sorted(range(len(ways)), key=lambda k: ways[k][0].lag_s)
    names = [[(one.subject, one.session) for one in ways[k]] for k in order]
    if any(some != names[0] for some in names):
        raise ConfigError("the look-aheads were evaluated on different recordings; evaluate all of them at once")
    base = units_of(ways[order[0]], n_draws, seed)
    rows = []
    for k in order:
        found = results[k] if results is not None else figures(ways[k], n_draws=n_draws, seed=seed)
        pooled = found["pooled"]
        rows.append(
            {
                "look_ahead_s": ways[k][0].lag_s,
                "kappa": pooled["kappa"],
                "accuracy": pooled["accuracy"],
                "macro_f1": pooled["macro_f1"],
                "kappa_gain": kappa_gain(units_of(ways[k], n_draws, seed), base),
                "onset_delay_s": {
                    **pooled["onsets"]["all"]["median_s"],
                    "q25": pooled["onsets"]["all"]["q25_s"],
                    "q75": pooled["onsets"]["all"]["q75_s"],
                },
                "missed_onsets": pooled["onsets"]["all"]["missed_share"],
                "trigger_delay_s": pooled["triggers"]["onset"]["median_s"] if "triggers" in pooled else None,
                "compute": dict(costs[k]),
            }
        )
    return rows


def costs_of(
    bundle: Bundle, look_aheads_s: Sequence[float | None], hop_s: float | None = None
) -> list[dict[str, float]]:
    """Measure an output at each look-ahead, in the order given; ``lag_s`` says which."""
    told = []
    for ahead_s in look_aheads_s:
        variant = bundle if ahead_s is None else bundle.at_look_ahead(ahead_s)
        told.append({"lag_s": lag_of(variant), **hop_cost(variant, hop_s)})
    return told


def draw(rows: Sequence[Mapping[str, Any]], title: str, paths: Sequence[Path]) -> None:
    """Draw the curve into each of `paths`; the suffix tells the format (.png, .svg, .pdf).

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    RecordError
        If a file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ConfigError('pictures need matplotlib; run: pip install "streamscore[train]"') from error
    blue, orange, grey = _COLOURS
    lags_s = np.array([row["look_ahead_s"] for row in rows], np.float64)
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    figure.suptitle(title)
    agreement, onset, cost = figure.subplots(1, 3)
    agreement.fill_between(
        lags_s, _floats(rows, "kappa", "low"), _floats(rows, "kappa", "high"), color=blue, alpha=0.2
    )
    agreement.plot(lags_s, _floats(rows, "kappa"), "o-", color=blue)
    agreement.set(xlabel="look-ahead (s)", ylabel="agreement with the expert, κ", title="agreement (band: 95 %)")
    onset.fill_between(
        lags_s,
        _floats(rows, "onset_delay_s", "q25"),
        _floats(rows, "onset_delay_s", "q75"),
        color=orange,
        alpha=0.2,
    )
    onset.plot(lags_s, _floats(rows, "onset_delay_s"), "o-", color=orange)
    onset.plot(lags_s, lags_s, "--", color=grey, linewidth=1.0, label="the look-ahead itself")
    onset.set(xlabel="look-ahead (s)", ylabel="onset delay (s)", title="time to tell a new state (quartiles)")
    onset.set_ylim(bottom=0.0)
    onset.legend(frameon=False)
    took_ms = [row["compute"]["p50_ms"] for row in rows]
    kappas = _floats(rows, "kappa")
    cost.plot(took_ms, kappas, "o", color=blue)
    for x, y, lag_s in zip(took_ms, kappas, lags_s, strict=True):
        cost.annotate(f"{lag_s:g} s", (x, y), textcoords="offset points", xytext=(4, 5), fontsize=8)
    cost.set(xlabel="computing for an output (ms, median)", ylabel="κ", title="agreement against cost")
    cost.set_xlim(left=0.0, right=1.15 * max(took_ms))
    for axes in (agreement, onset, cost):
        axes.spines[["top", "right"]].set_visible(False)
    for path in paths:
        with replacing(path) as beside:
            figure.savefig(beside, format=path.suffix.removeprefix("."), dpi=150)


def _floats(rows: Sequence[Mapping[str, Any]], name: str, part: str = "value") -> Any:
    return np.array([np.nan if row[name][part] is None else row[name][part] for row in rows], np.float64)
