"""Several streams in one engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event as StopFlag
from typing import Any

import numpy as np
import pytest

from streamscore import events
from streamscore.assemble import Assembly, check_policy
from streamscore.bundle import Bundle
from streamscore.clock import LslClock, VirtualClock
from streamscore.config import RigConfig, StreamConfig, parse_rig
from streamscore.engine import Engine, Side
from streamscore.errors import ConfigError, RecordError
from streamscore.gates import Config as GateConfig
from streamscore.lane import Lane
from streamscore.outbox import Outbox
from streamscore.policies import dwell
from streamscore.policies.base import Policy
from streamscore.record import NullRecorder
from streamscore.score import score_command
from streamscore.sources.base import Source
from streamscore.types import Chunk, FloatArray, Gap, Segment, StreamInfo
from tests.bundles import EPOCH, HOP_S, SFREQ, signal
from tests.streams import MemorySink, Run, ScriptedRig, ScriptedSource, chunks, run_engine

N = 12 * EPOCH
T0_S = 100.0
WHEEL_HZ = 50.0
WHEEL = StreamInfo("encoder", WHEEL_HZ, ("speed",), ("cm/s",))


def eeg(data: FloatArray) -> list[Chunk]:
    return chunks(data, T0_S + np.arange(len(data)) / SFREQ, (16,))


def wheel(seconds: float, moving: tuple[float, float] = (0.0, 0.0), offset_s: float = 0.0) -> list[Chunk]:
    """Speed 0.1, and 5 between two times (seconds after the start); never quite flat."""
    n = round(seconds * WHEEL_HZ)
    t_s = np.arange(n) / WHEEL_HZ
    speed = np.where((t_s >= moving[0]) & (t_s < moving[1]), 5.0, 0.1) + 0.01 * (np.arange(n) % 3)
    return chunks(speed[:, None].astype(np.float32), T0_S + t_s - offset_s, (5,), offset_s)


def always(labels: tuple[str, ...], duration_s: float = 1.5) -> Policy:
    """A policy that wants to be on whenever it may."""
    config = dwell.Config(states=labels, probability=0.0, dwell_s=0.0, duration_s=duration_s, refractory_s=0.0)
    return dwell.build(config, labels)


def still(**config: Any) -> GateConfig:
    return GateConfig(**{"stream": "wheel", "measure": "mean", "window_s": 0.5, "below": 1.0, **config})


def of_lane(run: Run, kind: str, lane: str) -> list[Any]:
    return [event for event in run.of(kind) if event.lane == lane]


def told(run: Run, lane: str) -> list[Any]:
    """What was said of a stream, without numbers that differ between any two runs."""
    return [
        (e.start, e.stop, e.state, e.valid, e.reason, e.probs, round(e.t_stop_s, 9))
        for e in of_lane(run, "posterior", lane)
    ]


def test_what_is_decided_about_one_stream_does_not_depend_on_others(small: Bundle) -> None:
    data = signal(N)
    alone = run_engine(small, eeg(data), clock=VirtualClock(T0_S))
    seconds = N / SFREQ
    broken: list[Any] = wheel(seconds)
    broken[20] = replace(broken[20], data=np.full((5, 1), np.nan, np.float32))
    beside = run_engine(
        small,
        eeg(data),
        clock=VirtualClock(T0_S),
        sides={"wheel": (WHEEL, broken, None), "emg": (WHEEL, wheel(seconds), None)},
    )
    assert beside.error is None
    assert told(beside, "") == told(alone, "")
    assert {e.lane for e in beside.of("start")} == {"", "wheel", "emg"}
    assert {e.lane for e in beside.of("heartbeat")} == {"", "wheel", "emg"}
    assert [event.seq for event in beside.events] == list(range(len(beside.events)))
    assert of_lane(beside, "gap", "wheel")
    assert not of_lane(beside, "gap", "emg")


def test_each_stream_is_scored_by_its_own_bundle(small: Bundle) -> None:
    data = signal(N, seed=3)
    info = StreamInfo("second", SFREQ, ("EEG",), ("uV",))
    run = run_engine(small, eeg(signal(N)), clock=VirtualClock(T0_S), sides={"other": (info, eeg(data), small)})
    alone = run_engine(small, eeg(data), clock=VirtualClock(T0_S))
    # The run ends with its main stream; what the other had still to say then is lost with it.
    n = len(told(run, "other"))
    assert n > 3 * (N / SFREQ) / HOP_S / 4
    assert told(run, "other") == told(alone, "")[:n]
    assert all(e.latency["n"] > 0 for e in of_lane(run, "heartbeat", "other")[-1:])


class TestGates:
    def run(self, small: Bundle, moving: tuple[float, float], **gate: Any) -> tuple[Run, ScriptedRig]:
        clock = VirtualClock(T0_S)
        rig = ScriptedRig(clock)
        run = run_engine(
            small,
            eeg(signal(N)),
            clock=clock,
            policy=always,
            rig=rig,
            mode="live",
            heartbeat_s=1.0,
            sides={"wheel": (WHEEL, wheel(N / SFREQ, moving), None)},
            gates=(still(**gate),),
        )
        assert run.error is None
        return run, rig

    def test_a_policy_acts_only_while_the_animal_keeps_still(self, small: Bundle) -> None:
        run, rig = self.run(small, (20.0, 30.0))
        ons = [c for c in rig.commands if c.action == "on"]
        assert any(c.t_s < T0_S + 20 for c in ons)
        assert any(c.t_s > T0_S + 31 for c in ons)
        # Half a second of window: a fifth of it at 5 is above 1.
        assert not any(T0_S + 20.15 < c.t_s < T0_S + 30.3 for c in ons)
        off = next(c for c in rig.commands if c.action == "off" and c.t_s > T0_S + 20)
        assert "gate shut: mean of wheel/speed" in off.reason
        # At the samples that shut it, not at the next output.
        assert T0_S + 20 < off.t_s < T0_S + 20.4
        told = [e.text for e in run.of("notice") if "gate" in e.text]
        assert told[0].startswith("gate shut: ")
        assert "all gates are open" in told
        assert any(e.gate.startswith("mean of wheel/speed: 5") for e in of_lane(run, "heartbeat", ""))
        # What the network says is not touched.
        assert all(e.valid for e in of_lane(run, "posterior", "") if e.t_stop_s > T0_S + 8)

    def test_a_stream_that_ends_shuts_its_gate(self, small: Bundle) -> None:
        clock = VirtualClock(T0_S)
        rig = ScriptedRig(clock)
        run_engine(
            small, eeg(signal(N)), clock=clock, policy=always, rig=rig, mode="live",
            sides={"wheel": (WHEEL, wheel(20.0), None)}, gates=(still(),),
        )  # fmt: skip
        assert rig.commands
        assert max(c.t_s for c in rig.commands if c.action == "on") < T0_S + 20.5
        assert rig.commands[-1].action == "off"

    def test_a_stream_that_falls_silent_switches_off_at_once(self, small: Bundle) -> None:
        clock = VirtualClock(T0_S)
        rig = ScriptedRig(clock)
        wants = partial(always, duration_s=60.0)
        run = run_engine(
            small, eeg(signal(N)), clock=clock, policy=wants, rig=rig, mode="live", hop_s=4.0,
            sides={"wheel": (WHEEL, wheel(21.0), None)}, gates=(still(),),
        )  # fmt: skip
        assert run.error is None
        off = next(c for c in rig.commands if c.action == "off")
        assert "no sample for 0.5 s" in off.reason
        assert T0_S + 21.0 < off.issued_s < T0_S + 22.0

    def test_a_delay_of_the_side_stream_does_not_switch_off(self, small: Bundle) -> None:
        clock = VirtualClock(T0_S)
        rig = ScriptedRig(clock)
        wants = partial(always, duration_s=60.0)
        run_engine(
            small, eeg(signal(N)), clock=clock, policy=wants, rig=rig, mode="live", delay_s=0.6,
            sides={"wheel": (WHEEL, wheel(N / SFREQ), None)}, gates=(still(),),
            streams={"wheel": StreamConfig(source={}, delay_s=0.6)},
        )  # fmt: skip
        assert [c.reason for c in rig.commands if c.action == "off"] == ["the source ended"]

    def test_a_side_stream_that_breaks_is_told_and_the_run_goes_on(self, small: Bundle) -> None:
        data = signal(N)
        source = LiveScript([*wheel(5.0), OSError("cable")])
        clock = LslClock()
        sink, recorder = MemorySink(), NullRecorder()
        main = LiveScript(eeg(data), StreamInfo("amp", SFREQ, ("EEG",), ("uV",)), after=source)
        engine = Engine(
            RigConfig(source={}, streams={"wheel": StreamConfig(source={})}),
            main,
            bundle=small,
            sides={"wheel": Side(StreamConfig(source={}), source, None)},
            clock=clock,
            make_recorder=lambda _: recorder,
            sinks=[sink],
        )
        engine.run(StopFlag())
        told = [events.parse(text) for text in sink.texts]
        notices = [event.text for event in told if event.type == "notice"]
        assert any("'wheel' is no longer read (OSError: cable)" in text for text in notices)
        assert sum(event.type == "posterior" and not event.lane for event in told) == N / SFREQ / HOP_S


class LiveScript(Source):
    """Gives what it holds at once, on a real clock; raises what is an error."""

    def __init__(self, script: list[Any], info: StreamInfo = WHEEL, after: LiveScript | None = None) -> None:
        self._script, self._info, self._after = script, info, after
        self.done = StopFlag()

    def open(self, wanted: Sequence[str] | None) -> StreamInfo:
        return self._info

    def begin(self) -> int:
        return 0

    def read(self, timeout_s: float) -> Chunk | None:
        if self._after is not None:
            assert self._after.done.wait(10)
        if not self._script:
            self.ended = True
            return None
        item = self._script.pop(0)
        if isinstance(item, BaseException):
            self.done.set()
            raise item
        return replace(item, received_s=LslClock().now_s())

    def close(self) -> None:
        self.ended = True


def flashes(times_s: np.ndarray, on_s: float) -> FloatArray:
    """Samples that are 1 from `on_s` on, with a little noise."""
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(times_s))
    return ((times_s >= on_s) + noise)[:, None].astype(np.float32)


def onset_s(config: StreamConfig, info: StreamInfo, script: list[Chunk]) -> float:
    """Stream time at which a lane sees the event."""
    clock = VirtualClock(T0_S)
    lane = Lane("x", config, ScriptedSource(clock, [], info), None, clock)
    lane.open()
    found: list[float] = []

    def look(piece: Segment | Gap) -> None:
        if isinstance(piece, Segment):
            found.extend(piece.stamps_s[piece.data[:, 0] > 0.5].tolist())

    lane.begin(Outbox("r1", clock, [], NullRecorder()), None, look)
    for chunk in script:
        lane.take(chunk)
    return found[0]


@pytest.mark.parametrize("drift", [0.0, 5e-5])
def test_streams_with_other_clocks_and_delays_are_aligned_to_less_than_a_frame(drift: float) -> None:
    """One event in the world, seen by a camera and a wheel, each with a clock and a delay of its own."""
    event_s, camera_delay_s, wheel_delay_s = T0_S + 301.234, 0.045, 0.012
    camera_hz = 16.8
    frame_s = 1 / camera_hz
    world_s = T0_S + np.arange(round(400 * camera_hz)) * frame_s
    stamped_s = world_s + camera_delay_s  # by the clock of the engine
    device_s = (stamped_s - 5000.0) * (1 - drift)  # by its own
    seen = flashes(world_s, event_s)
    camera = [
        Chunk(seen[k : k + 1], device_s[k : k + 1], float(stamped_s[k] - device_s[k]), float(stamped_s[k]))
        for k in range(len(seen))
    ]
    wheel_s = T0_S + np.arange(round(400 * WHEEL_HZ)) / WHEEL_HZ
    turned = chunks(flashes(wheel_s, event_s), wheel_s + wheel_delay_s + 77.0, (5,), -77.0)
    info = StreamInfo("camera", camera_hz, ("light",), ("",))
    camera_onset_s = onset_s(StreamConfig(source={}, delay_s=camera_delay_s), info, camera)
    wheel_onset_s = onset_s(StreamConfig(source={}, delay_s=wheel_delay_s), WHEEL, turned)
    assert 0 <= camera_onset_s - event_s < frame_s
    assert 0 <= wheel_onset_s - event_s < 1 / WHEEL_HZ
    assert abs(camera_onset_s - wheel_onset_s) < frame_s


def test_a_gap_of_the_main_stream_switches_off_at_its_onset(small: Bundle) -> None:
    clock = VirtualClock(T0_S)
    rig = ScriptedRig(clock)
    lost = eeg(signal(N))
    del lost[84:86]  # from 21 s on
    run_engine(
        small, lost, clock=clock, policy=partial(always, duration_s=60.0), rig=rig, mode="live", hop_s=4.0,
    )  # fmt: skip
    off = next(c for c in rig.commands if c.action == "off")
    assert off.reason == "gap (samples lost)"
    assert T0_S + 21.0 < off.issued_s < T0_S + 22.0


def test_streams_of_one_name_in_a_record_are_scored_by_the_name_of_their_lane(
    small_path: Path, tmp_path: Path
) -> None:
    paths = []
    for k in range(2):
        paths.append(tmp_path / str(k) / "rec.npz")
        paths[-1].parent.mkdir()
        np.savez(
            paths[-1], data=signal(N, seed=k), sfreq=SFREQ, channels=np.array(["EEG"]), units=np.array(["uV"])
        )
    text = f"""
