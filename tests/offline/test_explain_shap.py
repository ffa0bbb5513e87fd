"""Deep SHAP adds up, and gives what can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offline.convert_roi_rnn import convert
from offline.explain import shap as module
from offline.explain.shap import Unrolled, deep_shap, shap, unrolled
from offline.parcels import read
from streamscore.errors import ConfigError, LoopError, RecordingError
from streamscore.models import roi_rnn, tinysleepnet
from tests.offline.explaining import given, written

SHARED = Path(__file__).parents[3] / "shared" / "data"
KERAS = SHARED / "golden" / "roi_gru_keras.npz"
TRACES = SHARED / "wfci_roi_run_rest" / "parcels_10hz.npz"
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {"half_window_frames": 3},
    "published, both ways": {"half_window_frames": 3, "direction": "bi"},
    "causal": {"variant": "causal"},
    "lookahead": {"variant": "lookahead", "direction": "bi", "look_ahead_s": 0.1},
    "logistic gates": {"half_window_frames": 3, "recurrent_activation": "sigmoid"},
}


def network(seed: int = 0, scale: float = 2.0, **args: Any) -> roi_rnn.RoiRnn:
    """Random weights, large enough to drive hard sigmoids into their flat parts."""
    torch.manual_seed(seed)
    model = roi_rnn.build(roi_rnn.Config(**{"n_channels": 5, "n_hidden": 6, **args})).requires_grad_(False)
    for part in model.parameters():
        part.mul_(scale)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cell", ["simple", "gru", "lstm"])
def test_values_and_mean_background_add_up_to_the_prediction(cell: str, variant: str) -> None:
    args = VARIANTS[variant]
    if cell == "simple" and "recurrent_activation" in args:
        args = {"half_window_frames": 3}
    model = network(cell=cell, **args)
    written_out = unrolled(model, window_frames=6)
    rng = torch.Generator().manual_seed(1)
    windows, background = (torch.randn(n, written_out.n_frames, 5, generator=rng) for n in (4, 6))
    # It is the network itself, from a zero state ...
    logits, _ = model(windows.transpose(1, 2), model.initial_state(4))
    told = torch.softmax(logits[:, -1, -1], dim=-1)[:, 1]
    torch.testing.assert_close(written_out(windows.double()).float(), told, rtol=0, atol=1e-5)
    # ... and its values add up, to far less than what is asked for.
    values, error = deep_shap(written_out, windows, background)
    assert error < 1e-9
    assert np.abs(values).sum(axis=(1, 2)).min() > 1e-3


def test_regions_without_weight_have_no_value() -> None:
    model = network(cell="gru", half_window_frames=3)
    model.forward_cell.weight_x[[0, 2, 3, 4]] = 0.0
    values, _ = deep_shap(unrolled(model, 6), torch.randn(3, 7, 5), torch.randn(4, 7, 5))
    assert np.abs(values[..., [0, 2, 3, 4]]).max() == 0.0
    assert np.abs(values[..., 1]).max() > 1e-4


def test_a_single_step_shares_its_gain_as_by_hand() -> None:
    """One frame, one unit of the simple cell: the rescale rule is difference out / difference in."""
    model = network(cell="simple", variant="causal", n_hidden=1, n_channels=2, scale=1.0)
    written_out = unrolled(model, window_frames=1)
    windows, background = torch.tensor([[[0.7, -0.3]]]), torch.tensor([[[0.1, 0.4]]])
    values, _ = deep_shap(written_out, windows, background.expand(2, -1, -1))
    weight = model.forward_cell.weight_x[:, 0].double().numpy()
    shares = weight * (windows - background)[0, 0].double().numpy()
    gain = float(written_out(windows.double()) - written_out(background.double()))
    np.testing.assert_allclose(values[0, 0], shares / shares.sum() * gain, rtol=1e-6)


def test_a_product_is_shared_between_its_factors_by_shapley() -> None:
    """For a·b the value of a is Δa times the mean of b over input and background."""

    class Product(Unrolled):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.rules, self._next, self._is_built = torch.nn.ModuleList(), 0, False
            self(torch.zeros(1, 1, 2, dtype=torch.float64))
            self._is_built = True

        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            self._next = 0
            return self._times(windows[:, 0, 0], windows[:, 0, 1])

    values, error = deep_shap(Product(), torch.tensor([[[3.0, -2.0]]]), torch.tensor([[[1.0, 5.0]]] * 2))
    assert error < 1e-12
    np.testing.assert_allclose(values[0, 0], [(3 - 1) * (-2 + 5) / 2, (-2 - 5) * (3 + 1) / 2])


def test_a_recording_is_explained_where_it_is_scored(tmp_path: Path) -> None:
    model = network(cell="gru", half_window_frames=3)
    x = torch.randn(1, 5, 60, generator=torch.Generator().manual_seed(2))
    what = given(x[..., :40], x[..., 40:], sfreq=30.0, states=[0, 1], epoch_s=0.5)
    found = shap(model, what, tuple("abcde"), n_windows=12, n_background=9)
    arrays = written(found, tmp_path)
    assert arrays["values"].shape == (12, 7, 5)
    assert found.figures["additivity_error"] < module.TOLERANCE
    assert found.figures["state_error"] < 1e-5  # a published window starts from zero in the engine, too
    np.testing.assert_allclose(arrays["lag_s"], np.arange(-3, 4) / 30.0)
    total = arrays["values"].sum(axis=(1, 2)) + arrays["background_prediction"]
    np.testing.assert_allclose(total, arrays["prediction"], atol=module.TOLERANCE)
    assert (arrays["truth"] == what.truth(arrays["t_s"], 1 / 30)).all()


def test_values_that_do_not_add_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a tensor of its own for each module, captum replaces what others need.
    monkeypatch.setattr(torch.Tensor, "clone", lambda self, **_: self)
    model = network(cell="gru", half_window_frames=3)
    with pytest.raises(LoopError, match=r"off by .* from the prediction"):
        shap(model, given(torch.randn(1, 5, 30)), tuple("abcde"), n_windows=3, n_background=3)


def test_other_networks_and_short_recordings_are_refused() -> None:
    with pytest.raises(ConfigError, match="TinySleepNet is no ROI-RNN"):
        shap(tinysleepnet.build(tinysleepnet.Config(n_filters=2, n_hidden=2)), given(torch.zeros(1, 1, 9)), ("a",))
    with pytest.raises(RecordingError, match="fewer than two windows of 7 frames"):
        shap(network(half_window_frames=3), given(torch.zeros(1, 5, 7)), tuple("abcde"))


@pytest.mark.skipif(not KERAS.is_file() or not TRACES.is_file(), reason=f"{SHARED} is not here: kept outside")
def test_the_published_weights_on_real_traces() -> None:
    config = roi_rnn.Config()
    model = roi_rnn.build(config).requires_grad_(False)
    with np.load(KERAS, allow_pickle=False) as arrays:
        model.load_state_dict(convert(dict(arrays), config))
    dff = read(TRACES).dff[:200]
    dff = np.concatenate([dff, dff[:, :2]], axis=1)
    low, high = dff.min(axis=0), dff.max(axis=0)
    x = torch.from_numpy(((dff - low) / (high - low)).T.copy())[None]
    found = shap(model, given(x, sfreq=30.0), tuple(map(str, range(1, 51))), n_windows=5, n_background=8)
    assert found.figures["additivity_error"] < 1e-6
    assert found.figures["state_error"] < 1e-5
