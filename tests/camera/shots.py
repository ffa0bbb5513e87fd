"""Frames of a camera that carry the truth in their pixels: each is filled with its position in the sequence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from streamscore.camera.assembler import Assembler
from streamscore.camera.config import CameraConfig
from streamscore.camera.frame import RawFrame
from streamscore.types import IndexArray, TimeArray

RATE_HZ = 67.2
LIGHTS = ("fluorescence_470", "reflectance_523", "reflectance_595", "reflectance_640")


@dataclass
class Camera:
    """Takes frames under `n_lights` lights in turn; position 0 is under the first.

    Parameters
    ----------
    bits
        After how many bits its counter wraps.
    has_counter, has_tags, has_clock
        What it sends with a frame.
    first_counter
        Counter at position 0.
    """

    n_lights: int = 4
    has_counter: bool = True
    has_tags: bool = False
    has_clock: bool = True
    bits: int | None = None
    first_counter: int = 0

    @property
    def lights(self) -> tuple[str, ...]:
        return LIGHTS[: self.n_lights]

    def shot(self, position: int, received_s: float | None = None) -> RawFrame:
        counter = position + self.first_counter
        t_s = position / RATE_HZ
        return RawFrame(
            data=np.full((2, 3), position, np.uint32),
            device_s=50.0 + t_s if self.has_clock else math.nan,
            counter=(counter % 2**self.bits if self.bits else counter) if self.has_counter else None,
            tag=self.lights[position % self.n_lights] if self.has_tags else None,
            received_s=1000.0 + t_s if received_s is None else received_s,
        )

    def config(self, **more: object) -> CameraConfig:
        return CameraConfig.model_validate(
            {"rate_hz": RATE_HZ, "lights": self.lights, "counter_bits": self.bits, **more}
        )


@dataclass
class Delivered:
    """What came out: number and stamp of each cycle, and the positions in its channels."""

    assembler: Assembler
    numbers: IndexArray | None
    stamps_s: TimeArray
    positions: npt.NDArray[np.int64]  # (n_cycles, n_lights)

    @property
    def cycles(self) -> list[int]:
        """True numbers of the cycles, counted from position 0."""
        return [int(first) // self.positions.shape[1] for first in self.positions[:, 0]]


def assemble(config: CameraConfig, shots: Iterable[RawFrame], take_every: int = 3) -> Delivered:
    """Push frames, take samples now and then."""
    shots = list(shots)
    assembler = Assembler(config, shots[0].data.shape, shots[0].data.dtype)  # type: ignore[arg-type]
    chunks = []
    for k, shot in enumerate(shots):
        assembler.push(shot)
        if k % take_every == 0 or k == len(shots) - 1:
            chunks.append(assembler.take(0.25, shot.received_s))
    taken = [chunk for chunk in chunks if chunk is not None]
    n_lights = len(config.lights)
    data = np.concatenate([np.empty((0, n_lights, *shots[0].data.shape)), *(chunk.data for chunk in taken)])
    assert all(len(chunk.data) == len(chunk.stamps_s) for chunk in taken)
    numbers = [chunk.counters for chunk in taken if chunk.counters is not None]
    return Delivered(
        assembler,
        np.concatenate([np.empty(0, np.int64), *numbers]) if len(numbers) == len(taken) else None,
        np.concatenate([np.empty(0), *(chunk.stamps_s for chunk in taken)]),
        data[:, :, 0, 0].astype(np.int64),
    )


def whole_cycles(wire: Sequence[int], n_lights: int) -> list[int]:
    """True numbers of the cycles of which all frames came, in order; late and repeated frames do not count."""
    taken: list[int] = []
    for position in wire:
        if not taken or position > taken[-1]:
            taken.append(position)
    have = set(taken)
    return [
        k
        for k in range(taken[0] // n_lights, taken[-1] // n_lights + 1)
        if all(k * n_lights + light in have for light in range(n_lights))
    ]


def assert_right(delivered: Delivered, wire: Sequence[int]) -> None:
    """Each frame must be in its channel, every whole cycle must be there, and what is lost must be the gaps."""
    n_cycles, n_lights = delivered.positions.shape
    np.testing.assert_array_equal(delivered.positions, delivered.positions[:, :1] + np.arange(n_lights))
    assert not (delivered.positions[:, 0] % n_lights).any()
    assert delivered.cycles == whole_cycles(wire, n_lights)
    assert delivered.numbers is not None
    if n_cycles:
        np.testing.assert_array_equal(np.diff(delivered.numbers), np.diff(delivered.cycles))
        assert delivered.assembler.counters["cycles"] == n_cycles


@st.composite
def wires(draw: st.DrawFn, n_frames: int = 150) -> list[int]:
    """Positions in the order of their arrival: frames are lost, repeated, late, or lost many at a time."""
    first = draw(st.integers(0, 300))
    positions = list(range(first, first + n_frames))
    for at, n in draw(st.lists(st.tuples(st.integers(0, n_frames - 1), st.integers(1, 30)), max_size=3)):
        del positions[at : at + n]
    lost = draw(st.sets(st.integers(first, first + n_frames), max_size=20))
    positions = [position for position in positions if position not in lost] or [first]
    for at, by in draw(st.lists(st.tuples(st.integers(0, n_frames), st.integers(1, 5)), max_size=5)):
        late = positions.pop(at % len(positions))
        positions.insert(min(at % (len(positions) + 1) + by, len(positions)), late)
    for at, back in draw(st.lists(st.tuples(st.integers(0, n_frames), st.integers(0, 2)), max_size=5)):
        at %= len(positions)
        positions.insert(at + 1, positions[max(at - back, 0)])
    return positions
