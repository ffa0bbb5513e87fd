"""Coloured image of a spectrogram: log power → equalised levels → jet colours → picture of fixed size.

Source: MODELS.md 3.1. The equalisation is a table of borders between levels, fitted on a histogram that can be
counted column by column: of a whole night (the paper), of a calibration, or of all that was seen so far.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Levels of the equalised spectrogram, and colours.
N_LEVELS = 255
#: Bins of the histogram that the equalisation is fitted on; they are centred on k / 255, as in an 8-bit picture.
N_BINS = 256


def log_power(power: Tensor) -> Tensor:
    """Return ``log10(power + 1)`` as float32, saturated at 1 (9 µV²/Hz) as the paper's equalisation does."""
    return torch.log10(power + 1.0).clamp(max=1.0).float()


def count_values(values: Tensor) -> Tensor:
    """Histogram ``(256,)`` of log power between 0 and 1, as integers: those of two parts add up.

    What is no number is not counted.
    """
    values = values.flatten()
    bins = (values[~values.isnan()] * (N_BINS - 1)).round().long()
    return torch.bincount(bins, minlength=N_BINS)


def table_from_counts(counts: Tensor) -> Tensor:
    """Return the table that equalises the values of a histogram: borders of the 255 levels, ``(256,)``.

    Level `k` runs from border `k` to border `k + 1`. A bin goes to the level that its middle rank falls into (the
    outermost bins: their upper rank), so that each level is taken equally often, as far as bins can be told apart.
    The arithmetic is of integers, hence exact. Without counts the table is linear.
    """
    total = counts.sum()
    if total == 0:
        return linear_table(0.0, 1.0, counts.device)
    upper_rank = counts.cumsum(0)
    twice_rank = 2 * upper_rank - counts
    twice_rank[0] = 2 * upper_rank[0]
    twice_rank[-1] = 2 * total
    level = (-((-N_LEVELS * twice_rank) // (2 * total)) - 1).clamp(min=0)
    first_bin = torch.searchsorted(level, torch.arange(N_LEVELS, device=counts.device))
    lower_border = ((first_bin - 0.5) / (N_BINS - 1)).clamp(min=0.0)
    return torch.cat((lower_border, lower_border.new_ones(1))).float()


def linear_table(low: float, high: float, device: torch.device | None = None) -> Tensor:
    """Return the table that scales log power from `low` to `high` linearly to the levels."""
    return torch.linspace(low, high, N_LEVELS + 1, device=device)


def fit_table(columns: Tensor) -> Tensor:
    """Fit the equalisation on the log power of a whole night or a calibration, of any shape: the reference."""
    return table_from_counts(count_values(columns))


def equalise(values: Tensor, table: Tensor) -> Tensor:
    """Map log power to levels 0 … 254 by a table of 256 borders; what lies outside takes the outermost level."""
    return torch.bucketize(values, table[1:-1], right=True)


def jet_colours() -> Tensor:
    """The 255 colours from dark blue to dark red, ``(255, 3)`` between 0 and 255.

    Each primary colour rises over 64 levels, stays for 64 and falls; red is centred on level 192, green on 128
    and blue on 64, counted from 1.
    """
    level = torch.arange(1, N_LEVELS + 1)[:, None]
    centre = torch.tensor([192, 128, 64])
    return ((96 - (level - centre).abs()) / 64).clamp(0.0, 1.0) * 255.0


def paint(levels: Tensor, colours: Tensor, size: int) -> Tensor:
    """Draw levels ``(n_columns, n_frequencies)`` as a picture ``(3, size, size)``.

    Time runs to the right and the highest frequency is on top. The values are whole numbers 0 … 255, as those of
    an 8-bit file, stored as float32.
    """
    picture = colours[levels.T.flip(0)].movedim(-1, 0)
    resized = F.interpolate(picture[None], size=(size, size), mode="bicubic", antialias=True)[0]
    return resized.clamp(0.0, 255.0).round()
