"""Cameras through the whole engine: real sockets, real frames, several streams."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from streamscore.assemble import Assembly
from streamscore.bundle import open_bundle
from streamscore.camera.wire import encode
from streamscore.clock import LslClock, VirtualClock
from streamscore.config import RigConfig, parse_rig
from streamscore.events import Event
from streamscore.movies.base import read_movie
from streamscore.score import score_file
from streamscore.simulate.cortex import FOUR_LIGHTS, simulate_movie
from streamscore.sinks.base import Sink
from tools import replay_movie

SHARED = Path(__file__).parents[3] / "shared" / "data"
WFCI = SHARED / "wfci_frames" / "two_camera_128.npz"
SFREQ = 16.8
RATE_HZ = SFREQ * len(FOUR_LIGHTS)
SHAPE = (32, 32)
NETWORK: dict[str, Any] = {
    "model": "cnn_bilstm",
    "model_args": {
        "variant": "causal", "frame_shape": SHAPE, "n_filters": 4, "n_hidden": 4, "n_blocks": 3,
        "epoch_frames": 17, "attention_frames": 17,
    },
    "channels": list(FOUR_LIGHTS),
    "sfreq": SFREQ,
    "preprocess": [
        {"kind": "dark_frame", "dark": 100.0},
        {"kind": "haemoglobin", "method": "ratiometric", "warm_up_s": 1.0},
        {"kind": "gaussian"},
        {"kind": "pixel_normalise", "warm_up_s": 1.0},
    ],
}  # fmt: skip


class Keep(Sink):
    """Keeps events; tells when the run has begun."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.begun = threading.Event()

    def write(self, event: Event, text: str) -> None:
        self.events.append(event)
        self.begun.set()

    def close(self) -> None:
        pass

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]


class Rig:
    """An engine on a thread, which a camera feeds over ZeroMQ.

    Parameters
    ----------
    source
        Of the camera; more than what it is by default.
    config
        Rig file, as parsed.
    """

    def __init__(self, source: dict[str, Any], **config: Any) -> None:
        section = {
            "kind": "zmq_frames", "endpoint": free_endpoint(), "rate_hz": RATE_HZ, "lights": list(FOUR_LIGHTS),
            "frame_shape": list(SHAPE), "stop_when_silent_s": 1.0, **source,
        }  # fmt: skip
        self.endpoint: str = section["endpoint"]
        content = {"source": section, "record": None, "sinks": [], "bundle": None, **config}
        self.keep = Keep()
        assembly = Assembly(RigConfig(**content))
        self.engine = assembly.engine
        self.engine._sinks = [self.keep]
        self.stop = threading.Event()
        self.summary: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.summary = self.engine.run(self.stop)
        except BaseException as error:
            self.error = error
            self.keep.begun.set()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


def free_endpoint() -> str:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    socket.bind("tcp://127.0.0.1:*")
    endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    socket.close(linger=0)
    return endpoint


class Camera:
    """Sends frames when told to; its device time is that of a quick replay, so that nothing has to wait.

    Frames differ from each other by noise, and each light has a brightness of its own.
    """

    def __init__(
        self, endpoint: str, shape: tuple[int, int] = SHAPE, dtype: str = "uint16", speed: float | None = 1000.0
    ) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self.socket.connect(endpoint)
        self.shape, self.dtype, self.speed = shape, dtype, speed
        self.k = 0
        self.rng = np.random.default_rng(0)

    def picture(self) -> np.ndarray[Any, Any]:
        level = 1000.0 * (1 + self.k % len(FOUR_LIGHTS))
        return self.rng.normal(level, 20.0, self.shape).astype(self.dtype)

    def send(self, n_frames: int, change: Any = None, *, rate_hz: float = RATE_HZ) -> None:
        """Send `n_frames`, each passed through `change`."""
        for _ in range(n_frames):
            data = self.picture()
            data = data if change is None else change(data)
            light = FOUR_LIGHTS[self.k % len(FOUR_LIGHTS)]
            self.socket.send_multipart(
                encode(data, frame=self.k, time_s=self.k / rate_hz, channel=light, speed=self.speed)
            )
            self.k += 1

    def close(self) -> None:
        self.socket.close(linger=1000)


def play(rig: Rig, *acts: Any, **camera: Any) -> Keep:
    """Let a camera do `acts` one after the other, then end the run."""
    cam = Camera(rig.endpoint, **camera)
    try:
        cam.send(1)
        assert rig.keep.begun.wait(30)
        cam.k = 4
        for act in acts:
            act(cam)
    finally:
        cam.close()
    rig.join()
    return rig.keep


def cycles(n: int, change: Any = None, **kwargs: Any) -> Any:
    return lambda cam: cam.send(n * len(FOUR_LIGHTS), change, **kwargs)


def brief(posteriors: list[Any]) -> list[tuple[int, int, str, bool]]:
    return [(p.start, p.stop, p.state, p.valid) for p in posteriors]


