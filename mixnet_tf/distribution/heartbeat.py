"""Signs of life: a process that hangs, or whose host is lost, is missed within a minute, also while others wait for it.

A time limit of the collectives would not do: one process may rightly wait long for another, which writes a file.
"""

import os
import sys
import threading
import time
from typing import Any

from mixnet_tf.distribution.processes import Processes

BEAT = 4.0  # seconds
SILENT = 10  # beats, after which a process is given up


class Heartbeat(threading.Thread):
    """Counts up a number of this process in a store, and watches that of the next one.

    Args:
        store: numbers that all processes count up; on PyTorch the launcher's, by a connection of its own.
        group: the processes.
    """

    def __init__(self, store: Any, group: Processes) -> None:
        super().__init__(daemon=True, name="heartbeat")
        self.store, self.group, self._ended = store, group, threading.Event()

    def end(self) -> None:
        """Stop: the work is done."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Count and watch; end the process where the next one or the store is silent."""
        watched = (self.group.rank + 1) % self.group.count
        number, silent = -1, 0
        while not self._ended.wait(BEAT):
            # a host that is cut off does not answer at all
            limit = threading.Timer(BEAT * SILENT, self._give_up, ["the processes' store does not answer"])
            limit.daemon = True
            limit.start()
            try:
                self.store.add(f"alive/{self.group.rank}", 1)
                last, number = number, self.store.add(f"alive/{watched}", 0)
                failed = self.group.one_has_failed()
            except RuntimeError:
                self._give_up("the processes' store is gone")
                return
            finally:
                limit.cancel()
            if failed and not self._ended.is_set():  # it has said why
                time.sleep(0 if self.group.rank else 2 * BEAT)  # until all know: on JAX the store ends with the first
                os._exit(2)
            silent = silent + 1 if number == last else 0  # counted in beats: this host may have slept, too
            if silent == SILENT:
                self._give_up(f"process {watched} has given no sign of life for {BEAT * SILENT:.0f} s")

    def _give_up(self, problem: str) -> None:
        """End this process, whose main thread waits in a library and cannot raise an error."""
        if self._ended.is_set():
            return
        if self.group.fails_first():
            line = f"mixnet-tf train: error: process {self.group.rank} of {self.group.count}: {problem}"
            print(f"{line}; continue with --resume", file=sys.stderr, flush=True)
        os._exit(2)
