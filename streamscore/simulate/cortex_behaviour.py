"""What a simulated mouse under a camera does: sleep and wake, running and resting, and the speed of its wheel.

Sleep and wake are those of :func:`streamscore.simulate.mouse.mouse` of the same seed, so that
``Simulator("mouse", seed=…, cycle_s=…)`` gives the EEG and EMG that belong to a movie. Within Wake the mouse
alternates between rest and bouts on the wheel. Run is a speed above 0.5 cm/s (Ajioka et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import numpy.typing as npt

from streamscore.simulate.blocks import StateArray, bouts_rng, subject_rng
from streamscore.simulate.mouse import EPOCH_S, WAKE, mouse
from streamscore.types import FloatArray, TimeArray

#: Above it the mouse runs.
RUN_CM_S = 0.5
#: What sets behaviour apart from other things drawn from a seed.
_STREAM = 101


class Behaviour:
    """States and speed, piece after piece, without end.

    Parameters
    ----------
    seed
        Which mouse.
    cycle_s
        Length of a sleep cycle; shorter ones shorten the bouts.
    sleeps
        Whether it sleeps at all.
    runs
        Whether it runs at all.
    """

    def __init__(self, seed: int, cycle_s: float, sleeps: bool, runs: bool) -> None:
        self._bouts: Iterator[tuple[int, int]] = repeat((WAKE, 15))
        if sleeps:
            self._bouts = mouse(subject_rng(seed)).bouts(bouts_rng(seed), cycle_s)
        self._runs = runs
        self._rng = np.random.default_rng([seed, _STREAM])
        self._drive_s = self._rng.uniform(4.0, 9.0)
        self._pause_s = self._rng.uniform(6.0, 12.0)
        # Bouts of state and of running that reach beyond what was asked for: ends in s, and what holds until then.
        self._states: list[tuple[float, int]] = [(0.0, WAKE)]
        self._speeds: list[tuple[float, float]] = [(0.0, 0.0)]

    def at(self, t_s: TimeArray) -> tuple[StateArray, FloatArray]:
        """Return the states and the intended speeds at ascending times; earlier ones are forgotten.

        Parameters
        ----------
        t_s
            ``(n,)`` seconds from the start, none before the last one asked for.

        Returns
        -------
        states
            ``(n,)`` codes into ``MOUSE3``.
        speed_cm_s
            ``(n,)``: 0 at rest; bouts begin and end with a jump, which the wheel's inertia smooths.
        """
        while self._states[-1][0] <= t_s[-1]:
            state, n_epochs = next(self._bouts)
            begin_s = self._states[-1][0]
            end_s = begin_s + n_epochs * EPOCH_S
            self._states.append((end_s, state))
            self._plan_running(begin_s, end_s, state)
        states = _held(self._states, t_s).astype(np.int8)
        speeds = _held(self._speeds, t_s).astype(np.float32)
        for plan in (self._states, self._speeds):
            while len(plan) > 1 and plan[0][0] <= t_s[0]:
                plan.pop(0)
        return states, speeds

    def _plan_running(self, at_s: float, end_s: float, state: int) -> None:
        """Fill a bout with rest and running."""
        rng = self._rng
        while self._runs and state == WAKE:
            at_s += rng.exponential(self._pause_s) + 1.0
            run_s = self._drive_s * rng.lognormal(0.0, 0.5)
            if at_s + run_s > end_s - 1.0:
                break
            self._speeds.append((at_s, 0.0))
            at_s += run_s
            self._speeds.append((at_s, float(rng.uniform(4.0, 18.0))))
        self._speeds.append((end_s, 0.0))


def _held(plan: list[tuple[float, float]] | list[tuple[float, int]], t_s: TimeArray) -> npt.NDArray[np.float64]:
    """Value that holds at each time."""
    ends, values = np.array(plan, np.float64).T
    # A hair above, lest a rounding error put the first frame of an epoch into the one before.
    held: npt.NDArray[np.float64] = values[np.searchsorted(ends, t_s + 1e-9, side="right")]
    return held