def test_a_movie_replayed_over_zeromq_is_scored_as_from_its_file(tmp_path: Path) -> None:
    movie = simulate_movie(6.0, seed=3, frame_shape=SHAPE, cycle_s=60.0)
    file = tmp_path / "movie.npz"
    np.savez(file, movie=movie.raw, rate_hz=RATE_HZ)
    camera = {"lights": FOUR_LIGHTS, "frame_shape": SHAPE}
    offline = score_file(file, open_bundle(NETWORK), hop_s=1 / SFREQ, camera=camera)
    rig = Rig({"first_light": 0}, bundle=NETWORK, hop_s=1 / SFREQ)
    options = replay_movie.Options(endpoint=rig.endpoint, speed=3.0, wait_s=30.0, settle_s=0.5, linger_s=0.5)
    with read_movie(file, lights=FOUR_LIGHTS) as played:

        def begun(line: dict[str, object]) -> None:
            assert line["event"] != "started" or rig.keep.begun.wait(30)

        replay_movie.play(played, options, begun)
    rig.join()
    online = rig.keep.of("posterior")
    online = [p for p in online if p.start < p.stop and "stalled" not in p.reason]
    assert brief(online) == brief(list(offline.posteriors))
    assert sum(p.valid for p in online) == len(movie.states) - 17 - 16 > 50
    for ours, theirs in zip(online, offline.posteriors, strict=True):
        np.testing.assert_allclose(ours.probs, theirs.probs, rtol=0, atol=1e-5)


