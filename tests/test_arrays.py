from __future__ import annotations

import base64
import io
import pickle
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from streamscore.arrays import PACKED, pack, read_array
from streamscore.errors import ConfigError

MASK = np.add.outer(np.arange(5), np.arange(7)) % 3 == 0
MAP = np.arange(35, dtype=np.int16).reshape(5, 7)


def npy(header: str, content: bytes = b"") -> bytes:
    """A .npy with any header."""
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def packed(content: bytes) -> str:
    return PACKED + base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float32", "float64", ">f4", ">u2"])
@pytest.mark.parametrize("shape", [(1,), (5, 7), (2, 3, 4), (4, 2, 3, 5)])
def test_what_is_packed_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    back = read_array(pack(array), "mask")
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.flags.c_contiguous
    assert back.flags.writeable


def test_arrays_in_columns_come_back_in_rows() -> None:
    back = read_array(pack(np.asfortranarray(MAP)), "map")
    np.testing.assert_array_equal(back, MAP)
    assert back.flags.c_contiguous


def test_a_brain_mask_packs_into_a_line() -> None:
    assert len(pack(np.hypot(*np.ogrid[-64:64, -64:64]) < 60)) < 1200


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.tif", "a.TIFF"])
def test_files_of_a_lab_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    match path.suffix.lower():
        case ".npy":
            np.save(path, MAP)
        case ".npz":
            np.savez_compressed(path, roi=MAP)
        case ".mat":
            scipy.io.savemat(path, {"roi": MAP}, do_compression=True)
        case _:
            pytest.importorskip("tifffile").imwrite(path, MAP)
    np.testing.assert_array_equal(read_array(path, "map"), MAP)
    np.testing.assert_array_equal(read_array(str(path), "map"), MAP)


def test_one_of_several_arrays_is_chosen_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mask=MASK, roi=MAP)
    scipy.io.savemat(tmp_path / "a.mat", {"mask": MASK, "roi": MAP})
    for file in ("a.npz", "a.mat"):
        np.testing.assert_array_equal(read_array(f"{tmp_path / file}:roi", "map"), MAP)
        with pytest.raises(ConfigError, match=r"map of step roi: .*several arrays.*one of mask, roi"):
            read_array(tmp_path / file, "map of step roi")
        with pytest.raises(ConfigError, match=r"no array 'brain'.*one of mask, roi"):
            read_array(f"{tmp_path / file}:brain", "map")


def test_matlab_7_3_is_read_with_its_axes_in_order(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["xform_mask"] = MASK.T.astype(np.uint8)  # as MATLAB writes it
    with (tmp_path / "a.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    np.testing.assert_array_equal(read_array(f"{tmp_path / 'a.mat'}:xform_mask", "mask"), MASK)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000)}"), r"shape \(100000, 100000\)"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, -3)}"), "shape|no array"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0,)}"), r"shape \(0,\)"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", bytes(8)), "0 axes"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1)}", bytes(8)), "5 axes"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4,)}", bytes(31)), "32 bytes that its header"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4,)}", bytes(33)), "32 bytes that its header"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([1])), "never loaded"),
        (npy("{'descr': '<U5', 'fortran_order': False, 'shape': (1,)}", bytes(20)), "and not numbers"),
        (npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", bytes(8)), "and not numbers"),
        (npy("{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", bytes(16)), "and not numbers"),
        (npy("(" * 3000), "no array of numpy.save"),
        (npy("__import__('os').getcwd()"), "no array of numpy.save"),
        (b"\x80\x04K\x01.", "no array of numpy.save"),
        (b"", "no array of numpy.save"),
    ],
)
def test_hostile_arrays_are_refused_packed_and_as_files(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^mask of mouse 3: .*{message}"):
        read_array(packed(content), "mask of mouse 3")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ConfigError, match=f"^mask of mouse 3: .*a.npy: .*{message}"):
        read_array(tmp_path / "a.npy", "mask of mouse 3")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mask.npy", content)
    with pytest.raises(ConfigError, match=f"^mask of mouse 3: .*a.npz: .*{message}"):
        read_array(tmp_path / "a.npz", "mask of mouse 3")


def test_what_inflates_to_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    bomb = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4,)}", bytes(100_000_000))
    small = packed(bomb)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mask.npy", bomb)
    del bomb
    for value in (small, tmp_path / "a.npz"):
        tracemalloc.start()
        try:
            with pytest.raises(ConfigError, match="32 bytes that its header"):
                read_array(value, "mask")
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


def test_text_too_long_for_what_it_may_hold_is_not_even_decoded() -> None:
    with pytest.raises(ConfigError, match="can hold at most 100 values"):
        read_array(PACKED + "A" * 1_000_000, "mask", max_values=100)


@pytest.mark.parametrize("text", [PACKED, PACKED + "AAAA", PACKED + "ä", PACKED + "A", pack(MAP)[:-9]])
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^map: "):
        read_array(text, "map")


@pytest.mark.parametrize("write", ["npz", "mat", "h5", "tif"])
def test_truncated_files_are_refused(tmp_path: Path, write: str) -> None:
    noise = np.random.default_rng(0).standard_normal((50, 70))
    path = tmp_path / f"a.{'mat' if write == 'h5' else write}"
    if write == "npz":
        np.savez(path, noise=noise)
    elif write == "mat":
        scipy.io.savemat(path, {"noise": noise})
    elif write == "h5":
        with pytest.importorskip("h5py").File(path, "w", userblock_size=512) as file:
            file["noise"] = noise
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    else:
        pytest.importorskip("tifffile").imwrite(path, noise)
    read_array(path, "noise")
    whole = path.read_bytes()
    for n in (0, 5, 100, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:n])
        if write == "mat" and n > len(whole) // 2:
            continue  # scipy makes do with what is left of the padding
        with pytest.raises(ConfigError, match=r"^noise: .*a\."):
            read_array(path, "noise")


@given(st.binary(max_size=200), st.integers(0, 120))
def test_no_bytes_raise_anything_else(noise: bytes, at: int) -> None:
    with io.BytesIO() as file:
        np.save(file, MAP)
        content = file.getvalue()
    spoilt = content[:at] + noise + content[at + len(noise) :]
    try:
        back: Any = read_array(packed(spoilt), "map")
    except ConfigError:
        return
    assert back.size <= 2**24


def test_numbers_must_be_finite() -> None:
    with pytest.raises(ConfigError, match="stored_mean: holds values that are not finite"):
        read_array(pack(np.array([1.0, np.nan])), "stored_mean")


def test_too_many_values_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MAP)
    scipy.io.savemat(tmp_path / "a.mat", {"roi": MAP})
    for value in (pack(MAP), tmp_path / "a.npy", tmp_path / "a.mat"):
        read_array(value, "map", max_values=35)
        with pytest.raises(ConfigError, match=r"shape \(5, 7\); 1 to 34 values"):
            read_array(value, "map", max_values=34)


@pytest.mark.parametrize("name", ["absent.npy", "absent.mat:roi", "", ".", "a.csv"])
def test_what_is_no_file_of_a_known_type_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(ConfigError, match=r"map: .*(no such file|of no known type).*\.npy, \.npz, \.mat or \.tif"):
        read_array(f"{tmp_path}/{name}", "map")


@pytest.mark.parametrize("wrong", [np.array(["a"]), np.array([1j]), np.array([{}], dtype=object)])
def test_only_numbers_can_be_packed(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot be packed"):
        pack(wrong)
