from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.bundle import Bundle
from streamscore.errors import ConfigError
from streamscore.labels import UNKNOWN
from streamscore.models.base import Read, Timing
from streamscore.outputs import hop_in_samples
from streamscore.scorer import Scorer, Unscored
from streamscore.types import FloatArray, Gap, Posterior, Segment
from tests.bundles import CHAIN, EPOCH, HOP, N_PHASES, SFREQ, expected, one_shot, signal, small_spec, untrained
from tests.streams import cuts, sizes

N = 16 * EPOCH
T0_S = 50.0


def segments(data: FloatArray, sizes: Sequence[int], start: int = 0) -> list[Segment]:
    """Cut samples into segments; index 0 has stream time `T0_S`."""
    stamps_s = T0_S + (start + np.arange(len(data))) / SFREQ
    return [Segment(start + part.start, data[part], stamps_s[part]) for part in cuts(len(data), sizes)]


def plain(step_samples: int) -> Timing:
    """A network that carries its state from step to step."""
    return Timing(step_samples, (Read(0, step_samples),), None)


def lost(start: int, n_samples: int, reason: str = "samples lost") -> Gap:
    return Gap(start, n_samples, T0_S + start / SFREQ, reason)


def feed(scorer: Scorer | Unscored, pieces: Sequence[Segment | Gap]) -> list[Posterior]:
    """Push everything."""
    told: list[Posterior] = []
    for piece in pieces:
        told += scorer.gap(piece) if isinstance(piece, Gap) else scorer.push(piece)
    return told


def assert_valid_are(told: Sequence[Posterior], wanted: dict[int, np.ndarray]) -> None:
    """The valid posteriors must be exactly `wanted`, within 1e-5."""
    got = {posterior.stop: posterior.probs for posterior in told if posterior.valid}
    assert sorted(got) == sorted(wanted)
    for stop, probs in wanted.items():
        np.testing.assert_allclose(got[stop], probs, rtol=0, atol=1e-5, err_msg=f"epoch that ends at {stop}")


