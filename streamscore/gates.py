"""Gates: a policy may act only while another stream says so (the animal keeps still, the muscle is quiet).

A gate reads one channel of a *side* stream, over a window that ends with the newest sample that is no younger than
the output which a policy is about to see: alignment is by stream time, not by which stream was quicker. A gate
that has no fresh samples, or a window with a gap in it, is shut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamscore.errors import ConfigError
from streamscore.ring import Ring
from streamscore.types import FloatArray, Gap, Posterior, Segment, StreamInfo

#: Samples kept beyond the window, in seconds: how far the main stream may lag behind this one.
KEPT_S = 30.0
#: A stamp this much later than the moment asked for still counts as of that moment: rounding.
ROUNDING_S = 1e-6


class Config(BaseModel):
    """One gate of a rig file.

    Parameters
    ----------
    stream, channel
        Which side stream (a name under ``streams``), and which of its channels; its first by default.
    measure
        What of the window is compared: ``"rms"`` about the window's mean, ``"mean"``, ``"mean_abs"``, ``"min"`` or
        ``"max"``.
    window_s
        Length of the window.
    below, above
        The gate is open while the measure is below, above, or between; at least one.
    max_age_s
        Oldest newest sample: without anything fresher the gate is shut.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream: str
    channel: str | None = None
    measure: Literal["rms", "mean", "mean_abs", "min", "max"] = "rms"
    window_s: float = Field(1.0, gt=0, le=600)
    below: float | None = None
    above: float | None = None
    max_age_s: float = Field(0.5, gt=0, le=KEPT_S)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.below is None and self.above is None:
            raise ValueError("a gate needs 'below', 'above' or both")
        if self.below is not None and self.above is not None and self.above >= self.below:
            raise ValueError(f"nothing is above {self.above:g} and below {self.below:g}")
        return self


MEASURES: Mapping[str, Callable[[FloatArray], float]] = {
    "rms": lambda x: float(np.std(x)),
    "mean": lambda x: float(np.mean(x)),
    "mean_abs": lambda x: float(np.mean(np.abs(x))),
    "min": lambda x: float(np.min(x)),
    "max": lambda x: float(np.max(x)),
}


class Gate:
    """One gate.

    Parameters
    ----------
    config
        See :class:`Config`.
    info
        The side stream.

    Raises
    ------
    ConfigError
        If the stream has frames, or no such channel; lists those that it has.
    """

    def __init__(self, config: Config, info: StreamInfo) -> None:
        if info.frame_shape is not None:
            raise ConfigError(f"gate on {config.stream!r}: it has frames; a gate needs a stream of signals")
        channel = config.channel or info.channels[0]
        if channel not in info.channels:
            raise ConfigError(
                f"gate on {config.stream!r}: no channel {channel!r}; it has {', '.join(info.channels)}"
            )
        self.name = f"{config.measure} of {config.stream}/{channel}"
        self._config = config
        self.max_age_s = config.max_age_s
        self._column = info.channels.index(channel)
        self._sfreq = info.sfreq
        self._n_window = max(round(config.window_s * info.sfreq), 1)
        self._ring = Ring(self._n_window + math.ceil(KEPT_S * info.sfreq), (1,))

    def push(self, piece: Segment | Gap) -> None:
        """Take in usable samples, or a gap."""
        if isinstance(piece, Gap):
            # A gap of unknown length still parts what came before from what comes after.
            self._ring.skip_to(piece.start + piece.n_samples)
            return
        column = slice(self._column, self._column + 1)
        for begin in range(0, len(piece.data), self._ring.capacity):
            part = slice(begin, begin + self._ring.capacity)
            self._ring.append(piece.data[part, column], piece.stamps_s[part])

    @property
    def newest_s(self) -> float:
        """Stream time of the newest sample; minus infinity where there is none to be read."""
        return self._ring.stamp_s(self._ring.stop - 1) if self._ring.stop > self._ring.oldest else -math.inf

    def value(self, t_s: float) -> tuple[float, str]:
        """Return the measure at stream time `t_s`, and why there is none (then NaN)."""
        ring = self._ring
        if ring.stop == ring.oldest:
            return math.nan, "no samples"
        stop = self._newest_at(t_s)
        if stop <= ring.oldest or t_s - ring.stamp_s(stop - 1) > self._config.max_age_s:
            return math.nan, f"no sample of the last {self._config.max_age_s:g} s"
        if stop - self._n_window < ring.oldest:
            return math.nan, f"less than {self._config.window_s:g} s without a gap"
        return MEASURES[self._config.measure](ring.window(stop - self._n_window, stop)), ""

    def _newest_at(self, t_s: float) -> int:
        """Absolute index after the newest sample that is no younger than `t_s`."""
        low, high = self._ring.oldest, self._ring.stop
        while low < high:
            middle = (low + high) // 2
            if self._ring.stamp_s(middle) <= t_s + ROUNDING_S:
                low = middle + 1
            else:
                high = middle
        return low

    def shut(self, t_s: float) -> str:
        """Why the gate is shut at stream time `t_s`; empty while it is open."""
        value, problem = self.value(t_s)
        config = self._config
        if problem:
            return f"{self.name}: {problem}"
        if config.below is not None and not value < config.below:
            return f"{self.name}: {value:.3g} is not below {config.below:g}"
        if config.above is not None and not value > config.above:
            return f"{self.name}: {value:.3g} is not above {config.above:g}"
        return ""


