"""Which image files have been decoded without an error before: one that has not changed since need not be again.

What is kept is a number of 64 bits for each, made of its path, its size and its times, so that a file that is written
again is another one. Whatever happens to the list costs time alone: it only says what need not be read twice.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mixnet_tf.data.decoding import MAX_ASPECT_RATIO, formats
from mixnet_tf.data.stored import file_of
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import cache_folder, whole_file

_NAME = "good-images.npy"
_MOST = 2**23  # files; those that were decoded first are forgotten first
_NO_FILE = 0  # in place of the number of what is not there


def marks(paths: Sequence[str]) -> np.ndarray:
    """Return a number for each file as it is now: uint64 (count,), the same as before if it has not changed.

    Args:
        paths: of images, see ``decode``.
    """
    return np.fromiter(map(_mark, paths), np.uint64, len(paths))


def _mark(path: str) -> int:
    try:
        file = os.stat(file_of(path))  # noqa: PTH116  # done a million times
    except (OSError, ValueError):
        return _NO_FILE
    absolute = path if path.startswith("/") else os.path.abspath(path)  # noqa: PTH100  # links may lead anywhere
    text = f"{absolute}\0{file.st_size}\0{file.st_mtime_ns}\0{file.st_ctime_ns}"
    digest = hashlib.blake2b(os.fsencode(text), digest_size=8, key=_key())
    return int.from_bytes(digest.digest()) or 1


@functools.cache
def _key() -> bytes:
    """Return what else decides whether an image can be read."""
    return f"{Image.__version__} {','.join(formats())} {MAX_ASPECT_RATIO}".encode()[:64]


def are_known(marked: np.ndarray) -> np.ndarray:
    """Say for each of the `marks` whether the file has been decoded before: bool (count,)."""
    return np.isin(marked, _read()) & (marked != _NO_FILE)


def remember(marked: np.ndarray) -> None:
    """Keep the `marks` of files that have been decoded, taken before that; nothing where it cannot be written."""
    with contextlib.suppress(MixNetError, OSError):
        if len(marked):
            kept = np.concatenate([_read(), marked])[-_MOST:]
            with whole_file(_path()) as part:
                np.save(part, kept)


def _path() -> Path:
    return cache_folder() / _NAME


def _read() -> np.ndarray:
    with contextlib.suppress(Exception):  # not there, not readable, or damaged, in which case it is written anew
        kept = np.load(_path(), mmap_mode="r", allow_pickle=False)
        if kept.ndim == 1 and kept.dtype == np.uint64:
            return np.array(kept[-_MOST:])
    return np.empty(0, np.uint64)
