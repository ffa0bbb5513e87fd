from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf

from streamscore.clock import VirtualClock
from streamscore.errors import RecordError
from streamscore.record import NullRecorder, Recorder, RunRecord, read_run
from streamscore.recordings.base import read_recording
from streamscore.types import Chunk, StreamInfo

SFREQ = 100.0
STREAM = StreamInfo("amp", SFREQ, ("C3", "C4"), ("uV", "uV"), "sn7")

needs_fifo = pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="needs a named pipe, as a disk that can be blocked at will"
)
needs_dev_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, as a disk without any space"
)
needs_rlimit = pytest.mark.skipif(
    sys.platform == "win32", reason="needs RLIMIT_FSIZE, as a disk that is full and then has room again"
)


def chunk(k: int, n_samples: int = 10, offset_s: float = 0.25) -> Chunk:
    """Chunk `k` of a stream in which every value and stamp is known."""
    index = np.arange(k * n_samples, (k + 1) * n_samples)
    data = np.stack([index, -index], axis=1).astype(np.float32)
    return Chunk(data, 50 + index / SFREQ, offset_s, 0.0)


def recorder(folder: Path, **kwargs: Any) -> Recorder:
    clock = VirtualClock(123.5)
    return Recorder(
        folder, run_id="r1", streams={"": STREAM}, clock=clock, config_text="mode: monitor\n", **kwargs
    )


def raw(run: RunRecord) -> dict[str, Any]:
    (stream,), _ = pyxdf.load_xdf(str(run.raw_path), synchronize_clocks=False, dejitter_timestamps=False)
    return stream


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def await_notice(rec: Recorder) -> dict[str, Any]:
    """Return the next notice, leaving later ones for the next call."""
    wait_until(lambda: rec._queue._notices)
    return rec._queue._notices.popleft()


def seqs(run: RunRecord) -> list[int]:
    return [event["seq"] for event in run.events]


# -- a run on a good disk ---------------------------------------------------------------------------------


def test_a_run_reads_back(tmp_path: Path) -> None:
    rec = recorder(tmp_path / "runs" / "r1", bundle_hash="abc", desc={"reference": "mastoids"})
    for k in range(30):
        rec.samples(chunk(k, offset_s=0.25 if k < 20 else 0.5))
        rec.event({"seq": k, "type": "posterior", "probs": [0.25, 0.75]})
    assert rec.close({"n_epochs": 3}) is None
    assert rec.close() is None

    run = read_run(tmp_path / "runs" / "r1")
    assert seqs(run) == list(range(30))
    assert run.events[0] == {"seq": 0, "type": "posterior", "probs": [0.25, 0.75]}
    assert run.n_damaged_lines == 0
    assert run.config_text == "mode: monitor\n"
    assert run.run["run_id"] == "r1"
    assert run.run["bundle_hash"] == "abc"
    assert run.run["stream"]["channels"] == ["C3", "C4"]
    assert run.run["start"]["stream_time_s"] == 123.5
    assert run.run["start"]["utc"].endswith("Z")
    assert set(run.run["versions"]) == {"streamscore", "python", "torch", "numpy", "pylsl", "liblsl"}
    assert run.run["end"]["summary"] == {"n_epochs": 3}
    assert run.run["end"]["failed"] is None
    counters = {"written_events": 30, "dropped_events": 0, "written_chunks": 30, "dropped_chunks": 0}
    assert run.run["end"]["counters"] == counters
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "config.yaml",
        "events.jsonl",
        "raw.xdf",
        "run.json",
    ]

    stream = raw(run)
    np.testing.assert_array_equal(stream["time_series"], np.concatenate([chunk(k).data for k in range(30)]))
    np.testing.assert_array_equal(stream["time_stamps"], np.concatenate([chunk(k).stamps_s for k in range(30)]))
    # Every sample's offset can be told: each holds from its time on.
    assert stream["clock_times"] == [chunk(0).stamps_s[0], chunk(20).stamps_s[0]]
    assert stream["clock_values"] == [0.25, 0.5]
    assert stream["info"]["desc"][0]["reference"] == ["mastoids"]


