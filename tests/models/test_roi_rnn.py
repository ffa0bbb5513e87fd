from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from streamscore.models.roi_rnn import ABOUT, Config, RoiRnn, build, hard_sigmoid
from tests.contracts.model import ModelContract, run

TINY = {"n_channels": 3, "n_hidden": 4}
WINDOW = {**TINY, "half_window_frames": 1}
CELLS = ("simple", "gru", "lstm")

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def make(seed: int = 0, **args: object) -> RoiRnn:
    torch.manual_seed(seed)
    model = build(Config(**args))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            # Small enough that no gate is shut for good.
            torch.nn.init.normal_(weight, std=0.2)
    return model


class TestPublishedGru(ModelContract):
    def make(self) -> RoiRnn:
        return make(**WINDOW)


class TestPublishedBidirectionalLstm(ModelContract):
    def make(self) -> RoiRnn:
        return make(1, **WINDOW, cell="lstm", direction="bi")


class TestPublishedSimple(ModelContract):
    def make(self) -> RoiRnn:
        return make(2, **WINDOW, cell="simple")


class TestCausalGru(ModelContract):
    def make(self) -> RoiRnn:
        return make(3, **TINY, variant="causal")


class TestCausalLstm(ModelContract):
    def make(self) -> RoiRnn:
        return make(4, **TINY, cell="lstm", variant="causal", recurrent_activation="sigmoid")


class TestLookAheadGru(ModelContract):
    def make(self) -> RoiRnn:
        return make(5, **TINY, direction="bi", variant="lookahead", look_ahead_s=2 / 30)


class TestLookAheadLstmWithoutLookAhead(ModelContract):
    def make(self) -> RoiRnn:
        return make(6, **TINY, cell="lstm", direction="bi", variant="lookahead")


class TestCausalOfThreeClasses(ModelContract):
    def make(self) -> RoiRnn:
        return make(7, **TINY, variant="causal", n_classes=3, sfreq=0.25)


class TestLookAheadOfThreeClasses(ModelContract):
    def make(self) -> RoiRnn:
        return make(8, **TINY, direction="bi", variant="lookahead", n_classes=3, sfreq=0.25, look_ahead_s=8,
                    max_look_ahead_s=60)  # fmt: skip


class TestPublishedSize:
    """MODELS.md 4.3 and 9."""

    @pytest.mark.parametrize(
        ("direction", "cell", "n_parameters"),
        [
            ("uni", "simple", 2_689),
            ("uni", "gru", 8_001),
            ("uni", "lstm", 10_657),
            ("bi", "simple", 5_377),
            ("bi", "gru", 16_001),
            ("bi", "lstm", 21_313),
        ],
    )
    def test_number_of_parameters(self, direction: str, cell: str, n_parameters: int) -> None:
        assert build(Config(cell=cell, direction=direction)).n_trainable() == n_parameters

    def test_a_published_window_is_31_frames_read_in_its_middle(self) -> None:
        timing = build(Config()).timing
        assert timing.step_samples == 1
        assert [(read.lag_samples, read.warm_up_samples) for read in timing.reads] == [(15, 31)]
        assert timing.receptive_field_samples == 31

    @pytest.mark.parametrize(
        ("args", "reads"),
        [
            ({"variant": "causal"}, [(0, 1)]),
            ({"variant": "lookahead", "direction": "bi"}, [(0, 1)]),
            ({"variant": "lookahead", "direction": "bi", "look_ahead_s": 0.5}, [(0, 1), (15, 16)]),
            (
                {"variant": "lookahead", "direction": "bi", "look_ahead_s": 2, "max_look_ahead_s": 2, "sfreq": 10},
                [(0, 1), (20, 21)],
            ),
        ],
    )
    def test_timing_of_a_carried_state(self, args: dict[str, object], reads: list[tuple[int, int]]) -> None:
        timing = build(Config(**args)).timing
        assert [(read.lag_samples, read.warm_up_samples) for read in timing.reads] == reads
        assert timing.receptive_field_samples is None

    @pytest.mark.parametrize("name", ABOUT.examples)
    def test_each_example_fits_its_network(self, name: str) -> None:
        example = ABOUT.examples[name]
        model = build(Config(**example.args))
        assert model.n_channels == len(example.channels)
        assert model.config.sfreq == example.sfreq
        assert model.n_classes == 2

    def test_the_first_example_is_the_publication(self) -> None:
        assert next(iter(ABOUT.examples.values())).args == {}
        assert Config().variant == "published"


