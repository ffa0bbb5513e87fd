from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamscore.camera.arrivals import Arrivals
from streamscore.camera.assembler import Assembler
from streamscore.camera.complaints import Complaints
from streamscore.camera.config import CameraConfig
from streamscore.camera.frame import RawFrame
from streamscore.camera.strobe import Strobe
from streamscore.errors import StreamFormatError
from tests.camera.shots import LIGHTS, RATE_HZ, Camera, Delivered, assemble, assert_right, wires

n_lights = st.sampled_from([1, 2, 4])


class TestNothingIsEverInTheWrongChannel:
    """Whatever is lost, repeated or late."""

    @given(n_lights, wires(), st.integers(0, 3), st.sampled_from([None, 8, 16, 32]), st.booleans())
    def test_with_a_counter(
        self, n: int, wire: list[int], first_light: int, bits: int | None, has_clock: bool
    ) -> None:
        first_light %= n
        top = n * ((2**bits - 200) // n) if bits else 0
        camera = Camera(n, bits=bits, first_counter=first_light + top, has_clock=has_clock)
        config = camera.config(first_light=first_light)
        assert_right(assemble(config, map(camera.shot, wire)), wire)

    @given(n_lights, wires(), st.sampled_from([None, 8]), st.integers(0, 1000), st.booleans())
    def test_with_tags_and_a_counter(
        self, n: int, wire: list[int], bits: int | None, first_counter: int, has_clock: bool
    ) -> None:
        camera = Camera(n, has_tags=True, bits=bits, first_counter=first_counter, has_clock=has_clock)
        delivered = assemble(camera.config(), map(camera.shot, wire))
        assert_right(delivered, wire)
        assert "contradictions" not in delivered.assembler.counters

    @given(st.sampled_from([2, 4]), wires())
    def test_with_tags_and_a_clock(self, n: int, wire: list[int]) -> None:
        camera = Camera(n, has_counter=False, has_tags=True)
        assert_right(assemble(camera.config(), map(camera.shot, wire)), wire)

    @given(wires(), st.floats(0.97, 1.03))
    def test_with_three_lights_and_tags(self, wire: list[int], rate: float) -> None:
        camera = Camera(3, has_tags=True, bits=8)
        delivered = assemble(camera.config(rate_hz=RATE_HZ * rate), map(camera.shot, wire))
        assert_right(delivered, wire)

    @given(st.sampled_from([2, 4]), st.booleans(), wires(), st.lists(st.integers(0, 149), max_size=4))
    def test_whatever_single_tags_are_wrong(
        self, n: int, has_counter: bool, wire: list[int], wrong: list[int]
    ) -> None:
        camera = Camera(n, has_counter=has_counter, has_tags=True)
        shots = [camera.shot(position) for position in wire]
        for at in {k // 8 * 8 for k in wrong if 8 <= k < len(shots)}:
            tag = LIGHTS[(wire[at] + 1) % n]
            shots[at] = replace(shots[at], tag=tag)
        delivered = assemble(camera.config(), shots)
        positions = delivered.positions
        np.testing.assert_array_equal(positions, positions[:, :1] + np.arange(n))
        assert not (positions[:, 0] % n).any()
        assert delivered.numbers is not None
        np.testing.assert_array_equal(np.diff(delivered.numbers), np.diff(delivered.cycles))

    @given(
        st.sampled_from([2, 3, 4]),
        st.booleans(),
        st.lists(
            st.tuples(
                st.integers(0, 40) | st.none() | st.integers(-9, 2**64),
                st.sampled_from([*LIGHTS, None, "violet"]),
                st.floats(-10, 10) | st.floats(),
                st.integers(1, 30),
            ),
            max_size=60,
        ),
        st.sampled_from([None, 4, 8]),
    )
    def test_whatever_rubbish_is_sent(
        self, n: int, has_counter: bool, runs: list[tuple[int | None, str | None, float, int]], bits: int | None
    ) -> None:
        """Runs of frames, each with a counter, a tag and a clock that begin anywhere."""
        camera = Camera(n, has_tags=True, bits=bits)
        shots = [camera.shot(0)]
        for counter, tag, device_s, n_frames in runs:
            for k in range(n_frames):
                light = LIGHTS[(LIGHTS.index(tag) + k) % n] if tag in LIGHTS else tag
                data = np.full((2, 3), LIGHTS.index(light) if light in LIGHTS else 99, np.uint32)
                sent = counter + k if counter is not None and has_counter else None
                shots.append(RawFrame(data, device_s + k / RATE_HZ, sent, light, float(len(shots))))
        delivered = assemble(camera.config(phase="tag"), shots if has_counter else shots[1:] or shots)
        assert delivered.numbers is not None
        assert (np.diff(delivered.numbers) > 0).all()
        tagged = delivered.positions[(delivered.positions != 99).all(axis=1)]
        np.testing.assert_array_equal(tagged, np.tile(np.arange(n), (len(tagged), 1)))


def retold(shots: list[RawFrame], **changes: object) -> list[RawFrame]:
    """The frames with other values of some fields; a function is given the frame's old value."""
    return [
        replace(shot, **{name: value(getattr(shot, name)) if callable(value) else value
                         for name, value in changes.items()})
        for shot in shots
    ]  # fmt: skip


def numbered(delivered: Delivered) -> dict[int, int]:
    """True number of each cycle → the number under which it was delivered."""
    assert delivered.numbers is not None
    return dict(zip(delivered.cycles, delivered.numbers.tolist(), strict=True))


class TestCounter:
    """Bad counters."""

    def test_a_stuck_counter_delivers_nothing(self) -> None:
        shots = retold([Camera().shot(k) for k in range(200)], counter=7)
        delivered = assemble(Camera().config(first_light=0), shots)
        assert len(delivered.positions) == 0
        assert delivered.assembler.counters["repeated_frames"] == 199
        assert ("warning", "frames that were repeated are dropped (199 times)") in delivered.assembler.notices()

    @pytest.mark.parametrize("bad", [-1, 2**63, 10**30, None])
    def test_what_is_no_counter_is_dropped(self, bad: int | None) -> None:
        shots = [Camera().shot(k) for k in range(40)]
        shots[9] = replace(shots[9], counter=bad)
        delivered = assemble(Camera().config(first_light=0), shots)
        assert numbered(delivered) == {k: k for k in range(10) if k != 2}

    def test_a_leap_of_more_than_a_day_is_another_count(self) -> None:
        shots = [Camera().shot(k) for k in range(40)]
        shots += retold([Camera().shot(k) for k in range(40, 140)], counter=lambda c: c + 2**60)
        got = numbered(assemble(Camera().config(first_light=0, lights_follow_counter=True), shots))
        assert got == {k: k for k in [*range(10), *range(12, 35)]}

    def test_a_counter_with_more_bits_than_declared_is_dropped(self) -> None:
        delivered = assemble(Camera().config(first_light=0, counter_bits=8), map(Camera().shot, range(400)))
        assert len(delivered.positions) == 256 // 4

    def test_a_second_sender_is_never_mixed_in_and_ends_delivery(self) -> None:
        mine = [Camera().shot(k) for k in range(1000, 1200)]
        theirs = retold([Camera().shot(k) for k in range(200)], data=np.zeros((2, 3), np.uint32))
        both = [shot for pair in zip(mine, theirs, strict=True) for shot in pair]
        delivered = assemble(Camera().config(first_light=0), both)
        assert 0 < len(delivered.cycles) < 10
        assert delivered.cycles == list(range(250, 250 + len(delivered.cycles)))
        assert delivered.assembler.counters["second_sender"] > 100

    def test_one_leap_is_not_believed(self) -> None:
        shots = [Camera().shot(k) for k in range(80)]
        shots[41] = replace(shots[41], counter=10**12)
        assert numbered(assemble(Camera().config(first_light=0), shots)) == {k: k for k in range(20) if k != 10}

    def test_many_late_frames_in_order_are_no_restart_if_the_clock_says_so(self) -> None:
        wire = [*range(400), *range(350, 390), *range(400, 480)]
        delivered = assemble(Camera().config(first_light=0), map(Camera().shot, wire))
        assert_right(delivered, wire)
        assert delivered.assembler.counters["out_of_order_frames"] == 40

    @pytest.mark.parametrize("n_lost", [1, 100, 672, 673, 240_000])
    def test_any_loss_is_a_gap_as_long(self, n_lost: int) -> None:
        wire = [*range(40), *range(40 + n_lost, 140 + n_lost)]
        got = numbered(assemble(Camera().config(first_light=0), map(Camera().shot, wire)))
        assert all(k == number for k, number in got.items())
        assert len(got) >= 10 + 100 // 4 - 3  # a long loss is believed after a few frames

    @pytest.mark.parametrize("has_clock", [True, False])
    def test_a_loss_longer_than_the_counter_lasts_is_told_by_the_clock(self, has_clock: bool) -> None:
        camera = Camera(bits=8, has_clock=has_clock)
        wire = [*range(40), *range(40 + 600, 140 + 600)]
        got = numbered(assemble(camera.config(first_light=0), map(camera.shot, wire)))
        assert got == {k: k for k in [*range(10), *range(160, 185)]}

    def test_with_three_lights_a_wrap_too_many_is_asked_of_the_tags(self) -> None:
        camera = Camera(3, bits=8, has_tags=True)
        wire = [*range(30), *range(30 + 500, 130 + 500)]
        delivered = assemble(camera.config(), map(camera.shot, wire))
        assert set(delivered.cycles) >= {*range(10), *range(178, 210)}
        assert "contradictions" not in delivered.assembler.counters

    @pytest.mark.parametrize(("bits", "n_lost"), [(8, 500), (4, 20)])
    def test_and_without_tags_nothing_is_delivered_after_it(self, bits: int, n_lost: int) -> None:
        tagged = Camera(3, bits=bits, has_tags=True, has_clock=False)
        untagged = replace(tagged, has_tags=False)
        shots = [tagged.shot(k) for k in range(30)]
        shots += [untagged.shot(k) for k in range(30 + n_lost, 130 + n_lost)]
        assert assemble(tagged.config(), shots).cycles == list(range(10))


class TestRestart:
    """The camera begins to count anew."""

    def restarted(self, camera: Camera, down_frames: int, *, clock_too: bool) -> list[RawFrame]:
        """400 frames, a pause, 200 frames with a counter (and a clock) from 0."""
        before = [camera.shot(k) for k in range(400)]
        after = retold([camera.shot(k) for k in range(400 + down_frames, 600 + down_frames)],
                       counter=lambda c: c - 400 - down_frames if c is not None else None)  # fmt: skip
        if clock_too:
            after = retold(after, device_s=lambda s: s - (400 + down_frames) / RATE_HZ)
        return before + after

    @pytest.mark.parametrize("down_frames", [4, 40, 4000])
    def test_what_was_lost_is_told_by_a_clock_that_goes_on(self, down_frames: int) -> None:
        shots = self.restarted(Camera(), down_frames, clock_too=False)
        got = numbered(assemble(Camera().config(first_light=0, lights_follow_counter=True), shots))
        assert got == {k: k for k in [*range(100), *range(102 + down_frames // 4, 150 + down_frames // 4)]}

    @pytest.mark.parametrize("camera", [Camera(), Camera(has_clock=False)])
    def test_without_such_a_clock_it_is_a_gap_of_what_was_dropped(self, camera: Camera) -> None:
        shots = self.restarted(camera, 40, clock_too=True)
        delivered = assemble(camera.config(first_light=0, lights_follow_counter=True), shots)
        assert delivered.numbers is not None
        assert delivered.numbers.tolist() == [*range(100), *range(102, 150)]
        assert delivered.assembler.counters["restarts"] == 1
        assert ("warning", "the camera began to count anew") in delivered.assembler.notices()

    def test_with_tags_the_phase_is_taken_from_them(self) -> None:
        camera = Camera(has_tags=True)
        shots = self.restarted(camera, 41, clock_too=False)
        positions = assemble(camera.config(), shots).positions
        assert len(positions) > 140
        assert not (positions[:, 0] % 4).any()

    def test_numbers_ascend_even_if_they_were_ahead_of_the_clock(self) -> None:
        camera = Camera(has_tags=True, has_clock=False)
        lights = [*range(4)] * 5 + [0, 1, 2, 3, 3] * 30
        shots = [replace(camera.shot(k), tag=LIGHTS[light]) for k, light in enumerate(lights)]
        delivered = assemble(camera.config(), shots + [camera.shot(k) for k in range(60)])
        assert delivered.numbers is not None
        assert (np.diff(delivered.numbers) > 0).all()
        assert len(delivered.numbers) > 5 + 29 + 10

    @pytest.mark.parametrize("n", [2, 3, 4])
    @pytest.mark.parametrize("down_frames", [40, 41, 42, 43])
    def test_without_tags_nothing_more_is_delivered_and_it_is_said_what_to_do(
        self, n: int, down_frames: int
    ) -> None:
        """The counter is 0 again under any of the lights."""
        camera = Camera(n)
        delivered = assemble(camera.config(first_light=0), self.restarted(camera, down_frames, clock_too=False))
        assert delivered.cycles == list(range(400 // n))
        (text,) = [text for _, text in delivered.assembler.notices() if "not known any more" in text]
        assert "the camera began to count anew" in text
        assert "lights_follow_counter" in text
        assert "send tags or set brightest_first" in text
        assert delivered.assembler.counters["unplaced_frames"] > 180

    def test_three_lights_that_begin_anew_with_the_counter_are_taken_up_again(self) -> None:
        """At position 441 both are at the beginning."""
        delivered = assemble(
            Camera(3).config(first_light=0, lights_follow_counter=True),
            self.restarted(Camera(3), 41, clock_too=False),
        )
        assert delivered.cycles == [*range(133), *range(150, 213)]

    def test_a_device_clock_that_alone_began_anew_is_taken_up_again(self) -> None:
        camera = Camera(has_counter=False, has_tags=True)
        shots = [camera.shot(k) for k in range(200)]
        shots += retold([camera.shot(k) for k in range(200, 400)], device_s=lambda s: s - 60.0)
        delivered = assemble(camera.config(), shots)
        assert delivered.cycles == [*range(50), *range(52, 100)]
        assert delivered.numbers is not None
        assert np.diff(delivered.numbers).min() >= 1


class TestTags:
    """What the hardware says."""

    def test_a_light_that_slips_is_followed(self) -> None:
        camera = Camera(has_tags=True)
        shots = [camera.shot(k) for k in range(40)]
        shots += retold(
            [camera.shot(k + 1) for k in range(40, 80)], counter=lambda c: c - 1
        )  # a light was skipped
        delivered = assemble(camera.config(), shots)
        assert numbered(delivered) == {k: k for k in range(20) if k != 10}
        assert delivered.assembler.counters["contradictions"] == 1
        text = "a frame of reflectance_523 came where fluorescence_470 was due"
        assert ("warning", text) in delivered.assembler.notices()

    def test_a_light_that_flashed_twice_is_a_gap(self) -> None:
        camera = Camera(has_tags=True)
        shots = [camera.shot(k) for k in range(40)]
        shots += retold([camera.shot(k - 1) for k in range(40, 81)], counter=lambda c: c + 1)
        delivered = assemble(camera.config(), shots)
        assert numbered(delivered) == {k: k + (k >= 10) for k in range(20)}

    def test_no_frame_has_a_place_before_the_first_whole_cycle(self) -> None:
        camera = Camera(has_tags=True)
        strobe = Strobe(camera.config(), Complaints(lambda: 0.0))
        assert [strobe.place(camera.shot(k)) for k in range(2, 6)] == [None, None, (0, 0), (0, 1)]
        slipped = retold([camera.shot(k + 1) for k in range(6, 12)], counter=lambda c: c - 1)
        assert [strobe.place(shot) for shot in slipped] == [None, (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]

    def test_first_light_gives_way_to_tags(self) -> None:
        camera = Camera(has_tags=True)
        delivered = assemble(camera.config(first_light=3), map(camera.shot, range(80)))
        assert delivered.cycles[-1] == 19
        assert not (delivered.positions[:, 0] % 4).any()

    def test_phase_counter_passes_tags_over(self) -> None:
        shots = retold([Camera().shot(k) for k in range(80)], tag="nonsense")
        assert assemble(Camera().config(phase="counter", first_light=0), shots).cycles == list(range(20))

    def test_frames_without_a_tag_are_placed_by_the_counter_once_one_had_one(self) -> None:
        shots = [Camera(has_tags=k == 21).shot(k) for k in range(80)]
        assert assemble(Camera().config(phase="tag"), shots).cycles == list(range(6, 20))

    @pytest.mark.parametrize("has_counter", [True, False])
    def test_an_unknown_tag_loses_the_cycle(self, has_counter: bool) -> None:
        camera = Camera(has_tags=True, has_counter=has_counter)
        shots = [camera.shot(k) for k in range(80)]
        shots[42] = replace(shots[42], tag="violet")
        delivered = assemble(camera.config(), shots)
        assert numbered(delivered) == {k: k for k in range(20) if k != 10}
        assert ("warning", "frames with the unknown tag 'violet' are dropped") in delivered.assembler.notices()

    def test_numbers_can_stand_for_lights(self) -> None:
        tags = {0: LIGHTS[0], 1: LIGHTS[1], "16": LIGHTS[1]}  # as YAML gives them
        shots = [replace(Camera(2).shot(k), tag=(0, 1, 0, 16)[k % 4]) for k in range(80)]
        assert assemble(Camera(2).config(tags=tags), shots).cycles == list(range(40))

    def test_one_light_needs_no_tag_and_minds_none(self) -> None:
        shots = retold([Camera(1).shot(k) for k in range(10)], tag="blue")
        assert assemble(Camera(1).config(), shots).cycles == list(range(10))

    def test_frames_of_a_light_that_is_not_wanted_are_dropped(self) -> None:
        shots = [replace(Camera(1).shot(k), tag=("blue", "violet")[k % 2]) for k in range(10)]
        delivered = assemble(Camera(1).config(tags={"blue": LIGHTS[0]}), shots)
        assert delivered.cycles == [0, 2, 4, 6, 8]

    def test_without_counter_and_clock_a_lost_frame_still_loses_its_cycle(self) -> None:
        camera = Camera(has_counter=False, has_tags=True, has_clock=False)
        wire = [k for k in range(80) if k not in (21, 22, 43, 60)]
        assert_right(assemble(camera.config(), map(camera.shot, wire)), wire)

    def test_and_a_long_silence_is_told_by_the_time_of_arrival(self) -> None:
        camera = Camera(has_counter=False, has_tags=True, has_clock=False)
        wire = [*range(40), *range(240, 280)]
        assert_right(assemble(camera.config(), map(camera.shot, wire)), wire)

    @pytest.mark.parametrize("n_lost", [12, 48, 200])
    def test_and_whole_cycles_beyond_the_jitter_are_too(self, n_lost: int) -> None:
        camera = Camera(has_counter=False, has_tags=True, has_clock=False)
        rng = np.random.default_rng(n_lost)
        wire = [*range(400), *range(400 + n_lost, 800 + n_lost)]
        shots = [camera.shot(k, 1000.0 + k / RATE_HZ + rng.uniform(0, 0.01)) for k in wire]
        assert_right(assemble(camera.config(), shots), wire)

    def test_a_late_burst_is_no_loss(self) -> None:
        """All at once, so that only the last one was taken when it came."""
        camera = Camera(has_counter=False, has_tags=True, has_clock=False)
        shots = [camera.shot(k, received_s=1000.0 + max(k, 60 if k > 20 else 0) / RATE_HZ) for k in range(80)]
        shots = [replace(shot, fresh=not 20 < k < 60) for k, shot in enumerate(shots)]
        delivered = assemble(camera.config(), shots)
        assert_right(delivered, range(80))
        np.testing.assert_allclose(delivered.stamps_s, 1000.0 + (4 * np.arange(20) + 3) / RATE_HZ, atol=1e-9)

    def test_a_burst_that_was_taken_for_a_loss_leaves_the_numbers_on_the_clock(self) -> None:
        """Each frame of it was taken as it came: what came too late is dropped, the rest is right again."""
        camera = Camera(has_counter=False, has_tags=True, has_clock=False)
        shots = [camera.shot(k, received_s=1000.0 + max(k, 60 if k > 20 else 0) / RATE_HZ) for k in range(400)]
        delivered = assemble(camera.config(), shots)
        positions = delivered.positions
        np.testing.assert_array_equal(positions, positions[:, :1] + np.arange(4))
        got = numbered(delivered)
        assert len(got) > 80
        assert all(abs(k - number) <= Arrivals.TOLERANCE_S * RATE_HZ / 4 for k, number in got.items() if k > 20)

    @pytest.mark.parametrize("slow", [1.0, 1.1, 2.0])
    def test_frames_that_wait_for_a_slow_engine_are_no_loss_and_their_stamps_say_when_they_came(
        self, slow: float
    ) -> None:
        """It takes 64 frames at a time, and needs longer for them than they need to come."""
        camera = Camera(has_counter=False, has_tags=True, has_clock=False)
        shots = [
            replace(camera.shot(k, 1001.0 + k // 64 * 64 / RATE_HZ * slow if k else 1000.0), fresh=k == 0)
            for k in range(640)
        ]
        delivered = assemble(camera.config(), shots)
        assert_right(delivered, range(640))
        np.testing.assert_allclose(delivered.stamps_s, 1000.0 + (4 * np.arange(160) + 3) / RATE_HZ, atol=1e-6)


class TestFramesThatTheCameraDidNotCount:
    """The counter goes on by one although a frame, and its light, was lost: the device's clock or the brightness
    says so."""

    def slipped(self, camera: Camera, n_lost: int = 1) -> list[RawFrame]:
        shots = [camera.shot(k) for k in range(800)]
        return shots[:402] + retold(shots[402 + n_lost :], counter=lambda c: c - n_lost)

    @pytest.mark.parametrize("n_lost", [1, 2, 3, 5, 70])
    @pytest.mark.parametrize("n", [2, 3, 4])
    def test_nothing_is_in_the_wrong_channel(self, n: int, n_lost: int) -> None:
        camera = Camera(n)
        delivered = assemble(camera.config(first_light=0), self.slipped(camera, n_lost))
        assert delivered.cycles == list(range(402 // n))
        notices = "\n".join(text for _, text in delivered.assembler.notices())
        assert f"time_s says that {n_lost}.0 frames more went by than counted" in notices
        assert "send tags or set brightest_first" in notices

    def test_tags_are_followed_whatever_the_clock_says(self) -> None:
        camera = Camera(has_tags=True)
        positions = assemble(camera.config(first_light=0), self.slipped(camera)).positions
        assert len(positions) > 195
        assert not (positions % 4 - np.arange(4)).any()

    def test_frames_without_a_tag_between_others_are_checked_from_the_last_tag_on(self) -> None:
        """Every 12th frame has a tag; what follows the slip is dropped up to the next of them."""
        camera = Camera(has_tags=True)
        shots = [
            shot if k % 12 == 5 else replace(shot, tag=None) for k, shot in enumerate(self.slipped(camera, 1))
        ]
        positions = assemble(camera.config(phase="tag"), shots).positions
        assert len(positions) > 180
        np.testing.assert_array_equal(positions % 4, np.tile(np.arange(4), (len(positions), 1)))
        np.testing.assert_array_equal(positions, positions[:, :1] + np.arange(4))

    def test_one_frame_with_a_wrong_time_loses_its_cycle_alone(self) -> None:
        shots = [Camera().shot(k) for k in range(400)]
        shots[202] = replace(shots[202], device_s=shots[202].device_s + 0.02)
        assert assemble(Camera().config(first_light=0), shots).cycles == [*range(50), *range(51, 100)]

    def test_a_clock_that_was_set_is_no_loss(self) -> None:
        shots = [Camera().shot(k) for k in range(400)]
        for step_s in (-1000.0, -0.5, 0.5, 1000.0):
            told = shots[:202] + retold(shots[202:], device_s=lambda s, step_s=step_s: s + step_s)
            assert assemble(Camera().config(first_light=0), told).cycles == list(range(100))

    @pytest.mark.parametrize("rate", [0.97, 0.999, 1.001, 1.03])
    def test_a_rate_that_is_a_little_off_is_no_contradiction(self, rate: float) -> None:
        wire = [k for k in range(2000) if not (300 <= k < 303 or 700 <= k < 1100)]
        delivered = assemble(Camera().config(first_light=0, rate_hz=RATE_HZ * rate), map(Camera().shot, wire))
        assert_right(delivered, wire)
        assert "clock_contradictions" not in delivered.assembler.counters


def test_one_light_without_a_counter_leaves_losses_to_the_stamps() -> None:
    camera = Camera(1, has_counter=False)
    delivered = assemble(camera.config(), map(camera.shot, [1, 2, 5, 5, 4]))
    assert delivered.cycles == [1, 2, 5, 5, 4]
    assert delivered.numbers is None


class TestFramesThatTellNothing:
    """Refused before anything is scored."""

    def refused(self, camera: Camera, **config: object) -> str:
        assembler = Assembler(camera.config(**config), (2, 3), np.uint32)
        with pytest.raises(StreamFormatError) as refusal:
            assembler.check(camera.shot(0))
        return str(refusal.value)

    def test_neither_tag_nor_counter(self) -> None:
        assert "carry no tag, and no counter. Send tags" in self.refused(Camera(has_counter=False))

    def test_a_counter_of_which_no_value_is_known(self) -> None:
        assert "set first_light in the rig file" in self.refused(Camera())

    def test_phase_counter_without_one(self) -> None:
        camera = Camera(has_counter=False, has_tags=True)
        assert "carry no counter" in self.refused(camera, phase="counter", first_light=0)

    def test_phase_tag_without_one(self) -> None:
        assert "phase is tag, but frames carry none" in self.refused(Camera(), phase="tag")

    def test_a_tag_that_nobody_knows(self) -> None:
        tags = dict(zip("abcd", LIGHTS, strict=True))
        text = self.refused(Camera(has_tags=True), tags=tags)
        assert "known are a, b, c, d" in text
        assert "source: {tags: {fluorescence_470: fluorescence_470}}" in text

    @pytest.mark.parametrize(
        ("camera", "config"),
        [
            (Camera(1, has_counter=False), {}),
            (Camera(has_tags=True), {}),
            (Camera(), {"first_light": 0}),
            (Camera(has_counter=False), {"brightest_first": LIGHTS}),
        ],
    )
    def test_all_others_pass(self, camera: Camera, config: dict[str, object]) -> None:
        Assembler(camera.config(**config), (2, 3), np.uint32).check(camera.shot(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lights": []}, "at least 1 item"),
        ({"lights": ["a", "a"]}, "a name of its own"),
        ({"tags": {"0": "a"}}, "must lead to each of the lights"),
        ({"tags": {"0": "a", "1": "b", "2": "c"}}, "to no other"),
        ({"first_light": 2}, "with 2 lights it is 0 to 1"),
        ({"lights": ["a", "b", "c"], "first_light": 0, "counter_bits": 8}, "no multiple of 3 lights"),
        ({"brightest_first": ["a"]}, "each of the lights a, b once"),
        ({"phase": "intensity"}, "needs brightest_first"),
        ({"phase": "counter"}, "needs first_light"),
        ({"lights_follow_counter": True}, "lights_follow_counter needs first_light"),
        ({"rate_hz": 0}, "greater than 0"),
        ({"rate_hz": float("inf")}, "finite"),
        ({"frame_shape": [0, 4]}, "at least 1"),
    ],
)
def test_a_rig_file_that_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CameraConfig.model_validate({"rate_hz": 60.0, "lights": ["a", "b"], **changes})
