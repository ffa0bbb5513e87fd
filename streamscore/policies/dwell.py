"""Act once a state has lasted: state, probability, dwell, refractory.

"REM for 10 s at p > 0.8 → on for at most 30 s, then not again for a minute."
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from streamscore.labels import check_states
from streamscore.policies.base import Decision, Policy
from streamscore.types import Posterior


class Config(BaseModel):
    """Arguments of :class:`Dwell`.

    Parameters
    ----------
    states
        States that count; their probabilities are added.
    probability
        Least summed probability.
    dwell_s
        Stream time for which every posterior must have fulfilled the condition.
    duration_s
        Longest on-time; leaving the states ends it earlier.
    refractory_s
        Stream time after an onset during which there is no other.
    uses
        ``"final"``, or ``"provisional"`` for the first word of a network that looks ahead.
    max_age_s
        A posterior older than this (lag + latency) cannot turn anything on, and turns off what is on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["dwell"] = "dwell"
    states: tuple[str, ...] = Field(min_length=1)
    probability: float = Field(0.8, ge=0, le=1)
    dwell_s: float = Field(10.0, ge=0)
    duration_s: float = Field(1.0, gt=0)
    refractory_s: float = Field(60.0, ge=0)
    uses: Literal["provisional", "final"] = "final"
    max_age_s: float = Field(2.0, gt=0)


class Dwell(Policy):
    """See the module. Time is stream time, so that a replay decides as the rig did."""

    def __init__(self, config: Config, labels: tuple[str, ...]) -> None:
        states = check_states(config.states, labels)
        self._config = config
        self.uses = config.uses
        self._columns = [i for i, label in enumerate(labels) if label in states]
        self._since_s: float | None = None
        self._onset_s = float("-inf")
        self._on = False

    def update(self, posterior: Posterior, age_s: float) -> Decision | None:
        config = self._config
        now_s = posterior.t_stop_s
        if self._on and now_s - self._onset_s >= config.duration_s:
            self._on = False  # the rig has switched itself off by now
        if not posterior.valid:
            return self._leave(f"{posterior.state}: {posterior.reason}")
        probability = sum(posterior.probs[i] for i in self._columns)
        if probability < config.probability:
            return self._leave(f"p = {probability:.2f} < {config.probability:g}")
        if self._since_s is None:
            self._since_s = now_s
        held_s = now_s - self._since_s
        if age_s > config.max_age_s:
            return self._switch_off(f"the posterior is {age_s:.1f} s old")
        if held_s < config.dwell_s or now_s - self._onset_s < config.refractory_s:
            return None
        self._on = True
        self._onset_s = now_s
        names = "/".join(config.states)
        return Decision("on", config.duration_s, f"{names} for {held_s:.1f} s, p = {probability:.2f}")

    def _leave(self, reason: str) -> Decision | None:
        self._since_s = None
        return self._switch_off(reason)

    def _switch_off(self, reason: str) -> Decision | None:
        if not self._on:
            return None
        self._on = False
        return Decision("off", 0.0, reason)


def build(config: Config, labels: tuple[str, ...]) -> Dwell:
    """Return the policy.

    Raises
    ------
    ConfigError
        If a state is not of `labels`; lists the choices.
    """
    return Dwell(config, labels)
