"""Commands on a terminal of their own."""

import contextlib
import os
import pty
import re
import subprocess
import sys


class Terminal:
    """A Python whose standard error is a pseudo-terminal."""

    def __init__(self, *arguments: object, **settings):
        self.reader, writer = pty.openpty()
        command = [sys.executable, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writer, **settings)
        os.close(writer)

    def read(self) -> str:
        """Return all that is written until nobody can write to it any more."""
        pieces = []
        with contextlib.suppress(OSError):  # which is how a terminal ends
            while piece := os.read(self.reader, 65536):
                pieces.append(piece)
        os.close(self.reader)
        self.process.wait()
        return b"".join(pieces).decode()


def last_line(text: str) -> str:
    """Return what a terminal shows on the line of its cursor."""
    return re.split(r"\r\x1b\[K|\r|\n", text)[-1]
