"""A script: trains alone, as two processes, and as two of which one is killed and started again.

It forks them all, for one import of TensorFlow and PyTorch. Two are started as torchrun starts them. Of each process,
`noted` leaves a JSON.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import keras  # noqa: F401 - once, before the processes part, and PyTorch with it
import tensorflow  # noqa: F401 - after PyTorch
from noted import run
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def die_after_an_epoch(output: Path) -> None:
    history = output / "history.csv"
    while not (history.is_file() and history.read_text().count("\n") > 1):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def run_once_killed(config: str, images: str, output: Path) -> None:
    if (os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]) == ("0", "1"):
        threading.Thread(target=die_after_an_epoch, args=[output], daemon=True).start()
    run(config, images, output)


def in_two(work: Callable[[str, str, Path], None]) -> Callable[[str, str, Path], None]:
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=1 if work is run_once_killed else 0,
        start_method="fork",
    )
    return elastic_launch(settings, work)


def main(config: str, images: str, folder: str) -> int:
    children = []
    for name, work in (("one", run), ("two", in_two(run)), ("killed", in_two(run_once_killed))):
        if not (child := os.fork()):
            work(config, images, Path(folder, name))
            os._exit(0)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
