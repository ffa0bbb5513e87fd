"""Labels brought onto their signal, and what is wrong with either.

Labels may start before the signal, end after it, or lie off its first sample. What overlaps is used, and
everything else is told as a :class:`Problem`, never repaired in silence. A recording that has been fitted
starts at 0 s with its first labelled epoch, so that epoch `k` is made of the samples from ``k * epoch_s *
sfreq`` on, gaps aside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamscore.annotations import ScoredStates
from streamscore.errors import RecordingError
from streamscore.labels import UNKNOWN_CODE
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

#: Stamps are decimals: an epoch that ends by so many samples after the signal is still whole.
_SLACK_SAMPLES = 0.5


@dataclass(frozen=True)
class Problem:
    """Something that a user should know of a recording.

    Parameters
    ----------
    text
        What is wrong and what to do.
    is_error
        Whether it keeps the recording from being used.
    """

    text: str
    is_error: bool = False


def fit(recording: Recording | Movie, where: str) -> tuple[Recording | Movie, tuple[Problem, ...]]:
    """Cut labels and signal to what they share.

    Parameters
    ----------
    recording
        As its reader gave it.
    where
        File named in errors and problems.

    Returns
    -------
    recording
        With times from 0 and, for signals, the first epoch at 0 s. Frames of a movie are not cut: labels ahead of
        them are left out, and `states_t0_s` tells where the first epoch starts.
    problems
        What was left out.

    Raises
    ------
    RecordingError
        If there are no samples, a channel has no finite one, there are no labels, none of them is scored, or
        none lies on the signal.
    """
    if len(recording.stamps_s) == 0:
        raise RecordingError(f"{where}: holds no samples; copy the file again, or leave it out")
    if not recording.labels or not len(recording.states):
        raise RecordingError(
            f"{where}: has no labels; put them beside it as docs/datasets.md says, or leave it out"
        )
    if isinstance(recording, Recording):
        dead = [c for c, x in zip(recording.channels, recording.data.T, strict=True) if not np.isfinite(x).any()]
        if dead:
            raise RecordingError(
                f"{where}: channel {dead[0]} holds no finite sample; choose another in dataset.json: "
                '"channels": {"NAME": "LABEL"} (data check tries it with --channel)'
            )
    n_ahead = _first_epoch(recording)
    states = recording.states[max(n_ahead, 0) :]
    if n_ahead < 0:
        states = np.concatenate([np.full(-n_ahead, UNKNOWN_CODE, np.int8), states])
    fitted, t0_s = _from(recording, recording.states_t0_s + n_ahead * recording.epoch_s)
    end_s = fitted.duration_s + float(fitted.stamps_s[0])
    n_whole = max(int(np.floor((end_s - t0_s + _SLACK_SAMPLES / recording.sfreq) / recording.epoch_s)), 0)
    if not (states[:n_whole] != UNKNOWN_CODE).any():
        raise RecordingError(
            f"{where}: no scored epoch lies on the signal, which lasts {recording.duration_s:g} s (labels: "
            f"{len(recording.states)} epochs of {recording.epoch_s:g} s from "
            f"{recording.states_t0_s - recording.stamps_s[0]:g} s on); check that both files belong together"
        )
    problems = _left_out(recording.states[: max(n_ahead, 0)], recording.epoch_s, "before the signal begins")
    problems += _left_out(states[n_whole:], recording.epoch_s, "behind the end of the signal")
    return replace(fitted, states=states[:n_whole], states_t0_s=t0_s), tuple(problems)


def attach(recording: Recording | Movie, scored: ScoredStates) -> Recording | Movie:
    """Return `recording` with these labels, whose times count from its first sample."""
    return replace(
        recording,
        labels=scored.labels,
        states=scored.codes,
        epoch_s=scored.epoch_s,
        states_t0_s=float(recording.stamps_s[0]) + scored.t0_s if len(recording.stamps_s) else scored.t0_s,
    )


def _first_epoch(recording: Recording | Movie) -> int:
    """Number of the first epoch that begins with a sample; negative where the grid goes on ahead of the labels."""
    slack_s = _SLACK_SAMPLES / recording.sfreq
    back = int(np.floor((recording.states_t0_s - recording.stamps_s[0] + slack_s) / recording.epoch_s))
    if isinstance(recording, Movie):
        return max(-back, 0)
    numbers = np.arange(-back, len(recording.states))
    starts_s = recording.states_t0_s + numbers * recording.epoch_s
    after = np.searchsorted(recording.stamps_s, starts_s - slack_s)
    inside = after < len(recording.stamps_s)
    begins = np.zeros(len(numbers), np.bool_)
    begins[inside] = recording.stamps_s[after[inside]] - starts_s[inside] <= slack_s
    return int(numbers[np.argmax(begins)]) if begins.any() else len(recording.states)


def _from(recording: Recording | Movie, start_s: float) -> tuple[Recording | Movie, float]:
    """Let times begin with 0, and a signal with the sample at `start_s`; return it and where the epochs begin."""
    first_s = float(recording.stamps_s[0])
    if isinstance(recording, Movie):
        return replace(recording, stamps_s=recording.stamps_s - first_s), start_s - first_s
    at = int(np.searchsorted(recording.stamps_s, start_s - _SLACK_SAMPLES / recording.sfreq))
    if at == len(recording.stamps_s):  # no epoch begins on the signal; the caller says so
        return recording, start_s
    stamps_s = recording.stamps_s[at:] - recording.stamps_s[at]
    return replace(recording, data=recording.data[at:], stamps_s=stamps_s), 0.0


def _left_out(states: npt.NDArray[np.int8], epoch_s: float, place: str) -> list[Problem]:
    n_scored = int((states != UNKNOWN_CODE).sum())
    if n_scored == 0:
        return []
    return [Problem(f"{n_scored} scored epochs of {epoch_s:g} s lie {place} and are left out")]
