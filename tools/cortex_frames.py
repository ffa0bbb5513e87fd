"""A simulated cortex as what a simulated camera sees, with its truth told as it goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.labels import MOUSE3, RUNREST
from streamscore.simulate.cortex import Cortex

#: Samples (cycles of all lights) that are made at a time.
PIECE_SAMPLES = 8


def cortex_frames(
    cortex: Cortex, say: Callable[[dict[str, object]], None] | None = None, *, labels: tuple[str, ...] = MOUSE3
) -> Iterator[npt.NDArray[Any]]:
    """Yield raw frames ``(height, width)`` uint16, light after light, without end.

    Parameters
    ----------
    cortex
        Its lights are those of the camera.
    say
        Told each change of the true state: ``{"event": "truth", "state": …, "sample": …}``, when the sample's first
        frame is handed over.
    labels
        ``MOUSE3`` tells sleep, ``RUNREST`` running.
    """
    known, sample = -1, 0
    while True:
        movie = cortex.read(PIECE_SAMPLES)
        codes = movie.running if labels == RUNREST else movie.states
        for frames, code in zip(movie.frames, np.asarray(codes).tolist(), strict=True):
            if code != known and say is not None:
                say({"event": "truth", "state": labels[code], "sample": sample})
            known = code
            sample += 1
            yield from frames
