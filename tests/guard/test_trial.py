"""Files that end the process that runs them."""

import os
import signal
import subprocess
import sys

import pytest

from mixnet_tf.errors import DeployError
from mixnet_tf.guard import trial as module
from mixnet_tf.guard.trial import Trial
from mixnet_tf.litert.runtime import LiteModel

SETTINGS = {"num_threads": 1, "resolver": "AUTO", "keep_tensors": False, "only_load": False}
DEADLY = "ops/float32_depthwise_without_bias.tflite"  # LiteRT 2.3 loads it, and reads the bias that is not there


@pytest.fixture
def trial():
    trial = Trial()
    yield trial
    trial.end()


def test_a_crash_is_one_line_and_the_next_file_is_tried(trial, fixtures, nano_int8):
    trial.run(nano_int8.read_bytes(), "a.tflite", **SETTINGS)
    with pytest.raises(DeployError, match=r"^b\.tflite: LiteRT's runtime crashes on it \(signal SIG\w+\); ") as caught:
        trial.run((fixtures / DEADLY).read_bytes(), "b.tflite", **SETTINGS)
    assert str(caught.value).isprintable()
    trial.run((fixtures / DEADLY).read_bytes(), "b.tflite", **SETTINGS | {"only_load": True})
    trial.run(nano_int8.read_bytes(), "a.tflite", **SETTINGS | {"num_threads": 2})


def test_what_survived_is_not_tried_again(trial, nano_int8, monkeypatch):
    asked = []
    monkeypatch.setattr(trial, "_ask", lambda question: asked.append(question) or "")
    for settings in (SETTINGS, SETTINGS, SETTINGS | {"num_threads": 2}):
        trial.run(nano_int8.read_bytes(), "a.tflite", **settings)
    assert len(asked) == 2


def test_a_process_that_something_else_ended_is_replaced(trial, nano_int8):
    trial.run(nano_int8.read_bytes(), "a.tflite", **SETTINGS)
    os.kill(trial._child._process.pid, signal.SIGKILL)
    trial.run(nano_int8.read_bytes(), "a.tflite", **SETTINGS | {"num_threads": 2})


def test_a_file_that_takes_too_long(trial, nano_int8, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.01)
    with pytest.raises(DeployError, match=r"a\.tflite: takes longer than 0\.01 s for one image"):
        trial.run(nano_int8.read_bytes(), "a.tflite", **SETTINGS)


def test_a_process_that_does_not_start(trial, nano_int8, monkeypatch, tmp_path):
    (tmp_path / "child.py").write_text("import nowhere_at_all")
    monkeypatch.setattr(module, "_CHILD", tmp_path / "child.py")
    with pytest.raises(DeployError, match=r"a\.tflite: a process to try it in does not start \(status 1\)"):
        trial.run(nano_int8.read_bytes(), "a.tflite", **SETTINGS)


def test_the_process_imports_neither_tensorflow_nor_this_package():
    program = (
        f"import runpy, sys; runpy.run_path({str(module._CHILD)!r}); "
        "assert not {'tensorflow', 'keras', 'mixnet_tf'} & {name.split('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_file_is_tried_and_content_of_this_process_is_not(fixtures):
    with pytest.raises(DeployError, match=r"without_bias\.tflite: LiteRT's runtime crashes on it"):
        LiteModel(fixtures / DEADLY)
    LiteModel((fixtures / DEADLY).read_bytes())
    LiteModel(fixtures / DEADLY, only_load=True)
