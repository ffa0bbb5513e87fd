"""A stream of spectrogram images: samples in, one image a step out, each column computed once.

Source: MODELS.md 3.1, 3.3 and 3.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor, nn

from streamscore.features.multitaper import Multitaper
from streamscore.features.spectrogram_image import (
    N_BINS,
    count_values,
    equalise,
    jet_colours,
    log_power,
    paint,
    table_from_counts,
)


@dataclass(frozen=True)
class Framing:
    """Which columns make the image of an epoch, by their absolute index; all in samples.

    The image shows the columns whose centre lies strictly within the epoch and its context.

    Parameters
    ----------
    epoch
        Length of the interval that an image describes.
    context
        What it shows before, and after, the epoch.
    stride
        From one image to the next; the epochs described end at multiples of it.
    window, column_step
        Of the spectrogram.
    waits
        Whether the image waits for the columns whose centre is in it, but whose window is not complete at the end
        of the context. Else they are left out.
    """

    epoch: int
    context: int
    stride: int
    window: int
    column_step: int
    waits: bool

    @property
    def _grid(self) -> int:
        """Period of the distances from the centres of columns to the ends of steps."""
        return gcd(self.column_step, self.stride)

    @property
    def _half(self) -> int:
        return self.window // 2

    @property
    def span(self) -> int:
        """What an image shows."""
        return self.epoch + 2 * self.context

    @property
    def lag(self) -> int:
        """From the end of the epoch to the step that draws it."""
        if not self.waits:
            return self.context
        nearest_centre_before_end = -self._half % self._grid or self._grid
        wait = max(self.window - self._half - nearest_centre_before_end, 0)
        return self.context + -(-wait // self.stride) * self.stride

    @property
    def field(self) -> int:
        """From the first sample of the first column to the end of the step that draws the image."""
        nearest_centre_after_start = self._half % self._grid or self._grid
        return self.lag - self.context + self.span + self._half - nearest_centre_after_start

    @property
    def n_kept(self) -> int:
        """Columns of the past that the next image can need."""
        return max((self.field - self.stride - self.window) // self.column_step + 1, 0)

    def columns(self, n_samples: int, n_complete: int) -> tuple[int, int]:
        """First column, and that after the last, of the image that is drawn after `n_samples` samples.

        Parameters
        ----------
        n_samples
            Since the start of the stream.
        n_complete
            Columns complete by then.
        """
        stop = n_samples - self.lag + self.context
        first = max((stop - self.span - self._half) // self.column_step + 1, 0)
        after_last = -((self._half - stop) // self.column_step)
        return first, max(min(after_last, n_complete), first)


class ImageStream(nn.Module):
    """Draw one image a step.

    Parameters
    ----------
    spectrogram, framing
        They agree in window and step.
    image_size
        Height and width.
    table
        Of the equalisation, ``(256,)``; see :mod:`streamscore.features.spectrogram_image`.
    is_fitted
        Whether `table` was fitted on recordings, so that it belongs to the weights.
    fit_samples
        0: the table is used as it is. Else the table is fitted on the columns that are complete in the first
        `fit_samples` samples of the stream, as far as they were seen; ``None``: on all seen so far.
    """

    table: Tensor
    colours: Tensor

    def __init__(
        self,
        spectrogram: Multitaper,
        framing: Framing,
        image_size: int,
        table: Tensor,
        is_fitted: bool,
        fit_samples: int | None = 0,
    ) -> None:
        super().__init__()
        self.spectrogram = spectrogram
        self.framing = framing
        self.image_size = image_size
        self.fits = fit_samples != 0
        self.fit_columns = None if fit_samples is None else spectrogram.n_columns(fit_samples)
        self.register_buffer("table", table, persistent=is_fitted)
        self.register_buffer("colours", jet_colours(), persistent=False)

    @property
    def counts_on(self) -> bool:
        """Whether the table follows all that was seen, for ever."""
        return self.fits and self.fit_columns is None

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """Return the state of streams that have seen nothing.

        Returns
        -------
        tail, n_seen
            Of the spectrogram.
        kept
            Log power of the newest columns, ``(batch, n_kept, n_bins)``.
        counts
            Only if the table is fitted on the stream: histogram of log power, ``(batch, 256)``, integers.
        """
        tail, n_seen = self.spectrogram.initial_state(batch_size)
        kept = torch.zeros(batch_size, self.framing.n_kept, self.spectrogram.n_bins, device=tail.device)
        if not self.fits:
            return tail, n_seen, kept
        return tail, n_seen, kept, torch.zeros(batch_size, N_BINS, dtype=torch.int64, device=tail.device)

    def push(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Iterator[Tensor], tuple[Tensor, ...]]:
        """Draw the images of whole steps.

        Parameters
        ----------
        x
            Signals ``(batch, n_steps * stride)`` in µV.
        state
            From :meth:`initial_state` or the last call.

        Returns
        -------
        images
            One by one, ``(3, image_size, image_size)``, all steps of the first row first.
        state
            For the next call.
        """
        n_seen, kept = state[1:3]
        columns, (new_tail, new_n_seen) = self.spectrogram.push(x, state[0], n_seen)
        strips = [torch.cat((old, log_power(new))) for old, new in zip(kept, columns, strict=True)]
        rows = [
            # At the start of a stream the first columns kept stand before it, at negative indices.
            _Row(strip, self.spectrogram.n_columns(seen) - kept.shape[1], seen, seen + x.shape[1])
            for strip, seen in zip(strips, n_seen[:, 0].tolist(), strict=True)
        ]
        new_kept = torch.stack([strip[strip.shape[0] - kept.shape[1] :] for strip in strips])
        new_state = (new_tail, new_n_seen, new_kept)
        if not self.fits:
            return self._images(rows, None), new_state
        fitted = [self._fit(row, counts) for row, counts in zip(rows, state[3], strict=True)]
        new_counts = torch.stack([counts for _, counts in fitted])
        return self._images(rows, [tables for tables, _ in fitted]), (*new_state, new_counts)

    def _fit(self, row: _Row, counts: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the table at each step, and the histogram after the last."""
        tables = []
        done = self.spectrogram.n_columns(row.seen)
        for end in row.ends(self.framing.stride):
            complete = self.spectrogram.n_columns(end)
            limit = complete if self.fit_columns is None else max(done, min(complete, self.fit_columns))
            counts = counts + count_values(row.columns(done, limit))
            tables.append(table_from_counts(counts))
            done = complete
        return tables, counts

    def _images(self, rows: list[_Row], tables: list[list[Tensor]] | None) -> Iterator[Tensor]:
        for i, row in enumerate(rows):
            for j, end in enumerate(row.ends(self.framing.stride)):
                first, stop = self.framing.columns(end, self.spectrogram.n_columns(end))
                # At the start of a stream there may be no column yet; no usable read sees what is drawn then.
                values = (
                    row.columns(first, stop) if stop > first else self.table.new_zeros(1, self.spectrogram.n_bins)
                )
                levels = equalise(values, self.table if tables is None else tables[i][j])
                yield paint(levels, self.colours, self.image_size)


@dataclass(frozen=True)
class _Row:
    """One stream within a call: its columns, the absolute index of the first, samples seen before and after."""

    strip: Tensor
    first: int
    seen: int
    seen_after: int

    def columns(self, first: int, stop: int) -> Tensor:
        return self.strip[first - self.first : stop - self.first]

    def ends(self, stride: int) -> range:
        """Samples seen after each step."""
        return range(self.seen + stride, self.seen_after + 1, stride)
