from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from streamscore.models.deepsleepnet import Config, DeepSleepNet, PretrainNet, build
from tests.contracts.model import ModelContract, run

SMALL: dict[str, Any] = {"sfreq": 64.0, "epoch_s": 4.0, "n_filters": 3, "n_hidden": 5}
EPOCH = 256


def make(seed: int = 0, **args: Any) -> DeepSleepNet:
    """Return a small network none of whose weights and statistics is trivial."""
    model = build(Config(**{**SMALL, **args}))
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if name.endswith("running_var"):
                weight.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, weight.shape)))
            elif weight.is_floating_point():
                spread = max(weight[0].numel(), 4) if weight.ndim == 3 else 5
                weight.copy_(torch.from_numpy(rng.normal(0.0, spread**-0.5, weight.shape)))
    return model


def noise(n_epochs: int, batch_size: int = 1, seed: int = 0) -> torch.Tensor:
    shape = (batch_size, 1, n_epochs * EPOCH)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


class TestPublished(ModelContract):
    """Chunks of three epochs."""

    def make(self) -> DeepSleepNet:
        return make(chunk_epochs=3)


class TestPublishedWithCarriedBackwardState(ModelContract):
    """The published code's way of starting the backward stack; two channels."""

    def make(self) -> DeepSleepNet:
        return make(chunk_epochs=2, carry_backward=True, n_channels=2, n_classes=3)


class TestCausal(ModelContract):
    """No backward stack."""

    def make(self) -> DeepSleepNet:
        return make(variant="causal")


class TestLookAhead(ModelContract):
    """A provisional read and a final one two epochs later."""

    def make(self) -> DeepSleepNet:
        return make(variant="lookahead", look_ahead_s=8.0)


class TestLookAheadOfNothing(ModelContract):
    """The backward stack sees the step itself only."""

    def make(self) -> DeepSleepNet:
        return make(variant="lookahead")


