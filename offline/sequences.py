"""What a network sees of a recording, taken from the engine's own path.

Training data must be what the rig will deliver. So nothing is cut or filtered here a second time: the recording
goes through the same timebase, quality check and :class:`~streamscore.scorer.Scorer` as a live stream, and a
network that only takes notes (:class:`Tap`) stands where the real one will. What it was given, and where its
state was fresh, is the training data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamscore.bundle import Bundle, Spec
from streamscore.labels import UNKNOWN_CODE
from streamscore.models.base import Read, ScoringModel, State, Timing
from streamscore.quality import Config as QualityConfig
from streamscore.quality import Quality
from streamscore.recordings.base import Recording
from streamscore.scorer import Scorer
from streamscore.timebase import Config as TimebaseConfig
from streamscore.timebase import Timebase
from streamscore.types import Chunk, FloatArray, Gap, Segment

CodeArray = npt.NDArray[np.int64]

#: Seconds of recording per chunk; any other gives the same sequences.
CHUNK_S = 10.0


@dataclass(frozen=True)
class Sequences:
    """The scored steps of one recording, in order.

    Parameters
    ----------
    name
        Name of the recording.
    x
        ``(n_steps, n_channels, step_samples)`` float32, after the chain.
    y
        ``(n_steps,)`` codes of the vocabulary, -1 where unscored.
    step
        ``(n_steps,)`` number of each step on the grid of the recording (its absolute index / step).
    runs
        Pairs ``(begin, end)`` of rows that follow each other without a gap; the state is fresh at each begin.
    n_labelled
        Labelled steps of the file that hold any signal, scored or not (warm-up and flat lines are not).
    """

    name: str
    x: FloatArray
    y: CodeArray
    step: CodeArray
    runs: tuple[tuple[int, int], ...]
    n_labelled: int


class Tap(ScoringModel):
    """A network that notes its inputs; its state counts the steps since it was fresh."""

    def __init__(self, n_channels: int, n_classes: int, step_samples: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.timing = Timing(step_samples, (Read(0, step_samples),), None)
        self.inputs: list[FloatArray] = []
        self.ages: list[int] = []

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        steps = x[0].split(self.timing.step_samples, dim=1)
        self.inputs += [step.numpy().copy() for step in steps]
        self.ages += [int(state[0][0, 0]) + k for k in range(len(steps))]
        return torch.zeros(x.shape[0], len(steps), 1, self.n_classes), (state[0] + len(steps),)


def pieces(recording: Recording) -> Iterator[Segment | Gap]:
    """Yield the usable samples of `recording` and the gaps between them, as the engine places them."""
    timebase = Timebase(TimebaseConfig(), recording.sfreq)
    quality = Quality(QualityConfig(), recording.sfreq, recording.channels)
    n = max(round(CHUNK_S * recording.sfreq), 1)
    for at in range(0, len(recording.data), n):
        chunk = Chunk(recording.data[at : at + n], recording.stamps_s[at : at + n], 0.0, 0.0)
        for piece in timebase.push(chunk):
            if isinstance(piece, Gap):
                yield piece
            else:
                yield from quality.push(piece)


def sequences(recording: Recording, spec: Spec, step_s: float) -> Sequences:
    """Return what a network with steps of `step_s` seconds is given when `spec` scores `recording`.

    Only phase 0 is taken, the grid on which the recording was labelled.
    """
    tap = Tap(len(spec.channels), len(spec.labels), round(step_s * spec.sfreq))
    scorer = Scorer(Bundle(spec, tap, sha256=""), hop_s=step_s)
    scored: list[int] = []
    for piece in pieces(recording):
        posteriors = scorer.gap(piece) if isinstance(piece, Gap) else scorer.push(piece)
        scored += [p.start // tap.timing.step_samples for p in posteriors if p.valid]
    begins = [row for row, age in enumerate(tap.ages) if age == 0]
    steps = np.array(scored, np.int64)
    labelled = recording.states != UNKNOWN_CODE
    present = np.unique((recording.stamps_s / step_s + 1e-6).astype(np.int64))
    present = present[present < len(labelled)]
    known = steps < len(labelled)
    return Sequences(
        name=recording.name,
        x=np.stack(tap.inputs),
        y=np.where(known, recording.states[np.minimum(steps, len(labelled) - 1)], UNKNOWN_CODE).astype(np.int64),
        step=steps,
        runs=tuple(zip(begins, [*begins[1:], len(steps)], strict=True)),
        n_labelled=int(labelled[present].sum()),
    )
