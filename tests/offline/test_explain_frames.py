"""Grad-CAM, attention and cut-out importance find what networks with known answers look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from offline.explain.attention import attention, weights_of
from offline.explain.cut_out import area_under, cut_out, map_of, retrained, squares
from offline.explain.grad_cam import grad_cam
from offline.explain.moments import Moment, moments
from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import MOUSE3
from streamscore.models import cnn_bilstm, efficientnet, tinysleepnet
from tests.offline.explaining import SIDE, Place, given, written

UPPER_LEFT = slice(0, 8), slice(0, 8)
LOWER_RIGHT = slice(24, 32), slice(24, 32)


def movie(codes: np.ndarray, noise: float = 0.0) -> torch.Tensor:
    """Frames ``(1, n, SIDE, SIDE)``, bright at the place of the state."""
    rng = np.random.default_rng(0)
    x = noise * rng.standard_normal((1, len(codes), SIDE, SIDE)).astype(np.float32)
    for place, code in ((UPPER_LEFT, 1), (LOWER_RIGHT, 0)):
        x[0, codes == code, place[0], place[1]] += 1.0
    return torch.from_numpy(x)


def test_grad_cam_lights_up_the_place_of_each_state(tmp_path: Path) -> None:
    codes = np.repeat([0, 1, 1, 0, 1], 10)
    what = given(movie(codes), states=[0, 1, 1, 0, 0])
    found = grad_cam(Place(UPPER_LEFT, LOWER_RIGHT, epoch_frames=10), what)
    arrays = written(found, tmp_path)
    # The network tells of an epoch by its last frame alone.
    assert arrays["codes"].tolist() == [0, 1, 1, 0, 1]
    rest, run = arrays["mean_heat"]
    assert run[UPPER_LEFT].min() > 0.0
    assert run[LOWER_RIGHT].max() == 0.0
    assert rest[LOWER_RIGHT].min() > 0.0
    assert rest[UPPER_LEFT].max() == 0.0
    assert found.figures["run"]["precision"] == pytest.approx(2 / 3)
    assert found.figures["run"]["n_epochs"] == 3


@pytest.mark.parametrize(
    "args",
    [
        {"context_frames": 4},
        {"variant": "causal"},
        {"variant": "lookahead", "look_ahead_s": 0.5, "max_look_ahead_s": 1.0},
    ],
)
@pytest.mark.parametrize("kind", ["code", "paper"])
def test_attention_weights_rebuild_what_is_read(args: dict[str, object], kind: str) -> None:
    torch.manual_seed(3)
    frames = {} if "variant" not in args else {"attention_frames": 8}
    config = cnn_bilstm.Config(
        attention=kind, sfreq=8.0, frame_shape=(16, 16), epoch_frames=8, n_filters=4, n_blocks=2, n_hidden=4,
        **frames, **args,
    )  # fmt: skip
    model = cnn_bilstm.build(config)
    with torch.no_grad():
        for part in model.attention.parameters():
            part.mul_(6.0)
    what = given(torch.randn(1, 40, 16, 16), sfreq=8.0, labels=MOUSE3, states=[0, 1, 2, 0, 1])
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = model.attention.register_forward_hook(lambda _m, given_, read: seen.append((given_[1], read)))
    found = attention(model, what)
    handle.remove()
    weights = found.arrays["weights"]
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    assert weights.std() > 1e-3
    # The network reads batches of steps; the single calls are those whose slope was taken, and what each gave is
    # the weighted sum of its values.
    entries, read = [call for call in seen if call[0].ndim == 2][-1]
    values = entries[..., : model.attention.n_values]
    np.testing.assert_allclose(weights[-1] @ values.detach().numpy(), read.detach().numpy(), atol=1e-5)
    assert set(found.figures) == {"sorted_by", *MOUSE3}


def test_attention_is_that_of_the_final_read_and_of_the_epoch_described() -> None:
    """With two reads a step; a bright frame is found at its own time, whichever the look-ahead."""
    torch.manual_seed(0)
    model = cnn_bilstm.build(
        cnn_bilstm.Config(variant="lookahead", attention="paper", sfreq=8.0, frame_shape=(16, 16), epoch_frames=8,
                          attention_frames=8, n_filters=4, n_blocks=2, n_hidden=4, look_ahead_s=0.5,
                          max_look_ahead_s=1.0)
    )  # fmt: skip
    with torch.no_grad():
        x = torch.zeros(1, 24, 16, 16)
        x[0, 10] = 8.0
        bare, _ = weights_of(
            Moment(model, 0.0, torch.zeros(1, 12, 16, 16), model.initial_state(1)), model.attention
        )
    what = given(x, sfreq=8.0, labels=MOUSE3)
    moment = list(moments(model, what))[1]
    assert moment.begin_s == pytest.approx(1.0)
    assert moment.x.shape[1] == 12
    with torch.no_grad():
        weights, _ = weights_of(moment, model.attention)
        quiet = Moment(model, 1.0, torch.zeros_like(moment.x), moment.state)
        without, _ = weights_of(quiet, model.attention)
    assert bare.shape == weights.shape == (8,)
    assert int(np.abs(np.diff(weights - without, prepend=0.0)).argmax()) in (2, 3)


def test_squares_cover_every_cell_alike_with_wrapping() -> None:
    masks, cells = squares((SIDE, SIDE), wrap=True)
    assert masks.shape == (64, SIDE, SIDE)
    assert (masks.sum(axis=(1, 2)) == (SIDE // 4) ** 2).all()
    assert (masks.sum(axis=0) == 4).all()
    assert (np.bincount(cells.ravel()) == 4).all()
    inner, _ = squares((SIDE, SIDE), wrap=False)
    assert len(inner) == 49
    # Inside the frame a square is in one piece.
    assert all(np.ptp(np.flatnonzero(mask.any(axis=0))) == SIDE // 4 - 1 for mask in inner)
    with pytest.raises(ConfigError, match="30 × 32 pixels cannot be cut"):
        squares((30, 32), wrap=True)


def test_cut_out_finds_the_cell_that_decides(tmp_path: Path) -> None:
    codes = np.tile([0, 1, 0, 1, 1], 8)
    place = slice(8, 12), slice(20, 24)  # row 2, column 5 of the eighths
    nowhere = slice(0, 0), slice(0, 0)
    x = 0.02 * torch.randn(1, len(codes), SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    x[0, codes == 1, place[0], place[1]] += 1.0
    what = given(x, states=codes, epoch_s=0.1)
    told: list[int] = []
    found = cut_out(Place(place, nowhere), what, tell=lambda done, _: told.append(done))
    arrays = written(found, tmp_path)
    assert float(arrays["base_auc"]) == 1.0
    assert told == list(range(1, 65))
    assert np.unravel_index(arrays["importance"].argmax(), (8, 8)) == (2, 5)
    covers = (arrays["cells"] == 2 * 8 + 5).any(axis=1)
    assert (arrays["lost_auc"][~covers] == 0.0).all()
    # Without its place the network knows nothing: each of the four squares costs half of the AUC.
    np.testing.assert_allclose(arrays["lost_auc"][covers], 0.5, atol=1e-9)
    assert found.figures["foremost_cells"][0] == (2, 5)


def test_an_auc_takes_two_states_and_frames() -> None:
    with pytest.raises(RecordingError, match="labels of two states"):
        cut_out(Place(UPPER_LEFT, LOWER_RIGHT), given(movie(np.zeros(5)), states=[0]))
    signals = tinysleepnet.build(tinysleepnet.Config(n_filters=2, n_hidden=2))
    with pytest.raises(ConfigError, match="takes signals"):
        cut_out(signals, given(torch.zeros(1, 1, 3000)))
    with pytest.raises(ConfigError, match="takes signals"):
        list(moments(signals, given(torch.zeros(1, 1, 3000))))
    with pytest.raises(ConfigError, match="no attention over frames"):
        attention(
            efficientnet.build(efficientnet.Config(width=0.2, depth=0.2)), given(torch.zeros(1, 5, 128, 128))
        )


def test_a_recording_without_a_final_output_is_refused() -> None:
    model = Place(UPPER_LEFT, LOWER_RIGHT, epoch_frames=10)
    with pytest.raises(RecordingError, match="has 4 frames without a gap, and the first takes 10"):
        grad_cam(model, given(torch.zeros(1, 4, SIDE, SIDE)))


def test_the_area_of_several_states_is_their_mean() -> None:
    probs = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [np.nan] * 3], np.float32)
    assert area_under(probs, np.array([0, 1, 2, 0], np.int8)) == 1.0
    assert area_under(probs[:, ::-1], np.array([0, 1, 0, -1], np.int8)) == pytest.approx((0.75 + 1.0) / 2)


def test_the_map_of_retrained_networks() -> None:
    masks, cells = squares((SIDE, SIDE), wrap=True)
    loses = masks[:, 17, 9]  # row 4, column 2 of the eighths

    def train_and_score(wanted):  # type: ignore[no-untyped-def]
        assert wanted[0] is None
        return [0.9, *(0.7 if mask[17, 9] else 0.9 for mask in wanted[1:])]

    found = retrained((SIDE, SIDE), train_and_score, name="mice")
    np.testing.assert_allclose(found.arrays["lost_auc"], 0.2 * loses, atol=1e-9)
    np.testing.assert_allclose(found.arrays["importance"], map_of(0.2 * loses, cells), atol=1e-6)
    assert found.arrays["importance"][4, 2] == pytest.approx(0.2)
    assert found.arrays["importance"][4, 3] == pytest.approx(0.1)
