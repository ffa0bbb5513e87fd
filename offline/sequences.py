"""What a network sees of a recording, taken from the engine's own path.

Training data must be what the rig will deliver. So nothing is cut or filtered here a second time: the recording
is scored by the engine on a virtual clock, and a network that only takes notes (:class:`Tap`) stands where the
real one will. What it was given, and where its state was fresh, is the training data.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from offline.atomic import replacing
from streamscore.bundle import Bundle, Spec
from streamscore.errors import RecordError, RecordingError
from streamscore.labels import UNKNOWN_CODE
from streamscore.models.base import Read, ScoringModel, State, Timing
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from streamscore.score import score_recording
from streamscore.types import TimeArray

CodeArray = npt.NDArray[np.int64]
#: Values of frames that wait in memory before they are written to the disk.
_HELD_VALUES = 2**24


@dataclass(frozen=True)
class Sequences:
    """The scored steps of one recording, in order.

    Parameters
    ----------
    name
        Name of the recording.
    x
        After the chain: ``(n_steps, n_channels, step_samples)`` float32 of signals, ``(n_steps, step_samples,
        height, width)`` float16 of a movie, which may lie on the disk.
    y
        ``(n_steps,)`` codes of the vocabulary, -1 where unscored.
    step
        ``(n_steps,)`` number of each step on the grid of the recording (its absolute index / step).
    runs
        Pairs ``(begin, end)`` of rows that follow each other without a gap; the state is fresh at each begin.
    n_labelled
        Labelled steps of the file that hold any signal, scored or not (warm-up and flat lines are not).
    subject
        Whose it is.
    """

    name: str
    x: npt.NDArray[Any]
    y: CodeArray
    step: CodeArray
    runs: tuple[tuple[int, int], ...]
    n_labelled: int
    subject: str = ""

    def part(self, begin: int, end: int) -> Sequences:
        """Return rows ``[begin, end)`` as a recording of its own, with a fresh state at its start."""
        cut = [(max(a, begin) - begin, min(z, end) - begin) for a, z in self.runs if a < end and z > begin]
        return replace(
            self,
            x=self.x[begin:end],
            y=self.y[begin:end],
            step=self.step[begin:end],
            runs=tuple(cut),
            n_labelled=int((self.y[begin:end] >= 0).sum()),
        )


class Tap(ScoringModel):
    """A network that notes its inputs; its state counts the steps since it was fresh.

    Frames are written to `path` as they come, as float16, because those of an hour do not fit into memory.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        step_samples: int,
        frame_shape: tuple[int, int] | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.frame_shape = frame_shape
        self.timing = Timing(step_samples, (Read(0, step_samples),), None)
        self.inputs: list[npt.NDArray[Any]] = []
        self.ages: list[int] = []
        self.path = path
        self._n_held = 0
        if path is not None:
            path.write_bytes(b"")

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        steps = x[0].split(self.timing.step_samples, dim=self.time_axis - 1)
        for step in steps:
            noted = step.numpy().astype(np.float16 if self.path else np.float32)  # a copy in either case
            self.inputs.append(noted)
            self._n_held += noted.size
        self.ages += [int(state[0][0, 0]) + k for k in range(len(steps))]
        if self.path is not None and self._n_held > _HELD_VALUES:
            self.flush()
        return torch.zeros(x.shape[0], len(steps), 1, self.n_classes), (state[0] + len(steps),)

    def flush(self) -> None:
        """Write what is held to the disk."""
        assert self.path is not None
        with self.path.open("ab") as file:
            for noted in self.inputs:
                file.write(noted.tobytes())
        self.inputs.clear()
        self._n_held = 0


def sequences(
    recording: Recording | Movie,
    spec: Spec,
    step_s: float,
    *,
    model_channels: int | None = None,
    frame_shape: tuple[int, int] | None = None,
    path: Path | None = None,
    channels: Mapping[str, str] | None = None,
    subject: str = "",
) -> Sequences:
    """Return what a network with steps of `step_s` seconds is given when `spec` scores `recording`.

    Only one phase is taken, that of the grid on which the recording was labelled.

    Parameters
    ----------
    recording
        Signals in memory, or a movie that is open; it is closed.
    model_channels, frame_shape
        What the network takes behind the chain; by default the channels of `spec`, and no frames.
    path
        Where frames are kept, with the rest of the sequences beside them; a ``.npy`` file.
    channels
        Input name → channel label of the recording.

    Raises
    ------
    RecordingError
        If nothing of it can be scored.
    """
    n_samples = max(round(step_s * spec.sfreq), 1)
    if (path is None) != (frame_shape is None):
        raise ValueError("frames need a path to be kept at, and only frames")
    raw = None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.f16")
    tap = Tap(model_channels or len(spec.channels), len(spec.labels), n_samples, frame_shape, raw)
    try:
        found = _tapped(recording, spec, tap, channels, subject)
        return found if path is None else _keep(found, path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error}; make room or choose another folder") from error
    finally:
        if raw is not None:
            raw.unlink(missing_ok=True)


