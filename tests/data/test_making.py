"""Batches made in other processes are the same batches; what goes wrong there arrives here; nobody stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.batches import lost_images, training_dataset
from mixnet_tf.data.making import Plan, maker
from mixnet_tf.data.pixels import DRAWS
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import ArgumentError, DataError, MixNetError

VARIED = Augmentation(min_area=0.3, jitter=0.3, rand_level=9, rand_deviation=0.5, erase=0.5, mixup=0.2)
SIZE = (12, 10)
ROOT = Path(__file__).resolve().parents[2]


def plan(images, seed: int = 0) -> Plan:
    random = np.random.default_rng(seed)
    draws, seeds = random.random((len(images), DRAWS), np.float32), random.integers(2**62, size=len(images))
    return Plan(images, draws, seeds, SIZE)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)


@pytest.mark.parametrize("source", ["files", "pixels"])
def test_batches_are_the_same_wherever_they_are_made(photographs, source):
    data = load_data(photographs if source == "files" else (pixels(40), np.arange(40) % 2))
    settings = {"image_size": SIZE, "batch_size": 5, "seed": 2, "first_epoch": 1, "epochs": 3, "augmentation": VARIED}
    before = children(os.getpid())
    here = list(training_dataset(data, **settings).as_numpy_iterator())
    with maker(2, 8, SIZE, VARIED) as make:
        there = list(training_dataset(data, make=make, **settings).as_numpy_iterator())
        assert len(children(os.getpid()) - before) == 2
    assert not children(os.getpid()) - before
    assert len(here) == len(there) == 2 * (len(data.splits["train"]) // 5)
    for (images, shares), (same_images, same_shares) in zip(here, there, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(shares, same_shares)
    assert not (here[0][0] == here[1][0]).all()


def test_a_bad_image_is_named_and_the_next_batch_is_made(photographs):
    good = [str(path) for path in sorted((photographs / "test" / "cat").iterdir())]
    with maker(2, 4, SIZE, Augmentation()) as make:
        with pytest.raises(DataError, match=r"nowhere\.png: no such file"):
            make(plan([*good[:3], "nowhere.png"]))
        assert make(plan(good)).shape == (4, *SIZE, 3)
        assert make(plan(good[:1])).shape == (1, *SIZE, 3)


def test_a_process_that_is_ended_from_outside_is_one_line(photographs):
    data, before = load_data(photographs), children(os.getpid())
    settings = {"image_size": SIZE, "batch_size": 4, "seed": 0, "first_epoch": 0, "epochs": 10_000}
    with maker(2, 4, SIZE, Augmentation()) as make:
        batches = training_dataset(data, make=make, **settings).as_numpy_iterator()
        next(batches)
        for process in children(os.getpid()) - before:
            os.kill(process, signal.SIGKILL)
        with pytest.raises(MixNetError) as error, lost_images("; put it back"):
            for _ in range(10_000):
                next(batches)
    assert str(error.value) == (
        "workers: a process that reads images was ended from outside, for its memory perhaps; take fewer, and continue "
        "with --resume"
    )


def test_a_block_that_ends_early_leaves_nobody_behind(photographs):
    data, before = load_data(photographs), children(os.getpid())
    settings = {"image_size": SIZE, "batch_size": 4, "seed": 0, "first_epoch": 0, "epochs": 10_000}
    with pytest.raises(KeyboardInterrupt), maker(2, 4, SIZE, Augmentation()) as make:
        next(training_dataset(data, make=make, **settings).as_numpy_iterator())
        raise KeyboardInterrupt
    assert not children(os.getpid()) - before


def test_a_script_that_would_start_itself_again_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from mixnet_tf.data.augmentation import Augmentation\n"
        "from mixnet_tf.data.making import maker\n"
        "with maker(1, 4, (8, 8), Augmentation()):\n    pass\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=ROOT)
    last = done.stderr.splitlines()[-1]
    assert (
        done.returncode == 1 and "MixNetError: workers: the processes that read images cannot start; a script" in last
    )


def children(parent: int) -> set[int]:
    """Return the processes whose parent this is, but for those that multiprocessing itself needs."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent and b"spawn_main" in command:
            found.add(int(folder.name))
    return found


WORK = """
import sys, time
import numpy as np
from tests.data.test_making import SIZE, Augmentation, maker, pixels, plan
if __name__ == "__main__":
    with maker(2, 4, SIZE, Augmentation()) as make:
        make(plan(pixels(4)))
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda end: end.name)
def test_the_processes_end_with_the_one_that_began_them(tmp_path, end):
    script = tmp_path / "work.py"
    script.write_text(WORK)
    command, environment = [sys.executable, str(script)], os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=environment, start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        begun = children(process.pid)
        assert 1 <= len(begun) <= 2
        (os.killpg if end == signal.SIGINT else os.kill)(process.pid, end)  # Ctrl-C reaches all of them
        errors = process.communicate(timeout=20)[1].decode()
    assert "spawn_main" not in errors and errors.count("Traceback") == (end == signal.SIGINT)
    deadline = time.monotonic() + 10
    while alive := [one for one in begun if Path(f"/proc/{one}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


@pytest.mark.parametrize("count", [-1, 62, True, 1.5])
def test_a_count_of_processes_is_checked(count):
    with (
        pytest.raises(ArgumentError, match=r"workers: found .*, expected an integer from 0 to 61"),
        maker(count, 4, SIZE, Augmentation()),
    ):
        pass
