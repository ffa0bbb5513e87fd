"""Frames on the wire: a message of two parts, a header in JSON and the raw pixels.

The header is one JSON object, at most 4 kB::

    {"dtype": "uint16", "shape": [512, 512], "frame": 17, "time_s": 12.34, "channel": "fluorescence_470"}

`dtype` and `shape` (height, width) are needed; `frame` (the camera's own counter, 0 or more), `time_s` (seconds
on the camera's clock), `channel` (the light: its name, or a number of 0 or more), `camera` (a name) and `speed`
(of a replay: recorded seconds per second) may be null or left out. Keys that are not listed are ignored, so that
a sender may add its own. The pixels follow row
by row, little endian unless the dtype says otherwise (``">u2"``).

A header is believed only after everything in it was compared with the bytes that really came; nothing is ever
allocated by its word. The pixels are not copied: the frame is a view of the message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.camera.frame import RawFrame
from streamscore.errors import StreamFormatError

#: Longest header in bytes.
MAX_HEADER_BYTES = 4096
#: Most pixels along an edge, and the most bytes that a frame can therefore have.
MAX_EDGE = 4096
MAX_FRAME_BYTES = MAX_EDGE * MAX_EDGE * 8
#: Longest name of a light or camera.
MAX_NAME = 64
#: Largest counter; what is larger does not fit where counters are kept.
MAX_COUNTER = 2**63 - 1
#: Latest device time: the year 5138 in Unix seconds, so that milliseconds or nanoseconds are seen to be none.
MAX_TIME_S = 1e11

_KINDS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
#: Every name of a dtype that is understood: ``uint16``, ``u2``, ``<u2``, ``>u2``, and numpy's ``|u1``.
DTYPES: dict[str, np.dtype[Any]] = {
    **{name: np.dtype("<" + kind) for kind in _KINDS for name in (np.dtype(kind).name, kind, "<" + kind)},
    **{">" + kind: np.dtype(">" + kind) for kind in _KINDS},
    **{"|" + kind: np.dtype(kind) for kind in ("u1", "i1")},
}

#: One part of a message: bytes, a memoryview, or pyzmq's ``Frame.buffer``.
Part = bytes | bytearray | memoryview


class FrameError(StreamFormatError):
    """A message is no frame.

    Attributes
    ----------
    cause
        One of a few words that stand for the kind of error, for counting.
    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says, once checked; see the module."""

    dtype: np.dtype[Any]
    shape: tuple[int, int]
    frame: int | None = None
    time_s: float = math.nan
    channel: str | int | None = None
    camera: str = ""
    speed: float = 1.0

    @property
    def n_bytes(self) -> int:
        """Number of bytes that the pixels must have."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def encode(
    data: npt.NDArray[Any],
    *,
    frame: int | None = None,
    time_s: float | None = None,
    channel: str | int | None = None,
    camera: str | None = None,
    speed: float | None = None,
) -> list[Part]:
    """Return the two parts of a message.

    Parameters
    ----------
    data
        ``(height, width)``, any integer or float type; not copied if it is contiguous.
    frame, time_s, channel, camera, speed
        See the module; what is ``None`` is left out.

    Raises
    ------
    FrameError
        If a receiver would refuse it.
    """
    header: dict[str, Any] = {"dtype": data.dtype.str, "shape": list(data.shape)}
    optional = {"frame": frame, "time_s": time_s, "channel": channel, "camera": camera, "speed": speed}
    header |= {key: value for key, value in optional.items() if value is not None}
    text = json.dumps(header).encode()
    parse_header(text)
    return [text, np.ascontiguousarray(data).reshape(-1).view(np.uint8).data]