def _tapped(
    recording: Recording | Movie, spec: Spec, tap: Tap, channels: Mapping[str, str] | None, subject: str
) -> Sequences:
    """Score `recording` with `tap` and return its notes."""
    n_samples = tap.timing.step_samples
    bundle = Bundle(spec, tap, sha256="")
    aligned = recording
    if isinstance(recording, Recording):  # labels are on the clock of the stamps, whatever the clock here was
        aligned = replace(on_grid(recording), clock_offsets=np.zeros((0, 2)))
    score = score_recording(aligned, bundle, channels=channels, hop_s=n_samples / spec.sfreq)
    valid = [p for p in score.posteriors if p.valid]
    if not valid:
        reasons = sorted({p.reason for p in score.posteriors}) or ["it is shorter than one step"]
        raise RecordingError(f"{recording.name}: nothing of it can be scored: {', '.join(reasons)}; leave it out")
    n_before = len(tap.ages) - len(valid)  # the engine warms a network up with inputs of its own
    ages = tap.ages[n_before:]
    x: npt.NDArray[Any]
    if tap.path is None:
        x = np.stack(tap.inputs[n_before:])
    else:
        tap.flush()
        shape = (len(tap.ages), n_samples, *(tap.frame_shape or ()))
        x = np.memmap(tap.path, np.float16, "r", shape=shape)[n_before:]
    begins = [row for row, age in enumerate(ages) if age == 0]
    starts_s = np.array([p.t_start_s for p in valid])
    delay_s = aligned.sample_delay_s if isinstance(aligned, Movie) else 0.0
    y = labels_at(aligned, starts_s - delay_s, n_samples / spec.sfreq)
    present_s = np.array([p.t_start_s for p in score.posteriors if not p.reason.startswith("gap")])
    labelled = labels_at(aligned, present_s - delay_s, n_samples / spec.sfreq)
    return Sequences(
        name=recording.name,
        x=x,
        y=y,
        step=np.array([p.start // n_samples for p in valid], np.int64),
        runs=tuple(zip(begins, [*begins[1:], len(valid)], strict=True)),
        n_labelled=int((labelled >= 0).sum()),
        subject=subject,
    )


def _keep(found: Sequences, path: Path) -> Sequences:
    """Write sequences to the disk and return them from there; what describes them comes last."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, found.x)
    described = {key: value for key, value in vars(found).items() if key != "x"}
    with replacing(path.with_suffix(".npz")) as beside, beside.open("wb") as file:
        np.savez(file, **described)
    kept = kept_sequences(path)
    assert kept is not None
    return kept


def kept_sequences(path: Path) -> Sequences | None:
    """Return the sequences kept at `path`; ``None`` if they are not all there."""
    described = path.with_suffix(".npz")
    if not described.is_file():
        return None
    with np.load(described, allow_pickle=False) as file:
        return Sequences(
            name=str(file["name"]),
            x=np.load(path, mmap_mode="r", allow_pickle=False),
            y=file["y"],
            step=file["step"],
            runs=tuple((int(begin), int(end)) for begin, end in file["runs"]),
            n_labelled=int(file["n_labelled"]),
            subject=str(file["subject"]),
        )


def on_grid(recording: Recording) -> Recording:
    """Return `recording` from the first sample that starts one of its labelled epochs, or lies on their grid."""
    if not recording.labels or recording.epoch_s <= 0 or len(recording.stamps_s) == 0:
        return recording
    half_sample_s = 0.5 / recording.sfreq
    first_s = float(recording.stamps_s[0])
    behind_s = (first_s - recording.states_t0_s) % recording.epoch_s
    if behind_s < half_sample_s or recording.epoch_s - behind_s < half_sample_s:
        return recording
    begin = int(recording.stamps_s.searchsorted(first_s + recording.epoch_s - behind_s - half_sample_s))
    return replace(recording, data=recording.data[begin:], stamps_s=recording.stamps_s[begin:])


def labels_at(recording: Recording | Movie, starts_s: TimeArray, length_s: float) -> CodeArray:
    """Codes of intervals ``(n,)`` that start at `starts_s`: what the file says of all of it, -1 where it says two
    things or nothing."""
    if not recording.labels or len(recording.states) == 0:
        return np.full(len(starts_s), UNKNOWN_CODE, np.int64)
    slack_s = min(1e-3, 0.1 * length_s)
    epochs = (starts_s - recording.states_t0_s) / recording.epoch_s
    first = np.floor(epochs + slack_s / recording.epoch_s).astype(np.int64)
    last = np.floor(epochs + (length_s - slack_s) / recording.epoch_s).astype(np.int64)
    states = recording.states.astype(np.int64)
    inside = (first >= 0) & (last < len(states))
    first, last = (np.clip(k, 0, len(states) - 1) for k in (first, last))
    changes = np.concatenate([[0], np.cumsum(np.diff(states) != 0)])
    same = changes[first] == changes[last]
    return np.where(inside & same, states[first], UNKNOWN_CODE)
