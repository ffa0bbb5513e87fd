from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamscore.features.running import RUNNING, RunningQuartiles, Statistic
from streamscore.preprocess.normalise import Config, Normalise, build, whole_recording
from streamscore.types import FloatArray
from tests.contracts.step import StepContract
from tests.layouts import signals

SFREQ = 50.0
SECOND = 50


def seconds(stds: list[float], seed: int = 0) -> FloatArray:
    """One second of noise for each standard deviation, ``(n, 1)``."""
    rng = np.random.default_rng(seed)
    blocks = [std * (z - z.mean()) / z.std() for std in stds for z in [rng.standard_normal(SECOND)]]
    return np.concatenate(blocks).astype(np.float32)[:, None]


def scale_at(step: Normalise, start: int) -> float:
    """What the step divides by at absolute index `start`, seen from outside."""
    return 1.0 / float(step.push(np.ones((1, 1), np.float32), start)[0, 0])


class TestRunning(StepContract):
    """Follows the amplitude for ever."""

    def make(self) -> Normalise:
        return build(Config(estimator="running", warm_up_s=3.0, tau_s=5.0), self.layout)


class TestCalibration(StepContract):
    """Learns during the warm-up only."""

    def make(self) -> Normalise:
        return build(Config(estimator="calibration", warm_up_s=3.0), self.layout)


class TestStored(StepContract):
    """Knows the amplitude from the bundle."""

    def make(self) -> Normalise:
        return build(Config(estimator="stored", stored_scale=(10.0, 40.0)), self.layout)


class TestRunningFromStored(StepContract):
    """Follows the amplitude from what is known of it."""

    def make(self) -> Normalise:
        stored = {"stored_offset": (3.0, -2.0), "stored_scale": (10.0, 40.0)}
        return build(
            Config(estimator="running", statistic="zscore", warm_up_s=0.0, tau_s=5.0, **stored), self.layout
        )


class TestOddRate(StepContract):
    """A rate that is no whole number."""

    layout = signals(48.5, 1)

    def make(self) -> Normalise:
        return build(Config(warm_up_s=2.0, tau_s=4.0), self.layout)


class OfStatistic(StepContract):
    """Another statistic, from each place it can be known from."""

    statistic: Statistic


class RunningOf(OfStatistic):
    def make(self) -> Normalise:
        config = Config(estimator="running", statistic=self.statistic, warm_up_s=2.0, tau_s=3.0)
        return build(config, self.layout)


class CalibrationOf(OfStatistic):
    def make(self) -> Normalise:
        config = Config(estimator="calibration", statistic=self.statistic, warm_up_s=3.0)
        return build(config, self.layout)


class StoredOf(OfStatistic):
    def make(self) -> Normalise:
        stored = {"stored_offset": (40.0, -10.0), "stored_scale": (10.0, 90.0)}
        return build(Config(estimator="stored", statistic=self.statistic, **stored), self.layout)


class TestRunningZscore(RunningOf):
    statistic = "zscore"


class TestRunningRobust(RunningOf):
    statistic = "robust"


class TestRunningMinmax(RunningOf):
    statistic = "minmax"


class TestCalibrationZscore(CalibrationOf):
    statistic = "zscore"


class TestCalibrationRobust(CalibrationOf):
    statistic = "robust"


class TestCalibrationMinmax(CalibrationOf):
    statistic = "minmax"


class TestStoredZscore(StoredOf):
    statistic = "zscore"


class TestStoredRobust(StoredOf):
    statistic = "robust"


class TestStoredMinmax(StoredOf):
    statistic = "minmax"


def test_the_scale_is_the_geometric_mean_of_the_seconds_so_far() -> None:
    step = build(Config(), signals(SFREQ, 1))
    step.push(seconds([2.0, 8.0]), 0)
    assert scale_at(step, 2 * SECOND) == pytest.approx(4.0, rel=1e-4)


def test_a_second_is_divided_by_what_was_learnt_before_it() -> None:
    x = seconds([2.0, 8.0])
    y = build(Config(clip=1000.0), signals(SFREQ, 1)).push(x, 0)
    np.testing.assert_allclose(y[SECOND:], x[SECOND:] / 2.0, rtol=1e-4)


def test_it_forgets_with_its_time_constant() -> None:
    step = build(Config(tau_s=4.0), signals(SFREQ, 1))
    step.push(seconds([1.0] * 50 + [100.0] * 50), 0)
    assert scale_at(step, 100 * SECOND) == pytest.approx(100.0, rel=1e-3)


def test_calibration_ends_with_the_warm_up() -> None:
    step = build(Config(estimator="calibration", warm_up_s=2.0), signals(SFREQ, 1))
    step.push(seconds([3.0, 3.0, 90.0, 90.0]), 0)
    assert scale_at(step, 4 * SECOND) == pytest.approx(3.0, rel=1e-4)


