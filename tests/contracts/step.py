"""What every preprocessing step must keep; see :mod:`streamscore.preprocess.base`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamscore.preprocess.base import Step
from streamscore.types import FloatArray, Layout
from tests.streams import cuts, sizes

N_SAMPLES = 330


class StepContract(ABC):
    """Inherit it in a class named ``Test…`` and say how to make the step.

    Attributes
    ----------
    layout
        What the step is made for.
    tolerance
        Largest difference between chunkings. 0 for what goes sample by sample; kernels over several frames at
        once may round otherwise.
    """

    layout = Layout(50.0, ("a", "b"))
    tolerance = 0.0

    @abstractmethod
    def make(self) -> Step:
        """Return a fresh step for :attr:`layout`."""

    @property
    def n_channels(self) -> int:
        return len(self.layout.channels)

    @property
    def sfreq(self) -> float:
        return self.layout.sfreq

    def samples(self, n: int = N_SAMPLES) -> FloatArray:
        """Return ``(n, *sample_shape)`` positive noise with an offset."""
        rng = np.random.default_rng(0)
        return (50.0 + 20.0 * rng.standard_normal((n, *self.layout.sample_shape))).astype(np.float32)

    def same(self, a: FloatArray, b: FloatArray) -> None:
        np.testing.assert_allclose(a, b, rtol=0.0, atol=self.tolerance)

    def run(self, step: Step, x: FloatArray, sizes: Sequence[int], start: int = 0) -> FloatArray:
        """Push `x` in pieces of `sizes`."""
        return np.concatenate([step.push(x[part], start + part.start) for part in cuts(len(x), sizes)])

    def test_output_is_float32_of_the_declared_shape(self) -> None:
        x = self.samples()
        step = self.make()
        y = step.push(x, 0)
        assert y.shape == (len(x), *step.layout.sample_shape)
        assert step.layout.sfreq == self.layout.sfreq
        assert y.dtype == np.float32
        assert np.isfinite(y).all()

    def test_no_samples_give_no_samples(self) -> None:
        step = self.make()
        assert step.push(self.samples(0), 0).shape == (0, *step.layout.sample_shape)
        self.same(step.push(self.samples(), 0), self.make().push(self.samples(), 0))

    @given(sizes)
    def test_any_chunking_gives_the_same(self, sizes: list[int]) -> None:
        x = self.samples()
        self.same(self.run(self.make(), x, sizes), self.make().push(x, 0))

    def test_one_sample_at_a_time_gives_the_same(self) -> None:
        x = self.samples()
        self.same(self.run(self.make(), x, [1]), self.make().push(x, 0))

    @given(st.integers(1, N_SAMPLES - 1))
    def test_truncating_the_future_changes_no_past_output(self, n: int) -> None:
        x = self.samples()
        past, whole = self.make().push(x[:n], 0), self.make().push(x, 0)
        differs = np.abs(past - whole[:n]) > self.tolerance
        changed = np.flatnonzero(differs.reshape(n, -1).any(axis=1))
        assert len(changed) == 0, f"output {changed[0]} changed when the input was cut at {n}"

    @given(sizes, st.integers(1, N_SAMPLES - 1), st.integers(0, 200))
    def test_any_chunking_gives_the_same_around_a_gap(self, sizes: list[int], at: int, n_lost: int) -> None:
        x = self.samples()
        results = []
        for pieces in (sizes, [N_SAMPLES]):
            step = self.make()
            before = self.run(step, x[:at], pieces)
            step.reset()
            results.append((before, self.run(step, x[at:], pieces, at + n_lost)))
        self.same(results[0][0], results[1][0])
        self.same(results[0][1], results[1][1])

    def test_a_reset_leaves_nothing_of_a_fresh_step_and_may_be_repeated(self) -> None:
        x = self.samples()
        fresh, reset, twice = self.make(), self.make(), self.make()
        reset.reset()
        self.same(reset.push(x, 0), fresh.push(x, 0))
        for step, times in ((reset, 1), (twice, 2)):
            if step is twice:
                step.push(x, 0)
            for _ in range(times):
                step.reset()
        self.same(reset.push(x, 1000), twice.push(x, 1000))

    def test_input_is_not_modified(self) -> None:
        x = self.samples()
        kept = x.copy()
        step = self.make()
        first = step.push(x, 0)
        kept_first = first.copy()
        step.push(x, len(x))
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(first, kept_first)

    def test_warm_up_and_settling_are_whole_samples(self) -> None:
        step = self.make()
        for n in (step.warm_up_samples, step.settle_samples, step.lag_samples):
            assert isinstance(n, int)
            assert n >= 0
