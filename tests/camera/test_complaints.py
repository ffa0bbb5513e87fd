from __future__ import annotations

from streamscore.camera.complaints import Complaints
from streamscore.clock import VirtualClock


def test_the_first_of_a_kind_is_told_at_once_and_the_rest_counted() -> None:
    clock = VirtualClock()
    complaints = Complaints(clock.now_s)
    complaints.add("bytes", "error", "too few")
    complaints.add("dtype", "error", "no such dtype")
    assert complaints.notices() == [("error", "too few"), ("error", "no such dtype")]
    for _ in range(500):
        complaints.add("bytes", "error", "too few again")
        assert complaints.notices() == []
    clock.wait_s(Complaints.INTERVAL_S)
    assert complaints.notices() == [("error", "too few again (500 times)")]
    assert complaints.notices() == []
    assert complaints.counts == {"bytes": 501, "dtype": 1}


def test_several_before_anybody_asks_are_one_notice() -> None:
    complaints = Complaints(VirtualClock().now_s)
    for k in range(3):
        complaints.add("bytes", "error", f"number {k}")
    assert complaints.notices() == [("error", "number 2 (3 times)")]
