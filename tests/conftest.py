"""Shared fixtures. Optional reference data lies under MIXNET_TF_SHARED, else in `shared` beside the checkout."""

import fcntl
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

collect_ignore = ["bench", "fixtures", "golden"]  # scripts, which --doctest-modules would import


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that is too large for the repository."""
    folder = Path(os.environ.get("MIXNET_TF_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; set MIXNET_TF_SHARED")
    return folder


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of committed files; tests/fixtures/make.py says what is in each."""
    return ROOT / "tests" / "fixtures"


@pytest.fixture(scope="session")
def trained_nano(fixtures: Path) -> Path:
    """A ``.keras`` file: mixnet_nano, trained on the digits, logits."""
    return fixtures / "nano.keras"


@pytest.fixture(scope="session")
def nano_float32(fixtures: Path) -> Path:
    """The deploy graph of `trained_nano` in float32, which int8 starts from."""
    return fixtures / "nano_float32.tflite"


@pytest.fixture(scope="session")
def nano_int8(fixtures: Path) -> Path:
    """`nano_float32` in int8, with int8 input and output."""
    return fixtures / "nano_int8.tflite"


@pytest.fixture(scope="session")
def nano_mobile(fixtures: Path) -> Path:
    """`trained_nano` as the file to ship: its labels are the digits in words."""
    return fixtures / "nano_mobile.tflite"


@pytest.fixture(scope="session")
def nano_mobile_float32(fixtures: Path) -> Path:
    """The float32 twin of `nano_mobile`."""
    return fixtures / "nano_mobile_float32.tflite"


@pytest.fixture(scope="session")
def digits():
    """The data set that `trained_nano` was trained on."""
    from mixnet_tf import load_data

    return load_data("digits")


@pytest.fixture(scope="session")
def trained_s() -> Path:
    """The folder of a MixNet-S trained on photographs; ``python tests/bench/trained.py`` makes it."""
    folder = Path(os.environ.get("MIXNET_TF_TRAINED", Path.home() / ".cache" / "mixnet_tf" / "trained"))
    if not (folder / "bundle" / "manifest.json").is_file():
        pytest.skip(f"no trained network in {folder}: python tests/bench/trained.py --data PHOTOGRAPHS makes it")
    return folder


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the README's main job: minutes of training, for tests that are marked slow.

    One worker runs it, and the others wait for it.
    """
    from mixnet_tf.cli import main

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    folder = root / "main_job"
    with (root / "main_job.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "report.json").exists():
            assert main(["pipeline", "mixnet_nano", "--data", "digits", "--output", str(folder)]) == 0
    return folder
