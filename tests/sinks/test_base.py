from __future__ import annotations

import os
import threading

import pytest

from streamscore.sinks.base import patient_threads

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux knows SCHED_BATCH")


def policy_of_a_new_thread() -> int:
    """Return how the system schedules a thread that is started now."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return found[0]


def test_only_threads_started_inside_are_patient() -> None:
    before = os.sched_getscheduler(0)
    with patient_threads():
        assert policy_of_a_new_thread() == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == before
    assert policy_of_a_new_thread() == before


def test_an_error_inside_leaves_nothing_behind() -> None:
    before = os.sched_getscheduler(0)
    with pytest.raises(KeyError), patient_threads():
        raise KeyError
    assert os.sched_getscheduler(0) == before


def test_a_system_that_forbids_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with patient_threads():
        assert policy_of_a_new_thread() == os.sched_getscheduler(0)
