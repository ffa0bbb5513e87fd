"""Raw frames to float32 frames of the size that is scored: the one copy between the wire and the network.

Averaging whole blocks (`bin`) goes in two steps: NumPy adds up the rows of a block, a matrix product with one
column adds up its columns. For 512 × 512 uint16 to 128 × 128 that took 0.10 ms where a mean over both axes took
1.4 ms, ``avg_pool2d`` 0.70 ms and adding strided columns 0.23 ms. Sums of up to 256 pixels of 16 bits are exact in
float32.

Any other ratio (`area`) weights each pixel with the area that it shares with the larger one, as ``INTER_AREA`` of
OpenCV does; the mean of the frame stays what it was. The weights are sparse in both directions, so that a pixel
that is no number spoils only those which it is part of.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from streamscore.errors import StreamFormatError
from streamscore.types import FloatArray


class Reducer:
    """Write frames of one size and type into frames of another size.

    Parameters
    ----------
    raw_shape
        ``(height, width)`` as sent.
    raw_dtype
        Integer or float, of any size and byte order.
    frame_shape
        ``(height, width)`` wanted; ``None`` keeps the size.
    how
        ``bin`` or ``area``, see above.

    Attributes
    ----------
    frame_shape
        ``(height, width)`` of what is written.

    Raises
    ------
    StreamFormatError
        If the type is no number that can be used, or the sizes do not fit.
    """

    def __init__(
        self,
        raw_shape: tuple[int, int],
        raw_dtype: npt.DTypeLike,
        frame_shape: tuple[int, int] | None,
        how: Literal["bin", "area"],
    ) -> None:
        dtype = np.dtype(raw_dtype)
        if dtype.kind not in "iuf":
            raise StreamFormatError(f"the camera sends pixels of type {dtype}; integers and floats can be used")
        if min(raw_shape) < 1:
            raise StreamFormatError(
                f"the camera sends frames of {_size(raw_shape)} pixels: there is nothing in them"
            )
        self.frame_shape = frame_shape or raw_shape
        (height, width), (raw_height, raw_width) = self.frame_shape, raw_shape
        if height > raw_height or width > raw_width:
            raise StreamFormatError(
                f"frames of {_size(raw_shape)} pixels cannot be enlarged to {_size(self.frame_shape)}: detail "
                "that was not taken cannot be scored. Set the camera to a larger frame or less binning"
            )
        self._write = self._cast
        if self.frame_shape == raw_shape:
            return
        if how == "area":
            self._rows = _shares(raw_height, height)
            self._columns = _shares(raw_width, width)
            self._write = self._area
            return
        if raw_height % height or raw_width % width or raw_height // height != raw_width // width:
            raise StreamFormatError(
                f"frames of {_size(raw_shape)} pixels are not whole square blocks of frames of "
                f"{_size(self.frame_shape)}. Crop at the camera, choose a frame_shape that divides both sides by "
                "the same whole number, or set reduce: area"
            )
        factor = raw_height // height
        self._bands = np.empty((height, raw_width), np.float32)
        self._blocks = (height, factor, raw_width)
        self._weights = np.full(factor, 1.0 / factor**2, np.float32)
        self._write = self._bin

    def __call__(self, raw: npt.NDArray[Any], out: FloatArray) -> None:
        """Reduce `raw` into `out`, C-contiguous of :attr:`frame_shape`."""
        with np.errstate(all="ignore"):  # what does not fit becomes infinite, and is for the quality to find
            self._write(raw, out)

    def _cast(self, raw: npt.NDArray[Any], out: FloatArray) -> None:
        np.copyto(out, raw, casting="unsafe")

    def _bin(self, raw: npt.NDArray[Any], out: FloatArray) -> None:
        np.add.reduce(raw.reshape(self._blocks), axis=1, dtype=np.float32, out=self._bands)
        np.matmul(self._bands.reshape(-1, len(self._weights)), self._weights, out=out.reshape(-1))

    def _area(self, raw: npt.NDArray[Any], out: FloatArray) -> None:
        bands = self._rows @ raw.astype(np.float32, casting="unsafe")
        out[...] = (self._columns @ bands.T).T


def _shares(n_raw: int, n: int) -> sparse.csr_array:
    """``(n, n_raw)``: how much of each raw pixel is in each of `n`, in parts of the latter."""
    edges = np.arange(n + 1) * (n_raw / n)
    raw = np.arange(n_raw)
    overlap = np.minimum(edges[1:, None], raw + 1) - np.maximum(edges[:-1, None], raw)
    overlap[overlap < 1e-9] = 0.0  # what rounding leaves of pixels that only touch
    return sparse.csr_array((overlap * (n / n_raw)).astype(np.float32))


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} × {shape[1]}"
