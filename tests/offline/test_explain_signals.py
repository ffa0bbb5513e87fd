"""Sensitivity, filters, memory cells and salient waves of networks for signals, against what can be worked out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from offline.explain.filters import activity_by_stage, filters, tuning_hz
from offline.explain.memory import cells_of, eta_squared, memory
from offline.explain.salience import intervals, look, salience
from offline.explain.sensitivity import scaled, sensitivity, slopes
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import AASM5, RK6
from streamscore.models import deepsleepnet, roi_rnn, salientsleepnet, tinysleepnet, vgg16
from tests.offline.explaining import given, written


def test_the_slope_of_a_linear_network_is_its_weight() -> None:
    """Of two classes with logits (0, w·x) the loss of class 1 has the slope (p - 1) w, that of class 0 p w."""
    weight = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))

    def classify(images: torch.Tensor) -> torch.Tensor:
        log_odds = (images * weight).sum(dim=(1, 2, 3))
        return torch.stack((torch.zeros_like(log_odds), log_odds), dim=1)

    images = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    p = torch.softmax(classify(images), dim=1)[:, 1].numpy()
    found, codes = slopes(classify, images, torch.tensor([0, 1, -1]))
    expected = np.abs(np.array([p[0], p[1] - 1.0, min(p[2], 1.0 - p[2])]))
    size = weight.abs().sum(dim=0).numpy()
    np.testing.assert_allclose(found, expected[:, None, None] * size, rtol=1e-4, atol=1e-7)
    assert codes.tolist() == [0, 1, int(p[2] > 0.5)]
    np.testing.assert_allclose(scaled(found[0]), scaled(size), atol=1e-5)
    assert scaled(size).min() == 0.0
    assert scaled(size).max() == 1.0


def test_a_vgg_that_sees_one_band_is_sensitive_there(tmp_path: Path) -> None:
    """Only the lowest third of the image reaches the last layer."""
    torch.manual_seed(0)
    model = vgg16.build(
        vgg16.Config(sfreq=64.0, context_epochs=0, equalisation="running", image_size=96, n_filters=2, n_hidden=4,
                     last_columns="leave_out")
    ).requires_grad_(False)  # fmt: skip
    model.head.fc6.weight[:, :, :2] = 0.0
    x = torch.randn(1, 1, 64 * 30 * 4, generator=torch.Generator().manual_seed(1)) * 30.0
    # Small logits, so that no loss is saturated.
    model.head.fc8.weight /= model(x, model.initial_state(1))[0].abs().max()
    what = given(x, sfreq=64.0, states=[5, 0, 5, 5], epoch_s=30.0, labels=RK6)
    found = sensitivity(model, what)
    arrays = written(found, tmp_path)
    assert [found.figures[label]["n_images"] for label in RK6] == [
        1,
        0,
        0,
        0,
        0,
        2,
    ]  # the first image is not whole
    assert np.isnan(arrays["maps"][1]).all()
    of_rem = arrays["maps"][5]
    assert of_rem.max() == 1.0
    # The band is the lowest 32 rows of 96; the convolutions before it reach further up.
    assert of_rem[64:].mean() > 3 * of_rem[:32].mean()
    assert found.figures["REM"]["foremost_hz"] < 15.0


def test_a_recording_too_short_for_an_image_is_refused() -> None:
    model = vgg16.build(vgg16.Config(sfreq=64.0, equalisation="running", image_size=32, n_filters=1, n_hidden=2))
    what = given(torch.zeros(1, 1, 64 * 60), sfreq=64.0, labels=RK6)
    with pytest.raises(RecordingError, match=r"too short for one image, which takes 181\.484 s"):
        sensitivity(model, what)


def rhythms(stages: list[int], hz: dict[int, float], sfreq: float, epoch_s: float) -> torch.Tensor:
    """Epochs of a sine each, at a frequency that the stage decides."""
    t_s = np.arange(round(epoch_s * sfreq)) / sfreq
    epochs = [np.sin(2 * np.pi * hz[stage] * t_s) for stage in stages]
    return torch.from_numpy(np.concatenate(epochs).astype(np.float32))[None, None]


STAGES = [0, 3, 3, 0, 3, 0, 0, 3]
#: Not in step with the stride of the large filters.
HZ = {0: 12.3, 3: 2.3}


@pytest.mark.parametrize("kind", ["tiny", "deep"])
def test_filters_answer_to_the_stage_of_their_frequency(kind: str, tmp_path: Path) -> None:
    sfreq, epoch_s = 64.0, 10.0
    args = {"sfreq": sfreq, "epoch_s": epoch_s, "n_filters": 4, "n_hidden": 4}
    if kind == "tiny":
        model = tinysleepnet.build(tinysleepnet.Config(**args)).requires_grad_(False)
        convs, key = [model.conv1.conv], "filters"
    else:
        model = deepsleepnet.build(deepsleepnet.Config(**args)).requires_grad_(False)
        convs, key = [model.cnn.small.first.conv, model.cnn.large.first.conv], "large_filters"
    for conv in convs:
        n = conv.weight.shape[2]
        t_s = torch.arange(n) / sfreq
        window = torch.hann_window(n)
        for k, hz in enumerate((2.3, 12.3, 2.3, 12.3)):
            conv.weight[k, 0] = window * torch.sin(2 * torch.pi * hz * t_s)
    what = given(rhythms(STAGES, HZ, sfreq, epoch_s), sfreq=sfreq, states=STAGES, epoch_s=epoch_s, labels=AASM5)
    found = filters(model, what)
    arrays = written(found, tmp_path)
    by_stage = arrays[f"{key}_by_stage"]
    assert by_stage.shape == (5, 4)
    assert np.isnan(by_stage[[1, 2, 4]]).all()
    assert by_stage[[0, 3]].argmax(axis=0).tolist() == [1, 0, 1, 0]
    assert arrays["truth"].tolist() == STAGES
    np.testing.assert_allclose(arrays[f"{key}_tuning_hz"], [2.3, 12.3, 2.3, 12.3], atol=1.0)
    assert found.figures["sorted_by"] == "labels of the file"


def test_tuning_and_means_are_those_of_the_arrays() -> None:
    t_s = np.arange(256) / 128.0
    kernels = np.stack([np.sin(2 * np.pi * hz * t_s) for hz in (4.0, 20.0)])[:, None].astype(np.float32)
    np.testing.assert_allclose(tuning_hz(kernels, 128.0), [4.0, 20.0], atol=0.2)
    activity = np.array([[1.0, 0.0], [3.0, 2.0], [9.0, 9.0]], np.float32)
    means = activity_by_stage(activity, np.array([0, 0, -1], np.int8), 2)
    np.testing.assert_array_equal(means, [[2.0, 1.0], [np.nan, np.nan]])


def test_eta_squared_is_the_share_between_stages() -> None:
    codes = np.array([0, 0, 1, 1, -1], np.int8)
    traces = np.array([[0, 0, 5], [0, 2, 5], [4, 0, 5], [4, 2, 5], [99, 99, 99]], np.float32)
    np.testing.assert_allclose(eta_squared(traces, codes), [1.0, 0.0, 0.0])
    mixed = np.array([[0.0], [2.0], [2.0], [4.0], [0.0]], np.float32)
    assert eta_squared(mixed, codes)[0] == pytest.approx(0.5)


def test_cells_are_those_that_the_network_carries() -> None:
    torch.manual_seed(1)
    args = {"sfreq": 64.0, "epoch_s": 10.0, "n_filters": 2, "n_hidden": 4}
    x = torch.randn(1, 1, 640 * 6)
    epochs = x.reshape(6, 1, 640)
    deep = deepsleepnet.build(deepsleepnet.Config(variant="causal", **args)).requires_grad_(False)
    tiny = tinysleepnet.build(tinysleepnet.Config(**args)).requires_grad_(False)
    for model, names in ((deep, {"lower layer": 0, "upper layer": 2}), (tiny, {"LSTM": 0})):
        found = cells_of(model, epochs)
        assert set(found) == set(names)
        state = model.initial_state(1)
        for k in range(6):
            _, state = model(x[..., 640 * k : 640 * (k + 1)], state)
            for name, part in names.items():
                np.testing.assert_allclose(found[name][k], state[part][0].numpy(), atol=1e-5)


def test_memory_starts_afresh_after_a_gap(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = tinysleepnet.build(
        tinysleepnet.Config(sfreq=64.0, epoch_s=10.0, n_filters=2, n_hidden=8)
    ).requires_grad_(False)
    x = torch.randn(1, 1, 640 * 5) * 5.0
    what = given(x, x, sfreq=64.0, states=[0, 1, 2, 3, 4, -1, 0, 1, 2], epoch_s=10.0, labels=AASM5)
    found = memory(model, what)
    arrays = written(found, tmp_path)
    cells = arrays["LSTM_cells"]
    np.testing.assert_array_equal(cells[:5], cells[5:])
    assert arrays["begin_s"].tolist() == [0, 10, 20, 30, 40, 51, 61, 71, 81, 91]
    assert all(0.0 <= one["eta_squared"] <= 1.0 for one in found.figures["foremost"])


def pass_through(variant: str) -> salientsleepnet.SalientSleepNet:
    """A SalientSleepNet whose only path keeps each positive sample as it is: every map but one is 0."""
    model = salientsleepnet.build(
        salientsleepnet.Config(variant=variant, sfreq=10.0, n_channels=1, epoch_s=30.0, window_epochs=4,
                               filters=(4, 4), pools=(5,), scale_filters=(3, 3), u_filters=2)
    ).requires_grad_(False)  # fmt: skip
    for part in model.parameters():
        part.zero_()
    for name, part in model.named_parameters():
        if name.endswith("norm.weight"):
            part.fill_((1.0 + 1e-3) ** 0.5)
    last = -1 if variant == "causal" else None

    def open_path(conv: torch.nn.Conv1d, channel: int = 0) -> None:
        n = conv.weight.shape[2]
        conv.weight[0, channel, n - 1 if last else n // 2] = 1.0

    stream = model.streams[0]
    open_path(stream.encoder[0].outer.conv)
    open_path(stream.narrow_encoder[0][0])
    open_path(stream.scales[0].scales[0].conv)
    for conv in stream.scales[0].narrow:
        open_path(conv)
    open_path(stream.decoder[0].outer.conv, channel=stream.scales[1].n_out)
    model.mix.weight[0, 0, 0] = 1.0
    open_path(model.over_epochs)
    model.over_epochs.weight[2, 0] = 2.0 * model.over_epochs.weight[0, 0]
    model.over_epochs.bias[1] = 0.25
    return model


@pytest.mark.parametrize("variant", ["published", "causal"])
def test_salience_peaks_at_the_wave(variant: str, tmp_path: Path) -> None:
    model = pass_through(variant)
    x = torch.zeros(1, 1, 300 * 4)
    wave = torch.hann_window(21, periodic=False)
    x[0, 0, 640:661] = wave  # epoch 2, 4 s after its start, 2 s long
    window, _ = look(model, x, model.initial_state(1))
    np.testing.assert_allclose(window.salience.reshape(-1), x[0, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(window.logits[:, 0].max(), torch.tanh(wave).sum() / 300.0, atol=1e-5)
    what = given(x, sfreq=10.0, states=[0, 0, 2, 0], epoch_s=30.0, labels=AASM5)
    found = salience(model, what, ("EEG",))
    arrays = written(found, tmp_path)
    (marked,) = arrays["waves"]
    assert marked[:2].tolist() == [2, 0]
    assert 39 <= marked[2] <= 42
    assert 59 <= marked[3] <= 62
    assert found.figures["N2, EEG"]["waves_an_epoch"] == 1.0
    assert found.figures["W, EEG"]["waves_an_epoch"] == 0.0
    assert found.figures["N2, EEG"]["relative_size"] > 2.0


@pytest.mark.parametrize(("variant", "n_channels"), [("published", 1), ("published", 2), ("causal", 2)])
def test_the_evidence_of_an_epoch_adds_up_to_what_it_adds_to_its_logit(variant: str, n_channels: int) -> None:
    torch.manual_seed(4)
    model = salientsleepnet.build(
        salientsleepnet.Config(variant=variant, sfreq=10.0, n_channels=n_channels, window_epochs=4, filters=(4, 4),
                               pools=(5,), scale_filters=(3, 3), u_filters=2)
    ).requires_grad_(False)  # fmt: skip
    kernel = model.over_epochs.weight
    tap = kernel.shape[2] - 1 if variant == "causal" else kernel.shape[2] // 2
    others = torch.arange(kernel.shape[2]) != tap
    kernel[:, :, others] = 0.0
    window, _ = look(model, torch.randn(1, n_channels, 1200), model.initial_state(1))
    bias = model.over_epochs.bias.numpy()
    chosen = window.logits[np.arange(4), window.codes] - bias[window.codes]
    np.testing.assert_allclose(window.evidence.mean(axis=1), chosen, atol=1e-5)


def test_close_intervals_are_joined_and_short_ones_dropped() -> None:
    curve = np.zeros(3000)
    curve[1000:1100] = curve[1110:1160] = 1.0  # 0.1 s apart
    ((begin, end),) = intervals(curve, 100.0)
    assert 985 <= begin <= 1000
    assert 1160 <= end <= 1175
    ramp = np.linspace(0.0, 1.0, 3000)
    ramp[100:105] += 5.0  # high for less than 0.2 s, smoothing included
    ((begin, end),) = intervals(ramp, 100.0)
    assert 2685 <= begin <= 2730
    assert end == 3000
    assert intervals(np.ones(3000), 100.0) == []


def test_other_networks_are_refused() -> None:
    model = roi_rnn.build(roi_rnn.Config(n_channels=1))
    what = given(torch.zeros(1, 1, 10))
    for method in (filters, memory, sensitivity):
        with pytest.raises(ConfigError, match=r"WindowedRoiRnn .*; give a bundle of"):
            method(model, what)
    with pytest.raises(ConfigError, match="marks no waves"):
        salience(model, what, ("EEG",))
