"""Events as LSL streams: string markers of state changes, and the posterior as float32.

``NAME-state`` (type Markers) carries the name of each new state, stamped with the end of the epoch that showed
it. ``NAME-posterior`` carries the probabilities, NaN while the state is unknown.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pylsl
from pydantic import BaseModel, ConfigDict

from streamscore.events import Event, PosteriorEvent, StartEvent, StateEvent
from streamscore.sinks.base import Sink, patient_threads


class Config(BaseModel):
    """Arguments of :class:`LslOut`.

    Parameters
    ----------
    name
        The outlets are called ``NAME-state`` and ``NAME-posterior``.
    uses
        Kind of posteriors sent: ``"final"``, or ``"provisional"`` for the first word of a network with look-ahead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lsl_out"] = "lsl_out"
    name: str = "streamscore"
    uses: Literal["provisional", "final"] = "final"


class LslOut(Sink):
    """Two outlets for the main stream, opened with the run because their shape is that of the labels."""

    def __init__(self, config: Config) -> None:
        self._name = config.name
        self._uses = config.uses
        self._states: pylsl.StreamOutlet | None = None
        self._posterior: pylsl.StreamOutlet | None = None

    def open(self, start: StartEvent) -> None:
        state = pylsl.StreamInfo(
            f"{self._name}-state", "Markers", 1, 0.0, "string", source_id=f"{self._name}-state-{start.run}"
        )
        state.desc().append_child_value("bundle_sha256", start.bundle_sha256)
        with patient_threads():
            self._states = pylsl.StreamOutlet(state)
        if not start.labels:
            return
        posterior = pylsl.StreamInfo(
            f"{self._name}-posterior",
            "Posterior",
            len(start.labels),
            1.0 / start.hop_s,
            "float32",
            source_id=f"{self._name}-posterior-{start.run}",
        )
        posterior.set_channel_labels(start.labels)
        posterior.set_channel_units("probability")
        posterior.desc().append_child_value("bundle_sha256", start.bundle_sha256)
        self._unknown = np.full((1, len(start.labels)), np.nan, np.float32)
        with patient_threads():
            self._posterior = pylsl.StreamOutlet(posterior)

    def write(self, event: Event, text: str) -> None:
        if isinstance(event, StateEvent | PosteriorEvent) and (event.kind != self._uses or event.lane):
            return
        if isinstance(event, StateEvent) and self._states is not None:
            self._states.push_sample([event.state], event.t_stop_s)
        elif isinstance(event, PosteriorEvent) and self._posterior is not None:
            row = np.array([event.probs], np.float32) if event.probs else self._unknown
            self._posterior.push_chunk(row, event.t_stop_s)

    def close(self) -> None:
        self._states = self._posterior = None


def build(config: Config) -> LslOut:
    """Return the sink; the outlets appear with the run."""
    return LslOut(config)
