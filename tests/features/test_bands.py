from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import signal

from streamscore.features.bands import SHAPE_FEATURES, BandArguments, BandFeatures

SFREQ = 100.0
ARGUMENTS = BandArguments(sfreq=SFREQ, epoch_s=30.0, n_channels=2)
N_BANDS = len(ARGUMENTS.edges_hz) - 1
N_EACH = 2 * N_BANDS + len(SHAPE_FEATURES)


def noise(n: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n, 2, 3000)) * [[20.0], [3.0]]
    return (signal.lfilter([1.0], [1.0, -0.8], white, axis=-1) + 7.0).astype(np.float32)


def raw(x: np.ndarray, arguments: BandArguments = ARGUMENTS) -> np.ndarray:
    return BandFeatures(arguments).raw(torch.from_numpy(x.astype(np.float32))).numpy()


def named(x: np.ndarray, name: str, arguments: BandArguments = ARGUMENTS) -> np.ndarray:
    return raw(x, arguments)[:, BandFeatures(arguments).names.index(name)]


def sine(f_hz: float, sfreq: float = SFREQ) -> np.ndarray:
    t_s = np.arange(round(30 * sfreq)) / sfreq
    return np.sin(2 * np.pi * f_hz * t_s + 0.3)[None, None].repeat(2, axis=1)


@pytest.mark.parametrize(("sfreq", "segment_s"), [(100.0, 2.0), (128.0, 2.0), (99.0, 1.0), (50.0, 4.0)])
def test_the_density_is_scipys(sfreq: float, segment_s: float) -> None:
    arguments = BandArguments(sfreq=sfreq, segment_s=segment_s, edges_hz=(1.0, 10.0, 20.0))
    x = noise()[:, :1]
    _, wanted = signal.welch(x.astype(np.float64), sfreq, nperseg=arguments.segment_samples, axis=-1)
    got = BandFeatures(arguments).density(torch.from_numpy(x)).numpy()
    # The mean is taken off in float32, which leaves 1e-5 of it at 0 Hz.
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5 * wanted.max())


def test_band_powers_are_the_mean_density_of_the_band() -> None:
    x = noise()
    f_hz, density = signal.welch(x.astype(np.float64), SFREQ, nperseg=200, axis=-1)
    inside = [(f_hz >= low) & (f_hz < high) for low, high in pairwise(ARGUMENTS.edges_hz)]
    power = np.stack([density[..., band].mean(axis=-1) for band in inside], axis=-1)
    sums = np.stack([density[..., band].sum(axis=-1) for band in inside], axis=-1)
    got = raw(x).reshape(3, 2, N_EACH)
    np.testing.assert_allclose(got[..., :N_BANDS], np.log(power), atol=1e-4)
    np.testing.assert_allclose(got[..., N_BANDS : 2 * N_BANDS], sums / sums.sum(-1, keepdims=True), atol=1e-5)


def test_hjorth_parameters_are_those_of_their_definition() -> None:
    x = noise().astype(np.float64)
    activity = x.var(axis=-1)
    mobility = np.sqrt(np.diff(x).var(axis=-1) / activity)
    complexity = np.sqrt(np.diff(x, 2).var(axis=-1) / np.diff(x).var(axis=-1)) / mobility
    got = raw(x).reshape(3, 2, N_EACH)[..., -4:-1]
    np.testing.assert_allclose(got, np.stack([np.log(activity), mobility, complexity], -1), rtol=1e-3, atol=1e-3)


def test_zero_crossings_are_counted_around_the_mean() -> None:
    assert named(100.0 + sine(5.0), "0:zero_crossings")[0] == pytest.approx(2 * 5.0 / SFREQ, rel=0.02)


@pytest.mark.parametrize(("f_hz", "band"), [(2.0, "0.5_4hz"), (4.0, "4_8hz"), (10.0, "8_12hz"), (40.0, "30_45hz")])
def test_a_sine_is_found_in_its_band(f_hz: float, band: str) -> None:
    # A Hann window spreads a line over three bins, a sixth of the power to each side.
    assert named(sine(f_hz), f"1:share_{band}")[0] > 0.8


def test_entropy_tells_a_line_from_noise() -> None:
    flat = np.random.default_rng(0).standard_normal((1, 2, 3000))
    assert named(sine(10.0), "0:spectral_entropy")[0] < 0.3
    assert 0.97 < named(flat, "0:spectral_entropy")[0] <= 1.0


def test_a_gain_moves_powers_and_activity_only() -> None:
    x = noise()
    change = raw(10.0 * x) - raw(x)
    moved = [name.split(":")[1].startswith(("power", "hjorth_activity")) for name in BandFeatures(ARGUMENTS).names]
    np.testing.assert_allclose(change[:, moved], np.log(100.0), atol=1e-3)
    np.testing.assert_allclose(change[:, np.invert(moved)], 0.0, atol=1e-4)


def test_volts_are_described_as_well_as_microvolts() -> None:
    in_microvolts, in_volts = raw(noise()), raw(1e-6 * noise())
    same = [
        not name.split(":")[1].startswith(("power", "hjorth_activity")) for name in BandFeatures(ARGUMENTS).names
    ]
    np.testing.assert_allclose(in_volts[:, same], in_microvolts[:, same], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 1000.0])
def test_silence_gives_finite_numbers(level: float) -> None:
    assert np.isfinite(raw(np.full((1, 2, 3000), level))).all()


def test_channels_are_described_alike_and_apart() -> None:
    x = noise()
    np.testing.assert_allclose(raw(x[:, ::-1].copy()), raw(x).reshape(3, 2, -1)[:, ::-1].reshape(3, -1), rtol=1e-5)


def test_every_feature_has_a_name() -> None:
    features = BandFeatures(ARGUMENTS)
    assert len(set(features.names)) == len(features.names) == features.n_features == raw(noise()).shape[1] == 34


def test_the_z_score_is_stored_and_applied() -> None:
    features = BandFeatures(ARGUMENTS)
    epochs = torch.from_numpy(noise(8))
    features.standardise(features.raw(epochs))
    z = features(epochs)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(34), rtol=0, atol=1e-3)
    torch.testing.assert_close(z.std(dim=0, correction=0), torch.ones(34), rtol=0, atol=1e-3)
    again = BandFeatures(ARGUMENTS)
    again.load_state_dict(features.state_dict())
    assert torch.equal(again(epochs), z)


def test_a_feature_that_never_varied_is_not_divided_by_zero() -> None:
    features = BandFeatures(ARGUMENTS)
    features.standardise(torch.ones(5, 34))
    assert torch.equal(features.std, torch.ones(34))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"edges_hz": (4.0, 1.0)}, "must rise"),
        ({"edges_hz": (-1.0, 4.0)}, "must rise"),
        ({"edges_hz": (4.0,)}, "at least 2"),
        ({"sfreq": 64.0}, "45 Hz, above half the sampling rate of 64 Hz"),
        ({"segment_s": 31.0}, "longer than epoch_s"),
        ({"segment_s": 0.01}, "fewer than 2 samples"),
        ({"edges_hz": (1.0, 1.2, 1.4)}, r"band 1.2 to 1.4 Hz holds no frequency"),
        ({"taper": "hann"}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BandArguments(**wrong)
