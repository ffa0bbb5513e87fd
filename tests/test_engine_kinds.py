"""An engine with a network that speaks twice about each step: two tracks of states, one policy, one stall."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest

from streamscore.clock import VirtualClock
from streamscore.policies import dwell
from streamscore.policies.base import Policy
from streamscore.types import FloatArray
from tests.streams import Run, chunks, run_engine
from tests.toys import SFREQ, STEP, Toy, toy_bundle

T0_S = 100.0


@pytest.fixture(autouse=True, scope="module")
def _no_collection() -> Iterator[None]:
    """Leave the garbage of the test session alone: to collect it takes longer than a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        yield


def steps(*means: float) -> FloatArray:
    """A second of noise around each mean; `Toy` calls a step Wake when its mean is above what follows it."""
    rng = np.random.default_rng(0)
    return np.concatenate([0.01 * rng.standard_normal((STEP, 1)) + mean for mean in means]).astype(np.float32)


def play(data: FloatArray, **options: Any) -> Run:
    stamps_s = T0_S + np.arange(len(data)) / SFREQ
    bundle = toy_bundle(Toy((0, 2)), hop_s=1.0)
    return run_engine(bundle, chunks(data, stamps_s, [STEP]), clock=VirtualClock(T0_S), sfreq=SFREQ, **options)


def test_provisional_and_final_states_are_two_tracks() -> None:
    run = play(steps(2, 2, -2, -2, -2, 2, 2))
    assert run.of("start")[0].kinds == ["provisional", "final"]
    for kind in ("provisional", "final"):
        track = [event for event in run.of("state") if event.kind == kind]
        assert track[0].previous == "UNKNOWN"
        assert all(a.state == b.previous for a, b in pairwise(track))
        told = [event.state for event in run.of("posterior") if event.kind == kind]
        changes = [state for last, state in pairwise(["UNKNOWN", *told]) if state != last]
        assert [event.state for event in track] == changes


def test_the_present_state_is_the_one_with_the_least_lag() -> None:
    run = play(steps(2, 2, 2, 2, -2))
    last = [event for event in run.of("posterior") if event.kind == "provisional"][-1]
    beat = run.of("heartbeat")[-1]
    assert (beat.state, beat.probs) == (last.state, last.probs)


@pytest.mark.parametrize("uses", ["provisional", "final"])
def test_a_policy_sees_the_kind_that_it_uses(uses: Literal["provisional", "final"]) -> None:
    def make_policy(labels: tuple[str, ...]) -> Policy:
        config = dwell.Config(
            states=("Wake",), probability=0.6, dwell_s=0, refractory_s=0, uses=uses, max_age_s=10, duration_s=1
        )
        return dwell.build(config, labels)

    run = play(steps(-2, -2, 3, -2, -2, -2), policy=make_policy, mode="dry")
    first = next(event for event in run.of("command") if event.action == "on")
    # The final word on a second comes two seconds after the provisional one.
    assert first.t_s == pytest.approx(T0_S + 3.0)
    assert first.age_s == pytest.approx(2.0 if uses == "final" else 0.0, abs=0.2)


def test_a_stall_makes_both_tracks_unknown() -> None:
    data = steps(2, 2, 2, 2)
    script: list[Any] = [*chunks(data, T0_S + np.arange(len(data)) / SFREQ, [STEP]), 4.0]
    run = run_engine(toy_bundle(Toy((0, 2)), hop_s=1.0), script, clock=VirtualClock(T0_S), sfreq=SFREQ)
    last = {event.kind: event for event in run.of("posterior")}
    assert {kind: (event.state, event.valid) for kind, event in last.items()} == {
        "provisional": ("UNKNOWN", False),
        "final": ("UNKNOWN", False),
    }
    assert all("stalled" in event.reason for event in last.values())
