from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from streamscore.labels import vocabulary
from streamscore.models.cnn_bilstm import ABOUT, PIECE_FRAMES, CnnBilstm, Config, build, z_score
from tests.contracts.model import ModelContract, run

#: At one frame a second a look-ahead in seconds is one in frames.
SMALL = {"frame_shape": (6, 5), "n_filters": 4, "n_blocks": 2, "n_hidden": 3, "epoch_frames": 3, "sfreq": 1.0}
CAUSAL = {**SMALL, "variant": "causal", "attention_frames": 3}
LOOK_AHEAD = {**SMALL, "variant": "lookahead", "attention_frames": 2, "max_look_ahead_s": 5.0}


def make(args: dict[str, object], **more: object) -> CnnBilstm:
    """Return a network whose features, and so its outputs, differ clearly from frame to frame."""
    torch.manual_seed(0)
    model = build(Config(**{**args, **more}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.mul_(2.0) if weight.ndim > 1 else weight.normal_(std=0.5)
            else:
                assert name.endswith("bias_hh_l0")
                assert not weight.any()
    return model


class TestPublished(ModelContract):
    """One epoch, without context."""

    def make(self) -> CnnBilstm:
        return make(SMALL)


class TestPublishedWithContext(ModelContract):
    """As the 20-s window: half an epoch on each side."""

    def make(self) -> CnnBilstm:
        return make(SMALL, epoch_frames=4, context_frames=2, attention="paper")


class TestCausal(ModelContract):
    """A trailing window of three frames."""

    def make(self) -> CnnBilstm:
        return make(CAUSAL)


class TestCausalWithPaperAttention(ModelContract):
    """Attention without a query."""

    def make(self) -> CnnBilstm:
        return make(CAUSAL, attention="paper", n_classes=2)


class TestLookAhead(ModelContract):
    """One frame of look-ahead."""

    def make(self) -> CnnBilstm:
        return make(LOOK_AHEAD, look_ahead_s=1.0)


class TestLookAheadOverTheWholeWindow(ModelContract):
    """As many frames of look-ahead as attention has, and attention without a query."""

    def make(self) -> CnnBilstm:
        return make(LOOK_AHEAD, look_ahead_s=2.0, attention="paper")


class TestLookAheadOfZero(ModelContract):
    """The same weights without look-ahead: one read."""

    def make(self) -> CnnBilstm:
        return make(LOOK_AHEAD, look_ahead_s=0.0)


class ByHand:
    """The network written out in float64, frame by frame and gate by gate, from its weights alone."""

    def __init__(self, model: CnnBilstm) -> None:
        self.w = {name: value.double() for name, value in model.state_dict().items()}
        self.n_hidden = model.config.n_hidden

    def feature(self, frame: Tensor) -> Tensor:
        x = frame.double()[None, None]
        n_convs = sum(name.startswith("cnn.") for name in self.w) // 2
        for k in range(n_convs):
            x = F.conv2d(x, self.w[f"cnn.convs.{k}.weight"], self.w[f"cnn.convs.{k}.bias"], padding=1)
            x = torch.where(x > 0, x, 0.3 * x)
            if k % 2 == 1 and k < n_convs - 1:
                height, width = x.shape[2] // 2, x.shape[3] // 2
                x = x[:, :, : 2 * height, : 2 * width].reshape(1, -1, height, 2, width, 2).amax(dim=(3, 5))
        return x[0].flatten(1).mean(dim=1)

    def lstm(self, name: str, items: list[Tensor]) -> list[Tensor]:
        """Outputs over `items` in their order, from zero, with one bias."""
        kernel, recurrent = self.w[f"{name}.weight_ih_l0"], self.w[f"{name}.weight_hh_l0"]
        hidden = cell = torch.zeros(self.n_hidden, dtype=torch.float64)
        outputs = []
        for item in items:
            gates = kernel @ item + recurrent @ hidden + self.w[f"{name}.bias_ih_l0"]
            i, f, c, o = gates.reshape(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * c.tanh()
            hidden = o.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return outputs

    def logits(self, query: Tensor, values: list[Tensor]) -> Tensor:
        """Attention over `values`, softmax written out, and the last layer."""
        if "attention.scale" in self.w:
            q = self.w["attention.of_query.weight"] @ query
            keys = [self.w["attention.of_value.weight"] @ value for value in values]
            scores = [(self.w["attention.scale"] * (q + key).tanh()).sum() for key in keys]
        else:
            w, b = self.w["attention.of_value.weight"][0], self.w["attention.of_value.bias"][0]
            scores = [(w @ value + b).tanh() for value in values]
        weights = torch.stack(scores).exp()
        context = sum(weight * value for weight, value in zip(weights / weights.sum(), values, strict=True))
        return (self.w["head.weight"] @ context + self.w["head.bias"]).float()

    def window(self, movie: np.ndarray) -> Tensor:
        """The paper: z-score of each pixel, features, both LSTMs over the window, query from both ends."""
        movie = movie.astype(np.float64)
        z = np.nan_to_num((movie - movie.mean(axis=0)) / movie.std(axis=0))
        features = [self.feature(torch.from_numpy(frame)) for frame in z]
        forwards = self.lstm("forward_lstm", features)
        backwards = self.lstm("backward_lstm", features[::-1])
        values = [torch.cat(pair) for pair in zip(forwards, backwards[::-1], strict=True)]
        return self.logits(torch.cat((forwards[-1], backwards[-1])), values)


def movie(n_frames: int, batch_size: int = 1) -> Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.standard_normal((batch_size, n_frames, 6, 5)).astype(np.float32))


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["code", "paper"])
class TestExactness:
    """The streams are what the paper's form, written out, gives."""

    def test_published_windows(self, attention: str) -> None:
        model = make(SMALL, attention=attention, epoch_frames=5)
        x = 3.0 + 2.0 * movie(10)
        logits, _ = run(model, x)
        by_hand = ByHand(model)
        for j in range(2):
            close(logits[0, j, 0], by_hand.window(x[0, 5 * j : 5 * j + 5].numpy()))

    def test_published_windows_with_context(self, attention: str) -> None:
        """The first epoch has zeros for its past neighbour, which take part in the z-score."""
        model = make(SMALL, attention=attention, epoch_frames=4, context_frames=2)
        x = 3.0 + 2.0 * movie(10)
        logits, _ = run(model, x)
        padded = np.concatenate((np.zeros((6, 6, 5), np.float32), x[0].numpy()))
        by_hand = ByHand(model)
        for j in range(5):
            # Step j ends with frame 2j + 2: the epoch ended 2 frames before, and the window began 8 before.
            close(logits[0, j, 0], by_hand.window(padded[2 * j : 2 * j + 8]))

    def test_causal(self, attention: str) -> None:
        model = make(CAUSAL, attention=attention)
        x = movie(7)
        logits, _ = run(model, x)
        by_hand = ByHand(model)
        hidden = by_hand.lstm("forward_lstm", [by_hand.feature(frame) for frame in x[0]])
        for t in range(2, 7):
            close(logits[0, t, 0], by_hand.logits(hidden[t], hidden[t - 2 : t + 1]))

    @pytest.mark.parametrize("look_ahead", [0, 1, 2, 5])
    def test_look_ahead(self, attention: str, look_ahead: int) -> None:
        model = make(LOOK_AHEAD, attention=attention, look_ahead_s=float(look_ahead), attention_frames=4)
        x = movie(12)
        logits, _ = run(model, x)
        by_hand = ByHand(model)
        features = [by_hand.feature(frame) for frame in x[0]]
        forwards = by_hand.lstm("forward_lstm", features)

        def item(j: int, newest: int) -> Tensor:
            """What is known of frame `j` when `newest` has come."""
            ahead = features[j : min(newest, j + look_ahead) + 1]
            return torch.cat((forwards[j], by_hand.lstm("backward_lstm", ahead[::-1])[-1]))

        for t in range(3, 12):
            for r, lag in enumerate((0, look_ahead) if look_ahead else (0,)):
                read = t - lag
                if read >= 3:
                    values = [item(j, t) for j in range(read - 3, read + 1)]
                    close(logits[0, t, r], by_hand.logits(values[-1], values))


@pytest.mark.parametrize("args", [CAUSAL, {**LOOK_AHEAD, "look_ahead_s": 2.0}], ids=["causal", "lookahead"])
class TestWork:
    """Long input is worked through in pieces, and a frame's features are computed once."""

    def test_a_long_movie_is_the_same_frame_by_frame(self, args: dict[str, object]) -> None:
        model = make(args)
        n_frames = 2 * PIECE_FRAMES + 3
        x = movie(n_frames, batch_size=2)
        state, rows = model.initial_state(2), []
        for k in range(n_frames):
            logits, state = run(model, x[:, k : k + 1], state)
            rows.append(logits)
        close(torch.cat(rows, dim=1), run(model, x)[0])

    def test_each_frame_goes_through_the_cnn_once(self, args: dict[str, object]) -> None:
        model = make(args)
        seen: list[int] = []
        model.cnn.register_forward_hook(lambda _module, frames, _out: seen.append(frames[0].shape[0]))
        state = model.initial_state(2)
        for n_frames in (1, 4, 2):
            _, state = run(model, movie(n_frames, batch_size=2), state)
        assert seen == [2, 8, 4]


class TestZScore:
    """Per pixel over the window, with the population's variance (MODELS.md 1.1)."""

    def test_a_pixel_has_mean_0_and_population_deviation_1(self) -> None:
        z = z_score(100.0 + 5.0 * movie(20))
        close(z.mean(dim=1), torch.zeros(1, 6, 5))
        close(z.std(dim=1, correction=0), torch.ones(1, 6, 5))

    @pytest.mark.parametrize("value", [0.0, 0.1, 1e6, float("nan"), float("inf")])
    def test_a_pixel_that_does_not_vary_or_is_no_number_becomes_0(self, value: float) -> None:
        x = movie(7)
        expected = z_score(x)
        expected[:, :, 2, 3] = 0.0
        x[:, :, 2, 3] = value
        assert torch.equal(z_score(x), expected)

    def test_one_undefined_frame_blanks_its_pixel_only(self) -> None:
        x = movie(7)
        expected = z_score(x)
        expected[:, :, 1, 4] = 0.0
        x[0, 3, 1, 4] = float("nan")
        assert torch.equal(z_score(x), expected)

    def test_a_variance_too_small_for_float32_is_none(self) -> None:
        x = torch.zeros(1, 4, 1, 1)
        x[0, 0] = 1e-30
        assert not z_score(x).any()


def count_with_one_bias(model: CnnBilstm, part: str = "") -> int:
    """Parameters as the papers count them: ``nn.LSTM`` has a second bias, which stays 0 here."""
    return sum(
        p.numel() for name, p in model.named_parameters() if name.startswith(part) and "bias_hh" not in name
    )


class TestPublishedSize:
    """MODELS.md 1.2, 1.3 and 9."""

    @pytest.mark.parametrize(
        ("args", "n_parameters"),
        [({}, 432_323), ({"attention": "paper"}, 399_556), ({"n_hidden": 32}, 366_275)],
    )
    def test_number_of_parameters(self, args: dict[str, object], n_parameters: int) -> None:
        model = build(Config(**args))
        assert count_with_one_bias(model) == n_parameters
        assert model.n_trainable() == n_parameters

    def test_its_parts(self) -> None:
        model = build(Config())
        convs = [sum(p.numel() for p in conv.parameters()) for conv in model.cnn.convs]
        assert convs == [640] + 9 * [36_928]
        assert count_with_one_bias(model, "cnn") == 332_992
        lstms = count_with_one_bias(model, "forward_lstm"), count_with_one_bias(model, "backward_lstm")
        assert lstms == (33_024, 33_024)
        assert count_with_one_bias(model, "attention") == 16_384 + 16_384 + 128
        assert count_with_one_bias(model, "head") == 387

    def test_the_query_free_attention_has_129(self) -> None:
        assert count_with_one_bias(build(Config(attention="paper")), "attention") == 129

    def test_sizes_of_its_maps(self) -> None:
        model = build(Config())
        sizes: list[tuple[int, ...]] = []
        for conv in model.cnn.convs:
            conv.register_forward_hook(lambda _module, _args, out: sizes.append(tuple(out.shape)))
        with torch.inference_mode():
            features = model.features(torch.zeros(1, 1, 128, 128))
        assert sizes == [(1, 64, n, n) for n in (128, 128, 64, 64, 32, 32, 16, 16, 8, 8)]
        assert features.shape == (1, 1, 64)

    def test_shapes_of_its_sequence(self) -> None:
        """A real window of frames of a few pixels: (168, 64) → (168, 128) → 128 → 3."""
        model = build(Config(frame_shape=(16, 16)))
        shapes: list[tuple[int, ...]] = []
        for module in (model.forward_lstm, model.attention, model.head):
            module.register_forward_hook(lambda _module, args, _out: shapes.append(tuple(args[-1].shape)))
        model.forward_lstm.register_forward_hook(lambda _module, _args, out: shapes.append(tuple(out[0].shape)))
        with torch.inference_mode():
            probs = model(torch.zeros(2, 168, 16, 16), model.initial_state(2))[0].softmax(dim=-1)
        assert shapes == [(2, 168, 64), (2, 168, 64), (2, 168, 256), (2, 128)]
        assert probs.shape == (2, 1, 1, 3)

    @pytest.mark.parametrize("name", ABOUT.examples)
    def test_its_examples_can_be_built(self, name: str) -> None:
        example = ABOUT.examples[name]
        with torch.device("meta"):
            model = build(Config(**example.args))
        assert model.frame_shape == (128, 128)
        assert model.n_channels == len(example.channels) == 1
        assert model.n_classes == len(vocabulary(example.vocabulary))
        assert model.config.sfreq == example.sfreq


@pytest.mark.parametrize(
    ("name", "step", "reads", "field"),
    [
        ("cnn-bilstm", 168, [(0, 168)], 168),
        ("cnn-bilstm-15s", 42, [(42, 252)], 252),
        ("cnn-bilstm-20s", 84, [(84, 336)], 336),
        ("cnn-bilstm-causal", 1, [(0, 168)], None),
        ("cnn-bilstm-lookahead", 1, [(0, 168), (84, 252)], None),
    ],
)
def test_timing(name: str, step: int, reads: list[tuple[int, int]], field: int | None) -> None:
    with torch.device("meta"):
        timing = build(Config(**ABOUT.examples[name].args)).timing
    assert (timing.step_samples, timing.receptive_field_samples, timing.epoch_samples) == (step, field, 168)
    assert [(read.lag_samples, read.warm_up_samples) for read in timing.reads] == reads


def test_the_weights_do_not_depend_on_the_look_ahead() -> None:
    trained, chosen = make(LOOK_AHEAD, look_ahead_s=5.0), build(Config(**{**LOOK_AHEAD, "look_ahead_s": 1.0}))
    chosen.load_state_dict(trained.state_dict())
    x = movie(8)
    five, one = (run(model, x)[0] for model in (trained, chosen))
    assert not torch.allclose(five[:, 7, 1], one[:, 3, 1], atol=1e-4)  # frame 2, with 5 and with 1 to come


def test_loaded_weights_keep_the_layout_that_a_cpu_convolves_quickest() -> None:
    model = make(CAUSAL)
    model.load_state_dict({name: value.contiguous() for name, value in make(CAUSAL).state_dict().items()})
    for conv in model.cnn.convs[1:]:
        weight = conv.get_parameter("weight")
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert not weight.is_contiguous()


def test_weights_of_the_published_network_can_start_the_training_of_the_look_ahead() -> None:
    chosen = build(Config(**{**LOOK_AHEAD, "look_ahead_s": 1.0}))
    chosen.load_state_dict(make(SMALL).state_dict())


@pytest.mark.parametrize(("look_ahead_s", "n_frames"), [(0.0, 0), (5.0, 84), (1.25, 21), (0.476, 8), (10.0, 168)])
def test_a_look_ahead_in_frames(look_ahead_s: float, n_frames: int) -> None:
    config = Config(variant="lookahead", look_ahead_s=look_ahead_s, max_look_ahead_s=10.0)
    assert config.look_ahead_frames == n_frames


def test_the_provisional_read_does_not_wait() -> None:
    """With a look-ahead as without, it uses the newest frame; only older items know what followed them."""
    model = make(LOOK_AHEAD, look_ahead_s=2.0)
    x = movie(8)
    longer = run(model, x)[0]
    assert torch.equal(run(model, x[:, :6])[0], longer[:, :6])
    assert not torch.allclose(longer[:, 5, 0], longer[:, 7, 1], atol=1e-4)  # the same frame, 5, read twice


class TestTraining:
    """Dropout of Keras: the same features for all time steps, and the context before the last layer."""

    @pytest.mark.parametrize("args", [SMALL, CAUSAL, {**LOOK_AHEAD, "look_ahead_s": 1.0}])
    def test_dropout_acts_in_training_only(self, args: dict[str, object]) -> None:
        model = make(args, dropout=0.5)
        x = movie(6)
        trained = torch.stack([run(model.train(), x)[0] for _ in range(8)])
        assert trained.std(dim=0).max() > 1e-3
        assert torch.equal(run(model.eval(), x)[0], run(model, x)[0])

    def test_one_mask_for_all_time_steps(self) -> None:
        model = make(CAUSAL, dropout=0.5, n_filters=40).train()
        features: list[Tensor] = []
        model.forward_lstm.register_forward_hook(lambda _module, args, _out: features.append(args[0]))
        run(model, movie(PIECE_FRAMES + 5, batch_size=2))
        dropped = torch.cat(features, dim=1) == 0
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
        assert 0 < dropped[0, 0].sum() < 40
        assert not torch.equal(dropped[0], dropped[1])

    @pytest.mark.parametrize("args", [SMALL, CAUSAL, {**LOOK_AHEAD, "look_ahead_s": 1.0}])
    @pytest.mark.parametrize("attention", ["code", "paper"])
    def test_every_parameter_but_the_second_bias_learns(self, args: dict[str, object], attention: str) -> None:
        model = make(args, attention=attention).train()
        logits, _ = model(movie(6), model.initial_state(1))
        logits[:, -1].square().sum().backward()
        for name, weight in model.named_parameters():
            if name.endswith("bias_hh_l0"):
                assert weight.grad is None
            else:
                assert weight.grad is not None, name
                assert weight.grad.any(), name

    def test_start_values_are_those_of_keras(self) -> None:
        torch.manual_seed(0)
        model = build(Config())
        kernel = model.forward_lstm.get_parameter("weight_ih_l0")
        assert kernel.abs().max().item() == pytest.approx((6 / (64 + 256)) ** 0.5, rel=1e-2)
        recurrent = model.forward_lstm.get_parameter("weight_hh_l0").detach()
        close(recurrent.T @ recurrent, torch.eye(64))
        bias = model.forward_lstm.get_parameter("bias_ih_l0").detach()
        assert torch.equal(bias.reshape(4, 64).sum(dim=1), torch.tensor([0.0, 64.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"variant": "online"}, "'published', 'causal' or 'lookahead'"),
        ({"attention": "dot"}, "'code' or 'paper'"),
        ({"look_ahead_s": 5.0, "max_look_ahead_s": 5.0}, "belong to variant 'lookahead'; for variant 'published'"),
        ({"variant": "causal", "max_look_ahead_s": 5.0}, "belong to variant 'lookahead'; for variant 'causal'"),
        (
            {"variant": "lookahead", "look_ahead_s": 10.0, "max_look_ahead_s": 5.0},
            "look_ahead_s 10 is more than max_look_ahead_s 5; choose a smaller look_ahead_s or a bundle trained",
        ),
        ({"look_ahead_s": -1.0}, "greater than or equal to 0"),
        ({"variant": "causal", "context_frames": 84}, "context_frames 84 belongs to variant 'published'"),
        ({"context_frames": 100}, "context_frames 100 does not divide epoch_frames 168"),
        ({"frame_shape": (128, 15)}, r"\(128, 15\) is too small for 5 blocks; give at least 16 pixels"),
        ({"variant": "causal", "attention_frames": 1}, "greater than or equal to 2"),
        ({"dropout": 1.0}, "less than 1"),
        ({"layers": 3}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**args)


def test_half_a_hemisphere_is_a_frame() -> None:
    """The hemisphere variant of MODELS.md 1.1: the left 64 columns."""
    model = build(Config(variant="causal", frame_shape=(128, 64), n_filters=4))
    logits, _ = run(model, torch.zeros(1, 2, 128, 64))
    assert logits.shape == (1, 2, 1, 3)


@pytest.mark.parametrize(("look_ahead_s", "n_frames"), [(0.5, 8), (2.0, 33), (2.5, 42), (0.0595238, 1), (0.0, 0)])
def test_the_whole_frames_of_a_look_ahead_are_taken(look_ahead_s: float, n_frames: int) -> None:
    config = Config(variant="lookahead", look_ahead_s=look_ahead_s, max_look_ahead_s=5.0)
    assert config.look_ahead_frames == n_frames
