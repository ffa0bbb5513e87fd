"""Stage a night with YASA as its tutorial does: the other side of ``streamscore bench --score``.

``python -m tools.yasa_night NIGHT.edf HYPNOGRAM.csv`` is the whole command that is timed. Nothing of streamscore
is imported here.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path


def stage(edf: Path, csv: Path, channel: str = "EEG") -> None:
    """Read the EEG of `edf` with MNE, stage it with YASA, write one stage a line to `csv`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the versions that YASA's classifiers were saved with
        import mne
        import yasa

        raw = mne.io.read_raw_edf(edf, preload=True, verbose="error")
        hypnogram = yasa.SleepStaging(raw, eeg_name=channel).predict()
        stages = getattr(hypnogram, "hypno", hypnogram)  # an array until YASA 0.6
        csv.write_text("\n".join(map(str, stages)) + "\n", encoding="utf-8")


def duration_s(work: Callable[[], object]) -> float:
    """Time that `work` takes in this process; here, so that a process that runs YASA loads nothing of ours."""
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    stage(Path(sys.argv[1]), Path(sys.argv[2]))
