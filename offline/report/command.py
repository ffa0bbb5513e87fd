"""``streamscore report``: which kind of run a folder holds, and its page."""

from __future__ import annotations

from pathlib import Path

from offline.evaluation_folder import FILE as EVALUATION_FILE
from offline.report.evaluation import evaluation_page
from offline.report.online_run import online_page
from offline.report.page import Page, write_page
from offline.report.training_run import SPLIT_FILE, training_page
from streamscore.errors import RecordError
from streamscore.record.run_folder import RUN_FILE

REPORT_FILE = "report.html"
#: What tells the kind of a run.
_FILES = (EVALUATION_FILE, SPLIT_FILE, RUN_FILE)


def report_command(run: Path, output: Path | None = None) -> Path:
    """Write the page of the run in folder `run` and return its path: `output`, or ``report.html`` in the folder.

    Raises
    ------
    RecordError, RecordingError
        If the folder is none of a run, or damaged; or if the page cannot be written.
    """
    path = output or run / REPORT_FILE
    write_page(page_of(run), path)
    return path


def page_of(run: Path) -> Page:
    """Return the page of a run of any kind.

    Raises
    ------
    RecordError, RecordingError
        If the folder is none of a run, or damaged.
    """
    if (run / EVALUATION_FILE).is_file():
        return evaluation_page(run)
    if (run / SPLIT_FILE).is_file():
        return training_page(run)
    if (run / RUN_FILE).is_file():
        return online_page(run)
    if not run.is_dir():
        raise RecordError(f"{run}: there is no such folder; name the folder of a run")
    inside = sorted(path.parent.name for name in _FILES for path in run.glob(f"*/{name}"))
    hint = f"; it holds runs: name one of {', '.join(inside[:8])}" if inside else ""
    raise RecordError(
        f"{run}: holds none of {', '.join(_FILES)}, so it is neither an evaluation, nor a training, nor a run on "
        f"a rig{hint}"
    )
