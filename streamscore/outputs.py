"""What is due and what it is called: hops, the reads of a network, and the steps that a stream has taken.

Book-keeping alone: nothing here touches a sample or a network.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from streamscore.errors import ConfigError
from streamscore.models.base import Timing
from streamscore.types import PosteriorKind


def hop_in_samples(hop_s: float, sfreq: float, timing: Timing | None) -> int:
    """Return the hop in samples; `timing` is ``None`` where there is no network.

    Raises
    ------
    ConfigError
        If it is not a whole number of samples, does not go with the network's step, or would cut windows that
        are scored as a whole.
    """
    if not math.isfinite(hop_s):
        raise ConfigError(f"hop_s is {hop_s:g}; choose a number of seconds")
    hop_samples = round(hop_s * sfreq)
    # Frame rates such as 16.8 Hz have no finite period: a millionth is what people can write.
    if hop_samples < 1 or abs(hop_samples - hop_s * sfreq) > 1e-5 * hop_samples:
        raise ConfigError(f"hop_s {hop_s:g} is not a whole number of samples at {sfreq:g} Hz")
    if timing is None:
        return hop_samples
    step = timing.step_samples
    step_s = step / sfreq
    if step > timing.epoch_samples and hop_samples != step:
        raise ConfigError(
            f"hop_s {hop_s:g} does not fit a network that scores whole windows of {step_s:g} s; leave hop_s out, "
            "or take a variant that slides"
        )
    if timing.chunk_steps and hop_samples > step:
        raise ConfigError(
            f"hop_s {hop_s:g} would pass over steps of {step_s:g} s that close a chunk; choose {step_s:g} or less"
        )
    if step % hop_samples and hop_samples % step:
        raise ConfigError(
            f"hop_s {hop_s:g} neither divides the network's step of {step_s:g} s nor is a multiple of it; "
            + ("choose 1, 2, 5, 10 … seconds" if step_s > 1 else f"choose a multiple of {step_s:g} s")
        )
    return hop_samples


class Entry(NamedTuple):
    """One posterior of an output: from which read, of which kind, and whether it may be used yet."""

    read: int
    kind: PosteriorKind
    usable: bool


class ReadPlan:
    """Which of a network's reads are told, and as what.

    Parameters
    ----------
    timing
        Of the network.
    revise
        Whether reads between the first and the last are told.
    """

    def __init__(self, timing: Timing, revise: bool) -> None:
        self._timing = timing
        self._revise = revise
        self._finals = timing.final_reads
        self._lag_steps = [read.lag_samples // timing.step_samples for read in timing.reads]
        # Steps after which nothing changes any more; what is told is then looked up.
        longest = max(max(read.warm_up_samples, read.settle_samples or 0) for read in timing.reads)
        self._settled = -(-longest // timing.step_samples)
        self._always = tuple(self._open(self._settled, self._settled))
        has_provisional = bool(timing.chunk_steps) or not self._finals[0]
        self.kinds: tuple[PosteriorKind, ...] = ("provisional", "final") if has_provisional else ("final",)

    def entries(self, n_steps: int, n_since_gap: int) -> tuple[Entry, ...]:
        """What to tell after so many steps, ever and since the last gap, oldest interval first; 0 for none."""
        if self._timing.chunk_steps:
            return tuple(self._chunked(n_steps, n_since_gap))
        return self._always if n_since_gap >= self._settled else tuple(self._open(n_steps, n_since_gap))

    def _is_usable(self, read: int, n_steps: int, n_since_gap: int) -> bool:
        step = self._timing.step_samples
        return self._timing.reads[read].is_usable(n_steps * step, n_since_gap * step)

    def _open(self, n_steps: int, n_since_gap: int) -> list[Entry]:
        entries = []
        for read in reversed(range(len(self._finals))):
            kind: PosteriorKind = "final" if self._finals[read] else "revised" if read else "provisional"
            if kind != "revised" or self._revise:
                entries.append(Entry(read, kind, self._is_usable(read, n_steps, n_since_gap)))
        return entries

    def _chunked(self, n_steps: int, n_since_gap: int) -> list[Entry]:
        chunk = self._timing.chunk_steps
        at = (n_steps, n_since_gap)
        entries: list[Entry] = []
        if n_since_gap:
            closes = n_since_gap % chunk == 0
            inside = [k for k, lag in enumerate(self._lag_steps) if lag <= (n_since_gap - 1) % chunk]
            if closes:
                entries = [Entry(k, "final", self._is_usable(k, *at)) for k in reversed(inside)]
            elif self._revise:
                entries = [Entry(k, "revised", self._is_usable(k, *at)) for k in reversed(inside) if k]
        else:
            entries = [Entry(0, "final", False)]  # nothing that was open will be closed
        return [*entries, Entry(0, "provisional", n_since_gap > 0 and self._is_usable(0, *at))]


class Phase:
    """Steps that one interleaved stream has taken."""

    def __init__(self) -> None:
        self.begin_afresh()

    def begin_afresh(self) -> None:
        """Nothing was seen."""
        self.n_steps = self.n_since_gap = self.last_tick = 0

    def advance(self, tick: int) -> None:
        """Another step, which ended at `tick`."""
        self.n_steps += 1
        self.n_since_gap += 1
        self.last_tick = tick