class TestWithoutLoss:
    """What is decided online is what one call of the network says."""

    def test_the_test_bundle_tells_phases_and_states_apart(self, small: Bundle) -> None:
        x = small.chain().push(signal(N), 0)
        whole = one_shot(small, x, 0)
        fresh = one_shot(small, x[EPOCH:], EPOCH)
        assert abs(whole[3 * EPOCH] - fresh[3 * EPOCH]).max() > 1e-3  # the carried state matters
        assert np.ptp([p.argmax() for p in whole.values()]) > 0  # and so do the samples

    @pytest.mark.parametrize("phase", range(N_PHASES))
    def test_each_phase_is_one_call_on_the_recording_from_there_on(self, small: Bundle, phase: int) -> None:
        data = signal(N)
        told = feed(Scorer(small), segments(data, [50]))
        x = small.chain().push(data, 0)
        wanted = one_shot(small, x[phase * HOP :], phase * HOP)
        assert_valid_are([p for p in told if p.start % EPOCH == phase * HOP], wanted)

    @given(sizes)
    def test_any_chunking_gives_the_same_posteriors(self, small: Bundle, sizes: list[int]) -> None:
        data = signal(8 * EPOCH)
        whole = feed(Scorer(small), segments(data, [len(data)]))
        cut = feed(Scorer(small), segments(data, sizes))
        assert [(p.start, p.stop, p.valid, p.reason) for p in cut] == [
            (p.start, p.stop, p.valid, p.reason) for p in whole
        ]
        assert_valid_are(cut, {p.stop: np.array(p.probs) for p in whole if p.valid})

    def test_one_sample_at_a_time_gives_the_same_posteriors(self, small: Bundle) -> None:
        data = signal(6 * EPOCH)
        assert_valid_are(feed(Scorer(small), segments(data, [1])), expected(small, [(0, data)]))

    def test_an_output_is_told_with_the_sample_that_completes_it(self, small: Bundle) -> None:
        scorer = Scorer(small)
        for segment in segments(signal(3 * EPOCH), [1]):
            stops = [p.stop for p in scorer.push(segment)]
            assert stops == ([segment.start + 1] if (segment.start + 1) % HOP == 0 else [])

    @given(st.integers(1, 8 * EPOCH - 1))
    def test_truncating_the_future_changes_nothing_earlier(self, small: Bundle, n: int) -> None:
        data = signal(8 * EPOCH)
        whole = feed(Scorer(small), segments(data, [97]))
        past = feed(Scorer(small), segments(data[:n], [97]))
        assert [p.stop for p in past] == [p.stop for p in whole if p.stop <= n]
        assert_valid_are(past, {p.stop: np.array(p.probs) for p in whole if p.valid and p.stop <= n})

    def test_outputs_are_unknown_until_an_epoch_is_full(self, small: Bundle) -> None:
        told = feed(Scorer(small), segments(signal(2 * EPOCH), [64]))
        assert [p.stop for p in told] == list(range(HOP, 2 * EPOCH + 1, HOP))
        assert [p.valid for p in told] == [p.stop >= EPOCH for p in told]
        for p in told:
            if not p.valid:
                assert (p.state, p.probs, p.reason) == (UNKNOWN, (), "warming up")

    def test_a_posterior_knows_what_it_describes(self, small: Bundle) -> None:
        for p in feed(Scorer(small), segments(signal(4 * EPOCH), [50])):
            assert p.stop - p.start == EPOCH
            assert p.t_stop_s == pytest.approx(T0_S + p.stop / SFREQ)
            assert p.t_start_s == pytest.approx(T0_S + p.start / SFREQ)
            assert (p.kind, p.lag_s) == ("final", 0.0)
            if p.valid:
                assert sum(p.probs) == pytest.approx(1.0)
                assert p.state == small.spec.labels[int(np.argmax(p.probs))]
                assert p.reason == ""

    def test_a_hop_of_an_epoch_is_the_published_grid(self, small: Bundle) -> None:
        data = signal(N)
        told = feed(Scorer(small, hop_s=4.0), segments(data, [1000]))
        assert_valid_are(told, one_shot(small, small.chain().push(data, 0), 0))
        assert len(told) == N // EPOCH

    def test_warming_up_the_machine_changes_no_answer(self, small: Bundle) -> None:
        data = signal(4 * EPOCH)
        warm = Scorer(small)
        warm.warm_up()
        assert feed(warm, segments(data, [50])) == feed(Scorer(small), segments(data, [50]))

    def test_two_scorers_of_one_bundle_share_nothing(self, small: Bundle) -> None:
        data, other = signal(6 * EPOCH), signal(6 * EPOCH, seed=9)
        first, second = Scorer(small), Scorer(small)
        told: list[Posterior] = []
        for a, b in zip(segments(data, [64]), segments(other, [64]), strict=True):
            told += first.push(a)
            second.push(b)
        assert_valid_are(told, expected(small, [(0, data)]))

    def test_input_is_not_modified(self, small: Bundle) -> None:
        data = signal(3 * EPOCH)
        kept = data.copy()
        feed(Scorer(small), segments(data, [100]))
        np.testing.assert_array_equal(data, kept)


