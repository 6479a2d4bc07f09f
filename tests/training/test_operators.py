"""oneDNN is on where TensorFlow would leave it off, and off where a user says so."""

import importlib
import os
import platform
import subprocess
import sys

import pytest

from mixnet_tf.cli import main
from mixnet_tf.errors import MixNetError
from mixnet_tf.training.operators import use_onednn

SCRIPT = """
from mixnet_tf.training.operators import use_onednn
use_onednn()
import tensorflow
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.parametrize(
    ("machine", "before", "after"),
    [("x86_64", None, "1"), ("AMD64", None, "1"), ("x86_64", "0", "0"), ("aarch64", None, None), ("arm64", "1", "1")],
)
def test_where_it_is_on(machine, before, after, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", before or "")
    if before is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    use_onednn()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == after
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)


@pytest.mark.parametrize("command", ["train", "pipeline"])
def test_a_command_asks_for_it_before_tensorflow_is_loaded(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")

    def load():
        raise MixNetError(f"asked for: {os.environ.get('TF_ENABLE_ONEDNN_OPTS')}")

    monkeypatch.setattr(importlib.import_module(f"mixnet_tf.commands.{command}"), "load_tensorflow", load)
    assert main([command, "mixnet_nano", "--data", "digits", "--output", str(tmp_path / "run")]) == 2
    assert "asked for: 1" in capsys.readouterr().err
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is asked for on x86 only")
@pytest.mark.parametrize(("asked", "used"), [(None, "True"), ("0", "False")])
def test_tensorflow_uses_it(asked, used):
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {} if asked is None else {"TF_ENABLE_ONEDNN_OPTS": asked}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == used
