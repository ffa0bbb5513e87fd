from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from streamscore.models.salientsleepnet import ABOUT, Config, SalientSleepNet, build
from tests.contracts.model import ModelContract, run

#: Three levels, windows of three epochs of 40 samples; the published pools leave remainders, which VALID drops.
SMALL: dict[str, Any] = {
    "sfreq": 8.0,
    "epoch_s": 5.0,
    "window_epochs": 3,
    "n_classes": 4,
    "filters": (4, 6, 8),
    "pools": (4, 3),
    "u_filters": 3,
    "scale_filters": (4, 3, 2),
    "dilations": (1, 2, 3),
    "attention_units": 3,
}
SMALL_CAUSAL: dict[str, Any] = {**SMALL, "variant": "causal", "pools": (4, 5)}
#: Two levels, for the suites, which build it many times.
TINY: dict[str, Any] = {
    **SMALL,
    "epoch_s": 2.5,
    "filters": (4, 6),
    "pools": (4,),
    "scale_filters": (3, 2),
    "dilations": (1, 2),
    "u_depth": 3,
}
TINY_CAUSAL: dict[str, Any] = {**TINY, "variant": "causal", "pools": (5,)}


def make(**args: Any) -> SalientSleepNet:
    """Build a network none of whose weights and statistics are trivial, the same at each call."""
    model = build(Config(**args))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, weight in sorted(model.state_dict().items()):
            if not weight.is_floating_point():
                continue
            values = rng.standard_normal(tuple(weight.shape))
            if name.endswith("running_var"):
                values = 1.0 + 0.3 * np.tanh(values)
            elif ".norm.weight" in name:
                values = 1.0 + 0.2 * values
            elif weight.ndim == 1:
                values = 0.2 * values
            else:
                values /= np.sqrt(values[0].size)
            weight.copy_(torch.from_numpy(values))
    return model


def signal(n_epochs: int, n_channels: int = 2, batch_size: int = 1, seed: int = 1) -> torch.Tensor:
    """Return input of so many small epochs."""
    shape = (batch_size, n_channels, 40 * n_epochs)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


class TestPublished(ModelContract):
    """Windows that follow one another, two streams."""

    def make(self) -> SalientSleepNet:
        return make(**TINY)


class TestPublishedSingleStream(ModelContract):
    """No attention: what one end of the window says about the other goes through the levels. No bottleneck."""

    def make(self) -> SalientSleepNet:
        return make(**TINY, n_channels=1, bottleneck=False)


class TestSliding(ModelContract):
    """One window an epoch, read at two positions that do not follow each other."""

    def make(self) -> SalientSleepNet:
        return make(**TINY, variant="sliding", lags_epochs=(0, 2))


class TestFused(ModelContract):
    """Shifted windows combined; the receptive field grows by the longest lag."""

    def make(self) -> SalientSleepNet:
        return make(**{**TINY, "window_epochs": 2}, variant="sliding", lags_epochs=(0, 1), fusion="log")


class TestCausal(ModelContract):
    """Carried ends of convolutions and a trailing mean."""

    def make(self) -> SalientSleepNet:
        return make(**TINY_CAUSAL)


class TestCausalSingleStream(ModelContract):
    """Carried ends of convolutions only. No bottleneck."""

    def make(self) -> SalientSleepNet:
        return make(**TINY_CAUSAL, n_channels=1, bottleneck=False)


Array = NDArray[np.float64]


