"""Commands for cameras, as a person types them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from typer.testing import CliRunner

from streamscore.camera.wire import decode
from streamscore.cli import app
from streamscore.cli_camera import parse_shape
from streamscore.errors import ConfigError
from streamscore.transform import read_transform


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


class Receiver:
    """Takes what a camera sends."""

    def __init__(self) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self.socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.messages: list[list[bytes]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while self.socket.poll(100) or not self._done.is_set():
            if self.socket.poll(0):
                self.messages.append(self.socket.recv_multipart())

    def close(self) -> None:
        self._done.set()
        self._thread.join(10)
        self.socket.close(linger=0)


@pytest.fixture
def receiver() -> Any:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def _keep_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the handlers of the test session alone."""
    monkeypatch.setattr("streamscore.cli_camera.stop_on_signals", threading.Event)


@pytest.mark.parametrize("sees", ["noise", "cortex"])
def test_a_simulated_camera_sends_frames_with_number_time_and_light(receiver: Receiver, sees: str) -> None:
    options = ("--sees", sees, "--lights", "2", "--shape", "24x32", "--duration-s", "0.5", "--cycle-s", "60")
    result = invoke("camera", "--endpoint", receiver.endpoint, *options)
    assert result.exit_code == 0, result.output
    receiver.close()
    frames = [decode([*message], 0.0) for message in receiver.messages]
    assert [frame.counter for frame in frames] == list(range(17))
    assert {frame.data.shape for frame in frames} == {(24, 32)}
    assert [frame.tag for frame in frames[:3]] == ["fluorescence_470", "reference_405", "fluorescence_470"]
    np.testing.assert_allclose(np.diff([frame.device_s for frame in frames]), 1 / 33.6, atol=1e-6)
    told = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert [line["event"] for line in told if line["event"] != "truth"] == ["started", "finished"]
    assert told[-1]["frames"] == 17
    assert any(line["event"] == "truth" for line in told) == (sees == "cortex")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("camera", "--lights", "3"), "choose 1, 2, 4"),
        (("camera", "--shape", "128"), "write HEIGHTxWIDTH"),
        (("camera", "--endpoint", "tcp://nowhere"), "cannot use endpoint"),
    ],
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_shapes() -> None:
    assert parse_shape("512x640") == (512, 640)
    for wrong in ("0x4", "4x", "ax4", "-4x4"):
        with pytest.raises(ConfigError, match="HEIGHTxWIDTH"):
            parse_shape(wrong)


def test_register_writes_the_transform_and_says_where_it_goes(tmp_path: Path) -> None:
    np.save(tmp_path / "frame.npy", np.random.default_rng(0).normal(1000, 50, (128, 128)))
    out = tmp_path / "mouse.json"
    result = invoke(
        "register", str(tmp_path / "frame.npy"), "--bregma", "64,45", "--lambda", "64,95", "-o", str(out),
        "--no-picture",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "affine" in result.output
    assert "path" in result.output
    assert read_transform(out).frame_shape == (128, 128)
    assert not out.with_suffix(".png").exists()


def test_signals_are_not_played_over_zeromq(tmp_path: Path) -> None:
    np.savez(tmp_path / "eeg.npz", data=np.zeros((100, 1), np.float32), sfreq=100.0, channels=np.array(["EEG"]))
    result = invoke("replay", str(tmp_path / "eeg.npz"), "--to", "zmq")
    assert isinstance(result.exception, ConfigError)
    assert "--to zmq is for movies" in str(result.exception)


def test_a_movie_is_replayed_over_zeromq(tmp_path: Path, receiver: Receiver) -> None:
    movie = np.random.default_rng(0).integers(0, 4000, (30, 16, 16)).astype(np.uint16)
    np.save(tmp_path / "movie.npy", movie)
    result = invoke(
        "replay", str(tmp_path / "movie.npy"), "--rate-hz", "60", "--lights", "a,b",
        "--endpoint", receiver.endpoint, "--speed", "5", "--linger-s", "0.5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    receiver.close()
    frames = [decode([*message], 0.0) for message in receiver.messages][1:]  # the first announces shape and type
    np.testing.assert_array_equal(np.stack([frame.data for frame in frames]), movie)
    assert [frame.tag for frame in frames[:3]] == ["a", "b", "a"]
    assert json.loads(receiver.messages[0][0])["speed"] == 5.0
