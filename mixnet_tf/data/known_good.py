"""Which image files have been decoded without an error before: one that has not changed since need not be again.

What is kept is a number of 64 bits for each, made of its path, its size and its times, and of what else decides whether
it can be read. A list that is damaged, or lost, costs time alone; one that proves wrong is forgotten.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from mixnet_tf.data.decoding import MAX_ASPECT_RATIO, formats
from mixnet_tf.data.stored import file_of
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import cache_folder, whole_file

_NAME = "good-images"
_MOST = 2**23  # files; when there are twice as many, those that were decoded first are forgotten
_NO_FILE = 0  # in place of the number of what is not there
_RULES = 1  # to be raised where this package refuses more than it did


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
    limits = f"{ImageFile.LOAD_TRUNCATED_IMAGES} {Image.MAX_IMAGE_PIXELS}"  # which a program may change
    digest = hashlib.blake2b(os.fsencode(text), digest_size=8, key=_key(limits))
    return int.from_bytes(digest.digest()) or 1


@functools.cache
def _key(limits: str) -> bytes:
    """Return what else decides whether an image can be read."""
    text = f"{_RULES} {Image.__version__} {','.join(formats())} {MAX_ASPECT_RATIO} {limits}"
    return hashlib.blake2b(text.encode()).digest()


def are_known(marked: np.ndarray) -> np.ndarray:
    """Say for each of the `marks` whether the file has been decoded before: bool (count,)."""
    return np.isin(marked, _read()) & (marked != _NO_FILE)


def remember(marked: np.ndarray) -> None:
    """Keep the `marks` of files that have been decoded, taken before that; nothing where it cannot be written.

    They are added at the end in one piece, so that several processes may do so at the same time.
    """
    with contextlib.suppress(MixNetError, OSError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
        if size % marked.itemsize:  # a disk was full, or it is something else
            path.unlink()
        elif size > 2 * _MOST * marked.itemsize:
            kept = _read()[-_MOST:]
            with whole_file(path) as part:
                kept.tofile(part)
        with path.open("ab", buffering=0) as file:
            file.write(marked.tobytes())


def forget() -> None:
    """Decode everything anew from now on: what was known has proved to be wrong."""
    with contextlib.suppress(MixNetError, OSError):
        _path().unlink()


def _path() -> Path:
    return cache_folder() / _NAME


def _read() -> np.ndarray:
    with contextlib.suppress(MixNetError, OSError):
        if _path().is_file():
            return np.fromfile(_path(), np.uint64)
    return np.empty(0, np.uint64)
