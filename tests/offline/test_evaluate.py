"""Recordings through the engine: what is counted, what is not and why, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline.datasets.base import Entry
from offline.evaluate import evaluate_bundle, refuse_training_subjects, training_subjects
from offline.figures import figures
from offline.scored import NO_OUTPUT
from offline.scoring import Settings, score_one
from offline.spans import Span
from streamscore.errors import BundleError, ConfigError, RecordingError
from streamscore.labels import AASM5
from streamscore.metrics import confusion_matrix
from streamscore.recordings.base import Recording
from tests.offline.scores import EPOCH_S, SFREQ, level_bundle, night, recording, with_errors

REM_POLICY = {"kind": "dwell", "states": ["REM"], "probability": 0.8, "dwell_s": 0.0, "refractory_s": 8.0}


@dataclass(frozen=True)
class InMemory:
    """A data set that is its recordings: subject → recordings."""

    recordings: dict[str, Sequence[Recording]]
    kind: str = "memory"
    folder: Path = Path("memory")
    is_simulated: bool = True
    reads: list[str] = field(default_factory=list)

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted(self.recordings))

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(
            Entry(subject, one.name, Path(f"{k}.npz"))
            for subject in self.subjects
            for k, one in enumerate(self.recordings[subject])
        )

    def read(self, entry: Entry) -> Recording:
        self.reads.append(entry.session)
        return self.recordings[entry.subject][int(entry.signal.stem)]


def mice(n: int = 2, share: float = 0.1) -> InMemory:
    truths = [night(k, 120) for k in range(n)]
    return InMemory({f"m{k}": [recording(with_errors(t, share, k), t, f"m{k}_day")] for k, t in enumerate(truths)})


def test_a_scorer_of_known_errors_has_the_figures_of_these_errors() -> None:
    data = mice()
    scored = evaluate_bundle(level_bundle(), data)
    for k, one in enumerate(scored):
        truth = night(k, 120)
        assert one.truth.tolist() == truth.tolist()
        assert one.codes.tolist() == with_errors(truth, 0.1, k).tolist()
        assert (one.subject, one.session, one.lag_s, one.epoch_s) == (f"m{k}", f"m{k}_day", 0.0, EPOCH_S)
        assert one.stream_s == 120 * EPOCH_S
        assert one.compute_s > 0
    want = sum(confusion_matrix(one.truth, one.codes, 3) for one in scored)
    assert figures(scored, n_draws=0)["pooled"]["confusion"] == want.tolist()


def test_look_ahead_makes_outputs_late_and_the_last_epoch_unknown() -> None:
    truth = night(0, 60)
    one = score_one(recording(truth), level_bundle(ahead=True), Settings(), subject="m0", session="m0")
    assert one.lag_s == EPOCH_S
    assert one.codes.tolist() == [*truth[:-1].tolist(), -1]
    assert one.reasons[one.reason[-1]] == NO_OUTPUT
    told = figures([one], n_draws=0)["pooled"]
    assert told["onsets"]["all"]["median_s"]["value"] == 2 * EPOCH_S  # an epoch, and the lag
    assert told["coverage"]["unknown"] == {NO_OUTPUT: 1}


def test_only_hours_of_a_span_count_and_the_rest_is_scored_before() -> None:
    truth = night(0, 1800)
    data = InMemory({"m0": [recording(truth)]})
    (one,) = evaluate_bundle(level_bundle(), data, ["m0@1-h"])
    assert (one.subject, one.session) == ("m0@1-h", "m1_day@1-h")
    assert (one.truth[:900] == -1).all()
    assert one.truth[900:].tolist() == truth[900:].tolist()
    assert (one.codes == truth).all()
    with pytest.raises(RecordingError, match=r"none of its labelled epochs is in m0@3-4h"):
        evaluate_bundle(level_bundle(), data, ["m0@3-4h"])
    with pytest.raises(ConfigError, match="named twice, or its hours overlap"):
        evaluate_bundle(level_bundle(), data, ["m0@0-1h", "m0"])


def test_gaps_flat_stretches_and_nan_are_unknown_with_their_reason() -> None:
    truth = night(0, 60)
    whole = recording(truth)
    data = whole.data.copy()
    per_epoch = round(EPOCH_S * SFREQ)
    data[10 * per_epoch : 12 * per_epoch] = np.nan
    lost = (whole.stamps_s >= 30 * EPOCH_S) & (whole.stamps_s < 33 * EPOCH_S)
    broken = replace(whole, data=data[~lost], stamps_s=whole.stamps_s[~lost])
    one = score_one(broken, level_bundle(), Settings(), subject="m0", session="m0")
    assert (one.codes[10:12] == -1).all()
    assert (one.truth[10:12] >= 0).all()  # there were samples: it is the scorer that cannot say
    assert (one.truth[30:33] == -1).all()  # there were none
    unknown = figures([one], n_draws=0)["pooled"]["coverage"]["unknown"]
    assert sum(unknown.values()) == 2
    assert all("non-finite" in reason for reason in unknown)


def test_labels_need_not_begin_with_the_signal() -> None:
    truth = night(0, 60)
    whole = recording(truth)
    lead = round(3.0 * SFREQ)
    data = np.concatenate([np.zeros((lead, 1), np.float32) + 0.1 * np.arange(lead)[:, None], whole.data])
    late = replace(
        whole, data=data.astype(np.float32), stamps_s=100.0 + np.arange(len(data)) / SFREQ, states_t0_s=103.0
    )
    (one,) = evaluate_bundle(level_bundle(), InMemory({"m0": [late]}))
    assert one.t0_s == pytest.approx(103.0)
    assert one.truth.tolist() == one.codes.tolist() == truth.tolist()


def test_a_policy_is_replayed_at_the_hop_of_the_bundle() -> None:
    truth = np.repeat([0, 2, 0, 2, 0], 10).astype(np.int8)
    bundle = level_bundle(hop_s=1.0)
    one = score_one(recording(truth), bundle, Settings(policy=REM_POLICY), subject="m0", session="m0")
    assert one.hop_s == 1.0
    assert one.target == ("REM",)
    assert len(one.outputs_s) > 150
    assert one.codes.tolist() == truth.tolist()
    found = figures([one], n_draws=0)["pooled"]["triggers"]
    # The mean of the last 4 s is nearer to 2 than to 1 as soon as three of them are REM.
    assert found["onset"]["median_s"]["value"] <= EPOCH_S
    assert found["onset"]["missed"] == 0
    assert found["true"] == 10


def test_a_policy_that_does_not_go_with_the_bundle_is_refused() -> None:
    with pytest.raises(ConfigError, match="refuses outputs older than max_age_s 2"):
        evaluate_bundle(level_bundle(ahead=True), mice(), settings=Settings(policy=REM_POLICY))
    with pytest.raises(ConfigError, match="'N3' is not scored by this bundle"):
        evaluate_bundle(level_bundle(), mice(), settings=Settings(policy={**REM_POLICY, "states": ["N3"]}))


def test_recordings_that_cannot_be_compared_are_left_out_and_told() -> None:
    data = mice(1)
    data.recordings["blank"] = [recording([0, 1, 1], [-1, -1, -1], "blank")]
    data.recordings["flat"] = [
        replace(recording([0, 1, 1] * 20, name="flat"), data=np.zeros((60 * 64, 1), np.float32))
    ]
    told: list[tuple[str, str, str]] = []
    seen: list[tuple[str, int, int]] = []
    scored = evaluate_bundle(
        level_bundle(), data, leave_out=lambda *one: told.append(one), progress=lambda *at: seen.append(at)
    )
    assert [one.subject for one in scored] == ["m0"]
    assert [one[:2] for one in told] == [("blank", "blank"), ("flat", "flat")]
    assert "blank: has no labels to compare with" in told[0][2]
    assert "flat: no labelled epoch of it could be scored" in told[1][2]
    assert seen == [("blank", 0, 3), ("flat", 1, 3), ("m0_day", 2, 3)]
    del data.recordings["m0"]
    with pytest.raises(RecordingError, match=r"nothing could be evaluated:\n.*blank.*\n.*flat"):
        evaluate_bundle(level_bundle(), data)


def test_wrong_subjects_and_look_aheads_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"has no subject 'm9'; it has m0, m1"):
        evaluate_bundle(level_bundle(), mice(), ["m9"])
    with pytest.raises(ConfigError, match="no subjects to evaluate on"):
        evaluate_bundle(level_bundle(), mice(), [])
    with pytest.raises(BundleError, match="has no look-ahead to choose"):
        evaluate_bundle(level_bundle(), mice(), look_aheads_s=[0.0, 4.0])
    with pytest.raises(ConfigError, match="one or more different numbers"):
        evaluate_bundle(level_bundle(), mice(), look_aheads_s=[])


def test_another_vocabulary_is_refused_or_merged() -> None:
    truth = night(0, 60)
    human = recording(truth, np.array([0, 3, 4])[truth], labels=AASM5)  # Wake, N3, REM
    with pytest.raises(ConfigError, match="add --merge to compare both as MOUSE3"):
        score_one(human, level_bundle(), Settings(), subject="h", session="h")
    one = score_one(human, level_bundle(), Settings(merge=True), subject="h", session="h")
    assert one.truth.tolist() == truth.tolist()
    assert (one.codes == truth).all()


@pytest.mark.parametrize("trained", [{"train": ["m1"]}, {"train": ["m3"], "validation": ["m1@0-2h"]}])
def test_subjects_that_were_trained_on_are_refused(trained: dict[str, Any]) -> None:
    bundle = level_bundle(provenance={"subjects": trained})
    spans = [Span("m0"), Span("m1", 1.0)]
    with pytest.raises(BundleError, match=r"was trained on m1.*: figures on m1@1-h .*--allow-training-subjects"):
        refuse_training_subjects(bundle, spans)
    assert refuse_training_subjects(bundle, spans, allow=True) == (True, ("m1@1-h",))
    assert refuse_training_subjects(bundle, spans[:1]) == (False, ())
    assert refuse_training_subjects(level_bundle(), spans) == (None, ())


def test_other_hours_of_an_animal_that_was_learnt_from_are_named() -> None:
    trained = {"train": ["m0@0-13.5h"], "validation": ["m0@13.5-16h"]}
    bundle = level_bundle(provenance={"subjects": trained})
    message = r"m0@0-13\.5h, m0@13\.5-16h: figures on m0 say .*other hours of these, as --subjects m0@16-h\)"
    with pytest.raises(BundleError, match=message):
        refuse_training_subjects(bundle, [Span("m0")])
    assert refuse_training_subjects(bundle, [Span("m0", 16.0)]) == (False, ())


def test_a_fine_tuned_bundle_remembers_whom_its_parents_learnt_from() -> None:
    own = {"train": ["m3"], "validation": ["m4"]}

    def tuned(before: Any) -> Any:
        return level_bundle(provenance={"subjects": {**own, "before": before}})

    first = {"train": ["m1"], "validation": ["m2"]}
    for before in (["m1", "m2"], first, {"train": ["m2"], "validation": [], "before": {"train": ["m1"]}}):
        assert set(training_subjects(tuned(before)) or ()) == {"m1", "m2", "m3", "m4"}
        with pytest.raises(BundleError, match="trained on m1"):
            refuse_training_subjects(tuned(before), [Span("m1")])
        assert refuse_training_subjects(tuned(before), [Span("m9")]) == (False, ())
    for unknown in (None, {**first, "before": None}):
        assert training_subjects(tuned(unknown)) is None
        assert refuse_training_subjects(tuned(unknown), [Span("m9")]) == (None, ())
        with pytest.raises(BundleError, match="trained on m3"):  # this much is known
            refuse_training_subjects(tuned(unknown), [Span("m3")])
