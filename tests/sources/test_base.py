from __future__ import annotations

import numpy as np
import pytest

from streamscore.clock import VirtualClock
from streamscore.errors import StreamFormatError
from streamscore.sources.base import Pacer, select_channels

STREAM = ("Fp1", "C3", "C4", "EMG")


class TestSelectChannels:
    """By label, never by guess."""

    def test_without_wishes_all_channels_come(self) -> None:
        assert select_channels("amp", STREAM, None, None) == (STREAM, [0, 1, 2, 3])

    def test_a_mapping_alone_chooses_and_renames(self) -> None:
        assert select_channels("amp", STREAM, None, {"EEG": "C4", "EMG": "EMG"}) == (("EEG", "EMG"), [2, 3])

    def test_inputs_of_the_bundle_stand_for_themselves_unless_mapped(self) -> None:
        assert select_channels("amp", STREAM, ("EEG", "EMG"), {"EEG": "C3"}) == (("EEG", "EMG"), [1, 3])

    def test_an_absent_label_lists_what_there_is_and_shows_the_remedy(self) -> None:
        with pytest.raises(StreamFormatError, match=r"'EEG'; its channels are Fp1, C3, C4, EMG.*EEG: Fp1"):
            select_channels("amp", STREAM, ("EEG",), None)

    def test_a_label_that_stands_twice_is_refused(self) -> None:
        with pytest.raises(StreamFormatError, match="has 2 channels labelled 'C3'"):
            select_channels("amp", ("C3", "C3"), ("C3",), None)

    def test_a_mapping_of_something_that_the_bundle_does_not_want_is_refused(self) -> None:
        with pytest.raises(StreamFormatError, match="EOG, but the bundle's inputs are EEG"):
            select_channels("amp", STREAM, ("EEG",), {"EEG": "C3", "EOG": "Fp1"})

    def test_a_stream_without_channels_is_refused(self) -> None:
        with pytest.raises(StreamFormatError, match="has no channel"):
            select_channels("amp", (), ("EEG",), None)


class WaitingClock:
    """A clock that moves when it is waited on, and is no VirtualClock."""

    def __init__(self) -> None:
        self.t_s = 50.0
        self.waits_s: list[float] = []

    def now_s(self) -> float:
        return self.t_s

    def wait_s(self, duration_s: float) -> None:
        self.waits_s.append(duration_s)
        self.t_s += max(duration_s, 0.0)


class TestPacer:
    """Samples are held back until they are due."""

    @pytest.mark.parametrize("speed", [0.5, 1.0, 20.0])
    def test_it_gives_what_is_due_at_its_speed(self, speed: float) -> None:
        clock = WaitingClock()
        pacer = Pacer(clock, speed)
        pacer.begin()
        stamps_s = 50.0 + np.arange(1000) / 100.0
        clock.t_s = 50.0 + 2.0 / speed
        assert pacer.due_count(stamps_s, 0.1) == pytest.approx(201, abs=1)

    def test_it_waits_for_the_first_but_no_longer_than_it_may(self) -> None:
        clock = WaitingClock()
        pacer = Pacer(clock, 2.0)
        pacer.begin()
        assert pacer.due_count(np.array([50.25, 50.5]), 1.0) == 1
        assert clock.waits_s == [0.125]
        assert pacer.due_count(np.array([90.0]), 0.1) == 0
        assert clock.waits_s[-1] == 0.1

    def test_unpaced_it_gives_all_at_once(self) -> None:
        clock = WaitingClock()
        assert Pacer(clock, 0.0).due_count(np.arange(10.0), 0.1) == 10
        assert clock.waits_s == []

    def test_a_virtual_clock_is_moved_to_the_last_sample(self) -> None:
        clock = VirtualClock()
        assert Pacer(clock, 1.0).due_count(np.arange(10.0), 0.1) == 10
        assert clock.now_s() == 9.0

    def test_nothing_is_due_of_nothing(self) -> None:
        assert Pacer(VirtualClock(), 1.0).due_count(np.zeros(0), 0.1) == 0
