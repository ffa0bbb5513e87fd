from __future__ import annotations

import numpy as np
import pytest

from streamscore.camera.device_clock import DeviceClock

RATE_HZ = 67.2
OFFSET_S = 1234.5


def hour(
    rate_hz: float = RATE_HZ, duration_s: float = 3600.0, drift: float = 50e-6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return exposures, device stamps and arrivals: 2 ms, exponential jitter of 3 ms, each 7 s 80 ms at once."""
    rng = np.random.default_rng(seed)
    exposed_s = 100.0 + np.arange(round(duration_s * rate_hz)) / rate_hz
    device_s = (exposed_s - OFFSET_S) / (1 + drift)
    ready_s = exposed_s + 2e-3 + rng.exponential(3e-3, len(exposed_s))
    phase_s = exposed_s % 7.0
    ready_s = np.where(phase_s < 0.08, exposed_s - phase_s + 0.08, ready_s)
    return exposed_s, device_s, np.maximum.accumulate(ready_s)


def follow(clock: DeviceClock, device_s: np.ndarray, received_s: np.ndarray) -> np.ndarray:
    """Offset after each frame."""
    offsets_s = np.empty(len(device_s))
    for i, pair in enumerate(zip(device_s.tolist(), received_s.tolist(), strict=True)):
        clock.add(*pair)
        offsets_s[i] = clock.offset_s
    return offsets_s


@pytest.mark.parametrize("drift", [50e-6, -50e-6])
def test_an_hour_of_jitter_bursts_and_drift(drift: float) -> None:
    exposed_s, device_s, received_s = hour(drift=drift)
    clock = DeviceClock(RATE_HZ)
    offsets_s = follow(clock, device_s, received_s)
    late_s = (device_s + offsets_s - exposed_s)[exposed_s > 105.0]
    # What is left is the shortest delay, which cannot be seen from here, give or take the resolution.
    assert np.abs(late_s - 2e-3).max() < 1.5e-3
    assert clock.notices() == []


def test_the_offset_moves_in_few_steps() -> None:
    _, device_s, received_s = hour(duration_s=900.0)
    offsets_s = follow(DeviceClock(RATE_HZ), device_s, received_s)
    moves_s = np.abs(np.diff(offsets_s))
    moves_s = moves_s[moves_s > 0]
    assert moves_s.min() > DeviceClock.RESOLUTION_S
    assert len(moves_s) < 250  # 50 ppm are 45 ms, of which each way has 90 steps


def test_a_minute_of_congestion_moves_it_by_less_than_the_step() -> None:
    """50 ms later than ever for a minute: a full cable, not a new clock."""
    _, device_s, received_s = hour(duration_s=180.0)
    received_s[(device_s > device_s[0] + 60) & (device_s < device_s[0] + 120)] += 0.05
    clock = DeviceClock(RATE_HZ)
    offsets_s = follow(clock, device_s, np.maximum.accumulate(received_s))
    truth_s = OFFSET_S + 50e-6 * device_s + 2e-3
    assert np.abs(offsets_s - truth_s)[300:].max() < 60 * DeviceClock.MAX_DRIFT + 1e-3
    assert np.abs(offsets_s - truth_s)[-300:].max() < 1.5e-3
    assert clock.notices() == []


@pytest.mark.parametrize("step_s", [-1000.0, 500.0, 0.6])
def test_a_clock_that_starts_again_is_learnt_at_once(step_s: float) -> None:
    exposed_s, device_s, received_s = hour(duration_s=60.0)
    device_s[2000:] += step_s
    clock = DeviceClock(RATE_HZ)
    offsets_s = follow(clock, device_s, received_s)
    late_s = device_s + offsets_s - exposed_s
    assert np.abs(late_s - 2e-3)[2000 + 3 * 67 :].max() < 1.5e-3
    ((level, text),) = clock.notices()
    assert level == "warning"
    assert float(text.split()[5]) == pytest.approx(step_s, abs=0.1)
    assert clock.notices() == []


@pytest.mark.parametrize("fresh", [True, False])
def test_lateness_alone_is_never_a_new_clock(fresh: bool) -> None:
    """5 s late for ten minutes: a queue, here or at the camera, or a suspended camera. It must be seen."""
    _, device_s, received_s = hour(duration_s=660.0)
    clock = DeviceClock(RATE_HZ)
    for i, (device, received) in enumerate(zip(device_s.tolist(), received_s.tolist(), strict=True)):
        late_s = 5.0 if i > 60 * RATE_HZ else 0.0
        clock.add(device, received + late_s, i, fresh=fresh or not late_s)
    told_s = received_s[-1] + 5.0 - device_s[-1] - clock.offset_s
    assert told_s > 5.0 - (0.13 if fresh else 0.001)  # 200 ppm of ten minutes, for frames that were waited for
    assert clock.notices() == []


def test_an_engine_that_is_ever_further_behind_is_seen() -> None:
    clock = DeviceClock(RATE_HZ)
    for i in range(round(120 * RATE_HZ)):
        exposed_s = i / RATE_HZ
        clock.add(exposed_s + 100, exposed_s * 1.1 + 0.005, i, fresh=i == 0)
    assert clock.offset_s == pytest.approx(-100 + 0.005, abs=1e-3)
    assert clock.notices() == []


@pytest.mark.parametrize("step_s", [-1000.0, -2.0, 2.0, 1000.0])
def test_a_clock_that_steps_while_frames_wait_makes_none_look_fresh(step_s: float) -> None:
    """3 s in the queue before and after; then the queue is empty, and the clock is known again."""
    clock = DeviceClock(RATE_HZ)
    told_s = []
    for i in range(1000):
        waits = 100 <= i < 600
        exposed_s = i / RATE_HZ
        device_s = exposed_s + 50.0 + (step_s if i >= 300 else 0.0)
        received_s = exposed_s + (3.0 if waits else 0.0)
        clock.add(device_s, received_s, i, fresh=not waits)
        told_s.append(received_s - device_s - clock.offset_s)
    assert told_s[599] == pytest.approx(3.0, abs=0.05)
    assert told_s[-1] == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("bits", [None, 8])
def test_a_clock_that_stood_still_while_the_counter_went_on_is_learnt(bits: int | None) -> None:
    clock = DeviceClock(RATE_HZ, bits)
    for i in range(400):
        counter = i if i < 200 else i + 134  # two seconds
        device_s = i / RATE_HZ
        clock.add(device_s, counter / RATE_HZ, counter % 2**bits if bits else counter)
    assert clock.offset_s == pytest.approx(134 / RATE_HZ, abs=1e-3)
    ((_, text),) = clock.notices()
    assert "moved by -1.994 s" in text


def test_frames_that_the_camera_lost_without_counting_are_no_new_clock() -> None:
    clock = DeviceClock(RATE_HZ)
    for i in range(400):
        exposed_s = i / RATE_HZ + (2.0 if i >= 200 else 0.0)
        clock.add(exposed_s, exposed_s + 7.0, i)
    assert clock.offset_s == pytest.approx(7.0, abs=1e-3)
    assert clock.notices() == []


def test_a_long_silence_is_no_new_clock() -> None:
    _, device_s, received_s = hour(duration_s=7200.0)
    keep = (device_s < device_s[0] + 10) | (device_s > device_s[0] + 7000)
    clock = DeviceClock(RATE_HZ)
    offsets_s = follow(clock, device_s[keep], received_s[keep])
    truth_s = OFFSET_S + 2e-3 + 50e-6 * device_s[keep]
    assert abs(offsets_s - truth_s)[-1] < 1.5e-3
    assert clock.notices() == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_frames_without_a_device_time_change_nothing(bad: float) -> None:
    clock = DeviceClock(RATE_HZ)
    clock.add(bad, 5.0)
    assert clock.offset_s == 0.0
    clock.add(1.0, 5.0)
    clock.add(bad, 6.0)
    assert clock.offset_s == 4.0


def test_one_wild_stamp_is_forgotten_with_the_next_frame() -> None:
    _, device_s, received_s = hour(duration_s=30.0)
    device_s[1000] = 1e9
    clock = DeviceClock(RATE_HZ)
    offsets_s = follow(clock, device_s, received_s)
    truth_s = OFFSET_S + 2e-3 + 50e-6 * device_s
    assert np.abs(offsets_s - truth_s)[1100:].max() < 5e-3


def test_a_camera_and_a_wheel_see_one_event_within_a_frame() -> None:
    """The camera has its own clock and jitter; the wheel is stamped in stream time, 8 ms after the fact."""
    exposed_s, device_s, received_s = hour(duration_s=600.0, seed=3)
    wheel_delay_s, camera_delay_s = 8e-3, 2e-3
    wheel_s = 100.0 + np.arange(600 * 100) / 100.0
    wheel_offset_s = -wheel_delay_s
    events_s = np.random.default_rng(1).uniform(110.0, 690.0, 200)
    stamps_s = device_s + follow(DeviceClock(RATE_HZ), device_s, received_s) - camera_delay_s
    seen_camera_s = stamps_s[np.searchsorted(exposed_s, events_s)]
    seen_wheel_s = (wheel_s + wheel_delay_s)[np.searchsorted(wheel_s, events_s)] + wheel_offset_s
    apart_s = np.abs(seen_camera_s - seen_wheel_s)
    assert apart_s.max() < 1 / RATE_HZ + 1 / 100 + 1.5e-3  # a sample of each, and the error of the clock
    assert apart_s.max() < 1 / 16.8
