"""Keep the native libraries' start-up chatter out of the user's terminal; errors still arrive as exceptions."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what native code writes to file descriptor 2 (TensorFlow logs there before its filters are set).

    Nothing is discarded where the logger ``mixnet_tf`` is at DEBUG.

    Example:
        >>> with quiet():
        ...     _ = os.write(2, b"chatter")
    """
    if logging.getLogger("mixnet_tf").isEnabledFor(logging.DEBUG):
        yield
        return
    with tempfile.TemporaryFile() as sink, _redirected(2, sink.fileno(), sys.stderr):
        yield


@contextlib.contextmanager
def output_as_errors() -> Iterator[None]:
    """Let standard error have what is written to file descriptor 1, native code's reports among the results.

    Example:
        >>> with output_as_errors():
        ...     _ = os.write(1, b"chatter")
    """
    with _redirected(1, 2, sys.stdout):
        yield


@contextlib.contextmanager
def _redirected(descriptor: int, target: int, stream: TextIO | None) -> Iterator[None]:
    """Let `target` have what is written to a file descriptor, which `stream` writes to; nothing where one is closed."""
    if stream is None:  # closed from the start: by now, another file may have its descriptor
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            saved = os.dup(descriptor)
            stack.callback(os.close, saved)
            stream.flush()
            os.dup2(target, descriptor)
        except OSError:  # a service, say, has no standard output or error at all
            yield
            return
        try:
            yield
        finally:
            stream.flush()
            os.dup2(saved, descriptor)


@contextlib.contextmanager
def errors_only(name: str) -> Iterator[None]:
    """Let a library's logger say nothing but errors: a notebook would show its warnings.

    Args:
        name: of the logger. A library whose logger has a class of its own (absl) must have been imported.

    Example:
        >>> with errors_only("matplotlib"):
        ...     logging.getLogger("matplotlib").isEnabledFor(logging.WARNING)
        False
    """
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