source: {{kind: file, path: "{paths[0]}", speed: 0}}
bundle: "{small_path}"
streams:
  other: {{source: {{kind: file, path: "{paths[1]}", speed: 0}}, bundle: "{small_path}"}}
  third: {{source: {{kind: noise, sfreq: 10, duration_s: 1}}, record_raw: false}}
sinks: []
record: "{tmp_path / "runs"}"
"""
    assembly = Assembly(parse_rig(text, "rig.yaml"), clock=VirtualClock())
    assembly.engine.run(StopFlag())
    folder = assembly.run_folder
    assert folder is not None
    for k, lane in enumerate((None, "other")):
        again = score_command(folder, None, lane, None, EPOCH / SFREQ, tmp_path / f"out{k}")
        alone = score_command(paths[k], str(small_path), None, None, EPOCH / SFREQ, tmp_path / f"alone{k}")
        assert again.counts == alone.counts
    with pytest.raises(
        RecordError, match="no raw samples of stream 'third'; it has those of the main stream, other"
    ):
        score_command(folder, None, "third", None, None, tmp_path)


def test_a_policy_that_refuses_what_a_late_chain_gives_is_refused(small: Bundle) -> None:
    late = {"kind": "moving_average", "form": "centred", "window_s": 6.0}
    bundle = replace(small, spec=small.spec.model_copy(update={"preprocess": (late,)}))
    policy = {"kind": "dwell", "states": ["REM"], "max_age_s": 2.0}
    with pytest.raises(ConfigError, match=r"older than max_age_s 2, but its final outputs come 2\.98438 s late"):
        check_policy(policy, bundle)
    check_policy({**policy, "max_age_s": 4.0}, bundle)
