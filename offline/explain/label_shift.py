"""Whether the cortex tells of running before or after it happens: the label-shift study of Ajioka et al. 2024.

The network is trained and tested with the labels of frames later (positive shift) or earlier. In the paper, shifts
of -60 to 60 frames at 30 Hz, AUC falls away from 0, and forward shifts of up to 0.33 s make no significant
difference (MODELS.md 4.3).
"""

from __future__ import annotations

import numpy as np

from offline.explain.result import Explained
from offline.explain.study import COLUMNS, Study, curve_of, draw_curve, frames_of, row

SHIFTS_S = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


def label_shift(study: Study, shifts_s: tuple[float, ...] = SHIFTS_S) -> Explained:
    """Train and test with shifted labels.

    Parameters
    ----------
    study
        The table, and how to train and test.
    shifts_s
        How much later the label is than the frame; whole frames are taken.

    Returns
    -------
    Explained
        ``shift_s``, ``auc_blocks``, ``auc_half`` (n,) and ``interval`` (n, 2).

    Raises
    ------
    ConfigError
        If two shifts are the same number of frames.
    """
    data = study.data()
    frames = frames_of(shifts_s, data.sfreq, "shifts")
    # A name of a folder cannot begin with a sign.
    names = {n: f"later-{n}" if n > 0 else f"earlier-{-n}" if n else "none" for n in frames}
    found = study.run("label-shift", {names[n]: {"shift_frames": n} for n in frames})
    by_shift_s = np.array(frames) / data.sfreq
    arrays = {"shift_s": by_shift_s, **curve_of(found)}
    best = float(by_shift_s[arrays["auc_blocks"].argmax()])
    return Explained(
        method="label-shift",
        title=f"Label shift, {data.name}, {study.n_folds} blocks: best at {best:+.2f} s",
        arrays=arrays,
        figures={**study.about(), "best_shift_s": best, "variations": found},
        columns=("label later by (s)", "frames", *COLUMNS),
        rows=tuple(
            (f"{shift:+.2f}", str(n), *row(one))
            for shift, n, one in zip(by_shift_s, frames, found.values(), strict=True)
        ),
        picture=draw_curve(
            by_shift_s,
            arrays,
            f"Run or rest by shift of the label, {data.name}",
            "the label is so much later than the frame (s)",
            0.0,
        ),
    )