class Gates:
    """All gates of a run.

    Parameters
    ----------
    configs
        From the rig file.
    infos
        Name of a side stream → the stream.
    """

    def __init__(self, configs: Sequence[Config], infos: Mapping[str, StreamInfo]) -> None:
        self._by_stream: dict[str, list[Gate]] = {}
        for config in configs:
            if config.stream not in infos:
                raise ConfigError(
                    f"a gate names stream {config.stream!r}; the streams beside the main one are "
                    f"{', '.join(infos) or 'none'}"
                )
            self._by_stream.setdefault(config.stream, []).append(Gate(config, infos[config.stream]))
        self._gates = [gate for gates in self._by_stream.values() for gate in gates]

    def __len__(self) -> int:
        return len(self._gates)

    def push(self, stream: str, piece: Segment | Gap) -> None:
        """Take in samples of a side stream."""
        for gate in self._by_stream.get(stream, ()):
            gate.push(piece)

    def shut(self, t_s: float) -> str:
        """Why not all gates are open at stream time `t_s`; empty when they are."""
        for gate in self._gates:
            if reason := gate.shut(t_s):
                return reason
        return ""

    def shut_now(self, silent_s: Mapping[str, float]) -> str:
        """Why not all gates are open by their newest samples, or for want of any; empty when they are.

        Parameters
        ----------
        silent_s
            Name of a side stream → time since it last gave samples.
        """
        for stream, gates in self._by_stream.items():
            for gate in gates:
                if silent_s[stream] > gate.max_age_s:
                    return f"{gate.name}: no sample for {gate.max_age_s:g} s"
                if reason := gate.shut(gate.newest_s):
                    return reason
        return ""

    def _shut_since(self, t_s: float) -> str:
        """Why a gate is shut by samples newer than `t_s`: an output may come late, the animal move meanwhile."""
        for gate in self._gates:
            if gate.newest_s > t_s and (reason := gate.shut(gate.newest_s)):
                return reason
        return ""

    def apply(self, posterior: Posterior) -> Posterior:
        """What a policy is shown of `posterior`: the same, or an invalid one while a gate is shut."""
        if not self._gates or not posterior.valid:
            return posterior
        t_s = posterior.t_stop_s + posterior.lag_s
        reason = self.shut(t_s) or self._shut_since(t_s)
        return replace(posterior, valid=False, reason=f"gate shut: {reason}") if reason else posterior