def test_offsets_are_not_written_twice(tmp_path: Path) -> None:
    rec = recorder(tmp_path)
    rec.samples(chunk(0, offset_s=0.25))
    rec.samples(chunk(1, offset_s=float("nan")))
    rec.samples(chunk(2, n_samples=0, offset_s=9.0))
    rec.samples(chunk(3, offset_s=0.5))
    rec.samples(chunk(3, offset_s=0.75))  # at the time of the one before
    rec.close()
    stream = raw(read_run(tmp_path))
    assert stream["clock_times"] == [chunk(0).stamps_s[0], chunk(3).stamps_s[0]]
    assert stream["clock_values"] == [0.25, 0.5]
    assert rec.counters["written_chunks"] == 5


def test_several_streams_keep_their_own_offsets_in_one_file(tmp_path: Path) -> None:
    clock = VirtualClock(50.0)
    wheel = StreamInfo("wheel", 10.0, ("speed",), ("cm/s",))
    rec = Recorder(
        tmp_path, run_id="r1", streams={"": STREAM, "wheel": wheel}, clock=clock, config_text="mode: monitor\n"
    )
    speed = Chunk(np.ones((3, 1), np.float32), 7.0 + np.arange(3) / 10.0, 43.0, 50.0)
    for k in range(2):
        rec.samples(chunk(k, offset_s=0.25))
        rec.samples(speed, "wheel")
        rec.samples(speed, "camera")  # not recorded: passed over
    rec.close()
    streams, _ = pyxdf.load_xdf(str(tmp_path / "raw.xdf"), synchronize_clocks=False, dejitter_timestamps=False)
    by_name = {stream["info"]["name"][0]: stream for stream in streams}
    assert by_name[STREAM.name]["clock_values"] == [0.25]
    assert by_name["wheel"]["clock_values"] == [43.0]
    assert by_name["wheel"]["info"]["desc"][0]["lane"] == ["wheel"]
    assert len(by_name["wheel"]["time_series"]) == 6
    assert rec.counters["written_chunks"] == 4
    assert list(read_run(tmp_path).run["streams"]) == ["wheel"]


def test_pyxdf_finds_stream_time_with_its_defaults(tmp_path: Path) -> None:
    rec = recorder(tmp_path)
    for k in range(20):
        rec.samples(chunk(k, offset_s=0.25))
    rec.close()
    (stream,), _ = pyxdf.load_xdf(str(tmp_path / "raw.xdf"))
    np.testing.assert_allclose(stream["time_stamps"], 50.25 + np.arange(200) / SFREQ, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), None),
        ([1.0, float("inf")], [1.0, None]),
        (np.float32(0.5), 0.5),
        (np.array([1.0, np.nan]), [1.0, None]),
        (Path("a"), "a"),
        ("µ\n\u2028\ud800", "µ\n\u2028\ud800"),
    ],
)
def test_whatever_stands_in_an_event_becomes_one_line_of_json(
    tmp_path: Path, value: object, written: object
) -> None:
    rec = recorder(tmp_path)
    rec.event({"seq": 0, "x": value})
    rec.close()
    (line,) = (tmp_path / "events.jsonl").read_bytes().splitlines()
    strict = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert strict == {"seq": 0, "x": written}


def test_an_event_that_json_cannot_hold_says_so(tmp_path: Path) -> None:
    circular: dict[str, Any] = {"seq": 0, "type": "odd"}
    circular["self"] = circular
    rec = recorder(tmp_path)
    rec.event(circular)
    rec.event({"seq": 1, "type": "odd", "map": {(1, 2): 3}})
    rec.close()
    events = read_run(tmp_path).events
    assert [(event["seq"], event["type"]) for event in events] == [(0, "odd"), (1, "odd")]
    assert all("not_json" in event for event in events)


def test_samples_that_do_not_fit_are_refused_once_aloud_and_counted(tmp_path: Path) -> None:
    rec = recorder(tmp_path)
    wrong = Chunk(np.zeros((4, 3), np.float32), np.arange(4.0), 0.0, 0.0)
    for k in range(3):
        rec.samples(wrong)
        rec.samples(chunk(k))
    rec.close()
    (notice,) = rec.take_notices()
    assert notice["type"] == "record_refused"
    assert "2 channels" in notice["message"]
    assert (rec.counters["written_chunks"], rec.dropped_chunks) == (3, 3)
    assert len(raw(read_run(tmp_path))["time_series"]) == 30


