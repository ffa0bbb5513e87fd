"""Frames over Lab Streaming Layer, in the form that :mod:`streamscore.sources.lsl_frames` reads.

The pixels of a frame are the channels of a sample; behind them stand, where they are known, the counter and the
number of the light, in the pixels' type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pylsl

from streamscore.errors import ConfigError

#: LSL's types by kind and size. It has none without a sign, so that the description tells the real one.
_FORMATS = {
    ("i", 1): "int8", ("i", 2): "int16", ("i", 4): "int32", ("i", 8): "int64",
    ("f", 4): "float32", ("f", 8): "double64",
}  # fmt: skip
#: Seconds that an outlet keeps for a receiver that is busy.
_BUFFER_S = 10


class FramesOutlet:
    """One outlet.

    Parameters
    ----------
    name, source_id
        Of the stream.
    shape, dtype, rate_hz
        Of the frames; the rate is that of the camera, under all lights together.
    extra
        What stands behind the pixels, of ``"counter"`` and ``"tag"``.
    speed, file
        Of a replay: recorded seconds per second, and what is played.

    Attributes
    ----------
    outlet
        LSL's own.
    counter_bits
        After how many bits the counter wraps: where the pixels' type ends.

    Raises
    ------
    ConfigError
        If LSL cannot carry such pixels.
    """

    def __init__(
        self,
        name: str,
        source_id: str,
        shape: tuple[int, int],
        dtype: npt.DTypeLike,
        rate_hz: float,
        extra: Sequence[str],
        *,
        speed: float = 1.0,
        file: str = "",
    ) -> None:
        native = np.dtype(dtype).newbyteorder("=")
        is_float = native.kind == "f"
        sent = ("f" if is_float else "i", native.itemsize)
        if sent not in _FORMATS:
            raise ConfigError(f"LSL cannot carry pixels of {native.name}; send float32, or over ZeroMQ")
        self.counter_bits = np.finfo(native).nmant + 1 if is_float else int(np.iinfo(native).max).bit_length()
        self._extra = tuple(extra)
        self._n_pixels = shape[0] * shape[1]
        self._row = np.zeros(self._n_pixels + len(self._extra), native)
        self._sent = np.dtype("".join(map(str, sent)))
        info = pylsl.StreamInfo(name, "VideoRaw", len(self._row), rate_hz, _FORMATS[sent], source_id)
        described = {
            "height": str(shape[0]), "width": str(shape[1]), "dtype": native.name, "extra": ",".join(extra),
        }  # fmt: skip
        frames = info.desc().append_child("frames")
        for key, value in described.items():
            frames.append_child_value(key, value)
        if file:
            replay = info.desc().append_child("replay")
            replay.append_child_value("file", file)
            replay.append_child_value("speed", repr(speed))
        # Buffer sizes are nominal seconds, which pass `speed` times as fast.
        self.outlet = pylsl.StreamOutlet(info, max_buffered=max(_BUFFER_S, round(_BUFFER_S * speed)))

    def push(self, data: npt.NDArray[np.generic], counter: int, light: int, time_s: float) -> None:
        """Send a frame ``(height, width)``; a `time_s` of 0 has LSL stamp it."""
        self._row[: self._n_pixels] = data.ravel()
        behind = {"counter": counter % 2**self.counter_bits, "tag": light}
        for k, name in enumerate(self._extra):
            self._row[self._n_pixels + k] = behind[name]
        self.outlet.push_sample(self._row.view(self._sent), time_s)

    def wait_for_consumers(self, timeout_s: float) -> bool:
        """Wait until somebody listens."""
        return bool(self.outlet.wait_for_consumers(timeout_s))
