from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from streamscore.camera.assembler import Assembler
from streamscore.types import Layout
from tests.camera.shots import LIGHTS, RATE_HZ, Camera, assemble

FOUR = Camera(first_counter=0)


def new(camera: Camera = FOUR, shape: tuple[int, int] = (2, 3), dtype: str = "u4", **config: object) -> Assembler:
    return Assembler(camera.config(first_light=0, **config), shape, dtype)


def test_a_sample_is_a_cycle_of_all_lights() -> None:
    assembler = new(shape=(8, 4), dtype="u2", frame_shape=(4, 2))
    assert assembler.layout == Layout(RATE_HZ / 4, LIGHTS, (4, 2))
    for k in range(4):
        assembler.push(replace(FOUR.shot(k), data=np.full((8, 4), k, np.uint16)))
    chunk = assembler.take(0.25, 77.0)
    assert chunk is not None
    assert (chunk.data.dtype, chunk.data.shape) == (np.float32, (1, 4, 4, 2))
    np.testing.assert_array_equal(chunk.data[0, :, 1, 1], [0, 1, 2, 3])
    assert chunk.counters is not None
    assert (chunk.counters.tolist(), chunk.counters.dtype) == ([0], np.int64)
    assert (chunk.clock_offset_s, chunk.received_s) == (0.25, 77.0)


def test_it_is_there_with_its_last_light_and_stamped_with_its_time() -> None:
    assembler = new()
    for k in range(9):
        assert assembler.take(0.0, 0.0) is None
        assembler.push(FOUR.shot(k))
        if k % 4 == 3:
            chunk = assembler.take(0.0, 0.0)
            assert chunk is not None
            assert chunk.stamps_s.tolist() == [FOUR.shot(k).device_s]


def test_without_a_device_clock_stamps_are_times_of_arrival_and_there_is_no_offset() -> None:
    camera = Camera(has_clock=False)
    assembler = new(camera)
    for k in range(8):
        assembler.push(camera.shot(k))
    chunk = assembler.take(0.25, 0.0)
    assert chunk is not None
    assert chunk.stamps_s.tolist() == [camera.shot(3).received_s, camera.shot(7).received_s]
    assert chunk.clock_offset_s == 0.0


def test_a_device_time_that_fails_once_is_no_stamp() -> None:
    shots = [FOUR.shot(k) for k in range(12)]
    shots[7] = replace(shots[7], device_s=np.nan)
    delivered = assemble(FOUR.config(first_light=0), shots)
    assert delivered.cycles == [0, 1, 2]
    assert np.isnan(delivered.stamps_s).tolist() == [False, True, False]


@pytest.mark.parametrize("take_every", [1, 4, 5, 31, 33, 100, 1000])
def test_how_often_samples_are_taken_changes_nothing(take_every: int) -> None:
    delivered = assemble(FOUR.config(first_light=0), map(FOUR.shot, range(400)), take_every)
    np.testing.assert_array_equal(delivered.positions.ravel(), np.arange(400))


def test_what_was_handed_out_is_never_written_again() -> None:
    assembler = new()
    chunks, copies = [], []
    for k in range(400):
        assembler.push(FOUR.shot(k))
        if (chunk := assembler.take(0.0, 0.0)) is not None:
            chunks.append(chunk.data)
            copies.append(chunk.data.copy())
    for chunk_data, copy in zip(chunks, copies, strict=True):
        np.testing.assert_array_equal(chunk_data, copy)
    assert not any(np.shares_memory(a, b) for a, b in pairwise(chunks))


def test_a_sample_is_a_view_of_the_place_that_frames_were_written_to() -> None:
    assembler = new()
    chunks = []
    for k in range(8):
        assembler.push(FOUR.shot(k))
        chunks += [chunk.data] if (chunk := assembler.take(0.0, 0.0)) is not None else []
    assert chunks[0].base is not None
    assert chunks[0].base is chunks[1].base  # a block that holds both: neither was copied


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 2), np.uint32), np.zeros((2, 3), np.uint16), np.zeros(6, np.uint32)]
)
def test_a_frame_of_another_kind_loses_its_cycle(wrong: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    shots = [FOUR.shot(k) for k in range(12)]
    shots[5] = replace(shots[5], data=wrong)
    delivered = assemble(FOUR.config(first_light=0), shots)
    assert delivered.cycles == [0, 2]
    assert delivered.assembler.counters["wrong_frames"] == 1
    ((level, text),) = [notice for notice in delivered.assembler.notices() if "began with" in notice[1]]
    assert level == "warning"
    assert text.endswith("are dropped, it began with uint32 2x3")


def test_counters_tell_what_became_of_frames() -> None:
    wire = [0, 1, 2, 3, 4, 6, 7, 7, 5, *range(16, 24)]
    delivered = assemble(FOUR.config(first_light=0), map(FOUR.shot, wire))
    assert delivered.assembler.counters == {
        "frames": 17,
        "cycles": 3,
        "lost_cycles": 3,
        "losses": 2,
        "repeated_frames": 1,
        "out_of_order_frames": 1,
    }
    assert ("warning", "8 frames were lost (2 times)") in delivered.assembler.notices()
    assert delivered.assembler.notices() == []


def test_cycles_that_nobody_takes_do_not_fill_the_memory() -> None:
    delivered = assemble(FOUR.config(first_light=0), map(FOUR.shot, range(4000)), take_every=10**9)
    waiting = Assembler.MAX_WAITING_S * RATE_HZ / 4
    assert waiting - 8 <= len(delivered.positions) <= waiting + 1
    assert delivered.cycles == list(range(1000 - len(delivered.cycles), 1000))
    assert delivered.numbers is not None
    assert delivered.numbers.tolist() == delivered.cycles
    np.testing.assert_array_equal(delivered.stamps_s, [FOUR.shot(4 * k + 3).device_s for k in delivered.cycles])


def test_large_frames_are_kept_in_small_blocks() -> None:
    assembler = Assembler(Camera(1).config(), (2048, 2048), np.uint8)
    for k in range(3):
        assembler.push(replace(Camera(1).shot(k), data=np.full((2048, 2048), k, np.uint8)))
        chunk = assembler.take(0.0, 0.0)
        assert chunk is not None
        assert chunk.data.base is None or chunk.data.base.nbytes == chunk.data.nbytes
        assert (chunk.data == k).all()


@pytest.mark.parametrize(
    ("dtype", "config", "full_scale"),
    [("u1", {}, 255), (">u2", {}, 65535), ("i2", {}, 32767), ("u2", {"full_scale": 4095}, 4095), ("f4", {}, None)],
)
def test_full_scale_is_that_of_the_type_unless_it_is_given(
    dtype: str, config: dict[str, object], full_scale: float | None
) -> None:
    assert new(dtype=dtype, **config).full_scale == full_scale


@pytest.mark.parametrize("rate_hz", [5.0, 16.8, 200.0])
def test_all_frames_of_one_read_are_kept(rate_hz: float) -> None:
    camera = Camera(1)
    shots = [camera.shot(k) for k in range(Assembler.MAX_FRAMES)]
    delivered = assemble(camera.config(rate_hz=rate_hz), shots, take_every=10**9)
    assert delivered.cycles == list(range(Assembler.MAX_FRAMES))
    assert "untaken_cycles" not in delivered.assembler.counters