class Reference:
    """The network written a second time from MODELS.md 5.2, in numpy, for one recording held as a whole.

    Parameters
    ----------
    model
        Whose weights are used; its layers are not.
    """

    def __init__(self, model: SalientSleepNet) -> None:
        self.weights = {key: value.double().numpy() for key, value in model.state_dict().items()}
        self.config = model.config
        self.causal = model.config.variant == "causal"

    def conv(self, name: str, x: Array, dilation: int = 1) -> Array:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        n_taps, n = weight.shape[2], x.shape[1]
        reach = (n_taps - 1) * dilation
        left = reach if self.causal else reach // 2
        padded = np.pad(x, ((0, 0), (left, reach - left)))
        taps = (weight[:, :, k] @ padded[:, k * dilation : k * dilation + n] for k in range(n_taps))
        return np.asarray(sum(taps) + bias[:, None])

    def norm(self, name: str, x: Array) -> Array:
        mean, var, gain, offset = (
            self.weights[f"{name}.{part}"][:, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return np.asarray((x - mean) / np.sqrt(var + 1e-3) * gain + offset)

    def block(self, name: str, x: Array, dilation: int = 1) -> Array:
        return self.norm(f"{name}.norm", np.maximum(self.conv(f"{name}.conv", x, dilation), 0.0))

    def pool(self, x: Array, size: int) -> Array:
        n = x.shape[1] // size
        return np.asarray(x[:, : n * size].reshape(x.shape[0], n, size).max(axis=2))

    def stretch(self, x: Array, n: int) -> Array:
        if self.causal:
            return np.repeat(x, n // x.shape[1], axis=1)
        # Half-pixel centres, clamped at the borders.
        at = np.clip((np.arange(n) + 0.5) * x.shape[1] / n - 0.5, 0.0, x.shape[1] - 1.0)
        return np.stack([np.interp(at, np.arange(x.shape[1]), row) for row in x])

    def unit(self, name: str, x: Array, pools: tuple[int, int]) -> Array:
        c0 = self.block(f"{name}.outer", x)
        e1 = self.block(f"{name}.down.0", c0)
        e2 = self.block(f"{name}.down.1", self.pool(e1, pools[0]))
        e3 = self.block(f"{name}.down.2", self.pool(e2, pools[1]))
        up = self.block(f"{name}.bottom", e3)
        for k, skip in enumerate((e3, e2, e1)):
            up = self.block(f"{name}.up.{k}", np.concatenate([self.stretch(up, skip.shape[1]), skip]))
        return up + c0

    def multi_scale(self, name: str, x: Array) -> Array:
        x = np.concatenate([self.block(f"{name}.scales.{d - 1}", x, d) for d in self.config.dilations])
        if self.config.bottleneck:
            for k in range(2):
                x = np.maximum(self.conv(f"{name}.narrow.{k}", x), 0.0)
        return self.norm(f"{name}.norm", x)

    def narrow(self, name: str, x: Array) -> Array:
        return np.maximum(self.conv(f"{name}.0", x), 0.0) if self.config.bottleneck else x

    def stream(self, name: str, x: Array) -> Array:
        outer, inner = (4, 5) if self.causal else (4, 3)
        # Those of a causal unit are the largest that divide the 40, 10 and 2 columns of an epoch.
        pools = [(4, 2), (5, 2), (2, 1)] if self.causal else [(4, 4), (3, 3), (3, 3)]
        first = self.narrow(f"{name}.narrow_encoder.0", self.unit(f"{name}.encoder.0", x, pools[0]))
        second = self.unit(f"{name}.encoder.1", self.pool(first, outer), pools[1])
        second = self.narrow(f"{name}.narrow_encoder.1", second)
        third = self.unit(f"{name}.encoder.2", self.pool(second, inner), pools[2])
        third = self.narrow(f"{name}.narrow_encoder.2", third)
        side = [self.multi_scale(f"{name}.scales.{k}", level) for k, level in enumerate((first, second, third))]
        below = np.concatenate([self.stretch(side[2], side[1].shape[1]), side[1]])
        below = self.narrow(f"{name}.narrow_decoder.0", self.unit(f"{name}.decoder.0", below, pools[1]))
        return self.unit(f"{name}.decoder.1", np.concatenate([self.stretch(below, x.shape[1]), side[0]]), pools[0])

    def means(self, epochs: Array) -> Array:
        """What the attention looks at, ``(filters, epochs)``."""
        if not self.causal:
            return np.repeat(epochs.mean(axis=(1, 2))[:, None], epochs.shape[1], axis=1)
        per_epoch, span = epochs.mean(axis=2), self.config.window_epochs
        means = np.empty_like(per_epoch)
        for k in range(per_epoch.shape[1]):
            weights = np.ones(min(k + 1, span)) / min(k + 1, span)  # plain mean of the first epochs …
            for _ in range(k + 1 - len(weights)):  # … then each pushes the older ones down
                weights = np.append(weights * (1 - 1 / span), 1 / span)
            means[:, k] = per_epoch[:, : k + 1] @ weights
        return means

    def dense(self, name: str, x: Array) -> Array:
        return np.asarray(self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"][:, None])

    def __call__(self, x: torch.Tensor) -> Array:
        """Map ``(channels, samples)`` to logits ``(epochs, classes)``, oldest first."""
        a, *others = [self.stream(f"streams.{k}", row[None].double().numpy()) for k, row in enumerate(x)]
        fused = a + others[0] + a * others[0] if others else a
        epochs = fused.reshape(fused.shape[0], -1, 40)
        if others:
            hidden = np.maximum(self.dense("squeeze", self.means(epochs)), 0.0)
            epochs = epochs / (1.0 + np.exp(-self.dense("excite", hidden)))[:, :, None]
        mixed = np.tanh(self.conv("mix", epochs.reshape(fused.shape))).reshape(epochs.shape)
        return self.conv("over_epochs", mixed.mean(axis=2)).T


OPTIONS = ({}, {"n_channels": 1}, {"bottleneck": False})


class TestEquations:
    """Logits are those of the second implementation, which knows nothing of streams."""

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_published(self, options: Mapping[str, Any]) -> None:
        model = make(**SMALL, **options)
        x = signal(6, model.n_channels)
        logits, _ = run(model, x)
        reference = Reference(model)
        for window in range(2):
            wanted = reference(x[0, :, 120 * window : 120 * (window + 1)])[::-1]
            np.testing.assert_allclose(logits[0, window].numpy(), wanted, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("chunk_epochs", [1, 2, 8])
    def test_causal(self, options: Mapping[str, Any], chunk_epochs: int) -> None:
        model = make(**SMALL_CAUSAL, **options)
        x = signal(8, model.n_channels)
        state, parts = model.initial_state(1), []
        for chunk in x.split(40 * chunk_epochs, dim=2):
            logits, state = run(model, chunk, state)
            parts.append(logits)
        scored = torch.cat(parts, dim=1)[0, :, 0].numpy()
        np.testing.assert_allclose(scored, Reference(model)(x[0]), rtol=0, atol=1e-5)

    def test_sliding_reads_the_published_window_at_each_position(self) -> None:
        model = make(**SMALL, variant="sliding", lags_epochs=(0, 1, 2))
        x = signal(5)
        logits, _ = run(model, x)
        published = make(**SMALL)
        for step in range(2, 5):
            window, _ = run(published, x[:, :, 40 * (step - 2) : 40 * (step + 1)])
            torch.testing.assert_close(logits[:, step], window[:, 0], rtol=0, atol=1e-6)

    def test_fusion_is_the_mean_log_probability_of_the_windows_that_spoke(self) -> None:
        model = make(**SMALL, variant="sliding", lags_epochs=(0, 2), fusion="log")
        x = signal(7)
        fused, _ = run(model, x)
        every, _ = run(make(**SMALL, variant="sliding", lags_epochs=(0, 1, 2)), x)
        said = torch.log_softmax(every, dim=-1)[0]
        for step in range(4, 7):  # three windows of three epochs are full from the fifth epoch on
            mean = (said[step, 2] + said[step - 1, 1] + said[step - 2, 0]) / 3
            torch.testing.assert_close(fused[0, step, 1], torch.log_softmax(mean, dim=0), rtol=0, atol=1e-6)
            torch.testing.assert_close(fused[0, step, 0], said[step, 0], rtol=0, atol=1e-6)


#: Logits of the last step at the longest lag, as first computed and confirmed by the reference above.
GOLDEN: dict[str, tuple[dict[str, Any], list[float]]] = {
    "published": (SMALL, [-0.599531, 0.066184, -0.065543, 0.551619]),
    "fused": (
        {**SMALL, "variant": "sliding", "lags_epochs": (0, 2), "fusion": "log"},
        [-1.917916, -1.600039, -1.4251, -0.889858],
    ),
    "causal": (SMALL_CAUSAL, [-0.618575, -0.108543, -0.101522, 0.680217]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_logits(name: str) -> None:
    args, wanted = GOLDEN[name]
    logits, _ = run(make(**args), signal(6))
    np.testing.assert_allclose(logits[0, -1, -1].numpy(), wanted, rtol=0, atol=1e-5)


def n_values(*modules: torch.nn.Module) -> int:
    """Parameters and running statistics, as Keras counts them."""
    return sum(
        value.numel() for module in modules for value in module.state_dict().values() if value.is_floating_point()
    )


@cache
def unbuilt(**args: Any) -> SalientSleepNet:
    """Return a network that has shapes but no memory."""
    with torch.device("meta"):
        return build(Config(**args))


class TestPublishedSize:
    """MODELS.md 5.2."""

    @pytest.mark.parametrize(
        ("args", "total", "trainable"),
        [
            ({}, 948_795, 939_479),
            ({"bottleneck": False}, 1_128_865, 1_118_529),
            ({"variant": "sliding"}, 948_795, 939_479),
            ({"variant": "causal"}, 948_795, 939_479),
        ],
        ids=str,
    )
    def test_totals(self, args: dict[str, Any], total: int, trainable: int) -> None:
        model = unbuilt(**args)
        assert n_values(model) == total
        assert model.n_trainable() == trainable

    def test_single_stream(self) -> None:
        assert n_values(unbuilt(n_channels=1)) == 474_662

    def test_parts(self) -> None:
        model = unbuilt()
        for stream in model.streams:
            assert [n_values(m) for m in stream.encoder] == [4_640, 7_920, 15_920, 39_600, 117_680]
            assert [n_values(m) for m in stream.narrow_encoder] == [136, 528, 2_080, 8_256, 32_896]
            assert [n_values(m) for m in stream.scales] == [57_184, 37_128, 23_472, 13_656, 14_185]
            assert [n_values(m) for m in stream.decoder] == [27_440, 36_400, 15_600, 8_400]
            assert [n_values(m) for m in stream.narrow_decoder] == [8_256, 2_080, 528, 0]
            assert n_values(stream) == 473_985
        assert n_values(model.squeeze, model.excite) == 148
        assert n_values(model.mix) == 272
        assert n_values(model.over_epochs) == 405

    def test_lengths_and_channels_of_its_maps(self) -> None:
        model = build(Config(n_channels=1))
        stream = model.streams[0]
        maps, columns = list[tuple[int, ...]](), list[int]()
        for narrow in stream.narrow_encoder:
            narrow.register_forward_hook(lambda _module, _args, out: maps.append(tuple(out.shape[1:])))
        for block in stream.encoder[4].down:
            block.register_forward_hook(lambda _module, _args, out: columns.append(out.shape[2]))
        logits, _ = run(model, torch.zeros(1, 1, 60_000))
        assert maps == [(8, 60_000), (16, 6_000), (32, 750), (64, 125), (128, 31)]
        assert columns == [31, 7, 1]
        assert logits.shape == (1, 1, 20, 5)

    def test_pools_of_its_units(self) -> None:
        assert [Config().unit_pools(k) for k in range(5)] == [(10, 10), (8, 8), (6, 6), (4, 4), (4, 4)]

    def test_columns_of_the_causal_network_end_with_the_epoch(self) -> None:
        config = Config(variant="causal")
        assert [config.unit_pools(k) for k in range(5)] == [(10, 10), (6, 5), (5, 5), (2, 1), (1, 1)]
        # 3000, 300, 50, 10 and 5 columns an epoch; the last two have 5 left after one pool or none.
        n_columns = 3000
        for level, pool in enumerate((10, 6, 5, 2, 1)):
            assert n_columns % np.prod(config.unit_pools(level)) == 0
            assert n_columns % pool == 0
            n_columns //= pool

    def test_batch_norm_is_that_of_keras(self) -> None:
        norms = [m for m in unbuilt().modules() if isinstance(m, torch.nn.BatchNorm1d)]
        # 9 units of 8 blocks, 5 multi-scale features of 4 and one at their end, in each stream.
        assert len(norms) == 2 * (9 * 8 + 5 * 5)
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}

    def test_kernels_begin_as_in_keras(self) -> None:
        torch.manual_seed(0)
        conv = build(Config(n_channels=1)).streams[0].encoder[4].outer.conv
        bound = (6.0 / (5 * (64 + 256))) ** 0.5
        assert conv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert not conv.bias.any()


class TestTiming:
    """Lag and warm-up of each variant, in samples at 100 Hz."""

    def test_published(self) -> None:
        timing = unbuilt().timing
        assert (timing.step_samples, timing.epoch_samples, timing.receptive_field_samples) == (
            60_000,
            3_000,
            60_000,
        )
        assert [read.lag_samples for read in timing.reads] == [3_000 * lag for lag in range(20)]
        assert {read.warm_up_samples for read in timing.reads} == {60_000}

    def test_sliding(self) -> None:
        timing = unbuilt(variant="sliding", lags_epochs=(0, 9)).timing
        assert (timing.step_samples, timing.receptive_field_samples) == (3_000, 60_000)
        assert [(read.lag_samples, read.warm_up_samples) for read in timing.reads] == [
            (0, 60_000),
            (27_000, 60_000),
        ]

    def test_fused(self) -> None:
        timing = unbuilt(variant="sliding", lags_epochs=(0, 9), fusion="log").timing
        assert timing.receptive_field_samples == 87_000
        assert [(read.lag_samples, read.warm_up_samples) for read in timing.reads] == [
            (0, 60_000),
            (27_000, 87_000),
        ]

    def test_causal(self) -> None:
        timing = unbuilt(variant="causal").timing
        assert (timing.step_samples, timing.look_ahead_samples, timing.warm_up_samples) == (3_000, 0, 3_000)
        assert timing.receptive_field_samples is None


def test_all_variants_have_the_same_weights() -> None:
    weights = unbuilt().state_dict()
    for variant in ("sliding", "causal"):
        assert {k: v.shape for k, v in unbuilt(variant=variant).state_dict().items()} == {
            k: v.shape for k, v in weights.items()
        }


def test_the_state_of_the_causal_network_is_the_ends_of_its_inputs() -> None:
    ends, mean, weight = build(Config(variant="causal")).initial_state(2)
    # Channels into the convolutions of a stream, counted once for each step of dilation.
    encoder = (1 + 8 + 16 + 32 + 64) + (16 + 32 + 64 + 128 + 256) + 5 * (3 * 8 + 3 * 16)
    decoder = (5 + 8) + (64 + 16) + (32 + 24) + (16 + 32) + (128 + 64 + 32 + 16) + 4 * (3 * 8 + 3 * 16)
    scales = (1 + 2 + 3 + 4) * (8 + 16 + 32 + 64 + 128) + (4 + 2) * (32 + 24 + 16 + 8 + 5)
    assert ends.shape == (2, 4 * (2 * (encoder + decoder + scales) + 16))
    assert mean.shape == (2, 16)
    assert weight.shape == (2, 1)


class TestAttention:
    """Channels are weighted by what the attention thinks of their means."""

    def test_gains_are_the_two_dense_layers(self) -> None:
        model = make(**SMALL)
        means = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
        hidden = (means @ model.squeeze.weight.T + model.squeeze.bias).clamp(min=0)
        wanted = 1 / (1 + torch.exp(-(hidden @ model.excite.weight.T + model.excite.bias)))
        torch.testing.assert_close(model.gains(means), wanted)

    def test_a_single_stream_has_none(self) -> None:
        assert not any("squeeze" in name or "excite" in name for name in unbuilt(n_channels=1).state_dict())

    def test_its_trailing_mean_forgets_after_the_window(self) -> None:
        model = make(**SMALL_CAUSAL)
        x = signal(8)
        _, (_, mean, weight) = run(model, x)
        _, (_, early, early_weight) = run(model, x[:, :, :80])
        assert weight.item() == 3.0
        assert early_weight.item() == 2.0
        assert not torch.allclose(mean, early)


def test_streams_do_not_share_weights() -> None:
    model = make(**SMALL)
    x = signal(3)
    swapped, _ = run(model, x.flip(1))
    assert not torch.allclose(run(model, x)[0], swapped)


def test_training_reaches_every_weight_and_moves_the_statistics() -> None:
    for args in (SMALL, SMALL_CAUSAL):
        model = make(**args).train()
        before = {name: value.clone() for name, value in model.named_buffers() if name.endswith("mean")}
        logits, _ = model(signal(3, batch_size=4), model.initial_state(4))
        logits.square().sum().backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
        assert all(not torch.equal(dict(model.named_buffers())[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("args", "n_more"),
    [
        ({"n_classes": 3}, -(4 * 5 + 1)),
        ({"attention_units": 4}, 4 + 1 + 4),
        # A level more inside each of the five units of a stream: one block down and one up.
        ({"u_depth": 5, "window_epochs": 30}, 2 * 5 * ((3 * 5 + 1 + 4) * 3 + (6 * 5 + 1 + 4) * 3)),
        (
            {"dilations": (1, 2)},
            -2 * sum(f * (n * 5 + 1 + 4) + 2 * f * f * 5 for n, f in ((2, 4), (3, 3), (4, 2))),
        ),
    ],
    ids=str,
)
def test_arguments_change_the_size_as_they_should(args: dict[str, Any], n_more: int) -> None:
    assert n_values(unbuilt(**{**SMALL, **args})) - n_values(unbuilt(**SMALL)) == n_more


@pytest.mark.parametrize("variant", ["published", "causal"])
def test_kernel_is_that_of_all_convolutions_along_time(variant: str) -> None:
    model = unbuilt(variant=variant, kernel=3)
    sizes = {m.kernel_size[0] for m in model.modules() if isinstance(m, torch.nn.Conv1d)}
    assert sizes == {1, 3}


def test_epochs_are_counted_in_samples_of_the_rate() -> None:
    assert unbuilt(sfreq=128.0, epoch_s=10.0, window_epochs=30).timing.step_samples == 38_400


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"layers": 3}, "layers"),
        ({"n_channels": 3}, "n_channels"),
        ({"variant": "online"}, "published"),
        ({"filters": (16, 32)}, "2 levels of filters need as many scale_filters and one fewer pools, got 5 and 4"),
        ({"scale_filters": (8, 8)}, "got 2 and 4"),
        ({"pools": ()}, "got 5 and 0"),
        ({"filters": (16,)}, "filters"),
        ({"kernel": 4}, "choose an odd number"),
        ({"kernel": 1}, "kernel"),
        ({"filters": (16, 32, 64, 128, 255)}, "must be even"),
        ({"pools": (10, 8, 6, 0)}, "pools"),
        ({"sfreq": 100.01}, "not a whole number of samples at 100.01 Hz"),
        ({"window_epochs": 2}, r"level 4 has 12 columns, too few for its pools \(4, 4\).*longer window"),
        ({"variant": "causal", "pools": (10, 8, 6, 4)}, r"\(10, 8, 6, 4\) must divide the epoch of 3000 samples"),
        ({"lags_epochs": (1,)}, "for variant sliding, not published"),
        ({"variant": "causal", "fusion": "log"}, "for variant sliding, not causal"),
        ({"variant": "sliding", "lags_epochs": ()}, "must rise"),
        ({"variant": "sliding", "lags_epochs": (3, 1)}, "must rise"),
        ({"variant": "sliding", "lags_epochs": (-1, 0)}, "must rise"),
        ({"variant": "sliding", "lags_epochs": (0, 20)}, "less than 20"),
        ({"variant": "sliding", "fusion": "log"}, "choose lags_epochs above 0"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**args)


def test_without_the_bottleneck_filters_may_be_odd() -> None:
    assert n_values(unbuilt(bottleneck=False, filters=(15, 32, 64, 128, 255))) > 0


@pytest.mark.parametrize("name", ABOUT.examples)
def test_examples_build(name: str) -> None:
    example = ABOUT.examples[name]
    model = unbuilt(**example.args)
    assert model.n_channels == len(example.channels)
    assert model.n_classes == 5
    assert model.config.sfreq == example.sfreq
