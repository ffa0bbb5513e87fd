from __future__ import annotations

import numpy as np
import pytest

from streamscore.bundle import open_bundle
from streamscore.camera.wire import decode
from streamscore.config import parse_rig
from tools import bench_camera
from tools.bench_camera import CASES, Case, Found, Parts


@pytest.mark.parametrize("name", CASES)
def test_each_case_is_a_rig_file_whose_chain_fits_its_network(name: str) -> None:
    case = CASES[name]
    config = parse_rig(bench_camera.rig_file(case, "tcp://127.0.0.1:5"), "bench")
    bundle = open_bundle(config.bundle)
    assert bundle.layout.sample_shape == (len(case.lights), 128, 128)
    assert bundle.spec.sfreq == pytest.approx(case.rate_hz / len(case.lights))
    assert not bundle.is_trained


def test_the_camera_of_a_case_goes_through_its_lights() -> None:
    frames = [
        decode(parts, 0.0) for parts, _ in zip(bench_camera.messages(CASES["mesoscope"]), range(9), strict=False)
    ]
    assert [frame.counter for frame in frames] == list(range(9))
    assert frames[5].tag == "reflectance_523"
    assert frames[8].device_s == pytest.approx(8 / 67.2)
    assert frames[0].data.shape == (512, 512)


def found(latency_ms: float) -> Found:
    case = Case("a rig", 33.6, ("a", "b"), (8, 8), {}, (), limit_ms=20.0)
    parts = Parts(
        latency=[latency_ms / 1e3] * 100,
        handled=[0.010] * 100,
        chain=[0.5] * 7 + [0.002] * 100,  # of samples before the first that was scored
        forward=[0.007] * 100,
    )
    return Found(case, 6.0, 3, parts, np.array([1e-4] * 9 + [0.05]), {"missing_samples": 2})


def test_overhead_is_what_neither_chain_nor_network_took() -> None:
    np.testing.assert_allclose(found(12.0).overhead_ms, 1.0)


def test_the_report_tells_whether_the_target_was_met() -> None:
    text = bench_camera.report([found(12.0)], {"frames": 612.3})
    assert "p99.9 below 20.0 ms: met. Deadline of 59.5 ms missed 3 times" in text
    assert "the timer loop woke later than half of it 1 times. Samples lost: 2." in text
    assert "| frame → event | 12.00 | 12.00 | 12.00 | 12.00 |" in text
    assert "| frames | 612 |" in text
    assert "p99.9 below 20.0 ms: MISSED" in bench_camera.report([found(21.0)], {})


def test_ingest_takes_real_frames_from_a_socket() -> None:
    assert bench_camera.ingest((64, 64), (32, 32), 0.3) > 0.1
