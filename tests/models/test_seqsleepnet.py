from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from streamscore.models.seqsleepnet import (
    ABOUT,
    BatchNormLstm,
    Config,
    SeqSleepNet,
    StepNorm,
    build,
    triangular_filters,
)
from tests.contracts.model import ModelContract, run

SMALL = {
    "sfreq": 16.0,
    "epoch_s": 4.0,
    "window_epochs": 3,
    "n_fft": 40,
    "high_hz": 8.0,
    "n_filters": 4,
    "n_hidden": 5,
    "n_attention": 6,
}
SLIDING = {**SMALL, "variant": "sliding"}
FUSED = {**SLIDING, "lags_epochs": (0, 1), "fusion": "log"}


def make(**arguments: object) -> SeqSleepNet:
    """Return a small network whose statistics, scales and offsets all do something."""
    torch.manual_seed(0)
    model = build(Config(**{**SMALL, **arguments}))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, StepNorm):
                module.mean.normal_(std=0.3)
                module.var.uniform_(0.2, 2.0)
                module.scale.uniform_(0.5, 2.0)
                if module.offset is not None:
                    module.offset.add_(torch.randn_like(module.offset))
        model.encoder.bin_mean.normal_(10.0, 3.0)
        model.encoder.bin_std.uniform_(3.0, 6.0)
        model.head_weight.normal_()
        model.head_bias.normal_()
    return model


def signal(n_epochs: int, n_channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, n_channels, n_epochs * 64, generator=generator)


class TestPublished(ModelContract):
    def make(self) -> SeqSleepNet:
        return make()


class TestPublishedThreeChannels(ModelContract):
    def make(self) -> SeqSleepNet:
        return make(n_channels=3, n_classes=3)


class TestSliding(ModelContract):
    def make(self) -> SeqSleepNet:
        return make(**SLIDING)


class TestSlidingAtSeveralLags(ModelContract):
    def make(self) -> SeqSleepNet:
        return make(**SLIDING, lags_epochs=(1, 2))


class TestFused(ModelContract):
    def make(self) -> SeqSleepNet:
        return make(**FUSED)


class TestFusedAtOneLag(ModelContract):
    def make(self) -> SeqSleepNet:
        return make(**{**FUSED, "lags_epochs": (1,)})


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


