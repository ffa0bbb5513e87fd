"""One recording through the engine, put beside its labels."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.comparison import truth_on_grid, vocabulary_of
from offline.measures import triggers
from offline.scored import NO_OUTPUT, Scored
from offline.spans import Span
from streamscore.assemble import build_policy
from streamscore.bundle import Bundle
from streamscore.errors import ConfigError, RecordingError
from streamscore.hypnogram import Hypnogram
from streamscore.labels import UNKNOWN_CODE, code_of
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from streamscore.score import score_recording
from streamscore.types import Posterior

Codes = npt.NDArray[np.int8]
#: Reasons that are told apart; more are one.
_MOST_REASONS = 100
_OTHER = "other reasons"


@dataclass(frozen=True)
class Settings:
    """How recordings are scored.

    Parameters
    ----------
    channels
        Input of the bundle → channel of the recordings; None takes those of the same name.
    hop_s
        Time between outputs; None is an epoch, or the bundle's own if a policy is replayed.
    policy
        The ``policy`` section of a rig file, to be replayed; None for none.
    merge
        Join states where labels and bundle use a finer and a coarser vocabulary.
    camera
        What a rig file says of the camera, for movies.
    """

    channels: Mapping[str, str] | None = None
    hop_s: float | None = None
    policy: Mapping[str, Any] | None = None
    merge: bool = False
    camera: Mapping[str, Any] | None = None


def lag_of(bundle: Bundle) -> float:
    """Longest algorithmic lag of the final outputs in seconds."""
    return (bundle.model.timing.look_ahead_samples + bundle.chain().lag_samples) / bundle.spec.sfreq


def score_one(
    recording: Recording | Movie,
    bundle: Bundle,
    settings: Settings,
    *,
    subject: str,
    session: str,
    span: Span | None = None,
) -> Scored:
    """Score a recording and put its labels beside; a movie is closed.

    Raises
    ------
    RecordingError
        If it has no labels, none of its labelled epochs counts, or nothing of it could be scored.
    ConfigError
        If its vocabulary is not that of the bundle.
    """
    if not recording.labels or not (recording.states >= 0).any():
        if isinstance(recording, Movie):
            recording.close()
        raise RecordingError(
            f"{session}: has no labels to compare with; add them, or leave subject {subject} out with --subjects"
        )
    vocabulary = vocabulary_of(bundle.spec.labels, recording.labels, session, merge=settings.merge)
    policy = None
    target: tuple[str, ...] = ()
    if settings.policy is not None:
        policy = build_policy(dict(settings.policy), bundle.spec.labels)
        target = vocabulary.target(tuple(settings.policy.get("states", ())), bundle.spec.labels)
        if not target:
            raise ConfigError("policy: it names no states, so that nothing tells a false trigger from a true one")
    hop_s = settings.hop_s or (_own_hop_s(bundle) if policy is not None else None)
    begun_s = time.perf_counter()
    score = score_recording(recording, bundle, channels=settings.channels, hop_s=hop_s, camera=settings.camera)
    compute_s = time.perf_counter() - begun_s
    finals = [posterior for posterior in score.posteriors if posterior.kind == "final"]
    t0_s, epoch_s = score.hypnogram.t0_s, score.hypnogram.epoch_s
    said = Hypnogram.from_posteriors(finals, bundle.spec.labels, epoch_s, t0_s)
    truth = vocabulary.truth(truth_on_grid(recording, t0_s, epoch_s, len(said)))
    n = len(truth)
    truth = inside(truth, t0_s, epoch_s, span, float(recording.stamps_s[0]))
    if not (truth >= 0).any():
        raise RecordingError(f"{session}: none of its labelled epochs is in {span}; choose other hours")
    codes = np.full(n, UNKNOWN_CODE, np.int8)
    probs = np.full((n, len(vocabulary.labels)), np.nan, np.float32)
    codes[: len(said)], probs[: len(said)] = vocabulary.scored(said.codes, said.probs)
    if not (codes[truth >= 0] >= 0).any():
        why = sorted({posterior.reason for posterior in finals if posterior.reason})
        raise RecordingError(
            f"{session}: no labelled epoch of it could be scored ({', '.join(why[:3]) or 'too short'}); look at "
            "the signal with streamscore data check, or leave it out with --subjects"
        )
    reasons, reason = _reasons(finals, codes, t0_s, epoch_s)
    named = np.array([code_of(posterior.state, bundle.spec.labels) for posterior in finals], np.int8)
    stops_s = np.array([posterior.t_stop_s for posterior in finals], np.float64)
    lags_s = np.array([posterior.lag_s for posterior in finals], np.float64)
    return Scored(
        subject=subject,
        session=session,
        labels=vocabulary.labels,
        epoch_s=epoch_s,
        t0_s=t0_s,
        lag_s=lag_of(bundle),
        kind="final",
        truth=truth,
        codes=codes,
        probs=probs,
        stream_s=float(recording.duration_s),
        compute_s=compute_s,
        reasons=reasons,
        reason=reason,
        outputs_s=stops_s + lags_s,
        stops_s=stops_s,
        output_codes=vocabulary.scored(named, np.zeros((0, len(bundle.spec.labels)), np.float32))[0],
        target=target,
        actions_s=triggers.replay(score.posteriors, policy) if policy is not None else np.zeros((0, 2)),
        hop_s=hop_s or epoch_s,
    )


def _own_hop_s(bundle: Bundle) -> float:
    return bundle.spec.hop_s or bundle.model.timing.step_samples / bundle.spec.sfreq


def inside(truth: Codes, t0_s: float, epoch_s: float, span: Span | None, first_s: float) -> Codes:
    """Unlabel what is outside the hours that count; they are counted from the first sample."""
    if span is None or span.is_whole:
        return truth
    starts_s = t0_s + np.arange(len(truth)) * epoch_s - first_s
    slack_s = 1e-3 * epoch_s
    begin_s, end_s = span.begin_h * 3600.0 - slack_s, span.end_h * 3600.0 + slack_s
    inside = (starts_s >= begin_s) & (starts_s + epoch_s <= (end_s if math.isfinite(end_s) else np.inf))
    return np.where(inside, truth, UNKNOWN_CODE).astype(np.int8)


def _reasons(
    finals: Sequence[Posterior], codes: Codes, t0_s: float, epoch_s: float
) -> tuple[tuple[str, ...], Codes]:
    """Why each unknown epoch is unknown: the reason of the output that describes it."""
    of_epoch: dict[int, str] = {}
    for posterior in finals:
        place = (posterior.t_start_s - t0_s) / epoch_s
        if not posterior.valid and abs(place - round(place)) < 0.25:
            of_epoch[round(place)] = posterior.reason
    told = [NO_OUTPUT] * len(codes)
    behind = NO_OUTPUT
    for k in reversed(range(len(codes))):
        # A long gap is told by one output, at its end: it speaks for all epochs before that had none.
        own = of_epoch.get(k)
        behind = own if own is not None else behind if behind.startswith("gap (") and codes[k] < 0 else NO_OUTPUT
        told[k] = behind
    unknown = [text for text, code in zip(told, codes, strict=True) if code < 0]
    names = list(dict.fromkeys(unknown))[:_MOST_REASONS]
    places = {name: k for k, name in enumerate(names)}
    if any(text not in places for text in unknown):
        places[_OTHER] = len(names)
        names.append(_OTHER)
    reason = np.full(len(codes), -1, np.int8)
    for k, text in enumerate(told):
        if codes[k] < 0:
            reason[k] = places.get(text, places.get(_OTHER, -1))
    return tuple(names), reason
