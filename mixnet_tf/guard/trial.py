"""Files from anywhere run once in a process of their own: LiteRT ends its process where it cannot bear a file."""

import atexit
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from mixnet_tf.errors import DeployError

SECONDS = 60
"""How long loading a file and running it once may take."""

_CHILD = Path(__file__).with_name("child.py")
_NO_START = "a process to try it in does not start ({}); is there enough memory?"
_NO_END = "takes longer than {} s for one image"
_CRASH = "LiteRT's runtime crashes on it ({}); it is damaged, needs too much memory, or a feature that LiteRT lacks"


def command(script: Path, *arguments: str) -> list[str]:
    """Return what starts a script of this package in a process of its own; see ``environment``."""
    return [sys.executable, "-S", "-P", str(script), *arguments]  # -S: PYTHONPATH says already where packages are


def environment() -> dict[str, str]:
    """Return the environment of such a process."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}


class _Child:
    """A process that tries one file after another. It starts while the caller does something else."""

    def __init__(self) -> None:
        self.tried = 0
        self._process = subprocess.Popen(
            command(_CHILD),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout

    def ask(self, question: bytes) -> str:
        """Return an empty text, or why the process has ended."""
        start, alarm = time.monotonic(), threading.Timer(SECONDS, self._process.kill)
        alarm.start()
        self.tried += 1
        try:
            started = self.tried > 1 or bool(self._answers.readline())
            with contextlib.suppress(BrokenPipeError):
                self._questions.write(question)
                self._questions.flush()
            if self._answers.readline():
                return ""
        except BaseException:  # Ctrl-C: the answer would be taken for the next file's
            self.end()
            raise
        finally:
            alarm.cancel()
        ended = self.end(1)
        if time.monotonic() - start > SECONDS:
            return _NO_END.format(SECONDS)
        return (_CRASH if started else _NO_START).format(ended)

    def end(self, patience: float = 0) -> str:
        """End the process, which may be ending by itself; return how it ended."""
        with contextlib.suppress(OSError):
            self._questions.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        status = self._process.wait()
        self._answers.close()
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


class Trial:
    """Tries files; a new process takes the place of one that a file has ended."""

    def __init__(self) -> None:
        self._child: _Child | None = None
        self._lock, self._survived = threading.Lock(), set[bytes]()
        atexit.register(self.end)

    def prepare(self) -> None:
        """Start the process; return at once."""
        if self._child is None and sys.executable and not hasattr(sys, "frozen"):  # else there is no Python to start
            self._child = _Child()

    def run(self, content: bytes, where: str, **settings: object) -> None:
        """Load a ``.tflite`` and run it once on zeros; what has been tried already is not tried again.

        Args:
            content: the file.
            where: its name, for messages.
            **settings: see ``child.run``.

        Raises:
            DeployError: LiteRT crashes on it, or does not come to an end.
        """
        question = json.dumps(settings | {"size": len(content)}).encode() + b"\n" + content
        key = hashlib.sha256(question).digest()
        with self._lock:
            reason = "" if key in self._survived else self._ask(question)
            if reason:
                raise DeployError(f"{where}: {reason}")
            self._survived.add(key)

    def _ask(self, question: bytes) -> str:
        self.prepare()
        if self._child is None:
            return ""
        used, reason = self._child.tried > 0, self._child.ask(question)
        if reason:
            self._child = None
        return self._ask(question) if reason and used else reason  # a file before it may have done the damage

    def end(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            self._child.end()
            self._child = None


TRIAL = Trial()
"""The one of this process."""
