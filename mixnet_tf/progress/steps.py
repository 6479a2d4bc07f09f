"""Progress on standard error: a bar where parts are counted, the seconds where they are not, and lines that stay.

How much is said is the level of the logger ``mixnet_tf``: from ERROR on nothing, at INFO a line a step as well, at
DEBUG the native libraries' messages, too. Bars and seconds are for terminals; elsewhere a long step says a line now and
then.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from mixnet_tf.errors import printable

LOG = logging.getLogger("mixnet_tf")

_CLOCK = Path(__file__).with_name("clock.py")
_CLEAR = "\r\x1b[K"  # to the start of the line, and erase it
_REMIND = 30.0  # seconds until the first line where no terminal is; the next come after twice as long each
_busy = threading.Lock()
"""Held by the step that is shown: there is one line, and what works inside of a step shows nothing."""

Part = TypeVar("Part")


def line(text: str) -> None:
    """Say a line that stays, unless nothing is to be said.

    >>> line("epoch 1/2")
    """
    if LOG.isEnabledFor(logging.WARNING) and sys.stderr is not None:
        tqdm.write((_CLEAR if sys.stderr.isatty() else "") + printable(text), file=sys.stderr)


@contextlib.contextmanager
def bar(name: str, total: int | None, unit: str, **settings: Any) -> Iterator[Any]:
    """Yield tqdm's bar, whose ``update(n)`` says that `n` more parts are done.

    Its seconds go on while a part works.

    Args:
        name: of the step.
        total: how many parts there are.
        unit: what a part is.
        **settings: of tqdm.

    Example:
        >>> with bar("download", 100, "B") as shown:
        ...     _ = shown.update(50)
    """
    name = printable(name)
    LOG.info("%s", name)
    settings |= {"desc": name, "total": total, "unit": unit, "leave": False}
    with _turn(name) as seen, tqdm(**settings, **_size() if seen else {}, disable=not seen) as shown:
        ended = threading.Event()
        if seen:
            threading.Thread(target=_refresh, args=(shown, ended), daemon=True).start()
        try:
            yield shown
        finally:
            ended.set()


def _size() -> dict[str, int]:
    """Return the size of the terminal for tqdm, which shows nothing on one without a size, as `script` makes."""
    size = os.get_terminal_size(sys.stderr.fileno())
    return {"ncols": size.columns or 80, "nrows": size.lines or 24}


@contextlib.contextmanager
def _turn(name: str) -> Iterator[bool]:
    """Yield whether a step is to be shown: on a terminal, unless nothing is to be said or another one is shown."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    alone = LOG.isEnabledFor(logging.WARNING) and _busy.acquire(blocking=False)
    ended = threading.Event()
    if alone and not terminal:
        threading.Thread(target=_remind, args=(name, ended), daemon=True).start()
    try:
        yield alone and terminal
    finally:
        ended.set()
        if alone:
            _busy.release()


def _remind(name: str, ended: threading.Event) -> None:
    """Say in a log that a step is still at work."""
    wait = seconds = _REMIND
    while not ended.wait(wait):
        line(f"{name}: at work for {seconds:.0f} s")
        wait *= 2
        seconds += wait


def _refresh(shown: Any, ended: threading.Event) -> None:
    while not ended.wait(1):
        shown.refresh()


def counted(parts: Iterable[Part], name: str, total: int, unit: str) -> Iterator[Part]:
    """Yield the parts of a step, with a bar.

    >>> list(counted("abc", "spell", 3, "letter"))
    ['a', 'b', 'c']
    """
    with bar(name, total, unit) as shown:
        for part in parts:
            yield part
            shown.update()


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Show the name of a step without a count, and its seconds; also a decorator. A step inside of it shows none.

    Args:
        name: what is done.

    Example:
        >>> with step("convert"):
        ...     pass
    """
    name = printable(name)
    LOG.info("%s", name)
    with _turn(name) as seen, _clock(name) if seen else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _clock(name: str) -> Iterator[None]:
    stderr = sys.stderr
    print(_CLEAR + name, end="", file=stderr, flush=True)
    clock = None
    if sys.executable and not hasattr(sys, "frozen"):  # else there is no Python to start
        with contextlib.suppress(OSError):  # no memory for it: the name alone must do
            command = [sys.executable, "-I", "-S", str(_CLOCK), name]
            clock = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stderr.fileno())
    try:
        yield
    finally:
        if clock is not None:
            clock.kill()
            clock.communicate()
        print(_CLEAR, end="", file=stderr, flush=True)
