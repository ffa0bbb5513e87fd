"""The St Vincent's University Hospital / University College Dublin sleep apnea recordings: data, folds, figures.

Seventeen adults with suspected apnoea, one EEG derivation, 128 Hz. The files hold most W and N3 epochs of every
subject; only subject 018 is complete. So the figure that can be tested across subjects is how well W and N3 are
told apart, and N1, N2 and REM can be tested within one night only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from offline.sequences import Sequences, sequences
from streamscore.bundle import Spec
from streamscore.errors import RecordingError
from streamscore.labels import AASM5
from streamscore.metrics import auc, compare, confusion_matrix
from streamscore.recordings.base import read_recording
from streamscore.types import FloatArray

W, N3 = AASM5.index("W"), AASM5.index("N3")
#: The only subject with all epochs and all stages.
COMPLETE = "ucddb018"
#: Whose held-out figures were seen before chain, size and recipe were settled: every second subject, on which
#: they were compared, and 003, 010 and 017, which earlier versions scored badly. No network had scored the others.
TUNED_ON = tuple(f"ucddb{n:03d}" for n in (2, 3, 5, 7, 9, 10, 11, 13, 15, 17, 18, 20))

SFREQ = 128.0
EPOCH_S = 30.0
#: The unit of the files is not stated and amplitudes differ from subject to subject: the chain removes the scale.
#: The second filter flattens the spectrum of the EEG below 3 Hz. Without it drifts of less than 0.5 Hz, such as
#: those of subject 017, outweigh everything else.
CHAIN: tuple[dict[str, Any], ...] = (
    {"kind": "bandpass", "low_hz": 0.3, "high_hz": 35.0, "order": 2},
    {"kind": "bandpass", "low_hz": 3.0, "high_hz": None, "order": 1},
    {"kind": "normalise", "estimator": "running", "tau_s": 3600.0, "warm_up_s": 60.0, "clip": 20.0},
)


def spec(name: str, model_args: dict[str, Any]) -> Spec:
    """Return the description of a bundle for such recordings, without provenance and card."""
    return Spec(
        name=name,
        model="tinysleepnet",
        model_args=model_args,
        preprocess=CHAIN,
        vocabulary="AASM5",
        sfreq=SFREQ,
        channels=("EEG",),
        unit="any",
        hop_s=1.0,
    )


def load(folder: Path) -> list[Sequences]:
    """Return all subjects of `folder` as the engine would deliver them to a network.

    Raises
    ------
    RecordingError
        If the folder holds none of the files.
    """
    paths = sorted(folder.glob("ucddb*.npz"))
    if not paths:
        raise RecordingError(f"{folder}: holds no ucddb*.npz; give the folder of the recordings with --data")
    return [sequences(read_recording(path), spec("ucddb", {}), EPOCH_S) for path in paths]


def split(n_subjects: int, n_folds: int) -> list[list[int]]:
    """Return the subjects held out in each fold: every subject once, neighbours in the list apart."""
    return [list(range(k, n_subjects, n_folds)) for k in range(n_folds)]


def part(data: Sequences, begin: int, end: int) -> Sequences:
    """Return rows ``[begin, end)`` as a recording of its own, with a fresh state at its start."""
    cut = [(max(a, begin) - begin, min(z, end) - begin) for a, z in data.runs if a < end and z > begin]
    return replace(
        data,
        x=data.x[begin:end],
        y=data.y[begin:end],
        step=data.step[begin:end],
        runs=tuple(cut),
        n_labelled=int((data.y[begin:end] >= 0).sum()),
    )


@dataclass(frozen=True)
class HeldOut:
    """Scores of one subject that the scorer had not seen.

    Parameters
    ----------
    data
        What was scored.
    fold
        In which fold.
    scores
        ``(n_steps, 5)`` logits, or logarithms of probabilities.
    """

    data: Sequences
    fold: int
    scores: FloatArray

    def wake_n3(self) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Return log p(N3)/p(W) and whether it is N3, for the epochs labelled W or N3.

        It orders epochs exactly as p(N3) / (p(W) + p(N3)) does.
        """
        known = np.isin(self.data.y, (W, N3))
        return (self.scores[:, N3] - self.scores[:, W])[known], self.data.y[known] == N3

    def confusion(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Confusion matrix of the epochs labelled W or N3; the scorer may give any stage."""
        y = np.where(np.isin(self.data.y, (W, N3)), self.data.y, -1)
        return confusion_matrix(y, self.scores.argmax(axis=1), len(AASM5))


def pooled_auc(held: Sequence[HeldOut]) -> float:
    """AUC of W against N3 over all epochs of all subjects, no subject rescaled."""
    pairs = [h.wake_n3() for h in held]
    return auc(np.concatenate([p[1] for p in pairs]), np.concatenate([p[0] for p in pairs]))


def interval(held: Sequence[HeldOut], n_draws: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of :func:`pooled_auc`; whole subjects are redrawn."""
    rng = np.random.default_rng(0)
    draws = [pooled_auc([held[k] for k in rng.integers(0, len(held), len(held))]) for _ in range(n_draws)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def figures(held: Sequence[HeldOut]) -> dict[str, Any]:
    """Return all figures of a cross-validation, ready for JSON."""
    rows: list[dict[str, Any]] = []
    for h in held:
        score, is_n3 = h.wake_n3()
        confusion = h.confusion()
        area = auc(is_n3, score)
        rows.append(
            {
                "subject": h.data.name,
                "fold": h.fold,
                "labelled": h.data.n_labelled,
                "scored": len(h.data.y),
                "w": int((~is_n3).sum()),
                "n3": int(is_n3.sum()),
                "auc": None if np.isnan(area) else area,
                "argmax_accuracy": float(np.trace(confusion) / confusion.sum()),
            }
        )
    areas = [row["auc"] for row in rows if row["auc"] is not None]
    confusion = sum((h.confusion() for h in held), np.zeros((len(AASM5), len(AASM5)), np.int64))
    fresh = [h for h in held if h.data.name not in TUNED_ON]
    return {
        "auc_pooled": pooled_auc(held),
        "auc_interval": interval(held),
        "auc_mean": float(np.mean(areas)),
        "auc_worst": float(np.min(areas)),
        "auc_pooled_not_tuned_on": pooled_auc(fresh) if fresh else None,
        "argmax_accuracy": float(np.trace(confusion) / confusion.sum()),
        "confusion_w_n3": {"W": confusion[W].tolist(), "N3": confusion[N3].tolist()},
        "subjects": rows,
    }


def night_figures(data: Sequences, scores: FloatArray) -> dict[str, Any]:
    """Return five-class figures of one night, ready for JSON."""
    result = compare(data.y, scores.argmax(axis=1), AASM5)
    return {
        "epochs": len(data.y),
        "support": dict(zip(AASM5, np.bincount(data.y, minlength=len(AASM5)).tolist(), strict=True)),
        "accuracy": result.accuracy,
        "kappa": result.kappa,
        "macro_f1": result.macro_f1,
        "f1": dict(zip(AASM5, result.f1.tolist(), strict=True)),
        "confusion": result.confusion.tolist(),
    }
