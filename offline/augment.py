"""How examples are altered in training, so that a network does not learn an electrode's gain or a bulb's.

Applied to what stands behind the chain: signals ``(n, n_channels, n_samples)`` or movies ``(n, n_samples, height,
width)``. Sources: circular shifts as in TinySleepNet, erased regions as in U-Time; the spectral tilt is ours.
"""

from __future__ import annotations

import numpy as np
import torch

from offline.recipe import Augment
from streamscore.types import FloatArray


def augment(
    x: FloatArray, config: Augment, sfreq: float, step_samples: int, rng: np.random.Generator
) -> FloatArray:
    """Return altered examples; `x` itself is not modified."""
    if x.ndim == 3 and (config.gain or config.tilt or config.shift):
        x = _filtered(x, config, sfreq, step_samples, rng)
    per_example = (len(x), *(1,) * (x.ndim - 1))
    per_channel = (*x.shape[:2], *(1,) * (x.ndim - 2)) if x.ndim == 3 else per_example
    if config.offset:
        # What all channels share, and what each has for itself.
        added = rng.standard_normal(per_example) + rng.standard_normal(per_channel)
        x = x + (config.offset * added).astype(np.float32)
    if config.noise:
        std = (config.noise * rng.random(per_channel)).astype(np.float32)
        x = x + std * rng.standard_normal(x.shape, dtype=np.float32)
    if config.left_out and x.ndim == 3:
        kept = (rng.random(per_channel) >= config.left_out) / (1.0 - config.left_out)
        x = x * kept.astype(np.float32)
    if config.erase:
        x = _erased(x, config.erase, rng)
    if config.flip and x.ndim == 4:
        mirrored = rng.random(len(x)) < config.flip
        x = np.where(mirrored[:, None, None, None], x[..., ::-1], x)
    return x


def _filtered(
    x: FloatArray, config: Augment, sfreq: float, step_samples: int, rng: np.random.Generator
) -> FloatArray:
    """Change gain, spectral slope and alignment of signals."""
    n, n_channels, n_samples = x.shape
    f_hz = np.fft.rfftfreq(n_samples, 1.0 / sfreq)
    octaves = np.log2(np.maximum(f_hz, 0.3) / 4.0)
    gain, tilt = (std * rng.standard_normal((n, n_channels, 1)) for std in (config.gain, config.tilt))
    shift_s = config.shift * step_samples / sfreq * rng.uniform(-1.0, 1.0, (n, 1, 1))
    response = np.exp(gain + tilt * octaves - 2j * np.pi * f_hz * shift_s).astype(np.complex64)
    spectrum = torch.fft.rfft(torch.from_numpy(np.ascontiguousarray(x))) * torch.from_numpy(response)
    y: FloatArray = torch.fft.irfft(spectrum, n_samples).numpy()
    return y


def _erased(x: FloatArray, chance: float, rng: np.random.Generator) -> FloatArray:
    """Set a stretch of some examples to 0, over all channels."""
    axis = 2 if x.ndim == 3 else 1
    n_samples = x.shape[axis]
    length = (rng.random(len(x)) * n_samples / 3).astype(np.int64) * (rng.random(len(x)) < chance)
    start = (rng.random(len(x)) * (n_samples - length + 1)).astype(np.int64)
    at = np.arange(n_samples)
    erased = (at >= start[:, None]) & (at < (start + length)[:, None])
    shape = (len(x), 1, n_samples) if x.ndim == 3 else (len(x), n_samples, 1, 1)
    return np.where(erased.reshape(shape), np.float32(0.0), x)
