"""Which frame of the camera each frame of a file was: numbers that jump where stamps show a loss.

Cameras with several lights do not always space their frames evenly (lit and 405 nm frames may come as pairs), so
a step is compared with the times of a whole cycle, not with the mean rate. A step that is too long is a loss
only if the frames after it stay behind; where they catch up, a frame was merely stamped late.
"""

from __future__ import annotations

import numpy as np

from streamscore.types import IndexArray, TimeArray

#: Cycles from whose start the spacing within a cycle is learnt.
_LEARNT_CYCLES = 64
#: Within this many frames a late one is caught up with.
_CATCH_UP_FRAMES = 8
#: A cycle's times are believed if they add up to the cycle within this share.
_TOLERANCE = 0.05


def frame_numbers(
    stamps_s: TimeArray, rate_hz: float, n_lights: int = 1, tags: IndexArray | None = None
) -> IndexArray:
    """Number the frames of a file.

    Parameters
    ----------
    stamps_s
        ``(n_frames,)`` ascending times of the frames.
    rate_hz
        Frames per second, those of all lights together.
    n_lights
        Lights in a cycle.
    tags
        ``(n_frames,)`` light of each frame, counted from 0, if known; number modulo `n_lights` is then the light.

    Returns
    -------
    ndarray
        ``(n_frames,)`` int64, strictly ascending. The first is 0, or the first tag.
    """
    n = len(stamps_s)
    first = int(tags[0]) if tags is not None and n else 0
    times_s = _times_in_cycle(stamps_s, rate_hz, n_lights, tags)
    wrong = np.diff(tags if tags is not None else np.arange(n)) % n_lights != 1 % n_lights
    # Where nothing is amiss numbers go up by one; only the other steps need a closer look.
    shortest_s = np.diff(np.append(times_s, times_s[0] + n_lights / rate_hz)).min()
    steps_s = np.diff(stamps_s)
    suspects = np.flatnonzero(wrong | (steps_s > shortest_s + 0.5 * min(shortest_s, 1.0 / rate_hz)))
    jumps = np.ones(max(n - 1, 0), np.int64)
    number, at = first, 0
    for i in suspects:
        number += int(i) - at
        light = None if tags is None else int(tags[i + 1])
        jumps[i] = _jump(stamps_s[i : i + 1 + _CATCH_UP_FRAMES], number, times_s, n_lights / rate_hz, light)
        number, at = number + int(jumps[i]), int(i) + 1
    return first + np.concatenate([np.zeros(min(n, 1), np.int64), np.cumsum(jumps)])


def _times_in_cycle(stamps_s: TimeArray, rate_hz: float, n_lights: int, tags: IndexArray | None) -> TimeArray:
    """``(n_lights,)`` time of each light after the first, learnt from the file; even where it cannot be told."""
    even_s = np.arange(n_lights) / rate_hz
    cycle_s = n_lights / rate_hz
    steps_s = np.diff(stamps_s)[: _LEARNT_CYCLES * n_lights]
    if tags is None:
        # Frames are told apart by their place up to the first loss.
        cycles_s = stamps_s[n_lights:] - stamps_s[:-n_lights]
        is_whole = np.abs(cycles_s - cycle_s) < _TOLERANCE * cycle_s
        n_whole = len(is_whole) if is_whole.all() else int(np.argmin(is_whole))
        steps_s = steps_s[: n_whole - 1 + n_lights] if n_whole else steps_s[:0]
    before = np.arange(len(steps_s)) % n_lights if tags is None else tags[: len(steps_s)]
    if n_lights == 1 or len(np.unique(before)) < n_lights:
        return even_s
    by_light = [float(np.median(steps_s[before == light])) for light in range(n_lights)]
    if abs(sum(by_light) - cycle_s) > _TOLERANCE * cycle_s:
        return even_s
    return np.concatenate([[0.0], np.cumsum(by_light[:-1])])


def _jump(stamps_s: TimeArray, number: int, times_s: TimeArray, cycle_s: float, light: int | None) -> int:
    """Return by how much numbers go up from the first of `stamps_s`, which has `number`, to the second.

    It is the largest jump after which neither that frame nor any of the next would have come before its time.
    """
    n_lights = len(times_s)
    since_s = stamps_s[1:] - stamps_s[0]

    def time_s(of: int) -> float:
        return of // n_lights * cycle_s + float(times_s[of % n_lights])

    def comes_too_early(of: int) -> bool:
        """Whether a frame is nearer to the one before than to the number that it would have."""
        return any(
            since + time_s(number) < (time_s(of + k - 1) + time_s(of + k)) / 2 for k, since in enumerate(since_s)
        )

    due_cycle = int((time_s(number) + float(since_s[0])) // cycle_s)
    options = range((due_cycle + 2) * n_lights, number, -1)
    fitting = [of for of in options if light is None or of % n_lights == light]
    return next((of for of in fitting if not comes_too_early(of)), fitting[-1]) - number
