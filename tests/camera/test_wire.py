from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.camera import wire
from streamscore.camera.wire import FrameError, decode, encode, parse_header

GOOD: dict[str, Any] = {"dtype": "uint16", "shape": [3, 4], "frame": 17, "time_s": 12.25, "channel": "blue"}
PIXELS = np.arange(12, dtype="<u2").tobytes()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def message(**changes: Any) -> list[bytes]:
    return [json.dumps({**GOOD, **changes}).encode(), PIXELS]


@pytest.mark.parametrize("dtype", [*wire.DTYPES])
def test_every_type_comes_back_as_it_went(dtype: str) -> None:
    data = np.arange(12).reshape(3, 4).astype(np.dtype(dtype))
    frame = decode(encode(data, frame=3, time_s=1.5, channel="blue", camera="left"), 9.0)
    np.testing.assert_array_equal(frame.data, data)
    assert frame.data.dtype.newbyteorder("=") == data.dtype.newbyteorder("=")
    assert (frame.counter, frame.device_s, frame.tag, frame.received_s) == (3, 1.5, "blue", 9.0)


def test_the_header_of_design_8() -> None:
    header = parse_header(b'{"dtype": "uint16", "shape": [512, 512], "frame": 17, "time_s": 12.34, "channel": 2}')
    assert header == wire.Header(np.dtype("<u2"), (512, 512), 17, 12.34, 2)
    assert header.n_bytes == 2 * 512 * 512


def test_a_camera_that_tells_only_what_is_needed() -> None:
    frame = decode([b'{"dtype": "u1", "shape": [2, 3], "frame": null, "exposure_ms": [10]}', bytes(6)], 1.0)
    assert (frame.counter, frame.tag) == (None, None)
    assert math.isnan(frame.device_s)


def test_big_endian_pixels_are_read_as_such() -> None:
    frame = decode([b'{"dtype": ">u2", "shape": [1, 2]}', b"\x00\x01\x01\x00"], 0.0)
    assert frame.data.tolist() == [[1, 256]]


def test_pixels_are_a_view_that_nobody_can_write() -> None:
    pixels = bytearray(PIXELS)
    frame = decode([message()[0], pixels], 0.0)
    pixels[0] = 99
    assert frame.data[0, 0] == 99
    with pytest.raises(ValueError, match="read-only"):
        frame.data[0, 0] = 1


def test_what_is_not_contiguous_is_sent_as_seen() -> None:
    data = np.arange(60, dtype=np.uint16).reshape(6, 10)[::2, 1::3]
    np.testing.assert_array_equal(decode(encode(data), 0.0).data, data)


