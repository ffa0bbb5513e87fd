from __future__ import annotations

from itertools import islice
from threading import Event
from typing import Any

import numpy as np
import pytest

from streamscore.labels import RUNREST
from streamscore.simulate.cortex import Cortex
from tools.cortex_frames import cortex_frames
from tools.cortex_frames import play as play_cortex
from tools.sim_camera import Options

N_SAMPLES = 120
SFREQ = 4.0


def cortex(**options: Any) -> Cortex:
    """Return a small mouse with short bouts; the same each time."""
    return Cortex(seed=29, sfreq=SFREQ, frame_shape=(16, 16), cycle_s=60.0, **options)


@pytest.fixture(scope="module")
def movie() -> Any:
    return cortex().read(N_SAMPLES)


def test_frames_come_light_after_light_with_every_change_of_state(movie: Any) -> None:
    said: list[dict[str, Any]] = []
    speeds: list[float] = []
    frames = list(
        islice(cortex_frames(cortex(), said.append, wheel=lambda part: speeds.extend(part)), 4 * N_SAMPLES)
    )
    np.testing.assert_array_equal(frames, movie.raw)
    np.testing.assert_array_equal(speeds[:N_SAMPLES], movie.wheel_cm_s)
    changes = [0, *(np.flatnonzero(np.diff(movie.states)) + 1).tolist()]
    assert [line["sample"] for line in said] == changes
    assert [line["state"] for line in said] == [("Wake", "NREM", "REM")[movie.states[k]] for k in changes]
    assert len(changes) > 2


def test_running_is_another_truth() -> None:
    said: list[dict[str, Any]] = []
    movie = cortex(sleeps=False).read(N_SAMPLES)
    for _ in islice(cortex_frames(cortex(sleeps=False), said.append, labels=RUNREST), 4 * N_SAMPLES):
        pass
    assert [line["state"] for line in said][:2] == ["rest", "run"]
    assert said[1]["sample"] == int(np.argmax(movie.running))


def test_a_camera_over_it_waits_for_whoever_takes_frames_and_tells_all(capfd: pytest.CaptureFixture[str]) -> None:
    options = Options(
        rate_hz=400.0, duration_s=0.1, to="push", bind=True, endpoint="tcp://127.0.0.1:*", wait_s=0.01
    )
    play_cortex(cortex(), options, Event(), wheel="wheel-of-a-test")
    events = [line.split('"')[3] for line in capfd.readouterr().out.splitlines()]
    assert sorted(set(events)) == ["finished", "started", "truth", "visible"]
    assert events.index("visible") < events.index("started") < events.index("finished")
