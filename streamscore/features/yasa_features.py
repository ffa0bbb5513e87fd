"""What YASA measures on an epoch of 30 s, and how it smooths and scales it over a night.

Source: Vallat & Walker, "An open-source, high-performance tool for automated sleep staging", eLife 2021,
doi:10.7554/eLife.70092, and the behaviour of the package yasa 0.8.1; ``yasa_classifier`` compares with the package
that is installed.

YASA, MNE and antropy are imported when something is built, never with this module, so that a computer without
them can list the network.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.integrate import trapezoid
from scipy.signal import oaconvolve, welch
from scipy.signal.windows import triang

from streamscore.errors import ConfigError

Floats = npt.NDArray[np.float64]

#: Rate at which everything is measured, in Hz.
SFREQ = 100
EPOCH_S = 30
EPOCH_SAMPLES = SFREQ * EPOCH_S

#: Pass band in Hz; YASA filters EEG, EOG and EMG alike.
PASS_BAND_HZ = (0.4, 30.0)
BANDS_HZ = {
    "sdelta": (0.4, 1.0),
    "fdelta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 12.0),
    "sigma": (12.0, 16.0),
    "beta": (16.0, 30.0),
}
SHAPE = ("std", "iqr", "skew", "kurt", "nzc", "hmob", "hcomp")
RATIOS = ("dt", "ds", "db", "at")
COMPLEXITY = ("abspow", "perm", "higuchi", "petrosian")

#: Epochs on either side that the centred mean reaches to (7.5 min in all).
REACH_EPOCHS = 7
#: Epochs of the mean of the past 2 min.
PAST_EPOCHS = 4
QUANTILES = (0.05, 0.5, 0.95)


def package(name: str) -> Any:
    """Import a package that comes with YASA.

    Raises
    ------
    ConfigError
        If it is not installed; names the remedy.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"network 'yasa' needs the package {error.name!r}, which is not installed; "
            "run: pip install 'streamscore[yasa]'"
        ) from error


