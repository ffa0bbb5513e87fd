"""Parts of the recordings of one animal that stand for subjects: ``M1@0-16h`` is its first sixteen hours.

For data with a single animal, and for questions about time ("do weights of the first day fit the second?"). A
figure from spans says how well a network knows *this* animal, not another one; every list of subjects shows them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamscore.errors import ConfigError, RecordingError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

if TYPE_CHECKING:
    from offline.datasets.base import Dataset, Entry, Options

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_TEXT = re.compile(rf"(?P<subject>.+)@(?P<begin>{_NUMBER})-(?P<end>{_NUMBER})?h")


@dataclass(frozen=True)
class Span:
    """Hours `begin_h` to `end_h` of each recording of a subject; all of them by default.

    Written ``M1@0-16h``, to the end of the recording ``M1@16-h``, and plainly ``M1`` for all.
    """

    subject: str
    begin_h: float = 0.0
    end_h: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read a subject or a span of one.

        Raises
        ------
        ConfigError
            If the span ends before it begins.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            return cls(text)
        span = cls(match["subject"], float(match["begin"]), float(match["end"] or math.inf))
        if span.begin_h >= span.end_h:
            raise ConfigError(
                f"span {text!r} ends before it begins; write SUBJECT@BEGIN-ENDh, for example M1@0-16h"
            )
        return span

    @property
    def is_whole(self) -> bool:
        """Whether it is the subject as it is."""
        return self.begin_h == 0.0 and math.isinf(self.end_h)

    def __str__(self) -> str:
        if self.is_whole:
            return self.subject
        return f"{self.subject}@{self.begin_h:g}-{'' if math.isinf(self.end_h) else f'{self.end_h:g}'}h"


def overlap(one: Span, two: Span) -> bool:
    """Whether two spans share time of a recording."""
    return one.subject == two.subject and one.begin_h < two.end_h and two.begin_h < one.end_h


def cut(recording: Recording, span: Span) -> Recording:
    """Return the part of `recording` in `span`, on the same clock, with the labels of whole epochs alone.

    Raises
    ------
    RecordingError
        If nothing of the recording is in the span.
    """
    stamps_s = recording.stamps_s
    start_s = stamps_s[0] if len(stamps_s) else 0.0
    begin_s, end_s = start_s + span.begin_h * 3600.0, start_s + span.end_h * 3600.0
    first, stop = np.searchsorted(stamps_s, (begin_s - 0.5 / recording.sfreq, end_s - 0.5 / recording.sfreq))
    if first == stop:
        raise RecordingError(
            f"{recording.name}: has {recording.duration_s / 3600.0:.3g} h and nothing in {span}; choose another"
        )
    t0_s, states = recording.states_t0_s, recording.states
    if recording.epoch_s:
        tolerance_s = 0.5 / recording.sfreq
        starts_s = t0_s + np.arange(len(states)) * recording.epoch_s
        whole = (starts_s >= begin_s - tolerance_s) & (starts_s + recording.epoch_s <= end_s + tolerance_s)
        states = states[whole]
        t0_s = float(starts_s[whole][0]) if len(states) else t0_s
    return replace(
        recording,
        data=recording.data[first:stop],
        stamps_s=stamps_s[first:stop],
        states=states,
        states_t0_s=t0_s,
    )


class SpanDataset:
    """A data set whose subjects are spans of those of another one.

    Parameters
    ----------
    dataset
        Whose recordings are cut.
    subjects
        Spans, or whole subjects.

    Raises
    ------
    ConfigError
        If one is of a subject that `dataset` does not have.
    """

    def __init__(self, dataset: Dataset, subjects: Sequence[str]) -> None:
        self._dataset = dataset
        self._spans = {subject: Span.parse(subject) for subject in subjects}
        for subject, span in self._spans.items():
            if span.subject not in dataset.subjects:
                raise ConfigError(
                    f"span {subject!r}: {dataset.folder} has no subject {span.subject!r}; it has "
                    f"{', '.join(dataset.subjects)}"
                )
        self.kind = dataset.kind
        self.folder = dataset.folder
        self.subjects: tuple[str, ...] = tuple(sorted(self._spans))
        self._whole = {
            (subject, f"{entry.session}{str(span).removeprefix(span.subject)}"): entry
            for subject, span in sorted(self._spans.items())
            for entry in dataset.entries
            if entry.subject == span.subject
        }
        self.entries: tuple[Entry, ...] = tuple(
            replace(entry, subject=subject, session=session) for (subject, session), entry in self._whole.items()
        )

    @property
    def config(self) -> Options:
        """Options of the whole data set."""
        return self._dataset.config

    def read(self, entry: Entry) -> Recording | Movie:
        """Read the recording of `entry`, cut to its span.

        Raises
        ------
        RecordingError
            As that of the whole data set; if nothing is in the span; or if it is a movie, which cannot be cut.
        """
        span = self._spans[entry.subject]
        recording = self._dataset.read(self._whole[entry.subject, entry.session])
        if span.is_whole:
            return recording
        if isinstance(recording, Movie):
            recording.close()
            raise RecordingError(
                f"{entry.signal}: a movie cannot be cut to {span}; split the file, or hold out whole animals"
            )
        return cut(recording, span)


def with_spans(dataset: Dataset, subjects: Sequence[str]) -> Dataset | SpanDataset:
    """Return `dataset` as it is if `subjects` are whole ones, else one whose subjects are these spans."""
    if all(Span.parse(subject).is_whole for subject in subjects):
        return dataset
    return SpanDataset(dataset, subjects)