@pytest.mark.parametrize("n_lost", [0, 5, SECOND, 7 * SECOND + 3])
def test_a_gap_keeps_the_amplitude_and_drops_the_second_that_it_cuts(n_lost: int) -> None:
    step = build(Config(), signals(SFREQ, 1))
    step.push(seconds([2.0, 500.0])[: SECOND + 20], 0)
    step.reset()
    start = SECOND + 20 + n_lost
    rest = -start % SECOND
    step.push(seconds([500.0])[:rest], start)
    assert scale_at(step, start + rest) == pytest.approx(2.0, rel=1e-4)


@given(st.integers(0, 3 * SECOND))
def test_only_whole_seconds_of_the_absolute_index_are_learnt(start: int) -> None:
    step = build(Config(), signals(SFREQ, 1))
    step.push(seconds([7.0] * 6), start)
    others = build(Config(), signals(SFREQ, 1))
    skip = -start % SECOND
    others.push(seconds([7.0] * 6)[skip:], start + skip)
    n = start + 6 * SECOND
    assert scale_at(step, n) == scale_at(others, n)


def test_what_is_too_large_is_clipped() -> None:
    y = build(Config(estimator="stored", stored_scale=(1.0,), clip=3.0), signals(SFREQ, 1)).push(
        seconds([100.0]), 0
    )
    assert y.max() == 3.0
    assert y.min() == -3.0


def test_a_silent_second_gives_finite_numbers() -> None:
    step = build(Config(), signals(SFREQ, 1))
    step.push(np.zeros((SECOND, 1), np.float32), 0)
    assert np.isfinite(step.push(seconds([1.0]), SECOND)).all()


def test_warm_up_is_given_in_seconds_and_not_needed_with_stored_scales() -> None:
    assert build(Config(warm_up_s=3.0), signals(SFREQ, 1)).warm_up_samples == 150
    assert build(Config(estimator="stored", stored_scale=(1.0,)), signals(SFREQ, 1)).warm_up_samples == 0


def test_stored_scales_must_fit_the_channels() -> None:
    with pytest.raises(ValueError, match="stored_scale has 1 values for 2 channels"):
        build(Config(estimator="stored", stored_scale=(1.0,)), signals(SFREQ, 2))


STATISTICS: tuple[Statistic, ...] = ("scale", "zscore", "robust", "minmax")


def night(n_seconds: int = 200, seed: int = 3) -> FloatArray:
    """Two channels far from 0 whose amplitudes change, with heavy tails, ``(n, 2)``."""
    rng = np.random.default_rng(seed)
    loudness = np.exp(np.cumsum(rng.normal(0.0, 0.05, n_seconds)))
    x = rng.laplace(size=(n_seconds * SECOND, 2)) * np.repeat(loudness, SECOND)[:, None]
    return (x * (30.0, 0.5) + (12.0, -4.0)).astype(np.float32)


def known_at(step: Normalise, start: int) -> tuple[FloatArray, FloatArray]:
    """Offset and scale that the step uses at absolute index `start`, seen from outside."""
    zero, one = (step.push(np.full((1, 2), value, np.float32), start)[0].astype(float) for value in (0.0, 1.0))
    scale = 1.0 / (one - zero)
    return -zero * scale, scale


@pytest.mark.parametrize("statistic", ["scale", "zscore", "robust"])
def test_running_ends_at_what_the_whole_recording_gives(statistic: Statistic) -> None:
    x = night()
    step = build(Config(statistic=statistic, clip=1e6), signals(SFREQ, 2))
    step.push(x, 0)
    offset, scale = known_at(step, len(x))
    wanted_offset, wanted_scale = whole_recording(x, statistic, SFREQ)
    # The quartiles come from bins; the others are limited by float32.
    tolerance = 0.01 if statistic == "robust" else 1e-4
    np.testing.assert_allclose((offset - wanted_offset) / wanted_scale, 0.0, rtol=0, atol=tolerance)
    np.testing.assert_allclose(scale, wanted_scale, rtol=tolerance)


