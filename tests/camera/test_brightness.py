from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.camera.brightness import Brightness
from streamscore.camera.frame import RawFrame
from tests.camera.shots import LIGHTS, Camera, Delivered, assemble, assert_right, wires

#: Mean pixel value under each of LIGHTS.
LEVELS = (900.0, 2400.0, 1500.0, 600.0)
ORDER = (LIGHTS[1], LIGHTS[2], LIGHTS[0], LIGHTS[3])
#: The levels are learnt from 32 frames; a chosen loss comes after them.
LEARN = 40


def lit(shot: RawFrame, position: int, *, noise: float = 0.02, drift: float = 0.0) -> RawFrame:
    """Give a frame the brightness of its light; the first pixel stays the position."""
    rng = np.random.default_rng(position)
    level = LEVELS[position % 4] * (1.0 + drift * math.sin(position / 500)) * (1.0 + noise * rng.standard_normal())
    data = rng.normal(level, math.sqrt(level), (32, 32)).astype(np.float32)
    data[0, 0] = position
    return replace(shot, data=data)


def seen(camera: Camera, wire: Sequence[int], **lighting: float) -> Delivered:
    """What is delivered of these frames when brightness alone tells the light."""
    shots = [lit(camera.shot(position), position, **lighting) for position in wire]
    return assemble(camera.config(brightest_first=ORDER, frame_shape=None), shots)


def assert_channels_right(delivered: Delivered) -> None:
    np.testing.assert_array_equal(delivered.positions % 4, np.tile(np.arange(4), (len(delivered.positions), 1)))


def with_a_quiet_start(wire: list[int]) -> list[int]:
    """Put frames without loss before the others."""
    return [*range(wire[0] - LEARN, wire[0]), *wire]


@pytest.mark.parametrize("has_counter", [True, False])
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_the_phase_is_found_wherever_one_begins(has_counter: bool, first: int) -> None:
    delivered = seen(Camera(has_counter=has_counter), range(first, first + 120))
    assert len(delivered.positions) >= (120 - 32) // 4 - 2
    assert_channels_right(delivered)


@given(wires(80), st.booleans(), st.floats(0, 0.02))
def test_no_frame_is_in_the_wrong_channel_and_losses_are_gaps(
    wire: list[int], has_counter: bool, noise: float
) -> None:
    wire = with_a_quiet_start([position + LEARN for position in wire])
    delivered = seen(Camera(has_counter=has_counter), wire, noise=noise, drift=0.3)
    assert_channels_right(delivered)
    np.testing.assert_array_equal(delivered.positions, delivered.positions[:, :1] + np.arange(4))
    assert delivered.numbers is not None
    np.testing.assert_array_equal(np.diff(delivered.numbers), np.diff(delivered.cycles))


@given(wires(80))
def test_without_counter_and_clock_channels_are_still_right(wire: list[int]) -> None:
    wire = with_a_quiet_start([position + LEARN for position in wire])
    assert_channels_right(seen(Camera(has_counter=False, has_clock=False), wire))


def test_levels_are_followed_while_they_drift() -> None:
    delivered = seen(Camera(has_counter=False), range(1600), drift=0.5)
    assert len(delivered.positions) > 380
    assert_channels_right(delivered)
    assert_right(delivered, range(4 * delivered.cycles[0], 1600))


def test_lights_that_look_alike_deliver_nothing_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.camera.test_brightness.LEVELS", (900.0, 2400.0, 880.0, 600.0))
    delivered = seen(Camera(has_counter=False), range(200), noise=0.01)
    assert len(delivered.positions) == 0
    ((level, text),) = delivered.assembler.notices()
    assert level == "warning"
    assert "do not fall into 4 levels of brightness" in text


def test_a_wrong_order_of_lights_delivers_nothing() -> None:
    camera = Camera(has_counter=False)
    shots = [lit(camera.shot(position), position) for position in range(200)]
    assert len(assemble(camera.config(brightest_first=LIGHTS), shots).positions) == 0


