from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from streamscore.features.spectrogram_image import (
    equalise,
    fit_table,
    jet_colours,
    linear_table,
    log_power,
    paint,
)
from streamscore.models.base import ScoringModel
from streamscore.models.vgg16 import ABOUT, Config, Vgg16, build
from streamscore.types import FloatArray
from tests.contracts.model import ModelContract, run
from tests.features.test_multitaper import naive

NARROW = {"image_size": 32, "n_filters": 2}
SMALL = {
    **NARROW,
    "sfreq": 1.0,
    "epoch_s": 16,
    "window_s": 12,
    "column_step_s": 4,
    "max_hz": 0.5,
    "n_classes": 3,
}


def randomise(model: Vgg16, seed: int = 0) -> Vgg16:
    """Weights that let small changes through and give logits of about 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0.0, 0.1, generator=generator)
        model.features[0].weight.mul_(1 / 64)
    return model


class VggContract(ModelContract):
    args: ClassVar[dict[str, object]]

    def make(self) -> Vgg16:
        torch.manual_seed(0)
        small_head = {} if "head" in self.args else {"n_hidden": 6}
        return randomise(build(Config(**SMALL, **small_head, **self.args)))

    def touch(self, model: ScoringModel, x: Tensor, sample: int) -> Tensor:
        """The edge of a taper lets little through, and the levels are coarse: change the sample a lot."""
        return x + 20 * (super().touch(model, x, sample) - x)


class TestPublished(VggContract):
    """Context, a fitted table, and all columns: the image waits for one step."""

    args: ClassVar[dict[str, object]] = {"context_epochs": 1, "stride_s": 4}

    def make(self) -> Vgg16:
        model = super().make()
        model.images.table.copy_(fit_table(torch.rand(500, generator=torch.Generator().manual_seed(0)) ** 2))
        return model


class TestCausal(VggContract):
    args: ClassVar[dict[str, object]] = {
        "context_epochs": 0,
        "equalisation": "running",
        "last_columns": "leave_out",
        "stride_s": 16,
    }


class TestFixed(VggContract):
    args: ClassVar[dict[str, object]] = {
        "context_epochs": 0,
        "equalisation": "fixed",
        "fixed_db": (-5.0, 9.0),
        "last_columns": "leave_out",
        "stride_s": 8,
    }


class TestConvLstm(VggContract):
    args: ClassVar[dict[str, object]] = {
        "head": "convlstm",
        "context_epochs": 1,
        "last_columns": "leave_out",
        "stride_s": 16,
    }


class TestConvLstmRecurrent(VggContract):
    args: ClassVar[dict[str, object]] = {
        "head": "convlstm_recurrent",
        "context_epochs": 0,
        "last_columns": "leave_out",
        "equalisation": "calibration",
        "calibration_s": 24,
        "stride_s": 8,
    }


class TestPublishedSize:
    """MODELS.md 3.2 and 9."""

    @pytest.mark.parametrize(
        ("args", "n_parameters"),
        [
            ({}, 134_285_126),
            ({"n_classes": 5}, 134_281_029),
            ({"head": "convlstm"}, 117_627_718),
            ({"head": "convlstm_recurrent"}, 117_627_718),
        ],
    )
    def test_number_of_parameters(self, args: dict[str, object], n_parameters: int) -> None:
        with torch.device("meta"):
            assert build(Config(**args)).n_trainable() == n_parameters

    def test_its_parts(self) -> None:
        with torch.device("meta"):
            model = build(Config(head="convlstm"))
        assert sum(p.numel() for p in model.features.parameters()) == 14_714_688
        assert sum(p.numel() for p in model.head.gates.parameters()) == 102_762_496

    def test_shapes_from_image_to_logits(self) -> None:
        with torch.device("meta"):
            model = build(Config())
            features = model.features(torch.zeros(2, 3, 224, 224))
            assert features.shape == (2, 512, 7, 7)
            assert model.head(features).shape == (2, 6)

    def test_convolutions_are_named_as_in_torchvision(self) -> None:
        with torch.device("meta"):
            names = {name for name, _ in build(Config()).named_parameters() if name.startswith("features")}
        places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
        assert names == {f"features.{k}.{part}" for k in places for part in ("weight", "bias")}

    @pytest.mark.parametrize(
        ("args", "lag_s", "warm_up_s"),
        [
            ({}, 90.0, 181.49),
            ({"stride_s": 1.5}, 61.5, 152.99),
            ({"stride_s": 1.0}, 62.0, 153.49),
            ({"last_columns": "leave_out"}, 60.0, 151.49),
            ({"context_epochs": 0}, 30.0, 61.49),
            ({"context_epochs": 0, "last_columns": "leave_out"}, 0.0, 31.49),
            (
                {
                    "context_epochs": 0,
                    "last_columns": "leave_out",
                    "equalisation": "calibration",
                    "calibration_s": 600,
                },
                0.0,
                600.0,
            ),
        ],
    )
    def test_timing(self, args: dict[str, object], lag_s: float, warm_up_s: float) -> None:
        with torch.device("meta"):
            timing = build(Config(**args)).timing
        assert [read.lag_samples / 100 for read in timing.reads] == [lag_s]
        assert timing.warm_up_samples / 100 == warm_up_s
        assert timing.epoch_samples == 3000

    def test_every_example_can_be_built(self) -> None:
        for example in ABOUT.examples.values():
            with torch.device("meta"):
                model = build(Config(**example.args))
            assert (model.n_channels, model.n_classes) == (len(example.channels), 6)
        assert list(ABOUT.examples) == ["vgg16", "vgg16-causal", "convlstm", "convlstm-recurrent"]
        assert ABOUT.examples["vgg16"].args == {}


# The published form, written once more and for a whole night at a time.

N_EPOCHS = 9


def night(seed: int = 0, n_epochs: int = N_EPOCHS) -> Tensor:
    """White noise and a 10-Hz rhythm that come and go, in µV."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_epochs * 3000) / 100
    envelope = 2 + np.sin(2 * np.pi * t / 47.0)
    x = rng.normal(0.0, 6.0, t.size) * envelope + 12.0 * np.sin(2 * np.pi * 10 * t) * (t % 71 < 30)
    return torch.from_numpy(x.astype(np.float32))


