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
from streamscore.policies.base import Decision, Policy
from streamscore.types import FloatArray, Posterior
from tests.streams import Run, ScriptedRig, chunks, run_engine
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


def lagged_policy(labels: tuple[str, ...]) -> Policy:
    """Acts on final outputs, for little longer than their lag and the time until a stall is told."""
    return dwell.build(
        dwell.Config(states=("Wake",), probability=0.6, dwell_s=0, refractory_s=60, max_age_s=10, duration_s=4),
        labels,
    )


@pytest.mark.parametrize("silence_s", [4.0, 9.0])
def test_a_stall_switches_off_what_a_lagged_output_switched_on(silence_s: float) -> None:
    data = steps(9, 6, 3, 0)
    script: list[Any] = [*chunks(data, T0_S + np.arange(len(data)) / SFREQ, [STEP]), silence_s]
    clock = VirtualClock(T0_S)
    rig = ScriptedRig(clock)
    run = run_engine(
        toy_bundle(Toy((0, 2)), hop_s=1.0),
        script,
        clock=clock,
        sfreq=SFREQ,
        policy=lagged_policy,
        rig=rig,
        mode="live",
    )
    assert rig.actions[0] == "on"
    off = next(event for event in run.of("command") if event.action == "off")
    assert "stalled" in off.reason
    assert off.wall_s < T0_S + 4.0 + 2.5  # the stall is told after 2 s of silence


def test_an_invalid_output_switches_off_whatever_the_policy_believes() -> None:
    class Forgetful(Policy):
        """Says on once, and nothing ever after."""

        told = False

        def update(self, posterior: Posterior, age_s: float) -> Decision | None:
            if posterior.valid and not self.told:
                self.told = True
                return Decision("on", 60.0, "once")
            return None

    data = steps(3, 3, 3, 3, 3, 3)
    data[35] = np.nan
    clock = VirtualClock(T0_S)
    rig = ScriptedRig(clock)
    run_engine(
        toy_bundle(Toy(), hop_s=1.0), chunks(data, T0_S + np.arange(len(data)) / SFREQ, [STEP]), clock=clock,
        sfreq=SFREQ, policy=lambda _: Forgetful(), rig=rig, mode="live",
    )  # fmt: skip
    assert rig.actions[:2] == ["on", "off"]


def test_a_lost_chunk_is_unknown_on_both_tracks() -> None:
    data = np.concatenate([steps(3, 3, -2, -2, 3, 3), steps(3, 3, -2, -2)])
    keep = np.delete(np.arange(len(data)), np.s_[55:58])
    stamps_s = T0_S + np.arange(len(data)) / SFREQ
    run = run_engine(
        toy_bundle(Toy((0, 1), chunk=2), hop_s=1.0), chunks(data[keep], stamps_s[keep], [STEP]),
        clock=VirtualClock(T0_S), sfreq=SFREQ,
    )  # fmt: skip
    for kind in ("provisional", "final"):
        assert "UNKNOWN" in [event.state for event in run.of("state") if event.kind == kind][1:]
