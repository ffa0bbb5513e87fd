"""Samples that must not be scored: non-finite values and flat lines become gaps.

A NaN would stay in every filter memory and recurrent state for ever, and a network gives confident answers on a
dead electrode. Both are therefore treated as if the samples had been lost: everything restarts after them.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from streamscore.types import FloatArray, Gap, Segment

#: Samples that no run has.
_NEVER = 2**62

BoolArray = npt.NDArray[np.bool_]


class Config(BaseModel):
    """When a channel counts as flat: exactly the same value for `flat_s`; ``None``: never (a wheel at rest)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flat_s: float | None = Field(2.0, gt=0)


@dataclass
class Counters:
    """Samples withheld from scoring."""

    nonfinite_samples: int = 0
    flat_samples: int = 0


class Quality:
    """Cut unusable samples out of segments.

    Parameters
    ----------
    config
        See :class:`Config`.
    sfreq
        Sampling rate in Hz.
    channels
        Labels, for the reasons given.
    """

    def __init__(self, config: Config, sfreq: float, channels: tuple[str, ...]) -> None:
        self._channels = channels
        self._flat_samples = max(round(config.flat_s * sfreq), 2) if config.flat_s else _NEVER
        self._last = [math.nan] * len(channels)
        self._run = np.zeros(len(channels), np.int64)
        self._ones = np.ones(len(channels), np.int64)
        self.counters = Counters()

    def push(self, segment: Segment) -> list[Segment | Gap]:
        """Return the usable parts of `segment` and a gap for each part that is not."""
        data = segment.data
        if self._is_lively(data):
            return [segment]
        finite = np.isfinite(data)
        runs = self._run_lengths(np.asarray(data))
        has_nonfinite: BoolArray = np.logical_not(finite.all(axis=1))
        # Channels at fault, sample by sample, so that a reason does not depend on the chunking.
        bad: BoolArray = np.where(has_nonfinite[:, None], ~finite, runs >= self._flat_samples)
        if not bad.any():
            return [segment]
        changes = np.diff(bad, axis=0).any(axis=1) | np.diff(has_nonfinite)
        edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(data)]
        pieces: list[Segment | Gap] = []
        for begin, end in pairwise(edges):
            if not bad[begin].any():
                pieces.append(Segment(segment.start + begin, segment.data[begin:end], segment.stamps_s[begin:end]))
                continue
            if has_nonfinite[begin]:
                self.counters.nonfinite_samples += end - begin
                what = "non-finite"
            else:
                self.counters.flat_samples += end - begin
                what = "flat"
            names = ", ".join(
                name for name, is_bad in zip(self._channels, bad[begin].tolist(), strict=True) if is_bad
            )
            t_s = float(segment.stamps_s[begin])
            pieces.append(Gap(segment.start + begin, end - begin, t_s, f"{what}: {names}"))
        return pieces

    def _is_lively(self, data: FloatArray) -> bool:
        """Whether all is finite and each value differs from the one before (the path of nearly all chunks)."""
        newest: list[float] = data[-1].tolist()
        if len(data) == 1:  # an amplifier that sends sample by sample; numpy's overhead would be all there is
            lively = math.isfinite(sum(newest)) and not any(map(operator.eq, newest, self._last))
        else:
            changed = (data[0] != self._last).all() and (data[1:] != data[:-1]).all()
            lively = bool(changed and np.isfinite(data).all())
        if lively:
            self._last, self._run = newest, self._ones
        return lively

    def _run_lengths(
        self, data: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Length of the run of equal values that ends at each sample, carried across segments."""
        n = len(data)
        same = np.empty(data.shape, bool)
        same[0] = data[0] == self._last
        np.equal(data[1:], data[:-1], out=same[1:])
        position = np.arange(1, n + 1)[:, None]
        last_change = np.maximum.accumulate(np.where(same, 0, position), axis=0)
        runs = np.where(last_change > 0, position - last_change + 1, position + self._run)
        self._last = data[-1].tolist()
        self._run = runs[-1].copy()
        return runs
