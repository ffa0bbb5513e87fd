"""From samples to posteriors: chain → ring → network, and the book-keeping of lag.

An output is due at every multiple of the hop on the absolute index. A network that consumes one epoch a step
(30 s) but is asked every hop (1 s) runs as `step / hop` interleaved streams, *phases*: each has its own
recurrent state and sees consecutive epochs, so that every single output is the network exactly as published,
run on the recording from that phase on. Phase 0 is the grid of the recording's start.

Outputs are produced for the samples, never for the chunks they came in: when several are due, they go through
the network as one batch of phases.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from streamscore.bundle import Bundle
from streamscore.errors import ConfigError
from streamscore.labels import UNKNOWN
from streamscore.ring import Ring
from streamscore.types import FloatArray, Gap, Posterior, Segment


class PosteriorSource(Protocol):
    """What the engine needs from a scorer."""

    labels: tuple[str, ...]
    hop_samples: int
    lag_s: float

    def push(self, segment: Segment) -> list[Posterior]: ...

    def gap(self, gap: Gap) -> list[Posterior]: ...

    def warm_up(self) -> None: ...


def hop_in_samples(hop_s: float, sfreq: float, step_samples: int) -> int:
    """Return the hop in samples; `step_samples` is 0 where there is no network.

    Raises
    ------
    ConfigError
        If it is not a whole number of samples, or does not divide the network's step.
    """
    hop_samples = round(hop_s * sfreq)
    if hop_samples < 1 or abs(hop_samples - hop_s * sfreq) > 1e-6:
        raise ConfigError(f"hop_s {hop_s:g} is not a whole number of samples at {sfreq:g} Hz")
    if step_samples % hop_samples:
        raise ConfigError(
            f"hop_s {hop_s:g} does not divide the network's step of {step_samples / sfreq:g} s; "
            "choose 1, 2, 5, 10 … seconds"
        )
    return hop_samples


class Unscored:
    """Stands in for a scorer when there is no bundle: an invalid ``UNKNOWN`` at every hop."""

    def __init__(self, hop_samples: int, sfreq: float) -> None:
        self.labels: tuple[str, ...] = ()
        self.hop_samples = hop_samples
        self.lag_s = 0.0
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


class Scorer:
    """Run a bundle on a stream.

    Parameters
    ----------
    bundle
        Network, chain and labels.
    hop_s
        Time between outputs in seconds; ``None`` takes the bundle's.

    Attributes
    ----------
    labels
        Class names in the order of the probabilities.
    hop_samples
        Samples between outputs.
    lag_s
        Algorithmic lag of final outputs in seconds.
    n_nonfinite_outputs
        Outputs withheld because the network produced NaN or infinity.
    """

    #: A longer gap is reported by one posterior instead of one for every hop in it.
    MAX_GAP_POSTERIORS = 600
    #: Samples that no output is due for are put together up to this, because the chain takes as long for one
    #: sample as for a hundred.
    HELD_S = 0.1

    def __init__(self, bundle: Bundle, hop_s: float | None = None) -> None:
        spec = bundle.spec
        timing = bundle.model.timing
        self.labels = spec.labels
        self.hop_samples = hop_in_samples(hop_s or spec.hop_s, spec.sfreq, timing.step_samples)
        self.lag_s = timing.look_ahead_samples / spec.sfreq
        self.n_nonfinite_outputs = 0
        self._sfreq = spec.sfreq
        self._timing = timing
        self._model = bundle.model
        self._chain = bundle.chain()
        self._n_phases = timing.step_samples // self.hop_samples
        self._state = self._model.initial_state(self._n_phases)
        self._fresh = self._model.initial_state(1)
        n_channels = len(spec.channels)
        # Room for one step behind the oldest output that can be due in one go.
        self._held: list[Segment] = []
        self._next = 0
        self._ring = Ring(2 * timing.step_samples + timing.look_ahead_samples, n_channels)
        self._input = torch.zeros(self._n_phases, n_channels, timing.step_samples)
        self._input_rows = self._input.numpy()
        self._warm_from = self._valid_from = self._chain.warm_up_samples
        self._reason = "warming up"

    def push(self, segment: Segment) -> list[Posterior]:
        """Take samples in and return what is due, oldest first.

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
        data = self._chain.push(segment.data, segment.start)
        posteriors: list[Posterior] = []
        room = self._timing.step_samples
        for begin in range(0, len(data), room):
            end = min(begin + room, len(data))
            cursor = self._ring.stop
            self._ring.append(data[begin:end], segment.stamps_s[begin:end])
            posteriors.extend(self._due(cursor, self._ring.stop))
        return posteriors

    def gap(self, gap: Gap) -> list[Posterior]:
        """Start afresh after `gap`; return an invalid ``UNKNOWN`` for each output that it swallowed."""
        self._release()  # no output is due in it, but amplitudes are learnt from it
        self._chain.reset()
        for part, fresh in zip(self._state, self._fresh, strict=True):
            part.copy_(fresh.expand_as(part))
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
        return [
            self._unknown(k, gap.t_s + (k - gap.start) / self._sfreq, f"gap ({gap.reason})") for k in boundaries
        ]

    def warm_up(self) -> None:
        """Run the network on zeros, alone and in a full batch, so that the first output is not the slowest."""
        with torch.inference_mode():
            for batch_size in (1, self._n_phases, 1):
                x = self._input[:batch_size]
                for _ in range(3):
                    self._model(x, self._model.initial_state(batch_size))

    def _boundaries(self, cursor: int, stop: int) -> range:
        """Absolute indices in ``(cursor, stop]`` at which an output is due."""
        hop = self.hop_samples
        return range((cursor // hop + 1) * hop, stop + 1, hop)

    def _due(self, cursor: int, stop: int) -> list[Posterior]:
        posteriors: list[Posterior] = []
        batch: list[int] = []
        for boundary in self._boundaries(cursor, stop):
            if boundary - self._timing.look_ahead_samples - self._timing.warm_up_samples < self._first_valid():
                t_s = self._ring.stamp_s(boundary - 1) + 1.0 / self._sfreq
                posteriors.append(self._unknown(boundary, t_s, self._reason))
                continue
            batch.append(boundary)
            if len(batch) == self._n_phases:
                posteriors.extend(self._score(batch))
                batch = []
        if batch:
            posteriors.extend(self._score(batch))
        return posteriors

    def _first_valid(self) -> int:
        return max(self._valid_from, self._ring.run_start)

    def _score(self, boundaries: list[int]) -> list[Posterior]:
        """Run the outputs due at `boundaries`, which are at most one per phase, as one batch."""
        n = len(boundaries)
        step = self._timing.step_samples
        for row, boundary in enumerate(boundaries):
            self._input_rows[row] = self._ring.window(boundary - step, boundary).T
        phases = [(b // self.hop_samples) % self._n_phases for b in boundaries]
        # A rig's outputs come one at a time, and a slice costs a third of what indices cost.
        where = slice(phases[0], phases[0] + 1) if n == 1 else torch.tensor(phases)
        with torch.inference_mode():
            state = tuple(part[where] for part in self._state)
            logits, new_state = self._model(self._input[:n], state)
            probs = torch.softmax(logits[:, -1].float(), dim=-1).numpy()
            finite = np.isfinite(probs).all(axis=1)
            for part, new, fresh in zip(self._state, new_state, self._fresh, strict=True):
                if not finite.all():
                    new[~torch.from_numpy(finite)] = fresh
                part[where] = new
        return [self._posterior(b, probs[row], bool(finite[row])) for row, b in enumerate(boundaries)]

    def _posterior(self, boundary: int, probs: FloatArray, finite: bool) -> Posterior:
        t_s = self._ring.stamp_s(boundary - 1) + 1.0 / self._sfreq
        if not finite:
            self.n_nonfinite_outputs += 1
            return self._unknown(boundary, t_s, "non-finite network output")
        stop = boundary - self._timing.look_ahead_samples
        start = stop - self._timing.step_samples
        return Posterior(
            start=start,
            stop=stop,
            t_start_s=self._ring.stamp_s(start),
            t_stop_s=t_s - self.lag_s,
            probs=tuple(probs.tolist()),
            state=self.labels[int(probs.argmax())],
            valid=True,
            lag_s=self.lag_s,
        )

    def _unknown(self, boundary: int, t_s: float, reason: str) -> Posterior:
        stop = boundary - self._timing.look_ahead_samples
        start = stop - self._timing.step_samples
        t_stop_s = t_s - self.lag_s
        t_start_s = t_stop_s - self._timing.step_samples / self._sfreq
        return Posterior(start, stop, t_start_s, t_stop_s, (), UNKNOWN, False, reason, lag_s=self.lag_s)
