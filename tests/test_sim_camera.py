"""The simulated camera does what its options say, and its frames arrive as it sent them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamscore.clock import LslClock, VirtualClock
from streamscore.errors import ConfigError
from streamscore.sources.zmq_frames import Config, build
from tools.sim_camera import Options, Shot, ZmqSender, noise_frames, play, run, shots

TINY = np.zeros((2, 3), np.uint16)


def take(options: Options, n: int = 20_000) -> list[Shot]:
    return list(shots(itertools.repeat(TINY, n), options, t0_s=10.0))


def test_frames_are_exposed_on_a_grid_and_written_on() -> None:
    options = Options(counter_start=250, counter_bits=8, clock_offset_s=-1000.0, drift_ppm=100.0, delay_s=0.01)
    some = take(options, 1000)
    exposed_s = 10.0 + np.arange(1000) / 67.2
    np.testing.assert_allclose([s.exposed_s for s in some], exposed_s)
    np.testing.assert_allclose([s.due_s for s in some], exposed_s + 0.01)
    np.testing.assert_allclose([s.device_s for s in some], (exposed_s + 1000.0) / 1.0001)
    assert [s.counter for s in some] == [(250 + i) % 256 for i in range(1000)]
    assert [s.tag for s in some[:5]] == [*options.lights, options.lights[0]]
    assert not any(s.lost for s in some)


def test_a_camera_can_say_nothing() -> None:
    (shot, *_) = take(Options(tags=False, counted=False, timed=False), 3)
    assert (shot.tag, shot.counter, shot.device_s) == (None, None, None)


@pytest.mark.parametrize(("loss", "loss_run"), [(0.1, 1.0), (0.05, 4.0)])
def test_losses_are_as_many_and_as_long_as_wanted(loss: float, loss_run: float) -> None:
    lost = np.array([s.lost for s in take(Options(loss=loss, loss_run=loss_run))])
    n_runs = np.count_nonzero(np.diff(lost.astype(int)) == 1)
    assert lost.mean() == pytest.approx(loss, rel=0.15)
    assert lost.sum() / n_runs == pytest.approx(loss_run, rel=0.15)


def test_jitter_and_bursts_delay_frames_and_never_reorder_them() -> None:
    some = take(Options(delay_s=2e-3, jitter_s=3e-3, burst_every_s=5.0, burst_s=0.2), 5000)
    late_s = np.array([s.due_s - s.exposed_s for s in some])
    assert late_s.min() >= 2e-3
    assert np.median(late_s) == pytest.approx(2e-3 + 3e-3 * np.log(2), rel=0.1)
    assert 0.19 < late_s.max() < 0.25
    assert (np.diff([s.due_s for s in some]) >= 0).all()
    assert np.count_nonzero(np.diff([s.due_s for s in some]) == 0) > 50  # bursts leave at once


def test_the_same_seed_gives_the_same() -> None:
    options = Options(loss=0.1, jitter_s=3e-3)
    assert [(s.due_s, s.lost) for s in take(options, 500)] == [(s.due_s, s.lost) for s in take(options, 500)]
    other = [s.lost for s in take(replace(options, seed=1), 500)]
    assert other != [s.lost for s in take(options, 500)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_noise_tells_the_lights_apart(dtype: str) -> None:
    some = [*itertools.islice(noise_frames((8, 9), dtype, n_lights=2, level=200.0, noise=5.0), 10)]
    assert {(frame.shape, frame.dtype.name) for frame in some} == {((8, 9), dtype)}
    assert all(bright.mean() > dark.mean() + 50 for dark, bright in zip(some[::2], some[1::2], strict=True))


def test_frames_are_sent_when_they_are_due_and_losses_are_not() -> None:
    clock = VirtualClock(10.0)
    sent: list[tuple[int, float]] = []

    class Keep:
        endpoint = ""

        def send(self, shot: Shot) -> bool:
            sent.append((shot.index, clock.now_s()))
            return shot.index != 7

        def close(self) -> None:
            pass

    some = take(Options(loss=0.2, seed=2), 100)
    result = play(some, Keep(), clock)
    assert sent == [(s.index, pytest.approx(s.due_s)) for s in some if not s.lost]
    assert (result.frames + result.refused, result.lost, result.refused) == (len(sent), 100 - len(sent), 1)


def test_it_runs_over_tcp() -> None:
    options = Options(rate_hz=400.0, duration_s=1.0, lights=("blue", "violet"), bind=False)
    config = Config(endpoint="tcp://127.0.0.1:*", rate_hz=400.0, lights=("blue", "violet"))
    source = build(config, LslClock())
    bound = threading.Event()
    said: list[dict[str, Any]] = []

    def pictures() -> Iterator[np.ndarray]:
        for i in itertools.count():
            yield np.full((4, 4), i, np.uint16)

    def be_the_camera() -> None:
        while not source.endpoint and not bound.wait(0.005):
            pass
        run(pictures(), replace(options, endpoint=source.endpoint), threading.Event(), said.append)

    thread = threading.Thread(target=be_the_camera)
    thread.start()
    try:
        info = source.open(None)
        source.begin()
        numbers: list[int] = []
        while len(numbers) < 200:
            chunk = source.read(5.0)
            if chunk is not None:
                numbers += chunk.data[:, :, 0, 0].ravel().astype(int).tolist()
    finally:
        bound.set()
        thread.join()
        source.close()
    assert (info.sfreq, info.frame_shape) == (200.0, (4, 4))
    assert numbers == [*range(numbers[0], numbers[0] + len(numbers))]
    assert numbers[0] % 2 == 0
    assert [entry["event"] for entry in said] == ["started", "finished"]
    assert (said[1]["frames"], said[1]["refused"]) == (400, 0)


def test_an_endpoint_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot use endpoint 'tcp://nowhere'"):
        ZmqSender(Options(endpoint="tcp://nowhere"))
