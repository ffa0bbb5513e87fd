"""Run a bundle over the recordings of subjects and compare it with their labels.

Recordings go through the engine on a virtual clock, sample after sample, so that what is measured is what will
run. Figures come from :mod:`offline.figures`, folders from :mod:`offline.evaluation_folder`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from offline.figures import figures
from offline.scored import Scored
from offline.scoring import Settings, lag_of, score_one
from offline.sequences import on_grid
from offline.spans import Span, SpanDataset, overlap
from streamscore.assemble import check_policy
from streamscore.bundle import Bundle
from streamscore.errors import BundleError, ConfigError, RecordingError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

if TYPE_CHECKING:
    from offline.datasets.base import Dataset, Entry

__all__ = ["Settings", "evaluate_bundle", "figures", "lag_of", "refuse_training_subjects", "training_subjects"]

#: Called with subject, session and reason of a recording that is left out.
LeaveOut = Callable[[str, str, str], None]
#: Called before each recording with its name, its number from 0 and how many there are.
Progress = Callable[[str, int, int], None]


def evaluate_bundle(
    bundle: Bundle,
    dataset: Dataset | SpanDataset,
    subjects: Sequence[str] | None = None,
    look_aheads_s: Sequence[float | None] = (None,),
    *,
    settings: Settings | None = None,
    leave_out: LeaveOut | None = None,
    progress: Progress | None = None,
    seen: Callable[[Recording | Movie, Scored], None] | None = None,
) -> list[Scored]:
    """Score the recordings of `subjects` at each look-ahead, one look-ahead after the other.

    Parameters
    ----------
    bundle
        What scores.
    dataset
        Whose recordings.
    subjects
        Which subjects, or spans of one such as ``"M1@16-24h"``: the whole recording is scored, and only epochs
        inside the span count. None takes all.
    look_aheads_s
        Look-aheads of the final outputs; None is the bundle's own.
    settings
        How they are scored.
    leave_out
        Called with subject, session and reason of each recording that is left out, because it is damaged or
        nothing of it can be compared.
    progress
        Called before each recording with its name, its number from 0 and how many there are.
    seen
        Called once a recording with it and its first scores, for what else is to be known of it (spectra). A movie
        is open, and closed afterwards.

    Raises
    ------
    ConfigError
        If there is no such subject, the vocabularies differ, or the policy does not go with the bundle.
    BundleError
        If the bundle has no such look-ahead.
    RecordingError
        If nothing at all could be compared.
    """
    settings = settings or Settings()
    if len(look_aheads_s) == 0 or len(set(look_aheads_s)) != len(look_aheads_s):
        raise ConfigError("look-aheads must be one or more different numbers of seconds, such as 0,4,8")
    variants = [bundle if ahead_s is None else bundle.at_look_ahead(ahead_s) for ahead_s in look_aheads_s]
    for variant in variants:
        if settings.policy is not None:
            check_policy(dict(settings.policy), variant)
    chosen = list(entries_of(dataset, subjects))
    scored: list[list[Scored]] = [[] for _ in variants]
    left_out: list[str] = []
    for number, (entry, span) in enumerate(chosen):
        if progress is not None:
            progress(entry.session, number, len(chosen))
        try:
            for group, one in zip(
                scored, _score_entry(variants, dataset, entry, span, settings, seen), strict=True
            ):
                group.append(one)
        except RecordingError as error:
            left_out.append(str(error))
            if leave_out is not None:
                leave_out(str(span), _session(entry, span), str(error))
    if not scored[0]:
        raise RecordingError(f"{dataset.folder}: nothing could be evaluated:\n" + "\n".join(left_out))
    return [one for group in scored for one in group]


def entries_of(
    dataset: Dataset | SpanDataset, subjects: Sequence[str] | None = None
) -> Iterator[tuple[Entry, Span]]:
    """Recordings of `subjects`, each with the hours that count.

    Raises
    ------
    ConfigError
        If there are no subjects, one is unknown, or two spans of one overlap.
    """
    if subjects is not None and len(subjects) == 0:
        raise ConfigError(f"no subjects to evaluate on; name some of {', '.join(dataset.subjects)}")
    wanted: list[Span] = []
    for subject in subjects if subjects is not None else dataset.subjects:
        # Of a data set of spans, these are the subjects, and are cut when read.
        span = Span(subject) if subject in dataset.subjects else Span.parse(subject)
        if span.subject not in dataset.subjects:
            raise ConfigError(
                f"{dataset.folder}: has no subject {span.subject!r}; it has {', '.join(dataset.subjects)}"
            )
        if any(overlap(span, other) for other in wanted):
            raise ConfigError(f"subject {span}: named twice, or its hours overlap with another span's")
        wanted.append(span)
    for span in wanted:
        for entry in dataset.entries:
            if entry.subject == span.subject:
                yield entry, span


def training_subjects(bundle: Bundle) -> tuple[str, ...] | None:
    """Subjects whose recordings the weights were ever trained or chosen on, those of the bundles that a
    fine-tuning began with included; None if the bundle, or one of those, does not say.
    """
    names, is_all = _told_subjects(bundle.spec.provenance.get("subjects"))
    return names if is_all else None


def _told_subjects(told: object) -> tuple[tuple[str, ...], bool]:
    """Subjects that ``provenance["subjects"]`` names, and whether these are all."""
    if not isinstance(told, Mapping):
        return (), False
    names = [str(subject) for part in ("train", "validation") for subject in told.get(part) or ()]
    is_all = True
    if "before" in told:  # it was fine-tuned: whom its parent learnt from, in parts or in one list
        before = told["before"]
        if isinstance(before, list | tuple):
            before = {"train": before}
        earlier, is_all = _told_subjects(before)
        names += earlier
    return tuple(dict.fromkeys(names)), is_all


def refuse_training_subjects(
    bundle: Bundle, spans: Sequence[Span], *, allow: bool = False
) -> tuple[bool | None, tuple[str, ...]]:
    """Compare who is evaluated on with who was trained on.

    Returns
    -------
    in_sample
        None if none of `spans` is known to be trained on, but the bundle does not say of all on whom it was.
    seen
        Which of `spans` it was trained on.

    Raises
    ------
    BundleError
        If it was trained on one of them, and that is not allowed.
    """
    trained, is_all = _told_subjects(bundle.spec.provenance.get("subjects"))
    known = [Span.parse(subject) for subject in trained]
    seen = tuple(str(span) for span in spans if any(overlap(span, other) for other in known))
    learnt = [other for other in known if any(overlap(span, other) for span in spans)]
    if seen and not allow:
        raise BundleError(
            f"bundle {bundle.spec.name!r} was trained on {', '.join(map(str, learnt))}: figures on "
            f"{', '.join(seen)} say how well it remembers, not how well it scores others. Name other subjects "
            f"with --subjects{_hours_left(learnt)}, cross-validate with --folds, or add "
            "--allow-training-subjects, which marks every figure as in sample"
        )
    return (True if seen else False if is_all else None), seen


def known_animals(learnt: Sequence[str], subjects: Sequence[str]) -> tuple[str, ...]:
    """Which of `subjects` (or spans) are of an animal or person that was learnt from, at whatever hours."""
    animals = {Span.parse(subject).subject for subject in learnt}
    return tuple(subject for subject in subjects if Span.parse(subject).subject in animals)


def _hours_left(learnt: Sequence[Span]) -> str:
    """Which later hours of animals that were learnt from in part can be evaluated on, in words."""
    ends_h: dict[str, float] = {}
    for span in learnt:
        ends_h[span.subject] = max(ends_h.get(span.subject, 0.0), span.end_h)
    others = [str(Span(subject, end_h)) for subject, end_h in ends_h.items() if math.isfinite(end_h)]
    return f" (or other hours of these, as --subjects {','.join(others)})" if others else ""


def _score_entry(
    variants: Sequence[Bundle],
    dataset: Dataset | SpanDataset,
    entry: Entry,
    span: Span,
    settings: Settings,
    seen: Callable[[Recording | Movie, Scored], None] | None,
) -> list[Scored]:
    """Score one recording with each of `variants`."""
    scored = []
    recording = prepared(dataset.read(entry))
    for number, variant in enumerate(variants):
        if number and isinstance(recording, Movie):
            recording = dataset.read(entry)  # scoring has closed it
        one = score_one(recording, variant, settings, subject=str(span), session=_session(entry, span), span=span)
        scored.append(one)
        if number == 0 and seen is not None:
            again = dataset.read(entry) if isinstance(recording, Movie) else recording
            seen(again, one)
            if isinstance(again, Movie):
                again.close()
    return scored


def prepared(recording: Recording | Movie) -> Recording | Movie:
    """Signals start on the grid of their labels; offsets between clocks do not matter to a single stream."""
    if isinstance(recording, Movie):
        return recording
    return replace(on_grid(recording), clock_offsets=np.zeros((0, 2)))


def _session(entry: Entry, span: Span) -> str:
    return entry.session if span.is_whole else f"{entry.session}{str(span).removeprefix(span.subject)}"
