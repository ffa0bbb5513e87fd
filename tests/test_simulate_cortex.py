"""The simulated mouse under a camera: one movie however it is read, and states that look like themselves."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import welch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score

from streamscore.errors import ConfigError
from streamscore.labels import MOUSE3
from streamscore.simulate import Simulator
from streamscore.simulate.cortex import FOUR_LIGHTS, ONE_LIGHT, TWO_LIGHTS, Cortex, Movie, simulate_movie
from streamscore.types import FloatArray, TimeArray

WAKE, NREM, REM = range(3)
SFREQ = 16.8
SMALL = (32, 32)


def area_means(cortex: Cortex, pixels: FloatArray) -> TimeArray:
    """Mean of each area, ``(n_samples, n_areas)``."""
    weights = np.stack([cortex.areas == 1 + k for k in range(len(cortex.area_names))]).astype(np.float64)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    means: TimeArray = np.tensordot(pixels, weights, ((-2, -1), (1, 2)))
    return means


class Course:
    """Truth of eight minutes of a mouse, area by area."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        cortex = Cortex(seed=seed, lights=ONE_LIGHT, frame_shape=SMALL, cycle_s=80.0, clean=True)
        self.movie = cortex.read(round(480 * SFREQ))
        assert self.movie.clean is not None
        self.areas = area_means(cortex, self.movie.clean)
        self.names = cortex.area_names
        self.states, self.running = self.movie.states, self.movie.running

    def of(self, area: str) -> TimeArray:
        both: TimeArray = self.areas[:, [self.names.index(f"{area}_{side}") for side in "LR"]].mean(axis=1)
        return both

    def windows(self, x: TimeArray) -> tuple[TimeArray, npt.NDArray[np.int8]]:
        """Windows of 2.5 s of one state, ``(n, 42, ...)``, and which."""
        n = len(x) // 42
        codes = self.states[: 42 * n].reshape(n, 42)
        pure = (codes == codes[:, :1]).all(axis=1)
        return x[: 42 * n].reshape(n, 42, *x.shape[1:])[pure], codes[pure, 0]

    def band_rms(self, area: str, state: int, low_hz: float, high_hz: float) -> float:
        windows, codes = self.windows(self.of(area))
        f_hz, power = welch(windows[codes == state], SFREQ, nperseg=42)
        return float(np.sqrt(power.mean(axis=0)[(f_hz >= low_hz) & (f_hz < high_hz)].sum() * f_hz[1]))


@pytest.fixture(scope="module", params=[1])
def course(request: pytest.FixtureRequest) -> Course:
    return Course(request.param)


@pytest.fixture(scope="module")
def awake() -> tuple[Movie, TimeArray, tuple[str, ...]]:
    """Four minutes of a mouse that never sleeps, at 30 Hz: movie, areas, their names."""
    cortex = Cortex(seed=5, lights=ONE_LIGHT, sfreq=30.0, frame_shape=SMALL, sleeps=False, clean=True)
    movie = cortex.read(30 * 240)
    assert movie.clean is not None
    return movie, area_means(cortex, movie.clean), cortex.area_names


# --- the stream


@pytest.mark.parametrize("lights", [ONE_LIGHT, TWO_LIGHTS, FOUR_LIGHTS])
def test_any_division_into_reads_gives_the_same_movie(lights: tuple[str, ...]) -> None:
    sizes = [1, 7, 0, 8, 61, 3, 70]
    whole = Cortex(seed=4, lights=lights, frame_shape=(20, 16), clean=True).read(sum(sizes))
    stream = Cortex(seed=4, lights=lights, frame_shape=(20, 16), clean=True)
    parts = [stream.read(size) for size in sizes]
    for name in ("frames", "states", "running", "wheel_cm_s", "clean"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name), err_msg=name)
    assert stream.position_samples == sum(sizes)
    assert whole.frames.shape == (sum(sizes), len(lights), 20, 16)
    assert whole.frames.dtype == np.uint16


