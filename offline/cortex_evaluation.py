"""What networks say of simulated animals that they have not seen, through the engine's own scorer.

An output describes an interval; it is compared with the true state at the interval's last frame. Beside the
networks stands a logistic regression on the areas: mean and spread of each over the last seconds, behind the
same chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.cortex_clips import Clip, CodeArray, area_means, cortex, layout, pieces, truth
from streamscore.bundle import Bundle
from streamscore.metrics import auc, compare
from streamscore.preprocess.base import Chain
from streamscore.scorer import Scorer
from streamscore.types import FloatArray, Segment

#: A shorter bout has no onset that could be looked for.
MIN_BOUT_S = 2.0


@dataclass(frozen=True)
class Said:
    """What was said of each frame of some animals, one after the other.

    Parameters
    ----------
    probs
        ``(n_frames, n_classes)``, NaN where nothing valid was said.
    lag_s
        How late.
    """

    probs: FloatArray
    lag_s: float

    @property
    def codes(self) -> CodeArray:
        """Most probable class, -1 where nothing valid was said."""
        known = np.isfinite(self.probs[:, 0])
        codes: CodeArray = np.where(known, np.argmax(np.nan_to_num(self.probs), axis=1), -1).astype(np.int64)
        return codes


def listen(
    bundles: Mapping[str, Bundle], seed: int, cycle_s: float, duration_s: float
) -> tuple[CodeArray, FloatArray, dict[str, Said]]:
    """Let an animal be scored by several bundles with the same chain.

    Returns
    -------
    codes
        ``(n_frames,)`` truth.
    areas
        ``(n_frames, n_areas)`` means behind the chain.
    dict
        Name → what the bundle said; its provisional outputs stand under ``"name, provisional"``.
    """
    spec = next(iter(bundles.values())).spec
    n = round(duration_s * spec.sfreq)
    animal = cortex(spec, seed, cycle_s)
    chain = Chain(spec.preprocess, layout(spec))
    scorers = {name: Scorer(bundle) for name, bundle in bundles.items()}
    said: dict[str, Said] = {}
    for name, scorer in scorers.items():
        for kind in scorer.kinds:
            probs = np.full((n, len(spec.labels)), np.nan, np.float32)
            said[name if kind == "final" else f"{name}, {kind}"] = Said(probs, scorer.lag_s(kind))
    codes, areas = [], []
    for start, movie in pieces(animal, n):
        frames = movie.frames.astype(np.float32)
        stamps_s = (start + np.arange(len(frames))) / spec.sfreq
        codes.append(truth(movie, spec))
        areas.append(area_means(chain.push(frames, start)[:, 0], animal.areas, len(animal.area_names)))
        for name, scorer in scorers.items():
            for posterior in scorer.push(Segment(start, frames, stamps_s)):
                if posterior.valid:
                    key = name if posterior.kind == "final" else f"{name}, {posterior.kind}"
                    said[key].probs[posterior.stop - 1] = posterior.probs
    return np.concatenate(codes), np.concatenate(areas), said


def trailing(areas: FloatArray, n: int) -> npt.NDArray[np.float64]:
    """Mean and log spread of each area over the last `n` frames, fewer at the start: ``(n_frames, 2 n_areas)``."""
    sums = [
        np.concatenate([np.zeros((1, areas.shape[1])), np.cumsum(areas**k, axis=0, dtype=np.float64)])
        for k in (1, 2)
    ]
    stop = np.arange(1, len(areas) + 1)
    start = np.maximum(stop - n, 0)
    mean, square = ((total[stop] - total[start]) / (stop - start)[:, None] for total in sums)
    spread = np.sqrt(np.maximum(square - mean**2, 1e-6))
    return np.concatenate([mean, np.log(spread)], axis=1)


def baseline(clips: Sequence[Clip], animals: Sequence[FloatArray], n: int, warm_up: int, n_classes: int) -> Said:
    """Probabilities of a logistic regression that learnt from `clips`, for the areas of each animal."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, class_weight="balanced"))
    x = np.concatenate([trailing(clip.areas, n)[n:] for clip in clips])
    model.fit(x, np.concatenate([clip.codes[n:] for clip in clips]))
    parts = []
    for areas in animals:
        probs = np.zeros((len(areas), n_classes), np.float32)
        probs[:, model.classes_] = model.predict_proba(trailing(areas, n))
        probs[:warm_up] = np.nan
        parts.append(probs)
    return Said(np.concatenate(parts), 0.0)


def onset_delays_s(codes: CodeArray, scored: CodeArray, of: int, sfreq: float) -> list[float]:
    """Time from each onset of a bout of class `of` to the first frame in it that is scored so; NaN without one."""
    is_in = np.concatenate([[False], codes == of, [False]])
    begins, ends = (np.flatnonzero(np.diff(is_in.astype(np.int8)) == sign) for sign in (1, -1))
    delays = []
    for begin, end in zip(begins, ends, strict=True):
        if begin == 0 or (scored[begin - 1] < 0) or end - begin < MIN_BOUT_S * sfreq:
            continue  # under way when the animal or the scoring began, or too short
        hits = np.flatnonzero(scored[begin:end] == of)
        delays.append(float(hits[0] / sfreq) if len(hits) else float("nan"))
    return delays


def figures(codes: Sequence[CodeArray], said: Said, labels: tuple[str, ...], sfreq: float) -> dict[str, Any]:
    """Agreement over all animals, recall and AUC of each class, and how late onsets are told (lag included)."""
    true, scored = np.concatenate(codes), said.codes
    result = compare(true, scored, labels, said.probs)
    known = scored >= 0
    edges = np.cumsum([len(part) for part in codes])[:-1]
    parts = list(zip(codes, np.split(scored, edges), strict=True))
    onsets = {}
    for code, label in enumerate(labels):
        delays = np.array([d for part, guess in parts for d in onset_delays_s(part, guess, code, sfreq)])
        found = delays[np.isfinite(delays)] + said.lag_s
        onsets[label] = {
            "bouts": len(delays),
            "found": len(found),
            "median_s": float(np.median(found)) if len(found) else None,
        }
    rows = result.confusion.sum(axis=1)
    return {
        "accuracy": result.accuracy,
        "kappa": result.kappa,
        "recall": {
            label: float(result.confusion[k, k] / rows[k]) if rows[k] else None for k, label in enumerate(labels)
        },
        "auc": {label: auc(true[known] == k, said.probs[known, k]) for k, label in enumerate(labels)},
        "frames": {label: int(rows[k]) for k, label in enumerate(labels)},
        "scored": result.coverage,
        "lag_s": said.lag_s,
        "onsets": onsets,
    }
