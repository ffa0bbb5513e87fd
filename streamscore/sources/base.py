"""The seam of every input.

Adding a source is adding one file to this folder with a ``Config`` (pydantic; ``kind`` and its arguments) and
a ``build(config, clock) -> Source``, and a test class that inherits ``tests/contracts/source.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from streamscore.clock import Clock, VirtualClock
from streamscore.errors import StreamFormatError
from streamscore.types import Chunk, StreamInfo, TimeArray


class Source(ABC):
    """Where samples come from.

    The life of a source is ``open`` → ``begin`` → ``read`` … → ``close``. Between `open` and `begin` the engine
    warms up; what piles up meanwhile is stale.

    Attributes
    ----------
    ended
        True when nothing will ever come again.
    """

    ended: bool = False

    @abstractmethod
    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        """Find the input and describe it.

        Parameters
        ----------
        wanted
            Input names of the bundle, in order; ``None`` without a bundle (then all channels).
        """

    @abstractmethod
    def begin(self) -> int:
        """Start delivering; return how many stale samples were thrown away."""

    @abstractmethod
    def read(self, timeout_s: float) -> Chunk | None:
        """Return what has arrived, waiting at most `timeout_s` for something; ``None`` if nothing did."""

    @abstractmethod
    def close(self) -> None:
        """Release the input. May be called more than once."""

    @property
    def counters(self) -> dict[str, int]:
        """What was lost or refused before it became a sample, by name."""
        return {}

    def notices(self) -> list[tuple[str, str]]:
        """Return what a person should be told since the last call: pairs of level and text."""
        return []


def select_channels(
    stream: str,
    available: Sequence[str],
    wanted: Sequence[str] | None,
    mapping: Mapping[str, str] | None,
) -> tuple[tuple[str, ...], list[int]]:
    """Choose channels by label.

    Parameters
    ----------
    stream
        Name of the stream, for messages.
    available
        Labels that the stream has, in its order.
    wanted
        Input names of the bundle; ``None`` for all channels of `mapping`, or of the stream.
    mapping
        Input name → label of the stream, from the rig file. Names without an entry stand for themselves.

    Returns
    -------
    names, columns
        Names under which the channels are delivered, and their columns in the stream.

    Raises
    ------
    StreamFormatError
        If a label is absent or stands twice; lists the labels that the stream has.
    """
    mapping = dict(mapping or {})
    names = list(wanted) if wanted is not None else list(mapping) or list(available)
    if wanted is not None and (unused := sorted(set(mapping) - set(wanted))):
        raise StreamFormatError(
            f"source.channels names {', '.join(unused)}, but the bundle's inputs are {', '.join(wanted)}"
        )
    columns = []
    for name in names:
        label = mapping.get(name, name)
        hits = [i for i, have in enumerate(available) if have == label]
        if len(hits) != 1:
            problem = "has no channel" if not hits else f"has {len(hits)} channels"
            raise StreamFormatError(
                f"stream {stream!r} {problem} labelled {label!r}; its channels are {', '.join(available)}. "
                "Say which to use in the rig file, for example "
                f"source: {{channels: {{{name}: {available[0] if available else 'LABEL'}}}}}"
            )
        columns.append(hits[0])
    return tuple(names), columns


class Pacer:
    """Hold back prepared samples until they are due, for sources that play something.

    Parameters
    ----------
    clock
        Paces against it; a :class:`VirtualClock` is moved instead of waited for.
    speed
        Stream seconds per wall second; 0 plays as fast as possible.
    """

    def __init__(self, clock: Clock, speed: float) -> None:
        self._clock = clock
        self.speed = speed
        self.t0_s = 0.0

    def begin(self) -> None:
        """Start the time line now."""
        self.t0_s = self._clock.now_s()

    def due_count(self, stamps_s: TimeArray, timeout_s: float) -> int:
        """Wait up to `timeout_s` for the first of `stamps_s` to be due; return how many are."""
        if len(stamps_s) == 0:
            return 0
        if self.speed == 0 or isinstance(self._clock, VirtualClock):
            if isinstance(self._clock, VirtualClock):
                self._clock.advance_to(float(stamps_s[-1]))
            return len(stamps_s)
        first_due_s = self.t0_s + (float(stamps_s[0]) - self.t0_s) / self.speed
        self._clock.wait_s(min(first_due_s - self._clock.now_s(), timeout_s))
        reached_s = self.t0_s + (self._clock.now_s() - self.t0_s) * self.speed
        return int(stamps_s.searchsorted(reached_s, side="right"))
