"""A simulated animal or sleeper as a stream; the test double that ships with the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.clock import Clock
from streamscore.simulate import Simulator
from streamscore.sources.base import Pacer, Source, select_channels
from streamscore.types import Chunk, StreamInfo


class Config(BaseModel):
    """Arguments of :class:`SyntheticSource`; `duration_s` 0 never ends, `speed` 0 does not wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["synthetic"] = "synthetic"
    species: Literal["human", "mouse"] = "human"
    sfreq: float | None = Field(None, gt=0)
    seed: int = 0
    cycle_s: float | None = Field(None, gt=0)
    duration_s: float = Field(0.0, ge=0)
    speed: float = Field(1.0, ge=0)
    chunk_s: float = Field(0.1, gt=0)
    channels: dict[str, str] | None = None


class SyntheticSource(Source):
    """Samples of :class:`streamscore.simulate.Simulator`, stamped from the moment of ``begin``."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._pacer = Pacer(clock, config.speed)
        self._simulator = Simulator(config.species, sfreq=config.sfreq, seed=config.seed, cycle_s=config.cycle_s)
        self._at = 0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        simulator = self._simulator
        name = f"synthetic-{self._config.species}"
        names, self._columns = select_channels(name, simulator.channels, wanted, self._config.channels)
        units = tuple(simulator.units[c] for c in self._columns)
        self._sfreq = simulator.sfreq
        self._chunk_samples = max(round(self._config.chunk_s * self._sfreq), 1)
        self._n_samples = round(self._config.duration_s * self._sfreq)
        return StreamInfo(name, self._sfreq, names, units, speed=self._config.speed)

    def begin(self) -> int:
        self._pacer.begin()
        return 0

    def read(self, timeout_s: float) -> Chunk | None:
        want = self._chunk_samples
        if self._n_samples:
            want = min(want, self._n_samples - self._at)
        stamps_s = self._pacer.t0_s + (self._at + np.arange(want)) / self._sfreq
        n = self._pacer.due_count(stamps_s, timeout_s)
        if n == 0:
            return None
        data, _ = self._simulator.read(n)
        self._at += n
        self.ended = bool(self._n_samples) and self._at >= self._n_samples
        return Chunk(data[:, self._columns], stamps_s[:n], 0.0, self._clock.now_s())

    def close(self) -> None:
        self.ended = True


def build(config: Config, clock: Clock) -> SyntheticSource:
    """Return the source."""
    return SyntheticSource(config, clock)
