"""Runs in several processes, which need PyTorch or JAX."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import noted
import pytest
from quick_run import one_block, write_images
from several_processes import SETTINGS

collect_ignore = ["forked.py"]  # a script, which --doctest-modules would import


@pytest.fixture(scope="session")
def torch() -> None:
    """Skips where PyTorch is missing."""
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: pip install -e '.[distributed]'")


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """The ``.npz`` of 80 images of 16 x 16; 58 are left for training."""
    return write_images(tmp_path_factory.mktemp("images"))


def write_config(path: Path, dropout_rate: float) -> Path:
    """Write the second block of tiny.yaml, with dropout or without."""
    path.write_text(json.dumps(one_block(dropout_rate)))
    return path


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """A network without dropout: several processes train it as one does."""
    return write_config(tmp_path_factory.mktemp("config") / "plain.yaml", 0.0)


@pytest.fixture(scope="session")
def dropping(tmp_path_factory) -> Path:
    """A network with dropout, whose masks a resumed run must repeat."""
    return write_config(tmp_path_factory.mktemp("config") / "dropping.yaml", 0.2)


@pytest.fixture(scope="session")
def forked(torch, plain, images, tmp_path_factory) -> Path:
    """A run in one process, ``one``, in two, and in two of which one was killed; and what each process says."""
    folder = tmp_path_factory.mktemp("forked")
    command = [sys.executable, Path(__file__).with_name("forked.py"), plain, images, folder]
    paths = os.pathsep.join([str(Path(noted.__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, env=os.environ | SETTINGS | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder
