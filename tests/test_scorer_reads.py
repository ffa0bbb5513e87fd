"""Networks that speak about the past: provisional, revised and final outputs, chunks, frames, short steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from streamscore import bundle as bundle_module
from streamscore.errors import ConfigError
from streamscore.models.base import Read, Timing
from streamscore.outputs import ReadPlan, hop_in_samples
from streamscore.preprocess.base import Chain
from streamscore.scorer import Scorer
from streamscore.types import FloatArray, Gap, Posterior, Segment
from tests.streams import cuts, sizes
from tests.toys import SFREQ, STEP, Toy, toy_bundle

RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((12 * STEP, 1)).astype(np.float32)


def feed(scorer: Scorer, data: FloatArray, sizes: Sequence[int] = (7,), start: int = 0) -> list[Posterior]:
    stamps_s = 5.0 + (start + np.arange(len(data))) / SFREQ
    return [
        posterior
        for part in cuts(len(data), sizes)
        for posterior in scorer.push(Segment(start + part.start, data[part], stamps_s[part]))
    ]


def answer(data: FloatArray, stop: int, lag: int, step: int = STEP) -> np.ndarray:
    """What `Toy` says at sample `stop` with a lag of `lag` steps."""
    first = stop - (lag + 1) * step
    after = data[first + step : stop].mean() if lag else 0.0
    logits = torch.tensor([data[first : first + step].mean(), after, -1.0])
    return torch.softmax(logits, 0).numpy()


def brief(posteriors: Sequence[Posterior]) -> list[tuple[int, str, bool, float]]:
    return [(p.stop, p.kind, p.valid, p.lag_s) for p in posteriors]


class TestLookAhead:
    """A provisional word at lag 0, the final one at the full lag."""

    def test_each_step_is_told_twice(self) -> None:
        told = feed(Scorer(toy_bundle(Toy((0, 2)))), DATA)
        assert [p.stop for p in told if p.kind == "provisional"] == list(range(STEP, 12 * STEP + 1, STEP))
        assert [p.stop for p in told if p.kind == "final"] == list(range(-STEP, 10 * STEP + 1, STEP))
        for p in told:
            assert p.lag_s == (2.0 if p.kind == "final" else 0.0)
            assert p.valid == (p.start >= 0)
            if p.valid:
                lag = 2 if p.kind == "final" else 0
                np.testing.assert_allclose(p.probs, answer(DATA, p.stop + lag * STEP, lag), atol=1e-6)
                assert p.t_stop_s == pytest.approx(5.0 + p.stop / SFREQ)
                assert p.t_start_s == pytest.approx(5.0 + p.start / SFREQ)

    def test_the_older_step_is_told_first(self) -> None:
        told = feed(Scorer(toy_bundle(Toy((0, 2)))), DATA[: 3 * STEP])[-2:]
        assert [(p.stop, p.kind) for p in told] == [(STEP, "final"), (3 * STEP, "provisional")]

    def test_reads_between_are_told_on_request_and_never_as_final(self) -> None:
        silent = feed(Scorer(toy_bundle(Toy((0, 1, 3)))), DATA)
        told = feed(Scorer(toy_bundle(Toy((0, 1, 3))), revise=True), DATA)
        assert [p for p in told if p.kind != "revised"] == silent
        revised = [p for p in told if p.kind == "revised" and p.valid]
        assert [p.stop for p in revised] == list(range(STEP, 11 * STEP + 1, STEP))
        for p in revised:
            np.testing.assert_allclose(p.probs, answer(DATA, p.stop + STEP, 1), atol=1e-6)

    @given(sizes)
    def test_any_chunking_tells_the_same(self, sizes: list[int]) -> None:
        whole = feed(Scorer(toy_bundle(Toy((0, 2)), hop_s=0.5)), DATA, [len(DATA)])
        cut = feed(Scorer(toy_bundle(Toy((0, 2)), hop_s=0.5)), DATA, sizes)
        assert brief(cut) == brief(whole)
        for a, b in zip(cut, whole, strict=True):
            np.testing.assert_allclose(a.probs, b.probs, atol=1e-6)

    def test_phases_each_have_their_own_past(self) -> None:
        told = feed(Scorer(toy_bundle(Toy((0, 2)), hop_s=0.2)), DATA)
        finals = [p for p in told if p.kind == "final" and p.valid]
        assert [p.stop for p in finals] == list(range(STEP, 10 * STEP + 1, 2))
        for p in finals:
            np.testing.assert_allclose(p.probs, answer(DATA, p.stop + 2 * STEP, 2), atol=1e-6)

    def test_after_a_gap_the_final_word_waits_for_its_look_ahead(self) -> None:
        scorer = Scorer(toy_bundle(Toy((0, 2))))
        feed(scorer, DATA)
        gap = scorer.gap(Gap(12 * STEP, 2 * STEP, 17.0, "lost"))
        assert brief(gap) == [
            (11 * STEP, "final", False, 2.0),
            (13 * STEP, "provisional", False, 0.0),
            (12 * STEP, "final", False, 2.0),
            (14 * STEP, "provisional", False, 0.0),
        ]
        told = feed(scorer, DATA, start=14 * STEP)
        assert next(p.stop // STEP for p in told if p.kind == "provisional" and p.valid) == 15
        assert next(p.stop // STEP for p in told if p.kind == "final" and p.valid) == 15
        waiting = [p for p in told if p.kind == "final" and not p.valid]
        assert [p.stop // STEP for p in waiting] == [13, 14]
        assert {p.reason for p in waiting} == {"after gap (lost)"}


class TestWindows:
    """Networks that need a whole window, and those that score one as a whole."""

    def test_no_read_is_usable_before_the_window_is_full(self) -> None:
        told = feed(Scorer(toy_bundle(Toy((0, 2), window=5))), DATA)
        assert [p.stop // STEP for p in told if p.valid and p.kind == "final"] == list(range(3, 11))
        assert [p.stop // STEP for p in told if p.valid and p.kind == "provisional"] == list(range(5, 13))

    def test_a_window_scored_as_a_whole_gives_every_epoch_once_and_as_final(self) -> None:
        class Whole(Toy):
            def __init__(self) -> None:
                super().__init__()
                reads = tuple(Read(lag * STEP, 4 * STEP) for lag in range(4))
                self.timing = Timing(4 * STEP, reads, 4 * STEP, epoch_samples=STEP)

            def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, tuple]:
                n = self.check_input(x)
                means = x.reshape(x.shape[0], n, 4, STEP).mean(3).flip(2)
                return torch.stack((means, 0 * means, 0 * means - 1), -1), state

        scorer = Scorer(toy_bundle(Whole()))
        told = feed(scorer, DATA)
        assert scorer.kinds == ("final",)
        assert brief(told) == [(k * STEP, "final", True, float((-k) % 4)) for k in range(1, 13)]
        with pytest.raises(ConfigError, match=r"hop_s 1 does not fit a network that scores whole windows of 4 s"):
            Scorer(toy_bundle(Whole()), hop_s=1.0)


class TestChunks:
    """Non-overlapping chunks of steps: revisable until the chunk closes."""

    def test_outputs_are_final_when_the_chunk_closes(self) -> None:
        told = feed(Scorer(toy_bundle(Toy((0, 1, 2, 3), chunk=4))), DATA[: 10 * STEP])
        finals = [p for p in told if p.kind == "final"]
        assert [(p.stop // STEP, p.lag_s) for p in finals] == [
            (1, 3.0), (2, 2.0), (3, 1.0), (4, 0.0), (5, 3.0), (6, 2.0), (7, 1.0), (8, 0.0),
        ]  # fmt: skip
        for p in finals:
            lag = round(p.lag_s)
            np.testing.assert_allclose(p.probs, answer(DATA, p.stop + lag * STEP, lag), atol=1e-6)
        assert [p.stop // STEP for p in told if p.kind == "provisional" and p.valid] == list(range(1, 11))

    def test_revisions_never_reach_behind_the_chunk(self) -> None:
        told = feed(Scorer(toy_bundle(Toy((0, 1, 2, 3), chunk=4)), revise=True), DATA[: 6 * STEP])
        revised = [(p.stop // STEP, round(p.lag_s)) for p in told if p.kind == "revised"]
        assert revised == [(1, 1), (1, 2), (2, 1), (5, 1)]

    def test_a_gap_opens_a_new_chunk(self) -> None:
        scorer = Scorer(toy_bundle(Toy((0, 1, 2, 3), chunk=4)))
        feed(scorer, DATA[: 2 * STEP])
        scorer.gap(Gap(2 * STEP, STEP, 7.0, "lost"))
        told = feed(scorer, DATA[: 5 * STEP], start=3 * STEP)
        assert [p.stop // STEP for p in told if p.kind == "final"] == [4, 5, 6, 7]


class TestShortSteps:
    """Steps shorter than the hop: every step is taken, outputs come at the hop."""

    @pytest.mark.parametrize("sizes", [[1], [3], [17], [120]])
    def test_a_frame_network_is_read_at_every_hop(self, sizes: list[int]) -> None:
        told = feed(Scorer(toy_bundle(Toy((0, 3), step=1, epoch=STEP), hop_s=0.5)), DATA, sizes)
        assert [p.stop for p in told if p.kind == "provisional"] == list(range(5, 121, 5))
        for p in told:
            assert p.stop - p.start == STEP  # it describes an epoch, whatever its step
            if p.valid:
                lag = 3 if p.kind == "final" else 0
                np.testing.assert_allclose(p.probs, answer(DATA, p.stop + lag, lag, step=1), atol=1e-6)

    def test_movies_go_through_as_they_are(self) -> None:
        movie = RNG.standard_normal((40, 4, 3)).astype(np.float32)
        told = feed(Scorer(toy_bundle(Toy((0, 3), step=1, frame_shape=(4, 3)))), movie[:, None], [6])
        finals = [p for p in told if p.kind == "final" and p.valid]
        assert [p.stop for p in finals] == list(range(1, 38))
        for p in finals:
            np.testing.assert_allclose(p.probs, answer(movie, p.stop + 3, 3, step=1), atol=1e-6)

    def test_the_newest_frame_is_what_the_network_was_given(self) -> None:
        movie = RNG.standard_normal((5, 1, 4, 3)).astype(np.float32)
        for step in (1, 2):  # with and without a ring
            scorer = Scorer(toy_bundle(Toy(step=step, frame_shape=(4, 3))))
            assert scorer.newest_frame() is None
            feed(scorer, movie[:4], [step])
            np.testing.assert_array_equal(scorer.newest_frame(), movie[3, 0])
        assert Scorer(toy_bundle(Toy(step=5))).newest_frame() is None

    def test_a_chain_that_answers_late_adds_to_the_lag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        delay = 2
        plain = feed(Scorer(toy_bundle(Toy((0, 3), step=1))), DATA[:40], [7])

        class Late(Chain):
            def __init__(self, *args: Any) -> None:
                super().__init__((), args[1])
                self.lag_samples = self.warm_up_samples = self.settle_samples = delay
                self._past = np.zeros((delay, 1), np.float32)

            def push(self, x: FloatArray, start: int) -> FloatArray:
                joined = np.concatenate((self._past, x))
                self._past = joined[len(x) :]
                return joined[: len(x)]

        monkeypatch.setattr(bundle_module, "Chain", Late)
        scorer = Scorer(toy_bundle(Toy((0, 3), step=1)))
        late = feed(scorer, DATA[:40], [7])
        assert scorer.lag_s("final") == pytest.approx(5 / SFREQ)
        wanted = {(p.kind, p.stop): p.probs for p in plain if p.valid}
        got = {(p.kind, p.stop): p.probs for p in late if p.valid}
        assert len(got) > 50
        assert all(wanted[key] == probs for key, probs in got.items())
        lags_s = {p.kind: p.lag_s for p in late}
        assert lags_s == pytest.approx({"final": 5 / SFREQ, "provisional": 2 / SFREQ})
        for p in late:
            assert p.t_stop_s == pytest.approx(5.0 + p.stop / SFREQ)

    def test_steps_stay_on_the_grid_of_the_index_after_a_gap(self) -> None:
        scorer = Scorer(toy_bundle(Toy(step=5), hop_s=1.0))
        feed(scorer, DATA[:23])
        scorer.gap(Gap(23, 4, 7.3, "lost"))
        told = feed(scorer, DATA[27:], start=27)
        # Samples 27 to 29 begin no whole step; the first is 30 to 34, and the first hop after it ends at 40.
        assert [(p.stop, p.valid) for p in told][:3] == [(30, False), (40, True), (50, True)]
        np.testing.assert_allclose(told[1].probs, answer(DATA, 40, 0, step=5), atol=1e-6)


class TestNonFinite:
    """A network that breaks is not believed, begins afresh, and warms up again."""

    def test_only_outputs_that_it_spoilt_are_withheld(self) -> None:
        class Fragile(Toy):
            def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, tuple]:
                logits, state = super().forward(x, state)
                return torch.where(
                    x.reshape(x.shape[0], -1, STEP).amax(2)[..., None, None] > 50, torch.inf, logits
                ), state

        data = DATA.copy()
        data[4 * STEP + 3] = 99.0
        for pieces in ([5], [len(data)]):
            scorer = Scorer(toy_bundle(Fragile((0, 2))))
            told = feed(scorer, data, pieces)
            bad = [(p.stop // STEP, p.kind, p.reason) for p in told if not p.valid and p.start >= 0]
            assert bad == [
                (3, "final", "non-finite network output"),
                (5, "provisional", "non-finite network output"),
                (4, "final", "warming up"),
                (5, "final", "warming up"),
            ]
            assert scorer.n_nonfinite_outputs == 1


class TestPlan:
    """Which reads are told as what."""

    def test_kinds(self) -> None:
        assert ReadPlan(Toy((0,)).timing, revise=False).kinds == ("final",)
        assert ReadPlan(Toy((2,)).timing, revise=False).kinds == ("final",)
        assert ReadPlan(Toy((0, 2)).timing, revise=False).kinds == ("provisional", "final")
        assert ReadPlan(Toy((0, 1), chunk=2).timing, revise=False).kinds == ("provisional", "final")

    @pytest.mark.parametrize("lags", [(), (10, 0), (0, 0), (5,), (-10, 0)])
    def test_lags_that_make_no_sense_are_refused(self, lags: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="must rise in whole steps of 10 or epochs of 10 samples"):
            Timing(10, tuple(Read(lag, 10) for lag in lags), None)

    @pytest.mark.parametrize(
        ("hop_s", "samples"), [(1 / 16.8, 1), (0.0595238, 1), (0.595238, 10), (10.0, 168), (5 / 16.8, 5)]
    )
    def test_frame_rates_without_a_finite_period(self, hop_s: float, samples: int) -> None:
        assert hop_in_samples(hop_s, 16.8, Timing(1, (Read(0, 1),), None)) == samples
