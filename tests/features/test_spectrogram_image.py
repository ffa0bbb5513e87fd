from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from streamscore.features.spectrogram_image import (
    N_LEVELS,
    count_values,
    equalise,
    fit_table,
    jet_colours,
    linear_table,
    log_power,
    paint,
    table_from_counts,
)


def skewed(n: int, seed: int = 0) -> Tensor:
    return log_power(torch.from_numpy(np.random.default_rng(seed).exponential(1.5, n)))


def naive_equalisation(values: Tensor) -> Tensor:
    """For each bin the first level whose wanted cumulative count is not below the bin's middle rank."""
    counts = np.bincount(np.floor(values.numpy() * 255 + 0.5).astype(int), minlength=256).astype(float)
    wanted = np.arange(1, 256) * counts.sum() / 255
    reached = np.cumsum(counts)
    half = counts / 2
    half[[0, -1]] = 0.0
    level_of_bin = [int(np.argmax(wanted >= reached[k] - half[k] - 1e-6)) for k in range(256)]
    return torch.tensor([level_of_bin[int(np.floor(v * 255 + 0.5))] for v in values.numpy()])


def test_log_power_saturates_at_one() -> None:
    values = log_power(torch.tensor([0.0, 1.0, 9.0, 1e6], dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor([0.0, 0.30103, 1.0, 1.0]))


def test_equalisation_is_that_of_the_whole_night() -> None:
    values = skewed(20_000)
    levels = equalise(values, fit_table(values))
    torch.testing.assert_close(levels, naive_equalisation(values))
    assert levels.min() == 0
    assert levels.max() == N_LEVELS - 1


def test_equalised_levels_are_taken_equally_often() -> None:
    values = torch.rand(50_000, generator=torch.Generator().manual_seed(0)) ** 0.8
    share = torch.bincount(equalise(values, fit_table(values)) // 17, minlength=15) / values.numel()
    torch.testing.assert_close(share, torch.full((15,), 1 / 15), rtol=0.08, atol=0)


def test_counts_of_parts_add_up() -> None:
    values = skewed(999).reshape(9, 111)
    parts = count_values(values[:4]) + count_values(values[4:])
    assert torch.equal(parts, count_values(values))
    assert torch.equal(table_from_counts(parts), fit_table(values))
    assert parts.sum() == 999


def test_a_constant_night_is_of_one_level() -> None:
    values = torch.full((50,), 0.4)
    assert equalise(values, fit_table(values)).unique().numel() == 1


def test_without_counts_the_table_is_linear() -> None:
    assert torch.equal(fit_table(torch.zeros(0)), linear_table(0.0, 1.0))


def test_a_table_has_rising_borders_of_255_levels() -> None:
    table = fit_table(skewed(5000))
    assert table.shape == (256,)
    assert table.dtype == torch.float32
    assert (table.diff() >= 0).all()


def test_a_linear_table_scales_between_its_limits() -> None:
    table = linear_table(0.2, 0.8)
    levels = equalise(torch.tensor([0.0, 0.2, 0.5, 0.7999, 0.8, 1.0]), table)
    assert levels.tolist() == [0, 0, 127, 254, 254, 254]


def test_jet_is_the_colour_map_of_the_paper() -> None:
    n = 64  # a quarter of 255 levels, rounded up
    ramp = np.concatenate([np.arange(1, n + 1) / n, np.ones(n - 1), np.arange(n, 0, -1) / n])
    colours = np.zeros((255, 3))
    for channel, start in enumerate((96, 32, -32)):
        for k, value in enumerate(ramp, start=start):
            if 0 <= k < 255:
                colours[k, channel] = value
    torch.testing.assert_close(jet_colours(), torch.from_numpy(colours * 255).float())


def test_high_frequencies_are_on_top_and_time_runs_to_the_right() -> None:
    levels = torch.zeros(40, 30, dtype=torch.int64)
    levels[:4, 27:] = 254
    picture = paint(levels, jet_colours(), 32)
    assert picture.shape == (3, 32, 32)
    red, blue = picture[0], picture[2]
    assert red[0, 0] > 100
    assert blue[0, 0] < 50
    assert red[-1, 0] == red[0, -1] == red[-1, -1] == 0
    assert blue[-1, -1] == pytest.approx(132, abs=1)


@pytest.mark.parametrize("n_columns", [44, 219, 224, 400])
def test_resizing_is_bicubic_with_antialias_and_8_bit(n_columns: int) -> None:
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (n_columns, 154)))
    picture = paint(levels, jet_colours(), 64)
    assert torch.equal(picture, picture.round())
    assert picture.min() >= 0
    assert picture.max() <= 255
    for channel in range(3):
        source = jet_colours()[levels.T.flip(0), channel].numpy()
        resized = np.asarray(Image.fromarray(source).resize((64, 64), Image.Resampling.BICUBIC))
        difference = np.abs(picture[channel].numpy() - resized.clip(0, 255))
        assert difference.max() <= 0.5 + 1e-3
