from __future__ import annotations

from datetime import datetime, timedelta

from streamscore.clock import VirtualClock, utc_now_iso


def test_a_virtual_clock_moves_only_when_told() -> None:
    clock = VirtualClock(5.0)
    assert [clock.now_s() for _ in range(3)] == [5.0] * 3
    clock.wait_s(2.5)
    assert clock.now_s() == 7.5


def test_a_virtual_clock_never_runs_backwards() -> None:
    clock = VirtualClock(5.0)
    clock.advance_to(1.0)
    clock.wait_s(-3.0)
    assert clock.now_s() == 5.0


def test_utc_is_iso_text() -> None:
    assert datetime.fromisoformat(utc_now_iso()).utcoffset() == timedelta(0)
