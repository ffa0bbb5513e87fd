"""Which parts of the recordings make the batches of a pass, and the batches themselves.

A pass is planned as a whole from (seed, stage, pass), and each batch is altered by a generator of its own. So a
training that was stopped goes on exactly as it would have, and so does one whose batches other processes prepare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from offline.augment import augment
from offline.recipe import Augment, Examples
from offline.sequences import Sequences
from streamscore.errors import ConfigError
from streamscore.types import FloatArray

Rng = np.random.Generator


@dataclass(frozen=True)
class Cut:
    """A part of a recording.

    Parameters
    ----------
    recording
        Its place in the list.
    begin, end
        Steps ``[begin, end)``; empty for a row that has ended.
    seen
        Steps since the state was fresh; 0 starts afresh.
    joined
        Whether gaps inside it are ignored.
    shift
        Samples by which it is read later than its steps begin.
    """

    recording: int
    begin: int
    end: int
    seen: int = 0
    joined: bool = False
    shift: int = 0


@dataclass
class Batch:
    """Examples side by side.

    Parameters
    ----------
    x
        ``(rows, n_channels, samples)`` of whole steps, or a movie ``(rows, frames, height, width)``.
    y
        ``(rows, n_past + n_steps)`` codes, -1 where there is no label: also those of the steps before, because a
        network with look-ahead says something about them.
    seen
        ``(rows,)`` steps since the state was fresh; where it is 0 the state must be.
    first
        Steps at the beginning that the network is not asked about.
    look_ahead
        Which of the stage's look-aheads is meant.
    length
        ``(rows,)`` steps of each row that are there; what follows is filled up with zeros. ``None``: all.
    """

    x: Tensor
    y: Tensor
    seen: Tensor
    first: int
    look_ahead: int = 0

    @property
    def n_steps(self) -> int:
        """Steps in a row."""
        return self.y.shape[1] - self.n_past

    n_past: int = 0
    length: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return it on another device; Lightning calls it."""
        x, y, seen = (part.to(device) for part in (self.x, self.y, self.seen))
        length = None if self.length is None else self.length.to(device)
        return Batch(x, y, seen, self.first, self.look_ahead, self.n_past, length)


Plan = list[list[Cut]]


def plan(data: Sequence[Sequences], config: Examples, rng: Rng) -> Plan:
    """Return the cuts of each batch of a pass.

    Raises
    ------
    ConfigError
        If no part of any recording is long enough.
    """
    made = (_plan_nights if config.kind == "nights" else _plan_windows)(data, config, rng)
    if not made:
        longest = max((end - begin for d in data for begin, end in d.runs), default=0)
        raise ConfigError(
            f"examples of {config.context + config.steps} steps: the longest uninterrupted part of the training "
            f"recordings has {longest} steps, or nothing in them is labelled; give longer recordings, or set "
            "examples.steps lower"
        )
    return made


def plan_in_order(data: Sequence[Sequences], n_steps: int, batch: int, whole: bool = False) -> Plan:
    """Go once through all runs, `n_steps` at a time, the state carried: how validation recordings are seen.

    With `whole` what does not fill the last part of a run is left out.
    """
    rows = [
        [
            Cut(i, at, min(at + n_steps, end), at - begin)
            for at in range(begin, end - (n_steps - 1 if whole else 0), n_steps)
        ]
        for i, recording in enumerate(data)
        for begin, end in recording.runs
    ]
    rows = sorted(filter(None, rows), key=len)
    return _side_by_side([rows[k : k + batch] for k in range(0, len(rows), batch)])


def _plan_windows(data: Sequence[Sequences], config: Examples, rng: Rng) -> Plan:
    if config.ragged:
        return _plan_ragged(data, config, rng)
    n = config.context + config.steps
    runs = [
        (i, begin, end, joined)
        for i, recording in enumerate(data)
        for begin, end, joined in _runs(recording, config, rng)
        if end - begin >= n
    ]
    if config.balance == "draw" or config.stride == 0:
        cuts = _drawn(data, runs, config, rng)
    else:
        cuts = [
            Cut(i, at, at + n, joined=joined)
            for i, begin, end, joined in runs
            for at in range(begin, end - n + 1, config.stride)
        ]
        cuts = [cut for cut in cuts if (data[cut.recording].y[cut.begin : cut.end] >= 0).any()]
        if config.balance != "none":
            cuts = _balanced(data, cuts, config, rng)
    cuts = [cuts[k] for k in rng.permutation(len(cuts))]
    return [cuts[k : k + config.batch] for k in range(0, len(cuts), config.batch)]


def _runs(recording: Sequences, config: Examples, rng: Rng) -> list[tuple[int, int, bool]]:
    if config.joined and rng.random() < config.joined:
        return [(0, len(recording.y), True)]
    return [(begin, end, False) for begin, end in recording.runs]


