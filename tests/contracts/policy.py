"""What every policy must keep; see :mod:`streamscore.policies.base`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamscore.labels import UNKNOWN
from streamscore.policies.base import Decision, Policy
from streamscore.types import Posterior


@dataclass(frozen=True)
class Moment:
    """One posterior, as a test draws it: `step_s` after the last one, the first label with probability `p`."""

    step_s: float
    p: float
    valid: bool
    age_s: float


MOMENTS = st.lists(
    st.builds(
        Moment,
        step_s=st.sampled_from([0.5, 1.0, 1.0, 1.0, 7.0]),
        p=st.sampled_from([0.0, 0.5, 0.95, 0.95, 0.95, 1.0]),
        valid=st.sampled_from([True, True, True, True, False]),
        age_s=st.sampled_from([0.01, 0.01, 0.01, 100.0]),
    ),
    max_size=60,
)


def posterior(t_s: float, p: float, valid: bool, labels: tuple[str, ...]) -> Posterior:
    """Return a posterior that ends at `t_s` and gives the first label `p`."""
    if not valid:
        return Posterior(0, 1, t_s - 4.0, t_s, (), UNKNOWN, False, "gap (samples lost)")
    rest = (1.0 - p) / (len(labels) - 1)
    probs = (p, *[rest] * (len(labels) - 1))
    return Posterior(0, 1, t_s - 4.0, t_s, probs, labels[probs.index(max(probs))], True)


class PolicyContract(ABC):
    """Inherit it in a class named ``Test…`` and say how to make the policy.

    Attributes
    ----------
    labels
        What is scored. The policy is made such that it may act on the first of them.
    refractory_s, longest_s, max_age_s
        What the policy was told: least time between onsets, longest on-time, oldest posterior.
    """

    labels: tuple[str, ...] = ("REM", "NREM", "Wake")
    refractory_s: float
    longest_s: float
    max_age_s: float

    @abstractmethod
    def make(self) -> Policy:
        """Return a fresh policy."""

    def decide(self, moments: list[Moment]) -> list[tuple[float, Moment, Decision | None]]:
        """Show a fresh policy all moments; return each with its time and what was decided."""
        policy = self.make()
        t_s = 1000.0
        told = []
        for moment in moments:
            t_s += moment.step_s
            told.append(
                (t_s, moment, policy.update(posterior(t_s, moment.p, moment.valid, self.labels), moment.age_s))
            )
        return told

    def test_it_can_switch_on_at_all(self) -> None:
        told = self.decide([Moment(1.0, 1.0, True, 0.01)] * 120)
        assert any(decision and decision.action == "on" for _, _, decision in told)

    @given(MOMENTS)
    def test_invalid_and_stale_posteriors_never_switch_on(self, moments: list[Moment]) -> None:
        for _, moment, decision in self.decide(moments):
            if decision is not None and decision.action == "on":
                assert moment.valid
                assert moment.age_s <= self.max_age_s

    @given(MOMENTS)
    def test_every_on_ends_by_itself_or_is_ended(self, moments: list[Moment]) -> None:
        on_until_s = -math.inf
        for t_s, moment, decision in self.decide(moments):
            if decision is not None and decision.action == "on":
                assert 0 < decision.duration_s <= self.longest_s
                on_until_s = t_s + decision.duration_s
                continue
            if t_s < on_until_s and (not moment.valid or moment.age_s > self.max_age_s):
                assert decision is not None
                assert decision.action == "off"
            if decision is not None:
                assert t_s < on_until_s, "switched off what was off"
                on_until_s = -math.inf

    @given(MOMENTS)
    def test_onsets_keep_the_refractory_time(self, moments: list[Moment]) -> None:
        onsets_s = [t_s for t_s, _, decision in self.decide(moments) if decision and decision.action == "on"]
        assert all(b - a >= self.refractory_s for a, b in pairwise(onsets_s))

    @given(MOMENTS)
    def test_the_same_posteriors_give_the_same_decisions(self, moments: list[Moment]) -> None:
        assert self.decide(moments) == self.decide(moments)

    def test_each_decision_has_a_reason(self) -> None:
        told = self.decide([Moment(1.0, 1.0, True, 0.01)] * 120 + [Moment(1.0, 0.0, True, 0.01)])
        assert all(decision.reason for _, _, decision in told if decision is not None)
