"""Noise of any shape: as many channels as a network wants, or frames, to time it and to try a rig file out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.clock import Clock
from streamscore.sources.base import Pacer, Source
from streamscore.types import Chunk, FloatArray, StreamInfo


class Config(BaseModel):
    """Arguments of :class:`NoiseSource`.

    Parameters
    ----------
    sfreq
        Samples or frames a second.
    n_channels
        Channels, where no network says which it wants.
    frame_shape
        ``[height, width]`` of frames; ``null`` for signals.
    amplitude_uv
        Standard deviation (of no unit for frames).
    seed, duration_s, speed, chunk_s
        As of the synthetic source: `duration_s` 0 never ends, `speed` 0 does not wait.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["noise"] = "noise"
    sfreq: float = Field(100.0, gt=0)
    n_channels: int = Field(1, ge=1)
    frame_shape: tuple[int, int] | None = None
    amplitude_uv: float = Field(30.0, gt=0)
    seed: int = Field(0, ge=0)
    duration_s: float = Field(0.0, ge=0)
    speed: float = Field(1.0, ge=0)
    chunk_s: float = Field(0.1, gt=0)


class NoiseSource(Source):
    """White noise, the same for any chunking: each second is drawn from a generator of its own."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._pacer = Pacer(clock, config.speed)
        self._block_samples = max(round(config.sfreq), 1)
        self._block = -1
        self._at = 0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        config = self._config
        if config.frame_shape is not None:
            names = tuple(wanted or ("frames",))  # of a camera: what it takes under each light
            self._shape: tuple[int, ...] = (len(names), *config.frame_shape)
        else:
            names = tuple(wanted or (f"ch{k + 1}" for k in range(config.n_channels)))
            self._shape = (len(names),)
        units = ("uV" if config.frame_shape is None else "",) * len(names)
        self._n_samples = round(config.duration_s * config.sfreq)
        return StreamInfo("noise", config.sfreq, names, units, speed=config.speed, frame_shape=config.frame_shape)

    def begin(self) -> int:
        self._pacer.begin()
        return 0

    def read(self, timeout_s: float) -> Chunk | None:
        want = max(round(self._config.chunk_s * self._config.sfreq), 1)
        want = min(want, self._block_samples - self._at % self._block_samples)
        if self._n_samples:
            want = min(want, self._n_samples - self._at)
        stamps_s = self._pacer.t0_s + (self._at + np.arange(want)) / self._config.sfreq
        n = self._pacer.due_count(stamps_s, timeout_s)
        if n == 0:
            return None
        offset = self._at % self._block_samples
        data = self._second(self._at // self._block_samples)[offset : offset + n]
        self._at += n
        self.ended = bool(self._n_samples) and self._at >= self._n_samples
        return Chunk(data, stamps_s[:n], 0.0, self._clock.now_s())

    def _second(self, block: int) -> FloatArray:
        """Samples of one second."""
        if block != self._block:
            rng = np.random.default_rng((self._config.seed, block))
            noise = rng.standard_normal((self._block_samples, *self._shape), np.float32)
            self._samples = noise * np.float32(self._config.amplitude_uv)
            self._block = block
        return self._samples

    def close(self) -> None:
        self.ended = True


def build(config: Config, clock: Clock) -> NoiseSource:
    """Return the source."""
    return NoiseSource(config, clock)