def test_a_seed_is_one_movie() -> None:
    first, again, other = (simulate_movie(5.0, seed=seed, frame_shape=SMALL, clean=True) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert first.clean is not None
    assert other.clean is not None
    assert abs(np.corrcoef(first.clean.mean(axis=(1, 2)), other.clean.mean(axis=(1, 2)))[0, 1]) < 0.5
    # The vessels differ too.
    assert np.corrcoef(first.frames[0, 1].ravel(), other.frames[0, 1].ravel())[0, 1] < 0.999


def test_raw_frames_are_light_after_light() -> None:
    movie = simulate_movie(1.0, lights=TWO_LIGHTS, frame_shape=(16, 16))
    np.testing.assert_array_equal(movie.raw[::2], movie.frames[:, 0])
    np.testing.assert_array_equal(movie.raw[1::2], movie.frames[:, 1])
    assert movie.clean is None


def test_what_was_read_belongs_to_the_reader() -> None:
    spoiled, untouched = (Cortex(frame_shape=(16, 16)) for _ in range(2))
    spoiled.read(5).frames[:] = 0
    untouched.read(5)
    np.testing.assert_array_equal(spoiled.read(5).frames, untouched.read(5).frames)


def test_a_long_movie_keeps_no_past() -> None:
    cortex = Cortex(seed=1, lights=ONE_LIGHT, frame_shape=(16, 16), cycle_s=60.0)
    cortex.read(200)
    tracemalloc.start()
    try:
        for _ in range(6):
            cortex.read(200)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One block of traces and one piece of the movie; the 1200 frames read take 0.6 MB.
    assert held_bytes < 500_000


def test_the_sleep_is_that_of_the_simulated_mouse_of_the_same_seed(course: Course) -> None:
    _, wanted = Simulator("mouse", sfreq=50.0, seed=course.seed, cycle_s=80.0).read(50 * 480)
    at = np.floor(np.arange(len(course.states)) / SFREQ * 50.0 + 1e-9).astype(int)
    assert (wanted[at] == course.states).mean() > 0.999


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seed": -1}, "choose 0 or more"),
        ({"lights": ("blue",)}, "blue.*fluorescence_470"),
        ({"lights": ()}, "one or more"),
        ({"lights": ("fluorescence_470", "fluorescence_470")}, "each once"),
        ({"sfreq": 0.0}, "2 to 200"),
        ({"sfreq": float("nan")}, "2 to 200"),
        ({"frame_shape": (128, 4)}, "16 or more"),
        ({"cycle_s": 5.0}, "60 s or more"),
        ({"bits": 24}, "10 to 16"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_the_choices(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Cortex(**arguments)  # type: ignore[arg-type]


# --- what the mouse does


def test_all_states_occur_and_running_only_awake(course: Course) -> None:
    assert set(course.states) == set(range(len(MOUSE3)))
    assert 0.05 < course.running[course.states == WAKE].mean() < 0.7
    # The wheel takes a moment to stop, never more.
    assert course.running[course.states != WAKE].mean() < 0.01
    np.testing.assert_array_equal(course.running, course.movie.wheel_cm_s > 0.5)


def test_sleep_and_running_can_be_left_out(awake: tuple[Movie, TimeArray, tuple[str, ...]]) -> None:
    assert set(awake[0].states) == {WAKE}
    assert 0.1 < awake[0].running.mean() < 0.9
    still = simulate_movie(60.0, seed=5, lights=ONE_LIGHT, frame_shape=(16, 16), sleeps=False, runs=False)
    assert not still.running.any()
    assert not still.wheel_cm_s.any()


def test_slow_waves_belong_to_nrem_and_are_larger_in_front(course: Course) -> None:
    assert course.band_rms("M2", NREM, 0.5, 2.0) > 1.35 * course.band_rms("M2", WAKE, 0.5, 2.0)
    for posterior in ("RSP", "V1"):
        assert course.band_rms("M2", NREM, 0.5, 2.0) > 1.6 * course.band_rms(posterior, NREM, 0.5, 2.0)


def test_slow_waves_travel_backwards(course: Course) -> None:
    asleep = course.states == NREM
    front, back = (course.of(area) - course.of(area)[asleep].mean() for area in ("M2", "V1"))
    lags = range(-6, 7)
    together = [np.mean((np.roll(front, lag) * back)[asleep]) for lag in lags]
    delay_s = lags[int(np.argmax(together))] / SFREQ
    assert 0.05 < delay_s < 0.35


def test_theta_belongs_to_rem_and_to_the_back(course: Course) -> None:
    for area in ("RSP", "V1"):
        rem = course.band_rms(area, REM, 5.5, 8.0)
        assert rem > 2.5 * course.band_rms(area, WAKE, 5.5, 8.0)
        assert rem > 2.5 * course.band_rms(area, NREM, 5.5, 8.0)
        assert rem > 2.5 * course.band_rms("M1", REM, 5.5, 8.0)
    assert course.of("RSP")[course.states == REM].mean() > 0.004


def test_running_moves_the_limb_areas(course: Course) -> None:
    awake = course.states == WAKE
    runs, rests = awake & (course.running == 1), awake & (course.running == 0)
    rise = {area: course.of(area)[runs].mean() - course.of(area)[rests].mean() for area in ("HL", "FL", "AUD")}
    assert min(rise["HL"], rise["FL"]) > 0.015
    assert min(rise["HL"], rise["FL"]) > 3 * rise["AUD"]


def test_the_limb_areas_answer_first_of_all_to_the_onset(
    awake: tuple[Movie, TimeArray, tuple[str, ...]],
) -> None:
    movie, areas, names = awake
    limb = areas[:, names.index("HL_L")]
    onsets = np.flatnonzero(np.diff(movie.running) == 1)
    onsets = onsets[(onsets > 60) & (onsets < len(limb) - 120)]
    assert len(onsets) > 5
    course = np.mean([limb[at - 60 : at + 120] for at in onsets], axis=0)
    assert 0.2 < (np.argmax(course) - 60) / 30 < 1.5
    assert course[70:100].mean() > course[:50].mean() + 0.015


def test_areas_tell_the_states_and_a_single_pixel_does_not(course: Course) -> None:
    windows, codes = course.windows(course.areas)
    f_hz = np.fft.rfftfreq(windows.shape[1], 1 / SFREQ)
    power = np.abs(np.fft.rfft(windows - windows.mean(axis=1, keepdims=True), axis=1)) ** 2
    bands = [(f_hz >= low) & (f_hz < high) for low, high in ((0.4, 2.0), (2.0, 5.0), (5.5, 8.0))]
    spectra = np.concatenate([np.log(power[:, band].mean(axis=1)) for band in bands], axis=1)
    pixel = course.windows(course.movie.frames[:, 0, 16, 11])[0].mean(axis=1)[:, None]

    def accuracy(x: npt.NDArray[np.float64]) -> float:
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5, priors=[1 / 3] * 3)
        scores = cross_val_score(model, x, codes, cv=3, scoring="balanced_accuracy")
        return float(scores.mean())

    assert accuracy(spectra) > 0.8
    assert accuracy(pixel) < 0.65


def test_a_single_frame_tells_running_most_of_the_time(
    awake: tuple[Movie, TimeArray, tuple[str, ...]],
) -> None:
    movie, areas, _ = awake
    half = len(areas) // 2
    model = LogisticRegression(max_iter=500).fit(100 * areas[:half], movie.running[:half])
    auc = roc_auc_score(movie.running[half:], model.decision_function(100 * areas[half:]))
    assert 0.85 < auc < 0.999
