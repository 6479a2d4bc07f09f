"""Keep the native libraries' start-up chatter out of the user's terminal; errors still arrive as exceptions."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


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
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no standard error at all (a service): nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


@contextlib.contextmanager
def output_as_errors() -> Iterator[None]:
    """Let standard error have what is written to file descriptor 1, native code's reports among the results.

    Example:
        >>> with output_as_errors():
        ...     _ = os.write(1, b"chatter")
    """
    try:
        saved = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # one of the two is closed (a service): nobody reads results
        yield
        return
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


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
