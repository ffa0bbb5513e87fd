"""What every network must keep; see :mod:`streamscore.models.base`."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from streamscore.models.base import ScoringModel, State, split_state, stack_states

#: Steps of the streams that are tried.
N_STEPS = 4


def compositions(n: int) -> list[tuple[int, ...]]:
    """All ways to write `n` as an ordered sum."""
    borders = (itertools.combinations(range(1, n), k) for k in range(n))
    return [
        tuple(b - a for a, b in itertools.pairwise((0, *cut, n))) for cut in itertools.chain.from_iterable(borders)
    ]


def run(model: ScoringModel, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Call `model` as the scorer does."""
    with torch.inference_mode():
        return model(x, model.initial_state(x.shape[0]) if state is None else state)


class ModelContract(ABC):
    """Inherit it in a class named ``Test…`` and say how to make the network.

    Attributes
    ----------
    tolerance
        Largest difference of two logits that count as equal.
    """

    tolerance = 1e-5

    @abstractmethod
    def make(self) -> ScoringModel:
        """Return a small network in evaluation mode with weights that are not trivial."""

    def stream(self, model: ScoringModel, batch_size: int = 1, n_steps: int = N_STEPS, seed: int = 0) -> Tensor:
        """Return input ``(batch_size, n_channels, n_steps * step_samples)``."""
        shape = (batch_size, model.n_channels, n_steps * model.timing.step_samples)
        return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))

    def changed_steps(self, model: ScoringModel, sample: int) -> list[int]:
        """Return the outputs that differ when one sample of all channels does."""
        x = self.stream(model)
        touched = x.clone()
        touched[:, :, sample] += 100.0
        difference = (run(model, touched)[0] - run(model, x)[0]).abs().amax(dim=(0, 2))
        return torch.nonzero(difference > 0).flatten().tolist()

    def test_each_step_gives_one_finite_row_of_logits(self) -> None:
        model = self.make()
        logits, _ = run(model, self.stream(model, batch_size=3))
        assert logits.shape == (3, N_STEPS, model.n_classes)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()

    def test_truncating_the_future_changes_no_past_output(self) -> None:
        model = self.make()
        x = self.stream(model)
        whole, _ = run(model, x)
        step, ahead = model.timing.step_samples, model.timing.look_ahead_samples
        for n_steps in range(1, N_STEPS):
            past, _ = run(model, x[:, :, : n_steps * step])
            n_complete = max((n_steps * step - ahead) // step, 0)
            difference = (past[:, :n_complete] - whole[:, :n_complete]).abs().amax(dim=(0, 2))
            first = torch.nonzero(difference > self.tolerance).flatten()[:1].tolist()
            assert not first, f"output {first[0]} changed when the input was cut after step {n_steps - 1}"

    @pytest.mark.parametrize("sizes", compositions(N_STEPS), ids=str)
    def test_any_chunking_is_one_call(self, sizes: tuple[int, ...]) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        whole, whole_state = run(model, x)
        state = model.initial_state(2)
        parts = []
        for piece in x.split([size * model.timing.step_samples for size in sizes], dim=2):
            logits, state = run(model, piece, state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=self.tolerance)
        for got, wanted in zip(state, whole_state, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=self.tolerance)

    def test_a_batch_is_as_many_single_streams(self) -> None:
        model = self.make()
        first, second = self.stream(model, batch_size=5), self.stream(model, batch_size=5, seed=1)
        logits, state = run(model, first)
        batched = [logits, *run(model, second, state)]
        for row in range(5):
            alone, alone_state = run(model, first[row : row + 1])
            torch.testing.assert_close(alone, batched[0][row : row + 1], rtol=0, atol=self.tolerance)
            alone, _ = run(model, second[row : row + 1], alone_state)
            torch.testing.assert_close(alone, batched[1][row : row + 1], rtol=0, atol=self.tolerance)

    def test_states_split_and_stack(self) -> None:
        model = self.make()
        _, state = run(model, self.stream(model, batch_size=3))
        again = stack_states(split_state(state))
        assert all(torch.equal(a, b) for a, b in zip(state, again, strict=True))

    def test_no_two_tensors_of_a_state_share_memory(self) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        for state in (model.initial_state(2), run(model, x)[1]):
            places = [part.untyped_storage().data_ptr() for part in state]
            assert len(set(places)) == len(places)

    def test_neither_state_nor_input_is_modified(self) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        _, state = run(model, x)
        kept = x.clone(), tuple(part.clone() for part in state)
        run(model, x, state)
        assert torch.equal(x, kept[0])
        assert all(torch.equal(a, b) for a, b in zip(state, kept[1], strict=True))

    def test_two_calls_agree_to_the_last_bit(self) -> None:
        model = self.make()
        x = self.stream(model)
        assert torch.equal(run(model, x)[0], run(model, x)[0])

    def test_saved_weights_give_the_same_outputs(self) -> None:
        model, fresh = self.make(), self.make()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
        x = self.stream(model)
        assert not torch.equal(run(model, x)[0], run(fresh, x)[0])
        fresh.load_state_dict(load(save({key: value.contiguous() for key, value in model.state_dict().items()})))
        assert torch.equal(run(model, x)[0], run(fresh, x)[0])

    def test_no_output_depends_on_more_than_the_declared_look_ahead(self) -> None:
        model = self.make()
        step, ahead = model.timing.step_samples, model.timing.look_ahead_samples
        for k in range(N_STEPS - 1):
            beyond = (k + 1) * step + ahead
            if beyond < N_STEPS * step:
                early = [j for j in self.changed_steps(model, beyond) if j <= k]
                assert not early, f"sample {beyond} changes output {early[0]}, declared look-ahead {ahead}"

    def test_the_declared_look_ahead_and_step_are_used(self) -> None:
        model = self.make()
        step, ahead = model.timing.step_samples, model.timing.look_ahead_samples
        for k in range(N_STEPS - 1 - ahead // step):
            newest = (k + 1) * step + ahead - 1
            assert k in self.changed_steps(model, newest), f"output {k} ignores sample {newest}"
            assert k in self.changed_steps(model, k * step), f"output {k} ignores sample {k * step}, its first"

    def test_the_declared_receptive_field_is_the_measured_one(self) -> None:
        model = self.make()
        step, field = model.timing.step_samples, model.timing.receptive_field_samples
        last = N_STEPS - 1
        if field is None:
            assert last in self.changed_steps(model, 0), "the last output has forgotten the first sample"
            return
        oldest = N_STEPS * step + model.timing.look_ahead_samples - field
        assert last in self.changed_steps(model, max(oldest, 0))
        if oldest > 0:
            assert last not in self.changed_steps(model, oldest - 1)

    def test_warm_up_covers_the_step_itself(self) -> None:
        timing = self.make().timing
        assert timing.warm_up_samples >= timing.step_samples > 0
        assert timing.look_ahead_samples >= 0

    @pytest.mark.parametrize("wrong", ["axes", "channels", "samples", "nothing"])
    def test_a_wrong_shape_is_an_error_that_names_the_axes(self, wrong: str) -> None:
        model = self.make()
        n, step = model.n_channels, model.timing.step_samples
        shape = {
            "axes": (n, step),
            "channels": (1, n + 1, step),
            "samples": (1, n, step + 1),
            "nothing": (1, n, 0),
        }[wrong]
        with pytest.raises(ValueError, match=rf"batch.*{n} channels.*{step} samples.*got \({shape[0]}, "):
            run(model, torch.zeros(shape), model.initial_state(1))
