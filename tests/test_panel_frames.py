from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zmq

from streamscore import cli
from streamscore.bundle import Spec, save_bundle
from streamscore.errors import ConfigError
from streamscore.models import cnn_bilstm
from streamscore.panel.frames import BREAK_S, EXPLAIN_S, Frames
from streamscore.panel.importance import Importance
from streamscore.panel.pictures import View
from streamscore.sinks.zmq_frames import Config, build
from streamscore.types import FloatArray
from tests.test_panel_importance import SIDE, UPPER_LEFT, Corners, frame

PERIOD_S = 1 / 16
PATIENCE_S = 20.0


def movie(n: int, seed: int = 0) -> list[FloatArray]:
    """Return frames that vary inside a disc, and are 0 outside."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    disc = x**2 + y**2 < (0.45 * SIDE) ** 2
    noise = np.random.default_rng(seed).standard_normal((n, SIDE, SIDE)).astype(np.float32)
    return list(noise * disc)


def newest(frames: Frames) -> View:
    view = frames.newest
    assert view is not None
    return view


@pytest.fixture
def unheard() -> Frames:
    """Frames that are given by hand."""
    return Frames("inproc://nobody", Importance(Corners()))


def test_nothing_at_first(unheard: Frames) -> None:
    assert unheard.newest is None
    assert unheard.explains


def test_pixels_that_never_change_are_background(unheard: Frames) -> None:
    pictures = movie(5)
    for k, picture in enumerate(pictures):
        unheard.take(k * PERIOD_S, picture)
    view = newest(unheard)
    np.testing.assert_array_equal(view.background, np.stack(pictures).std(axis=0) == 0)
    assert view.number == 4
    np.testing.assert_array_equal(view.frame, pictures[-1])


def test_colours_span_what_changes_and_follow_slowly(unheard: Frames) -> None:
    for k, picture in enumerate(movie(40)):
        unheard.take(k * PERIOD_S, picture)
    low, high = newest(unheard).span
    assert low == pytest.approx(-2.05, abs=0.15)
    assert high == pytest.approx(2.58, abs=0.25)
    unheard.take(40 * PERIOD_S, 100 * movie(1, seed=1)[0])
    assert newest(unheard).span[1] == pytest.approx(high + 0.0177 * 258, rel=0.2)


def test_frames_without_a_number_among_them_can_be_drawn(unheard: Frames) -> None:
    unheard.take(0.0, np.full((SIDE, SIDE), np.nan, np.float32))
    unheard.take(PERIOD_S, np.full((SIDE, SIDE), np.inf, np.float32))
    assert newest(unheard).span == (0.0, 1.0)


def test_an_explanation_comes_about_once_a_second(unheard: Frames) -> None:
    explained = []
    for k in range(round(3 * EXPLAIN_S / PERIOD_S)):
        unheard.take(k * PERIOD_S, frame(UPPER_LEFT))
        explained.append(newest(unheard).explanation)
    assert None not in explained
    assert len({id(item) for item in explained}) == 3
    assert explained[-1] is not None
    assert explained[-1].state == 1
    assert float(unheard._importance._state[0]) == len(explained)  # type: ignore[union-attr]


@pytest.mark.parametrize("step_s", [BREAK_S + 0.1, -0.5])
def test_after_a_break_the_copy_starts_afresh(unheard: Frames, step_s: float) -> None:
    for t_s in (10.0, 10.1, 10.2):
        unheard.take(t_s, frame(UPPER_LEFT))
    unheard.take(10.2 + step_s, frame(UPPER_LEFT))
    assert float(unheard._importance._state[0]) == 1  # type: ignore[union-attr]


def test_frames_of_another_size_are_shown_and_not_explained(unheard: Frames) -> None:
    unheard.take(0.0, frame(UPPER_LEFT))
    unheard.take(PERIOD_S, np.ones((8, 6), np.float32))
    view = newest(unheard)
    assert view.frame.shape == (8, 6)
    assert view.explanation is None
    assert unheard.n_refused == 1


def test_frames_of_a_sink_arrive_and_what_is_no_frame_is_counted() -> None:
    sink = build(Config(endpoint="tcp://127.0.0.1:*"))
    waiter = threading.Event()
    with Frames(sink.frames_endpoint) as frames:
        assert not frames.explains
        for k in range(round(PATIENCE_S / 0.01)):
            sink.frame(k * PERIOD_S, frame(UPPER_LEFT), True)
            if frames.newest is not None:
                break
            waiter.wait(0.01)
        np.testing.assert_array_equal(newest(frames).frame, frame(UPPER_LEFT))
        sink._socket.send_multipart([b"not a frame"])
        for _ in range(round(PATIENCE_S / 0.01)):
            if frames.n_refused:
                break
            waiter.wait(0.01)
        assert frames.n_refused == 1
    sink.close()


def test_an_endpoint_that_is_none_is_an_error_that_says_so() -> None:
    with (
        pytest.raises(ConfigError, match=r"cannot connect to frames at 'nonsense'.*tcp://HOST:PORT"),
        Frames("nonsense"),
    ):
        pass


def test_a_frame_may_be_sent_in_any_type() -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    socket.bind("tcp://127.0.0.1:*")
    waiter = threading.Event()
    header = b'{"dtype": ">u2", "shape": [1, 2], "time_s": 3}'
    with Frames(socket.getsockopt_string(zmq.LAST_ENDPOINT)) as frames:
        for _ in range(round(PATIENCE_S / 0.01)):
            socket.send_multipart([header, b"\x01\x00\x00\x02"])
            if frames.newest is not None:
                break
            waiter.wait(0.01)
        np.testing.assert_array_equal(newest(frames).frame, [[256.0, 2.0]])
    socket.close(0)


def small_network(variant: str) -> cnn_bilstm.CnnBilstm:
    config = {"frame_shape": (SIDE, SIDE), "n_filters": 2, "n_blocks": 2, "n_hidden": 2}
    return cnn_bilstm.build(cnn_bilstm.Config(variant=variant, **config))


def test_the_command_line_loads_what_explains(tmp_path: Path) -> None:
    network = small_network("causal")
    args = network.config.model_dump(mode="json")
    spec = Spec(name="small", model="cnn_bilstm", model_args=args, preprocess=(), vocabulary="MOUSE3",
                sfreq=16.8, channels=("calcium",), hop_s=None)  # fmt: skip
    save_bundle(tmp_path / "small.safetensors", spec, network)
    assert cli._frames("inproc://nobody", str(tmp_path / "small.safetensors")).explains
    assert not cli._frames("inproc://nobody", None).explains
    with pytest.raises(ConfigError, match="give --frames ENDPOINT too"):
        cli.watch("tcp://127.0.0.1:5580", bundle="small")


@pytest.mark.parametrize(
    ("frames", "bundle", "variant", "expected"),
    [
        ("", "name", "causal", []),
        ("tcp://f", "name", "causal", ["--frames", "tcp://f", "--bundle", "name"]),
        ("tcp://f", {"model": "cnn_bilstm"}, "causal", ["--frames", "tcp://f"]),
        ("tcp://f", "name", "published", ["--frames", "tcp://f"]),
    ],
)
def test_the_screen_of_a_run_shows_what_there_is(
    frames: str, bundle: object, variant: str, expected: list[str]
) -> None:
    assembly = SimpleNamespace(
        endpoint="tcp://e", frames_endpoint=frames, bundle=SimpleNamespace(model=small_network(variant))
    )
    assert cli._screen_arguments(assembly, bundle) == ["watch", "tcp://e", *expected]  # type: ignore[arg-type]
