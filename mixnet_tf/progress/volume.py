"""How much standard error says: ``--quiet`` and ``--verbose``. Importing this module does not import tqdm."""

import contextlib
import logging
from collections.abc import Iterator

_LOG = logging.getLogger("mixnet_tf")


@contextlib.contextmanager
def volume(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Say errors only, or every step and what native libraries say; with neither, as much as the logger is set to.

    Args:
        quiet: no progress.
        verbose: a line a step.

    Example:
        >>> from mixnet_tf.progress.steps import step
        >>> with volume(verbose=True), step("convert"):  # doctest: +SKIP
        ...     pass
        12:00:00 convert
    """
    level, propagate, handler = _LOG.level, _LOG.propagate, _Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _LOG.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else level)
    _LOG.addHandler(handler)
    _LOG.propagate = False  # libraries add handlers of their own to the root
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)
        _LOG.propagate = propagate


class _Lines(logging.Handler):
    """Says each record on a line of its own, above the step that is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        from mixnet_tf.progress.steps import line

        line(self.format(record))
