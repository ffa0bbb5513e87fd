from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.camera.reduce import Reducer
from streamscore.errors import StreamFormatError
from streamscore.types import FloatArray

DTYPES = ["u1", "i1", "<u2", ">u2", "<i2", ">u4", "<i4", "<u8", ">i8", "<f2", ">f4", "<f4", "<f8", ">f8"]


def raw(shape: tuple[int, int], dtype: str) -> npt.NDArray[Any]:
    values = np.random.default_rng(0).uniform(0, 100, shape)
    return values.astype(dtype)


def reduced(
    frame: npt.NDArray[Any], shape: tuple[int, int] | None, how: Literal["bin", "area"] = "bin"
) -> FloatArray:
    reducer = Reducer(frame.shape, frame.dtype, shape, how)  # type: ignore[arg-type]
    out = np.full(reducer.frame_shape, np.nan, np.float32)
    reducer(frame, out)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_frames_of_any_type_that_keep_their_size_keep_their_values(dtype: str) -> None:
    frame = raw((12, 8), dtype)
    np.testing.assert_array_equal(reduced(frame, None), frame.astype(np.float32))
    np.testing.assert_array_equal(reduced(frame, (12, 8), "area"), frame.astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["bin", "area"])
def test_blocks_of_any_type_are_averaged(dtype: str, how: Literal["bin", "area"]) -> None:
    frame = raw((24, 32), dtype)
    wanted = frame.astype(np.float64).reshape(6, 4, 8, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(reduced(frame, (6, 8), how), wanted, rtol=1e-6)


def test_sums_of_16_bits_are_exact() -> None:
    frame = np.full((64, 64), 65535, np.uint16)
    frame[::2] = 65533
    np.testing.assert_array_equal(reduced(frame, (4, 4)), np.full((4, 4), 65534.0))


@given(st.tuples(*[st.integers(1, 40)] * 4))
def test_area_weights_each_pixel_with_what_it_shares(sides: tuple[int, int, int, int]) -> None:
    height, width, more_rows, more_columns = sides
    frame = raw((height + more_rows - 1, width + more_columns - 1), "<f4")
    out = reduced(frame, (height, width), "area")
    assert out.mean(dtype=np.float64) == pytest.approx(frame.mean(dtype=np.float64), rel=1e-5)
    # The reference: enlarge until both sizes divide, then average whole blocks.
    fine = np.kron(frame.astype(np.float64), np.ones((height, width)))
    blocks = fine.reshape(height, frame.shape[0], width, frame.shape[1])
    np.testing.assert_allclose(out, blocks.mean(axis=(1, 3)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("how", ["bin", "area"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_stays_one_and_spoils_no_other(how: Literal["bin", "area"], bad: float) -> None:
    frame = raw((16, 16), "<f4")
    frame[5, 9] = bad
    out = reduced(frame, (4, 4), how)
    assert not np.isfinite(out[1, 2])
    assert np.isfinite(np.delete(out.ravel(), 6)).all()


def test_what_does_not_fit_into_float32_becomes_infinite_without_a_warning() -> None:
    frame = np.full((4, 4), 1e300)
    assert np.isposinf(reduced(frame, None)).all()
    assert np.isposinf(reduced(frame, (2, 2))).all()
    assert np.isposinf(reduced(frame, (3, 3), "area")).all()


@pytest.mark.parametrize(
    ("raw_shape", "frame_shape"), [((512, 640), (128, 128)), ((100, 100), (48, 48)), ((8, 9), (4, 3))]
)
def test_blocks_that_are_not_whole_and_square_are_refused(
    raw_shape: tuple[int, int], frame_shape: tuple[int, int]
) -> None:
    with pytest.raises(StreamFormatError, match=r"not whole square blocks.*set reduce: area"):
        Reducer(raw_shape, np.uint16, frame_shape, "bin")
    assert Reducer(raw_shape, np.uint16, frame_shape, "area").frame_shape == frame_shape


@pytest.mark.parametrize("how", ["bin", "area"])
def test_frames_are_never_enlarged(how: Literal["bin", "area"]) -> None:
    with pytest.raises(StreamFormatError, match="64 × 256 pixels cannot be enlarged to 128 × 128"):
        Reducer((64, 256), np.uint16, (128, 128), how)


@pytest.mark.parametrize("dtype", ["?", "c8", "S4", "M8[s]", "V2"])
def test_what_is_no_number_is_refused(dtype: str) -> None:
    with pytest.raises(StreamFormatError, match="integers and floats can be used"):
        Reducer((4, 4), dtype, None, "bin")


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(StreamFormatError, match="nothing in them"):
        Reducer((0, 4), np.uint16, None, "bin")
