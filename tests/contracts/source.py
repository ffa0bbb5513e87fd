"""What every source must keep; see :mod:`streamscore.sources.base`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from streamscore.clock import VirtualClock
from streamscore.errors import StreamFormatError
from streamscore.sources.base import Source
from streamscore.types import Chunk, StreamInfo


def drain(source: Source) -> list[Chunk]:
    """Read until the end; a source that never ends fails."""
    chunks = []
    for _ in range(10_000):
        if source.ended:
            return chunks
        chunk = source.read(0.1)
        if chunk is not None:
            chunks.append(chunk)
    raise AssertionError("the source does not end")


class SourceContract(ABC):
    """Inherit it in a class named ``Test…`` and say how to make the source.

    Attributes
    ----------
    channels
        Labels of the stream, two at least, in its order.
    n_samples
        Length of the stream.
    """

    channels: tuple[str, ...]
    n_samples: int

    @abstractmethod
    def make(self, clock: VirtualClock, channels: Mapping[str, str] | None = None) -> Source:
        """Return a source that ends, with the mapping of a rig file's ``source.channels``."""

    def start(self, wanted: Sequence[str] | None = None) -> tuple[Source, StreamInfo]:
        """Return a source from which to read."""
        source = self.make(VirtualClock(100.0))
        info = source.open(wanted)
        assert source.begin() >= 0
        return source, info

    def test_the_description_fits_the_channels(self) -> None:
        source, info = self.start()
        assert info.channels == self.channels
        assert len(info.units) == len(info.channels)
        assert info.sfreq > 0
        source.close()

    def test_all_samples_come_in_order_and_then_the_end(self) -> None:
        source, info = self.start()
        chunks = drain(source)
        stamps_s = np.concatenate([chunk.stamps_s for chunk in chunks])
        assert len(stamps_s) == self.n_samples
        assert (np.diff(stamps_s) > 0).all()
        np.testing.assert_allclose(np.diff(stamps_s), 1.0 / info.sfreq, rtol=1e-6)
        assert source.read(0.1) is None
        assert source.ended

    def test_chunks_are_never_empty_and_have_the_right_types(self) -> None:
        source, info = self.start()
        for chunk in drain(source):
            assert len(chunk.data) > 0
            assert chunk.data.shape == (len(chunk.stamps_s), *info.layout.sample_shape)
            assert chunk.data.dtype == np.float32
            assert chunk.stamps_s.dtype == np.float64
            assert np.isfinite(chunk.clock_offset_s)

    def test_chunks_do_not_change_after_they_were_given(self) -> None:
        source, _ = self.start()
        first = source.read(0.1)
        assert first is not None
        kept = first.data.copy(), first.stamps_s.copy()
        drain(source)
        np.testing.assert_array_equal(first.data, kept[0])
        np.testing.assert_array_equal(first.stamps_s, kept[1])

    def test_wanted_channels_come_in_the_wanted_order(self) -> None:
        plain, _ = self.start()
        turned, info = self.start(self.channels[::-1])
        assert info.channels == self.channels[::-1]
        np.testing.assert_array_equal(
            np.concatenate([chunk.data for chunk in drain(turned)]),
            np.concatenate([chunk.data for chunk in drain(plain)])[:, ::-1],
        )

    def test_a_mapping_renames_channels(self) -> None:
        source = self.make(VirtualClock(), {"input": self.channels[1]})
        assert source.open(("input",)).channels == ("input",)
        source.close()

    def test_an_unknown_channel_lists_the_choices(self) -> None:
        source = self.make(VirtualClock())
        with pytest.raises(StreamFormatError, match=f"'Oz'.*{', '.join(self.channels)}"):
            source.open(("Oz",))
        source.close()

    def test_a_mapping_of_no_input_is_refused(self) -> None:
        source = self.make(VirtualClock(), {"typo": self.channels[0]})
        with pytest.raises(StreamFormatError, match=f"typo.*{self.channels[1]}"):
            source.open((self.channels[1],))
        source.close()

    def test_it_may_be_closed_twice_and_before_it_was_opened(self) -> None:
        unopened = self.make(VirtualClock())
        unopened.close()
        source, _ = self.start()
        source.read(0.1)
        source.close()
        source.close()
        assert source.ended

    def test_notices_are_told_once(self) -> None:
        source, _ = self.start()
        source.notices()
        assert source.notices() == []
        source.close()
