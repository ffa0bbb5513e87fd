"""What every network must keep; see :mod:`streamscore.models.base`."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from streamscore.labels import UNKNOWN
from streamscore.models.base import ScoringModel, State, split_state, stack_states
from streamscore.preprocess.base import Chain
from streamscore.scorer import Scorer
from streamscore.types import Gap, Layout, Segment

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


def anonymous_bundle(model: ScoringModel) -> Any:
    """What a scorer needs of a bundle, for any number of classes; a sample is a second."""
    labels = tuple(f"class {k}" for k in range(model.n_classes))
    spec = SimpleNamespace(sfreq=1.0, hop_s=None, labels=labels, channels=("x",) * model.n_channels)
    layout = Layout(1.0, spec.channels, model.frame_shape)
    return SimpleNamespace(spec=spec, model=model, chain=lambda device: Chain((), layout, device=device))


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
        """Return a small network in evaluation mode with weights that are not trivial.

        Windows of at most three steps and a receptive field of at most four keep the suite quick and sharp.
        """

    def stream(self, model: ScoringModel, batch_size: int = 1, n_steps: int = N_STEPS, seed: int = 0) -> Tensor:
        """Return input of `n_steps` steps."""
        shape = model.input_shape(batch_size, n_steps * model.timing.step_samples)
        return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))

    def touch(self, model: ScoringModel, x: Tensor, sample: int) -> Tensor:
        """Return `x` with one sample changed in all channels; override it where this change would be ignored."""
        touched = x.clone()
        touched.select(model.time_axis, sample).add_(
            torch.from_numpy(
                np.random.default_rng(7).normal(0.0, 20.0, x.select(model.time_axis, 0).shape).astype(np.float32)
            )
        )
        return touched

    def changed(self, model: ScoringModel, sample: int, n_steps: int = N_STEPS) -> set[tuple[int, int]]:
        """Return ``(step, read)`` of the outputs that differ when one sample does, and must be usable."""
        x = self.stream(model, n_steps=n_steps)
        difference = (run(model, self.touch(model, x, sample))[0] - run(model, x)[0]).abs().amax(dim=(0, 3))
        return {(j, r) for j, r in torch.nonzero(difference > 0).tolist() if self.usable(model, j, r)}

    def usable(self, model: ScoringModel, step: int, read: int, n_before_gap: int = 0) -> bool:
        """Whether a read may be used at this step since the last gap, before which so many steps were taken."""
        timing = model.timing
        n_since_gap = (step + 1) * timing.step_samples
        lag = timing.reads[read].lag_samples
        if timing.chunk_steps and lag // timing.step_samples > step % timing.chunk_steps:
            return False
        n_seen = n_since_gap + n_before_gap * timing.step_samples
        return timing.reads[read].is_usable(n_seen, n_since_gap)

    def n_steps(self, model: ScoringModel) -> int:
        """Steps after which every read can be used and the oldest sample can be forgotten, and one more."""
        timing = model.timing
        longest = max(
            timing.receptive_field_samples or 0,
            *(read.warm_up_samples for read in timing.reads),
            timing.chunk_steps * timing.step_samples,
        )
        n_steps = max(-(-longest // timing.step_samples) + 1, N_STEPS)
        chunk = timing.chunk_steps or 1
        return -(-n_steps // chunk) * chunk  # a chunk's reads can all be used at the step that closes it

    def piece(self, model: ScoringModel, x: Tensor, start: int, stop: int) -> Tensor:
        """Return steps `start` to `stop` of `x`."""
        step = model.timing.step_samples
        return x.narrow(model.time_axis, start * step, (stop - start) * step)

    def test_each_step_gives_one_finite_row_of_logits_for_each_read(self) -> None:
        model = self.make()
        logits, _ = run(model, self.stream(model, batch_size=3))
        assert logits.shape == (3, N_STEPS, len(model.timing.reads), model.n_classes)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()

    def test_truncating_the_future_changes_no_past_output(self) -> None:
        model = self.make()
        x = self.stream(model, n_steps=self.n_steps(model))
        whole, _ = run(model, x)
        for n in range(1, self.n_steps(model)):
            past, _ = run(model, self.piece(model, x, 0, n))
            difference = (past - whole[:, :n]).abs().amax(dim=(0, 2, 3))
            first = torch.nonzero(difference > self.tolerance).flatten()[:1].tolist()
            assert not first, f"output {first[0]} changed when the input was cut after step {n - 1}"

    @pytest.mark.parametrize("sizes", compositions(N_STEPS), ids=str)
    def test_any_chunking_is_one_call(self, sizes: tuple[int, ...]) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        whole, whole_state = run(model, x)
        state = model.initial_state(2)
        parts, at = [], 0
        for size in sizes:
            logits, state = run(model, self.piece(model, x, at, at + size), state)
            parts.append(logits)
            at += size
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=self.tolerance)
        for got, wanted in zip(state, whole_state, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=self.tolerance)

    def test_step_by_step_is_one_call(self) -> None:
        model = self.make()
        n_steps = self.n_steps(model)
        x = self.stream(model, n_steps=n_steps)
        state = model.initial_state(1)
        parts = []
        for k in range(n_steps):
            logits, state = run(model, self.piece(model, x, k, k + 1), state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, dim=1), run(model, x)[0], rtol=0, atol=self.tolerance)

    def test_a_batch_is_as_many_single_streams(self) -> None:
        model = self.make()
        # Three steps: a counter that rows share must not come out even with those of fresh rows.
        first, second = self.stream(model, batch_size=3, n_steps=3), self.stream(model, batch_size=3, seed=1)
        logits, state = run(model, first)
        # Rows of one batch need not have begun together: those of a scorer's phases never do.
        state = stack_states([split_state(state)[0], *split_state(model.initial_state(2))]) if state else state
        logits_after, _ = run(model, second, state)
        for row in range(3):
            alone, alone_state = run(model, first[row : row + 1])
            torch.testing.assert_close(alone, logits[row : row + 1], rtol=0, atol=self.tolerance)
            alone, _ = run(model, second[row : row + 1], alone_state if row == 0 else model.initial_state(1))
            torch.testing.assert_close(alone, logits_after[row : row + 1], rtol=0, atol=self.tolerance)

    def test_states_split_and_stack(self) -> None:
        model = self.make()
        _, state = run(model, self.stream(model, batch_size=3))
        again = stack_states(split_state(state)) if state else state
        assert all(torch.equal(a, b) for a, b in zip(state, again, strict=True))

    def test_a_state_keeps_its_shapes_and_types(self) -> None:
        model = self.make()
        fresh = model.initial_state(2)
        _, state = run(model, self.stream(model, batch_size=2), fresh)
        assert [(part.shape, part.dtype) for part in state] == [(part.shape, part.dtype) for part in fresh]
        assert all(part.shape[0] == 2 for part in state)

    def test_no_two_tensors_of_a_state_share_memory(self) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        for state in (model.initial_state(2), run(model, x)[1]):
            places = [part.untyped_storage().data_ptr() for part in state if part.numel()]
            assert len(set(places)) == len(places)
            others = [x, *model.parameters(), *model.buffers()]
            assert not {other.untyped_storage().data_ptr() for other in others} & set(places)
            assert all(part.is_contiguous() for part in state), "rows that are one memory cannot be written apart"

    def test_neither_state_nor_input_is_modified(self) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        _, state = run(model, x)
        kept = x.clone(), tuple(part.clone() for part in state)
        run(model, x, state)
        assert torch.equal(x, kept[0])
        assert all(torch.equal(a, b) for a, b in zip(state, kept[1], strict=True))

    def test_rows_of_a_batch_are_independent_even_of_what_is_no_number(self) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        spoilt = x.clone()
        spoilt[1] = torch.nan
        torch.testing.assert_close(run(model, spoilt)[0][:1], run(model, x)[0][:1], rtol=0, atol=self.tolerance)

    def test_scoring_changes_nothing_in_the_network(self) -> None:
        model = self.make()
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        assert not model.training
        run(model, self.stream(model))
        assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())

    def test_what_is_prepared_for_inference_is_the_same_function(self) -> None:
        model = self.make()
        x = self.stream(model, batch_size=2)
        before, _ = run(model, x)
        prepared, _ = run(model.for_inference(), x)
        torch.testing.assert_close(prepared, before, rtol=0, atol=self.tolerance)
        assert torch.equal(run(model, x)[0], before)

    def test_it_can_be_trained(self) -> None:
        model = self.make()
        if model.n_trainable() == 0:
            return
        model.train()
        logits, _ = model(self.stream(model, batch_size=2), model.initial_state(2))
        logits.square().sum().backward()
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())

    def test_every_channel_is_used(self) -> None:
        model = self.make()
        if model.frame_shape is not None:
            return
        n_steps = self.n_steps(model)
        x = self.stream(model, n_steps=n_steps)
        whole = run(model, x)[0][:, -1]
        others = [3.0**k * self.stream(model, n_steps=n_steps, seed=k) for k in range(1, 6)]
        for channel in range(model.n_channels):
            touched = [x.clone() for _ in others]
            for row, other in zip(touched, others, strict=True):
                row[:, channel] = other[:, channel]
            changed = (run(model, torch.cat(touched))[0][:, -1] != whole).any()
            assert changed, f"channel {channel} is ignored"

    def test_reads_say_different_things(self) -> None:
        model = self.make()
        logits = run(model, self.stream(model, n_steps=self.n_steps(model)))[0][0, -1]
        for r in range(1, len(model.timing.reads)):
            assert not torch.equal(logits[r], logits[r - 1]), f"reads {r - 1} and {r} are the same"

    def test_two_calls_agree_to_the_last_bit(self) -> None:
        model = self.make()
        x = self.stream(model)
        assert torch.equal(run(model, x)[0], run(model, x)[0])

    def test_saved_weights_give_the_same_outputs(self) -> None:
        model, fresh = self.make(), self.make()
        weights = load(save({key: value.contiguous() for key, value in model.state_dict().items()}))
        with torch.no_grad():
            for weight in fresh.state_dict().values():
                if weight.is_floating_point():
                    weight.zero_()
        x = self.stream(model)
        assert not torch.equal(run(model, x)[0], run(fresh, x)[0])
        fresh.load_state_dict(weights)
        assert torch.equal(run(model, x)[0], run(fresh, x)[0])

    def test_every_read_uses_the_newest_sample(self) -> None:
        model = self.make()
        n_steps, step = self.n_steps(model), model.timing.step_samples
        last = n_steps - 1
        changed = self.changed(model, n_steps * step - 1, n_steps)
        for r, read in enumerate(model.timing.reads):
            if self.usable(model, last, r):
                assert (last, r) in changed, f"the read at lag {read.lag_samples} ignores the newest sample"
        assert all(j == last for j, _ in changed)

    def test_every_read_uses_the_first_sample_of_what_it_describes(self) -> None:
        model = self.make()
        n_steps, timing = self.n_steps(model), model.timing
        last = n_steps - 1
        for r, read in enumerate(timing.reads):
            first = (
                n_steps * timing.step_samples - read.lag_samples - min(timing.epoch_samples, timing.step_samples)
            )
            if self.usable(model, last, r):
                assert (last, r) in self.changed(model, first, n_steps), f"read {r} ignores sample {first}"

    def test_the_declared_receptive_field_is_the_measured_one(self) -> None:
        model = self.make()
        n_steps, timing = self.n_steps(model), model.timing
        n_samples, field, last = n_steps * timing.step_samples, timing.receptive_field_samples, n_steps - 1
        if field is None:
            assert any(j == last for j, _ in self.changed(model, 0, n_steps)), "the first sample is forgotten"
            return
        assert field <= n_samples - timing.step_samples
        oldest = n_samples - field
        assert any(j == last for j, _ in self.changed(model, oldest, n_steps)), "declared too long"
        assert not any(j == last for j, _ in self.changed(model, oldest - 1, n_steps)), "declared too short"

    def test_the_declared_warm_up_is_the_measured_one(self) -> None:
        """Once warm, a network with a bounded field gives what it would have given with any past."""
        model = self.make()
        timing, n_steps = model.timing, self.n_steps(model)
        for read in timing.reads:
            assert read.warm_up_samples >= read.lag_samples + min(timing.epoch_samples, timing.step_samples)
        if timing.receptive_field_samples is None:
            return
        n_past = n_steps
        x = self.stream(model, n_steps=n_past + n_steps)
        after = run(model, self.piece(model, x, n_past, n_past + n_steps))[0]
        whole = run(model, x)[0][:, n_past:]
        for r, read in enumerate(timing.reads):
            cold = -(-read.warm_up_samples // timing.step_samples) - 1
            torch.testing.assert_close(after[:, cold:, r], whole[:, cold:, r], rtol=0, atol=self.tolerance)
            if cold > 0:
                assert not torch.allclose(after[:, cold - 1, r], whole[:, cold - 1, r], rtol=0, atol=1e-7), (
                    f"read {r} is ready before its declared warm-up"
                )

    def test_the_scorer_tells_what_one_call_says_and_starts_afresh_after_a_gap(self) -> None:
        model = self.make()
        timing, n_steps = model.timing, self.n_steps(model)
        step = timing.step_samples
        x = self.stream(model, n_steps=n_steps)
        data = x[0].numpy()[:, None] if model.frame_shape else np.ascontiguousarray(x[0].numpy().T)
        scorer = Scorer(anonymous_bundle(model), revise=True)
        n_gap = 2 * step + 1
        # The run after the gap begins on the grid of steps, so that both runs are one and the same.
        first = -(-(n_steps * step + n_gap) // step) * step
        logits, state = run(model, x)
        logits_after, _ = run(model, x, model.state_after_gap(state, first // step - n_steps))
        assert all(a.shape == b.shape for a, b in zip(state, model.state_after_gap(state, 3), strict=True))
        for start, expected in ((0, logits), (first, logits_after)):
            probs = torch.softmax(expected[0], dim=-1).numpy()
            told = [
                posterior
                for at in range(0, len(data), 1 + step // 2)
                for posterior in scorer.push(
                    Segment(
                        start + at, data[at : at + 1 + step // 2], np.zeros(min(1 + step // 2, len(data) - at))
                    )
                )
            ]
            got = {(p.stop + round(p.lag_s) - start, round(p.lag_s)): p for p in told if p.kind != "provisional"}
            got |= {(p.stop + round(p.lag_s) - start, round(p.lag_s)): p for p in told if p.kind == "provisional"}
            for j in range(n_steps):
                for r, read in enumerate(timing.reads):
                    posterior = got.get(((j + 1) * step, read.lag_samples))
                    if not self.usable(model, j, r, n_before_gap=n_steps if start else 0):
                        assert posterior is None or (not posterior.valid and posterior.state == UNKNOWN)
                        continue
                    assert posterior is not None
                    assert posterior.valid
                    assert posterior.stop - posterior.start == timing.epoch_samples
                    np.testing.assert_allclose(posterior.probs, probs[j, r], rtol=0, atol=self.tolerance)
            if start == 0:
                swallowed = scorer.gap(Gap(n_steps * step, first - n_steps * step, 0.0, "samples lost"))
                assert all(not posterior.valid for posterior in swallowed)

    @pytest.mark.parametrize("wrong", ["axes", "channels", "samples", "nothing"])
    def test_a_wrong_shape_is_an_error_that_names_the_axes(self, wrong: str) -> None:
        model = self.make()
        step = model.timing.step_samples
        shape = {
            "axes": model.input_shape(1, step)[1:],
            "channels": tuple(n + (axis in (1, 3)) for axis, n in enumerate(model.input_shape(1, step))),
            "samples": model.input_shape(1, step + 1),
            "nothing": model.input_shape(1, 0),
        }[wrong]
        if wrong == "samples" and step == 1:
            return
        if model.frame_shape is None:
            expected = rf"batch.*{model.n_channels} channels.*{step} samples"
        else:
            expected = rf"batch.*{step} frames.*height {model.frame_shape[0]}.*width {model.frame_shape[1]}"
        with pytest.raises(ValueError, match=rf"{expected}.*got \({shape[0]}, "):
            run(model, torch.zeros(shape), model.initial_state(1))
