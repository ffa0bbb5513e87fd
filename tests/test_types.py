from __future__ import annotations

import dataclasses
import math

import pytest

from streamscore import types


@pytest.mark.parametrize("name", ["StreamInfo", "Chunk", "Segment", "Gap", "Posterior", "Command", "Ack"])
def test_what_travels_is_frozen_and_has_no_room_for_more(name: str) -> None:
    value = getattr(types, name)
    assert value.__dataclass_params__.frozen
    assert value.__slots__ == tuple(field.name for field in dataclasses.fields(value))


def info(speed: float, wall_t0_s: float = 0.0) -> types.StreamInfo:
    return types.StreamInfo("amp", 100.0, ("EEG",), ("uV",), speed=speed, wall_t0_s=wall_t0_s)


def test_a_live_stamp_is_due_when_it_says() -> None:
    assert info(1.0, 50.0).wall_time_s(123.0) == 123.0


def test_a_stamp_of_a_fast_replay_is_due_sooner() -> None:
    assert info(20.0, 100.0).wall_time_s(140.0) == 102.0


def test_an_unpaced_stamp_is_never_due() -> None:
    assert info(0.0).wall_time_s(5.0) == math.inf
