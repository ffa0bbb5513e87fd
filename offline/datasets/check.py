"""What is in a data set, recording by recording, and what is wrong with it, before hours are spent on training.

Every recording is read once, as training will read it. Errors keep a recording, or the whole set, from being used;
anything else that a user should know is told beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.datasets.base import Dataset, Entry, load
from offline.datasets.fitting import Problem
from streamscore.errors import StreamscoreError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

#: A step of so many samples is a gap.
_GAP_SAMPLES = 1.5
#: Frames of a movie that are looked at: some at its beginning, middle and end.
_LOOKED_AT = 8
_MAX_LISTED = 4
#: More epochs without a label than this part are told.
_MUCH = 0.1


@dataclass(frozen=True)
class Finding:
    """What is known of one recording. Numbers are 0 and texts empty where it could not be read.

    Parameters
    ----------
    subject, session, file
        Whose it is, its name and its file.
    channels, sfreq, hours
        As it was read, labels and signal cut to what they share; of a movie the lights and its frame size.
    epoch_s, states, unlabelled
        Length of an epoch, epochs of each state that have a signal, and epochs of the signal without a state.
    in_gaps
        Epochs with a state of which less than half has a signal.
    gaps, gap_s
        How many, and seconds in all.
    problems
        What a user should know.
    """

    subject: str
    session: str
    file: str
    channels: tuple[str, ...] = ()
    sfreq: float = 0.0
    hours: float = 0.0
    epoch_s: float = 0.0
    states: tuple[tuple[str, int], ...] = ()
    unlabelled: int = 0
    in_gaps: int = 0
    gaps: int = 0
    gap_s: float = 0.0
    problems: tuple[Problem, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether no problem is an error."""
        return not any(problem.is_error for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """The same for a machine."""
        return {
            **vars(self),
            "states": dict(self.states),
            "problems": [vars(problem) for problem in self.problems],
        }


def check(dataset: Dataset) -> Iterator[Finding]:
    """Read every recording of `dataset`, one after the other, and tell what it holds."""
    for entry in dataset.entries:
        yield _look_at(dataset, entry)


def across(dataset: Dataset, findings: Sequence[Finding]) -> tuple[Problem, ...]:
    """Tell what is wrong with the set as a whole.

    Parameters
    ----------
    dataset
        The set.
    findings
        Of all its recordings.
    """
    problems = []
    usable = [finding for finding in findings if finding.is_usable]
    for what, remedy, key in _SAME:
        values = Counter(key(finding) for finding in usable)
        if len(values) > 1:
            told = "; ".join(
                f"{value}: {_some([f.session for f in usable if key(f) == value])}"
                for value, _ in values.most_common()
            )
            problems.append(Problem(f"recordings differ in {what} ({told}); {remedy}", is_error=True))
    subjects = {finding.subject for finding in usable}
    if len(subjects) == 1 and len(usable) > 1:
        problems.append(
            Problem(
                f"all recordings are of one subject, {usable[0].subject}, so there are no folds over subjects; if "
                "that is not so, name the files <subject>_<session>, or set subject_pattern in dataset.json"
            )
        )
    unused = [str(path.relative_to(dataset.folder)) for path in dataset.unused()]
    if unused:
        problems.append(Problem(f"{len(unused)} files are not used, since nothing labels them: {_some(unused)}"))
    return (*problems, *_counted(dataset, usable))


#: What all recordings of a set must share, what to do if they do not, and how it is told.
_SAME: tuple[tuple[str, str, Callable[[Finding], str]], ...] = (
    (
        "rate",
        "a network has one rate: resample them, or keep them in folders of their own",
        lambda finding: f"{finding.sfreq:g} Hz",
    ),
    (
        "channels",
        "name the ones to use with --channel NAME=LABEL ('A|B' tries both), for good in dataset.json as channels",
        lambda finding: (
            ", ".join(finding.channels[:_MAX_LISTED]) + (" …" if len(finding.channels) > _MAX_LISTED else "")
        ),
    ),
    (
        "states",
        "declare one vocabulary with --vocabulary, and map words with --label WORD=STATE, for good in "
        "dataset.json",
        lambda finding: ", ".join(state for state, _ in finding.states),
    ),
    ("length of an epoch", "keep them in folders of their own", lambda finding: f"{finding.epoch_s:g} s"),
)


def _look_at(dataset: Dataset, entry: Entry) -> Finding:
    file = str(entry.signal)
    try:
        recording, problems = dataset.inspect(entry)
    except StreamscoreError as error:
        return Finding(entry.subject, entry.session, file, problems=(Problem(str(error), is_error=True),))
    try:
        if isinstance(recording, Movie):
            height, width = recording.frame_shape
            channels: tuple[str, ...] = (*(recording.lights or ("frames",)), f"{height}x{width}")
            problems += tuple(_of_frames(recording))
        else:
            channels = recording.channels
            problems += tuple(_of_samples(recording))
        present = _has_signal(recording)
        known = recording.states >= 0
        counts = np.bincount(recording.states[known & present], minlength=len(recording.labels))
        problems += tuple(_of_labels(recording, counts))
        n_behind = _behind_labels(recording)
        n_unlabelled, n_all = int((~known).sum()) + n_behind, len(known) + n_behind
        if n_unlabelled > _MUCH * n_all:
            behind = f", {n_behind} of them behind the end of the labels" if n_behind else ""
            problems += (
                Problem(
                    f"{n_unlabelled} of {n_all} epochs have no label{behind}: nothing is learnt from them or "
                    "compared with them; if they were scored, look for the rest of the labels"
                ),
            )
        gaps, gap_s = _gaps(recording)
        return Finding(
            subject=entry.subject,
            session=entry.session,
            file=file,
            channels=channels,
            sfreq=recording.sfreq,
            hours=recording.duration_s / 3600.0,
            epoch_s=recording.epoch_s,
            states=tuple(zip(recording.labels, counts.tolist(), strict=True)),
            unlabelled=n_unlabelled,
            in_gaps=int((known & ~present).sum()),
            gaps=gaps,
            gap_s=gap_s,
            problems=problems,
        )
    finally:
        if isinstance(recording, Movie):
            recording.close()


def _behind_labels(recording: Recording | Movie) -> int:
    """How many whole epochs of signal there are behind the last one of the labels."""
    end_s = float(recording.stamps_s[0]) + recording.duration_s
    labels_end_s = recording.states_t0_s + len(recording.states) * recording.epoch_s
    rate_hz = recording.rate_hz if isinstance(recording, Movie) else recording.sfreq
    return max(int((end_s - labels_end_s + 0.5 / rate_hz) // recording.epoch_s), 0)


def _gaps(recording: Recording | Movie) -> tuple[int, float]:
    rate_hz = recording.rate_hz if isinstance(recording, Movie) else recording.sfreq
    steps = np.diff(recording.stamps_s) * rate_hz
    wide = steps[steps > _GAP_SAMPLES]
    return len(wide), float((wide - 1.0).sum() / rate_hz)


def _has_signal(recording: Recording | Movie) -> npt.NDArray[np.bool_]:
    """Which epochs have at least half of their samples, ``(n_epochs,)``."""
    rate_hz = recording.rate_hz if isinstance(recording, Movie) else recording.sfreq
    edges_s = recording.states_t0_s + np.arange(len(recording.states) + 1) * recording.epoch_s - 0.5 / rate_hz
    n_samples = np.diff(np.searchsorted(recording.stamps_s, edges_s))
    half: npt.NDArray[np.bool_] = n_samples >= 0.5 * recording.epoch_s * rate_hz
    return half


def _of_labels(recording: Recording | Movie, counts: npt.NDArray[np.int64]) -> Iterator[Problem]:
    present = [label for label, count in zip(recording.labels, counts, strict=True) if count]
    if not present:
        yield Problem("no labelled epoch has a signal, all lie in gaps; leave the recording out", is_error=True)
    if len(present) == 1:
        yield Problem(
            f"every labelled epoch is {present[0]}: it can be trained on, but no AUC or κ can be told of it; "
            "join it with others in a fold"
        )


def _of_samples(recording: Recording) -> Iterator[Problem]:
    for name, samples in zip(recording.channels, recording.data.T, strict=True):
        bad = ~np.isfinite(samples)
        if bad.any():
            begins = np.flatnonzero(np.diff(bad.astype(np.int8), prepend=0) == 1)
            yield Problem(
                f"{name}: {bad.sum() / recording.sfreq:g} s are no numbers, in {len(begins)} stretches, the "
                f"first at {recording.stamps_s[begins[0]]:g} s; the engine takes them for gaps"
            )
        good = samples[~bad]
        if len(good) and float(good.min()) == float(good.max()):
            yield Problem(
                f"{name}: is {good[0]:g} throughout; choose another channel with --channel, for good in "
                "dataset.json",
                is_error=True,
            )


def _of_frames(movie: Movie) -> Iterator[Problem]:
    starts = {0, movie.n_frames // 2, max(movie.n_frames - _LOOKED_AT, 0)}
    try:
        frames = np.concatenate([movie.read(start, start + _LOOKED_AT) for start in sorted(starts)]).astype(
            np.float64
        )
    except StreamscoreError as error:
        yield Problem(str(error), is_error=True)
        return
    inside = frames if movie.mask is None else frames[:, movie.mask]
    if not np.isfinite(inside).all():
        yield Problem("frames hold pixels that are no numbers; the engine drops such frames")
    if inside.size and float(np.nanmin(inside)) == float(np.nanmax(inside)):
        yield Problem(
            "the frames looked at are of one brightness; is it the right dataset of the file?", is_error=True
        )


def _counted(dataset: Dataset, usable: Sequence[Finding]) -> Iterator[Problem]:
    """Compare epochs with those that papers count, where the set is one that they used, and read as they did."""
    expected = getattr(load(dataset.kind), "expected", None)
    told = expected(dataset) if expected and len(usable) == len(dataset.entries) else None
    if told is None:
        return
    name, counts = told
    found: Counter[str] = Counter()
    for finding in usable:
        found.update(dict(finding.states))
    wrong = [
        f"{state} {found[state]} instead of {count}" for state, count in counts.items() if found[state] != count
    ]
    if wrong:
        yield Problem(
            f"{name} is complete, but its epochs are not those of the papers: {', '.join(wrong)}; fetch files "
            "again whose checksums differ (streamscore data fetch)",
            is_error=True,
        )
    else:
        yield Problem(f"{name} is complete, with the {sum(counts.values())} epochs that the papers count")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return ", ".join(listed[:_MAX_LISTED]) + more
