"""A simulated cortex as what a simulated camera sees, with its truth told as it goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event as StopFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.labels import MOUSE3, RUNREST
from streamscore.simulate.cortex import Cortex
from streamscore.types import FloatArray
from tools.ahead import ahead
from tools.sim_camera import Options, run
from tools.sim_rig import say_json
from tools.wheel import Wheel

#: Samples (cycles of all lights) that are made at a time.
PIECE_SAMPLES = 8
#: Frames that are made before their time: some seconds, lest the camera stutter when the machine is busy.
AHEAD_FRAMES = 256


def cortex_frames(
    cortex: Cortex,
    say: Callable[[dict[str, object]], None] | None = None,
    *,
    labels: tuple[str, ...] = MOUSE3,
    wheel: Callable[[FloatArray], None] | None = None,
) -> Iterator[npt.NDArray[Any]]:
    """Yield raw frames ``(height, width)`` uint16, light after light, without end.

    Parameters
    ----------
    cortex
        Its lights are those of the camera.
    say
        Told each change of the true state: ``{"event": "truth", "state": …, "sample": …}``, when the sample's
        first frame is asked for.
    labels
        ``MOUSE3`` tells sleep, ``RUNREST`` running.
    wheel
        Given the speed in cm/s at each sample, piece by piece, as they are made.
    """
    known, sample = -1, 0
    while True:
        movie = cortex.read(PIECE_SAMPLES)
        if wheel is not None:
            wheel(movie.wheel_cm_s)
        codes = movie.running if labels == RUNREST else movie.states
        for frames, code in zip(movie.frames, np.asarray(codes).tolist(), strict=True):
            if code != known and say is not None:
                say({"event": "truth", "state": labels[code], "sample": sample})
            known = code
            sample += 1
            yield from frames


def play(
    cortex: Cortex, options: Options, stop: StopFlag, *, labels: tuple[str, ...] = MOUSE3, wheel: str | None = None
) -> None:
    """Be a camera over `cortex` until `options` or `stop` end it.

    Parameters
    ----------
    cortex, options, labels
        What is seen, by which camera, and which truth is told; some seconds early, as frames are made ahead.
    stop
        Ends it.
    wheel
        Name of an LSL stream for the speed of the mouse's wheel.
    """
    if wheel is None:
        run(ahead(cortex_frames(cortex, say_json, labels=labels), AHEAD_FRAMES), options, stop)
        return
    turning = Wheel(wheel, cortex.sfreq)

    def say(line: dict[str, object]) -> None:
        if line["event"] == "started":
            turning.begin(float(str(line["t0_s"])))
        say_json(line)

    frames = cortex_frames(cortex, say_json, labels=labels, wheel=turning.add)
    try:
        run(ahead(frames, AHEAD_FRAMES), options, stop, say)
    finally:
        turning.close()
