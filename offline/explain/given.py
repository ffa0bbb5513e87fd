"""What a network is given of a recording: the engine's own path, with a note-taker where the network stands.

An explanation must be of what the network sees at a rig. So the recording is played through the engine on a
virtual clock (timebase, quality check, camera and chain), and cut at the gaps, as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamscore.bundle import Bundle
from streamscore.errors import RecordingError
from streamscore.labels import UNKNOWN_CODE
from streamscore.models.base import Read, ScoringModel, State, Timing
from streamscore.movies.base import Movie, is_movie, read_movie
from streamscore.movies.frames import Frames, Pixels
from streamscore.recordings.base import Recording, read_recording
from streamscore.score import score_recording

CodeArray = npt.NDArray[np.int8]

#: Rounding of times must not move an interval into its neighbour.
_TOLERANCE_S = 1e-3


@dataclass(frozen=True, eq=False)
class Run:
    """Samples without a gap; a network starts them with a fresh state.

    Parameters
    ----------
    x
        What the network takes: ``(1, n_channels, n_samples)``, or ``(1, n_frames, height, width)``; whole steps.
    t0_s
        Time of the first sample on the clock of the recording.
    """

    x: Tensor
    t0_s: float


@dataclass(frozen=True, eq=False)
class Given:
    """What a bundle's network is given of one recording.

    Parameters
    ----------
    name
        Of the recording.
    sfreq
        Samples a second.
    labels
        States of the bundle.
    runs
        In order of time.
    states, epoch_s, states_t0_s
        The labels of the file, as in :class:`~streamscore.recordings.base.Recording`; empty where it has none of
        the bundle's kind.
    """

    name: str
    sfreq: float
    labels: tuple[str, ...]
    runs: tuple[Run, ...]
    states: CodeArray
    epoch_s: float
    states_t0_s: float

    @property
    def is_labelled(self) -> bool:
        """Whether there is anything to compare with."""
        return bool((self.states >= 0).any())

    def truth(self, begin_s: npt.ArrayLike, length_s: float) -> CodeArray:
        """Codes of the intervals that begin at these times; -1 where unlabelled.

        The label of an interval is that of its middle.
        """
        middle_s = np.atleast_1d(np.asarray(begin_s, np.float64)) + 0.5 * length_s
        codes = np.full(len(middle_s), UNKNOWN_CODE, np.int8)
        if len(self.states):
            at = np.floor((middle_s - self.states_t0_s + _TOLERANCE_S) / self.epoch_s).astype(np.int64)
            known = (at >= 0) & (at < len(self.states))
            codes[known] = self.states[at[known]]
        return codes


class _NoteTaker(ScoringModel):
    """Stands for a network and keeps its input; its state counts the steps since it was fresh."""

    def __init__(self, model: ScoringModel) -> None:
        super().__init__()
        self.n_channels, self.n_classes, self.frame_shape = model.n_channels, model.n_classes, model.frame_shape
        step = model.timing.step_samples
        self.timing = Timing(step, (Read(0, step),), None)
        self.steps: list[Tensor] = []
        self.ages: list[int] = []

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        steps = torch.split(x[:1], self.timing.step_samples, self.time_axis)
        self.steps += [step.clone() for step in steps]
        self.ages += [int(state[0][0, 0]) + k for k in range(len(steps))]
        return torch.zeros(x.shape[0], len(steps), 1, self.n_classes), (state[0] + len(steps),)


class _Part:
    """Frames of a file from one number to another."""

    def __init__(self, frames: Frames, first: int, stop: int) -> None:
        self._frames, self._first = frames, first
        self.shape = (stop - first, *frames.shape[1:])
        self.dtype = frames.dtype

    def read(self, start: int, stop: int) -> Pixels:
        return self._frames.read(self._first + start, self._first + stop)

    def close(self) -> None:
        self._frames.close()


def open_recording(path: Path, bundle: Bundle, lights: tuple[str, ...] = (), rate_hz: float | None = None) -> Any:
    """Open the signals or the movie at `path`, whichever the bundle takes.

    Raises
    ------
    RecordingError
        If it cannot be read, or holds the other kind.
    """
    if bundle.layout.frame_shape is None:
        if is_movie(path):
            raise RecordingError(f"{path}: holds a movie, and bundle {bundle.spec.name!r} takes signals")
        return read_recording(path)
    movie = read_movie(path, lights=lights or None, rate_hz=rate_hz)
    if len(movie.lights) <= 1 and len(bundle.spec.channels) == 1:
        # The only light of a file is the one that is wanted.
        return replace(movie, lights=bundle.spec.channels)
    return movie


def part(recording: Recording | Movie, begin_s: float, seconds: float | None) -> Recording | Movie:
    """Return `seconds` of a recording from `begin_s` after its start on, labels and clock as they are.

    Raises
    ------
    RecordingError
        If there is nothing.
    """
    if begin_s == 0.0 and seconds is None:
        return recording
    stamps_s = recording.stamps_s
    t0_s = float(stamps_s[0]) + begin_s if len(stamps_s) else 0.0
    first = int(np.searchsorted(stamps_s, t0_s - _TOLERANCE_S))
    stop = len(stamps_s) if seconds is None else int(np.searchsorted(stamps_s, t0_s + seconds - _TOLERANCE_S))
    if first >= stop:
        raise RecordingError(
            f"{recording.name}: has {recording.duration_s:.1f} s and nothing from {begin_s:g} s on; choose "
            "another begin or length"
        )
    if isinstance(recording, Movie):
        tags = None if recording.tags is None else recording.tags[first:stop]
        frames = _Part(recording.frames, first, stop)
        return replace(recording, frames=frames, stamps_s=stamps_s[first:stop], tags=tags)
    return replace(recording, data=recording.data[first:stop], stamps_s=stamps_s[first:stop])


def given(
    recording: Recording | Movie,
    bundle: Bundle,
    *,
    channels: Mapping[str, str] | None = None,
    begin_s: float = 0.0,
    seconds: float | None = None,
) -> Given:
    """Play a recording, or a part of it, and return what the network of `bundle` is given.

    All of it is kept in memory. A movie is closed.

    Parameters
    ----------
    recording
        Signals or an open movie.
    bundle
        Whose chain runs before its network.
    channels
        Input name → channel label of the recording.
    begin_s, seconds
        Of the part; all by default.

    Raises
    ------
    RecordingError
        If not one step can be scored.
    StreamFormatError, BundleMismatchError
        If the recording does not fit the bundle.
    """
    recording = part(recording, begin_s, seconds)
    model = bundle.model
    notes = _NoteTaker(model).eval()
    step, sfreq = model.timing.step_samples, bundle.spec.sfreq
    score = score_recording(recording, replace(bundle, model=notes), channels=channels, hop_s=step / sfreq)
    valid = [posterior for posterior in score.posteriors if posterior.valid]
    if not valid:
        raise RecordingError(
            f"{recording.name}: nothing of it can be scored: it is shorter than a step of {step / sfreq:g} s and "
            "what the chain takes to settle, or flat, or all gaps"
        )
    # The engine warms up with steps of zeros before the first sample.
    steps, ages = notes.steps[-len(valid) :], notes.ages[-len(valid) :]
    first = score.posteriors[0]
    zero_s = float(recording.stamps_s[0]) - (first.t_start_s - first.start / sfreq)
    begins = [k for k, age in enumerate(ages) if age == 0]
    runs = [
        Run(torch.cat(steps[begin:end], model.time_axis), valid[begin].t_start_s + zero_s)
        for begin, end in zip(begins, [*begins[1:], len(steps)], strict=True)
    ]
    fits = recording.labels == bundle.spec.labels
    return Given(
        name=recording.name,
        sfreq=sfreq,
        labels=bundle.spec.labels,
        runs=tuple(runs),
        states=recording.states if fits else np.zeros(0, np.int8),
        epoch_s=recording.epoch_s if fits else 0.0,
        states_t0_s=recording.states_t0_s + (recording.sample_delay_s if isinstance(recording, Movie) else 0.0),
    )