class TestGaps:
    """What is missing is never bridged."""

    @pytest.mark.parametrize("n_lost", [0, 1, HOP, EPOCH, 5 * EPOCH + 3])
    def test_after_a_gap_everything_is_fresh_but_the_amplitude(self, small: Bundle, n_lost: int) -> None:
        at = 9 * EPOCH + 17
        data = signal(N + n_lost)
        pieces = [*segments(data[:at], [50]), lost(at, n_lost), *segments(data[at + n_lost :], [50], at + n_lost)]
        told = feed(Scorer(small), pieces)
        assert_valid_are(told, expected(small, [(0, data[:at]), (at + n_lost, data[at + n_lost :])]))

    def test_every_output_that_touches_a_gap_is_unknown_and_says_why(self, small: Bundle) -> None:
        at, n_lost = 5 * EPOCH, 2 * EPOCH
        data = signal(N)
        pieces = [*segments(data[:at], [50]), lost(at, n_lost), *segments(data[at + n_lost :], [50], at + n_lost)]
        told = feed(Scorer(small), pieces)
        assert [p.stop for p in told] == list(range(HOP, N + 1, HOP))  # one output a hop, gap or not
        for p in told:
            inside, after = at < p.stop <= at + n_lost, at + n_lost < p.stop < at + n_lost + EPOCH
            if inside or after:
                assert (p.state, p.valid, p.probs) == (UNKNOWN, False, ())
                assert p.reason == ("gap (samples lost)" if inside else "after gap (samples lost)")
                assert p.t_stop_s == pytest.approx(T0_S + p.stop / SFREQ)
            else:
                assert p.valid == (p.stop >= EPOCH)

    def test_a_break_without_missing_samples_is_as_strict(self, small: Bundle) -> None:
        at = 5 * EPOCH + 10
        data = signal(10 * EPOCH)
        told = feed(
            Scorer(small),
            [*segments(data[:at], [50]), lost(at, 0, "clock jumped back"), *segments(data[at:], [50], at)],
        )
        assert not [p for p in told if p.valid and p.start < at < p.stop]
        assert_valid_are(told, expected(small, [(0, data[:at]), (at, data[at:])]))

    @given(
        st.lists(st.tuples(st.integers(1, 8 * EPOCH - 1), st.sampled_from([0, 1, 30, HOP, 300, 900])), max_size=5),
        sizes,
    )
    def test_no_valid_output_touches_a_gap_wherever_gaps_are(
        self, small: Bundle, gaps: list[tuple[int, int]], sizes: list[int]
    ) -> None:
        data = signal(10 * EPOCH)
        pieces: list[Segment | Gap] = []
        runs: list[tuple[int, int]] = []
        at = 0
        for start, n_lost in sorted(gaps):
            if start < at:
                continue
            if start > at:
                pieces += segments(data[at:start], sizes, at)
                runs.append((at, start))
            pieces.append(lost(start, n_lost))
            at = start + n_lost
        pieces += segments(data[at:], sizes, at)
        runs.append((at, len(data)))
        told = feed(Scorer(small), pieces)
        for p in told:
            if p.valid:
                assert any(start <= p.start and p.stop <= stop for start, stop in runs)
        assert_valid_are(told, expected(small, [(start, data[start:stop]) for start, stop in runs]))
        assert [p.stop for p in told] == list(range(HOP, max(at, len(data)) // HOP * HOP + 1, HOP))

    def test_a_gap_that_comes_in_pieces_is_one_gap(self, small: Bundle) -> None:
        at, n_lost = 5 * EPOCH + 9, 700
        data = signal(N)
        head, tail = segments(data[:at], [50]), segments(data[at + n_lost :], [50], at + n_lost)
        whole = feed(Scorer(small), [*head, lost(at, n_lost), *tail])
        pieces = [lost(at + part.start, part.stop - part.start) for part in cuts(n_lost, [64])]
        assert feed(Scorer(small), [*head, *pieces, *tail]) == whole

    def test_a_gap_of_a_day_is_told_by_one_output(self, small: Bundle) -> None:
        at, n_lost = 5 * EPOCH, round(86_400 * SFREQ)
        told = Scorer(small).gap(lost(at, n_lost))
        assert [p.stop for p in told] == [(at + n_lost) // HOP * HOP]

    def test_samples_that_do_not_follow_on_are_refused(self, small: Bundle) -> None:
        scorer = Scorer(small)
        scorer.push(segments(signal(100), [100])[0])
        for start in (0, 99, 101, 5000):
            with pytest.raises(ValueError, match=f"samples from {start} on cannot follow sample 99"):
                scorer.push(segments(signal(10), [10], start)[0])


class TestWarmUp:
    """The chain has to learn the amplitude before its output may be used."""

    def test_nothing_is_valid_before_an_epoch_after_the_warm_up(self, warming: Bundle) -> None:
        warm_up = round(6.0 * SFREQ)
        data = signal(N)
        told = feed(Scorer(warming), segments(data, [50]))
        assert [p.valid for p in told] == [p.start >= warm_up for p in told]
        x = warming.chain().push(data, 0)
        for phase in range(N_PHASES):
            begin = next(b for b in range(phase * HOP, N, EPOCH) if b >= warm_up)
            assert_valid_are(
                [p for p in told if p.start % EPOCH == phase * HOP], one_shot(warming, x[begin:], begin)
            )

    def test_after_a_gap_the_filter_settles_first(self, warming: Bundle) -> None:
        at, n_lost, settle = 10 * EPOCH, 100, round(2.0 * SFREQ)
        data = signal(N)
        told = feed(
            Scorer(warming),
            [*segments(data[:at], [50]), lost(at, n_lost), *segments(data[at + n_lost :], [50], at + n_lost)],
        )
        after = [p for p in told if p.stop > at]
        assert [p.valid for p in after] == [p.start >= at + n_lost + settle for p in after]

    @pytest.mark.parametrize("at", [0, 100])
    def test_samples_that_are_missing_do_not_count_as_learnt(self, warming: Bundle, at: int) -> None:
        n_lost = round(20.0 * SFREQ)
        warm_up = round(6.0 * SFREQ) + n_lost
        data = signal(N + n_lost)
        head = segments(data[:at], [50]) if at else []
        told = feed(Scorer(warming), [*head, lost(at, n_lost), *segments(data[at + n_lost :], [50], at + n_lost)])
        assert min(p.start for p in told if p.valid) == -(-warm_up // HOP) * HOP


class TestNonFiniteOutput:
    """A network that overflows: its output is withheld, and nothing of it is carried on."""

    @pytest.fixture
    def bare(self, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        return Bundle(small_spec(preprocess=()), untrained(), "")

    @pytest.fixture
    def data(self) -> FloatArray:
        data = signal(N) / 30.0
        data[10 * EPOCH + 5 : 10 * EPOCH + 45] = 3e38  # finite, but more than a convolution can add up
        return data

    def test_it_is_unknown_and_counted(self, bare: Bundle, data: FloatArray) -> None:
        scorer = Scorer(bare)
        told = feed(scorer, segments(data, [50]))
        bad = [p for p in told if p.stop >= EPOCH and not p.valid]
        assert [p.stop for p in bad] == [p.stop for p in told if p.start <= 10 * EPOCH + 5 < p.stop]
        assert {(p.state, p.probs, p.reason) for p in bad} == {(UNKNOWN, (), "non-finite network output")}
        assert scorer.n_nonfinite_outputs == len(bad) == N_PHASES

    @pytest.mark.parametrize("size", [50, N])
    def test_each_phase_goes_on_alone_and_afresh(self, bare: Bundle, data: FloatArray, size: int) -> None:
        told = feed(Scorer(bare), segments(data, [size]))
        for phase in range(N_PHASES):
            begin = phase * HOP
            bad = next(b for b in range(begin, N, EPOCH) if b <= 10 * EPOCH + 5 < b + EPOCH)
            wanted = one_shot(bare, data[begin:bad], begin) | one_shot(bare, data[bad + EPOCH :], bad + EPOCH)
            assert_valid_are([p for p in told if p.start % EPOCH == begin], wanted)


class TestHop:
    """Time between outputs."""

    @pytest.mark.parametrize(
        ("hop_s", "sfreq", "step", "samples"),
        [
            (1.0, 100.0, 3000, 100),
            (30.0, 128.0, 3840, 3840),
            (0.5, 256.0, 7680, 128),
            (0.1, 100.0, 3000, 10),
            (1.0, 100.0, 0, 100),
        ],
    )
    def test_it_is_a_whole_number_of_samples_that_divides_the_step(
        self, hop_s: float, sfreq: float, step: int, samples: int
    ) -> None:
        assert hop_in_samples(hop_s, sfreq, plain(step) if step else None) == samples

    @pytest.mark.parametrize(
        ("hop_s", "sfreq", "text"),
        [
            (0.1, 128.0, "hop_s 0.1 is not a whole number of samples at 128 Hz"),
            (0.001, 100.0, "not a whole number of samples"),
            (7.0, 128.0, "hop_s 7 neither divides the network's step of 30 s nor is a multiple of it"),
            (45.0, 128.0, "neither divides"),
        ],
    )
    def test_another_hop_is_refused(self, hop_s: float, sfreq: float, text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            hop_in_samples(hop_s, sfreq, plain(round(30 * sfreq)))

    def test_the_bundle_knows_one(self, small: Bundle) -> None:
        assert Scorer(small).hop_samples == HOP
        assert Scorer(small, hop_s=2.0).hop_samples == 2 * HOP


class TestUnscored:
    """Without a bundle."""

    @given(sizes)
    def test_it_tells_an_unknown_at_every_hop(self, sizes: list[int]) -> None:
        told = feed(Unscored(HOP, SFREQ), segments(signal(1000), sizes))
        assert [(p.start, p.stop) for p in told] == [(k * HOP, (k + 1) * HOP) for k in range(1000 // HOP)]
        assert all((p.state, p.valid, p.reason) == (UNKNOWN, False, "no bundle") for p in told)
        assert all(p.t_stop_s == pytest.approx(T0_S + p.stop / SFREQ) for p in told)

    def test_a_gap_moves_it_on(self) -> None:
        scorer = Unscored(HOP, SFREQ)
        told = feed(scorer, [*segments(signal(100), [50]), lost(100, 1000), *segments(signal(100), [50], 1100)])
        assert [p.stop for p in told] == [64, 1152]


def test_the_chain_of_the_test_bundle_is_the_one_that_is_meant(small: Bundle) -> None:
    assert small.spec.preprocess == CHAIN