class TestBadFrames:
    """Nothing is scored that should not be, and the reason is told."""

    def told(self, *acts: Any, **camera: Any) -> tuple[Keep, list[tuple[int, int, str]]]:
        keep = play(Rig({}, bundle=NETWORK, hop_s=1 / SFREQ), cycles(60), *acts, cycles(60), **camera)
        gaps = [(e.start, e.n_samples, e.reason) for e in keep.of("gap") if not e.open]
        return keep, gaps

    def invalid(self, keep: Keep, start: int, n: int) -> None:
        """No output that ends in the gap or within a second after it is valid; those before and later are."""
        valid = {p.stop: p.valid for p in keep.of("posterior") if "stalled" not in p.reason}
        assert valid[start]
        assert not any(valid[stop] for stop in range(start + 1, start + n + 17))
        assert valid[start + n + 17]

    def test_saturated(self) -> None:
        keep, gaps = self.told(cycles(5, lambda x: np.full_like(x, 65535)))
        assert gaps == [(60, 5, "saturated: " + ", ".join(FOUR_LIGHTS))]
        self.invalid(keep, 60, 5)

    def test_a_light_that_failed(self) -> None:
        keep, gaps = self.told(
            lambda cam: [cam.send(1, (lambda x: x // 20) if k % 4 == 1 else None) for k in range(20)]
        )
        assert gaps == [(60, 5, f"black: {FOUR_LIGHTS[1]}")]
        self.invalid(keep, 60, 5)

    def test_frozen(self) -> None:
        same = np.random.default_rng(1).normal(2000, 20, SHAPE).astype(np.uint16)
        keep, gaps = self.told(cycles(6, lambda _: same))
        assert gaps == [(62, 4, "frozen: " + ", ".join(FOUR_LIGHTS))]
        self.invalid(keep, 62, 4)

    def test_lost_frames_are_gaps_of_whole_cycles(self) -> None:
        def lose(cam: Camera) -> None:
            cam.send(2)
            cam.k += 3  # the rest of this cycle and the first of the next
            cam.send(3)

        keep, gaps = self.told(lose)
        assert gaps == [(60, 2, "samples lost")]
        self.invalid(keep, 60, 2)

    def test_messages_that_are_no_frames_are_told_and_left_out(self) -> None:
        def babble(cam: Camera) -> None:
            huge = b'{"dtype": "uint16", "shape": [100000, 100000], "frame": 1}'
            for parts in (
                [b"hello"], [b"{", b""], [b"[]", b"12"], [huge, b"x"],
                [b'{"dtype":"O","shape":[1,1]}', b"12345678"],
                [b'{"dtype": "uint16", "shape": [32, 32], "frame": 3}', b"too few"],
            ):  # fmt: skip
                cam.socket.send_multipart(parts)

        keep, gaps = self.told(babble)
        assert gaps == []
        assert sum(e.level == "error" for e in keep.of("notice")) >= 3
        assert sum(n for name, n in keep.of("heartbeat")[-1].counters.items() if name.startswith("refused")) == 6

    def test_a_camera_that_doubles_its_rate_is_withheld(self) -> None:
        keep = play(Rig({}, bundle=NETWORK, hop_s=1 / SFREQ), cycles(60), cycles(500, rate_hz=2 * RATE_HZ))
        last = [p for p in keep.of("posterior") if "stalled" not in p.reason][-1]
        assert not last.valid
        assert "stamps run at 33.6 Hz, the stream declares 16.8 Hz" in last.reason

    def test_a_camera_that_stops_is_a_stall(self) -> None:
        keep = play(Rig({}, bundle=NETWORK, hop_s=1 / SFREQ, stall_s=0.5), cycles(60))
        assert keep.of("posterior")[-2].valid
        assert keep.of("posterior")[-1].reason.startswith("stalled")


def test_frames_that_are_not_recorded_are_refused_when_a_record_is_kept(tmp_path: Path) -> None:
    source = {"kind": "noise", "sfreq": 16.8, "frame_shape": SHAPE, "duration_s": 1.0, "speed": 0}
    content: dict[str, Any] = {"source": source, "bundle": None, "sinks": [], "record": str(tmp_path)}
    with pytest.raises(Exception, match="record_raw: false"):
        Assembly(RigConfig(**content), clock=VirtualClock()).engine.run(threading.Event())
    assembly = Assembly(RigConfig(**content, record_raw=False), clock=VirtualClock())
    assembly.engine.run(threading.Event())
    assert assembly.run_folder is not None
    assert (assembly.run_folder / "events.jsonl").read_text().count("\n") > 2


@pytest.mark.skipif(not WFCI.is_file(), reason=f"{WFCI} is not here")
def test_frames_with_eeg_emg_and_wheel_of_a_real_recording_on_one_clock(tmp_path: Path) -> None:
    """The recording has all of them; a gate on the wheel, networks on frames and on the EEG."""
    with np.load(WFCI) as recorded:
        eeg = np.stack((recorded["eeg"], recorded["emg"]), axis=1)
        np.savez(tmp_path / "eeg.npz", data=eeg, sfreq=1000.0, channels=np.array(["EEG", "EMG"]))
        np.savez(
            tmp_path / "wheel.npz", data=recorded["wheel"][:, None], sfreq=100.0, channels=np.array(["wheel"])
        )
        lit_s = recorded["frame_t"][::2]
        n_lit = len(lit_s)
    text = f"""
source: {{kind: movie, path: "{WFCI}", dataset: cam_red, speed: 0, frame_shape: [64, 64]}}
bundle: null
quality: {{flat_s: 2}}
streams:
  ephys: {{source: {{kind: file, path: "{tmp_path / "eeg.npz"}", speed: 0}}}}
  wheel: {{source: {{kind: file, path: "{tmp_path / "wheel.npz"}", speed: 0}}}}
gates: [{{stream: wheel, measure: rms, window_s: 1, below: 0.5}}]
sinks: []
record: null
"""
    assembly = Assembly(parse_rig(text, "rig.yaml"), clock=VirtualClock())
    keep = Keep()
    assembly.engine._sinks = [keep]
    seen: dict[str, list[float]] = {}
    shut: list[str] = []
    engine = assembly.engine
    for lane in engine._lanes:
        take = lane.take

        def note(chunk: Any, name: str = lane.name, take: Any = take) -> None:
            seen.setdefault(name, []).extend((chunk.stamps_s + chunk.clock_offset_s).tolist())
            take(chunk)
            if not name:
                shut.append(engine._gates.shut(float(chunk.stamps_s[-1])))

        lane.take = note  # type: ignore[method-assign]
    engine.run(threading.Event())
    assert set(seen) == {"", "ephys", "wheel"}
    assert len(seen[""]) == n_lit
    assert len(seen["ephys"]) > 118_000  # the run ends with its main stream
    # When a frame is judged, the other streams have come as far, to a chunk.
    assert seen["wheel"][-1] > lit_s[-1] - 0.2
    states = {bool(reason) for reason in shut[2:]}
    assert False in states, "the wheel never lay still"
    assert {e.lane for e in keep.of("start")} == {"", "ephys", "wheel"}


def test_the_clock_of_a_camera_is_found_to_less_than_a_frame() -> None:
    """Device time that began elsewhere: outputs are on the clock of the engine."""
    rig = Rig({}, bundle=None)
    clock = LslClock()
    cam = Camera(rig.endpoint, speed=None)
    cam.send(1)
    assert rig.keep.begun.wait(30)
    cam.k = 4
    t0_s = clock.now_s()
    for _ in range(30):
        clock.wait_s(t0_s + cam.k / RATE_HZ - clock.now_s())
        cam.send(4)
    cam.close()
    rig.join()
    outputs = [p for p in rig.keep.of("posterior") if "stalled" not in p.reason]
    # The camera's clock read 0 at t0_s; the end of an output is a frame after its last stamp.
    for output in outputs[-1:]:
        device_s = (4 * output.stop + 4 + 3 - 4) / RATE_HZ
        assert abs(output.t_stop_s - 1 / SFREQ - (t0_s + device_s)) < 1.5 / SFREQ
