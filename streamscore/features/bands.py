"""Numbers that describe one epoch of EEG or EMG: band powers, spectral entropy, Hjorth parameters, zero crossings.

The feature set is our own choice (MODELS.md 6.5: the papers that quote SVM and random forest publish none). Each
epoch is described by itself, in torch and float32, so that training and rig compute the same numbers.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

#: Delta, theta, alpha, sigma, beta and low gamma, in Hz; a band holds its lower edge and not its upper one.
EDGES_HZ = (0.5, 4.0, 8.0, 12.0, 16.0, 30.0, 45.0)
#: What is computed besides the bands.
SHAPE_FEATURES = ("spectral_entropy", "hjorth_activity", "hjorth_mobility", "hjorth_complexity", "zero_crossings")


class BandArguments(BaseModel):
    """Arguments of :class:`BandFeatures`, shared by the networks that use it.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz.
    n_channels
        Inputs, each described by the same features.
    epoch_s
        Length of the interval that is described.
    segment_s
        Length of Welch's segments, which overlap by half; the spectrum is resolved to ``1 / segment_s`` Hz.
    edges_hz
        Rising edges of the bands, each band reaching from one edge to the next.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sfreq: float = Field(100.0, gt=0)
    n_channels: int = Field(1, ge=1)
    epoch_s: float = Field(30.0, gt=0)
    segment_s: float = Field(2.0, gt=0)
    edges_hz: tuple[float, ...] = Field(EDGES_HZ, min_length=2)

    @model_validator(mode="after")
    def _check(self) -> BandArguments:
        if list(self.edges_hz) != sorted(set(self.edges_hz)) or self.edges_hz[0] < 0:
            raise ValueError(f"edges_hz {self.edges_hz} must rise from 0 Hz or above")
        if self.edges_hz[-1] > self.sfreq / 2:
            raise ValueError(
                f"edges_hz end at {self.edges_hz[-1]:g} Hz, above half the sampling rate of {self.sfreq:g} Hz; "
                "leave out the bands that the recording cannot hold"
            )
        if self.segment_s > self.epoch_s:
            raise ValueError(f"segment_s {self.segment_s:g} is longer than epoch_s {self.epoch_s:g}")
        if self.segment_samples < 2:
            raise ValueError(f"segment_s {self.segment_s:g} holds fewer than 2 samples at {self.sfreq:g} Hz")
        for low_hz, high_hz in pairwise(self.edges_hz):
            if not _bins(self, low_hz, high_hz):
                raise ValueError(
                    f"the band {low_hz:g} to {high_hz:g} Hz holds no frequency of a segment of "
                    f"{self.segment_s:g} s; choose a longer segment_s or a wider band"
                )
        return self

    @property
    def epoch_samples(self) -> int:
        """Samples of an epoch."""
        return round(self.epoch_s * self.sfreq)

    @property
    def segment_samples(self) -> int:
        """Samples of one of Welch's segments."""
        return round(self.segment_s * self.sfreq)


