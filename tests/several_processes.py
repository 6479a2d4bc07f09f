"""Starts ``mixnet-tf train`` in several processes, and ends some of them."""

import os
import socket
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
        wait_for_epochs(self.output, count, self.launcher, self.log)

    def end(self) -> str:
        """Wait, and return what was said."""
        self.launcher.wait(timeout=300)
        return self.log.read_text()


class OnJax:
    """One process that trains on JAX, or some that are started by hand; of each, `logs` has what it says."""

    def __init__(self, count: int, devices: int, output: Path, *command: object, more: int = 0) -> None:
        """Each process has `more` devices than the one before it."""
        self.output, self.logs = output, [output.with_name(f"{output.name}_{rank}.log") for rank in range(count)]
        with socket.create_server(("localhost", 0)) as server:
            address = f"localhost:{server.getsockname()[1]}"
        settings = os.environ | SETTINGS | {"KERAS_BACKEND": "jax", "KERAS_DISTRIBUTION_JOB_ADDRESSES": address}
        settings |= {"KERAS_DISTRIBUTION_NUM_PROCESSES": str(count)}
        # what one has compiled, the next ones need not
        settings |= {"JAX_COMPILATION_CACHE_DIR": str(output.parent / "compiled")}
        settings |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self.processes = []
        for rank, path in enumerate(self.logs):
            with path.open("w") as log:
                flag = f"--xla_force_host_platform_device_count={devices + more * rank}"
                environment = settings | {"KERAS_DISTRIBUTION_PROCESS_ID": str(rank), "XLA_FLAGS": flag}
                started = subprocess.Popen(
                    [sys.executable, *map(str, command)], env=environment, stdout=log, stderr=log
                )
            self.processes.append(started)

    def wait_for_epochs(self, count: int) -> None:
        """Return when so many epochs are in the history."""
        wait_for_epochs(self.output, count, self.processes[0], self.logs[0])

    def end(self) -> list[int]:
        """Wait for all, and return how they ended."""
        return [process.wait(timeout=400) for process in self.processes]

    def said(self) -> str:
        """Return what all have said."""
        return "".join(path.read_text() for path in self.logs)


def wait_for_epochs(output: Path, count: int, process: subprocess.Popen, log: Path) -> None:
    """Return when so many epochs are in the history of a run."""
    history, deadline = output / "history.csv", time.monotonic() + 240
    while not (history.is_file() and history.read_text().count("\n") > count):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


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
