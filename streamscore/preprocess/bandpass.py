"""Causal Butterworth filter with carried memory.

``scipy.signal.sosfilt`` works sample by sample, so its output does not depend on the chunking. The memory is
initialised from the first sample alone (never from the first chunk), which removes the step of the offset.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import signal

from streamscore.preprocess.base import Step, signals_of
from streamscore.types import FloatArray, Layout


class Config(BaseModel):
    """Arguments of :class:`Bandpass`; ``None`` leaves that side open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low_hz: float | None = Field(0.3, gt=0)
    high_hz: float | None = Field(35.0, gt=0)
    order: int = Field(2, ge=1, le=8)
    settle_s: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.low_hz is None and self.high_hz is None:
            raise ValueError("bandpass needs low_hz, high_hz or both")
        if self.low_hz is not None and self.high_hz is not None and self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz {self.low_hz} must lie below high_hz {self.high_hz}")
        return self


class Bandpass(Step):
    """Second-order sections, float64 inside."""

    def __init__(self, config: Config, layout: Layout) -> None:
        sfreq = layout.sfreq
        self.layout = layout
        nyquist_hz = sfreq / 2
        for name, edge_hz in (("low_hz", config.low_hz), ("high_hz", config.high_hz)):
            if edge_hz is not None and edge_hz >= nyquist_hz:
                raise ValueError(f"{name} {edge_hz} must lie below half the sampling rate, {nyquist_hz}")
        edges: float | tuple[float, float] | None
        if config.low_hz is None:
            edges, kind = config.high_hz, "lowpass"
        elif config.high_hz is None:
            edges, kind = config.low_hz, "highpass"
        else:
            edges, kind = (config.low_hz, config.high_hz), "bandpass"
        self._sos = signal.butter(config.order, edges, kind, fs=sfreq, output="sos")
        self._step_response = signal.sosfilt_zi(self._sos)[:, :, None]
        self._memory: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None = None
        self.settle_samples = round(config.settle_s * sfreq)

    def push(self, x: FloatArray, start: int) -> FloatArray:
        if len(x) == 0:
            return x
        if self._memory is None:
            self._memory = self._step_response * x[0].astype(np.float64)
        y, self._memory = signal.sosfilt(self._sos, x.astype(np.float64), axis=0, zi=self._memory)
        return np.asarray(y, dtype=np.float32)

    def reset(self) -> None:
        self._memory = None


def build(config: Config, layout: Layout) -> Bandpass:
    """Return the step for signals of `layout`."""
    return Bandpass(config, signals_of("bandpass", layout))
