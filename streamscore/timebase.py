"""From device time stamps to the absolute sample index.

A loss advances the index, so that index / sfreq stays on the clock. The rule is applied sample by sample and
therefore does not depend on how samples were grouped on the wire.

Stamps come in two kinds. *Exact* stamps lie on a grid of sample periods (a device counter, or a rate-deduced
stamp): every step of two periods or more is a loss, even of one sample, and a step of zero or less is a
duplicate or late sample, which is dropped. *Arrival* stamps were taken when a program got round to it and
jitter: a step counts as a loss only beyond `jitter_tolerance_s`, against a slowly tracked expectation. In mode
``auto`` stamps count as exact until a step inside the tolerance is off the grid, and as arrival from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.types import Chunk, Gap, Segment, TimeArray


class Config(BaseModel):
    """How stamps are judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stamps: Literal["auto", "exact", "arrival"] = "auto"
    jitter_tolerance_s: float = Field(0.1, gt=0)
    clock_jump_s: float = Field(1.0, gt=0)
    rate_tolerance: float = Field(0.03, gt=0, lt=0.5)


@dataclass
class Counters:
    """What was seen; every loss is in here."""

    samples: int = 0
    gaps: int = 0
    missing_samples: int = 0
    duplicate_samples: int = 0
    late_samples: int = 0
    bad_stamps: int = 0
    clock_jumps: int = 0
    rate_faults: int = 0


class _Verdict(NamedTuple):
    """What to do with a sample, and the gap before it (or in its place) if `reason` says one."""

    keep: bool
    n_missing: int = 0
    reason: str = ""


_FOLLOWS = _Verdict(keep=True)
_DROPPED = _Verdict(keep=False)