class Naive:
    """The published network, written out over whole chunks in double precision."""

    def __init__(self, model: DeepSleepNet) -> None:
        self.w = {name: value.double().numpy() for name, value in model.state_dict().items()}
        self.n_hidden = model.config.n_hidden

    @staticmethod
    def pad(x: np.ndarray, kernel: int, stride: int, value: float) -> np.ndarray:
        total = max((math.ceil(x.shape[1] / stride) - 1) * stride + kernel - x.shape[1], 0)
        return np.pad(x, ((0, 0), (total // 2, total - total // 2)), constant_values=value)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        mean, variance = self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"]
        return (x - mean) / np.sqrt(variance + 1e-5) * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def conv(self, x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        kernel = self.w[f"{name}.conv.weight"]
        padded = self.pad(x, kernel.shape[2], stride, 0.0)
        starts = range(0, padded.shape[1] - kernel.shape[2] + 1, stride)
        out = np.stack([np.einsum("oik,ik->o", kernel, padded[:, s : s + kernel.shape[2]]) for s in starts])
        return np.maximum(self.norm(out, f"{name}.norm"), 0.0).T

    def pool(self, x: np.ndarray, size: int) -> np.ndarray:
        padded = self.pad(x, size, size, -np.inf)
        return padded.reshape(len(x), -1, size).max(axis=2)

    def branch(self, epoch: np.ndarray, name: str, stride: int, first_pool: int, last_pool: int) -> np.ndarray:
        x = self.pool(self.conv(epoch, f"{name}.first", stride), first_pool)
        for layer in range(3):
            x = self.conv(x, f"{name}.later.{layer}")
        return self.pool(x, last_pool).T.ravel()

    def feature(self, epoch: np.ndarray) -> np.ndarray:
        small = self.branch(epoch, "cnn.small", int(SMALL["sfreq"] / 16), 8, 4)
        return np.concatenate((small, self.branch(epoch, "cnn.large", int(SMALL["sfreq"] / 2), 4, 2)))

    def layer(self, xs: list[np.ndarray], name: str, state: tuple[np.ndarray, np.ndarray]) -> Any:
        def sigmoid(z: np.ndarray) -> np.ndarray:
            return 1.0 / (1.0 + np.exp(-z))

        kernel = np.concatenate((self.w[f"{name}.weight_x"], self.w[f"{name}.weight_h"]))
        peep = self.w[f"{name}.peephole"]
        cell, hidden = state
        out = []
        for x in xs:
            i, j, f, o = np.split(np.concatenate((x, hidden)) @ kernel + self.w[f"{name}.bias"], 4)
            new = sigmoid(f + peep[1] * cell + 1.0) * cell + sigmoid(i + peep[0] * cell) * np.tanh(j)
            hidden = sigmoid(o + peep[2] * new) * np.tanh(new)
            cell = new
            out.append(hidden)
        return out, (cell, hidden)

    def stack(self, xs: list[np.ndarray], name: str, states: Any) -> Any:
        xs, lower = self.layer(xs, f"{name}.lower", states[0])
        xs, upper = self.layer(xs, f"{name}.upper", states[1])
        return xs, (lower, upper)

    def logits(self, signal: np.ndarray, chunk: int, carry_backward: bool = False) -> np.ndarray:
        """Score ``(channels, samples)`` in chunks, the last of which may be shorter."""
        features = [self.feature(signal[:, at : at + EPOCH]) for at in range(0, signal.shape[1], EPOCH)]
        zeros = ((np.zeros(self.n_hidden),) * 2,) * 2
        ahead_state, back_state = zeros, zeros
        rows = []
        for at in range(0, len(features), chunk):
            xs = features[at : at + chunk]
            ahead, ahead_state = self.stack(xs, "forward_stack", ahead_state)
            back, left = self.stack(xs[::-1], "backward_stack", back_state)
            back_state = left if carry_backward else zeros
            for x, a, b in zip(xs, ahead, back[::-1], strict=True):
                shortcut = np.maximum(self.norm(self.w["shortcut.weight"] @ x, "shortcut_norm"), 0.0)
                rows.append(self.w["head.weight"] @ (shortcut + np.concatenate((a, b))) + self.w["head.bias"])
        return np.stack(rows)


class TestIncrementalFormIsThePublishedOne:
    """Step by step, at the steps that close chunks, against whole chunks."""

    @staticmethod
    def streamed(model: DeepSleepNet, x: torch.Tensor) -> torch.Tensor:
        state, rows = model.initial_state(len(x)), []
        for step in range(x.shape[2] // EPOCH):
            row, state = run(model, x[:, :, step * EPOCH : (step + 1) * EPOCH], state)
            rows.append(row)
        return torch.cat(rows, dim=1)

    @pytest.mark.parametrize("carry_backward", [False, True])
    @pytest.mark.parametrize("n_epochs", [12, 14, 2], ids=["whole", "shorter-tail", "less-than-a-chunk"])
    def test_reads_at_closings_and_at_the_end(self, n_epochs: int, carry_backward: bool) -> None:
        model, x = make(chunk_epochs=4, carry_backward=carry_backward), noise(n_epochs)
        logits = self.streamed(model, x)[0]
        got = []
        for first in range(0, n_epochs, 4):
            last = min(first + 4, n_epochs) - 1
            got.extend(logits[last, last - epoch] for epoch in range(first, last + 1))
        wanted = Naive(model).logits(x[0].numpy(), 4, carry_backward)
        np.testing.assert_allclose(torch.stack(got).numpy(), wanted, rtol=0, atol=1e-5)

    def test_before_the_closing_reads_are_those_of_the_shorter_chunk(self) -> None:
        model, x = make(chunk_epochs=4), noise(7)
        logits = self.streamed(model, x)[0]
        for n_epochs in range(5, 8):
            wanted = Naive(model).logits(x[0, :, : n_epochs * EPOCH].numpy(), 4)[4:]
            got = logits[n_epochs - 1, : n_epochs - 4].flip(0).numpy()
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)

    def test_carrying_the_backward_state_changes_all_but_the_first_chunk(self) -> None:
        x = noise(8)
        zero, carried = (run(make(chunk_epochs=4, carry_backward=c), x)[0] for c in (False, True))
        assert torch.allclose(zero[:, :4], carried[:, :4], atol=1e-6)
        assert ((zero - carried)[0, 4:, 0].abs().amax(dim=1) > 1e-4).all()

    def test_rows_at_different_places_in_their_chunks_carry_each_its_own_state(self) -> None:
        model, x = make(chunk_epochs=3, carry_backward=True), noise(9, batch_size=2)
        _, early = run(model, x[:1, :, : 2 * EPOCH])
        mixed = tuple(torch.cat(parts) for parts in zip(early, model.initial_state(1), strict=True))
        shifted = torch.cat((x[:1, :, 2 * EPOCH :], x[1:, :, : 7 * EPOCH]))
        logits, _ = run(model, shifted, mixed)
        torch.testing.assert_close(logits[0], run(model, x[:1])[0][0, 2:], rtol=0, atol=1e-5)
        torch.testing.assert_close(logits[1], run(model, x[1:])[0][0, :7], rtol=0, atol=1e-5)


class TestLookAheadIsABackwardPassFromZero:
    """Each read against the naive network on what it may see."""

    @pytest.mark.parametrize("n_ahead", [0, 1, 3])
    def test_both_reads(self, n_ahead: int) -> None:
        model, x = make(variant="lookahead", look_ahead_s=4.0 * n_ahead), noise(6)
        logits = run(model, x)[0][0].numpy()
        naive = Naive(model)
        for epoch in range(6 - n_ahead):
            for read, ahead in enumerate(sorted({0, n_ahead})):
                # One chunk from the epoch on, behind one-epoch chunks that only move the forward state.
                wanted = self.from_epoch(naive, x[0].numpy(), epoch, ahead)
                np.testing.assert_allclose(logits[epoch + ahead, read], wanted, rtol=0, atol=1e-5)

    @staticmethod
    def from_epoch(naive: Naive, signal: np.ndarray, epoch: int, ahead: int) -> np.ndarray:
        features = [naive.feature(signal[:, at : at + EPOCH]) for at in range(0, signal.shape[1], EPOCH)]
        zeros = ((np.zeros(naive.n_hidden),) * 2,) * 2
        forward, _ = naive.stack(features[: epoch + 1], "forward_stack", zeros)
        backward, _ = naive.stack(features[epoch : epoch + ahead + 1][::-1], "backward_stack", zeros)
        shortcut = naive.norm(naive.w["shortcut.weight"] @ features[epoch], "shortcut_norm")
        summed = np.maximum(shortcut, 0.0) + np.concatenate((forward[-1], backward[-1]))
        return naive.w["head.weight"] @ summed + naive.w["head.bias"]

    def test_weights_fit_every_look_ahead_and_the_published_variant(self) -> None:
        published = make(chunk_epochs=3)
        final = make(seed=1, variant="lookahead", look_ahead_s=8.0)
        final.load_state_dict(published.state_dict())
        x = noise(3)
        torch.testing.assert_close(run(final, x)[0][0, 2], run(published, x)[0][0, 2, [0, 2]], rtol=0, atol=1e-5)

    def test_causal_logits_are_the_forward_half_alone(self) -> None:
        model, x = make(variant="causal"), noise(4)
        naive = Naive(model)
        features = [naive.feature(x[0, :, at : at + EPOCH].numpy()) for at in range(0, 4 * EPOCH, EPOCH)]
        forward, _ = naive.stack(features, "forward_stack", ((np.zeros(5),) * 2,) * 2)
        for row, feature, hidden in zip(run(model, x)[0][0, :, 0], features, forward, strict=True):
            shortcut = np.maximum(naive.norm(naive.w["shortcut.weight"] @ feature, "shortcut_norm"), 0.0)
            wanted = naive.w["head.weight"] @ (shortcut + hidden) + naive.w["head.bias"]
            np.testing.assert_allclose(row.numpy(), wanted, rtol=0, atol=1e-5)


class TestPublishedSize:
    """MODELS.md 2.2 and 9."""

    @pytest.mark.parametrize(
        ("sfreq", "total", "small", "large", "pretrain", "shortcut", "lower", "n_features"),
        [
            (100.0, 22_645_637, 331_776, 272_256, 619_397, 3_147_776, 14_687_232, 3_072),
            (256.0, 22_035_205, 336_768, 312_192, 663_685, 3_016_704, 14_162_944, 2_944),
        ],
    )
    def test_number_of_trainable_parameters(
        self,
        sfreq: float,
        total: int,
        small: int,
        large: int,
        pretrain: int,
        shortcut: int,
        lower: int,
        n_features: int,
    ) -> None:
        with torch.device("meta"):
            model, pretrained = build(Config(sfreq=sfreq)), PretrainNet(Config(sfreq=sfreq))
        assert model.n_trainable() == total
        assert (count(model.cnn.small), count(model.cnn.large)) == (small, large)
        assert count(pretrained) == pretrain
        assert count(model.shortcut, model.shortcut_norm) == shortcut
        assert model.backward_stack is not None
        assert count(model.forward_stack.lower, model.backward_stack.lower) == lower
        assert count(model.forward_stack.upper, model.backward_stack.upper) == 4_201_472
        assert count(model.head) == 5_125
        assert model.cnn.n_features == n_features

    @pytest.mark.parametrize(
        ("sfreq", "small", "large"),
        [(100.0, [500, 63, 16], [60, 15, 8]), (256.0, [480, 60, 15], [60, 15, 8])],
    )
    def test_lengths_of_its_layers(self, sfreq: float, small: list[int], large: list[int]) -> None:
        with torch.device("meta"):
            cnn = PretrainNet(Config(sfreq=sfreq)).cnn.eval()
            for branch, wanted in ((cnn.small, small), (cnn.large, large)):
                lengths: list[int] = []
                branch.first.register_forward_hook(lambda _m, _a, out, to=lengths: to.append(out.shape[-1]))
                branch.later.register_forward_hook(lambda _m, _a, out, to=lengths: to.append(out.shape[-1]))
                lengths.append(branch(torch.zeros(1, 1, round(30 * sfreq))).shape[-1] // 128)
                assert lengths == wanted

    @pytest.mark.parametrize(
        ("sfreq", "small", "large"), [(100.0, (50, 6), (400, 50)), (256.0, (128, 16), (1024, 128))]
    )
    def test_kernel_and_stride_of_the_first_layers(
        self, sfreq: float, small: tuple[int, int], large: tuple[int, int]
    ) -> None:
        with torch.device("meta"):
            cnn = PretrainNet(Config(sfreq=sfreq)).cnn
        for branch, wanted in ((cnn.small, small), (cnn.large, large)):
            assert (*branch.first.conv.kernel_size, *branch.first.conv.stride) == wanted

    def test_the_first_pool_at_100_hz_begins_two_columns_before_the_first(self) -> None:
        branch = PretrainNet(Config(n_filters=2)).cnn.small.eval()
        seen: list[torch.Tensor] = []
        branch.first.register_forward_hook(lambda _m, _a, out: seen.append(out))
        branch.later.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
        with torch.inference_mode():
            branch(torch.randn(1, 1, 3000, generator=torch.Generator().manual_seed(0)))
        columns, pooled = seen
        assert torch.equal(pooled[0, :, 0], columns[0, :, :6].amax(dim=1))
        assert torch.equal(pooled[0, :, 1], columns[0, :, 6:14].amax(dim=1))
        assert torch.equal(pooled[0, :, 62], columns[0, :, 494:].amax(dim=1))

    def test_the_causal_variant_has_half_the_sequence_part(self) -> None:
        with torch.device("meta"):
            model = build(Config(variant="causal"))
        sequence = (14_687_232 + 4_201_472 + 3_147_776) // 2
        assert model.n_trainable() == 331_776 + 272_256 + sequence + 512 * 5 + 5

    def test_timing_of_the_published_variant_is_25_epochs(self) -> None:
        with torch.device("meta"):
            timing = build(Config()).timing
        assert (timing.step_samples, timing.chunk_steps, len(timing.reads)) == (3000, 25, 25)
        assert [read.lag_samples for read in timing.reads] == [3000 * lag for lag in range(25)]
        assert [read.warm_up_samples for read in timing.reads] == [3000 * (lag + 1) for lag in range(25)]

    def test_timing_of_the_other_variants(self) -> None:
        causal = make(variant="causal").timing
        assert (causal.look_ahead_samples, causal.warm_up_samples, causal.chunk_steps) == (0, EPOCH, 0)
        ahead = make(variant="lookahead", look_ahead_s=12.0).timing
        assert [read.lag_samples for read in ahead.reads] == [0, 3 * EPOCH]
        assert [read.warm_up_samples for read in ahead.reads] == [EPOCH, 4 * EPOCH]
        assert ahead.chunk_steps == 0


class TestPretrainNet:
    """The first training step."""

    def test_it_scores_epochs_from_the_features_alone(self) -> None:
        model = PretrainNet(Config(**SMALL)).eval()
        epochs = noise(3).reshape(3, 1, EPOCH)
        with torch.inference_mode():
            assert torch.equal(model(epochs), model.head(model.cnn(epochs)))
            assert model(epochs).shape == (3, 5)

    def test_its_cnns_move_into_the_whole_network(self) -> None:
        pretrained, model = PretrainNet(Config(**SMALL)).eval(), make()
        model.cnn.load_state_dict(pretrained.cnn.state_dict())
        x = noise(1)
        with torch.inference_mode():
            assert torch.equal(model.cnn(x), pretrained.cnn(x))

    @pytest.mark.parametrize("network", [PretrainNet, build])
    def test_weight_decay_is_on_the_first_kernels(self, network: Any) -> None:
        model = network(Config(**SMALL))
        small, large = model.cnn.small.first.conv.weight, model.cnn.large.first.conv.weight
        assert [id(kernel) for kernel in model.l2_kernels()] == [id(small), id(large)]
        as_in_the_code = network(Config(**SMALL, l2_on="code"))
        assert [id(kernel) for kernel in as_in_the_code.l2_kernels()] == [
            id(as_in_the_code.cnn.small.first.conv.weight)
        ]


def test_golden_logits() -> None:
    logits, _ = run(make(chunk_epochs=3), noise(3))
    wanted = [
        [0.45612, 0.91311, -0.59506, 1.22066, 0.34393],
        [0.42890, 0.89116, -0.61975, 1.25917, 0.30710],
        [0.36771, 0.79368, -0.64806, 1.30805, 0.26550],
    ]
    torch.testing.assert_close(logits[0, 2], torch.tensor(wanted), rtol=0, atol=1e-4)


def test_dropout_acts_in_training_only() -> None:
    model, x = make(), noise(2, batch_size=2)
    assert not model.training
    model.train()
    trained = [model(x, model.initial_state(2))[0] for _ in range(2)]
    assert not torch.equal(*trained)
    model.eval()
    assert torch.equal(run(model, x)[0], run(model, x)[0])


def test_every_weight_learns() -> None:
    model = make().train()
    model(noise(4, batch_size=2), model.initial_state(2))[0][:, 3].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_statistics_move_by_one_thousandth() -> None:
    norm = make().cnn.small.first.norm.train()
    before = norm.running_mean.clone()
    norm(7.0 + torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0)))
    moved = (norm.running_mean - before) / (7.0 - before)
    torch.testing.assert_close(moved, torch.full((3,), 0.001), rtol=0, atol=1e-4)


def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    model = build(Config(n_hidden=16))
    for weight, fan_in in (
        (model.cnn.small.first.conv.weight, 50),
        (model.cnn.large.first.conv.weight, 400),
        (model.cnn.small.later[1].conv.weight, 8 * 128),
        (model.shortcut.weight, 3072),
    ):
        std = math.sqrt(2.0 / fan_in)
        # A normal cut at two standard deviations keeps 0.880 of its spread.
        assert weight.std().item() == pytest.approx(0.880 * std, rel=0.03)
        assert weight.abs().max().item() <= 2 * std
    gains = torch.cat([block.norm.weight for block in model.cnn.small.later])
    assert gains.mean().item() == pytest.approx(1.0, abs=0.001)
    assert gains.std().item() == pytest.approx(0.002, rel=0.2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sfreq": 16}, "sfreq"),
        ({"n_filters": 0}, "n_filters"),
        ({"chunk_epochs": 0}, "chunk_epochs"),
        ({"l2_on": "all"}, "l2_on"),
        ({"layers": 3}, "layers"),
        ({"look_ahead_s": 30}, "published variant has none.*variant: lookahead"),
        ({"variant": "causal", "look_ahead_s": 30}, "causal variant has none.*variant: lookahead"),
        ({"variant": "causal", "carry_backward": True}, "carry_backward belongs to the published variant"),
        ({"variant": "lookahead", "carry_backward": True}, "carry_backward belongs to the published variant"),
        (
            {"variant": "lookahead", "look_ahead_s": 90, "max_look_ahead_s": 60},
            "look_ahead_s 90 is beyond max_look_ahead_s 60; choose a smaller .* or a bundle trained for more",
        ),
        ({"variant": "lookahead", "look_ahead_s": 45}, "45 is no whole number of epochs of 30 s"),
        ({"variant": "lookahead", "look_ahead_s": -30}, "look_ahead_s"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)
