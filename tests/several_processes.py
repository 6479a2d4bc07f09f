"""Starts ``mixnet-tf train`` in several processes, and ends some of them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mixnet_tf.saving import load_model

SETTINGS = {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class Run:
    """A training by ``torchrun``; what it says is in ``output.log``."""

    def __init__(self, count: int, output: Path, *arguments: object, restarts: int = 0) -> None:
        self.output, self.log = output, output.with_name(f"{output.name}.log")
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", f"--max-restarts={restarts}"]
        command = ["train", *map(str, arguments), "--batch", "16", "--output", str(output)]
        with self.log.open("w") as log:
            everything = [sys.executable, "-m", *launcher, "-m", "mixnet_tf", *command]
            self.launcher = subprocess.Popen(everything, env=os.environ | SETTINGS, stdout=log, stderr=log)

    def workers(self) -> list[int]:
        """Return the processes that train, in the order of their ranks."""
        children = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children").read_text().split()
        commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        return [child for child, command in commands.items() if b"mixnet_tf" in command]

    def wait_for_epochs(self, count: int) -> None:
        """Return when so many epochs are in the history."""
        history, deadline = self.output / "history.csv", time.monotonic() + 240
        while not (history.is_file() and history.read_text().count("\n") > count):
            assert self.launcher.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def end(self) -> str:
        """Wait, and return what was said."""
        self.launcher.wait(timeout=300)
        return self.log.read_text()


def errors(said: str) -> list[str]:
    """Return the lines of our own errors; those of the launcher stand around them."""
    return [line for line in said.splitlines() if line.startswith("mixnet-tf")]


def assert_same_bits(ours: Path, theirs: Path) -> None:
    for name in ("last.keras", "best.keras", "model.keras"):
        a, b = (load_model(folder / name) for folder in (ours, theirs))
        variables = [[*model.weights, *getattr(getattr(model, "optimizer", None), "variables", ())] for model in (a, b)]
        for one, other_one in zip(*variables, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other_one))
    assert (ours / "history.csv").read_bytes() == (theirs / "history.csv").read_bytes()
