"""The memory of one step is the next one's: Linux' C library would give it back to the system, and ask for it anew.

The tensors of a step are so large that malloc maps each by itself, and the system clears every page of it: a fifth of
a step of MixNet-S at 224 px (CONTRIBUTING.md has the table).
"""

import contextlib
import ctypes
from collections.abc import Iterator

_ARENAS, _MAPPED, _TRIM = -8, -4, -1  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
_KEEP = {_MAPPED: 0, _TRIM: -1}
_DEFAULTS = {_MAPPED: 65536, _TRIM: 128 * 1024}


def share_memory() -> None:
    """Let all threads that begin from now on take memory from one place; nothing where the C library is not glibc.

    What a thread takes from a place of its own can be no larger than 64 MiB, or is mapped again. To be called early:
    before the first thread.

    Example:
        >>> share_memory()
    """
    _set({_ARENAS: 1})


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let this process keep what it frees until the block ends; nothing where the C library is not glibc.

    Example:
        >>> with kept_memory():
        ...     pass
    """
    if not _set(_KEEP):
        yield
        return
    try:
        yield
    finally:
        _set(_DEFAULTS)
        ctypes.CDLL(None).malloc_trim(0)


def _set(values: dict[int, int]) -> bool:
    """Set parameters of malloc; return whether there are any."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows
        return False
    return all(mallopt(parameter, value) for parameter, value in values.items())
