"""A Lab Streaming Layer stream of signals; see :mod:`streamscore.lsl_inlet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from streamscore.clock import Clock
from streamscore.lsl_inlet import Inlet, Selection
from streamscore.sources.base import Source, select_channels
from streamscore.types import Chunk, StreamInfo


class Config(Selection):
    """Which stream and which of its channels.

    Parameters
    ----------
    channels
        Input name → channel label of the stream. Without it, labels must equal the bundle's input names.
    """

    kind: Literal["lsl"] = "lsl"
    channels: dict[str, str] | None = None


class LslSource(Source):
    """Read one LSL stream.

    The channels of a stream without labels are called ch1, ch2 and so on.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._inlet = Inlet(config, clock)

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        info = self._inlet.open()
        labels = self._inlet.format.labels
        names, columns = select_channels(info.name(), labels, wanted, self._config.channels)
        self._columns = None if columns == list(range(len(labels))) else np.array(columns)
        all_units = [unit or "" for unit in info.get_channel_units() or []] or [""] * len(labels)
        return StreamInfo(
            name=info.name(),
            sfreq=self._inlet.format.sfreq,
            channels=names,
            units=tuple(all_units[c] for c in columns),
            source_id=info.source_id(),
            speed=self._inlet.speed,
        )

    def begin(self) -> int:
        return self._inlet.begin()

    def read(self, timeout_s: float) -> Chunk | None:
        pulled = self._inlet.pull(timeout_s)
        self.ended = self._inlet.ended
        if pulled is None:
            return None
        data, stamps_s, received_s = pulled
        if self._columns is not None:
            data = data[:, self._columns]
        return Chunk(data.astype(np.float32, copy=False), stamps_s, self._inlet.offset_s, received_s)

    def close(self) -> None:
        self._inlet.close()
        self.ended = True

    def notices(self) -> list[tuple[str, str]]:
        return self._inlet.notices()


def build(config: Config, clock: Clock) -> LslSource:
    """Return the source; the network is touched by ``open``."""
    return LslSource(config, clock)