class Naive:
    """The network of MODELS.md 6.3 in double precision, one window of one recording at a time."""

    def __init__(self, model: SeqSleepNet) -> None:
        self.config = model.config
        self.w = {name: value.double().numpy() for name, value in model.state_dict().items()}
        self.n_hidden = model.config.n_hidden

    def norm(self, name: str, x: np.ndarray, step: int) -> np.ndarray:
        w = self.w
        y = (x - w[f"{name}.mean"][step]) / np.sqrt(w[f"{name}.var"][step] + 1e-5) * w[f"{name}.scale"]
        return y + w.get(f"{name}.offset", 0.0)

    def lstm(self, name: str, items: list[np.ndarray]) -> list[np.ndarray]:
        cell, hidden, outputs = np.zeros(self.n_hidden), np.zeros(self.n_hidden), []
        for step, item in enumerate(items):
            gates = self.norm(f"{name}.norm_x", item @ self.w[f"{name}.weight_x"], step)
            gates = gates + self.norm(f"{name}.norm_h", hidden @ self.w[f"{name}.weight_h"], step)
            f, i, o, j = np.split(gates, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(j)
            hidden = sigmoid(o) * np.tanh(self.norm(f"{name}.norm_cell", cell, step))
            outputs.append(hidden)
        return outputs

    def both(self, prefix: str, items: list[np.ndarray]) -> list[np.ndarray]:
        ahead = self.lstm(f"{prefix}forwards", items)
        back = self.lstm(f"{prefix}backwards", items[::-1])[::-1]
        return [np.concatenate(pair) for pair in zip(ahead, back, strict=True)]

    def epoch(self, x: np.ndarray) -> np.ndarray:
        """One epoch ``(channels, 64)``: frames of 32 samples, 16 apart, padded to 40 points."""
        frames = []
        for start in range(0, 33, 16):
            bands = []
            for channel, samples in enumerate(x):
                spectrum = np.fft.rfft(samples[start : start + 32] * np.hamming(32), 40)
                level = 20 * np.log10(np.abs(spectrum))
                level = (level - self.w["encoder.bin_mean"][channel]) / self.w["encoder.bin_std"][channel]
                shape = triangular_filters(4, 40, 16.0, 8.0).double().numpy()
                bands.append(level @ (sigmoid(self.w["encoder.filter_weight"][channel]) * shape))
            frames.append(np.concatenate(bands))
        hidden = self.both("encoder.", frames)
        scores = np.array(
            [
                np.tanh(self.w["encoder.attention.weight"] @ h + self.w["encoder.attention.bias"])
                @ self.w["encoder.context"]
                for h in hidden
            ]
        )
        weights = np.exp(scores) / np.exp(scores).sum()
        return sum(weight * h for weight, h in zip(weights, hidden, strict=True))

    def window(self, x: np.ndarray) -> np.ndarray:
        """Logits ``(positions, classes)`` of ``(channels, 3 * 64)``."""
        vectors = [self.epoch(x[:, 64 * k : 64 * (k + 1)]) for k in range(3)]
        return np.stack(
            [h @ self.w["head_weight"][k] + self.w["head_bias"][k] for k, h in enumerate(self.both("", vectors))]
        )


class TestAgainstTheNaiveForm:
    """What streams is the paper's network, written down a second time."""

    def windows(self, model: SeqSleepNet, x: torch.Tensor) -> dict[int, np.ndarray]:
        """Naive logits of the window that ends with each epoch."""
        naive, samples = Naive(model), x[0].double().numpy()
        n_epochs = samples.shape[1] // 64
        return {k: naive.window(samples[:, 64 * (k - 2) : 64 * (k + 1)]) for k in range(2, n_epochs)}

    def test_published(self) -> None:
        model, x = make(n_channels=2), signal(6, 2)
        windows, logits = self.windows(model, x), run(model, x)[0][0]
        for step, last in enumerate((2, 5)):
            # Reads rise in lag, so that the newest position comes first.
            np.testing.assert_allclose(logits[step].numpy(), windows[last][::-1], rtol=0, atol=1e-5)

    def test_sliding_reads_the_positions_it_was_told(self) -> None:
        model, x = make(**SLIDING, lags_epochs=(0, 2)), signal(7)
        windows, logits = self.windows(model, x), run(model, x)[0][0]
        for last, window in windows.items():
            np.testing.assert_allclose(logits[last].numpy(), window[[2, 0]], rtol=0, atol=1e-5)

    def test_fusion_sums_the_log_probabilities_of_all_windows_so_far(self) -> None:
        model, x = make(**{**FUSED, "lags_epochs": (0, 2)}), signal(8)
        windows, logits = self.windows(model, x), run(model, x)[0][0]
        log_probs = {last: torch.log_softmax(torch.from_numpy(w), -1).numpy() for last, w in windows.items()}
        for lag, read in ((0, 0), (2, 1)):
            for epoch in range(2, 8 - lag):
                ends = range(epoch, epoch + lag + 1)
                total = sum(log_probs[last][epoch - last + 2] for last in ends)
                fused = torch.log_softmax(torch.from_numpy(total / len(ends)), -1).numpy()
                np.testing.assert_allclose(logits[epoch + lag, read].numpy(), fused, rtol=0, atol=1e-5)

    def test_before_all_windows_are_full_it_fuses_those_that_are(self) -> None:
        """The first epochs of a night are spoken about by fewer windows."""
        model, x = make(**{**FUSED, "lags_epochs": (2,)}), signal(3)
        window, logits = self.windows(model, x)[2], run(model, x)[0][0]
        first = torch.log_softmax(torch.from_numpy(window[0]), -1).numpy()
        np.testing.assert_allclose(logits[2, 0].numpy(), first, rtol=0, atol=1e-5)

    def test_the_variants_share_their_weights(self) -> None:
        published, sliding, x = make(), make(**SLIDING, lags_epochs=(0, 1, 2)), signal(3)
        sliding.load_state_dict(published.state_dict())
        torch.testing.assert_close(run(published, x)[0][0, 0], run(sliding, x)[0][0, 2], rtol=0, atol=1e-5)


class TestPublishedSize:
    """MODELS.md 6.3."""

    @pytest.mark.parametrize(("n_channels", "n_parameters"), [(1, 176_388), (2, 196_900), (3, 217_412)])
    def test_number_of_trainable_parameters(self, n_channels: int, n_parameters: int) -> None:
        assert build(Config(n_channels=n_channels)).n_trainable() == n_parameters

    def test_its_parts(self) -> None:
        model = build(Config())
        size = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_modules()}
        assert model.encoder.filter_weight.numel() == 129 * 32
        assert size["encoder.forwards"] == size["encoder.backwards"] == (32 + 64) * 256 + 3 * 256 + 2 * 64
        assert size["encoder.attention"] + model.encoder.context.numel() == 8_320
        assert size["forwards"] == size["backwards"] == (128 + 64) * 256 + 3 * 256 + 2 * 64
        assert model.head_weight.numel() + model.head_bias.numel() == 12_900

    def test_an_epoch_has_29_frames_of_129_bins(self) -> None:
        assert build(Config()).encoder.log_spectra(torch.ones(2, 1, 3000)).shape == (2, 1, 29, 129)

    def test_one_population_for_each_frame_and_each_epoch(self) -> None:
        model = build(Config())
        assert model.encoder.forwards.norm_h.mean.shape == (29, 256)
        assert model.backwards.norm_cell.var.shape == (20, 64)

    def test_timing_of_the_published_variant(self) -> None:
        timing = build(Config()).timing
        assert (timing.step_samples, timing.epoch_samples) == (60_000, 3_000)
        assert [read.lag_samples for read in timing.reads] == [3_000 * lag for lag in range(20)]
        assert {read.warm_up_samples for read in timing.reads} == {60_000}

    def test_timing_of_the_sliding_variant(self) -> None:
        timing = build(Config(variant="sliding")).timing
        assert (timing.step_samples, timing.look_ahead_samples, timing.warm_up_samples) == (3_000, 0, 60_000)
        assert timing.receptive_field_samples == 60_000

    def test_a_fused_read_waits_for_all_its_windows(self) -> None:
        timing = build(Config(variant="sliding", fusion="log", lags_epochs=(0, 19))).timing
        assert [read.warm_up_samples for read in timing.reads] == [60_000, 39 * 3_000]
        assert timing.look_ahead_samples == 570 * 100

    def test_weight_decay_spares_the_filter_bank(self) -> None:
        assert sum(p.numel() for p in build(Config()).l2_kernels()) == 176_388 - 129 * 32


