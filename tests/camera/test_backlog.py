from __future__ import annotations

from streamscore.camera.backlog import Backlog


def told(backlog: Backlog, begin_s: float, end_s: float, late_s: float, fresh: bool = False) -> list[str]:
    """Notices of a camera that is read ten times a second."""
    texts = []
    for k in range(round(10 * begin_s), round(10 * end_s)):
        backlog.add(late_s, k / 10, fresh)
        texts += [text for _, text in backlog.notices()]
    return texts


def test_it_is_told_after_a_second_and_then_every_half_minute() -> None:
    backlog = Backlog()
    assert told(backlog, 0, 100, 0.4) == []
    assert told(backlog, 100, 101, 3.0) == []
    (text,) = told(backlog, 101, 131, 3.0)
    assert text.startswith("falling behind: frames wait 3.0 s before they are taken. Score less often")
    assert len(told(backlog, 131, 191, 4.0)) == 2


def test_a_burst_is_not_told() -> None:
    backlog = Backlog()
    for k in range(20):
        assert told(backlog, 2 * k, 2 * k + 0.9, 3.0) == []
        assert told(backlog, 2 * k + 0.9, 2 * k + 2, 0.0) == []


def test_frames_that_come_late_although_they_are_waited_for_are_not_the_engines_fault() -> None:
    (text,) = told(Backlog(), 0, 5, 2.0, fresh=True)
    assert "the camera's program is behind, or the camera's clock stood still" in text
