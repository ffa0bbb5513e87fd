from __future__ import annotations

import numpy as np
import pytest

from streamscore.camera.assembler import Assembler
from streamscore.camera.config import CameraConfig
from streamscore.camera.frame import RawFrame
from streamscore.camera.senders import Senders

LIGHTS = ("a", "b", "c", "d")
RATE_HZ = 67.2


def frame(k: int, received_s: float, value: int) -> RawFrame:
    return RawFrame(np.full((4, 4), value, np.uint16), float("nan"), k, LIGHTS[k % 4], received_s)


@pytest.mark.parametrize("ahead", [0, 1, 3, 4, 40])
def test_two_cameras_at_one_address_are_never_mixed_for_long_and_are_told(ahead: int) -> None:
    assembler = Assembler(CameraConfig(rate_hz=RATE_HZ, lights=LIGHTS), (4, 4), np.dtype(np.uint16))
    rng = np.random.default_rng(0)
    delivered: list[tuple[float, np.ndarray]] = []
    told: list[str] = []
    for k in range(1500):
        t_s = k / RATE_HZ
        pair = [frame(k, t_s, 1)]
        if 300 <= k < 900:  # the second camera is there for nine seconds
            pair.append(frame(k + ahead, t_s, 2))
            rng.shuffle(pair)  # type: ignore[arg-type]
        for one in pair:
            assembler.push(one)
        chunk = assembler.take(0.0, t_s)
        if chunk is not None:
            delivered += [(t_s, cycle) for cycle in chunk.data]
        told += [text for _, text in assembler.notices()]
    both = [t_s for t_s, _ in delivered if 300 / RATE_HZ + 1.0 <= t_s < 900 / RATE_HZ]
    assert both == []
    assert any("two cameras" in text for text in told)
    # Once one remains it is scored again, and it is one.
    after = [cycle for t_s, cycle in delivered if t_s > 900 / RATE_HZ + 6.0]
    assert len(after) > 20
    assert all((cycle == 1).all() for cycle in after)


def test_a_few_repeats_and_a_restart_are_no_second_camera() -> None:
    senders = Senders(RATE_HZ)
    for dropped in [False] * 200 + [True] * 12 + [False] * 200 + [True, *[False] * 7] * 100:
        senders.add(dropped)
        assert not senders.are_two
