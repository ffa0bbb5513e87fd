"""Truth and scorer on one grid and in one vocabulary, so that they can be compared at all.

The grid is the scorer's. An epoch of it has the label that covers more than half of it, which is the label itself
where labels are on the same grid; an epoch without any sample is unlabelled, since there was nothing to score.
Vocabularies are merged only along the standard lines (S3 and S4 are N3; N1, N2 and N3 are NREM).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamscore.errors import ConfigError
from streamscore.labels import AASM5, MOUSE3, RK6, UNKNOWN_CODE, VOCABULARIES
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from streamscore.types import FloatArray

Codes = npt.NDArray[np.int8]

_RK_TO_AASM = {"W": "W", "S1": "N1", "S2": "N2", "S3": "N3", "S4": "N3", "REM": "REM"}
_AASM_TO_MOUSE = {"W": "Wake", "N1": "NREM", "N2": "NREM", "N3": "NREM", "REM": "REM"}
#: (finer, coarser) → state of the coarser for each of the finer.
MERGES: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, str]] = {
    (RK6, AASM5): _RK_TO_AASM,
    (AASM5, MOUSE3): _AASM_TO_MOUSE,
    (RK6, MOUSE3): {state: _AASM_TO_MOUSE[_RK_TO_AASM[state]] for state in RK6},
}


@dataclass(frozen=True)
class Vocabulary:
    """The states in which truth and scorer are compared.

    Parameters
    ----------
    labels
        Their names.
    of_scored, of_truth
        For each state of the scorer and of the truth, its place in `labels`.
    """

    labels: tuple[str, ...]
    of_scored: tuple[int, ...]
    of_truth: tuple[int, ...]

    def scored(self, codes: Codes, probs: FloatArray) -> tuple[Codes, FloatArray]:
        """Codes ``(n,)`` and probabilities ``(n, n_labels)`` of the scorer; those of merged states are added."""
        merged = np.zeros((len(probs), len(self.labels)), np.float32)
        for k, place in enumerate(self.of_scored):
            merged[:, place] += probs[:, k]
        return _map(codes, self.of_scored), merged

    def truth(self, codes: Codes) -> Codes:
        """Codes ``(n,)`` of the truth."""
        return _map(codes, self.of_truth)

    def target(self, states: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
        """States of the comparison that are those of a policy on `labels`, the scorer's own.

        Raises
        ------
        ConfigError
            If merging joins one of them with another state.
        """
        places = {self.of_scored[labels.index(state)] for state in states}
        joined = [label for k, label in enumerate(labels) if self.of_scored[k] in places and label not in states]
        if joined:
            raise ConfigError(
                f"the policy acts on {', '.join(states)}, which merging joins with {', '.join(joined)}; leave out "
                "--merge, or let it act on all of them"
            )
        return tuple(label for k, label in enumerate(self.labels) if k in places)


def vocabulary_of(
    scored: tuple[str, ...], truth: tuple[str, ...], where: str, *, merge: bool = False
) -> Vocabulary:
    """Find the states in which a scorer of `scored` is compared with labels of `truth`.

    Parameters
    ----------
    scored, truth
        Vocabularies of both.
    where
        Recording named in errors.
    merge
        Whether states may be joined where one vocabulary is finer.

    Raises
    ------
    ConfigError
        If they have nothing in common, or would have to be merged and may not.
    """
    if set(truth) <= set(scored):
        return Vocabulary(scored, tuple(range(len(scored))), tuple(scored.index(state) for state in truth))
    coarser = next((pair[1] for pair in MERGES if set(pair) == {scored, truth}), None)
    if coarser is None:
        raise ConfigError(
            f"{where}: its labels are {_name(truth)}, but the bundle scores {_name(scored)}, and no standard "
            "joins them; use a bundle of the same states, or rename the labels (option states of the data set)"
        )
    if not merge:
        raise ConfigError(
            f"{where}: its labels are {_name(truth)}, but the bundle scores {_name(scored)}; add --merge to "
            f"compare both as {_name(coarser)}"
        )
    return Vocabulary(coarser, _places(scored, coarser), _places(truth, coarser))


def truth_on_grid(recording: Recording | Movie, t0_s: float, epoch_s: float, at_least: int) -> Codes:
    """Label of each epoch of a grid, -1 where there is none or no sample.

    Parameters
    ----------
    recording
        With its labels.
    t0_s, epoch_s
        The grid, on the clock of samples.
    at_least
        Epochs; more if labels go on.
    """
    delay_s = recording.sample_delay_s if isinstance(recording, Movie) else 0.0
    states, length_s = recording.states, recording.epoch_s
    label_edges_s = recording.states_t0_s + delay_s + np.arange(len(states) + 1) * length_s
    n = max(at_least, int(np.ceil((label_edges_s[-1] - t0_s) / epoch_s - 1e-6)))
    edges_s = t0_s + np.arange(n + 1) * epoch_s
    covered_s = np.zeros((len(recording.labels), n))
    for code in np.unique(states[states >= 0]):
        up_to_s = np.concatenate([[0.0], np.cumsum(states == code)]) * length_s
        covered_s[code] = np.diff(np.interp(edges_s, label_edges_s, up_to_s))
    truth = np.where(covered_s.max(axis=0) > 0.5 * epoch_s * (1 + 1e-6), covered_s.argmax(axis=0), UNKNOWN_CODE)
    samples = recording.stamps_s.searchsorted(edges_s - 0.5 / recording.sfreq)
    return np.where(np.diff(samples) > 0, truth, UNKNOWN_CODE).astype(np.int8)


def _places(labels: tuple[str, ...], coarser: tuple[str, ...]) -> tuple[int, ...]:
    merge = MERGES.get((labels, coarser), {label: label for label in labels})
    return tuple(coarser.index(merge[label]) for label in labels)


def _map(codes: Codes, places: tuple[int, ...]) -> Codes:
    table = np.array([*places, UNKNOWN_CODE], np.int8)  # code -1 takes the last one
    return table[codes]


def _name(labels: tuple[str, ...]) -> str:
    known = [name for name, states in VOCABULARIES.items() if states == labels]
    return f"{known[0]} ({', '.join(labels)})" if known else ", ".join(labels)
