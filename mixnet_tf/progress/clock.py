"""The process that counts the seconds of a step on standard error. ``steps`` starts it by its path.

It is a process because a thread would stand still: TensorFlow's converter keeps Python's lock for ten seconds and more.
It ends with its standard input. It imports neither numpy nor this package.
"""

import itertools
import signal
import sys
import threading
import time


def count(name: str) -> None:
    """Write the name and the seconds, once a second."""
    for seconds in itertools.count(1):
        time.sleep(1)
        print(f"\r\x1b[K{name} [{seconds // 60:02}:{seconds % 60:02}]", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its parent's
    threading.Thread(target=count, args=sys.argv[1:], daemon=True).start()
    sys.stdin.read()