class TestSpectra:
    def test_a_sine_stands_at_its_bin_with_the_level_of_its_window(self) -> None:
        encoder = build(Config()).encoder
        time_s = torch.arange(3000) / 100.0
        level = encoder.log_spectra(3.0 * torch.sin(2 * torch.pi * 12.5 * time_s)[None, None])[0, 0]
        assert (level.argmax(dim=1) == 32).all()  # 12.5 Hz * 256 / 100 Hz
        amplitude = 20 * np.log10(3.0 / 2 * np.hamming(200).sum())
        torch.testing.assert_close(level[:, 32], torch.full((29,), amplitude), rtol=0, atol=0.05)

    def test_a_flat_channel_is_finite(self) -> None:
        level = build(Config()).encoder.log_spectra(torch.zeros(1, 1, 3000))
        assert torch.equal(level, torch.full_like(level, -120.0))

    def test_bins_are_normalised_by_the_stored_statistics(self) -> None:
        model, x = make(), signal(3)
        spectra = model.encoder.log_spectra(x.reshape(3, 1, 64))
        model.encoder.bin_mean.copy_(spectra.mean(dim=(0, 2)))
        model.encoder.bin_std.copy_(spectra.std(dim=(0, 2)))
        before = run(model, x)[0]
        model.encoder.bin_mean.add_(20.0)  # as if all signals were ten times as large
        torch.testing.assert_close(run(model, 10.0 * x)[0], before, rtol=0, atol=1e-4)


class TestFilterBank:
    def test_published_corners(self) -> None:
        filters = triangular_filters(32, 256, 100.0, 50.0)
        corners = [int(257 * 50 * k / 33 / 100) for k in range(34)]
        assert filters.shape == (129, 32)
        assert corners[:4] == [0, 3, 7, 11]
        for k in range(32):
            assert filters[corners[k + 1], k] == 1.0
            assert torch.nonzero(filters[:, k]).flatten().tolist() == list(range(corners[k] + 1, corners[k + 2]))
        torch.testing.assert_close(filters[4:7, 0], torch.tensor([0.75, 0.5, 0.25]))
        assert not filters[128].any()

    def test_corners_that_fall_together_leave_an_empty_slope(self) -> None:
        filters = triangular_filters(8, 8, 16.0, 8.0)
        assert torch.isfinite(filters).all()
        assert filters.min() >= 0.0
        assert filters.max() <= 1.0


