"""Training on JAX, on several devices and in several processes: equal to that on one, and bit for bit after a kill."""

import json
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import noted
import pytest
from quick_run import history
from several_processes import OnJax, assert_same_bits, errors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed: pip install -e '.[jax]'"),
]


@pytest.fixture(scope="module")
def folder(dropping, images, tmp_path_factory) -> Path:
    """Runs on one device, ``one``; on four of a process, ``devices``; of two, ``two``; and of four processes, ``four``.

    The validation has 6 images, which four devices cannot share equally; dropout's masks are those of whole batches.
    """
    folder = tmp_path_factory.mktemp("jax")
    for name, count, devices in (("one", 1, 1), ("devices", 1, 4), ("two", 2, 2), ("four", 4, 1)):
        run = OnJax(count, devices, folder / name, noted.__file__, dropping, images, folder / name)
        assert run.end() == [0] * count, run.said()
    return folder


@pytest.mark.parametrize("name", ["devices", "two", "four"])
def test_several_devices_train_as_one_does(name, folder):
    one, several = history(folder / "one"), history(folder / name)
    assert len(one) == len(several) == 3
    for row, of_several in zip(one, several, strict=True):
        assert of_several == pytest.approx(row, abs=1e-3)


@pytest.mark.parametrize(("name", "count"), [("two", 2), ("four", 4)])
def test_all_processes_end_with_the_same_weights_and_the_first_alone_writes(name, count, folder):
    first, *others = (json.loads((folder / f"{name}_{rank}.json").read_text()) for rank in range(count))
    assert first["backend"] == "jax" and {rank["checksum"] for rank in others} == {first["checksum"]}
    assert first["written"] and all(rank["written"] == [] for rank in others)


@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_of_a_lost_process_end_and_the_run_goes_on_bit_for_bit(lost, folder, dropping, images):
    output = folder / f"lost_{lost}"
    command = "-m", "mixnet_tf", "train", dropping, "--data", images, "--batch", 16, "--epochs", 3, "--output", output
    run = OnJax(2, 2, output, *command)
    run.wait_for_epochs(1)
    os.kill(run.processes[lost].pid, signal.SIGKILL)
    start = time.monotonic()
    assert all(run.end()) and time.monotonic() < start + 60
    lines = errors(run.logs[1 - lost].read_text())
    told = "another one has ended or is out of reach; continue with --resume" in "".join(lines)
    # with the first process JAX loses its own service, too, and may be faster
    assert len(lines) <= 1 and (told or (lost == 0 and "Terminating process" in run.said())), run.said()
    again = OnJax(2, 2, output, *command, "--resume")
    assert again.end() == [0, 0], again.said()
    assert_same_bits(output, folder / "two")


def test_what_devices_cannot_share_is_refused_in_one_line(dropping, images, tmp_path):
    output = tmp_path / "run"
    run = OnJax(1, 4, output, "-m", "mixnet_tf", "train", dropping, "--data", images, "--batch", 18, "--output", output)
    assert run.end() == [2] and not output.exists()
    assert errors(run.said()) == ["mixnet-tf train: error: batch_size: found 18, expected a multiple of 4 devices"]


def test_processes_with_unlike_devices_are_refused(dropping, images, tmp_path):
    output = tmp_path / "run"
    command = "-m", "mixnet_tf", "train", dropping, "--data", images, "--batch", 18, "--output", output
    run = OnJax(2, 1, output, *command, more=1)
    assert run.end() == [2, 2] and not output.exists()
    reason = "the processes cannot meet: each must have as many devices as the others"
    assert errors(run.said()) == [f"mixnet-tf train: error: process {rank} of 2: {reason}" for rank in (0, 1)]


def test_a_process_that_fails_says_why_and_the_others_nothing(dropping, images, tmp_path):
    output = tmp_path / "run"
    command = "-m", "mixnet_tf", "train", dropping, "--data", images, "--batch", 16, "--output", output
    run = OnJax(2, 1, output, *command, "--lr", "1e30")
    assert run.end() == [2, 2]
    (line,) = errors(run.said())
    assert "training diverged: " in line