def test_running_minmax_ends_at_the_extremes_of_the_whole_recording() -> None:
    x = night()
    step = build(Config(statistic="minmax"), signals(SFREQ, 2))
    step.push(x, 0)
    offset, scale = whole_recording(x, "minmax")
    np.testing.assert_allclose(step.push(x[:SECOND], len(x)), (x[:SECOND] - offset) / scale, atol=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_stored_constants_of_the_whole_recording_are_the_papers_form(statistic: Statistic) -> None:
    x = night()
    offset, scale = whole_recording(x, statistic, SFREQ)
    constants = {"stored_offset": offset if statistic != "scale" else (), "stored_scale": scale}
    y = build(Config(estimator="stored", statistic=statistic, **constants), signals(SFREQ, 2)).push(x, 0)
    blocks = x.astype(float).reshape(-1, SECOND, 2)
    quartiles = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
    wanted = {
        "scale": x / np.exp(np.log(blocks.std(axis=1)).mean(axis=0)),
        "zscore": (x - x.mean(axis=0)) / x.std(axis=0),
        "robust": np.clip((x - quartiles[1]) / (quartiles[2] - quartiles[0]), -20.0, 20.0),
        "minmax": (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0)),
    }[statistic]
    np.testing.assert_allclose(y, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_calibration_of_any_statistic_ends_with_the_warm_up(statistic: Statistic) -> None:
    first, probe = night(4), night(1, seed=4)
    running = build(Config(statistic=statistic), signals(SFREQ, 2))
    frozen = build(Config(estimator="calibration", statistic=statistic, warm_up_s=4.0), signals(SFREQ, 2))
    for step in (running, frozen):
        step.push(first, 0)
    np.testing.assert_array_equal(frozen.push(probe, len(first)), running.push(probe, len(first)))
    after = frozen.push(probe, 1000 * SECOND)
    frozen.push(50.0 * night(20), 1001 * SECOND)
    np.testing.assert_array_equal(frozen.push(probe, 2000 * SECOND), after)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_follows_a_new_amplitude_with_its_time_constant(statistic: Statistic) -> None:
    before, after = night(60), (3.0 * night(60) + 5.0).astype(np.float32)
    long_ago = build(Config(statistic=statistic, tau_s=4.0), signals(SFREQ, 2))
    long_ago.push(np.concatenate((before, after)), 0)
    fresh = build(Config(statistic=statistic, tau_s=4.0), signals(SFREQ, 2))
    fresh.push(after, 0)
    probe = after[-SECOND:]
    np.testing.assert_allclose(
        long_ago.push(probe, 120 * SECOND), fresh.push(probe, 120 * SECOND), rtol=0.05, atol=0.05
    )


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_gap_keeps_what_is_known_of_any_statistic(statistic: Statistic) -> None:
    step, other = (build(Config(statistic=statistic), signals(SFREQ, 2)) for _ in range(2))
    for each in (step, other):
        each.push(night(5), 0)
    step.reset()
    np.testing.assert_array_equal(step.push(night(1), 1000 * SECOND), other.push(night(1), 5 * SECOND))


@pytest.mark.parametrize("statistic", ["scale", "zscore"])
def test_a_running_estimate_begins_with_stored_constants_and_leaves_them_slowly(statistic: Statistic) -> None:
    """As if the time constant had been seen: right at once, and a fifth of a time constant moves it by a fifth."""
    tau_s, seen_s = 100.0, 20
    stored = (
        {"stored_scale": (4.0,)} if statistic == "scale" else {"stored_offset": (0.0,), "stored_scale": (4.0,)}
    )
    config = Config(estimator="running", statistic=statistic, tau_s=tau_s, warm_up_s=0.0, **stored)
    step = build(config, signals(SFREQ, 1))
    assert scale_at(build(config, signals(SFREQ, 1)), 0) == pytest.approx(4.0)
    step.push(seconds([8.0] * seen_s), 0)
    kept = (1.0 - 1.0 / tau_s) ** seen_s
    expected = (
        4.0**kept * 8.0 ** (1.0 - kept) if statistic == "scale" else (16.0 * kept + 64.0 * (1.0 - kept)) ** 0.5
    )
    assert scale_at(step, seen_s * SECOND) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_bad_second_teaches_nothing(statistic: Statistic, bad: float) -> None:
    spoilt, other = (build(Config(statistic=statistic), signals(SFREQ, 2)) for _ in range(2))
    for each in (spoilt, other):
        each.push(night(3), 0)
    second = night(1)
    second[7, 1] = bad
    spoilt.push(second, 3 * SECOND)
    np.testing.assert_array_equal(spoilt.push(night(1), 4 * SECOND), other.push(night(1), 4 * SECOND))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_silent_recording_gives_finite_numbers(statistic: Statistic) -> None:
    x = np.full((3 * SECOND, 2), 7.25, np.float32)
    y = build(Config(statistic=statistic), signals(SFREQ, 2)).push(x, 0)
    assert np.isfinite(y).all()
    if statistic != "scale":
        assert np.abs(y[SECOND:]).max() == 0.0


def test_minmax_stays_within_0_and_1() -> None:
    y = build(Config(statistic="minmax"), signals(SFREQ, 2)).push(np.concatenate((night(2), 10.0 * night(2))), 0)
    assert (y.min(), y.max()) == (0.0, 1.0)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_blocks_learnt_together_are_those_learnt_one_by_one(statistic: Statistic) -> None:
    blocks = night(40).reshape(-1, SECOND, 2)
    together, single = (RUNNING[statistic](2, tau_blocks=7.0) for _ in range(2))
    offsets, scales = together.learn_all(blocks)
    for k, block in enumerate(blocks):
        single.learn(block)
        np.testing.assert_array_equal((offsets[k], scales[k]), (single.offset, single.scale))
    np.testing.assert_array_equal((together.offset, together.scale), (single.offset, single.scale))
    assert together.n_blocks == single.n_blocks == 40


@pytest.mark.parametrize("distribution", ["standard_normal", "standard_cauchy", "standard_exponential"])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1e-6, 1e-5), (3e4, -1e5)])
def test_running_quartiles_are_numpys_within_a_hundredth(distribution: str, gain: float, offset: float) -> None:
    x = gain * getattr(np.random.default_rng(0), distribution)((20_000, 1)) + offset
    sketch = RunningQuartiles(1, tau_blocks=1e9)
    for block in x.reshape(-1, 100, 1):
        sketch.learn(block)
    low, median, high = np.quantile(x, (0.25, 0.5, 0.75))
    assert abs(sketch.offset[0] - median) < 0.01 * (high - low)
    assert sketch.scale[0] == pytest.approx(high - low, rel=0.01)


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=9, max_size=9), min_size=1, max_size=5))
def test_a_running_median_is_never_off_by_more_than_its_bin(blocks: list[list[float]]) -> None:
    sketch = RunningQuartiles(1, tau_blocks=1e9)
    for block in blocks:
        sketch.learn(np.array(block, np.float32)[:, None])
    x = np.sort(np.array(blocks).ravel())
    anchor = float(np.median(blocks[0]))
    # Between the two in the middle any value is a median.
    low, high = x[(len(x) - 1) // 2], x[len(x) // 2]
    bin_low, bin_high = (0.02 * abs(x - anchor) + 2e-9 + 1e-12 * abs(anchor) for x in (low, high))
    assert low - bin_low <= sketch.offset[0] <= high + bin_high


def test_quartiles_need_no_more_memory_for_a_longer_recording() -> None:
    sketch = RunningQuartiles(3, tau_blocks=1e9)
    sizes = []
    for _ in range(2):
        for block in night(30).reshape(-1, SECOND, 2):
            sketch.learn(np.concatenate((block, block[:, :1]), axis=1))
        sizes.append(sum(part.nbytes for part in vars(sketch).values() if isinstance(part, np.ndarray)))
    assert sizes[0] == sizes[1] < 3 * 64_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stored_scale": (1.0,), "statistic": "robust"}, "a running 'robust' cannot begin with stored constants"),
        ({"stored_scale": (1.0,), "stored_offset": (1.0,)}, "'scale' has no offset"),
        ({"estimator": "calibration", "stored_offset": (1.0,)}, "estimator 'calibration' learns by itself"),
        ({"estimator": "stored", "stored_scale": (0.0,)}, "greater than 0"),
        ({"estimator": "stored", "stored_scale": (np.nan,)}, "greater than 0|finite"),
        ({"estimator": "stored", "stored_scale": (np.inf,)}, "finite"),
        ({"estimator": "stored", "stored_scale": (1.0,), "stored_offset": (0.0,)}, "'scale' has no offset"),
        (
            {"estimator": "stored", "statistic": "zscore", "stored_scale": (1.0,), "stored_offset": (np.nan,)},
            "finite",
        ),
        ({"estimator": "calibration", "warm_up_s": 0.5}, "warm_up_s 0.5 holds none"),
        ({"statistic": "minmax", "clip": 3.0}, "leave out clip"),
        ({"statistic": "median"}, "'scale', 'zscore', 'robust' or 'minmax'"),
        ({"clip": 0.0}, "greater than 0"),
        ({"window_s": 3.0}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)


def test_stored_offsets_must_fit_the_channels() -> None:
    config = Config(estimator="stored", statistic="zscore", stored_scale=(1.0, 2.0), stored_offset=(1.0,))
    with pytest.raises(ValueError, match="stored_offset has 1 values for 2 channels"):
        build(config, signals(SFREQ, 2))


def test_a_configuration_survives_being_written_down() -> None:
    for config in (Config(), Config(statistic="minmax"), Config(estimator="stored", stored_scale=(2.0,))):
        assert Config(**config.model_dump()) == config


def test_a_whole_recording_needs_whole_seconds_and_finite_numbers() -> None:
    with pytest.raises(ValueError, match="give sfreq"):
        whole_recording(night(2), "scale")
    with pytest.raises(ValueError, match="49 samples"):
        whole_recording(night(1)[:49], "scale", SFREQ)
    with pytest.raises(ValueError, match="0 samples"):
        whole_recording(night(1)[:0], "zscore")
    x = night(1)
    x[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        whole_recording(x, "zscore")