@pytest.mark.parametrize(
    ("parts", "cause", "text"),
    [
        ([], "parts", "0 parts"),
        ([message()[0]], "parts", "has 1 part;"),
        ([b"topic", *message()], "parts", "3 parts"),
        ([b"\x00" * 40, PIXELS], "header", "not JSON"),
        ([b"\xff\xfe{}", PIXELS], "header", "not JSON"),
        ([b"", PIXELS], "header", "not JSON"),
        ([b"[1, 2]", PIXELS], "header", "not a JSON object"),
        ([b"17", PIXELS], "header", "not a JSON object"),
        ([b"[" * 4000, PIXELS], "header", "not JSON"),
        ([b'{"dtype": "u1", "dtype": "u2", "shape": [3, 4]}', PIXELS], "header", "stands twice"),
        ([b'{"time_s": NaN}', PIXELS], "header", "NaN"),
        ([b'{"time_s": -Infinity}', PIXELS], "header", "Infinity"),
        ([b" " * 5000 + message()[0], PIXELS], "header", "5085 bytes; at most 4096"),
        (message(dtype="object"), "dtype", "'object'.*uint16"),
        (message(dtype="O"), "dtype", "'O'"),
        (message(dtype=["u2"]), "dtype", "uint16"),
        (message(dtype=None), "dtype", "None"),
        (message(shape=None), "shape", "None"),
        (message(shape=[12]), "shape", "height, width"),
        (message(shape=[1, 3, 4]), "shape", "height, width"),
        (message(shape=[-3, -4]), "shape", "1 to 4096"),
        (message(shape=[0, 4]), "shape", "1 to 4096"),
        (message(shape=[True, 12]), "shape", "1 to 4096"),
        (message(shape=[3.0, 4]), "shape", "1 to 4096"),
        (message(shape=[100_000, 100_000]), "shape", "1 to 4096"),
        (message(shape=[10**400, 1]), "shape", r"\.\.\."),
        (message(shape=[4096, 4096]), "bytes", "33554432 bytes, but 24 bytes came"),
        (message(shape=[4, 4]), "bytes", "4 x 4 pixels of uint16, which are 32 bytes, but 24"),
        (message(dtype="float32"), "bytes", "48 bytes, but 24"),
        ([message()[0], PIXELS[:-1]], "bytes", "but 23"),
        ([message()[0], b""], "bytes", "but 0"),
        (message(frame=-1), "frame", "-1"),
        (message(frame=True), "frame", "True"),
        (message(frame=1.0), "frame", "1.0"),
        (message(frame=2**63), "frame", "whole number"),
        (message(frame="17"), "frame", "'17'"),
        (message(time_s=True), "time_s", "True"),
        (message(time_s="12"), "time_s", "'12'"),
        (message(time_s=10**400), "time_s", "seconds"),
        (message(time_s=1.7e12), "time_s", "seconds"),
        ([message()[0].replace(b"12.25", b"1e999"), PIXELS], "time_s", "inf"),
        (message(channel=-2), "channel", "-2"),
        (message(channel=False), "channel", "False"),
        (message(channel=1.5), "channel", "1.5"),
        (message(channel=""), "channel", "printable"),
        (message(channel="x" * 65), "channel", "1 to 64"),
        (message(channel="\ud800"), "channel", "printable"),
        (message(channel="a\nb"), "channel", "printable"),
        (message(camera=3), "camera", "name"),
    ],
)
def test_what_is_no_frame_is_refused_with_the_reason(parts: list[bytes], cause: str, text: str) -> None:
    with pytest.raises(FrameError, match=text) as caught:
        decode(parts, 0.0)
    assert caught.value.cause == cause
    assert len(str(caught.value)) < 300
    assert str(caught.value).isascii()


def test_a_sender_cannot_make_what_a_receiver_refuses() -> None:
    with pytest.raises(FrameError, match="dtype"):
        encode(np.zeros((2, 2), complex))
    with pytest.raises(FrameError, match="shape"):
        encode(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(FrameError, match="frame"):
        encode(np.zeros((2, 2), np.uint8), frame=-1)
    with pytest.raises(FrameError, match="NaN"):
        encode(np.zeros((2, 2), np.uint8), time_s=math.nan)


def read_or_refuse(parts: list[bytes]) -> None:
    """Anything may be refused; what is read must agree with its header."""
    try:
        frame = decode(parts, 0.0)
    except FrameError:
        return
    assert frame.data.nbytes == len(parts[1])
    assert frame.counter is None or 0 <= frame.counter < 2**63
    assert not math.isinf(frame.device_s)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes(parts: list[bytes]) -> None:
    read_or_refuse(parts)


@given(st.dictionaries(st.sampled_from([*GOOD, "camera", "x"]), json_values))
def test_any_json_in_any_key(changes: dict[str, Any]) -> None:
    read_or_refuse(message(**changes))


def test_thousands_of_damaged_messages() -> None:
    """Bytes changed, put in, taken out, and the end cut off, of a message that would be good."""
    rng = np.random.default_rng(0)
    telling = np.frombuffer(b'"{}[]:,.-+0123456789eE\\truefalsnNaIy \x00\xff', np.uint8)
    for _ in range(5000):
        text = bytearray(message()[0])
        for at, way in zip(rng.integers(0, len(text) - 3, 3), rng.integers(0, 3, 3), strict=True):
            new = rng.choice(telling, rng.integers(1, 4)).tobytes()
            text[at : at + (0, len(new), 2)[way]] = new if way < 2 else b""
        end = len(text) if rng.random() < 0.9 else rng.integers(len(text))
        read_or_refuse([bytes(text[:end]), PIXELS[: None if rng.random() < 0.9 else rng.integers(24)]])