def naive_images(x: Tensor, context: int, step: int, table: Tensor | None = None) -> dict[int, Tensor]:
    """Images of the epochs (counted from 1) that have their whole context, equalised over the whole night."""
    values = log_power(torch.from_numpy(naive(x, step=step)))
    levels = equalise(values, fit_table(values) if table is None else table)
    centre_s = (np.arange(len(levels)) * step + 150) / 100
    images = {}
    for epoch in range(1 + context, len(x) // 3000 - context + 1):
        is_shown = (centre_s > 30 * (epoch - 1) - 30 * context) & (centre_s < 30 * epoch + 30 * context)
        images[epoch] = paint(levels[torch.from_numpy(is_shown)], jet_colours(), 32)
    return images


def naive_features(model: Vgg16, image: Tensor) -> Tensor:
    weights = model.state_dict()
    x = image[None]
    for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        x = F.conv2d(x, weights[f"features.{place}.weight"], weights[f"features.{place}.bias"], padding=1).relu()
        if place in (2, 7, 14, 21, 28):
            x = F.max_pool2d(x, 2, 2)
    return x


def naive_cnn(model: Vgg16, image: Tensor) -> Tensor:
    weights = model.state_dict()
    x = naive_features(model, image).flatten(1)
    for name in ("fc6", "fc7", "fc8"):
        x = x.relu() if name == "fc6" else x
        x = x @ weights[f"head.{name}.weight"].flatten(1).T + weights[f"head.{name}.bias"]
        x = x if name == "fc8" else x.relu()
    return x[0]


def naive_convlstm(model: Vgg16, image: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    weights = model.state_dict()
    both = torch.cat((naive_features(model, image), h), dim=1)
    gates = F.conv2d(both, weights["head.gates.weight"], weights["head.gates.bias"], padding=3)
    i, j, f, o = gates.split(h.shape[1], dim=1)
    c = c * torch.sigmoid(f + 1.0) + torch.sigmoid(i) * torch.tanh(j)
    h = torch.sigmoid(o) * torch.tanh(c)
    return (h.flatten(1) @ weights["head.fc.weight"].T + weights["head.fc.bias"])[0], c, h


def zeros(model: Vgg16) -> Tensor:
    return torch.zeros(1, model.n_maps, model.map_size, model.map_size)


def streamed(model: Vgg16, x: Tensor, chunk_steps: int = 1) -> Tensor:
    """Logits ``(n_steps, n_classes)`` of a stream that comes in chunks."""
    state = model.initial_state(1)
    parts = []
    for piece in x.split(chunk_steps * model.timing.step_samples):
        logits, state = run(model, piece[None, None], state)
        parts.append(logits[0, :, 0])
    return torch.cat(parts)


def make(**args: object) -> Vgg16:
    torch.manual_seed(3)
    small_head = {"n_hidden": 7} if args.get("head", "cnn") == "cnn" else {}
    return randomise(build(Config(**{**NARROW, **small_head, **args})))


class TestExactness:
    @pytest.mark.parametrize(("stride_s", "lag_steps"), [(30, 3), (15, 5)])
    def test_published_network_is_that_of_the_whole_night(self, stride_s: int, lag_steps: int) -> None:
        """A table fitted on the night, all columns, each epoch of the grid."""
        x = night()
        model = make(stride_s=stride_s)
        model.images.table.copy_(fit_table(log_power(model.images.spectrogram(x))))
        logits = streamed(model, x)
        n_compared = 0
        for epoch, image in naive_images(x, context=2, step=67).items():
            step = epoch * 30 // stride_s - 1 + lag_steps
            if step < len(logits):
                torch.testing.assert_close(logits[step], naive_cnn(model, image), rtol=0, atol=1e-5)
                n_compared += 1
        assert n_compared >= 4

    def test_convlstm_as_coded_starts_from_zero_for_each_image(self) -> None:
        x = night(n_epochs=4)
        model = make(head="convlstm", context_epochs=0)
        logits = streamed(model, x)
        images = naive_images(x, context=0, step=13, table=model.images.table)
        for epoch in (1, 2, 3):
            expected, _, _ = naive_convlstm(model, images[epoch], zeros(model), zeros(model))
            torch.testing.assert_close(logits[epoch], expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("stride_s", [30, 15])
    def test_recurrent_convlstm_runs_from_epoch_to_epoch(self, stride_s: int) -> None:
        x = night(n_epochs=6)
        model = make(head="convlstm_recurrent", context_epochs=0, stride_s=stride_s)
        logits = streamed(model, x, chunk_steps=3)
        power = naive(x, step=13)
        n_phases = 30 // stride_s
        for phase in range(n_phases):
            # A phase is the network at a stride of an epoch, on epochs that end so much later.
            c = h = zeros(model)
            lag_steps = model.timing.look_ahead_samples // model.timing.step_samples
            first = -(-model.timing.warm_up_samples // model.timing.step_samples) - 1 + phase
            for step in range(first, len(logits), n_phases):
                epoch_end = (step + 1 - lag_steps) * stride_s * 100
                image = self.naive_image(power, epoch_end, model.images.table)
                expected, c, h = naive_convlstm(model, image, c, h)
                torch.testing.assert_close(logits[step], expected, rtol=0, atol=1e-5)
            assert h.abs().max() > 0.01
            assert len(range(first, len(logits), n_phases)) >= 3

    @staticmethod
    def naive_image(power: FloatArray, epoch_end: int, table: Tensor) -> Tensor:
        centre = np.arange(len(power)) * 13 + 150
        shown = power[(centre > epoch_end - 3000) & (centre < epoch_end)]
        return paint(equalise(log_power(torch.from_numpy(shown)), table), jet_colours(), 32)

    def test_causal_network_sees_the_columns_that_are_complete(self) -> None:
        x = night(n_epochs=4)
        model = make(context_epochs=0, equalisation="running", last_columns="leave_out")
        logits = streamed(model, x)
        for step in range(1, 4):
            end = (step + 1) * 3000
            values = log_power(torch.from_numpy(naive(x[:end], step=13)))
            centre = np.arange(len(values)) * 13 + 150
            shown = values[torch.from_numpy(centre > end - 3000)]
            image = paint(equalise(shown, fit_table(values)), jet_colours(), 32)
            torch.testing.assert_close(logits[step], naive_cnn(model, image), rtol=0, atol=1e-5)

    def test_calibration_freezes_the_table_of_its_columns(self) -> None:
        x = night(n_epochs=5)
        args = {"context_epochs": 0, "last_columns": "leave_out"}
        calibrated = make(**args, equalisation="calibration", calibration_s=70)
        stored = make(**args)
        stored.images.table.copy_(fit_table(log_power(torch.from_numpy(naive(x[:7000], step=13)))))
        a, b = streamed(calibrated, x), streamed(stored, x)
        torch.testing.assert_close(a[2:], b[2:], rtol=0, atol=1e-5)
        assert not torch.allclose(a[1], b[1], rtol=0, atol=1e-5)

    def test_fixed_is_linear_in_decibels(self) -> None:
        x = night(n_epochs=3)
        args = {"context_epochs": 0, "last_columns": "leave_out"}
        fixed = make(**args, equalisation="fixed", fixed_db=(1.0, 8.0))
        stored = make(**args)
        assert not torch.allclose(streamed(fixed, x), streamed(stored, x), rtol=0, atol=1e-5)
        stored.images.table.copy_(linear_table(0.1, 0.8))
        torch.testing.assert_close(streamed(fixed, x), streamed(stored, x), rtol=0, atol=1e-5)

    def test_a_shorter_stride_adds_outputs_and_changes_none(self) -> None:
        x = night(n_epochs=4)
        args = {"context_epochs": 0, "last_columns": "leave_out"}
        coarse, fine = streamed(make(**args), x), streamed(make(**args, stride_s=5), x)
        torch.testing.assert_close(fine[5::6], coarse, rtol=0, atol=1e-5)

    def test_the_number_of_columns_of_an_image_varies_by_one(self) -> None:
        framing = make().images.framing
        sizes = set()
        for step in range(7, 100):
            first, stop = framing.columns(step * 3000, n_complete=10**6)
            centres = [67 * i + 150 for i in (first - 1, first, stop - 1, stop)]
            start, end = step * 3000 - 9000 - 3000 - 6000, step * 3000 - 9000 + 6000
            assert centres[0] <= start < centres[1]
            assert centres[2] < end <= centres[3]
            sizes.add(stop - first)
        assert sizes == {223, 224}

    def test_columns_are_computed_once_at_a_hop_of_one_second(self) -> None:
        model = make(stride_s=1, context_epochs=0, last_columns="leave_out")
        n_computed: list[int] = []
        model.images.spectrogram.register_forward_hook(lambda _module, _args, out: n_computed.append(len(out)))
        x = night(n_epochs=2)
        streamed(model, x)
        assert sum(n_computed) == model.images.spectrogram.n_columns(len(x))

    def test_rows_at_other_positions_keep_their_own_columns_and_phases(self) -> None:
        model = make(head="convlstm_recurrent", context_epochs=0, stride_s=15)
        x = night(n_epochs=5)
        later, _ = run(model, x[None, None, 4500:])
        _, early_state = run(model, x[None, None, :4500])
        both = tuple(torch.cat(parts) for parts in zip(early_state, model.initial_state(1), strict=True))
        logits, _ = run(model, x[4500:].expand(2, 1, -1), both)
        torch.testing.assert_close(logits[0, :, 0], streamed(model, x)[3:], rtol=0, atol=1e-5)
        torch.testing.assert_close(logits[1:], later, rtol=0, atol=1e-5)


def test_logits_do_not_drift() -> None:
    """Golden outputs of fixed weights on a fixed signal."""
    model = make(context_epochs=0, last_columns="leave_out", n_filters=4)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 0.1 if weight.ndim == 1 else (2 / weight[0].numel()) ** 0.5
            weight.copy_(torch.from_numpy(rng.normal(0.0, scale, tuple(weight.shape))))
        model.features[0].weight.mul_(1 / 64)
    t = torch.arange(6000) / 100
    x = 20 * torch.sin(2 * torch.pi * 10 * t) * (t % 7 < 3) + 5 * torch.sin(2 * torch.pi * (2 + t / 10) * t)
    golden = torch.tensor([-1.73659, -1.00970, 0.21462, 0.41371, -0.80130, 0.06017])
    torch.testing.assert_close(streamed(model, x)[1], golden, rtol=1e-3, atol=1e-4)
    assert (streamed(model, torch.zeros(6000))[1] - golden).abs().max() > 0.1


@pytest.mark.parametrize("head", ["cnn", "convlstm", "convlstm_recurrent"])
def test_dropout_acts_in_training_only(head: str) -> None:
    model = make(head=head, context_epochs=0)
    x = night(n_epochs=3)[None, None]
    trained = [model.train()(x, model.initial_state(1))[0] for _ in range(2)]
    assert not torch.equal(*trained)
    scored = [model.eval()(x, model.initial_state(1))[0] for _ in range(2)]
    assert torch.equal(*scored)
    undropped = make(head=head, context_epochs=0, dropout=0.0).train()
    torch.testing.assert_close(undropped(x, undropped.initial_state(1))[0], scored[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["cnn", "convlstm", "convlstm_recurrent"])
def test_all_weights_learn_from_a_sequence(head: str) -> None:
    model = make(head=head, context_epochs=0)
    logits, _ = model(night(n_epochs=4)[None, None], model.initial_state(1))
    logits[0, 1:].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.features.parameters())
    gates = getattr(model.head, "gates", None)
    if gates is not None:
        uses_memory = bool(gates.weight.grad[:, model.n_maps :].any())
        assert uses_memory == (head == "convlstm_recurrent")


def test_a_fitted_table_is_saved_with_the_weights_and_no_other() -> None:
    kinds = {
        "stored": {},
        "running": {},
        "calibration": {"calibration_s": 60},
        "fixed": {"fixed_db": (0, 5)},
    }
    has_table = {
        kind: "images.table" in make(equalisation=kind, **args).state_dict() for kind, args in kinds.items()
    }
    assert has_table == {"stored": True, "running": False, "calibration": False, "fixed": False}


def test_an_image_of_a_night_passes_in_blocks() -> None:
    model = make(stride_s=1, context_epochs=0, last_columns="leave_out")
    sizes: list[int] = []
    model.features.register_forward_hook(lambda _module, args, _out: sizes.append(len(args[0])))
    run(model, night(n_epochs=2)[None, None, :4000])
    assert sizes == [16, 16, 8]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stride_s": 7}, "stride_s 7.0 must divide epoch_s 30.0"),
        ({"stride_s": 0.005}, "stride_s 0.005 is not a whole number of samples"),
        ({"epoch_s": 30.005}, "epoch_s 30.005 is not a whole number of samples"),
        ({"column_step_s": 3.5}, "window of 300 samples every 350 samples must overlap"),
        ({"epoch_s": 3, "stride_s": 3}, "fit into an epoch of 300"),
        ({"max_hz": 51}, "max_hz 51.0 is above half the sampling rate, 50.0 Hz"),
        ({"n_tapers": 7}, "n_tapers 7 exceeds 2"),
        ({"calibration_s": 600}, "give calibration_s with equalisation 'calibration', and only with it"),
        ({"equalisation": "calibration"}, "give calibration_s with equalisation 'calibration'"),
        ({"equalisation": "calibration", "calibration_s": 20}, "calibration_s 20.0 must be at least an epoch"),
        ({"equalisation": "fixed"}, "give fixed_db with equalisation 'fixed'"),
        ({"equalisation": "fixed", "fixed_db": (9, 1)}, "must rise"),
        ({"head": "convlstm", "n_hidden": 9}, "n_hidden belongs to head 'cnn', the head is 'convlstm'"),
        ({"image_size": 100}, "multiple of 32"),
        ({"n_filters": 0}, "greater than or equal to 1"),
        ({"n_classes": 1}, "greater than or equal to 2"),
        ({"dropout": 1.0}, "less than 1"),
        ({"variant": "causal"}, "variant"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**wrong)


def test_the_column_step_follows_the_context() -> None:
    steps = [Config(context_epochs=context).column_step_samples for context in (0, 1, 2)]
    assert steps == [13, 67, 67]
    assert Config(column_step_s=0.5).column_step_samples == 50
    assert Config(sfreq=200.0).column_step_samples == 134


@pytest.mark.parametrize(("equalisation", "is_kept"), [("running", True), ("calibration", False)])
def test_a_gap_keeps_running_counts_and_nothing_else(equalisation: str, is_kept: bool) -> None:
    contract = TestCausal()
    more = {} if is_kept else {"calibration_s": 16.0}
    contract.args = {**TestCausal.args, "equalisation": equalisation, **more}  # type: ignore[misc]
    model = contract.make()
    _, state = run(model, contract.stream(model))
    assert state[3].sum() > 0
    left, fresh = model.state_after_gap(state, 2), model.initial_state(1)
    assert torch.equal(left[3], state[3] if is_kept else fresh[3])
    assert all(torch.equal(a, b) for a, b in zip(left[:3], fresh[:3], strict=True))
