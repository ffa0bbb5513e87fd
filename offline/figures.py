"""All figures of an evaluation, from scores to what stands in ``evaluation.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from offline.measures import bouts, calibration, epochs, onsets, triggers
from offline.measures.resampling import units_of
from offline.scored import Scored, by_subject
from streamscore.errors import ConfigError
from streamscore.labels import code_of


def figures(
    scored: Sequence[Scored],
    *,
    pairs: Sequence[tuple[str, str]] = (),
    n_draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of recordings that were scored in one way, ready for JSON; undefined ones are None.

    Parameters
    ----------
    scored
        One way: the same labels, kind and look-ahead.
    pairs
        Pairs of states that are also compared alone, as in "Wake against N3"; where truth holds only two states,
        those are.
    n_draws, seed
        Of the bootstrap.

    Returns
    -------
    dict
        ``kind``, ``lag_s``, ``labels``, ``epoch_s``, ``interval_over`` (what was redrawn), ``pooled``, and
        ``subjects``, a list with the same figures of each.

    Raises
    ------
    ConfigError
        If `scored` is empty or mixed, or a state of `pairs` does not exist.
    """
    if len(scored) == 0:
        raise ConfigError("there are no scores to compute figures from; evaluate at least one recording")
    first = scored[0]
    if any((one.labels, one.kind, one.epoch_s) != (first.labels, first.kind, first.epoch_s) for one in scored):
        raise ConfigError("scores of different states, kinds or epochs cannot be pooled; compute figures of each")
    for state in {state for pair in pairs for state in pair}:
        code_of(state, first.labels)
    present = sorted({int(code) for one in scored for code in np.unique(one.truth) if code >= 0})
    if len(present) == 2 and len(first.labels) > 2 and not pairs:
        pairs = ((first.labels[present[0]], first.labels[present[1]]),)
    units = units_of(scored, n_draws, seed)
    rows = []
    for subject, group in by_subject(scored).items():
        of_one = _all_figures(group, pairs, n_draws=0, seed=seed)
        rows.append({"subject": subject, "sessions": [one.session for one in group], **of_one})
    return {
        "kind": first.kind,
        "lag_s": max(one.lag_s for one in scored),
        "hop_s": max(one.hop_s for one in scored) or first.epoch_s,
        "labels": list(first.labels),
        "epoch_s": first.epoch_s,
        "recordings": len(scored),
        "interval_over": units.name or None,
        "interval_units": len(units.parts) if units.name else 0,
        "pooled": _all_figures(scored, pairs, n_draws, seed),
        "subjects": rows,
    }


def _all_figures(
    scored: Sequence[Scored], pairs: Sequence[tuple[str, str]], n_draws: int, seed: int
) -> dict[str, Any]:
    labels = scored[0].labels
    units = units_of(scored, n_draws, seed)
    # Hours of a recording cut its bouts: what counts bouts has no interval then.
    whole = units if units.keeps_recordings else units_of(scored, 0, seed)
    if not units.keeps_recordings:
        whole = replace(whole, name="", parts=(tuple(scored),), counts=np.zeros((0, 1)))
    told: dict[str, Any] = {
        "hours": sum(one.n_labelled * one.epoch_s for one in scored) / 3600.0,
        **epochs.agreement(units, labels),
        "coverage": epochs.coverage(units),
        "calibration": calibration.calibration(units),
        "structure": bouts.structure(whole, labels),
        "onsets": onsets.onsets(whole, labels),
        "compute_s": sum(one.compute_s for one in scored),
        "stream_s": sum(one.stream_s for one in scored),
    }
    if len(labels) == 2:
        told["auc"] = told["classes"][labels[1]]["auc"]
    if pairs:
        told["pairs"] = [epochs.pair(units, labels, *pair) for pair in pairs]
    if any(one.target for one in scored):
        told["triggers"] = triggers.triggers(whole)
    return told
