"""A simulated mouse under a camera as a stream of frames; the test double of a microscope rig."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamscore.clock import Clock
from streamscore.simulate.cortex import FOUR_LIGHTS, Cortex
from streamscore.sources.base import Pacer, Source, select_channels
from streamscore.types import Chunk, StreamInfo


class Config(BaseModel):
    """Which mouse, camera and lights; see :class:`~streamscore.simulate.cortex.Cortex`.

    Parameters
    ----------
    lights
        In the order of the cycle.
    sfreq
        Cycles of all lights a second.
    frame_shape
        ``(height, width)`` in pixels.
    seed, cycle_s, sleeps, runs
        Of the mouse.
    duration_s
        0 never ends.
    speed
        Stream seconds per second; 0 does not wait.
    chunk_s
        Stream seconds per chunk at most.
    channels
        Input name of the bundle → light.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["synthetic_camera"] = "synthetic_camera"
    lights: tuple[str, ...] = FOUR_LIGHTS
    sfreq: float = Field(16.8, gt=0)
    frame_shape: tuple[int, int] = (128, 128)
    seed: int = 0
    cycle_s: float = Field(600.0, gt=0)
    sleeps: bool = True
    runs: bool = True
    duration_s: float = Field(0.0, ge=0)
    speed: float = Field(1.0, ge=0)
    chunk_s: float = Field(0.05, gt=0)
    channels: dict[str, str] | None = None


class SyntheticCamera(Source):
    """Cycles of a :class:`~streamscore.simulate.cortex.Cortex`, in counts, stamped since ``begin``."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._pacer = Pacer(clock, config.speed)
        self._cortex = Cortex(
            seed=config.seed,
            lights=config.lights,
            sfreq=config.sfreq,
            frame_shape=config.frame_shape,
            cycle_s=config.cycle_s,
            sleeps=config.sleeps,
            runs=config.runs,
        )
        self._at = 0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        name, cortex = "synthetic-camera", self._cortex
        names, self._columns = select_channels(name, cortex.lights, wanted, self._config.channels)
        self._chunk_samples = max(round(self._config.chunk_s * cortex.sfreq), 1)
        self._n_samples = round(self._config.duration_s * cortex.sfreq)
        return StreamInfo(
            name,
            cortex.sfreq,
            names,
            ("counts",) * len(names),
            speed=self._config.speed,
            frame_shape=cortex.frame_shape,
        )

    def begin(self) -> int:
        self._pacer.begin()
        return 0

    def read(self, timeout_s: float) -> Chunk | None:
        want = self._chunk_samples
        if self._n_samples:
            want = min(want, self._n_samples - self._at)
        counters = self._at + np.arange(want)
        stamps_s = self._pacer.t0_s + counters / self._cortex.sfreq
        n = self._pacer.due_count(stamps_s, timeout_s)
        if n == 0:
            return None
        frames = self._cortex.read(n).frames[:, self._columns].astype(np.float32)
        self._at += n
        self.ended = bool(self._n_samples) and self._at >= self._n_samples
        return Chunk(frames, stamps_s[:n], 0.0, self._clock.now_s(), counters[:n])

    def close(self) -> None:
        self.ended = True


def build(config: Config, clock: Clock) -> SyntheticCamera:
    """Return the source."""
    return SyntheticCamera(config, clock)
