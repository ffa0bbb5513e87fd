"""From samples to posteriors: chain → ring → network, and the book-keeping of lag.

An output is due at every multiple of the hop on the absolute index. A network that consumes one epoch a step
(30 s) but is asked every hop (1 s) runs as `step / hop` interleaved streams, *phases*: each has its own
recurrent state and sees consecutive epochs, so that every single output is the network exactly as published,
run on the recording from that phase on. Phase 0 is the grid of the recording's start. A network with steps
shorter than the hop (one frame) takes each step as it comes, and is read at every hop.

Outputs are produced for the samples, never for the chunks they came in: when several are due, they go through
the network as one batch.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch

from streamscore.bundle import Bundle
from streamscore.labels import UNKNOWN
from streamscore.outputs import Entry, Phase, ReadPlan, hop_in_samples
from streamscore.ring import Ring
from streamscore.runner import Device, Precision, Runner, choose_device
from streamscore.types import FloatArray, Gap, Posterior, PosteriorKind, Segment

NoticeLevel = Literal["info", "warning", "error"]


class PosteriorSource(Protocol):
    """What the engine needs from a scorer."""

    labels: tuple[str, ...]
    hop_samples: int
    kinds: tuple[PosteriorKind, ...]

    def push(self, segment: Segment) -> list[Posterior]: ...

    def gap(self, gap: Gap) -> list[Posterior]: ...

    def warm_up(self) -> None: ...

    def notices(self) -> list[tuple[NoticeLevel, str]]: ...

    def lag_s(self, kind: PosteriorKind) -> float: ...

    def newest_frame(self) -> FloatArray | None: ...


class Unscored:
    """Stands in for a scorer when there is no bundle: an invalid ``UNKNOWN`` at every hop."""

    def __init__(self, hop_samples: int, sfreq: float) -> None:
        self.labels: tuple[str, ...] = ()
        self.hop_samples = hop_samples
        self.kinds: tuple[PosteriorKind, ...] = ("final",)
        self._sfreq = sfreq

    def push(self, segment: Segment) -> list[Posterior]:
        """Return one posterior for each hop that ends inside `segment`."""
        hop = self.hop_samples
        posteriors = []
        first = segment.start // hop + 1
        for k in range(first, (segment.start + len(segment.data)) // hop + 1):
            stop_s = float(segment.stamps_s[k * hop - 1 - segment.start]) + 1.0 / self._sfreq
            start_s = stop_s - hop / self._sfreq
            posteriors.append(Posterior((k - 1) * hop, k * hop, start_s, stop_s, (), UNKNOWN, False, "no bundle"))
        return posteriors

    def gap(self, gap: Gap) -> list[Posterior]:
        return []

    def warm_up(self) -> None:
        pass

    def notices(self) -> list[tuple[NoticeLevel, str]]:
        return []

    def lag_s(self, kind: PosteriorKind) -> float:
        return 0.0

    def newest_frame(self) -> FloatArray | None:
        return None


class Scorer:
    """Run a bundle on a stream.

    Parameters
    ----------
    bundle
        Network, chain and labels.
    hop_s
        Time between outputs in seconds; ``None`` takes the bundle's.
    revise
        Also tell what a network says at lags between the first and the last.
    device, precision
        See :class:`streamscore.runner.Runner`.

    Attributes
    ----------
    labels
        Class names in the order of the probabilities.
    hop_samples
        Samples between outputs.
    kinds
        Kinds of posteriors that are told at each output: ``("final",)``, or a provisional one first.
    n_nonfinite_outputs
        Outputs withheld because the network produced NaN or infinity.
    """

    #: A longer gap is reported by one output instead of one for every hop in it.
    MAX_GAP_POSTERIORS = 600
    #: Samples that no output is due for are put together up to this, because the chain takes as long for one
    #: sample as for a hundred.
    HELD_S = 0.1
    #: Values that go through the network in one call at most when there is a backlog.
    MAX_VALUES = 2**21
    #: Values of consecutive steps of signals that are put together when there is a backlog: enough to make the
    #: overhead of a call small, and few enough for what the layers make of them to stay in the cache.
    BACKLOG_VALUES = 2**16

    def __init__(
        self,
        bundle: Bundle,
        hop_s: float | None = None,
        *,
        revise: bool = False,
        device: Device = "cpu",
        precision: Precision = "float32",
    ) -> None:
        spec = bundle.spec
        timing = bundle.model.timing
        step = timing.step_samples
        hop_s = hop_s or spec.hop_s or step / spec.sfreq
        self.labels = spec.labels
        self.hop_samples = hop_in_samples(hop_s, spec.sfreq, timing)
        self.n_nonfinite_outputs = 0
        self._sfreq = spec.sfreq
        self._timing = timing
        device_ = choose_device(device)
        self._chain = bundle.chain(device_)
        self._chain_lag = self._chain.lag_samples
        self._is_movie = bundle.model.frame_shape is not None
        self._plan = ReadPlan(timing, revise)
        self.kinds = self._plan.kinds
        # Each tick advances one phase by a step; an output is due at every tick or at every so many.
        self._tick = min(self.hop_samples, step)
        self._n_phases = step // self._tick
        self._phases = [Phase() for _ in range(self._n_phases)]
        self.runner = Runner(bundle.model, self._n_phases, device=device, precision=precision)
        sample_shape = bundle.model.frame_shape or (bundle.model.n_channels,)
        # A network that takes each frame as it comes needs no ring of them: they go from chain to network.
        self._is_direct = self._is_movie and step == 1
        n_values = int(np.prod(sample_shape))
        self._max_ticks = max(self.MAX_VALUES // (n_values * step), 1)
        if self._n_phases > 1:
            self._max_ticks = min(self._max_ticks, self._n_phases)
            self._rows = np.empty((self._max_ticks, *bundle.model.input_shape(1, step)[1:]), np.float32)
        n_backlog = 1 if self._is_movie else self.BACKLOG_VALUES // (n_values * step)
        self._room = max(step * max(n_backlog, 1), min(256, self.MAX_VALUES // n_values), 1)
        self._held: list[Segment] = []
        self._next = 0
        # One step behind the oldest output that can be due in one go, and the stamps of what it describes.
        behind = max(step, timing.look_ahead_samples + self._chain_lag + timing.epoch_samples)
        self._ring = Ring(behind + self._room, () if self._is_direct else sample_shape)
        self._warm_from = self._valid_from = self._chain.warm_up_samples
        self._reason = "warming up"

    def push(self, segment: Segment) -> list[Posterior]:
        """Take samples in and return what is due, oldest output first.

        Raises
        ------
        ValueError
            If they do not follow on. A loss has to be told by :meth:`gap`, because the states start afresh.
        """
        if segment.start != self._next:
            raise ValueError(f"samples from {segment.start} on cannot follow sample {self._next - 1}")
        self._held.append(segment)
        self._next += len(segment.data)
        n_held = self._next - self._ring.stop
        if n_held < self.HELD_S * self._sfreq and not self._boundaries(self._ring.stop, self._next):
            return []
        return self._release()

    def _release(self) -> list[Posterior]:
        """Run all that is held through the chain; return what is due."""
        if not self._held:
            return []
        segment = self._held[0]
        if len(self._held) > 1:
            data = np.concatenate([held.data for held in self._held])
            segment = Segment(segment.start, data, np.concatenate([held.stamps_s for held in self._held]))
        self._held.clear()
        posteriors: list[Posterior] = []
        if self._is_direct:
            frames = self._chain.run(segment.data, segment.start)
            self._frames = frames if isinstance(frames, torch.Tensor) else torch.from_numpy(frames)
            self._frames_start = segment.start
            data = np.zeros(len(segment.data), np.float32)
        else:
            data = self._chain.push(segment.data, segment.start)
            if self._is_movie:
                data = data[:, 0]
        for begin in range(0, len(data), self._room):
            end = min(begin + self._room, len(data))
            cursor = self._ring.stop
            self._ring.append(data[begin:end], segment.stamps_s[begin:end])
            posteriors.extend(self._due(cursor, self._ring.stop))
        return posteriors

    def gap(self, gap: Gap) -> list[Posterior]:
        """Start afresh after `gap`; return an invalid ``UNKNOWN`` for each output that it swallowed."""
        self._release()  # no output is due in it, but amplitudes are learnt from it
        self._chain.reset()
        for phase in self._phases:
            phase.n_since_gap = 0
        stop = gap.start + gap.n_samples
        if gap.start < self._warm_from:
            self._warm_from += gap.n_samples  # nothing was learnt from samples that are missing
        boundaries = self._boundaries(gap.start, stop)
        if len(boundaries) > self.MAX_GAP_POSTERIORS:
            boundaries = boundaries[-1:]
        self._ring.skip_to(stop)
        self._next = self._ring.stop
        self._valid_from = max(self._warm_from, stop + self._chain.settle_samples)
        self._reason = f"after gap ({gap.reason})"
        reason = f"gap ({gap.reason})"
        return [
            self._unknown(k, gap.t_s + (k - gap.start) / self._sfreq, entry, reason)
            for k in boundaries
            for entry in self._plan.entries(0, 0)
        ]

    def warm_up(self) -> None:
        """Run the network on zeros, alone and in a full batch, so that the first output is not the slowest."""
        self.runner.warm_up(self._max_ticks if self._n_phases > 1 else 1)

    def notices(self) -> list[tuple[NoticeLevel, str]]:
        """What a person should know about how the network computes here; ask after :meth:`warm_up`."""
        told: list[tuple[NoticeLevel, str]] = [("warning", note) for note in self.runner.notes]
        tick_s = self._tick / self._sfreq
        if self.runner.step_s > tick_s:
            told.append(
                (
                    "warning",
                    f"a step of the network takes {self.runner.step_s:.2g} s here, and one is due every "
                    f"{tick_s:.2g} s: a run at a rig's pace will fall behind; choose a longer hop_s, more threads "
                    "or a lighter network",
                )
            )
        if self.runner.precision != "float32":
            found = self.runner.agreement()
            told.append(
                (
                    "info",
                    f"{self.runner.precision} differs from float32 by at most {found.largest_difference:.1e} in "
                    f"probability on noise; {100 * found.same_state:.0f} % of outputs name the same state",
                )
            )
        return told

    def lag_s(self, kind: PosteriorKind) -> float:
        """Least lag of the outputs of a kind."""
        finals = self._timing.final_reads
        reads = [read for read, is_final in zip(self._timing.reads, finals, strict=True) if is_final]
        if kind != "final" or self._timing.chunk_steps:
            reads = list(self._timing.reads)
        return (reads[0].lag_samples + self._chain_lag) / self._sfreq

    def newest_frame(self) -> FloatArray | None:
        """Return the newest frame ``(height, width)`` that the network was given; ``None`` where there is none."""
        if not self._is_movie or self._ring.stop == self._ring.oldest:
            return None
        newest: FloatArray
        if self._is_direct:
            newest = self._frames[-1, 0].cpu().numpy()
        else:
            newest = self._ring.window(self._ring.stop - 1, self._ring.stop)[0]
        return newest

    def _boundaries(self, cursor: int, stop: int) -> range:
        """Absolute indices in ``(cursor, stop]`` at which an output is due."""
        return _multiples(self.hop_samples, cursor, stop)

    def _due(self, cursor: int, stop: int) -> list[Posterior]:
        """Advance the network by the ticks in ``(cursor, stop]``; return the outputs due."""
        posteriors: list[Posterior] = []
        first_valid = max(self._valid_from, self._ring.run_start)
        ticks = _multiples(self._tick, cursor, stop)
        n_early = sum(tick - self._timing.step_samples < first_valid for tick in ticks)
        for tick in ticks[:n_early]:
            if tick % self.hop_samples == 0:
                posteriors.extend(self._tell(tick, None, None, self._reason))
        ready = ticks[n_early:]
        for at in range(0, len(ready), self._max_ticks):
            posteriors.extend(self._advance(ready[at : at + self._max_ticks]))
        return posteriors

    def _advance(self, ticks: range) -> list[Posterior]:
        """Run consecutive ticks in one call: steps of the only phase, or one step each of several phases."""
        step = self._timing.step_samples
        numbers = [(tick // self._tick) % self._n_phases for tick in ticks]
        if self._is_direct:
            at = ticks[0] - step - self._frames_start
            x = self._frames[at : at + len(ticks), 0][None]
            numbers = numbers[:1]
        elif self._n_phases == 1 or len(ticks) == 1:
            window = self._ring.window(ticks[0] - step, ticks[-1])
            x = torch.from_numpy(window if self._is_movie else window.T)[None]
            numbers = numbers[:1]
        else:
            for row, tick in enumerate(ticks):
                window = self._ring.window(tick - step, tick)
                self._rows[row] = window if self._is_movie else window.T
            x = torch.from_numpy(self._rows[: len(ticks)])
        for number, tick in zip(numbers, ticks, strict=False):
            phase = self._phases[number]
            if phase.n_since_gap == 0 and phase.n_steps:
                self.runner.after_gap(number, (tick - phase.last_tick) // step - 1)
        probs = self.runner.step(x, numbers).reshape(len(ticks), -1, len(self.labels))
        posteriors: list[Posterior] = []
        for k, tick in enumerate(ticks):
            phase = self._phases[numbers[k] if len(numbers) > 1 else numbers[0]]
            is_finite = bool(np.isfinite(probs[k]).all())
            if is_finite:
                phase.advance(tick)
            else:
                self.n_nonfinite_outputs += 1
                phase.begin_afresh()
            if tick % self.hop_samples == 0:
                reason = self._reason if is_finite else "non-finite network output"
                posteriors.extend(self._tell(tick, phase, probs[k], reason))
        return posteriors

    def _tell(self, tick: int, phase: Phase | None, probs: FloatArray | None, reason: str) -> list[Posterior]:
        """Posteriors of the output at `tick` after the steps of `phase`; `reason` where there are none."""
        t_s = self._ring.stamp_s(tick - 1) + 1.0 / self._sfreq
        entries = self._plan.entries(phase.n_steps, phase.n_since_gap) if phase else self._plan.entries(0, 0)
        return [
            self._posterior(tick, t_s, entry, probs[entry.read])
            if entry.usable and probs is not None
            else self._unknown(tick, t_s, entry, reason)
            for entry in entries
        ]

    def _posterior(self, tick: int, t_s: float, entry: Entry, probs: FloatArray) -> Posterior:
        lag_samples = self._timing.reads[entry.read].lag_samples + self._chain_lag
        stop = tick - lag_samples
        start = stop - self._timing.epoch_samples
        lag_s = lag_samples / self._sfreq
        t_stop_s = t_s - lag_s
        in_ring = start >= self._ring.oldest
        return Posterior(
            start=start,
            stop=stop,
            t_start_s=self._ring.stamp_s(start) if in_ring else t_stop_s - (stop - start) / self._sfreq,
            t_stop_s=t_stop_s,
            probs=tuple(probs.tolist()),
            state=self.labels[int(probs.argmax())],
            valid=True,
            kind=entry.kind,
            lag_s=lag_s,
        )

    def _unknown(self, tick: int, t_s: float, entry: Entry, reason: str) -> Posterior:
        lag_samples = self._timing.reads[entry.read].lag_samples + self._chain_lag
        stop = tick - lag_samples
        start = stop - self._timing.epoch_samples
        lag_s = lag_samples / self._sfreq
        t_stop_s = t_s - lag_s
        t_start_s = t_stop_s - self._timing.epoch_samples / self._sfreq
        return Posterior(start, stop, t_start_s, t_stop_s, (), UNKNOWN, False, reason, entry.kind, lag_s)


def _multiples(of: int, cursor: int, stop: int) -> range:
    """Multiples in ``(cursor, stop]``."""
    return range((cursor // of + 1) * of, stop + 1, of)
