"""A script: trains alone, as two processes, and as two of which one is killed and started again.

It forks them all, for one import of TensorFlow and PyTorch. Two are started as torchrun starts them. Of each process it
leaves a JSON: the checksum of the weights that it ends with, and what it wrote inside the folder.
"""

import json
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow  # noqa: F401 - once, before the processes part
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.fit import train

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def run(config: str, images: str, output: Path) -> None:
    written = []

    def note(event: str, arguments: tuple) -> None:
        writes = arguments[2] & WRITING if event == "open" else event in ("os.mkdir", "os.rename", "os.remove")
        if writes and str(arguments[0]).startswith(str(output)):
            written.append(str(arguments[0]))

    sys.addaudithook(note)
    model = train(config, images, output, training=TrainingConfig(batch_size=16, epochs=3))
    checksum = 0
    for weight in model.get_weights():
        checksum = zlib.crc32(np.asarray(weight).tobytes(), checksum)
    result = {"backend": keras.backend.backend(), "checksum": checksum, "written": written}
    result["restarts"] = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    output.with_name(f"{output.name}_{os.environ.get('RANK', 0)}.json").write_text(json.dumps(result))


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