class TestBatchNormLstm:
    def test_initial_scales_offsets_and_orthogonal_rows(self) -> None:
        lstm = BatchNormLstm(6, 4, 3, 0.0)
        assert lstm.norm_h.offset.tolist() == [1.0] * 4 + [0.0] * 12
        assert lstm.norm_x.offset is None
        assert lstm.norm_cell.offset.tolist() == [0.0] * 4
        assert all((norm.scale == 0.1).all() for norm in (lstm.norm_x, lstm.norm_h, lstm.norm_cell))
        torch.testing.assert_close(lstm.weight_x @ lstm.weight_x.T, torch.eye(6), rtol=0, atol=1e-5)

    def test_training_normalises_each_step_by_its_batch_and_learns_its_population(self) -> None:
        norm = StepNorm(3, 2, offset=None).train()
        x = 5.0 + torch.randn(8, 2, 2, generator=torch.Generator().manual_seed(0))
        y = norm(x, first=1)
        expected = 0.1 * (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(norm.mean[1:], 0.05 * x.mean(0), rtol=0, atol=1e-6)
        torch.testing.assert_close(norm.var[1:], 0.95 + 0.05 * x.var(0, correction=0), rtol=0, atol=1e-6)
        assert not norm.mean[0].any()

    def test_all_its_weights_learn(self) -> None:
        model = make(dropout=0.0).train()
        x = torch.randn(5, 1, 3 * 64, generator=torch.Generator().manual_seed(0))
        model(x, model.initial_state(5))[0].square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters() if isinstance(p, nn.Parameter))


def test_dropout_acts_in_training_only() -> None:
    model, x = make(), torch.randn(4, 1, 3 * 64, generator=torch.Generator().manual_seed(0))
    model.train()
    assert not torch.equal(*(model(x, model.initial_state(4))[0] for _ in range(2)))
    model = make(dropout=0.0).train()
    assert torch.equal(*(model(x, model.initial_state(4))[0] for _ in range(2)))


def test_golden_outputs() -> None:
    """Weights and input are formulas, which no generator of random numbers can change."""
    model = build(Config(**SMALL))
    with torch.no_grad():
        for k, weight in enumerate(model.parameters()):
            weight.copy_(torch.sin(torch.arange(weight.numel()) * 0.7 + k).reshape(weight.shape))
    x = torch.sin(torch.arange(192).square() * 0.01)[None, None]
    expected = torch.tensor(
        [
            [0.65946, 0.71522, 0.43461, -0.05041, -0.51172],
            [-0.67653, -0.96572, -0.80071, -0.25912, 0.40434],
            [0.77517, 0.83593, 0.50354, -0.06567, -0.60400],
        ]
    )
    torch.testing.assert_close(run(model, x)[0][0, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ABOUT.examples)
def test_examples_are_ready_to_build(name: str) -> None:
    example = ABOUT.examples[name]
    model = build(Config(**example.args))
    assert model.n_channels == len(example.channels)
    assert model.config.sfreq == example.sfreq


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frame_s": 4.0}, r"frame_s 4 is 400 samples, more than n_fft 256"),
        ({"epoch_s": 1.0}, r"or the epoch of 100"),
        ({"high_hz": 60.0}, r"high_hz 60 is above half of sfreq 100"),
        ({"frame_step_s": 0.015}, r"frame_step_s 0\.015 is not a whole number of samples"),
        ({"lags_epochs": (3,)}, r"belong to the sliding variant"),
        ({"fusion": "log"}, r"belong to the sliding variant"),
        ({"variant": "sliding", "lags_epochs": (20,)}, r"less than 20"),
        ({"variant": "sliding", "lags_epochs": (-1, 0)}, r"from 0 or more"),
        ({"variant": "sliding", "lags_epochs": (2, 1)}, r"must rise"),
        ({"variant": "sliding", "lags_epochs": (1, 1)}, r"must rise"),
        ({"variant": "sliding", "lags_epochs": ()}, r"at least 1"),
        ({"variant": "sliding", "fusion": "log"}, r"at lag 0 no shifted windows"),
        ({"variant": "causal"}, r"published"),
        ({"layers": 3}, r"[Ee]xtra"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
