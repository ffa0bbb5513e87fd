from __future__ import annotations

import numpy as np
import pytest
import torch

from streamscore.errors import ConfigError
from streamscore.models import cnn_bilstm
from streamscore.runner import Runner, choose_device
from tests.bundles import EPOCH, untrained
from tests.toys import STEP, Toy

X = torch.randn(3, 1, 2 * EPOCH, generator=torch.Generator().manual_seed(0))


def test_rows_are_streams_with_states_of_their_own() -> None:
    model = untrained()
    runner = Runner(model, 3)
    first = runner.step(X[:2, :, :EPOCH], [2, 0])
    second = runner.step(X[:2, :, EPOCH:], [2, 0])
    with torch.inference_mode():
        whole = torch.softmax(model(X[:2], model.initial_state(2))[0], -1).numpy()
    np.testing.assert_allclose(np.concatenate((first, second), 1), whole, atol=1e-6)
    fresh = runner.step(X[:1, :, :EPOCH], [1])  # the stream that was never stepped
    np.testing.assert_allclose(fresh, first[:1], atol=1e-6)


def test_a_gap_makes_its_stream_fresh_and_no_other() -> None:
    runner = Runner(untrained(), 2)
    first = runner.step(X[:2, :, :EPOCH], [0, 1])
    second = runner.step(X[:2, :, :EPOCH], [0, 1])
    assert not np.array_equal(second, first)
    runner.after_gap(1, 3)
    third = runner.step(X[:2, :, :EPOCH], [0, 1])
    np.testing.assert_array_equal(third[1], first[1])
    assert not np.array_equal(third[0], first[0])


def test_warming_up_changes_no_state() -> None:
    warm, cold = Runner(untrained(), 2), Runner(untrained(), 2)
    warm.warm_up(2)
    np.testing.assert_array_equal(warm.step(X[:1, :, :EPOCH], [0]), cold.step(X[:1, :, :EPOCH], [0]))


class Fragile(Toy):
    """Infinite at the step that holds a value above 50."""

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, tuple]:
        logits, state = super().forward(x, state)
        bad = x.reshape(x.shape[0], -1, STEP).amax(2)[..., None, None] > 50
        return torch.where(bad, torch.inf, logits), state


def test_what_is_not_finite_is_nan_and_only_its_stream_begins_afresh() -> None:
    x = torch.randn(2, 1, 4 * STEP, generator=torch.Generator().manual_seed(0))
    x[0, 0, STEP + 2] = 99.0
    runner = Runner(Fragile((0, 1)).eval(), 2)
    told = np.concatenate([runner.step(piece, [0, 1]) for piece in x.split(STEP, 2)], 1)
    assert np.isnan(told[0, 1]).all()
    assert np.isfinite(np.delete(told[0], 1, 0)).all()
    assert np.isfinite(told[1]).all()
    fresh = Runner(Fragile((0, 1)).eval(), 1)
    np.testing.assert_allclose(told[0, 2:], fresh.step(x[:1, :, 2 * STEP :], [0])[0], atol=1e-6)


def test_several_steps_at_once_break_as_one_by_one() -> None:
    x = torch.randn(1, 1, 4 * STEP, generator=torch.Generator().manual_seed(0))
    x[0, 0, STEP + 2] = 99.0
    at_once = Runner(Fragile((0, 1)).eval(), 1).step(x, [0])
    runner = Runner(Fragile((0, 1)).eval(), 1)
    np.testing.assert_allclose(
        at_once, np.concatenate([runner.step(p, [0]) for p in x.split(STEP, 2)], 1), atol=1e-6
    )


def test_bfloat16_is_near_float32_and_says_how_near() -> None:
    model = untrained()
    reduced = Runner(model, 1, precision="bfloat16")
    found = reduced.agreement()
    assert 0.0 < found.largest_difference < 0.1
    assert found.same_state >= 0.5
    probs = reduced.step(X[:1], [0])
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs, Runner(model, 1).step(X[:1], [0]), atol=0.1)
    assert Runner(model, 1).agreement().largest_difference == 0.0


def test_recurrent_layers_of_torch_run_in_bfloat16_too() -> None:
    config = cnn_bilstm.Config(variant="causal", n_filters=4, n_hidden=4, frame_shape=(16, 16), attention_frames=3)
    torch.manual_seed(0)
    model = cnn_bilstm.build(config)
    movie = torch.randn(1, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    exact = Runner(model).step(movie, [0])
    reduced = Runner(model, precision="bfloat16")
    got = reduced.step(movie, [0])
    assert 0 < np.abs(got - exact).max() < 0.05
    assert reduced.agreement(8).largest_difference < 0.05
    np.testing.assert_array_equal(Runner(model).step(movie, [0]), exact)  # a later float32 runner is not affected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_and_auto_does_without() -> None:
    with pytest.raises(ConfigError, match=r"torch sees no GPU.*device: cpu"):
        Runner(untrained(), 1, device="cuda")
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_cuda_graph_equals_eager() -> None:
    graph, eager = Runner(untrained(), 2, device="cuda"), Runner(untrained(), 2, device="cpu")
    graph.warm_up()
    assert not graph.notes
    for piece in X[:1].split(EPOCH, 2):
        np.testing.assert_allclose(graph.step(piece, [1]), eager.step(piece, [1]), atol=1e-5)
