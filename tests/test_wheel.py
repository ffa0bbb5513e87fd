from __future__ import annotations

import uuid

import numpy as np
import pylsl

from tools.wheel import Wheel

PATIENCE_S = 10.0


def test_speeds_come_with_the_times_of_their_samples() -> None:
    name = f"wheel-{uuid.uuid4().hex[:6]}"
    wheel = Wheel(name, 100.0)
    (found,) = pylsl.resolve_byprop("name", name, timeout=PATIENCE_S)
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(PATIENCE_S)
    assert inlet.info().get_channel_labels() == ["speed"]
    assert inlet.info().get_channel_units() == ["cm/s"]
    t0_s = pylsl.local_clock()
    wheel.add(np.array([0.0, 1.5], np.float32))
    wheel.begin(t0_s)
    wheel.add(np.array([3.0], np.float32))
    got = [inlet.pull_sample(PATIENCE_S) for _ in range(3)]
    assert pylsl.local_clock() >= t0_s + 0.02  # none before its time
    wheel.close()
    assert [sample[0] for sample, _ in got] == [0.0, 1.5, 3.0]
    np.testing.assert_allclose([stamp - t0_s for _, stamp in got], [0.0, 0.01, 0.02], atol=1e-9)
    inlet.close_stream()
