"""Frames to samples: each frame is reduced straight into its place, and a cycle of all lights is one sample.

A cycle is delivered when it is whole. Frames of a cycle that lacks one are given up, and the numbers of the cycles
then skip one. Cycles are written into blocks of a few, of which views are handed out; what was
handed out is never written again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.camera.complaints import Complaints
from streamscore.camera.config import CameraConfig
from streamscore.camera.frame import RawFrame
from streamscore.camera.reduce import Reducer
from streamscore.camera.strobe import Strobe
from streamscore.types import Chunk, FloatArray, Layout


class Assembler:
    """Make samples from frames.

    Parameters
    ----------
    config
        See :class:`CameraConfig`.
    raw_shape
        ``(height, width)`` as sent.
    raw_dtype
        Type of a pixel as sent.
    max_frames
        Frames that may be pushed before samples are taken, without loss.

    Attributes
    ----------
    layout
        What a sample is made of: one channel for each light, at the rate of whole cycles.
    full_scale
        Value at which a pixel is saturated, ``None`` where it is not known.

    Raises
    ------
    StreamFormatError
        If frames like these cannot be brought to the size wanted.
    """

    #: Cycles in a block, unless they would take more than :data:`BLOCK_BYTES`.
    BLOCK_CYCLES = 8
    BLOCK_BYTES = 2**23
    #: Whole cycles that may wait to be taken, in seconds, and at least those of so many frames.
    MAX_WAITING_S = 10.0
    MAX_FRAMES = 256

    def __init__(
        self,
        config: CameraConfig,
        raw_shape: tuple[int, int],
        raw_dtype: npt.DTypeLike,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        self._reduce = Reducer(raw_shape, raw_dtype, config.frame_shape, config.reduce)
        self._raw_shape, self._raw_dtype = raw_shape, np.dtype(raw_dtype)
        self._n_lights = len(config.lights)
        self.layout = Layout(config.rate_hz / self._n_lights, config.lights, self._reduce.frame_shape)
        self.full_scale = config.full_scale
        if self.full_scale is None and self._raw_dtype.kind in "iu":
            self.full_scale = float(np.iinfo(self._raw_dtype).max)
        self._now_s = -math.inf
        self._complaints = Complaints(lambda: self._now_s)
        self._strobe = Strobe(config, self._complaints)
        cycle_bytes = 4 * math.prod(self.layout.sample_shape)
        self._block_cycles = max(min(self.BLOCK_CYCLES, self.BLOCK_BYTES // cycle_bytes), 1)
        self._max_waiting = max(
            round(self.MAX_WAITING_S * self.layout.sfreq), math.ceil(max_frames / self._n_lights)
        )
        self._block = self._new_block()
        self._n_filled = 0  # cycles of the block that are whole
        self._n_taken = 0  # of these, how many were handed out
        self._full: list[FloatArray] = []  # what is left to take of earlier blocks
        self._stamps_s: list[float] = []  # of the cycles that wait, as are the numbers
        self._numbers: list[int] = []
        self._cycle = -1  # the one in flight
        self._n_lit = 0  # of its lights, how many came
        self._n_frames = self._n_cycles = self._n_lost_cycles = 0
        self._newest_cycle = -1

    def check(self, frame: RawFrame) -> None:
        """Raise :class:`StreamFormatError` if nothing in frames like this one tells the light; takes nothing."""
        self._strobe.check(frame)

    def push(self, frame: RawFrame) -> None:
        """Take in one frame. Its data are read here and not kept."""
        self._now_s = frame.received_s
        self._n_frames += 1
        data = frame.data
        if data.shape != self._raw_shape or data.dtype != self._raw_dtype:
            found = f"{data.dtype} {'x'.join(map(str, data.shape))}"
            wanted = f"{self._raw_dtype} {'x'.join(map(str, self._raw_shape))}"
            self._complaints.add(
                "wrong_frames", "warning", f"frames of {found} are dropped, it began with {wanted}"
            )
            return
        place = self._strobe.place(frame)
        if place is None:
            return
        cycle, light = place
        if cycle != self._cycle:
            self._cycle, self._n_lit = cycle, 0
        self._reduce(data, self._block[self._n_filled, light])
        self._n_lit += 1
        if self._n_lit == self._n_lights:
            self._finish(cycle)

    def take(self, clock_offset_s: float, received_s: float) -> Chunk | None:
        """Return the whole cycles since the last call.

        Parameters
        ----------
        clock_offset_s
            Measured offset from the camera's clock to stream time; not used where frames have no device time.
        received_s
            Wall time at which they were in this process.

        Returns
        -------
        chunk
            Stamped with the time of the last frame of each cycle, when it was whole. ``None`` without any.
        """
        if not self._stamps_s:
            return None
        parts = [*self._full, self._block[self._n_taken : self._n_filled]]
        parts = [part for part in parts if len(part)]
        data = parts[0] if len(parts) == 1 else np.concatenate(parts)
        stamps_s = np.array(self._stamps_s)
        numbers = np.array(self._numbers, np.int64) if self._strobe.counts_cycles else None
        self._n_taken = self._n_filled
        self._full, self._stamps_s, self._numbers = [], [], []
        return Chunk(data, stamps_s, clock_offset_s if self._strobe.device_clock else 0.0, received_s, numbers)

    def notices(self) -> list[tuple[str, str]]:
        """Return what a person should be told since the last call: pairs of level and text."""
        return self._complaints.notices()

    @property
    def n_waiting(self) -> int:
        """Whole cycles that wait to be taken."""
        return len(self._stamps_s)

    @property
    def counters(self) -> dict[str, int]:
        """Frames seen, cycles made and lost, and how many frames were refused for each cause."""
        return {
            "frames": self._n_frames,
            "cycles": self._n_cycles,
            "lost_cycles": self._n_lost_cycles,
            **self._complaints.counts,
        }

    def _finish(self, cycle: int) -> None:
        """Put down the cycle that has just become whole."""
        self._n_filled += 1
        self._n_cycles += 1
        self._n_lost_cycles += cycle - self._newest_cycle - 1
        self._newest_cycle = cycle
        self._stamps_s.append(self._strobe.stamp_s)
        self._numbers.append(cycle)
        self._free_block()
        if len(self._stamps_s) > self._max_waiting:
            self._drop_oldest()

    def _free_block(self) -> None:
        """Begin a new block if this one is full."""
        if self._n_filled < self._block_cycles:
            return
        if self._n_taken < self._n_filled:
            self._full.append(self._block[self._n_taken :])
        self._block = self._new_block()
        self._n_filled = self._n_taken = 0

    def _drop_oldest(self) -> None:
        """Give up cycles that nobody takes, so that memory has an end."""
        self._complaints.add("untaken_cycles", "warning", "samples of the camera were dropped: nobody took them")
        n = len(self._full[0]) if self._full else 1
        if self._full:
            self._full.pop(0)
        else:
            self._n_taken += 1
        del self._stamps_s[:n], self._numbers[:n]

    def _new_block(self) -> npt.NDArray[Any]:
        return np.empty((self._block_cycles, *self.layout.sample_shape), np.float32)