GATES: dict[str, Callable[[Array], Array]] = {
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def keras(model: RoiRnn, direction: str, frames: Array) -> Array:
    """Outputs of the cell for frames (n, channels) from a zero state, by the equations of MODELS.md 0.3."""
    w, u, b = (
        model.state_dict()[f"{direction}_cell.{name}"].double().numpy()
        for name in ("weight_x", "weight_h", "bias")
    )
    gate, n = GATES[model.config.recurrent_activation], model.config.n_hidden
    h, c, outputs = np.zeros(n), np.zeros(n), []
    for x in frames:
        if model.config.cell == "simple":
            h = np.tanh(x @ w + h @ u + b)
        elif model.config.cell == "gru":
            z = gate(x @ w[:, :n] + h @ u[:, :n] + b[:n])
            r = gate(x @ w[:, n : 2 * n] + h @ u[:, n : 2 * n] + b[n : 2 * n])
            h = z * h + (1 - z) * np.tanh(x @ w[:, 2 * n :] + (r * h) @ u[:, 2 * n :] + b[2 * n :])
        else:
            i, f, g, o = np.split(x @ w + h @ u + b, 4)
            c = gate(f) * c + gate(i) * np.tanh(g)
            h = gate(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def probability(model: RoiRnn, hidden: Array) -> float:
    weight, bias = (value.double().numpy() for value in (model.head.weight.detach(), model.head.bias.detach()))
    return float(1 / (1 + np.exp(-(weight[0] @ hidden + bias[0]))))


def scored(model: RoiRnn, frames: Array) -> Array:
    """Probability of run, (n, n_reads)."""
    logits, _ = run(model, torch.from_numpy(frames.T.astype(np.float32))[None])
    return torch.softmax(logits, dim=-1)[0, :, :, 1].double().numpy()


@pytest.fixture
def frames() -> Array:
    return np.random.default_rng(0).normal(0, 1.5, (12, 3))


class TestAgainstTheEquations:
    @pytest.mark.parametrize("activation", GATES)
    @pytest.mark.parametrize("direction", ["uni", "bi"])
    @pytest.mark.parametrize("cell", CELLS)
    def test_a_published_window_runs_from_zero(
        self, cell: str, direction: str, activation: str, frames: Array
    ) -> None:
        if cell == "simple":
            activation = "hard_sigmoid"
        model = make(**TINY, cell=cell, direction=direction, recurrent_activation=activation, half_window_frames=2)
        got = scored(model, frames)[4:, 0]
        expected = []
        for middle in range(2, 10):
            window = frames[middle - 2 : middle + 3]
            hidden = keras(model, "forward", window)[-1]
            if direction == "bi":
                hidden = np.concatenate([hidden, keras(model, "backward", window[::-1])[-1]])
            expected.append(probability(model, hidden))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("cell", CELLS)
    def test_causal_is_one_run_over_all_frames(self, cell: str, frames: Array) -> None:
        model = make(**TINY, cell=cell, variant="causal")
        expected = [probability(model, hidden) for hidden in keras(model, "forward", frames)]
        np.testing.assert_allclose(scored(model, frames)[:, 0], expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("cell", CELLS)
    def test_look_ahead_joins_all_of_the_past_with_a_bounded_future(self, cell: str, frames: Array) -> None:
        model = make(**TINY, cell=cell, direction="bi", variant="lookahead", look_ahead_s=3 / 30)
        got = scored(model, frames)
        past = keras(model, "forward", frames)
        for newest in range(len(frames)):
            for read, lag in enumerate((0, 3)):
                described = newest - lag
                if described >= 0:
                    future = keras(model, "backward", frames[described : newest + 1][::-1])[-1]
                    expected = probability(model, np.concatenate([past[described], future]))
                    assert got[newest, read] == pytest.approx(expected, abs=1e-5)

    def test_more_than_two_classes_have_a_logit_each(self, frames: Array) -> None:
        model = make(**TINY, variant="causal", n_classes=3)
        logits, _ = run(model, torch.from_numpy(frames.T.astype(np.float32))[None])
        weight, bias = (value.detach().double().numpy() for value in (model.head.weight, model.head.bias))
        expected = keras(model, "forward", frames) @ weight.T + bias
        np.testing.assert_allclose(logits[0, :, 0].double().numpy(), expected, rtol=0, atol=1e-5)

    def test_the_two_directions_do_not_share_weights(self, frames: Array) -> None:
        model = make(**WINDOW, direction="bi")
        before = scored(model, frames)
        with torch.no_grad():
            model.backward_cell.weight_x.zero_()
        assert not np.allclose(scored(model, frames), before)


def test_weights_do_not_depend_on_variant_or_look_ahead() -> None:
    published = make(**TINY, direction="bi")
    for look_ahead_s in (0.0, 0.5):
        other = build(Config(**TINY, direction="bi", variant="lookahead", look_ahead_s=look_ahead_s))
        other.load_state_dict(published.state_dict())
    build(Config(**TINY, variant="causal")).load_state_dict(make(**TINY).state_dict())


def test_hard_sigmoid_is_that_of_tensorflow_1() -> None:
    x = torch.tensor([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0])
    torch.testing.assert_close(hard_sigmoid(x), torch.tensor([0.0, 0.0, 0.3, 0.5, 0.7, 1.0, 1.0]))


def test_initial_weights_are_those_of_keras() -> None:
    cell = make(cell="lstm").forward_cell
    bound = (6 / (50 + 128)) ** 0.5
    assert 0.98 * bound < cell.weight_x.abs().max().item() <= bound
    torch.testing.assert_close(cell.weight_h @ cell.weight_h.T, torch.eye(32), rtol=0, atol=1e-5)
    forget = build(Config(cell="lstm")).forward_cell.bias
    assert forget.reshape(4, 32).sum(dim=1).tolist() == [0.0, 32.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "rnn"}, "'simple', 'gru' or 'lstm'"),
        ({"units": 32}, "Extra inputs"),
        ({"half_window_frames": 0}, "greater than or equal to 1"),
        ({"variant": "causal", "direction": "bi"}, "'causal' is for direction 'uni', not 'bi'"),
        ({"variant": "lookahead"}, "'lookahead' is for direction 'bi', not 'uni'"),
        ({"look_ahead_s": 0.1}, "must be 0 with 'published'"),
        ({"variant": "causal", "look_ahead_s": 0.1}, "must be 0 with 'causal'"),
        (
            {"variant": "lookahead", "direction": "bi", "look_ahead_s": 1.0},
            "look_ahead_s 1 is longer than max_look_ahead_s 0.5; choose a smaller look_ahead_s or a bundle",
        ),
        ({"variant": "causal", "half_window_frames": 3}, "half_window_frames would be ignored"),
        ({"cell": "simple", "recurrent_activation": "sigmoid"}, "recurrent_activation would be ignored"),
        ({"max_look_ahead_s": 1.0}, "max_look_ahead_s would be ignored"),
        ({"n_classes": 3}, "published networks tell 2 classes, not 3; choose variant 'causal' or 'lookahead'"),
        ({"n_classes": 1}, "greater than or equal to 2"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)


@pytest.mark.parametrize(("look_ahead_s", "n_frames"), [(0.5, 15), (0.05, 1), (0.1, 3), (0.0333, 1), (0.0, 0)])
def test_the_whole_frames_of_a_look_ahead_are_taken(look_ahead_s: float, n_frames: int) -> None:
    assert Config(variant="lookahead", direction="bi", look_ahead_s=look_ahead_s).look_ahead_frames == n_frames
