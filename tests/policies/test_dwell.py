from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamscore.errors import ConfigError
from streamscore.policies.dwell import Config, Dwell, build
from tests.contracts.policy import PolicyContract, posterior

LABELS = ("REM", "NREM", "Wake")


class TestDwell(PolicyContract):
    """Bouts shorter than the refractory time."""

    refractory_s, longest_s, max_age_s = 20.0, 5.0, 2.0

    def make(self) -> Dwell:
        return build(Config(states=("REM",), dwell_s=3.0, duration_s=5.0, refractory_s=20.0), self.labels)


class TestDwellAgainAndAgain(PolicyContract):
    """A refractory time shorter than the bout, and no dwell."""

    refractory_s, longest_s, max_age_s = 2.0, 6.0, 0.5

    def make(self) -> Dwell:
        config = Config(states=("REM",), dwell_s=0.0, duration_s=6.0, refractory_s=2.0, max_age_s=0.5)
        return build(config, self.labels)


def actions(
    policy: Dwell, p: list[float], *, t0_s: float = 0.0, invalid: tuple[int, ...] = ()
) -> dict[float, str]:
    """Show one posterior a second; return time → what was decided."""
    told = {}
    for k, probability in enumerate(p):
        t_s = t0_s + k
        decision = policy.update(posterior(t_s, probability, k not in invalid, LABELS), 0.01)
        if decision is not None:
            told[t_s] = decision.action
    return told


def make(**arguments: object) -> Dwell:
    return build(Config(**{"states": ("REM",), "dwell_s": 3.0, "duration_s": 5.0, **arguments}), LABELS)


def test_it_acts_when_the_state_has_lasted_and_not_before() -> None:
    assert actions(make(), [0.9] * 8) == {3.0: "on"}


def test_one_posterior_below_the_threshold_starts_the_dwell_again() -> None:
    assert actions(make(), [0.9, 0.9, 0.79, 0.9, 0.9, 0.9, 0.9]) == {6.0: "on"}


def test_an_invalid_posterior_starts_the_dwell_again() -> None:
    assert actions(make(), [0.9] * 7, invalid=(2,)) == {6.0: "on"}


@pytest.mark.parametrize("p", [0.1, 0.79])
def test_leaving_the_state_switches_off(p: float) -> None:
    assert actions(make(), [0.9] * 5 + [p]) == {3.0: "on", 5.0: "off"}


def test_losing_sight_of_the_state_switches_off() -> None:
    assert actions(make(), [0.9] * 6, invalid=(5,)) == {3.0: "on", 5.0: "off"}


def test_a_stale_posterior_switches_off_and_says_why() -> None:
    policy = make()
    actions(policy, [0.9] * 4)
    decision = policy.update(posterior(4.0, 0.9, True, LABELS), age_s=7.5)
    assert decision is not None
    assert (decision.action, decision.reason) == ("off", "the posterior is 7.5 s old")


def test_it_does_not_switch_off_what_has_ended_by_itself() -> None:
    assert actions(make(), [0.9] * 9 + [0.1]) == {3.0: "on"}


def test_the_refractory_time_counts_from_the_onset() -> None:
    assert actions(make(refractory_s=10.0), [0.9] * 25) == {3.0: "on", 13.0: "on", 23.0: "on"}


def test_probabilities_of_several_states_are_added() -> None:
    both = build(Config(states=("REM", "NREM"), probability=0.9, dwell_s=0.0), LABELS)
    assert both.update(posterior(0.0, 0.8, True, LABELS), 0.01) is not None
    assert make(dwell_s=0.0, probability=0.9).update(posterior(0.0, 0.8, True, LABELS), 0.01) is None


def test_the_threshold_itself_is_enough() -> None:
    assert actions(make(dwell_s=0.0, probability=0.75), [0.75]) == {0.0: "on"}


def test_an_unknown_state_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'SWS'.*REM, NREM, Wake"):
        build(Config(states=("SWS",)), LABELS)


@pytest.mark.parametrize(
    "wrong", [{"states": ()}, {"probability": 1.1}, {"duration_s": 0.0}, {"refractory_s": -1.0}, {"dwell": 3.0}]
)
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config(**{"states": ("REM",), **wrong})