def _plan_ragged(data: Sequence[Sequences], config: Examples, rng: Rng) -> Plan:
    """Parts of any length, each run cut from a place of its own; a batch holds parts of the same length."""
    by_length: dict[int, list[Cut]] = {}
    for i, recording in enumerate(data):
        for begin, end, joined in _runs(recording, config, rng):
            at, stop = begin, begin + int(rng.integers(1, config.steps + 1))
            while at < end:
                stop = min(stop, end)
                by_length.setdefault(stop - at, []).append(Cut(i, at, stop, joined=joined))
                at, stop = stop, stop + config.steps
    batches = []
    for n_steps, cuts in sorted(by_length.items()):
        order = rng.permutation(len(cuts))
        size = max(config.batch * config.steps // n_steps, 1)
        batches += [[cuts[k] for k in order[at : at + size]] for at in range(0, len(cuts), size)]
    return [batches[k] for k in rng.permutation(len(batches))]


def _drawn(
    data: Sequence[Sequences], runs: list[tuple[int, int, int, bool]], config: Examples, rng: Rng
) -> list[Cut]:
    """Draw windows anywhere; with ``draw`` around a labelled step of a state that is drawn first."""
    n = config.context + config.steps
    centres = [
        (run, at, int(data[i].y[at]))
        for run, (i, begin, end, _) in enumerate(runs)
        for at in range(begin + config.context, end)
        if data[i].y[at] >= 0
    ]
    if not centres:
        return []
    codes = np.array([code for _, _, code in centres])
    classes = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    n_draws = config.per_pass or max(len(centres) // config.steps, 1)
    cuts = []
    for _ in range(n_draws):
        of = classes[int(rng.integers(len(classes)))] if config.balance == "draw" else np.arange(len(centres))
        run, at, _ = centres[int(rng.choice(of))]
        i, begin, end, joined = runs[run]
        lowest, highest = max(begin, at - n + 1), min(at - config.context, end - n)
        start = int(rng.integers(lowest, highest + 1)) if highest >= lowest else min(lowest, end - n)
        cuts.append(Cut(i, start, start + n, joined=joined))
    return cuts


def _balanced(data: Sequence[Sequences], cuts: list[Cut], config: Examples, rng: Rng) -> list[Cut]:
    """As many windows of each state; the state of a window is that of its last step."""
    codes = np.array([data[cut.recording].y[cut.end - 1] for cut in cuts], np.int64)
    of_class = [np.flatnonzero(codes == code) for code in np.unique(codes[codes >= 0])]
    if not of_class:
        return []
    counts = [len(of) for of in of_class]
    if config.balance == "undersample":
        chosen = [rng.permutation(of)[: min(counts)] for of in of_class]
    else:  # whole repetitions, the rest drawn, as in DeepSleepNet
        n = max(counts)
        chosen = [
            np.concatenate([np.tile(of, n // len(of)), rng.permutation(of)[: n % len(of)]]) for of in of_class
        ]
    return [cuts[k] for k in np.concatenate(chosen)]


def _plan_nights(data: Sequence[Sequences], config: Examples, rng: Rng) -> Plan:
    groups: list[list[list[Cut]]] = []
    whole: list[list[Cut]] = []
    for i in rng.permutation(len(data)):
        recording = data[i]
        step_samples = recording.x.shape[2] if recording.x.ndim == 3 else recording.x.shape[1]
        shift = int(rng.uniform(-config.shift, config.shift) * step_samples) if config.shift else 0
        skip = int(rng.integers(config.skip + 1)) if config.skip else 0
        if config.rows:
            n = len(recording.y) // config.rows // config.steps * config.steps
            starts = [row * (len(recording.y) // config.rows) for row in range(config.rows)]
            rows = [_pieces(recording, int(i), start, start + n, config.steps, 0) for start in starts]
            # A row's end and what a gap cuts off are dropped: the backward stack needs its whole chunk.
            groups.append([[cut for cut in row if cut.end - cut.begin == config.steps] for row in rows])
        else:
            whole.append(_pieces(recording, int(i), skip, len(recording.y), config.steps, shift))
    groups += [whole[k : k + config.batch] for k in range(0, len(whole), config.batch)]
    return _side_by_side(groups)


def _pieces(recording: Sequences, i: int, start: int, stop: int, n_steps: int, shift: int) -> list[Cut]:
    """Cut rows ``[start, stop)`` into pieces; a new run starts a new piece and a fresh state."""
    pieces = []
    for begin, end in recording.runs:
        begin, end = max(begin, start), min(end, stop)
        # What is moved needs a neighbour at one end to read from.
        begin, end = begin + (shift < 0), end - (shift > 0)
        pieces += [
            Cut(i, at, min(at + n_steps, end), at - begin, shift=shift) for at in range(begin, end, n_steps)
        ]
    return pieces


def _side_by_side(groups: list[list[list[Cut]]]) -> Plan:
    """Turn groups of rows of pieces into batches; a row that has ended is empty in the batches that follow."""
    batches: Plan = []
    for rows in groups:
        for k in range(max(map(len, rows), default=0)):
            batches.append([row[k] if k < len(row) else Cut(row[0].recording, 0, 0) for row in rows if row])
    return batches


def assemble(data: Sequence[Sequences], cuts: Sequence[Cut], n_past: int, first: int = 0) -> Batch:
    """Put the parts side by side; shorter ones are followed by zeros without labels."""
    n_steps = max(cut.end - cut.begin for cut in cuts)
    of_step = data[0].x.shape[1:]
    time_axis = 0 if len(of_step) == 3 else 1
    step_samples = of_step[time_axis]
    shape = tuple(n_steps * n if axis == time_axis else n for axis, n in enumerate(of_step))
    y = np.full((len(cuts), n_past + n_steps), -1, np.int64)
    xs = []
    for row, cut in enumerate(cuts):
        recording, n = data[cut.recording], cut.end - cut.begin
        past = min(cut.seen, n_past)
        y[row, n_past - past : n_past + n] = recording.y[cut.begin - past : cut.end]
        x = np.zeros(shape, np.float32)
        if n:
            x[(slice(None),) * time_axis + (slice(n * step_samples),)] = _flat(recording.x, cut, step_samples)
        xs.append(x)
    seen = torch.tensor([cut.seen for cut in cuts])
    length = torch.tensor([cut.end - cut.begin for cut in cuts])
    return Batch(torch.from_numpy(np.stack(xs)), torch.from_numpy(y), seen, first, n_past=n_past, length=length)


def _flat(x: npt.NDArray[Any], cut: Cut, step_samples: int) -> FloatArray:
    """Samples of a cut: ``(n_channels, samples)``, or frames ``(samples, height, width)``."""
    before, behind = int(cut.shift < 0), int(cut.shift > 0)
    steps = np.asarray(x[cut.begin - before : cut.end + behind], np.float32)
    if steps.ndim == 4:
        return steps.reshape(-1, *steps.shape[2:])
    flat = steps.swapaxes(0, 1).reshape(steps.shape[1], -1)
    at = cut.shift + before * step_samples
    return flat[:, at : at + (cut.end - cut.begin) * step_samples]


class Pass(Dataset[Batch]):
    """The batches of one pass, made when they are asked for.

    Parameters
    ----------
    data
        Recordings.
    batches
        Their cuts.
    n_past
        Steps before each row whose labels are wanted.
    first
        Steps of each row that are not asked about.
    altered
        How examples are altered; ``None`` leaves them.
    sfreq
        Of the signals.
    key
        (seed, stage, pass): decides the alterations and the look-aheads.
    n_look_aheads
        Of how many each batch draws one; 0: the last is meant. Batches that go on with rows of the one before keep
        its look-ahead, because a state belongs to one.
    share
        Number of this process, and how many train together: each takes its rows of every batch.
    """

    def __init__(
        self,
        data: Sequence[Sequences],
        batches: Plan,
        n_past: int,
        first: int = 0,
        altered: Augment | None = None,
        sfreq: float = 1.0,
        key: tuple[int, ...] = (),
        n_look_aheads: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._rank, self._n_processes = share
        self._data, self._batches, self._n_past, self._first = data, batches, n_past, first
        self._altered, self._sfreq, self._key, self._n_look_aheads = altered, sfreq, key, n_look_aheads
        # First batch of the rows that a batch belongs to.
        self._begins: list[int] = []
        for index, cuts in enumerate(batches):
            goes_on = index > 0 and any(cut.seen > 0 for cut in cuts)
            self._begins.append(self._begins[-1] if goes_on else index)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        cuts = self._batches[index]
        batch = assemble(self._data, cuts[self._rank :: self._n_processes] or cuts[:1], self._n_past, self._first)
        batch.look_ahead = -1
        if self._n_look_aheads:
            drawn = np.random.default_rng((*self._key, 2, self._begins[index]))
            batch.look_ahead = int(drawn.integers(self._n_look_aheads))
        rng = np.random.default_rng((*self._key, 1, index, self._rank))
        if self._altered is not None:
            step_samples = batch.x.shape[1 if batch.x.ndim == 4 else 2] // batch.n_steps
            batch.x = torch.from_numpy(
                np.ascontiguousarray(
                    augment(batch.x.numpy(), self._altered, self._sfreq, step_samples, rng), np.float32
                )
            )
        return batch
