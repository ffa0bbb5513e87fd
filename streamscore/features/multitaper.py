"""Multitaper spectrogram with the scaling of Chronux, each column computed once.

Source: MODELS.md 3.1. Column `i` covers the samples ``[step * i, step * i + window)`` from the stream's start, so
that it does not depend on how the stream is cut.
"""

from __future__ import annotations

import math

import torch
from scipy.signal.windows import dpss
from torch import Tensor, nn

#: Columns that are transformed at once; it bounds the memory that a whole night takes.
BLOCK = 1024


class Multitaper(nn.Module):
    """Power spectral density (unit²/Hz, one-sided bins that are not doubled) of overlapping windows, no detrend.

    The tapers have unit energy and are scaled by ``sqrt(sfreq)``, the FFT is divided by `sfreq`; the power is the
    mean over tapers of the squared magnitude. It is computed in double precision: what follows cuts the power into
    levels, and rounding must not move a value into another level.

    Parameters
    ----------
    window_samples, step_samples
        Length of a window, and from one window to the next; the step is not longer than the window.
    sfreq
        Sampling rate in Hz.
    max_hz
        Highest frequency kept.
    time_bandwidth, n_tapers
        Of the DPSS tapers.

    Attributes
    ----------
    n_bins
        Frequencies from 0 to `max_hz`, ``sfreq / n_fft`` apart.
    n_fft
        Next power of two from the window.
    """

    tapers: Tensor

    def __init__(
        self,
        window_samples: int = 300,
        step_samples: int = 67,
        sfreq: float = 100.0,
        max_hz: float = 30.0,
        time_bandwidth: float = 3.0,
        n_tapers: int = 5,
    ) -> None:
        super().__init__()
        if not 1 <= step_samples <= window_samples:
            raise ValueError(f"a step of {step_samples} samples must be 1 … the window, {window_samples} samples")
        self.window_samples = window_samples
        self.step_samples = step_samples
        self.n_fft = 1 << (window_samples - 1).bit_length()
        self.n_bins = min(math.floor(max_hz * self.n_fft / sfreq), self.n_fft // 2) + 1
        tapers = dpss(window_samples, time_bandwidth, Kmax=n_tapers, norm=2) / math.sqrt(sfreq)
        self.register_buffer("tapers", torch.from_numpy(tapers), persistent=False)

    def n_columns(self, n_samples: int) -> int:
        """Columns that are complete after `n_samples` samples of a stream."""
        return max(0, (n_samples - self.window_samples) // self.step_samples + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Power ``(n_columns, n_bins)``, double, of all whole windows of a signal ``(n_samples,)``."""
        n_columns = self.n_columns(x.shape[0])
        if n_columns == 0:
            return self.tapers.new_zeros(0, self.n_bins)
        windows = x.unfold(0, self.window_samples, self.step_samples)
        return torch.cat([self._power(block) for block in torch.split(windows, BLOCK)])

    def _power(self, windows: Tensor) -> Tensor:
        spectra = torch.fft.rfft(windows[:, None] * self.tapers, n=self.n_fft)[..., : self.n_bins]
        power: Tensor = spectra.real.square() + spectra.imag.square()
        return power.mean(dim=1)

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return the state of streams that have seen nothing.

        Returns
        -------
        tail
            The newest samples, ``(batch, window_samples - 1)``.
        n_seen
            Samples since the start of the stream, ``(batch, 1)``, integers; rows may differ.
        """
        tail = torch.zeros(batch_size, self.window_samples - 1, device=self.tapers.device)
        return tail, torch.zeros(batch_size, 1, dtype=torch.int64, device=tail.device)

    def push(self, x: Tensor, tail: Tensor, n_seen: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """Compute the columns that new samples ``(batch, n_samples)`` complete.

        Returns
        -------
        columns
            For each row ``(n_new, n_bins)``, double; rows at other positions may complete another number.
        state
            ``(tail, n_seen)`` for the next call.
        """
        samples = torch.cat((tail, x), dim=1)
        columns = []
        for row, seen in zip(samples, n_seen[:, 0].tolist(), strict=True):
            next_start = self.n_columns(seen) * self.step_samples
            columns.append(self(row[next_start - seen + tail.shape[1] :]))
        tail = samples[:, samples.shape[1] - tail.shape[1] :].clone()
        return columns, (tail, n_seen + x.shape[1])