def names(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the features of channels of these kinds (``eeg``, ``eog``, ``emg``), in column order."""
    parts = {
        "eeg": SHAPE + tuple(BANDS_HZ) + RATIOS + COMPLEXITY,
        "eog": SHAPE + tuple(BANDS_HZ) + COMPLEXITY,
        "emg": SHAPE + COMPLEXITY,
    }
    return tuple(f"{kind}_{name}" for kind in kinds for name in parts[kind])


def smoothed_names(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Names of what :func:`smooth` returns, scaled, as YASA calls them."""
    return tuple(f"{name}_{window}_norm" for window in ("c7min", "p2min") for name in names(kinds))


class Filter:
    """Bring a piece of signal to 100 Hz and filter it, as YASA does with a whole file.

    Both ends are continued by odd reflection, which is what MNE does at the ends of a file. What lies `REACH_S` or
    more from an end does not depend on that.

    Parameters
    ----------
    sfreq
        Rate of the input in Hz, a whole number.
    """

    #: Half length of the kernel that changes the rate. MNE's is a sinc as long as the file. This one and half of
    #: the band-pass fit into the epoch that follows. It differs within 0.1 Hz of 50 Hz, where the band-pass lets
    #: 0.1 % through.
    RESAMPLE_S = 25
    KAISER_BETA = 12.0
    BAND_PASS_S = 4.12
    #: How far an output looks to either side.
    REACH_S = RESAMPLE_S + BAND_PASS_S

    def __init__(self, sfreq: int) -> None:
        self.sfreq = sfreq
        self.taps = _band_pass_taps()
        # Below 100 Hz nothing can be folded back, so the kernel ends before its input does.
        cut_hz = SFREQ / 2 if sfreq > SFREQ else sfreq / 2 - 0.1
        n = np.arange(self.RESAMPLE_S * sfreq + 1)
        window = np.kaiser(2 * n[-1] + 1, self.KAISER_BETA)[n[-1] :]
        #: Right half of the symmetric resampling kernel.
        self._kernel = 2.0 * cut_hz / sfreq * np.sinc(2.0 * cut_hz / sfreq * n) * window

    def __call__(self, x: Floats) -> Floats:
        """Map ``(channels, whole seconds at sfreq)`` to ``(channels, the same seconds at 100 Hz)``.

        `x` must be longer than the resampling kernel's half, 25 s.
        """
        y = x if self.sfreq == SFREQ else self._resample(x)
        half = len(self.taps) // 2
        filtered: Floats = oaconvolve(_reflect(y, half), self.taps[None], mode="valid", axes=-1)
        return filtered

    def _resample(self, x: Floats) -> Floats:
        n_edge = self.RESAMPLE_S * self.sfreq
        padded = _reflect(x, n_edge)
        # Whole seconds, so that both rates have whole numbers of samples.
        n_s = next_fast_len(padded.shape[-1] // self.sfreq, real=True)
        kernel = np.zeros(n_s * self.sfreq)
        kernel[: len(self._kernel)] = self._kernel
        kernel[-len(self._kernel) + 1 :] = self._kernel[:0:-1]
        spectrum = rfft(padded, len(kernel)) * rfft(kernel).real
        n_out = n_s * SFREQ
        half = n_out // 2
        if n_out < len(kernel):
            # The kernel ends in time, so it does not end sharply at 50 Hz: what passes above is folded back.
            above = spectrum[..., half + 1 : n_out + 1]
            spectrum = spectrum[..., : half + 1].copy()
            spectrum[..., half - above.shape[-1] : half] += above[..., ::-1].conj()
            spectrum[..., half] *= 2.0
        start = self.RESAMPLE_S * SFREQ
        resampled: Floats = irfft(spectrum, n_out) * (n_out / len(kernel))
        return resampled[..., start : start + x.shape[-1] * SFREQ // self.sfreq]


@cache
def _band_pass_taps() -> Floats:
    low, high = PASS_BAND_HZ
    taps: Floats = package("mne").filter.create_filter(None, float(SFREQ), low, high, verbose=False)
    return taps


def _reflect(x: Floats, n: int) -> Floats:
    """Continue `x` by `n` samples on either side, turned about its first and its last sample."""
    first, last = x[..., :1], x[..., -1:]
    left, right = 2.0 * first - x[..., n:0:-1], 2.0 * last - x[..., -2 : -n - 2 : -1]
    return np.concatenate((left, x, right), axis=-1)


def measure(filtered: Floats, kinds: tuple[str, ...]) -> Floats:
    """Measure epochs.

    Parameters
    ----------
    filtered
        ``(channels, n_epochs * 3000)`` in µV at 100 Hz.
    kinds
        ``eeg``, ``eog`` or ``emg`` for each channel.

    Returns
    -------
    ``(n_epochs, n_features)`` in the order of :func:`names`; NaN where a flat epoch leaves a feature undefined.
    """
    epochs = filtered.reshape(len(kinds), -1, EPOCH_SAMPLES)
    return np.concatenate([_measure_channel(epochs[k], kind) for k, kind in enumerate(kinds)], axis=1)


def _measure_channel(epochs: Floats, kind: str) -> Floats:
    antropy = package("antropy")
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = epochs - epochs.mean(axis=1, keepdims=True)
        squared = deviation**2
        variance = squared.mean(axis=1)
        lower, upper = np.quantile(epochs, (0.25, 0.75), axis=1)
        mobility, complexity = antropy.hjorth_params(epochs, axis=1)
        columns = [
            np.std(epochs, ddof=1, axis=1),
            upper - lower,
            (squared * deviation).mean(axis=1) / variance**1.5,
            (squared**2).mean(axis=1) / variance**2 - 3.0,
            antropy.num_zerocross(epochs, axis=1),
            mobility,
            complexity,
        ]
        freqs, density = welch(epochs, SFREQ, window="hamming", nperseg=5 * SFREQ, average="median")
        if kind != "emg":
            bands = [(low, high, name) for name, (low, high) in BANDS_HZ.items()]
            power = package("yasa").bandpower_from_psd_ndarray(density, freqs, bands=bands)
            columns.extend(power)
        if kind == "eeg":
            slow, fast, theta, alpha, sigma, beta = power
            delta = slow + fast
            columns.extend((delta / theta, delta / sigma, delta / beta, alpha / theta))
        inside = (freqs >= PASS_BAND_HZ[0]) & (freqs <= PASS_BAND_HZ[1])
        columns += [
            trapezoid(density[:, inside], dx=freqs[1] - freqs[0]),
            np.array([antropy.perm_entropy(epoch, normalize=True) for epoch in epochs]),
            np.array([antropy.higuchi_fd(epoch) for epoch in epochs]),
            antropy.petrosian_fd(epochs, axis=1),
        ]
    return np.stack(columns, axis=1).astype(np.float64)


def smooth(features: Floats) -> Floats:
    """Average features over neighbouring epochs, as YASA does over a file that holds these epochs.

    Means leave out epochs beyond either end, and those where a feature is not finite.

    Parameters
    ----------
    features
        ``(n_epochs, n_features)``.

    Returns
    -------
    ``(n_epochs, 2 * n_features)``: the centred triangular mean of 15 epochs, then the mean of this epoch and the
    three before.
    """
    is_known = np.isfinite(features)
    values = np.where(is_known, features, 0.0)
    weights = triang(2 * REACH_EPOCHS + 1)
    centred = _weighted_mean(values, is_known, weights, REACH_EPOCHS)
    past = _weighted_mean(values, is_known, np.ones(PAST_EPOCHS), 0)
    return np.concatenate((centred, past), axis=1)


def _weighted_mean(values: Floats, is_known: npt.NDArray[np.bool_], weights: Floats, n_after: int) -> Floats:
    """Mean over windows of `weights` that end `n_after` epochs after each epoch; NaN where nothing is known."""
    edges = ((len(weights) - 1 - n_after, n_after), (0, 0))
    padded, known = np.pad(values, edges), np.pad(is_known.astype(np.float64), edges)
    total, weight = np.zeros_like(values), np.zeros_like(values)
    for k, w in enumerate(weights):
        total += w * padded[k : k + len(values)]
        weight += w * known[k : k + len(values)]
    mean: Floats = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return mean


def robust_statistics(smoothed: Floats) -> Floats:
    """Median, and distance of the quantiles 0.05 and 0.95, of each column; NaN is left out.

    Returns
    -------
    ``(2, n_columns)``. A distance of zero becomes 1, so that a constant column scales to 0; so does that of a
    column in which nothing is known.
    """
    ordered = np.sort(smoothed, axis=0)  # NaN comes last
    last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
    column = np.arange(ordered.shape[1])
    quantiles = []
    for quantile in QUANTILES:
        position = quantile * last
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, last)
        low, high = ordered[below, column], ordered[above, column]
        quantiles.append(low + (high - low) * (position - below))
    low, median, high = quantiles
    spread = high - low
    is_constant = ~(spread >= 10.0 * np.finfo(np.float64).eps)
    return np.stack((np.nan_to_num(median), np.where(is_constant, 1.0, spread)))
