"""The simulated subjects: one stream however it is read, and states that look like themselves."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import welch

from streamscore.errors import ConfigError
from streamscore.labels import AASM5, MOUSE3
from streamscore.recordings.base import Recording
from streamscore.simulate import Simulator, simulate
from streamscore.simulate.base import Subject
from streamscore.simulate.human import human as draw_human
from streamscore.simulate.mouse import mouse as draw_mouse
from streamscore.simulate.simulator import Species

Density = npt.NDArray[np.float64]


@pytest.fixture(scope="module", params=[1, 2])
def human(request: pytest.FixtureRequest) -> Recording:
    return simulate("human", 3600.0, seed=request.param, cycle_s=1200.0)


@pytest.fixture(scope="module", params=[1, 2])
def mouse(request: pytest.FixtureRequest) -> Recording:
    return simulate("mouse", 1500.0, seed=request.param, cycle_s=300.0)


def pure_epochs(recording: Recording, label: str, channel: str) -> npt.NDArray[np.float32]:
    """Epochs of a state whose neighbours are of the same state, ``(n_epochs, n_samples)``."""
    n = round(recording.epoch_s * recording.sfreq)
    epochs = recording.data[: len(recording.states) * n, recording.channels.index(channel)].reshape(-1, n)
    held = recording.states == recording.labels.index(label)
    pure = held & np.r_[True, held[:-1]] & np.r_[held[1:], True]
    chosen: npt.NDArray[np.float32] = epochs[pure if pure.any() else held]
    return chosen


def density(recording: Recording, label: str, channel: str = "EEG") -> tuple[Density, Density]:
    epochs = pure_epochs(recording, label, channel)
    f_hz, per_epoch = welch(epochs.astype(np.float64), recording.sfreq, nperseg=round(4 * recording.sfreq))
    return f_hz, per_epoch.mean(axis=0)


def share(recording: Recording, label: str, low_hz: float, high_hz: float) -> float:
    """Part of the EEG power of 0.5–45 Hz that lies between two frequencies."""
    f_hz, power = density(recording, label)
    band, all_bands = (f_hz >= low_hz) & (f_hz < high_hz), (f_hz >= 0.5) & (f_hz < 45)
    return float(power[band].sum() / power[all_bands].sum())


def prominence_db(recording: Recording, label: str, low_hz: float, high_hz: float) -> float:
    """Height of the highest point of a band over the straight line (log-log) between its ends."""
    f_hz, power = density(recording, label)
    band = (f_hz >= low_hz) & (f_hz <= high_hz)
    x, y = np.log(f_hz[band]), 10 * np.log10(power[band])
    return float((y - np.interp(x, x[[0, -1]], y[[0, -1]])).max())


def rms_uv(recording: Recording, label: str, channel: str) -> float:
    return float(np.median(pure_epochs(recording, label, channel).std(axis=1)))


# --- the stream


@settings(max_examples=25, deadline=None)
@given(
    species=st.sampled_from(["human", "mouse"]),
    sfreq=st.sampled_from([50.0, 100.0, 128.0, 305.1758]),
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=6),
)
def test_any_division_into_reads_gives_the_same_stream(
    species: Species, sfreq: float, seed: int, sizes: list[int]
) -> None:
    whole, whole_states = Simulator(species, sfreq, seed).read(sum(sizes))
    stream = Simulator(species, sfreq, seed)
    parts = [stream.read(size) for size in sizes]
    np.testing.assert_array_equal(np.concatenate([data for data, _ in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([states for _, states in parts]), whole_states)
    assert stream.position_samples == sum(sizes)


def test_single_samples_across_a_block_border() -> None:
    whole, _ = Simulator("mouse", seed=5).read(6100)
    stream = Simulator("mouse", seed=5)
    stream.read(5900)
    singles = np.concatenate([stream.read(1)[0] for _ in range(200)])
    np.testing.assert_array_equal(singles, whole[5900:])


def test_what_was_read_belongs_to_the_reader() -> None:
    spoiled, untouched = Simulator(seed=1), Simulator(seed=1)
    data, states = spoiled.read(100)
    data[:], states[:] = np.nan, -1
    untouched.read(100)
    np.testing.assert_array_equal(spoiled.read(100)[0], untouched.read(100)[0])


@pytest.mark.parametrize("species", ["human", "mouse"])
def test_a_seed_is_one_recording(species: Species) -> None:
    first, again, other = (simulate(species, 120.0, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.data, again.data)
    np.testing.assert_array_equal(first.states, again.states)
    for channel in range(len(first.channels)):
        assert abs(np.corrcoef(first.data[:, channel], other.data[:, channel])[0, 1]) < 0.2


def test_seeds_are_different_subjects() -> None:
    spread = [np.median(np.abs(simulate("human", 60.0, seed=s).data[:, 0])) for s in range(20)]
    assert max(spread) / min(spread) > 1.6


def test_the_stream_ends_where_told_and_not_before() -> None:
    stream = Simulator("human", seed=1, duration_s=10.0)
    assert len(stream.read(900)[0]) == 900
    data, states = stream.read(900)
    assert data.shape == (100, 3)
    assert states.shape == (100,)
    assert stream.read(1)[0].shape == (0, 3)


def test_a_long_stream_keeps_no_past() -> None:
    stream = Simulator("human", sfreq=50.0, seed=1, cycle_s=600.0)
    stream.read(50 * 600)
    tracemalloc.start()
    try:
        for _ in range(3):
            stream.read(50 * 600)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One block (24 kB a channel, float64) and what is carried to the next.
    assert held_bytes < 500_000


@pytest.mark.parametrize(
    ("species", "sfreq", "channels", "labels", "epoch_s"),
    [
        ("human", 100.0, ("EEG", "EOG", "EMG"), AASM5, 30.0),
        ("mouse", 200.0, ("EEG", "EMG"), MOUSE3, 4.0),
    ],
)
def test_what_a_stream_and_a_recording_say_of_themselves(
    species: Species, sfreq: float, channels: tuple[str, ...], labels: tuple[str, ...], epoch_s: float
) -> None:
    stream, recording = Simulator(species, seed=3), simulate(species, 95.0, seed=3)
    for thing in (stream, recording):
        assert (thing.sfreq, thing.channels, thing.labels, thing.epoch_s) == (
            sfreq,
            channels,
            labels,
            epoch_s,
        )
        assert thing.units == ("uV",) * len(channels)
    data, states = stream.read(round(95 * sfreq))
    assert data.dtype == recording.data.dtype == np.float32
    assert states.dtype == recording.states.dtype == np.int8
    assert np.isfinite(data).all()
    np.testing.assert_array_equal(data, recording.data)
    assert len(recording.states) == int(95 / epoch_s)
    np.testing.assert_array_equal(np.diff(recording.stamps_s).round(9), 1 / sfreq)


@pytest.mark.parametrize("sfreq", [200.0, 305.1758])
def test_states_change_on_the_first_sample_of_an_epoch(sfreq: float) -> None:
    recording = simulate("mouse", 900.0, sfreq=sfreq, seed=2)
    _, states = Simulator("mouse", sfreq=sfreq, seed=2).read(len(recording.data))
    changes = np.flatnonzero(np.diff(states)) + 1
    assert len(changes) > 3
    epochs = np.round(changes / sfreq / 4.0)
    np.testing.assert_array_equal(changes, np.ceil(epochs * 4.0 * sfreq))
    every_middle = ((np.arange(225) + 0.5) * 4.0 * sfreq).astype(int)
    np.testing.assert_array_equal(states[every_middle], recording.states)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"species": "rat"}, "human, mouse"),
        ({"sfreq": 20.0}, "50 Hz or more"),
        ({"sfreq": float("nan")}, "50 Hz or more"),
        ({"seed": -1}, "0 or more"),
        ({"duration_s": 0.0}, "more than 0"),
        ({"cycle_s": 100.0}, "300 s or more"),
    ],
)
def test_errors_say_what_is_allowed(arguments: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        Simulator(**arguments)  # type: ignore[arg-type]


def test_a_negative_read_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Simulator().read(-1)


# --- borders and rates


@pytest.mark.parametrize(("species", "block_s"), [("human", 60.0), ("mouse", 30.0)])
def test_no_steps_at_epoch_or_block_borders(species: Species, block_s: float) -> None:
    recording = simulate(species, 2460.0, seed=4, cycle_s=300.0)
    epoch_len = round(recording.epoch_s * recording.sfreq)
    state_changes = (np.flatnonzero(np.diff(recording.states)) + 1) * epoch_len
    block_borders = np.arange(1, int(2460 / block_s)) * round(block_s * recording.sfreq)
    # The largest step may lie anywhere; on average a step onto a border is like those around it. Bursts
    # differ in size by the factor of thousands, hence the rank among the neighbours instead of the ratio.
    steps = np.abs(np.diff(recording.data, axis=0, prepend=recording.data[:1]))
    around = np.r_[-60:-4, 5:61]
    for borders in (state_changes, block_borders):
        assert len(borders) >= 40
        rank = (steps[borders[:, None] + around] < steps[borders][:, None]).mean(axis=1)
        assert np.all(np.abs(rank.mean(axis=0) - 0.5) < 4 * 0.29 / np.sqrt(len(borders)))
        assert np.all((rank > 0.99).mean(axis=0) < 0.1)


@pytest.mark.parametrize(("species", "label"), [("human", "N2"), ("mouse", "REM")])
def test_power_density_does_not_depend_on_the_rate(species: Species, label: str) -> None:
    slow, fast = (
        simulate(species, 1200.0, sfreq=sfreq, seed=1, cycle_s=600.0 if species == "human" else 200.0)
        for sfreq in (100.0, 256.0)
    )
    np.testing.assert_array_equal(slow.states, fast.states)
    for channel in ("EEG", "EMG"):
        f_hz, a = density(slow, label, channel)
        _, b = density(fast, label, channel)
        for low_hz, high_hz in ((1, 4), (4, 9), (9, 15), (15, 30), (30, 45)):
            band = (f_hz >= low_hz) & (f_hz < high_hz)
            ratio_db = 10 * np.log10(a[band].sum() / b[: len(a)][band].sum())
            # Windowed slow parts leak into the EMG's empty low end; only where there is EMG does it count.
            assert abs(ratio_db) < 2.0 or (channel == "EMG" and high_hz <= 15)


# --- what the states look like


def test_human_spectra(human: Recording) -> None:
    others = {label: share(human, label, 8, 12) for label in AASM5}
    assert max(others, key=others.__getitem__) == "W"
    assert prominence_db(human, "W", 7, 13) > 4
    assert prominence_db(human, "N2", 10.5, 16) > 4
    assert prominence_db(human, "N2", 10.5, 16) > prominence_db(human, "REM", 10.5, 16) + 3
    slow = {label: share(human, label, 0.5, 4) for label in AASM5}
    assert slow["N3"] > 0.8
    assert slow["N3"] > slow["N2"] > max(slow["W"], slow["N1"], slow["REM"])
    theta = {label: share(human, label, 4, 8) for label in AASM5}
    assert min(theta["N1"], theta["REM"]) > 1.3 * max(theta["W"], theta["N2"], theta["N3"])


def test_human_slow_waves_meet_the_amplitude_of_the_manual(human: Recording) -> None:
    epochs = pure_epochs(human, "N3", "EEG")
    # One cycle of 1 Hz a window: AASM asks for more than 75 µV, peak to peak, in a fifth of the epoch.
    seconds = epochs.reshape(-1, round(human.sfreq))
    assert (np.ptp(seconds, axis=1) > 75).mean() > 0.2
    assert rms_uv(human, "N3", "EEG") > 2 * max(rms_uv(human, "REM", "EEG"), rms_uv(human, "N1", "EEG"))


def test_human_fast_activity_falls_in_sleep(human: Recording) -> None:
    f_hz, wake = density(human, "W")
    _, deep = density(human, "N3")
    band = (f_hz >= 25) & (f_hz <= 45)
    assert wake[band].mean() > 2 * deep[band].mean()
    slope = np.polyfit(np.log(f_hz[band]), np.log(deep[band]), 1)[0]
    assert -5 < slope < -1.5


def test_human_muscle_tone_falls_from_stage_to_stage(human: Recording) -> None:
    tone = [rms_uv(human, label, "EMG") for label in ("W", "N1", "N2", "N3", "REM")]
    assert all(a > b for a, b in pairwise(tone))
    assert tone[0] > 5 * tone[-1]


def test_human_eyes_move_in_rem_and_roll_in_n1(human: Recording) -> None:
    """Saccades change the EOG by more than 50 µV in 0.1 s; rolling eyes do not, but swing below 0.5 Hz."""

    def jumps(label: str) -> float:
        epochs = pure_epochs(human, label, "EOG")
        lag = round(0.1 * human.sfreq)
        size = np.abs(epochs[:, lag:] - epochs[:, :-lag])
        return float((size > 6 * np.median(size)).any(axis=1).mean())

    assert jumps("REM") > 0.8
    assert jumps("W") > 0.8
    f_hz, n1 = density(human, "N1", "EOG")
    _, n2 = density(human, "N2", "EOG")
    low = (f_hz > 0) & (f_hz <= 0.5)
    assert n1[low].sum() > 2 * n2[low].sum()


def test_mouse_spectra(mouse: Recording) -> None:
    f_hz, power = density(mouse, "REM")
    shown = f_hz >= 1
    assert 6 <= f_hz[shown][np.argmax(power[shown])] <= 9
    theta = {label: share(mouse, label, 6, 9) for label in MOUSE3}
    assert theta["REM"] > 0.4
    assert theta["REM"] > 1.5 * theta["Wake"] > 1.5 * theta["NREM"]
    delta = {label: share(mouse, label, 1, 4.5) for label in MOUSE3}
    assert delta["NREM"] > 0.45
    assert delta["NREM"] > 1.4 * max(delta["Wake"], delta["REM"])
    gamma = {label: share(mouse, label, 30, 45) for label in MOUSE3}
    assert gamma["NREM"] < min(gamma["Wake"], gamma["REM"]) / 1.4


def test_mouse_muscle_tone(mouse: Recording) -> None:
    wake, nrem, rem = (rms_uv(mouse, label, "EMG") for label in MOUSE3)
    assert wake > 2 * nrem > 2 * rem
    # Twitches: REM is the quietest state, yet its peaks stand far above its tone.
    peaks = np.abs(pure_epochs(mouse, "REM", "EMG")).max(axis=1)
    assert np.quantile(peaks, 0.9) > 5 * rem


def test_a_short_cycle_shows_every_state() -> None:
    assert set(simulate("human", 2400.0, sfreq=50.0, seed=0, cycle_s=1200.0).states) == set(range(5))
    assert set(simulate("mouse", 1200.0, sfreq=50.0, seed=0, cycle_s=200.0).states) == set(range(3))


def epochs_of_bouts(subject: Subject, seed: int, n_epochs: int, cycle_s: float) -> npt.NDArray[np.int64]:
    """States alone: the sequence that a simulator would render."""
    codes: list[int] = []
    for code, n in subject.bouts(np.random.default_rng(seed), cycle_s):
        codes += [code] * n
        if len(codes) >= n_epochs:
            break
    return np.array(codes[:n_epochs])


@pytest.mark.parametrize("seed", range(30))
def test_sequences_of_states(seed: int) -> None:
    sleeper, animal = draw_human(np.random.default_rng(seed)), draw_mouse(np.random.default_rng(seed))
    assert set(epochs_of_bouts(sleeper, seed, 80, 1200.0)) == set(range(5))
    assert set(epochs_of_bouts(animal, seed, 300, 200.0)) == set(range(3))

    night = epochs_of_bouts(sleeper, seed, 900, sleeper.cycle_s)
    w, n1, n2, n3, rem = np.bincount(night, minlength=5) / len(night)
    assert w < 0.2
    assert 0.03 < n1 < 0.2
    assert 0.3 < n2 < 0.65
    assert 0.08 < n3 < 0.3
    assert 0.1 < rem < 0.35
    assert (night[:300] == 3).sum() > (night[-300:] == 3).sum()
    assert (night[:300] == 4).sum() < (night[-300:] == 4).sum()

    day = epochs_of_bouts(animal, seed, 21600, animal.cycle_s)
    wake, nrem, rem = np.bincount(day, minlength=3) / len(day)
    assert 0.3 < wake < 0.6
    assert 0.3 < nrem < 0.6
    assert 0.04 < rem < 0.15
    # An awake mouse does not enter REM.
    assert not np.any((day[:-1] == 0) & (day[1:] == 2))
