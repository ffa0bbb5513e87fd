from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal.windows import dpss
from torch import Tensor

from streamscore.features import multitaper
from streamscore.features.multitaper import Multitaper
from streamscore.types import FloatArray


def eeg(n_samples: int, seed: int = 0, sigma_uv: float = 20.0) -> Tensor:
    noise = np.random.default_rng(seed).normal(0.0, sigma_uv, n_samples)
    return torch.from_numpy(noise.astype(np.float32))


def naive(x: Tensor, window: int = 300, step: int = 67, sfreq: float = 100.0, n_fft: int = 512) -> FloatArray:
    """The recipe of MODELS.md 3.1, one column and one taper after the other."""
    tapers = dpss(window, 3.0, Kmax=5) * np.sqrt(sfreq)
    columns = []
    for start in range(0, len(x) - window + 1, step):
        segment = x[start : start + window].double().numpy()
        powers = [np.abs(np.fft.fft(segment * taper, n_fft) / sfreq) ** 2 for taper in tapers]
        columns.append(np.mean(powers, axis=0)[np.arange(n_fft) * sfreq / n_fft <= 30.0][:154])
    return np.array(columns)


def test_it_is_the_published_recipe() -> None:
    x = eeg(2000)
    np.testing.assert_allclose(Multitaper()(x).numpy(), naive(x), rtol=1e-9)


def test_published_bins() -> None:
    spectrogram = Multitaper()
    assert (spectrogram.n_fft, spectrogram.n_bins) == (512, 154)
    assert spectrogram.tapers.shape == (5, 300)
    assert Multitaper(n_tapers=3).tapers.shape == (3, 300)
    assert Multitaper(max_hz=50.0).n_bins == 257
    assert Multitaper(sfreq=200.0).n_bins == 77
    assert Multitaper(window_samples=256, step_samples=64).n_fft == 256


def test_bandwidth_widens_a_line() -> None:
    x = 20.0 * torch.sin(2 * torch.pi * 10.0 * torch.arange(300) / 100)
    narrow, wide = (Multitaper(time_bandwidth=nw)(x)[0] for nw in (3.0, 6.0))
    off_line = round(11.5 * 512 / 100)
    assert wide[off_line] > 5 * narrow[off_line]


def test_white_noise_has_its_variance_over_the_rate() -> None:
    power = Multitaper()(eeg(60_000, sigma_uv=10.0))[:, 5:]
    assert power.mean().item() == pytest.approx(10.0**2 / 100.0, rel=0.02)


def test_a_line_stands_in_its_bin() -> None:
    x = 20.0 * torch.sin(2 * torch.pi * 12.0 * torch.arange(300) / 100)
    power = Multitaper(n_tapers=1)(x)[0]
    assert power.argmax().item() == round(12.0 * 512 / 100)


@pytest.mark.parametrize("n_samples", [0, 1, 299, 300, 366, 367, 1000])
def test_number_of_columns(n_samples: int) -> None:
    spectrogram = Multitaper()
    expected = len(range(0, n_samples - 299, 67))
    assert spectrogram.n_columns(n_samples) == expected
    assert spectrogram(eeg(n_samples)).shape == (expected, 154)


def test_a_night_is_transformed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = eeg(2000)
    whole = Multitaper()(x)
    monkeypatch.setattr(multitaper, "BLOCK", 4)
    torch.testing.assert_close(Multitaper()(x), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sizes", [(1000,) * 4, (1,) * 700 + (3300,), (299, 1, 67, 66, 1, 3566), (13, 987, 3000)])
def test_columns_of_a_stream_are_those_of_the_batch(sizes: tuple[int, ...]) -> None:
    spectrogram = Multitaper()
    x = eeg(4000)
    state = spectrogram.initial_state(1)
    columns = []
    for piece in x.split(list(sizes)):
        (new,), state = spectrogram.push(piece[None], *state)
        columns.append(new)
    torch.testing.assert_close(torch.cat(columns), spectrogram(x), rtol=1e-5, atol=0)
    assert state[1].item() == 4000


def test_each_column_is_computed_once() -> None:
    spectrogram = Multitaper()
    n_computed: list[int] = []
    spectrogram.register_forward_hook(lambda _module, _args, out: n_computed.append(out.shape[0]))
    state = spectrogram.initial_state(1)
    for piece in eeg(4000).split(100):
        _, state = spectrogram.push(piece[None], *state)
    assert sum(n_computed) == spectrogram.n_columns(4000)
    assert max(n_computed) == 2


def test_rows_may_stand_at_different_positions() -> None:
    spectrogram = Multitaper()
    streams = [eeg(900, seed=1), eeg(1000, seed=2)]
    states = [spectrogram.push(x[None, :-400], *spectrogram.initial_state(1))[1] for x in streams]
    tail, n_seen = (torch.cat(parts) for parts in zip(*states, strict=True))
    columns, (_, n_seen) = spectrogram.push(torch.stack([x[-400:] for x in streams]), tail, n_seen)
    assert n_seen.tolist() == [[900], [1000]]
    for x, new in zip(streams, columns, strict=True):
        expected = spectrogram(x)[spectrogram.n_columns(len(x) - 400) :]
        torch.testing.assert_close(new, expected, rtol=1e-5, atol=0)


def test_a_push_changes_neither_samples_nor_state() -> None:
    spectrogram = Multitaper()
    x = eeg(800)[None]
    tail, n_seen = spectrogram.initial_state(1)
    _, (new_tail, new_n_seen) = spectrogram.push(x, tail, n_seen)
    assert not tail.any()
    assert n_seen.item() == 0
    assert new_n_seen.item() == 800
    assert new_tail.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


@pytest.mark.parametrize("step", [0, 301])
def test_a_step_that_skips_samples_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match=r"step of \d+ samples must be 1 … the window, 300"):
        Multitaper(step_samples=step)
