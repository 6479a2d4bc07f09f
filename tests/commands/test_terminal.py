"""What somebody sees who waits: every step by its name, and nothing of TensorFlow's own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from marks import exhaustive, slow
from terminal import Terminal

TINY = Path(__file__).parents[1] / "tiny.yaml"
NOISE = re.compile(r"[IWEF]\d{4} \d\d:|oneDNN|[Cc]uda|XNNPACK delegate|absl|WARNING|Warning")
DATA = ["--data", "{digits}"]
COMMANDS = {
    "benchmark": ["benchmark", "{job}/model_int8.tflite", "--rounds", "1"],
    "inspect": ["inspect", "{job}/model_int8.tflite"],
    "compare": ["compare", "{job}/model.keras", "{job}/model_int8.tflite", *DATA],
    "export": ["export", "{tiny}", "--recipe", "int8", *DATA, "--images", "8", "--output", "x.tflite"],
    "import-weights": ["import-weights", "{job}/model.keras", "--config", "mixnet_nano", "--output", "x.keras"],
    "train": ["train", str(TINY), *DATA, "--output", "run", "--epochs", "1"],
}
STEPS = {
    "benchmark": ["load LiteRT", "try model_int8.tflite in a process of its own", "time the files:"],
    "inspect": ["load LiteRT", "try model_int8.tflite in a process of its own"],
    "compare": ["look at the data", "load TensorFlow", "read model.keras", "evaluate model.keras:"],
    "export": [
        *("look at the data", "load TensorFlow", "read model.keras", "choose images:", "rewrite the graph"),
        *("compare the rewritten graph with the model", "convert to .tflite"),
        *("find the extremes:", "choose the ranges:"),
        *("equalize the channels", "check the equalized graph", "choose the equalization:"),
        *("find the extremes:", "choose the ranges:", "equalize the channels", "check the equalized graph", "quantize"),
        *("find the mean of every channel", "correct the biases:", "measure every output"),
    ],
    "import-weights": ["load TensorFlow", "build the model"],
    "train": [
        *("look at the data", "load TensorFlow", "build the network", "epoch 1/1: first batch", "epoch 1/1:"),
        *("epoch 1/1: validate", "epoch 1/1: save", "epoch 1/1: loss ", "read best.keras"),
    ],
}
"""The names of what is shown, in this order."""

SLOW = [*slow("export"), *exhaustive("compare", "import-weights", "train")]


@pytest.fixture
def arguments(job, tiny_keras, few_digits) -> Callable[[str], list[str]]:
    """Gives the arguments of Python for a command of COMMANDS."""
    files = {"job": job, "tiny": tiny_keras, "digits": few_digits}
    return lambda name: ["-m", "mixnet_tf", *(argument.format(**files) for argument in COMMANDS[name])]


@pytest.fixture
def settings(tmp_path):
    """An empty folder, and the environment of a user, without the settings of the tests."""
    return {"cwd": tmp_path, "env": {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}}


@pytest.mark.parametrize("name", ["benchmark", "inspect", *SLOW])
def test_a_terminal_shows_every_step_and_no_noise(name, arguments, settings):
    terminal = Terminal(*arguments(name), **settings)
    text = terminal.read()
    assert terminal.process.returncode == 0 and not NOISE.search(text), text
    shown = iter(re.split(r"\r\x1b\[K|\r", text))
    for step in STEPS[name]:
        assert any(piece.startswith(step) for piece in shown), f"{step} is not shown, or too early"


@pytest.mark.parametrize("name", [*exhaustive("export"), *slow("train")])
def test_without_a_terminal_only_epochs_are_said(name, arguments, settings):
    done = subprocess.run([sys.executable, *arguments(name)], capture_output=True, text=True, **settings)
    # on a busy machine, a step that takes half a minute says so
    line = (
        r"(?:.*: at work for \d+ s\n)*epoch 1/1: loss \d\.\d{4}, top-1 on val \d+\.\d\d%, \d+ s, learning rate .*\n"
        if name == "train"
        else ""
    )
    assert done.returncode == 0 and re.fullmatch(line, done.stderr)


@pytest.mark.slow
def test_verbose_says_the_steps_line_by_line_and_lets_tensorflow_speak(arguments, settings):
    command = [sys.executable, *arguments("export"), "--verbose"]
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    said = re.findall(r"^\d\d:\d\d:\d\d (.*)$", done.stderr, re.MULTILINE)
    expected = [name.rstrip(":") for name in STEPS["export"]]
    first = expected.index("equalize the channels")
    expected[first : first + 3] = [*3 * expected[first : first + 2], "choose the equalization", *3 * ["quantize"]]
    assert [step for step in said if not step.startswith("try ")] == expected
    assert NOISE.search(done.stderr)
