"""A movie on disk as a camera, paced at its own rate, faster, or as fast as possible.

Its frames take the way of a live camera's (:class:`~streamscore.camera.assembler.Assembler`), with the number that
the camera would have counted and, where the file tells it, the light. So what is scored from a file is what would
have been scored at the rig.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from streamscore.camera.assembler import Assembler
from streamscore.camera.config import CameraConfig
from streamscore.camera.frame import RawFrame
from streamscore.clock import Clock
from streamscore.movies.base import Movie, read_movie
from streamscore.movies.frames import Pixels
from streamscore.sources.base import Pacer, Source, select_channels
from streamscore.types import Chunk, StreamInfo, TimeArray

#: A block that is read ahead is no larger than this, whatever the chunk.
_MAX_BLOCK_BYTES = 2**26


class Config(CameraConfig):
    """Which movie to play; the rest describes the camera, see :class:`CameraConfig`.

    Parameters
    ----------
    path
        Movie, see :mod:`streamscore.movies`.
    dataset
        Which movie of a file that holds several.
    rate_hz
        Frames per second, all lights together; 0: as the file says.
    lights
        Names in the order in which they flash; as the file says if left out. Without tags in the file its first
        frame is one of the first light, unless `first_light` says otherwise.
    channels
        Input name of the bundle → light.
    speed
        Stream seconds per second; 0 plays as fast as possible.
    chunk_s
        Stream seconds per chunk at most.
    """

    kind: Literal["movie"] = "movie"
    path: Path
    dataset: str | None = None
    rate_hz: float = Field(0.0, ge=0, allow_inf_nan=False)
    channels: dict[str, str] | None = None
    speed: float = Field(1.0, ge=0)
    chunk_s: float = Field(0.1, gt=0)

    @property
    def named_lights(self) -> tuple[str, ...] | None:
        """Lights under which the file is opened; ``None`` where its own names are wanted."""
        return self.lights if "lights" in self.model_fields_set and self.tags is None else None


class MovieSource(Source):
    """Play one movie once. Its stamps keep their spacing; frames that were lost stay lost.

    Parameters
    ----------
    movie
        What to play, where it is open already; else it is opened from the path.

    Attributes
    ----------
    movie
        The movie, once opened; its labels are on the clock of its stamps.
    """

    movie: Movie

    def __init__(self, config: Config, clock: Clock, movie: Movie | None = None) -> None:
        self._config = config
        self._given = movie
        self._clock = clock
        self._pacer = Pacer(clock, config.speed)
        self._assembler: Assembler | None = None
        self._at = 0
        self._stamps_s: TimeArray = np.zeros(0)
        self._block: Pixels = np.zeros((0, 1, 1))  # frames that were read ahead, from number `_block_start` on
        self._block_start = self._block_frames = 0

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        config = self._config
        movie = self.movie = self._given or read_movie(
            config.path, dataset=config.dataset, rate_hz=config.rate_hz or None, lights=config.named_lights
        )
        try:
            return self._describe(movie, wanted)
        except BaseException:
            movie.close()
            raise

    def begin(self) -> int:
        # A paced movie starts now; an unpaced one keeps the times that it was recorded with.
        self._pacer.begin()
        if self._pacer.speed:
            self._stamps_s = self._stamps_s - self._stamps_s[0] + self._pacer.t0_s
        return 0

    def read(self, timeout_s: float) -> Chunk | None:
        if self._assembler is None or self.ended:
            return None
        # The disk is asked before the first frame of a block is due, not after.
        if self._at == self._block_start + len(self._block):
            self._block_start = self._at
            self._block = self.movie.read(self._at, self._at + self._block_frames)
        stop = self._block_start + len(self._block)
        n = self._pacer.due_count(self._stamps_s[self._at : stop], timeout_s)
        now_s = self._clock.now_s()
        for at in range(self._at, self._at + n):
            self._assembler.push(self._frame(at, now_s))
        self._at += n
        self.ended = self._at >= self.movie.n_frames
        chunk = self._assembler.take(0.0, now_s)
        if chunk is None or self._columns == list(range(chunk.data.shape[1])):
            return chunk
        return Chunk(
            np.ascontiguousarray(chunk.data[:, self._columns]), chunk.stamps_s, 0.0, now_s, chunk.counters
        )

    def close(self) -> None:
        if self._assembler is not None:
            self.movie.close()
        self.ended = True

    def notices(self) -> list[tuple[str, str]]:
        return self._assembler.notices() if self._assembler is not None else []

    @property
    def counters(self) -> dict[str, int]:
        """What the assembler found."""
        return dict(self._assembler.counters) if self._assembler is not None else {}

    def _describe(self, movie: Movie, wanted: Sequence[str] | None) -> StreamInfo:
        config = self._config
        camera = as_camera(config, movie)
        names, self._columns = select_channels(movie.name, camera.lights, wanted, config.channels)
        self._assembler = Assembler(camera, movie.frame_shape, movie.dtype)
        self._stamps_s, self._numbers = movie.stamps_s, movie.numbers
        # (The assembler keeps no more than some seconds for a reader.)
        chunk_frames = max(round(min(config.chunk_s, Assembler.MAX_WAITING_S / 2) * movie.rate_hz), 1)
        frame_bytes = movie.frame_shape[0] * movie.frame_shape[1] * movie.dtype.itemsize
        self._block_frames = max(min(chunk_frames, _MAX_BLOCK_BYTES // frame_bytes), 1)
        self._block = movie.read(0, self._block_frames)
        self._assembler.check(self._frame(0, 0.0))
        layout = self._assembler.layout
        units = ("",) * len(names)
        return StreamInfo(
            movie.name,
            layout.sfreq,
            names,
            units,
            speed=config.speed,
            frame_shape=layout.frame_shape,
            full_scale=self._assembler.full_scale,
        )

    def _frame(self, at: int, now_s: float) -> RawFrame:
        return RawFrame(
            self._block[at - self._block_start],
            float(self._stamps_s[at]),
            int(self._numbers[at]),
            self.movie.tag(at),
            now_s,
        )


def as_camera(config: CameraConfig, movie: Movie) -> CameraConfig:
    """Complete what a rig file says of a camera by what the file says."""
    update: dict[str, object] = {"rate_hz": movie.rate_hz, "counter_bits": None}  # numbers do not wrap
    if movie.lights and config.tags is None:
        update["lights"] = movie.lights
    if config.first_light is None and not config.brightest_first:
        update["first_light"] = 0
    chosen = {name: getattr(config, name) for name in CameraConfig.model_fields}
    return CameraConfig(**{**chosen, **update})


def build(config: Config, clock: Clock) -> MovieSource:
    """Return the source; the file is opened by ``open``."""
    return MovieSource(config, clock)