def parse_header(text: Part) -> Header:
    """Read and check a header.

    Raises
    ------
    FrameError
        Naming the key that is wrong, what it is and what it should be.
    """
    if len(text) > MAX_HEADER_BYTES:
        raise FrameError("header", f"the header has {len(text)} bytes; at most {MAX_HEADER_BYTES} are read")
    try:
        content = _JSON.decode(str(text, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise FrameError(
            "header", f"the header is not JSON ({_first_words(error)}); it begins {_begin(text)}"
        ) from error
    if not isinstance(content, dict):
        raise FrameError("header", f"the header is not a JSON object; it begins {_begin(text)}")
    return Header(
        _dtype(content.get("dtype")),
        _shape(content.get("shape")),
        _whole("frame", content.get("frame")),
        _time_s(content.get("time_s")),
        _channel(content.get("channel")),
        _name("camera", content.get("camera")) or "",
        _speed(content.get("speed")),
    )


def decode(parts: Sequence[Part], received_s: float) -> RawFrame:
    """Read a message.

    Parameters
    ----------
    parts
        Header and pixels.
    received_s
        Local clock at its arrival.

    Returns
    -------
    RawFrame
        Its pixels are a read-only view of ``parts[1]``.

    Raises
    ------
    FrameError
        Telling what contradicts what.
    """
    if len(parts) != 2:
        plural = "part" if len(parts) == 1 else "parts"
        raise FrameError("parts", f"the message has {len(parts)} {plural}; send two: the header and the pixels")
    header = parse_header(parts[0])
    if len(parts[1]) != header.n_bytes:
        height, width = header.shape
        raise FrameError(
            "bytes",
            f"the header says {height} x {width} pixels of {header.dtype.name}, which are {header.n_bytes} bytes, "
            f"but {len(parts[1])} bytes came",
        )
    data = np.frombuffer(parts[1], header.dtype).reshape(header.shape)
    data.flags.writeable = False
    return RawFrame(data, header.time_s, header.frame, header.channel, received_s)


def _dtype(value: object) -> np.dtype[Any]:
    found = DTYPES.get(value) if isinstance(value, str) else None
    if found is None:
        raise FrameError(
            "dtype", f"dtype is {_show(value)}; use one of {', '.join(np.dtype(k).name for k in _KINDS)}"
        )
    return found


def _shape(value: object) -> tuple[int, int]:
    match value:
        # A bool is an int to Python, and not to a camera.
        case [int(height), int(width)] if type(height) is type(width) is int:
            if min(value) >= 1 and max(value) <= MAX_EDGE:
                return height, width
    raise FrameError("shape", f"shape is {_show(value)}; it must be [height, width], each 1 to {MAX_EDGE}")


def _whole(key: str, value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_COUNTER:
        raise FrameError(key, f"{key} is {_show(value)}; it must be a whole number of 0 to 2**63 - 1, or null")
    return value


def _time_s(value: object) -> float:
    if value is None:
        return math.nan
    # Compared before it is converted: a whole number may be too large for a float.
    if not isinstance(value, int | float) or isinstance(value, bool) or not -MAX_TIME_S <= value <= MAX_TIME_S:
        raise FrameError("time_s", f"time_s is {_show(value)}; it must be seconds (at most 1e11), or null")
    return float(value)


def _speed(value: object) -> float:
    if value is None:
        return 1.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1e-6 <= value <= 1e9:
        raise FrameError("speed", f"speed is {_show(value)}; a replay says 1e-6 to 1e9, a camera leaves it out")
    return float(value)


def _channel(value: object) -> str | int | None:
    return _name("channel", value) if isinstance(value, str) else _whole("channel", value)


def _name(key: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME or not value.isprintable():
        raise FrameError(
            key, f"{key} is {_show(value)}; it must be a name of 1 to {MAX_NAME} printable characters"
        )
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)


def _show(value: object) -> str:
    """Write a value so that it can stand in a message, whatever it is."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _begin(text: Part) -> str:
    return ascii(bytes(text[:24]))


def _first_words(error: Exception) -> str:
    return str(error)[:80].encode("ascii", "replace").decode()