def test_what_comes_after_close_is_counted_as_lost(tmp_path: Path) -> None:
    rec = recorder(tmp_path)
    rec.close()
    rec.event({"seq": 0})
    rec.samples(chunk(0))
    assert (rec.dropped_events, rec.dropped_chunks) == (1, 1)


def test_the_null_recorder_has_the_same_interface(tmp_path: Path) -> None:
    null, rec = NullRecorder(), recorder(tmp_path)
    for each in (null, rec):
        each.event({"seq": 0})
        each.samples(chunk(0))
        assert each.take_notices() == []
        assert each.close({}) is None
        assert (each.failed, each.dropped_events, each.dropped_chunks) == (None, 0, 0)
    assert null.counters.keys() == rec.counters.keys()
    assert {n for n in vars(Recorder) if n[0] != "_"} == {n for n in vars(NullRecorder) if n[0] != "_"}


# -- folders ----------------------------------------------------------------------------------------------


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    recorder(tmp_path).close()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RecordError, match=r"holds the record of a run already \(run.json\).*another folder"):
        recorder(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"file.*cannot be created.*name a folder"):
        recorder(tmp_path / "file" / "run")


@needs_dev_full
def test_a_disk_that_is_full_at_the_start_is_an_error_and_leaves_the_folder_usable(tmp_path: Path) -> None:
    (tmp_path / "raw.xdf").symlink_to("/dev/full")
    with pytest.raises(RecordError, match="No space left"):
        recorder(tmp_path)
    assert list(tmp_path.iterdir()) == []
    recorder(tmp_path).close()


