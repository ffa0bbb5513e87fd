"""Play a recording over Lab Streaming Layer as if it were the rig.

The outlet's stamps keep the spacing of the recording: sample `i` recorded at `t` is stamped ``t0 + t``, and is
pushed at ``t0 + t / speed``, where `t0` is the local clock at the start. The stream's description tells the speed
(``replay/speed``), so that a receiver can tell lateness from speed. A second stream, ``NAME-truth``, carries the
true states as markers where the file has them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pylsl

from streamscore.errors import LoopError
from streamscore.labels import name_of
from streamscore.recordings.base import Recording

#: Stream time without samples between two rounds, so that a repetition is never taken for continuity.
LOOP_GAP_S = 1.0


@dataclass(frozen=True)
class Options:
    """How to play.

    Parameters
    ----------
    name
        Name of the LSL stream.
    speed
        Recorded seconds per second.
    chunk_s
        Recorded seconds per push.
    loops
        How often to play it; each further round is announced, and a gap of :data:`LOOP_GAP_S` precedes it.
    wait_s
        How long to wait for a first consumer; 0 starts at once.
    settle_s
        Time between the arrival of the consumer and the first sample, in which it gets ready.
    linger_s
        Time the outlet stays after the last sample, so that consumers can drain it.
    """

    name: str
    speed: float = 1.0
    chunk_s: float = 0.05
    loops: int = 1
    wait_s: float = 30.0
    settle_s: float = 1.0
    linger_s: float = 2.0


def make_outlet(recording: Recording, name: str, speed: float) -> pylsl.StreamOutlet:
    """Announce the recording as a stream with labels, units and speed."""
    info = pylsl.StreamInfo(
        name, "EEG", len(recording.channels), recording.sfreq, "float32", f"streamscore-replay-{name}"
    )
    info.set_channel_labels(list(recording.channels))
    info.set_channel_units(list(recording.units))
    node = info.desc().append_child("replay")
    node.append_child_value("file", recording.name)
    node.append_child_value("speed", repr(speed))
    # Buffer sizes are nominal seconds, which pass `speed` times as fast.
    return pylsl.StreamOutlet(info, max_buffered=max(360, round(60 * speed)))


def truth_markers(recording: Recording) -> tuple[list[str], list[float]]:
    """Return the name and the time of each change of the true state."""
    codes = recording.states
    changes = np.flatnonzero(np.diff(codes, prepend=np.int8(-128)))
    names = [name_of(int(codes[i]), recording.labels) for i in changes]
    return names, [recording.states_t0_s + float(i) * recording.epoch_s for i in changes]


def play(recording: Recording, options: Options, say: Callable[[str], None]) -> int:
    """Play `recording`; return the number of samples pushed.

    Raises
    ------
    LoopError
        If no consumer shows up within ``options.wait_s``.
    """
    outlet = make_outlet(recording, options.name, options.speed)
    names, times_s = truth_markers(recording)
    truth_info = pylsl.StreamInfo(
        f"{options.name}-truth", "Markers", 1, 0.0, "string", f"streamscore-replay-{options.name}-truth"
    )
    truth = pylsl.StreamOutlet(truth_info) if names else None
    say(json.dumps({"event": "visible", "name": options.name, "speed": options.speed}))
    if options.wait_s > 0:
        if not outlet.wait_for_consumers(options.wait_s):
            raise LoopError(f"nobody connected to stream {options.name!r} within {options.wait_s:g} s")
        time.sleep(options.settle_s)
    origin_s = float(recording.stamps_s[0])
    stamps_s = recording.stamps_s - origin_s
    chunk = max(round(options.chunk_s * recording.sfreq), 1)
    round_s = float(stamps_s[-1]) + 1.0 / recording.sfreq
    pushed = 0
    t0_s = pylsl.local_clock()
    say(json.dumps({"event": "started", "t0_s": t0_s, "origin_s": origin_s}))
    for loop in range(options.loops):
        if loop:
            say(json.dumps({"event": "loop", "round": loop + 1, "of": options.loops}))
        shift_s = loop * (round_s + LOOP_GAP_S)
        marker = 0
        for begin in range(0, len(stamps_s), chunk):
            part = stamps_s[begin : begin + chunk] + shift_s
            due_s = t0_s + float(part[-1]) / options.speed
            wait_s = due_s - pylsl.local_clock()
            if wait_s > 0:
                time.sleep(wait_s)
            while truth is not None and marker < len(names) and times_s[marker] - origin_s + shift_s <= part[-1]:
                truth.push_sample([names[marker]], t0_s + times_s[marker] - origin_s + shift_s)
                marker += 1
            outlet.push_chunk(recording.data[begin : begin + chunk], t0_s + part)
            pushed += len(part)
    say(json.dumps({"event": "finished", "samples": pushed, "wall_s": pylsl.local_clock() - t0_s}))
    time.sleep(options.linger_s)
    return pushed


def run(recording: Recording, options: Options) -> int:
    """Play with progress as JSON lines on standard output."""

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    return play(recording, options, say)