def test_lights_that_all_changed_are_learnt_anew() -> None:
    camera = Camera(has_counter=False)
    shots = [lit(camera.shot(position), position) for position in range(300)]
    shots[100:] = [replace(shot, data=shot.data * (0.21 + (np.indices((32, 32)).sum(axis=0) == 0) * 0.79))
                   for shot in shots[100:]]  # fmt: skip
    shots[:100] = [replace(shot, data=shot.data.astype(np.float64)) for shot in shots[:100]]
    delivered = assemble(camera.config(brightest_first=ORDER), shots)
    assert_channels_right(delivered)
    assert delivered.cycles[-1] == 74


def test_a_light_that_was_misjudged_cannot_carry_frames_that_are_not_clear() -> None:
    camera = Camera()
    shots = [lit(camera.shot(position), position) for position in range(120)]
    for at, mean in ((62, LEVELS[0]), (63, 1200.0), (64, 1200.0), (65, 1200.0)):
        shots[at].data[...] = mean  # light 2 as bright as light 0, then nothing clear
        shots[at].data[0, 0] = at
    delivered = assemble(camera.config(brightest_first=ORDER), shots)
    assert_channels_right(delivered)
    assert {14, 18} <= set(delivered.cycles)


class TestOneFrame:
    """What a single frame tells."""

    def learnt(self) -> Brightness:
        brightness = Brightness([1, 0])
        for _ in range(8):
            assert brightness.light(np.full((4, 4), 100.0)) is None
            assert brightness.light(np.full((4, 4), 400.0)) is None
        return brightness

    @pytest.mark.parametrize(
        ("mean", "light"), [(400.0, 1), (100.0, 0), (150.0, 0), (280.0, 1), (200.0, None), (20.0, None)]
    )
    def test_it_must_be_clearly_nearest_to_one_level(self, mean: float, light: int | None) -> None:
        assert self.learnt().light(np.full((4, 4), mean)) == light

    def test_levels_that_have_met_are_told_apart_no_more(self) -> None:
        brightness = self.learnt()
        for mean in np.geomspace(400.0, 107.0, 600):
            brightness.light(np.full((4, 4), mean))
        assert brightness.light(np.full((4, 4), 107.0)) is None
        assert "near to none of the known, or to two" in brightness.problem

    def test_one_flash_is_no_light(self) -> None:
        brightness = Brightness([1, 0])
        for k in range(16):
            brightness.light(np.full((4, 4), 400.0 if k == 5 else 100.0))
        assert brightness.problem == "frames do not fall into 2 levels of brightness"

    @pytest.mark.parametrize("mean", [0.0, -5.0, np.nan, np.inf])
    def test_what_has_no_brightness_tells_nothing(self, mean: float) -> None:
        brightness = self.learnt()
        assert brightness.light(np.full((4, 4), mean)) is None
        assert brightness.light(np.full((4, 4), 400.0)) == 1

    def test_a_large_frame_is_looked_at_in_part(self) -> None:
        brightness = self.learnt()
        frame = np.zeros((1024, 512))
        frame[::16, ::8] = 400.0
        assert brightness.light(frame) == 1


@pytest.mark.parametrize("has_clock", [True, False])
@pytest.mark.parametrize("counter_after", [401, 0, 3])
def test_it_checks_the_counter_and_finds_the_phase_again(has_clock: bool, counter_after: int) -> None:
    """A frame is lost that is not counted, or the counter begins anew, while the lights go on."""
    camera = Camera(has_clock=has_clock)
    shots = [lit(camera.shot(k), k) for k in range(800) if k != 401]
    shots = [replace(shot, counter=counter_after + k - 401) if k >= 401 else shot for k, shot in enumerate(shots)]
    config = camera.config(first_light=0, brightest_first=ORDER, frame_shape=None)
    delivered = assemble(config, shots)
    assert_channels_right(delivered)
    assert delivered.cycles[:100] == list(range(100))
    assert delivered.cycles[-1] == 199
    assert len(delivered.positions) > 190 - 20 * has_clock  # a second until the clock is believed
    assert any("It is found again by brightness" in text for _, text in delivered.assembler.notices())


def test_a_counter_and_a_brightness_that_agree_lose_nothing() -> None:
    shots = [lit(Camera().shot(k), k) for k in range(800)]
    delivered = assemble(Camera().config(first_light=0, brightest_first=ORDER, frame_shape=None), shots)
    assert delivered.cycles == list(range(200))