def test_a_bad_description_is_an_error_and_leaves_the_folder_usable(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be an XML element"):
        recorder(tmp_path, desc={"not a name": 1})
    recorder(tmp_path).close()


def test_read_run_refuses_other_folders(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"not the folder of a run.*run.json"):
        read_run(tmp_path)
    recorder(tmp_path).close()
    (tmp_path / "run.json").write_text('{"format": "streamscore-run/99"}')
    with pytest.raises(RecordError, match="not in the format streamscore-run/1"):
        read_run(tmp_path)


def test_read_run_tolerates_a_torn_line(tmp_path: Path) -> None:
    rec = recorder(tmp_path)
    for k in range(3):
        rec.event({"seq": k})
    rec.close()
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    for n_bytes in range(len(whole)):
        path.write_bytes(whole[:n_bytes])
        run = read_run(tmp_path)
        n_whole = whole[:n_bytes].count(b"}")
        assert seqs(run) == list(range(n_whole))
        assert run.n_damaged_lines == (whole[:n_bytes].rsplit(b"\n", 1)[-1][-1:] not in (b"", b"}"))
    path.write_bytes(whole[:-3] + bytes(100))
    assert (seqs(read_run(tmp_path)), read_run(tmp_path).n_damaged_lines) == ([0, 1], 1)


# -- a disk that does not keep up -------------------------------------------------------------------------


class Blocked:
    """A recorder whose raw.xdf is a pipe that nobody reads until `unblock`."""

    def __init__(self, folder: Path, **kwargs: Any) -> None:
        os.mkfifo(folder / "raw.xdf")
        self.fd = os.open(folder / "raw.xdf", os.O_RDONLY | os.O_NONBLOCK)
        self.rec = recorder(folder, **kwargs)
        self.read = bytearray()

    def unblock(self) -> threading.Thread:
        os.set_blocking(self.fd, True)

        def read() -> None:
            while piece := os.read(self.fd, 1 << 16):
                self.read += piece

        thread = threading.Thread(target=read)
        thread.start()
        return thread


@needs_fifo
def test_a_blocked_disk_neither_blocks_the_caller_nor_loses_events(tmp_path: Path) -> None:
    blocked = Blocked(tmp_path, queue_bytes=1 << 20)
    rec = blocked.rec
    # 4 MB into a queue of 1 MiB: were any call to wait for the writer, this would never end.
    for k in range(500):
        rec.samples(chunk(k, n_samples=500))
        rec.event({"seq": k})
    assert rec.dropped_chunks > 300
    assert rec.dropped_events == 0
    assert {"type": "record_dropping"} in rec.take_notices()
    assert rec.failed is None
    assert rec.backlog > 0.9

    reader = blocked.unblock()
    assert await_notice(rec) == {"type": "record_recovered", "lost_events": 0, "lost_chunks": rec.dropped_chunks}
    rec.event({"seq": 500})
    assert rec.close() is None
    reader.join()
    os.close(blocked.fd)

    assert seqs(read_run(tmp_path)) == list(range(501))
    assert rec.counters["written_chunks"] + rec.dropped_chunks == 500
    (tmp_path / "read.xdf").write_bytes(blocked.read)
    (stream,), _ = pyxdf.load_xdf(str(tmp_path / "read.xdf"))
    assert len(stream["time_series"]) == 500 * rec.counters["written_chunks"]


@needs_fifo
def test_events_are_dropped_when_nothing_can_make_way(tmp_path: Path) -> None:
    blocked = Blocked(tmp_path, queue_items=50)
    rec = blocked.rec
    rec.samples(chunk(0, n_samples=20_000))  # more than a pipe takes
    wait_until(lambda: rec._bulk.n_flying)  # and with it, the writer is stuck
    for k in range(200):
        rec.samples(chunk(k))
        rec.event({"seq": k})
    assert (rec.dropped_events, rec.dropped_chunks) == (151, 200)
    reader = blocked.unblock()
    assert rec.close() is None
    reader.join()
    os.close(blocked.fd)
    # One place of the 50 is taken by the chunk on its way; the oldest events have the others.
    assert seqs(read_run(tmp_path)) == list(range(49))
    assert read_run(tmp_path).run["end"]["counters"] == {
        "written_events": 49,
        "dropped_events": 151,
        "written_chunks": 1,
        "dropped_chunks": 200,
    }


@needs_fifo
def test_close_gives_up_on_a_disk_that_hangs_and_says_so(tmp_path: Path) -> None:
    blocked = Blocked(tmp_path)
    blocked.rec.samples(chunk(0, n_samples=20_000))
    message = blocked.rec.close(timeout_s=0.1)
    assert message is not None
    assert "did not take the end of the record within 0.1 s" in message
    assert read_run(tmp_path).run["end"] is None
    blocked.unblock().join()
    os.close(blocked.fd)


# -- a disk that fails ------------------------------------------------------------------------------------


@needs_dev_full
def test_a_full_disk_is_reported_and_the_other_file_goes_on(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    rec = recorder(tmp_path, queue_items=100)
    rec.event({"seq": 0})
    wait_until(lambda: rec.failed)
    assert "events.jsonl: cannot be written (ENOSPC: No space left on device)" in str(rec.failed)
    assert "free space" in str(rec.failed)
    (notice,) = rec.take_notices()
    assert notice == {"type": "record_failed", "file": str(tmp_path / "events.jsonl"), "message": rec.failed}
    for k in range(150):
        rec.event({"seq": k})
    assert rec.dropped_events == 51
    message = rec.close({"n": 1})
    assert message is not None
    assert "the end of it is lost" in message
    assert rec.dropped_events == 151
    end = json.loads((tmp_path / "run.json").read_text())["end"]
    assert end["failed"] == message
    assert end["counters"]["dropped_events"] == 151

    other = tmp_path / "other"
    other.mkdir()
    (other / "events.jsonl").symlink_to("/dev/full")
    rec = recorder(other)
    rec.event({"seq": 0})
    wait_until(lambda: rec.failed)
    for k in range(20):
        rec.samples(chunk(k))
    rec.close()
    assert rec.counters["written_chunks"] == 20
    (stream,), _ = pyxdf.load_xdf(str(other / "raw.xdf"))
    assert len(stream["time_series"]) == 200


CHILD = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_record import await_notice, chunk, recorder, wait_until

def limit(n_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

folder = Path(sys.argv[1])
"""


def run_child(code: str, folder: Path) -> str:
    root = str(Path(__file__).parent.parent)
    script = CHILD.format(root=root) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_rlimit
def test_a_line_torn_by_a_full_disk_is_cut_back_and_written_again_when_there_is_room(tmp_path: Path) -> None:
    run_child(
        """
        rec = recorder(folder)
        limit(5000)
        for k in range(300):
            rec.event({"seq": k, "text": "x" * 90})
        wait_until(lambda: rec.failed)
        assert "EFBIG" in rec.failed
        data = (folder / "events.jsonl").read_bytes()
        assert data == b"" or data.endswith(b"\\n"), data[-50:]
        limit(resource.RLIM_INFINITY)
        wait_until(lambda: rec.failed is None)
        rec.event({"seq": 300})
        kinds = [await_notice(rec)["type"], await_notice(rec)["type"]]
        assert kinds == ["record_failed", "record_recovered"], kinds
        assert rec.close() is None
        assert rec.dropped_events == 0
        """,
        tmp_path,
    )
    run = read_run(tmp_path)
    assert seqs(run) == list(range(301))
    assert run.n_damaged_lines == 0


@needs_rlimit
def test_a_raw_file_that_may_not_grow_does_not_stop_events_and_comes_back(tmp_path: Path) -> None:
    run_child(
        """
        rec = recorder(folder, queue_bytes=400_000)
        limit(10_000)
        for k in range(100):
            rec.samples(chunk(k))
            rec.event({"seq": k})
        wait_until(lambda: rec.failed)
        assert "raw.xdf" in rec.failed and "events" not in rec.failed, rec.failed
        wait_until(lambda: rec.counters["written_events"] == 100)
        for k in range(100, 1000):
            rec.samples(chunk(k))
        n_lost = rec.dropped_chunks
        assert n_lost > 500, n_lost
        rec.take_notices()
        limit(resource.RLIM_INFINITY)
        wait_until(lambda: rec.failed is None)
        notice = await_notice(rec)
        assert notice == {"type": "record_recovered", "lost_events": 0, "lost_chunks": n_lost}, notice
        for k in range(1000, 1010):
            rec.samples(chunk(k))
        assert rec.close() is None
        assert rec.dropped_chunks == n_lost
        """,
        tmp_path,
    )
    run = read_run(tmp_path)
    counters = run.run["end"]["counters"]
    stream = raw(run)
    index = stream["time_series"][:, 0].astype(int)
    assert len(index) == 10 * counters["written_chunks"]
    assert counters["written_chunks"] + counters["dropped_chunks"] == 1010
    np.testing.assert_array_equal(stream["time_series"][:, 1], -index)
    np.testing.assert_array_equal(stream["time_stamps"], 50 + index / SFREQ)
    # What is lost is one stretch: the oldest waited in memory and the newest came when there was room.
    assert np.sum(np.diff(index) != 1) == 1
    assert (index[0], index[-1]) == (0, 10_099)


# -- a process that dies ----------------------------------------------------------------------------------


def test_a_killed_process_leaves_all_that_was_flushed(tmp_path: Path) -> None:
    script = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from tests.test_record import chunk, recorder, wait_until
    rec = recorder(Path(sys.argv[1]))
    for k in range(10**9):
        rec.samples(chunk(k))
        rec.event({"seq": k, "text": "x" * 50})
        if k == 300:
            wait_until(lambda: rec.counters["written_events"] == 301 == rec.counters["written_chunks"])
            sys.stdout.write("flushed\\n")
            sys.stdout.flush()
        if k > 300 and k % 50 == 0:
            wait_until(lambda: rec.counters["written_events"] == k + 1)
    """
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(script),
        str(tmp_path),
        str(Path(__file__).parent.parent),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "flushed\n"
            # In the midst of writing, not at rest.
            size = (tmp_path / "raw.xdf").stat().st_size
            wait_until(lambda: (tmp_path / "raw.xdf").stat().st_size > size)
        finally:
            child.kill()
    run = read_run(tmp_path)
    assert run.run["end"] is None
    assert seqs(run) == list(range(len(run.events)))
    assert len(run.events) > 300
    assert run.n_damaged_lines <= 1
    index = read_recording(run.raw_path).data[:, 0]
    np.testing.assert_array_equal(index, np.arange(len(index)))
    assert len(index) >= 3010
