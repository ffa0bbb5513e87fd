from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from offline.convert_mvg_cnn import convert, keras_state, read_keras
from streamscore.bundle import load_bundle
from streamscore.errors import BundleError
from streamscore.features.visibility import visibility_graph
from streamscore.labels import vocabulary
from streamscore.models.base import ScoringModel
from streamscore.models.mvg_cnn import ABOUT, PARCELS, Config, MvgCnn, build
from tests.contracts.model import ModelContract, run

WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "golden" / "mvg_cnn_keras.npz"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the published weights are not on this machine")

SMALL = {"n_channels": 3, "window_frames": 12, "n_filters": (4, 5, 6)}


def small(**args: object) -> MvgCnn:
    torch.manual_seed(0)
    model = build(Config(**{**SMALL, **args}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
    return model


class MvgCnnContract(ModelContract):
    """Each sample is changed by an amount of its own: one offset for all of a trace leaves its graph as it is."""

    def touch(self, model: ScoringModel, x: Tensor, sample: int) -> Tensor:
        touched = x.clone()
        amount = np.random.default_rng(sample).normal(0.0, 20.0, x.shape[:2])
        touched[:, :, sample] += torch.from_numpy(amount.astype(np.float32))
        return touched


class TestPublished(MvgCnnContract):
    """Windows that do not overlap."""

    def make(self) -> MvgCnn:
        return small()


class TestSliding(MvgCnnContract):
    """A window of three steps."""

    def make(self) -> MvgCnn:
        return small(stride_frames=4, n_classes=2)


class TestSlidingByHalf(MvgCnnContract):
    """A window of two steps over two channels."""

    def make(self) -> MvgCnn:
        return small(stride_frames=6, n_channels=2)


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("stride", [1, 3, 4, 12])
def test_every_hop_gives_what_the_published_window_there_gives(stride: int) -> None:
    published, sliding = small(), small(stride_frames=stride)
    x = noise(2, 3, 48)
    logits, _ = run(sliding, x)
    for j in range(48 // stride):
        end = (j + 1) * stride
        if end >= 12:
            window, _ = run(published, x[:, :, end - 12 : end])
            torch.testing.assert_close(logits[:, j], window[:, 0], rtol=0, atol=1e-5)


def test_it_classifies_the_graphs_of_its_window() -> None:
    model = small()
    x = noise(2, 3, 12)
    with torch.inference_mode():
        logits = model.classify(visibility_graph(x).float())
    torch.testing.assert_close(run(model, x)[0][:, 0, 0], logits, rtol=0, atol=1e-6)


def test_its_layers_written_out_in_double_precision() -> None:
    """Convolution, LeakyReLU of 0.3, pool, in Keras' order: also where the published weights are not at hand."""
    model = small()
    weights = {name: value.double() for name, value in model.state_dict().items()}
    images = visibility_graph(noise(2, 3, 12)).float()
    x = images.double()
    for k in (1, 2, 3):
        x = F.conv2d(x, weights[f"conv{k}.weight"], weights[f"conv{k}.bias"], padding=1)
        x = torch.where(x > 0, x, 0.3 * x)
        if k < 3:
            size = x.shape[3] // 2
            x = x[:, :, : 2 * size, : 2 * size].reshape(2, -1, size, 2, size, 2).amax(dim=(3, 5))
    wanted = x.flatten(2).mean(dim=2) @ weights["head.weight"].T + weights["head.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(model.classify(images), wanted.float(), rtol=0, atol=1e-5)


def test_scaling_and_shifting_a_trace_changes_nothing() -> None:
    model = small()
    x = noise(1, 3, 12).mul(64).round()
    gains, offsets = torch.tensor([0.5, 1.0, 4.0]), torch.tensor([0.0, -7.0, 100.0])
    assert torch.equal(run(model, x)[0], run(model, x * gains[:, None] + offsets[:, None])[0])


class TestPublishedSize:
    """MODELS.md 1.5."""

    def test_numbers_of_parameters(self) -> None:
        model = build(Config())
        layers = (model.conv1, model.conv2, model.conv3, model.head)
        assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [10_400, 18_496, 73_856, 387]
        assert model.n_trainable() == 103_139

    def test_sizes_of_its_maps(self) -> None:
        model = build(Config())
        sizes: list[tuple[int, ...]] = []
        for layer in (model.conv1, model.conv2, model.conv3):
            layer.register_forward_hook(lambda _module, _args, out: sizes.append(tuple(out.shape[1:])))
        logits, _ = run(model, torch.zeros(1, 36, 168))
        assert sizes == [(32, 168, 168), (64, 84, 84), (128, 42, 42)]
        assert logits.shape == (1, 1, 1, 3)

    def test_timing_is_the_window(self) -> None:
        timing = build(Config()).timing
        assert (timing.step_samples, timing.epoch_samples, timing.receptive_field_samples) == (168, 168, 168)
        assert (timing.look_ahead_samples, timing.warm_up_samples) == (0, 168)

    def test_timing_of_a_sliding_window(self) -> None:
        timing = build(Config(stride_frames=21)).timing
        assert (timing.step_samples, timing.epoch_samples, timing.receptive_field_samples) == (21, 168, 168)
        assert (timing.look_ahead_samples, timing.warm_up_samples) == (0, 168)

    @pytest.mark.parametrize("name", ABOUT.examples)
    def test_its_examples_can_be_built(self, name: str) -> None:
        example = ABOUT.examples[name]
        model = build(Config(**example.args))
        assert model.n_channels == len(set(example.channels)) == 36
        assert model.n_classes == len(vocabulary(example.vocabulary))

    def test_parcels_at_the_rims_of_the_atlas_are_left_out(self) -> None:
        labels = {int(name.removeprefix("parcel-")) for name in PARCELS}
        assert labels == set(range(1, 41)) - {1, 20, 21, 40}


@needs_weights
class TestPublishedWeights:
    """Golden outputs of the checkpoint that the authors published (MODELS.md 1.5)."""

    def image(self, kind: str) -> Tensor:
        if kind == "neighbours":
            return torch.diag(torch.ones(167), 1) + torch.diag(torch.ones(167), -1)
        if kind == "trace":
            trace = torch.tensor([7919 * i % 1009 for i in range(168)], dtype=torch.float32)
            return visibility_graph(trace).float()
        return torch.full((168, 168), float(kind == "ones"))

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("trace", [0.018812, 0.005347, 0.975840]),
            ("zeros", [0.021077, 0.021634, 0.957289]),
            ("neighbours", [0.033383, 0.013036, 0.953581]),
            ("ones", [1.0, 0.0, 0.0]),
        ],
    )
    def test_golden_probabilities(self, kind: str, expected: list[float]) -> None:
        model = build(Config())
        model.load_state_dict(read_keras(WEIGHTS))
        with torch.inference_mode():
            probs = model.classify(self.image(kind).expand(1, 36, 168, 168)).softmax(dim=1)[0]
        torch.testing.assert_close(probs, torch.tensor(expected), rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("stride", "hop_s"), [(168, 10.0), (84, 5.0)])
    def test_golden_probabilities_of_a_stream_of_traces(self, tmp_path: Path, stride: int, hop_s: float) -> None:
        path = tmp_path / "mvg.safetensors"
        convert(WEIGHTS, path, stride)
        bundle = load_bundle(path)
        assert bundle.spec.channels == PARCELS
        assert bundle.spec.hop_s == pytest.approx(hop_s)
        trace = torch.tensor([7919 * i % 1009 for i in range(168)], dtype=torch.float32)
        logits, _ = run(bundle.model, trace.expand(1, 36, 168).contiguous())
        expected = torch.tensor([0.018812, 0.005347, 0.975840])
        torch.testing.assert_close(logits[0, -1, 0].softmax(dim=0), expected, rtol=0, atol=1e-5)


class TestConversion:
    """Weights in the layout of Keras become ours, or an error that says what is wrong."""

    def arrays(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        shapes = [(3, 3, 36, 32), (3, 3, 32, 64), (3, 3, 64, 128), (128, 3)]
        arrays = {}
        for k, shape in enumerate(shapes):
            arrays[f"layer_with_weights-{k}__kernel"] = rng.standard_normal(shape).astype(np.float32)
            arrays[f"layer_with_weights-{k}__bias"] = rng.standard_normal(shape[-1]).astype(np.float32)
        return arrays

    def test_kernels_are_turned(self) -> None:
        arrays = self.arrays()
        state = keras_state(arrays)
        build(Config()).load_state_dict(state)
        kernel = arrays["layer_with_weights-1__kernel"]
        assert state["conv2.weight"][5, 7, 0, 2] == kernel[0, 2, 7, 5]
        assert state["head.weight"][2, 100] == arrays["layer_with_weights-3__kernel"][100, 2]
        assert np.array_equal(state["conv3.bias"], arrays["layer_with_weights-2__bias"])

    def test_missing_and_unknown_arrays_are_named(self) -> None:
        arrays = self.arrays()
        arrays["beta_1"] = arrays.pop("layer_with_weights-2__bias")
        with pytest.raises(BundleError, match=r"missing layer_with_weights-2__bias; unknown beta_1"):
            keras_state(arrays)

    def test_a_wrong_shape_is_named(self) -> None:
        arrays = self.arrays()
        arrays["layer_with_weights-0__kernel"] = arrays["layer_with_weights-0__kernel"][:, :, :35]
        with pytest.raises(BundleError, match=r"layer_with_weights-0__kernel is \(3, 3, 35, 32\)"):
            keras_state(arrays)

    def test_a_file_of_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.npz"
        np.savez(path, **self.arrays())
        state = read_keras(path)
        assert all(torch.equal(state[key], value) for key, value in keras_state(self.arrays()).items())

    def test_an_error_names_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.npz"
        np.savez(path, beta_1=np.zeros(3))
        with pytest.raises(BundleError, match=r"weights\.npz.*unknown beta_1"):
            read_keras(path)

    @pytest.mark.parametrize("content", ["absent", "text", "truncated", "array", "pickle"])
    def test_what_is_no_archive_of_plain_arrays_is_refused(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "weights.npz"
        if content == "text":
            path.write_text("weights")
        elif content == "truncated":
            np.savez(path, a=np.zeros(100))
            path.write_bytes(path.read_bytes()[:200])
        elif content == "array":
            with path.open("wb") as file:
                np.save(file, np.zeros(3))
        elif content == "pickle":
            np.savez(path, a=np.array([{}], dtype=object))
        with pytest.raises(BundleError, match=r"weights\.npz: not an \.npz archive of plain arrays"):
            read_keras(path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"stride_frames": 50}, "stride_frames 50 does not divide window_frames 168"),
        ({"stride_frames": 0}, "greater than or equal to 1"),
        ({"window_frames": 3}, "greater than or equal to 4"),
        ({"n_filters": (32, 0, 128)}, "must be at least 1 each"),
        ({"n_classes": 1}, "greater than or equal to 2"),
        ({"sfreq": 16.8}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**args)
