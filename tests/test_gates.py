from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamscore.errors import ConfigError
from streamscore.gates import Config, Gate, Gates
from streamscore.types import Gap, Posterior, Segment, StreamInfo
from tests.streams import cuts, sizes

SFREQ = 100.0
WHEEL = StreamInfo("wheel", SFREQ, ("speed", "torque"), ("cm/s", ""))
T0_S = 1000.0


def speed(n: int, start: int = 0, value: float = 0.0) -> Segment:
    """`n` samples from absolute index `start` on whose first channel is `value`."""
    data = np.zeros((n, 2), np.float32)
    data[:, 0] = value
    return Segment(start, data, T0_S + (start + np.arange(n)) / SFREQ)


def gate(**config: object) -> Gate:
    return Gate(Config(stream="wheel", measure="mean", window_s=0.5, **{"below": 1.0, **config}), WHEEL)


def posterior(t_stop_s: float, lag_s: float = 0.0) -> Posterior:
    return Posterior(0, 1, t_stop_s - 1, t_stop_s, (0.1, 0.9), "REM", True, lag_s=lag_s)


class TestGate:
    def test_it_is_open_while_the_measure_is_where_it_should_be(self) -> None:
        g = gate()
        g.push(speed(100, value=0.5))
        assert g.shut(T0_S + 1.0) == ""
        g.push(speed(100, 100, value=3.0))
        assert g.shut(T0_S + 2.0) == "mean of wheel/speed: 3 is not below 1"
        assert gate(below=None, above=2.0).shut(T0_S) != ""

    def test_it_looks_at_the_moment_of_the_output_not_at_what_came_last(self) -> None:
        g = gate()
        g.push(speed(100, value=0.0))
        g.push(speed(100, 100, value=10.0))  # this stream is quicker than the one that is scored
        assert g.shut(T0_S + 0.99) == ""
        value, problem = g.value(T0_S + 1.245)
        # The 25 samples from 1.00 to 1.24 of the 50 of the window.
        assert (value, problem) == (5.0, "")

    def test_without_fresh_samples_it_is_shut(self) -> None:
        g = gate(max_age_s=0.3)
        assert "no samples" in g.shut(T0_S)
        g.push(speed(100))
        assert g.shut(T0_S + 1.2) == ""
        assert g.shut(T0_S + 1.4) == "mean of wheel/speed: no sample of the last 0.3 s"
        assert "no sample" in g.shut(T0_S - 5.0)

    def test_a_gap_shuts_it_until_a_whole_window_has_come(self) -> None:
        g = gate()
        g.push(speed(100))
        g.push(Gap(100, 10, T0_S + 1.0, "samples lost"))
        g.push(speed(49, 110))
        assert g.shut(T0_S + 1.58) == "mean of wheel/speed: less than 0.5 s without a gap"
        g.push(speed(1, 159))
        assert g.shut(T0_S + 1.59) == ""

    @pytest.mark.parametrize(
        ("measure", "value"), [("rms", 2.0), ("mean", -1.0), ("mean_abs", 2.0), ("min", -3.0), ("max", 1.0)]
    )
    def test_measures(self, measure: str, value: float) -> None:
        g = Gate(Config(stream="wheel", measure=measure, window_s=1.0, below=100.0), WHEEL)
        data = np.zeros((100, 2), np.float32)
        data[:, 0] = np.where(np.arange(100) % 2, 1.0, -3.0)
        g.push(Segment(0, data, T0_S + np.arange(100) / SFREQ))
        assert g.value(T0_S + 0.99)[0] == pytest.approx(value)

    @given(sizes, st.integers(60, 299))
    def test_any_chunking_gives_the_same(self, sizes: list[int], at: int) -> None:
        values = np.random.default_rng(0).standard_normal((300, 2)).astype(np.float32)
        stamps_s = T0_S + np.arange(300) / SFREQ
        g = gate()
        for part in cuts(300, sizes):
            g.push(Segment(part.start, values[part], stamps_s[part]))
        wanted = values[at - 49 : at + 1, 0].mean()
        assert g.value(T0_S + at / SFREQ)[0] == pytest.approx(float(wanted), abs=1e-6)

    def test_a_chunk_longer_than_what_is_kept(self) -> None:
        g = gate()
        g.push(speed(10_000, value=0.5))
        assert g.value(T0_S + 99.99) == (0.5, "")

    def test_wrong_descriptions_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="no channel 'pupil'; it has speed, torque"):
            gate(channel="pupil")
        with pytest.raises(ConfigError, match="has frames"):
            Gate(Config(stream="cam", below=1.0), StreamInfo("cam", 30.0, ("f",), ("",), frame_shape=(4, 4)))
        with pytest.raises(ValidationError, match="'below', 'above' or both"):
            Config(stream="wheel")
        with pytest.raises(ValidationError, match="nothing is above 3 and below 2"):
            Config(stream="wheel", above=3.0, below=2.0)


class TestGates:
    def test_a_shut_gate_makes_an_output_useless_to_a_policy_and_nothing_else(self) -> None:
        gates = Gates([Config(stream="wheel", measure="mean", below=1.0)], {"wheel": WHEEL})
        gates.push("wheel", speed(200))
        gates.push("other", speed(10))
        kept = posterior(T0_S + 1.5)
        assert gates.apply(kept) is kept
        gates.push("wheel", speed(100, 200, value=5.0))
        shown = gates.apply(posterior(T0_S + 1.0, lag_s=1.9))  # decided at 2.9 s
        assert (shown.valid, shown.state) == (False, "REM")
        assert shown.reason.startswith("gate shut: mean of wheel/speed: 4.55 is not below 1")

    def test_an_output_that_comes_late_is_useless_if_the_animal_has_moved_since(self) -> None:
        gates = Gates([Config(stream="wheel", measure="mean", window_s=0.5, below=1.0)], {"wheel": WHEEL})
        gates.push("wheel", speed(200))
        gates.push("wheel", speed(100, 200, value=5.0))
        assert gates.shut(T0_S + 1.5) == ""  # the moment that the output speaks of
        assert "5 is not below 1" in gates.apply(posterior(T0_S + 1.5)).reason

    def test_a_stream_that_is_silent_shuts_its_gates_by_the_wall_clock(self) -> None:
        gates = Gates([Config(stream="wheel", measure="mean", below=1.0, max_age_s=0.4)], {"wheel": WHEEL})
        assert "no samples" in gates.shut_now({"wheel": 0.0})
        gates.push("wheel", speed(200))
        assert gates.shut_now({"wheel": 0.3}) == ""
        assert gates.shut_now({"wheel": 0.5}) == "mean of wheel/speed: no sample for 0.4 s"

    def test_an_unknown_stream_lists_the_choices(self) -> None:
        with pytest.raises(ConfigError, match=r"'whel'.*beside the main one are wheel"):
            Gates([Config(stream="whel", below=1.0)], {"wheel": WHEEL})