def _bins(arguments: BandArguments, low_hz: float, high_hz: float) -> range:
    """Frequencies of the spectrum, by number, that lie in ``[low_hz, high_hz)``."""
    n = arguments.segment_samples
    width_hz = arguments.sfreq / n
    # An edge that is a frequency of the spectrum must not fall on the wrong side by rounding.
    first, end = (math.ceil(edge_hz / width_hz - 1e-9) for edge_hz in (low_hz, high_hz))
    return range(first, min(end, n // 2 + 1))


class BandFeatures(nn.Module):
    """Features of epochs, z-scored with the statistics of the training set, which are stored as buffers.

    Per channel, in this order (:attr:`names`):

    * natural logarithm of the mean power density in each band (Welch: Hann window, half overlap, each segment
      without its mean);
    * each band's share of the power of all bands;
    * spectral entropy of the bins of all bands, 0 (one line) to 1 (flat);
    * logarithm of Hjorth's activity (variance), mobility and complexity;
    * share of the samples before which the signal, without its mean, changed sign.

    A silent channel gives finite numbers.
    """

    #: Keeps logarithms and quotients finite; far below the power of any real signal, in V²/Hz too.
    FLOOR = 1e-20

    window: Tensor
    gain: Tensor
    bands: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, arguments: BandArguments) -> None:
        super().__init__()
        self.arguments = arguments
        n = arguments.segment_samples
        window = torch.hann_window(n, periodic=True)
        # One-sided density: all frequencies but 0 Hz and, of an even number of samples, Nyquist's count twice.
        gain = torch.full((n // 2 + 1,), 2.0)
        gain[0] = 1.0
        if n % 2 == 0:
            gain[-1] = 1.0
        spans = [_bins(arguments, low_hz, high_hz) for low_hz, high_hz in pairwise(arguments.edges_hz)]
        bands = torch.zeros(len(spans), n // 2 + 1)
        for band, span in zip(bands, spans, strict=True):
            band[span.start : span.stop] = 1.0
        self._in_any_band = slice(spans[0].start, spans[-1].stop)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("gain", gain / (arguments.sfreq * window.square().sum()), persistent=False)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("mean", torch.zeros(self.n_features))
        self.register_buffer("std", torch.ones(self.n_features))

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature, such as ``0:power_4_8hz``: channel, then what it is."""
        spans = [f"{low:g}_{high:g}hz" for low, high in pairwise(self.arguments.edges_hz)]
        one = [*(f"power_{s}" for s in spans), *(f"share_{s}" for s in spans), *SHAPE_FEATURES]
        return tuple(f"{channel}:{name}" for channel in range(self.arguments.n_channels) for name in one)

    @property
    def n_features(self) -> int:
        """Features of an epoch, all channels together."""
        n_bands = len(self.arguments.edges_hz) - 1
        return self.arguments.n_channels * (2 * n_bands + len(SHAPE_FEATURES))

    def density(self, epochs: Tensor) -> Tensor:
        """Welch's power density ``(..., n_frequencies)`` of ``(..., samples)``, in squared units per Hz."""
        n = self.arguments.segment_samples
        segments = epochs.unfold(-1, n, n - n // 2)
        segments = (segments - segments.mean(dim=-1, keepdim=True)) * self.window
        spectrum = torch.fft.rfft(segments, dim=-1)
        power = (spectrum.real.square() + spectrum.imag.square()).mean(dim=-2)
        density: Tensor = power * self.gain
        return density

    def raw(self, epochs: Tensor) -> Tensor:
        """Map ``(n, n_channels, samples)`` to features ``(n, n_features)`` in their own units."""
        density = self.density(epochs)
        # Divided first: sums and products of densities in V²/Hz would leave float32's range.
        total = density[..., self._in_any_band].sum(dim=-1, keepdim=True).clamp(min=self.FLOOR)
        relative = density / total
        share = relative @ self.bands.T
        power = share * total / self.bands.sum(dim=-1)
        p = relative[..., self._in_any_band]
        entropy = -torch.special.xlogy(p, p).sum(dim=-1) / math.log(max(p.shape[-1], 2))

        x = epochs - epochs.mean(dim=-1, keepdim=True)
        slope = x.diff(dim=-1)
        variances = [v.var(dim=-1, correction=0).clamp(min=self.FLOOR) for v in (x, slope, slope.diff(dim=-1))]
        activity, of_slope, of_curvature = variances
        mobility = (of_slope / activity).sqrt()
        complexity = (of_curvature / of_slope).sqrt() / mobility
        crossings = (x >= 0).diff(dim=-1).float().mean(dim=-1)
        shape = torch.stack((entropy, activity.log(), mobility, complexity, crossings), dim=-1)
        return torch.cat((power.clamp(min=self.FLOOR).log(), share, shape), dim=-1).flatten(1)

    def forward(self, epochs: Tensor) -> Tensor:
        """Map ``(n, n_channels, samples)`` to z-scored features ``(n, n_features)``."""
        return (self.raw(epochs) - self.mean) / self.std

    def standardise(self, raw: Tensor) -> None:
        """Take the z-score's statistics from the features ``(n, n_features)`` of a training set."""
        self.mean.copy_(raw.double().mean(dim=0))
        std = raw.double().std(dim=0, correction=0)
        self.std.copy_(torch.where(std > 0, std, 1.0))  # a feature that never varied says nothing
