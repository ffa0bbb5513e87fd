"""What must not be overlooked in a picture: that a recording was simulated, or that the network learnt from it."""

from __future__ import annotations

from pathlib import Path

from offline.datasets.base import open_dataset
from offline.evaluate import known_animals, training_subjects
from streamscore.bundle import Bundle
from streamscore.errors import StreamscoreError


def marks_of(bundle: Bundle, recording: Path) -> tuple[str, ...]:
    """Return the marks of a picture of `bundle` on `recording`, as far as both say.

    Parameters
    ----------
    bundle
        Its provenance says on whom it was trained.
    recording
        Its folder, or the one above, may be a data set, which says whose it is and whether it was simulated.
    """
    for folder in recording.resolve().parents[:2]:
        try:
            dataset = open_dataset(folder)
        except StreamscoreError:
            continue
        subjects = [e.subject for e in dataset.entries if e.signal.resolve() == recording.resolve()]
        if not subjects:
            continue
        marks = ["SIMULATED recording"] if dataset.is_simulated else []
        if known_animals(training_subjects(bundle) or (), subjects):
            marks.append(f"the network learnt from {subjects[0]}")
        return tuple(marks)
    return ()
