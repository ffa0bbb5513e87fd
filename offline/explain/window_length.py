"""How long a window the run/rest decoder needs: the study of Ajioka et al. 2024 on a table of traces.

In the paper windows of ±5 to ±30 frames at 30 Hz were tried, and only ±5 (0.17 s) was worse (MODELS.md 4.3).
"""

from __future__ import annotations

import numpy as np

from offline.explain.result import Explained
from offline.explain.study import COLUMNS, HALF_WINDOW_S, Study, curve_of, draw_curve, frames_of, row

HALF_WINDOWS_S = (0.2, 0.3, 0.5, 0.7, 1.0)


def window_length(study: Study, half_windows_s: tuple[float, ...] = HALF_WINDOWS_S) -> Explained:
    """Train and test with windows of several lengths.

    Parameters
    ----------
    study
        The table, and how to train and test.
    half_windows_s
        Reach to either side of the frame that is scored; whole frames are taken.

    Returns
    -------
    Explained
        ``half_window_s``, ``auc_blocks``, ``auc_half`` (n,) and ``interval`` (n, 2).

    Raises
    ------
    ConfigError
        If two lengths are the same number of frames.
    """
    data = study.data()
    frames = frames_of(half_windows_s, data.sfreq, "half windows")
    found = study.run("window-length", {f"{n}-frames": {"half_window_s": n / data.sfreq} for n in frames})
    lengths_s = np.array(frames) / data.sfreq
    arrays = {"half_window_s": lengths_s, **curve_of(found)}
    return Explained(
        method="window-length",
        title=f"Window length, {data.name}, {study.n_folds} blocks",
        arrays=arrays,
        figures={**study.about(), "variations": found},
        columns=("window (s)", "frames", *COLUMNS),
        rows=tuple(
            (f"±{length:.2f}", str(2 * n + 1), *row(one))
            for length, n, one in zip(lengths_s, frames, found.values(), strict=True)
        ),
        picture=draw_curve(
            lengths_s,
            arrays,
            f"Run or rest by length of the window, {data.name}",
            f"reach of the window to either side (s); dotted: {HALF_WINDOW_S:g} s, as published",
            HALF_WINDOW_S,
        ),
    )
