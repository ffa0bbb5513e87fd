"""The seam of every policy: when to act.

A policy sees posteriors in order and says "on" or "off"; it knows nothing of rigs, modes or time of day. Adding
one is adding one file to this folder with a ``Config`` (pydantic; ``kind`` and its arguments) and a
``build(config, labels) -> Policy``, and a test class that inherits ``tests/contracts/policy.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from streamscore.types import Posterior


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy wants: `duration_s` of on-time, or off at once; `reason` is for the record."""

    action: Literal["on", "off"]
    duration_s: float
    reason: str


class Policy(ABC):
    """Base of all policies. An invalid posterior can never turn anything on.

    Attributes
    ----------
    uses
        Kind of posteriors that it is shown.
    """

    uses: Literal["provisional", "final"] = "final"

    @abstractmethod
    def update(self, posterior: Posterior, age_s: float) -> Decision | None:
        """Take the next posterior.

        Parameters
        ----------
        posterior
            In order of time; ``valid`` is False for everything that must not trigger.
        age_s
            Lag plus latency of it.
        """
