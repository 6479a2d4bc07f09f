"""Training in several processes: equal to one, bit for bit the same after a kill, and never silent."""

import json
import os
import signal
import time

import numpy as np
import pytest
from quick_run import history
from several_processes import Run, assert_same_bits, errors

from mixnet_tf.cli import main
from mixnet_tf.saving import load_model


def said_by(forked, name, rank):
    return json.loads((forked / f"{name}_{rank}.json").read_text())


def test_two_processes_train_as_one_does(forked):
    for one, two in zip(history(forked / "one"), history(forked / "two"), strict=True):
        assert one == pytest.approx(two, abs=1e-3)
    assert len(history(forked / "two")) == 3
    one, two = (load_model(forked / name / "best.keras").get_weights() for name in ("one", "two"))
    assert max(np.abs(a - b).max() for a, b in zip(one, two, strict=True)) < 1e-3


def test_both_end_with_the_same_weights_and_the_first_alone_writes(forked):
    first, second = (said_by(forked, "two", rank) for rank in (0, 1))
    assert first["backend"] == "torch" and first["checksum"] == second["checksum"]
    assert first["written"] and second["written"] == []
    names = {"model.keras", "best.keras", "last.keras", "labels.txt", "history.csv", "training.json", "logs"}
    assert {path.name for path in (forked / "two").iterdir()} == names
    assert len(list((forked / "two" / "logs").rglob("events.*"))) == 2  # of training and validation


def test_a_killed_worker_is_started_again_and_the_run_ends_as_without(forked):
    assert_same_bits(forked / "killed", forked / "two")
    first, second = (said_by(forked, "killed", rank) for rank in (0, 1))
    assert first["checksum"] == second["checksum"] == said_by(forked, "two", 0)["checksum"]
    assert first["restarts"] == second["restarts"] == "1"


@pytest.mark.slow
def test_dropout_of_four_processes_is_repeated_after_a_kill(torch, dropping, images, tmp_path):
    arguments = dropping, "--data", images, "--epochs", 4
    whole, killed = (Run(4, tmp_path / name, *arguments, restarts=2) for name in ("whole", "killed"))
    for epochs, rank in ((1, 0), (2, 3)):
        killed.wait_for_epochs(epochs)
        os.kill(killed.workers()[rank], signal.SIGKILL)
        time.sleep(5)
    for run, kills in ((whole, 0), (killed, 2)):
        said = run.end()
        assert "trained model" in said and said.count("exitcode: -9") == kills, said
    assert_same_bits(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_process_that_hangs_is_named_within_a_minute(torch, plain, images, tmp_path):
    run = Run(2, tmp_path / "run", plain, "--data", images, "--epochs", 5000)
    run.wait_for_epochs(1)
    os.kill(run.workers()[1], signal.SIGSTOP)
    start = time.monotonic()
    while not errors(run.log.read_text()):
        assert time.monotonic() < start + 60
        time.sleep(0.5)
    line = "process 0 of 2: process 1 has given no sign of life for 40 s; continue with --resume"
    assert errors(run.end()) == [f"mixnet-tf train: error: {line}"]


@pytest.mark.slow
def test_a_process_that_is_lost_is_named_in_one_line(torch, plain, images, tmp_path):
    run = Run(2, tmp_path / "run", plain, "--data", images, "--epochs", 5000)
    run.wait_for_epochs(1)
    os.kill(run.workers()[1], signal.SIGKILL)
    lines = errors(run.end())  # none where the launcher ends the first before that has missed the second
    assert len(lines) <= 1
    assert all("another one has ended or is out of reach; continue with --resume" in line for line in lines)


@pytest.mark.slow
def test_another_number_of_processes_goes_on(forked, plain, images, tmp_path):
    """Its parts of a batch differ, and so does the rounding; its batches do not."""
    arguments = plain, "--data", images, "--epochs", 3, "--resume"
    run = Run(2, tmp_path / "run", *arguments)
    run.wait_for_epochs(1)
    for worker in run.workers():
        os.kill(worker, signal.SIGKILL)
    run.end()
    again = Run(4, tmp_path / "run", *arguments)
    assert "trained model" in again.end()
    for ours, theirs in zip(history(tmp_path / "run"), history(forked / "one"), strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3)


@pytest.mark.slow
def test_what_cannot_be_shared_is_refused_in_one_line(torch, plain, images, tmp_path):
    run = Run(3, tmp_path / "run", plain, "--data", images)
    expected = "mixnet-tf train: error: batch_size: found 16, expected a multiple of 3 processes"
    assert errors(run.end()) == [expected] and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_tensorflow_exports_what_two_processes_trained(forked, images, tmp_path):
    file = tmp_path / "model.tflite"
    arguments = ["export", str(forked / "two"), "--recipe", "mobile", "--data", str(images), "--output", str(file)]
    assert main(arguments) == 0
    assert main(["evaluate", str(file), "--data", str(images)]) == 0
