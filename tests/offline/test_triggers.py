"""A policy replayed: what is a trigger, what is false, what was missed, to the second."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from offline.figures import figures
from offline.measures.triggers import catches, replay
from streamscore.labels import MOUSE3
from streamscore.policies.dwell import Config, build
from streamscore.types import Posterior
from tests.offline.scores import scored


def outputs(codes: npt.ArrayLike, hop_s: float = 1.0, lag_s: float = 0.0, kind: str = "final") -> list[Posterior]:
    """An output each hop that names `codes`; -1 is not valid."""
    told = []
    for k, code in enumerate(np.asarray(codes)):
        stop_s = 4.0 + k * hop_s
        probs = tuple(0.9 if i == code else 0.05 for i in range(3)) if code >= 0 else ()
        state = MOUSE3[code] if code >= 0 else "UNKNOWN"
        told.append(
            Posterior(
                k, k + 4, stop_s - 4.0, stop_s, probs, state, code >= 0, "" if code >= 0 else "gap", kind, lag_s
            )
        )
    return told


def policy(**changes: object) -> object:
    fields = {"states": ("REM",), "probability": 0.8, "dwell_s": 3.0, "duration_s": 5.0, "refractory_s": 20.0}
    return build(Config(**{**fields, **changes}), MOUSE3)


def test_dwell_duration_and_refractory_time_are_those_of_the_policy() -> None:
    # REM from the output at 10 s on: on at 13 s for 5 s, again at 33 s.
    on_off = replay(outputs([0] * 6 + [2] * 40), policy())
    assert on_off.tolist() == [[13.0, 18.0], [33.0, 38.0]]


def test_leaving_the_state_or_an_invalid_output_switches_off() -> None:
    assert replay(outputs([2] * 5 + [0] * 5), policy()).tolist() == [[7.0, 9.0]]
    assert replay(outputs([2] * 5 + [-1] * 5), policy()).tolist() == [[7.0, 9.0]]
    assert replay(outputs([2] * 5), policy()).tolist() == [[7.0, 8.0]]  # the recording ends
    assert replay(outputs([0] * 9), policy()).shape == (0, 2)


def test_lag_is_in_the_time_of_a_trigger_and_can_make_it_too_old() -> None:
    assert replay(outputs([2] * 10, lag_s=1.5), policy())[0].tolist() == [8.5, 13.5]
    assert replay(outputs([2] * 10, lag_s=2.5), policy(max_age_s=2.0)).shape == (0, 2)


def test_a_policy_sees_only_the_kind_that_it_uses() -> None:
    mixed = [p for pair in zip(outputs([2] * 9), outputs([0] * 9, kind="provisional"), strict=True) for p in pair]
    assert len(replay(mixed, policy())) == 1
    assert len(replay(mixed, policy(uses="provisional"))) == 0


def test_figures_of_a_policy_by_hand() -> None:
    # Epochs of 4 s: REM at 8–20 s, 28–32 s (missed) and 48–56 s; unlabelled at 36–40 s.
    truth = [0, 0, 2, 2, 2, 0, 0, 2, 0, -1, 0, 0, 2, 2, 0]
    actions = [[11.0, 15.0], [18.0, 22.0], [25.0, 27.0], [37.0, 38.0], [49.0, 50.0]]
    one = scored(truth, target=("REM",), actions_s=np.array(actions))
    assert catches(one).tolist() == pytest.approx([3.0, np.nan, 1.0], nan_ok=True)
    found = figures([one], n_draws=0)["pooled"]["triggers"]
    assert (found["true"], found["false"], found["uncounted"]) == (3, 1, 1)
    assert found["states"] == ["REM"]
    assert (found["onset"]["n"], found["onset"]["missed"]) == (3, 1)
    assert found["onset"]["median_s"]["value"] == 2.0
    assert found["hours"] == pytest.approx(14 * 4 / 3600)
    assert found["false_per_hour"]["value"] == pytest.approx(1 / (14 * 4 / 3600))
    # On in labelled time for 4 + 4 + 2 + 1 s, of which 4 + 2 + 1 in REM, which lasts 24 s.
    assert found["time_on_target"]["value"] == pytest.approx(7 / 11)
    assert found["time_covered"]["value"] == pytest.approx(7 / 24)


def test_several_target_states_are_one_bout() -> None:
    one = scored([0, 1, 2, 1, 0], target=("NREM", "REM"), actions_s=np.array([[13.0, 14.0]]))
    assert catches(one).tolist() == [9.0]


def test_a_bout_with_an_unknown_beginning_has_no_onset() -> None:
    one = scored([2, 2, 0, -1, 2, 2], target=("REM",), actions_s=np.array([[1.0, 2.0], [17.0, 18.0]]))
    assert catches(one).shape == (0,)
    found = figures([one], n_draws=0)["pooled"]["triggers"]
    assert (found["true"], found["onset"]["n"]) == (2, 0)


def test_without_a_trigger_nothing_is_defined_but_what_was_missed() -> None:
    found = figures([scored([0, 2, 2, 0], target=("REM",))], n_draws=0)["pooled"]["triggers"]
    assert found["onset"]["missed"] == 1
    assert found["onset"]["median_s"]["value"] is None
    assert found["time_on_target"]["value"] is None
    assert found["false_per_hour"]["value"] == 0.0