class Timebase:
    """Place samples on the absolute index.

    Parameters
    ----------
    config
        See :class:`Config`.
    sfreq
        Nominal sampling rate in Hz.

    Attributes
    ----------
    counters
        Running totals.
    measured_sfreq
        Rate over the last :data:`RATE_WINDOW_S` of stamps in Hz; the nominal one until then.
    """

    #: An exact step may differ from whole periods by this part of a period; less than any rate fault.
    GRID_TOLERANCE = 0.02
    #: Time constant with which the expectation follows arrival stamps.
    TRACKING_S = 2.0
    #: Span of stamps over which the rate is measured.
    RATE_WINDOW_S = 10.0
    #: A step longer than this says nothing about the rate.
    PAUSE_S = 1.0

    def __init__(self, config: Config, sfreq: float) -> None:
        self._config = config
        self._period_s = 1.0 / sfreq
        self._sfreq = sfreq
        self._exact = config.stamps != "arrival"
        self._next = 0
        self._last_s: float | None = None
        self._expected_s = 0.0
        self._n_rejected = 0
        self._rate_n = 0
        self._rate_t0_s = 0.0
        self._rate_fault = ""
        self.counters = Counters()
        self.measured_sfreq = sfreq

    @property
    def stamps(self) -> Literal["exact", "arrival"]:
        """How stamps are judged at present."""
        return "exact" if self._exact else "arrival"

    def push(self, chunk: Chunk) -> list[Segment | Gap]:
        """Split a chunk into segments without loss, and the gaps between them."""
        stamps_s = chunk.stamps_s
        if len(stamps_s) == 0:
            return []
        if self._exact and self._is_regular(stamps_s):
            self._last_s = float(stamps_s[-1])
            self._n_rejected = 0
            return [self._segment(chunk, 0, len(stamps_s))]
        pieces: list[Segment | Gap] = []
        begin = 0
        for i, stamp_s in enumerate(stamps_s.tolist()):
            verdict = self._place(stamp_s)
            if verdict is _FOLLOWS:
                continue
            if i > begin:
                pieces.append(self._segment(chunk, begin, i))
            if verdict.reason:
                t_s = stamp_s + chunk.clock_offset_s - verdict.n_missing * self._period_s
                pieces.append(Gap(self._next, verdict.n_missing, t_s, verdict.reason))
                self._next += verdict.n_missing
            begin = i if verdict.keep else i + 1
        if begin < len(stamps_s):
            pieces.append(self._segment(chunk, begin, len(stamps_s)))
        return pieces

    def _segment(self, chunk: Chunk, begin: int, end: int) -> Segment:
        start = self._next
        self._next += end - begin
        self.counters.samples += end - begin
        return Segment(start, chunk.data[begin:end], chunk.stamps_s[begin:end] + chunk.clock_offset_s)

    def _is_regular(self, stamps_s: TimeArray) -> bool:
        """Whether the whole chunk follows on, one exact period a sample (the path of nearly all chunks)."""
        if self._last_s is None:
            return False
        steps = np.diff(stamps_s, prepend=self._last_s) * self._sfreq
        return bool(np.all(np.abs(steps - 1.0) <= self.GRID_TOLERANCE))

    def _place(self, stamp_s: float) -> _Verdict:
        """Judge one sample."""
        if not np.isfinite(stamp_s):
            self.counters.bad_stamps += 1
            return _DROPPED
        if self._last_s is None:
            self._rate_n, self._rate_t0_s = 1, stamp_s
            return self._accept(stamp_s, stamp_s)
        if stamp_s == self._last_s:
            self.counters.duplicate_samples += 1
            return self._reject(stamp_s)
        if self._exact:
            periods = (stamp_s - self._last_s) * self._sfreq
            n_steps = round(periods)
            off_grid = abs(periods - n_steps) > self.GRID_TOLERANCE
            near = abs(periods - 1.0) * self._period_s <= self._config.jitter_tolerance_s
            if not (self._config.stamps == "auto" and off_grid and near):
                if n_steps <= 0:
                    self.counters.late_samples += 1
                    return self._reject(stamp_s)
                return self._accept(stamp_s, stamp_s, n_missing=n_steps - 1)
            self._exact = False
            self._expected_s = self._last_s + self._period_s
            self._rate_n, self._rate_t0_s = 1, self._last_s
        return self._place_arrival(stamp_s)

    def _place_arrival(self, stamp_s: float) -> _Verdict:
        """Judge a sample whose stamp jitters, against the tracked expectation."""
        self._measure_rate(stamp_s)
        error_s = stamp_s - self._expected_s
        if error_s < -self._config.jitter_tolerance_s:
            self.counters.late_samples += 1
            return self._reject(stamp_s)
        if self._rate_fault:
            self._accept(stamp_s, stamp_s)
            return _Verdict(keep=False, n_missing=1, reason=self._rate_fault)
        if error_s > self._config.jitter_tolerance_s:
            return self._accept(stamp_s, stamp_s, n_missing=max(round(error_s * self._sfreq), 1))
        n_dropped = self._n_rejected
        anchor_s = self._expected_s + error_s * min(self._period_s / self.TRACKING_S, 1.0)
        self._accept(stamp_s, anchor_s)
        # What was dropped here is not on record as missing, so it must break the run.
        return _Verdict(keep=True, n_missing=0, reason="late samples dropped") if n_dropped else _FOLLOWS

    def _accept(self, stamp_s: float, anchor_s: float, n_missing: int = 0) -> _Verdict:
        self._last_s = stamp_s
        self._expected_s = anchor_s + self._period_s
        self._n_rejected = 0
        if n_missing == 0:
            return _FOLLOWS
        self.counters.gaps += 1
        self.counters.missing_samples += n_missing
        return _Verdict(keep=True, n_missing=n_missing, reason="samples lost")

    def _reject(self, stamp_s: float) -> _Verdict:
        """Drop a sample, unless so many were dropped that the clock itself must have jumped back."""
        self._n_rejected += 1
        if self._n_rejected * self._period_s < self._config.clock_jump_s:
            return _DROPPED
        self.counters.clock_jumps += 1
        self._accept(stamp_s, stamp_s)
        return _Verdict(keep=True, n_missing=0, reason="clock jumped back")

    def _measure_rate(self, stamp_s: float) -> None:
        """Compare the rate of arrival stamps with the nominal one every :data:`RATE_WINDOW_S`.

        Exact stamps need no measurement: each of their steps is within :data:`GRID_TOLERANCE`. While the rate
        is off, every sample is withheld, because the network would see another frequency axis.
        """
        assert self._last_s is not None
        if abs(stamp_s - self._last_s) > self.PAUSE_S:
            self._rate_n, self._rate_t0_s = 1, stamp_s
            return
        span_s = stamp_s - self._rate_t0_s
        if span_s < self.RATE_WINDOW_S:
            self._rate_n += 1
            return
        self.measured_sfreq = self._rate_n / span_s
        self._rate_n, self._rate_t0_s = 1, stamp_s
        self._rate_fault = ""
        if abs(self.measured_sfreq / self._sfreq - 1.0) > self._config.rate_tolerance:
            self.counters.rate_faults += 1
            self._rate_fault = (
                f"rate: stamps run at {self.measured_sfreq:.1f} Hz, the stream declares {self._sfreq:g} Hz"
            )
