"""From device time stamps to the absolute sample index.

A loss advances the index, so that index / sfreq stays on the clock. The rule is applied sample by sample and
therefore does not depend on how samples were grouped on the wire.

Stamps come in two kinds. *Exact* stamps lie on a grid of sample periods (a device counter, or a rate-deduced
stamp): every step of two periods or more is a loss, even of one sample, and a step of zero or less is a
duplicate or late sample, which is dropped. *Arrival* stamps were taken when a program got round to it and
jitter: a step counts as a loss only beyond `jitter_tolerance_s`, against a slowly tracked expectation. In mode
``auto`` stamps count as exact until a step inside the tolerance is off the grid, and as arrival from then on.
A device that counts its samples itself (a camera) needs neither: a jump of its counter is the loss, whatever the
stamps are like.

What is dropped is never bridged: a sample without a finite stamp is a gap of one, and after late samples
the run is broken. While the rate of the stamps is wrong every sample is withheld, because the network would see
another frequency axis.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.types import Chunk, Gap, Segment, TimeArray


class Config(BaseModel):
    """How stamps are judged.

    Streams of a few samples a second or less (band powers of 4-s epochs) are judged by their period where it is
    longer than these: the tolerance is a quarter of it at least, and a clock has jumped back after three samples.
    """

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
    wrong_rate_samples: int = 0


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
    next_index
        Absolute index that the next sample has if it follows on.
    measured_sfreq
        Rate over the last :data:`RATE_WINDOW_S` of stamps in Hz; the nominal one until then.
    jitter_tolerance_s
        What counts, at this rate.
    """

    #: An exact step may differ from whole periods by this part of a period.
    GRID_TOLERANCE = 0.02
    #: Time constant with which the expectation follows arrival stamps.
    TRACKING_S = 2.0
    #: Span of stamps over which the rate is measured.
    RATE_WINDOW_S = 10.0
    #: The same for slow streams, in sample periods: tolerance of jitter, backward jump, and span of the rate, in
    #: which such jitter stays below the tolerance of the rate.
    TOLERANCE_PERIODS, JUMP_PERIODS, RATE_PERIODS = 0.25, 2.5, 20.0
    #: Samples, in nominal seconds, after which a device that counts is looked at, and how far it may be off then.
    QUICK_WINDOW_S, QUICK_TOLERANCE = 1.0, 0.25

    def __init__(self, config: Config, sfreq: float) -> None:
        self._config = config
        self._period_s = 1.0 / sfreq
        self._sfreq = sfreq
        self.jitter_tolerance_s = max(config.jitter_tolerance_s, self.TOLERANCE_PERIODS * self._period_s)
        self._clock_jump_s = max(config.clock_jump_s, self.JUMP_PERIODS * self._period_s)
        self._rate_window_s = max(self.RATE_WINDOW_S, self.RATE_PERIODS * self._period_s)
        # As many regular samples as a rate window can hold.
        self._window_samples = int(self._rate_window_s * sfreq / (1.0 - self.GRID_TOLERANCE)) + 2
        self._exact = config.stamps != "arrival"
        self._last_s: float | None = None
        self._last_counter: int | None = None
        self._expected_s = 0.0
        self._n_rejected = 0
        self._broken = False
        self._rate_n = 0
        self._rate_t0_s = self._rate_last_s = 0.0
        self._quick_n, self._quick_t0_s = 0, 0.0
        self._offset_s = self._rate_offset_s = self._quick_offset_s = 0.0
        self._rate_fault = ""
        self.next_index = 0
        self.counters = Counters()
        self.measured_sfreq = sfreq

    @property
    def stamps(self) -> Literal["exact", "arrival", "counted"]:
        """How losses are told at present."""
        return "counted" if self._last_counter is not None else "exact" if self._exact else "arrival"

    def push(self, chunk: Chunk) -> list[Segment | Gap]:
        """Split a chunk into segments without loss, and the gaps between them."""
        stamps_s, counters = chunk.stamps_s, chunk.counters
        self._note_offset(chunk.clock_offset_s)
        pieces: list[Segment | Gap] = []
        irregular = self._irregular(stamps_s) if self._exact and counters is None and len(stamps_s) > 1 else None
        begin = i = 0  # samples begin … i - 1 follow on and are in no piece yet
        while i < len(stamps_s):
            if counters is not None:
                verdict = self._place(float(stamps_s[i]), int(counters[i]))
            elif self._exact and irregular is not None and (n := self._take_regular(stamps_s, i, irregular)):
                i += n
                continue
            else:
                verdict = self._place(float(stamps_s[i]))
            i += 1
            if verdict is _FOLLOWS:
                continue
            if i - 1 > begin:
                pieces.append(self._segment(chunk, begin, i - 1))
            if verdict.reason:
                self._append_gap(pieces, verdict, chunk.clock_offset_s)
            begin = i - 1 if verdict.keep else i
        if begin < i:
            pieces.append(self._segment(chunk, begin, i))
        return pieces

    def _note_offset(self, offset_s: float) -> None:
        """Take in the clock offset: the rate is that of stream time.

        A camera whose program makes its stamps up (frame number over nominal rate) seems to keep its rate; that
        its clock then runs away from this one shows in an offset that moves with every chunk.
        """
        stepped = abs(offset_s - self._offset_s) > self._config.jitter_tolerance_s
        self._offset_s = offset_s
        if stepped and self._last_s is not None:
            self._restart_rate(self._last_s)

    def _segment(self, chunk: Chunk, begin: int, end: int) -> Segment:
        start = self.next_index
        self.next_index += end - begin
        self.counters.samples += end - begin
        data, stamps_s = chunk.data, chunk.stamps_s
        if end - begin < len(stamps_s):
            data, stamps_s = data[begin:end], stamps_s[begin:end]
        return Segment(start, data, stamps_s + chunk.clock_offset_s)

    def _append_gap(self, pieces: list[Segment | Gap], verdict: _Verdict, offset_s: float) -> None:
        """Add the gap of a verdict, joined to the one before if it goes on."""
        assert self._last_s is not None
        n = verdict.n_missing
        t_s = self._last_s + offset_s - (n if verdict.keep else n - 1) * self._period_s
        gap = Gap(self.next_index, n, t_s, verdict.reason)
        before = pieces[-1] if pieces else None
        if isinstance(before, Gap) and before.reason == gap.reason:
            pieces[-1] = Gap(before.start, before.n_samples + n, before.t_s, before.reason)
        else:
            pieces.append(gap)
        self.next_index += n

    def _irregular(self, stamps_s: TimeArray) -> list[int]:
        """Indices of the samples that are not one exact period behind the sample before them in the chunk."""
        with np.errstate(invalid="ignore"):  # infinite stamps, which are not regular
            steps = (stamps_s[1:] - stamps_s[:-1]) * self._sfreq
        is_regular = np.abs(steps - 1.0) <= self.GRID_TOLERANCE
        return [] if is_regular.all() else (np.flatnonzero(~is_regular) + 1).tolist()

    def _take_regular(self, stamps_s: TimeArray, i: int, irregular: list[int]) -> int:
        """Take in the samples from `i` on that follow on, one exact period each: all, for nearly all chunks.

        Stops short of a sample that ends a rate window, for the slow path to judge. Returns their number.
        """
        if self._last_s is None or self._broken or self._rate_fault:
            return 0
        if not abs((float(stamps_s[i]) - self._last_s) * self._sfreq - 1.0) <= self.GRID_TOLERANCE:
            return 0
        at = bisect_right(irregular, i)
        end = min(irregular[at] if at < len(irregular) else len(stamps_s), i + self._window_samples)
        n = int(np.searchsorted(stamps_s[i:end] - self._rate_t0_s, self._rate_window_s))
        if n:
            self._last_s = self._rate_last_s = float(stamps_s[i + n - 1])
            self._rate_n += n
            self._n_rejected = 0
        return n

    def _place(self, stamp_s: float, counter: int | None = None) -> _Verdict:
        """Judge one sample."""
        last_counter, self._last_counter = self._last_counter, counter
        if not math.isfinite(stamp_s):
            return self._place_without_stamp(self._n_lost(last_counter, counter))
        if self._last_s is None:
            self._restart_rate(stamp_s)
            return self._accept(stamp_s, stamp_s)
        if last_counter is not None and counter is not None:
            return self._place_counted(stamp_s, counter, last_counter)
        if stamp_s == self._last_s:
            self.counters.duplicate_samples += 1
            return self._reject(stamp_s, breaks=not self._exact)
        self._measure_rate(stamp_s)
        verdict = self._place_exact(stamp_s, self._last_s) if self._exact else self._place_arrival(stamp_s)
        return self._at_right_rate(verdict)

    def _place_counted(self, stamp_s: float, counter: int, last_counter: int) -> _Verdict:
        """Judge a sample that the device numbered: what its number passes over is lost.

        Stamps still have their say. Time that passed without a number is lost too (a camera that paused); a
        larger step than any pause is a clock that jumped, and the sample that tells it is withheld, so that
        whatever counts time begins anew.
        """
        assert self._last_s is not None
        if counter <= last_counter:
            self._last_counter = last_counter
            if counter == last_counter:
                self.counters.duplicate_samples += 1
            else:
                self.counters.late_samples += 1
            self._broken |= counter < last_counter
            return _DROPPED
        n_steps = counter - last_counter
        error_s = stamp_s - self._last_s - n_steps * self._period_s
        if abs(error_s) > self._clock_jump_s:
            self.counters.clock_jumps += 1
            self._restart_rate(stamp_s)
            self._accept(stamp_s, stamp_s, n_missing=n_steps)
            return _Verdict(keep=False, n_missing=n_steps, reason="clock jumped")
        n_paused = round(error_s * self._sfreq) if error_s > self.jitter_tolerance_s else 0
        if n_paused:
            self._restart_rate(stamp_s)
        else:
            self._count_rate(stamp_s, n_steps)
        return self._at_right_rate(self._accept(stamp_s, stamp_s, n_missing=n_steps - 1 + n_paused))

    @staticmethod
    def _n_lost(last_counter: int | None, counter: int | None) -> int:
        return max(counter - last_counter - 1, 0) if last_counter is not None and counter is not None else 0

    def _at_right_rate(self, verdict: _Verdict) -> _Verdict:
        """Withhold a sample while the rate of the stamps is wrong."""
        if verdict.keep and self._rate_fault:
            self.counters.wrong_rate_samples += 1
            return _Verdict(keep=False, n_missing=verdict.n_missing + 1, reason=self._rate_fault)
        return verdict

    def _place_without_stamp(self, n_lost: int) -> _Verdict:
        """Judge a sample whose stamp is NaN or infinite: it takes its place, and cannot be used."""
        self.counters.bad_stamps += 1
        if self._last_s is None:
            return _DROPPED
        stamp_s = self._last_s + (n_lost + 1) * self._period_s if self._exact else self._expected_s
        self._rate_n += n_lost + 1
        self._rate_last_s = stamp_s
        self._accept(stamp_s, stamp_s, n_missing=n_lost)
        return _Verdict(keep=False, n_missing=n_lost + 1, reason="stamp is not finite")

    def _place_exact(self, stamp_s: float, last_s: float) -> _Verdict:
        """Judge a sample whose stamp should be whole periods after the last one."""
        periods = (stamp_s - last_s) * self._sfreq
        n_steps = round(periods)
        off_grid = abs(periods - n_steps) > self.GRID_TOLERANCE
        near = abs(periods - 1.0) * self._period_s <= self.jitter_tolerance_s
        if self._config.stamps == "auto" and off_grid and near:
            self._exact = False
            self._expected_s = last_s + self._period_s
            return self._place_arrival(stamp_s)
        if n_steps <= 0:
            self.counters.late_samples += 1
            return self._reject(stamp_s, breaks=True)
        return self._accept(stamp_s, stamp_s, n_missing=n_steps - 1)

    def _place_arrival(self, stamp_s: float) -> _Verdict:
        """Judge a sample whose stamp jitters, against the tracked expectation."""
        error_s = stamp_s - self._expected_s
        if error_s < -self.jitter_tolerance_s:
            self.counters.late_samples += 1
            return self._reject(stamp_s, breaks=True)
        if error_s > self.jitter_tolerance_s:
            return self._accept(stamp_s, stamp_s, n_missing=max(round(error_s * self._sfreq), 1))
        return self._accept(stamp_s, self._expected_s + error_s * min(self._period_s / self.TRACKING_S, 1.0))

    def _accept(self, stamp_s: float, anchor_s: float, n_missing: int = 0) -> _Verdict:
        broken = self._broken
        self._last_s = stamp_s
        self._expected_s = anchor_s + self._period_s
        self._n_rejected = 0
        self._broken = False
        if n_missing:
            self.counters.gaps += 1
            self.counters.missing_samples += n_missing
            return _Verdict(keep=True, n_missing=n_missing, reason="samples lost")
        # What was dropped is not on record as missing, so it must break the run.
        return _Verdict(keep=True, reason="late samples dropped") if broken else _FOLLOWS

    def _reject(self, stamp_s: float, *, breaks: bool) -> _Verdict:
        """Drop a sample, unless so many were dropped that the clock itself must have jumped back or stopped.

        The dropped samples then count as time that passed, so that a stopped clock ends in UNKNOWN too.
        """
        self._n_rejected += 1
        self._broken |= breaks
        if self._n_rejected * self._period_s < self._clock_jump_s:
            return _DROPPED
        n_missing = self._n_rejected - 1
        self.counters.clock_jumps += 1
        self._accept(stamp_s, stamp_s)
        return _Verdict(keep=True, n_missing=n_missing, reason="clock jumped back")

    def _measure_rate(self, stamp_s: float) -> None:
        """Take a sample into the measurement of the rate.

        A loss that the tolerance tells from jitter says nothing about the rate, and begins a new window.
        """
        step_s = stamp_s - self._rate_last_s
        self._rate_last_s = stamp_s
        if abs(step_s) > self.jitter_tolerance_s + self._period_s:
            self._restart_rate(stamp_s)
        else:
            self._count_rate(stamp_s, 1)

    def _restart_rate(self, stamp_s: float) -> None:
        self._rate_n = self._quick_n = 0
        self._rate_t0_s = self._quick_t0_s = self._rate_last_s = stamp_s
        self._rate_offset_s = self._quick_offset_s = self._offset_s

    def _count_rate(self, stamp_s: float, n_steps: int) -> None:
        """Compare the rate of the stamps with the nominal one every :data:`RATE_WINDOW_S`.

        Of a device that counts, also more often and less exactly: a doubled rate is found within a second.
        """
        self._rate_last_s = stamp_s
        self._rate_n += n_steps
        span_s = stamp_s - self._rate_t0_s + self._offset_s - self._rate_offset_s
        if span_s >= self._rate_window_s:
            self.measured_sfreq = self._rate_n / span_s
            self._rate_n, self._rate_t0_s, self._rate_offset_s = 0, stamp_s, self._offset_s
            if abs(self.measured_sfreq / self._sfreq - 1.0) <= self._config.rate_tolerance:
                self._rate_fault = ""
            else:
                self._note_rate_fault()
        if self._last_counter is None:
            return
        self._quick_n += n_steps
        span_s = stamp_s - self._quick_t0_s + self._offset_s - self._quick_offset_s
        if self._quick_n < self.QUICK_WINDOW_S * self._sfreq:
            return
        quick_hz = self._quick_n / max(span_s, 1e-9)
        self._quick_n, self._quick_t0_s, self._quick_offset_s = 0, stamp_s, self._offset_s
        if abs(quick_hz / self._sfreq - 1.0) > self.QUICK_TOLERANCE and not self._rate_fault:
            self.measured_sfreq = quick_hz
            self._note_rate_fault()

    def _note_rate_fault(self) -> None:
        self.counters.rate_faults += 1
        # The first reason stays while it lasts, so that it is one gap.
        digits = 1 if self._sfreq >= 10.0 else 3
        self._rate_fault = self._rate_fault or (
            f"rate: stamps run at {self.measured_sfreq:.{digits}f} Hz, the stream declares {self._sfreq:g} Hz"
        )
