"""Arrays out of .npz files: sizes are checked before anything is unpacked, dtypes and orders are NumPy's."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mixnet_tf import npz


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """Return a member with a header of our own."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data


def described(shape: str, data: bytes = b"", dtype: str = "'|u1'", version: int = 1) -> bytes:
    return npy(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n", data, version)


def packed(path: Path, *members: bytes, kind: int = zipfile.ZIP_DEFLATED, names: str = "abc") -> Path:
    with zipfile.ZipFile(path / "x.npz", "w", kind) as archive:
        for name, content in zip(names, members, strict=False):
            archive.writestr(f"{name}.npy", content)
    return path / "x.npz"


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


NUMBERS = np.random.default_rng(0).integers(0, 100, (3, 4, 5))
ARRAYS = {
    "integers": NUMBERS,
    "big-endian": NUMBERS.astype(">f8"),
    "long doubles": NUMBERS.astype(np.longdouble),
    "complex": NUMBERS * 1j,
    "booleans": NUMBERS > 50,
    "Fortran's order": np.asfortranarray(NUMBERS),
    "a number": np.float32(3),
    "nothing": np.zeros((0, 5), "i2"),
    "strided": NUMBERS[::2, ::-1],
}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_those_that_were_saved(tmp_path, kind, version):
    with npz.open_npz(packed(tmp_path, saved(ARRAYS[kind], version))) as arrays:
        assert arrays.names == ("a",) and arrays.headers["a"].nbytes == ARRAYS[kind].nbytes
        array = arrays.read("a")
    assert array.dtype == ARRAYS[kind].dtype and array.shape == ARRAYS[kind].shape == arrays.headers["a"].shape
    np.testing.assert_array_equal(array, ARRAYS[kind])


def test_members_that_nobody_asked_for_may_be_anything(tmp_path):
    path = packed(tmp_path, saved(NUMBERS), described("(2**60,)"), b"")
    with npz.open_npz(path, names={"a", "z"}) as arrays:
        assert arrays.names == ("a", "b", "c") and list(arrays.headers) == ["a"]
        np.testing.assert_array_equal(arrays.read("a"), NUMBERS)


REFUSED = {
    "too much promised": (described("(3000000000,)", bytes(100)), "holds 100 bytes, but its header promises 3.0 GB"),
    "too little promised": (described("(50,)", bytes(100)), "holds 100 bytes, but its header promises 50 bytes"),
    "more than an integer": (described(f"({10**30}, 2)", bytes(100)), "but its header promises 2000000"),
    "nothing of a lot": (described(f"({10**30}, 0)"), "dimension"),
    "negative": (described("(-10, -10)", bytes(100)), r"impossible shape \(-10, -10\)"),
    "a shape of text": (described("('a',)"), "shape"),
    "objects": (described("(1,)", bytes(8), "'|O'"), "pickled Python objects"),
    "text": (described("(2,)", bytes(8), "'<U1'"), "holds '<U1', expected numbers"),
    "dates": (described("(1,)", bytes(8), "'<M8[s]'"), r"holds '<M8\[s\]', expected numbers"),
    "fields": (described("(1,)", bytes(8), "[('a', '<f8')]"), "expected numbers"),
    "empty items": (described("(1000000000000,)", b"", "'|V0'"), "expected numbers"),
    "arrays as items": (described("(1,)", bytes(4000), "('<f4', (1000,))"), "expected numbers"),
    "unknown version": (described("(1,)", b"1", version=9), "expected 1 to 3"),
    "a long header": (npy(" " * 2**24, version=2), "reading array header"),
    "a deep header": (npy("(" * 900), "EOF"),
    "no header": (b"\x93NUMPY\x01\x00\xff\xff", "reading array header"),
    "no array": (b"hello", "magic string"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, kind):
    content, message = REFUSED[kind]
    with pytest.raises(Exception, match=message), npz.open_npz(packed(tmp_path, content)) as arrays:
        arrays.read("a")


def test_a_header_is_read_no_further_than_numpy_takes_it(tmp_path, monkeypatch):
    path, taken = packed(tmp_path, npy(" " * 2**24, version=2)), []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: (taken.append(n), read(self, n))[1])
    with pytest.raises(ValueError, match="reading array header"):
        npz.open_npz(path).__enter__()
    assert len(taken) == 1 and 0 < taken[0] < 2**20


def test_more_than_the_limit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = packed(tmp_path, saved(np.zeros(30_000_000, "u1")), saved(NUMBERS))
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="its arrays have 30000480 bytes, expected at most 20000000 bytes"):
        npz.open_npz(path, limit=20_000_000).__enter__()
    with npz.open_npz(path, {"b"}, limit=20_000_000) as arrays:
        assert list(arrays.headers) == ["b"]
    monkeypatch.setattr(npz, "memory", lambda: 25_000_000)
    with pytest.raises(ValueError, match="expected at most"):
        npz.open_npz(path).__enter__()


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_numpy_writes_is_unpacked(tmp_path, kind):
    with pytest.raises(ValueError, match=r"'a\.npy' is packed in a way"):
        npz.open_npz(packed(tmp_path, saved(NUMBERS), kind=kind)).__enter__()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two arrays of the same name"):
        npz.open_npz(packed(tmp_path, saved(NUMBERS), saved(NUMBERS + 1), names="aa")).__enter__()


def test_a_directory_that_promises_more_than_there_is(tmp_path):
    path = packed(tmp_path, described("(1000,)", bytes(10)), kind=zipfile.ZIP_STORED)
    content = path.read_bytes()
    size = len(described("(1000,)"))
    true, false = (struct.pack("<II", size + 10, size + n) for n in (10, 1000))
    path.write_bytes(content.replace(true, false))
    with pytest.raises(Exception, match=r"ends after|EOF|Truncated|Bad CRC"), npz.open_npz(path) as arrays:
        arrays.read("a")


def test_damaged_data_does_not_pass(tmp_path):
    path = packed(tmp_path, saved(NUMBERS), kind=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"), npz.open_npz(path) as arrays:
        arrays.read("a")


def test_memory_is_that_of_the_machine():
    (line,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")]
    assert npz.memory() == pytest.approx(int(line.split()[1]) * 1024, rel=0.01)
    assert npz.memory() > os.sysconf("SC_PAGE_SIZE")
