"""The steps that correct light, one after the other, on a simulated movie of four lights."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from streamscore.arrays import pack
from streamscore.preprocess.base import Chain
from streamscore.simulate.cortex import FOUR_LIGHTS, Cortex, Movie
from streamscore.types import FloatArray
from tests.layouts import frames
from tests.streams import cuts, sizes

SFREQ = 16.8
LEARNS = {"tau_s": 60.0, "warm_up_s": 5.0}
#: As docs/corrections.md recommends, but for the global signal, which takes a part of the truth away.
CHAIN: tuple[dict[str, Any], ...] = (
    {"kind": "dark_frame"},
    {"kind": "detrend", **LEARNS},
    {"kind": "haemoglobin", **LEARNS},
    {"kind": "gaussian"},
)
PUBLISHED = (*CHAIN[:2], {"kind": "global_signal", **LEARNS}, *CHAIN[2:])


@pytest.fixture(scope="module")
def cortex() -> Cortex:
    return Cortex(seed=2, frame_shape=(32, 32), cycle_s=60.0, clean=True)


@pytest.fixture(scope="module")
def movie(cortex: Cortex) -> Movie:
    return cortex.read(400)


def chain(steps: tuple[dict[str, Any], ...], dark: float) -> Chain:
    return Chain(steps, frames(SFREQ, 32, 32, *FOUR_LIGHTS), {"dark_frame": {"dark": dark}})


def test_what_is_left_is_calcium(cortex: Cortex, movie: Movie) -> None:
    dark = float(cortex.dark_frame.mean())
    y = chain(CHAIN, dark).push(movie.frames.astype(np.float32), 0)[100:, 0, cortex.mask]
    assert movie.clean is not None
    clean, raw = movie.clean[100:, cortex.mask], movie.frames[100:, 0, cortex.mask].astype(np.float32)

    def agreement(z: FloatArray) -> float:
        return float(np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(z.T, clean.T, strict=True)]))

    assert agreement(y) > 0.75
    assert agreement(y) > agreement(raw) + 0.1


@given(sizes)
def test_any_chunking_gives_the_same(movie: Movie, sizes: list[int]) -> None:
    x = movie.frames[:120].astype(np.float32)
    pieces = chain(PUBLISHED, 100.0)
    y = np.concatenate([pieces.push(x[part], part.start) for part in cuts(len(x), sizes)])
    np.testing.assert_array_equal(y, chain(PUBLISHED, 100.0).push(x, 0))


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "dark_frame", "dark": pack(np.ones((32, 32)))},
        {"kind": "detrend", "warm_up_s": 0.1},
        {"kind": "delta_f"},
        {"kind": "haemoglobin", "method": "ratiometric"},
        {"kind": "haemoglobin", "method": "regression", "reference": "reflectance_523"},
        {"kind": "global_signal", "mask": pack(np.ones((32, 32)))},
        {"kind": "global_signal", "method": "subtract"},
        {"kind": "gaussian"},
    ],
)
def test_a_step_moves_to_a_device_with_all_that_it_holds(step: dict[str, Any]) -> None:
    """torch refuses to join tensors of two devices; "meta" is one that needs no hardware."""
    meta = torch.device("meta")
    made = Chain((step,), frames(SFREQ, 32, 32, *FOUR_LIGHTS), device=meta)
    y = made.steps[0].push_frames(torch.empty((5, 4, 32, 32), device=meta), 0)
    assert y.device == meta
    assert y.shape == (5, *made.layout.sample_shape)


def test_one_light_is_left_and_the_longest_warm_up_counts() -> None:
    steps = (*PUBLISHED[:1], {"kind": "detrend", "warm_up_s": 20.0}, *PUBLISHED[2:])
    made = chain(steps, 100.0)
    assert made.layout == frames(SFREQ, 32, 32, "fluorescence_470")
    assert (made.warm_up_samples, made.lag_samples) == (336, 0)


def test_a_cycle_of_four_lights_takes_a_fraction_of_its_period() -> None:
    made = Chain(PUBLISHED, frames(SFREQ, 128, 128, *FOUR_LIGHTS), {"dark_frame": {"dark": 100.0}})
    x = np.random.default_rng(0).uniform(1e3, 2e4, (1, 4, 128, 128)).astype(np.float32)
    times_s = []
    for k in range(130):  # beyond the warm-up, after which detrending begins
        t0_s = perf_counter()
        made.push(x, k)
        times_s.append(perf_counter() - t0_s)
    assert min(times_s[90:]) < 0.006  # a tenth of the period
