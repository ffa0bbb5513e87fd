"""The values that travel along the data path. All are frozen; arrays in them are never written again.

Shapes are ``(n_samples, n_channels)``, of a camera ``(n_samples, n_channels, height, width)``. Times are seconds
of stream time (LSL ``local_clock()`` of the engine's host) unless a name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
TimeArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """What one sample is made of.

    Parameters
    ----------
    sfreq
        Samples (or frames) per second.
    channels
        Labels: electrodes, regions, or what a camera takes under each of its lights.
    frame_shape
        ``(height, width)`` of a camera's frames; ``None`` for signals.
    """

    sfreq: float
    channels: tuple[str, ...]
    frame_shape: tuple[int, int] | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """``(n_channels,)`` of signals, ``(n_channels, height, width)`` of frames."""
        return (len(self.channels), *(self.frame_shape or ()))


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source knows about its stream.

    Parameters
    ----------
    name
        Name of the stream or file.
    sfreq
        Nominal sampling rate in Hz.
    channels
        Labels of the selected channels, in the order in which they are delivered.
    units
        Unit of each channel as written in the stream's description, ``""`` where none is.
    source_id
        Identifier of the device, if the stream has one.
    frame_shape
        ``(height, width)`` of a camera's frames; ``None`` for signals.
    full_scale
        Pixel value at which a camera saturates, where that is known.
    speed
        Stream seconds per wall second. A live rig has 1. A replay announces its own. 0 says that stamps
        tell nothing about when a sample was due (a file read as fast as possible).
    wall_t0_s
        For a replay, the time at which stamp and wall clock agreed.
    """

    name: str
    sfreq: float
    channels: tuple[str, ...]
    units: tuple[str, ...]
    source_id: str = ""
    speed: float = 1.0
    wall_t0_s: float = 0.0
    frame_shape: tuple[int, int] | None = None
    full_scale: float | None = None

    @property
    def layout(self) -> Layout:
        """What its samples are made of."""
        return Layout(self.sfreq, self.channels, self.frame_shape)

    def wall_time_s(self, stamp_s: float) -> float:
        """Wall-clock time at which the sample stamped `stamp_s` was due; infinity when none is known."""
        if self.speed == 0:
            return math.inf
        return self.wall_t0_s + (stamp_s - self.wall_t0_s) / self.speed


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples as they arrived. Its size carries no meaning.

    Parameters
    ----------
    data
        ``(n_samples, n_channels)`` float32, in the unit of the stream; ``(n_samples, n_channels, height, width)``
        of a camera, one channel for each of its lights.
    stamps_s
        ``(n_samples,)`` float64, device time stamps as sent, not corrected.
    clock_offset_s
        Measured offset that maps device stamps to stream time: ``stream time = stamp + offset``.
    received_s
        Wall time (``local_clock``) at which the chunk was in this process.
    counters
        ``(n_samples,)`` numbers that the device itself gave its samples, ascending by 1 where nothing was lost; a
        loss is then told by them, not by the stamps. ``None`` for devices that do not count.
    """

    data: FloatArray
    stamps_s: TimeArray
    clock_offset_s: float
    received_s: float
    counters: IndexArray | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of samples with no loss inside, placed on the absolute index.

    ``data[i]`` has absolute index ``start + i`` and stream time ``stamps_s[i]`` (offset-corrected).
    """

    start: int
    data: FloatArray
    stamps_s: TimeArray


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that are missing or must not be used.

    The samples ``start … start + n_samples - 1`` are absent. `n_samples` may be 0: a discontinuity
    without a known length (a clock jump). Whatever is scored next starts from a fresh state.
    """

    start: int
    n_samples: int
    t_s: float
    reason: str


PosteriorKind = Literal["provisional", "revised", "final"]


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the model says about one epoch.

    Parameters
    ----------
    start, stop
        Absolute sample indices of the epoch described, ``[start, stop)``.
    t_start_s, t_stop_s
        Stream times of the two.
    probs
        One probability per label; empty when there is no model output.
    state
        The most probable label, or ``"UNKNOWN"``.
    valid
        False for every output that must not trigger: before the receptive field is full, after a gap,
        on bad input, after a non-finite activation.
    reason
        Why the output is not valid; empty when it is.
    kind
        ``"provisional"`` at lag 0 of a model that will say more, ``"revised"`` at a lag between, ``"final"`` for
        the last word on an epoch.
    lag_s
        Algorithmic lag: stream time of the newest sample used minus the end of the epoch.
    """

    start: int
    stop: int
    t_start_s: float
    t_stop_s: float
    probs: tuple[float, ...]
    state: str
    valid: bool
    reason: str = ""
    kind: PosteriorKind = "final"
    lag_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Command:
    """An order to a rig. Acknowledged, with an identity and an expiry; never broadcast.

    Parameters
    ----------
    command_id
        Unique within a run.
    action
        ``"on"`` or ``"off"``.
    t_s
        Stream time of the end of the epoch that caused it.
    issued_s, expires_s
        Wall times of issue and of the moment after which a rig must refuse it.
    duration_s
        On-time after which the rig switches itself off.
    reason
        Why, in words, for the record.
    """

    command_id: int
    action: Literal["on", "off"]
    t_s: float
    issued_s: float
    expires_s: float
    duration_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Ack:
    """A rig's answer to a command: what it did, and when by its own clock."""

    command_id: int
    accepted: bool
    rig_time_s: float
    detail: str = ""
