"""Ctrl-C, kill -9, a full disk, a closed pipe: what is on the disk is whole, or not there."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from command_line import refused
from fuzz import kill

from mixnet_tf.cli import main
from mixnet_tf.training.run_folder import open_run

TINY = Path(__file__).parents[1] / "tiny.yaml"


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mixnet_tf", *map(str, arguments)], capture_output=True, text=True)


def test_nothing_but_results_is_printed_where_nobody_looks(job):
    """No progress, and no chatter of LiteRT."""
    done = run("benchmark", job / "model_int8.tflite", "--rounds", 1, "--json")
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(done.stdout)[0]["ratio"] == 1


@pytest.mark.slow
def test_tensorflow_is_quiet_too(job):
    done = run("evaluate", job / "model_int8.tflite", "--data", "digits", "--json")
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(done.stdout)["count"] == 359


@pytest.mark.parametrize(
    ("source", "options"),
    [
        pytest.param("model.keras", ["--recipe", "float32", "--graph", "plain"], marks=pytest.mark.slow),
        ("model_float32.tflite", ["--recipe", "weight_int8"]),
    ],
)
def test_a_full_disk_leaves_nothing(job, tmp_path, source, options, monkeypatch, capsys):
    """A file-size limit stands in for the full disk: the write itself fails in the kernel."""
    from mixnet_tf import exporting

    real, limits = exporting.whole_files, resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def limited(*arguments, **settings):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with real(*arguments, **settings) as parts:
                yield parts
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(exporting, "whole_files", limited)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "f.tflite"
    try:
        line = refused(capsys, "export", job / source, *options, "--output", path)
    finally:
        signal.signal(signal.SIGXFSZ, heard)
    assert line.startswith(f"mixnet-tf export: error: {path}: cannot be written")
    assert list(tmp_path.iterdir()) == []


def test_kill_9_leaves_no_half_file(tmp_path):
    """While half of the file is written: its name is not there yet."""
    script = (
        "import sys, time; from mixnet_tf.files import whole_file\n"
        "with whole_file(sys.argv[1]) as part:\n"
        "    part.write_bytes(b'half'); time.sleep(60)\n"
    )
    path = tmp_path / "f.tflite"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".f-*.part.tflite")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert [item.name[:3] for item in tmp_path.iterdir()] == [".f-"]


@pytest.mark.slow
def test_kill_9_during_export_leaves_no_half_file(job, tmp_path):
    arguments = ["export", str(job / "model_float32.tflite"), "--recipe", "weight_int8", "--output"]
    assert main([*arguments, str(tmp_path / "whole" / "f.tflite")]) == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "mixnet_tf", *arguments, str(killed / "f.tflite")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(killed.glob(".f-*.part.tflite")):
        time.sleep(0.0005)  # until the file is being written
    process.kill()
    process.wait()
    assert list(killed.iterdir()), "the export ended without a trace of its file"
    whole = (tmp_path / "whole" / "f.tflite").read_bytes()
    assert all(path.read_bytes() == whole for path in killed.glob("f.tflite"))


@pytest.mark.exhaustive
def test_kill_9_at_random_moments(tmp_path):
    """`python -m tests.fuzz.kill` does so as often as one likes, and to trainings and pipelines, too."""
    assert kill.KILLERS["export"](tmp_path, Random(0), 2) == []


@pytest.mark.parametrize("command", ["train", "pipeline"])
@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_second_run_in_a_folder_is_refused_in_one_line(command, flag, tmp_path, capsys):
    begun, over = threading.Event(), threading.Event()

    def first():
        with open_run(tmp_path / "run", resume=False, overwrite=False):
            begun.set()
            over.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(first)
        begun.wait()
        try:
            line = refused(capsys, command, TINY, "--data", "digits", "--output", tmp_path / "run", flag)
        finally:
            over.set()
    assert f"error: {tmp_path}/run: another run (process {os.getpid()}) writes there; wait until it ends" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/run"], "; continue with --resume"),
        (["evaluate", "{tmp}/model.keras", "--data", "digits"], ""),
    ],
)
def test_ctrl_c_says_how_to_go_on(arguments, hint, tmp_path, monkeypatch, capsys):
    from mixnet_tf.evidence import evaluation
    from mixnet_tf.training import fit

    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    (tmp_path / "model.keras").touch()
    monkeypatch.setattr(fit, "train", interrupted)
    monkeypatch.setattr(evaluation, "evaluate", interrupted)
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 130
    captured = capsys.readouterr()
    assert captured.err.strip().endswith(f"mixnet-tf {arguments[0]}: interrupted{hint}") and captured.out == ""


@pytest.mark.slow
def test_ctrl_c_in_training(few_digits, tmp_path):
    arguments = ["train", str(TINY), "--data", str(few_digits), "--epochs", "10000", "--output", str(tmp_path)]
    command = [sys.executable, "-m", "mixnet_tf", *arguments]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a shell's `&` makes it ignored
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **heard)
    deadline = time.monotonic() + 240
    while not (tmp_path / "last.keras").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130 and errors.strip().endswith("mixnet-tf train: interrupted; continue with --resume")
    assert "Traceback" not in errors


def test_a_closed_pipe_is_not_an_error():
    command = f"{sys.executable} -m mixnet_tf list --json | (exec <&-; sleep 3)"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and done.stderr == ""
