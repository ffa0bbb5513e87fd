from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from streamscore.models.utime import ABOUT, Config, Geometry, UTime, build
from tests.contracts.model import ModelContract, run

SMALL = {"sfreq": 8.0, "epoch_s": 2.0, "window_epochs": 3, "n_filters": 2, "pools": (3, 2)}
#: 48 samples → 9 → 3 columns, of which the decoder makes 9 and 45: it crops and pads.
UNEVEN = {**SMALL, "pools": (5, 3)}
#: So local that an output depends on less than the window.
LOCAL = {**SMALL, "epoch_s": 1.5, "window_epochs": 6, "pools": (2, 2), "kernel": 3, "dilation": 1}
SLIDING = {"variant": "sliding"}


def randomise(model: UTime) -> UTime:
    """Give it statistics, gains and biases that do something."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.3, 1.0)
                module.weight.uniform_(0.7, 1.5)
                module.bias.normal_(std=0.3)
            if isinstance(module, torch.nn.Conv1d):
                module.bias.normal_(std=0.3)
        for conv in (model.segment, model.head):
            conv.weight.normal_(std=2.0)
    return model


def make(seed: int = 1, **arguments: object) -> UTime:
    """Return a small network; with some seeds the max pools hide the outermost sample from the contract."""
    torch.manual_seed(seed)
    return randomise(build(Config(**{**SMALL, **arguments})))


def signal(n_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 1, n_samples, generator=torch.Generator().manual_seed(seed))


class TestPublished(ModelContract):
    def make(self) -> UTime:
        return make()


class TestPublishedWithCropsAndTwoChannels(ModelContract):
    def make(self) -> UTime:
        return make(**UNEVEN, n_channels=2, n_classes=3, complexity_factor=2.0)


class TestSlidingAtTheCentre(ModelContract):
    def make(self) -> UTime:
        return make(**SLIDING)


class TestSlidingAtSeveralLags(ModelContract):
    def make(self) -> UTime:
        return make(**UNEVEN, **SLIDING, lags_epochs=(0, 2))


class TestSlidingWithoutLookAhead(ModelContract):
    """Its window is longer than what it keeps."""

    def make(self) -> UTime:
        model = make(**LOCAL, **SLIDING, lags_epochs=(0,))
        assert model.plan.n_held == 3
        return model


class TestFused(ModelContract):
    def make(self) -> UTime:
        return make(**SLIDING, lags_epochs=(0, 1), fusion="log")


class TestFusedAndLocal(ModelContract):
    def make(self) -> UTime:
        return make(seed=2, **LOCAL, **SLIDING, lags_epochs=(1,), fusion="log")


class Naive:
    """The network of MODELS.md 6.4 in double precision, one window at a time, sample by sample."""

    def __init__(self, model: UTime) -> None:
        self.config = model.config
        self.w = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def conv(self, name: str, x: np.ndarray, dilation: int = 1) -> np.ndarray:
        """``x`` is (columns, channels); zeros outside; an even kernel reaches one further to the right."""
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        n_out, _, kernel = weight.shape
        left = (kernel - 1) * dilation // 2
        y = np.tile(bias, (len(x), 1))
        for at in range(len(x)):
            for tap in range(kernel):
                source = at - left + tap * dilation
                if 0 <= source < len(x):
                    y[at] += weight[:, :, tap] @ x[source]
        assert y.shape[1] == n_out
        return y

    def block(self, name: str, x: np.ndarray, dilation: int = 1) -> np.ndarray:
        y = elu(self.conv(f"{name}.conv", x, dilation))
        norm = {key: self.w[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        return (y - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-3) * norm["weight"] + norm["bias"]

    def two(self, name: str, x: np.ndarray, dilation: int = 1) -> np.ndarray:
        return self.block(f"{name}.1", self.block(f"{name}.0", x, dilation), dilation)

    def window(self, x: np.ndarray) -> np.ndarray:
        """Logits ``(epochs, classes)`` of ``(channels, samples)``."""
        pools, n_samples, epoch = self.config.pools, x.shape[1], self.config.epoch_samples
        x, skips = x.T, []
        for level, pool in enumerate(pools):
            skips.append(self.two(f"encoder.{level}", x, self.config.dilation))
            n_out = len(skips[-1]) // pool
            x = skips[-1][: n_out * pool].reshape(n_out, pool, -1).max(axis=1)
        x = self.two(f"encoder.{len(pools)}", x)
        odd_goes_right = True
        for level in reversed(range(len(pools))):
            x = self.block(f"up.{level}", np.repeat(x, pools[level], axis=0))
            skip = skips[level]
            surplus = len(skip) - len(x)
            if surplus:
                left = surplus // 2 if odd_goes_right else math.ceil(surplus / 2)
                skip, odd_goes_right = skip[left : left + len(x)], not odd_goes_right
            x = self.two(f"decoder.{level}", np.concatenate((skip, x), axis=1))
        missing = n_samples - len(x)
        samples = np.pad(np.tanh(self.conv("dense", x)), ((missing // 2, missing - missing // 2), (0, 0)))
        means = samples.reshape(-1, epoch, samples.shape[1]).mean(axis=1)
        return self.conv("head", elu(self.conv("segment", means)))


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


class TestAgainstTheNaiveForm:
    """What streams is the paper's network, written down a second time."""

    def windows(self, model: UTime, x: torch.Tensor) -> dict[int, np.ndarray]:
        """Naive logits of the window that ends with each epoch."""
        naive, samples = Naive(model), x[0].double().numpy()
        epoch, n_window = model.config.epoch_samples, model.config.window_epochs
        return {
            last: naive.window(samples[:, epoch * (last + 1 - n_window) : epoch * (last + 1)])
            for last in range(n_window - 1, samples.shape[1] // epoch)
        }

    @pytest.mark.parametrize(
        "arguments", [{}, UNEVEN, {"pools": (7,)}, {"pools": (2, 5, 2)}, {"kernel": 3, "dilation": 3}], ids=str
    )
    def test_published(self, arguments: dict[str, object]) -> None:
        model, x = make(**arguments), signal(96)
        windows, logits = self.windows(model, x), run(model, x)[0][0]
        for step, last in enumerate((2, 5)):
            # Reads rise in lag, so that the newest position comes first.
            np.testing.assert_allclose(logits[step].numpy(), windows[last][::-1], rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("arguments", "lags"),
        [(UNEVEN, (0, 1)), (UNEVEN, (2,)), (LOCAL, (0, 1)), (LOCAL, (2, 4)), (LOCAL, (4,))],
        ids=["uneven", "uneven-late", "local", "local-late", "local-with-unheard-epochs"],
    )
    def test_sliding_reads_the_positions_it_was_told(
        self, arguments: dict[str, object], lags: tuple[int, ...]
    ) -> None:
        model = make(**arguments, **SLIDING, lags_epochs=lags)
        x = signal(model.config.epoch_samples * 8)
        windows, logits = self.windows(model, x), run(model, x)[0][0]
        for last, window in windows.items():
            np.testing.assert_allclose(logits[last].numpy(), window[[-1 - k for k in lags]], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("arguments", [UNEVEN, LOCAL], ids=["uneven", "local"])
    def test_fusion_sums_the_log_probabilities_of_all_windows_so_far(self, arguments: dict[str, object]) -> None:
        model = make(**arguments, **SLIDING, lags_epochs=(0, 2), fusion="log")
        n_window = model.config.window_epochs
        x = signal(model.config.epoch_samples * (n_window + 4))
        windows, logits = self.windows(model, x), run(model, x)[0][0]
        log_probs = {last: torch.log_softmax(torch.from_numpy(w), -1).numpy() for last, w in windows.items()}
        for lag, read in ((0, 0), (2, 1)):
            for epoch in range(n_window - 1, n_window + 4 - lag):
                total = sum(log_probs[last][epoch - last - 1] for last in range(epoch, epoch + lag + 1))
                fused = torch.log_softmax(torch.from_numpy(total / (lag + 1)), -1).numpy()
                np.testing.assert_allclose(logits[epoch + lag, read].numpy(), fused, rtol=0, atol=1e-5)

    def test_the_variants_share_their_weights(self) -> None:
        published, sliding, x = make(), make(**SLIDING, lags_epochs=(0, 1, 2)), signal(48)
        sliding.load_state_dict(published.state_dict())
        torch.testing.assert_close(run(published, x)[0][0, 0], run(sliding, x)[0][0, 2], rtol=0, atol=1e-5)


class TestReach:
    """What an output can depend on, measured by letting a NaN through."""

    def hears(self, model: UTime, sample: int, n_samples: int) -> list[int]:
        x = signal(n_samples)
        x[0, 0, sample] = torch.nan
        with torch.inference_mode():
            return torch.nonzero(model.score_windows(x)[0].isnan().any(dim=1)).flatten().tolist()

    @pytest.mark.parametrize("pools", [(2, 2), (5, 3), (3,), (2, 3, 2)], ids=str)
    def test_each_sample_reaches_the_epochs_that_the_geometry_says(self, pools: tuple[int, ...]) -> None:
        model = make(**{**LOCAL, "pools": pools, "window_epochs": 7})
        geometry = Geometry(model.config, 84)
        reaches = [geometry.reach(epoch) for epoch in range(7)]
        for sample in range(84):
            expected = [k for k, reach in enumerate(reaches) if reach.first <= sample <= reach.last]
            assert self.hears(model, sample, 84) == expected

    def test_an_epoch_of_the_published_network_sees_126_s_to_either_side(self) -> None:
        geometry = Geometry(Config(), 35 * 3840)
        reach = geometry.reach(17)
        assert (17 * 3840 - reach.first, reach.last - (18 * 3840 - 1)) == (16_088, 16_088)
        assert round(16_088 / 128, 1) == 125.7
        model = build(Config(n_filters=1))
        heard = [17 in self.hears(model, k, 35 * 3840) for k in (reach.first - 1, *reach, reach.last + 1)]
        assert heard == [False, True, True, False]

    def test_five_epochs_later_the_centre_is_known(self) -> None:
        """At 128 Hz all pools fall in with the epochs: the lag of 17 gives what the lag of 5 gave before."""
        torch.manual_seed(0)
        models = {lag: build(Config(**SLIDING, n_filters=1, lags_epochs=(lag,))) for lag in (5, 17)}
        weights = randomise(models[5]).state_dict()
        models[17].load_state_dict(weights)
        x = signal(25 * 3840)
        early, late = (run(model, x)[0][0, :, 0] for model in models.values())
        torch.testing.assert_close(early[10:13], late[22:25], rtol=0, atol=1e-5)
        with torch.inference_mode():
            whole = models[5].score_windows(x)[0]
        torch.testing.assert_close(early[10:], whole[5:20], rtol=0, atol=1e-5)
        assert not torch.allclose(early[5], whole[0], rtol=0, atol=1e-5)  # before the read is warm


class TestPublishedSize:
    """MODELS.md 6.4."""

    @pytest.mark.parametrize(
        ("factor", "n_trainable", "n_total"), [(1.0, 1_187_569, 1_190_993), (2.0, 2_366_591, 2_371_419)]
    )
    def test_number_of_parameters(self, factor: float, n_trainable: int, n_total: int) -> None:
        model = build(Config(complexity_factor=factor))
        running = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
        assert model.n_trainable() == n_trainable
        assert model.n_trainable() + running == n_total

    def test_the_arithmetic_of_its_docstring(self) -> None:
        levels = list(pairwise((1, 16, 32, 64, 128, 256)))
        encoder = sum(5 * e * f + f + 5 * f * f + f + 4 * f for e, f in levels)
        decoder = sum(
            p * g * f + f + 5 * 2 * f * f + f + 5 * f * f + f + 6 * f
            for p, (f, g) in zip((10, 8, 6, 4), levels[1:], strict=True)
        )
        assert encoder + decoder + (16 * 5 + 5) + 2 * (5 * 5 + 5) == 1_187_569

    def test_lengths_at_128_hz(self) -> None:
        geometry = Geometry(Config(), 35 * 3840)
        assert geometry.down == [134_400, 13_440, 1_680, 280, 70]
        assert geometry.up == geometry.down[:-1]
        assert (geometry.crops, geometry.pad) == ([0, 0, 0, 0], 0)

    def test_lengths_at_100_hz_are_cropped_and_padded(self) -> None:
        geometry = Geometry(Config(sfreq=100.0), 35 * 3000)
        assert geometry.down == [105_000, 10_500, 1_312, 218, 54]
        assert geometry.up == [103_680, 10_368, 1_296, 216]
        assert (geometry.crops, geometry.pad) == ([660, 66, 8, 1], 660)

    def test_only_the_encoder_is_dilated(self) -> None:
        model = build(Config())
        dilations = [block.conv.dilation[0] for level in model.encoder for block in level]
        assert dilations == [2] * 8 + [1] * 2
        assert all(block.conv.dilation == (1,) for level in model.decoder for block in level)
        assert [block.conv.kernel_size for block in model.up] == [(10,), (8,), (6,), (4,)]

    def test_timing_of_the_published_variant(self) -> None:
        timing = build(Config()).timing
        assert (timing.step_samples, timing.epoch_samples) == (134_400, 3_840)
        assert [read.lag_samples for read in timing.reads] == [3_840 * lag for lag in range(35)]
        assert {read.warm_up_samples for read in timing.reads} == {134_400}

    def test_the_centre_is_read_by_default(self) -> None:
        timing = build(Config(**SLIDING)).timing
        assert (timing.step_samples, timing.look_ahead_samples) == (3_840, 17 * 3_840)
        assert timing.receptive_field_samples == 18 * 3_840 + 16_088

    @pytest.mark.parametrize(
        ("lags", "n_held", "n_unheard"),
        [((0,), 6, 0), ((4,), 10, 0), ((5,), 11, 0), ((17,), 23, 12), ((5, 17), 23, 0), ((34,), 35, 29)],
    )
    def test_it_keeps_the_epochs_that_a_read_can_depend_on(
        self, lags: tuple[int, ...], n_held: int, n_unheard: int
    ) -> None:
        model = build(Config(**SLIDING, lags_epochs=lags))
        assert model.initial_state(2)[0].shape == (2, n_held - 1, 1, 3840)
        assert model.plan.n_unheard == n_unheard

    def test_at_100_hz_the_pools_tie_it_to_the_whole_window(self) -> None:
        assert (
            build(Config(**SLIDING, sfreq=100.0, lags_epochs=(0,))).plan.n_held == 19
        )  # 16 epochs are 25 columns


def test_training_moves_statistics_by_one_hundredth() -> None:
    model = make().train()
    norm, x = model.encoder[0][0].norm, signal(48)
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda _module, args, _out: seen.append(args[0].detach()))
    before = norm.running_mean.clone()
    model(x, model.initial_state(1))
    torch.testing.assert_close(norm.running_mean, 0.99 * before + 0.01 * seen[0].mean(dim=(0, 2)))
    assert norm.eps == 1e-3


def test_all_its_weights_learn() -> None:
    model = make().train()
    x = torch.randn(4, 1, 48, generator=torch.Generator().manual_seed(0))
    model(x, model.initial_state(4))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_golden_outputs() -> None:
    """Weights and input are formulas, which no generator of random numbers can change."""
    model = build(Config(**SMALL))
    with torch.no_grad():
        for k, weight in enumerate(model.parameters()):
            weight.copy_(torch.sin(torch.arange(weight.numel()) * 0.7 + k).reshape(weight.shape))
    x = torch.sin(torch.arange(48).square() * 0.01)[None, None]
    expected = torch.tensor(
        [
            [2.71996, -1.78660, -0.35633, -0.39614, -2.27899],
            [2.69255, -1.76675, -0.36609, -0.39769, -2.26631],
            [2.65712, -1.74242, -0.37624, -0.40302, -2.24618],
        ]
    )
    torch.testing.assert_close(run(model, x)[0][0, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ABOUT.examples)
def test_examples_are_ready_to_build(name: str) -> None:
    example = ABOUT.examples[name]
    with torch.device("meta"):
        model = build(Config(**example.args))
    assert model.n_channels == len(example.channels)
    assert model.config.sfreq == example.sfreq


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epoch_s": 0.001}, r"epoch_s 0\.001 is not a whole number of samples at 128 Hz"),
        ({"window_epochs": 1, "epoch_s": 10.0}, r"window of 1280 samples is shorter than the product 1920"),
        ({"window_epochs": 44, "epoch_s": 1.0}, r"pools leave out a whole epoch"),
        ({"lags_epochs": (3,)}, r"belong to the sliding variant"),
        ({"fusion": "log"}, r"belong to the sliding variant"),
        ({"variant": "sliding", "lags_epochs": (35,)}, r"less than 35"),
        ({"variant": "sliding", "lags_epochs": (-1, 0)}, r"from 0 or more"),
        ({"variant": "sliding", "lags_epochs": (2, 1)}, r"must rise"),
        ({"variant": "sliding", "lags_epochs": ()}, r"at least 1"),
        ({"variant": "sliding", "lags_epochs": (0,), "fusion": "log"}, r"at lag 0 no shifted windows"),
        ({"pools": ()}, r"at least 1"),
        ({"pools": (0, 2)}, r"greater than 0"),
        ({"variant": "causal"}, r"published"),
        ({"depth": 4}, r"[Ee]xtra"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
