"""Arrays out of ``.npz`` files: every size is known, and bounded, before anything is unpacked."""

import contextlib
import dataclasses
import io
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from mixnet_tf.checks import shown

_HEADER_BYTES = 2**14  # more than the 10,000 characters that NumPy takes
_CHUNK = 2**20
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # differs in names of fields alone, which no plain array has
}


@dataclasses.dataclass(frozen=True)
class Header:
    """What an ``.npy`` member says of itself.

    Attributes:
        shape: no dimension is negative.
        dtype: never of Python objects.
        nbytes: of the array; the member holds exactly as many.
        columns_first: whether it is stored in Fortran's order.
        offset: of the array's first byte in the member.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    nbytes: int
    columns_first: bool
    offset: int


@dataclasses.dataclass(frozen=True)
class Arrays:
    """The arrays of an open file.

    Attributes:
        names: of all arrays in the file.
        headers: by name, of those that were asked for and are there.
        read: returns the array of a name in `headers`; raises ValueError where it holds anything but numbers.
    """

    names: tuple[str, ...]
    headers: Mapping[str, Header]
    read: Callable[[str], np.ndarray]


@contextlib.contextmanager
def open_npz(path: str | Path, names: Collection[str] | None = None, *, limit: int | None = None) -> Iterator[Arrays]:
    """Open an ``.npz`` file for reading; nothing in it is ever executed, and no array is read yet.

    Args:
        path: the file.
        names: the arrays that will be read; the others may be anything. Default: all.
        limit: how many bytes these may have together. Default: `memory()`.

    Yields:
        The Arrays, usable inside the ``with`` block.

    Raises:
        Exception: nearly any kind, for damaged bytes. ValueError for a header that promises more or fewer bytes than
            the archive holds, and for more of them than `limit`.

    Example:
        >>> np.savez("/tmp/example.npz", a=np.ones((2, 3)))
        >>> with open_npz("/tmp/example.npz") as arrays:
        ...     arrays.headers["a"].shape, arrays.read("a").sum()
        ((2, 3), np.float64(6.0))
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if _is_npy(info)}
        if len(members) < sum(map(_is_npy, archive.infolist())):
            raise ValueError("holds two arrays of the same name")
        headers = {name: _read_header(archive, members[name]) for name in members if names is None or name in names}
        total, limit = sum(header.nbytes for header in headers.values()), memory() if limit is None else limit
        if total > limit:
            raise ValueError(f"its arrays have {size_text(total)}, expected at most {size_text(limit)}")
        yield Arrays(tuple(members), headers, lambda name: _read(archive, members[name], headers[name]))


def memory() -> int:
    """Return the bytes of memory that the machine has, or what no machine has where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 2**63


def size_text(nbytes: int) -> str:
    """Return a number of bytes for people.

    >>> size_text(1500), size_text(3 * 10**9)
    ('1500 bytes', '3.0 GB')
    """
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 10**8 else f"{nbytes} bytes"


def _is_npy(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(".npy")


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    name = shown(info.filename)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in a way that NumPy does not use")
    with archive.open(info) as stream:
        start = io.BytesIO(stream.read(_HEADER_BYTES))  # NumPy itself would read a header of any length
    version = np.lib.format.read_magic(start)
    if version not in _HEADERS:
        raise ValueError(f"{name} has the version {version}, expected 1 to 3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file of Python 2 is as good
        shape, columns_first, dtype = _HEADERS[version](start)
    if dtype.hasobject:
        raise ValueError(f"{name} holds pickled Python objects, which are never loaded")
    if any(length < 0 for length in shape):
        raise ValueError(f"{name} has the impossible shape {shown(shape)}")
    nbytes, stored = math.prod(shape) * dtype.itemsize, info.file_size - start.tell()
    if nbytes != stored:
        raise ValueError(f"{name} holds {size_text(stored)}, but its header promises {size_text(nbytes)}")
    return Header(tuple(map(int, shape)), dtype, nbytes, bool(columns_first), start.tell())


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header) -> np.ndarray:
    if header.dtype.kind not in "biufc":
        raise ValueError(f"{shown(info.filename)} holds {shown(header.dtype.str)}, expected numbers")
    content, start = np.empty(header.nbytes, np.uint8), 0
    with archive.open(info) as stream:
        stream.read(header.offset)
        while start < header.nbytes:
            piece = stream.read(min(_CHUNK, header.nbytes - start))
            if not piece:
                raise ValueError(f"{shown(info.filename)} ends after {size_text(start)} of {size_text(header.nbytes)}")
            content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
            start += len(piece)
    return content.view(header.dtype).reshape(header.shape, order="F" if header.columns_first else "C")
