"""Shared fixtures. Optional reference data lies under MIXNET_TF_SHARED, else in `shared` beside the checkout."""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mixnet_tf.training.operators import use_onednn

ROOT = Path(__file__).resolve().parents[1]

CACHE = pytest.StashKey[tempfile.TemporaryDirectory]()

collect_ignore = ["bench", "fixtures", "golden"]  # scripts, which --doctest-modules would import


def pytest_configure(config: pytest.Config) -> None:
    """Leave the user's cache alone: matplotlib's, which takes seconds to make, is the only one that is taken over."""
    if not hasattr(config, "workerinput"):  # the workers of xdist inherit it
        config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="mixnet_tf-cache-")
        os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
        os.environ["XDG_CACHE_HOME"] = config.stash[CACHE].name
        use_onednn()  # as `train` does, which some tests call in this process and others in one of its own


def pytest_unconfigure(config: pytest.Config) -> None:
    if CACHE in config.stash:
        config.stash[CACHE].cleanup()


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


@pytest.fixture
def one_of_several(monkeypatch) -> Callable[..., None]:
    """Takes this process for one of several, of which the others give what it gives."""

    from mixnet_tf.distribution import processes as module

    def pretend(rank: int, count: int) -> None:
        group = module.Processes()
        group.rank, group.count, group.whole, group.gather = rank, count, False, lambda value: [value] * count
        monkeypatch.setattr(module, "_joined", group)

    return pretend


@pytest.fixture(scope="session")
def trained_s() -> Path:
    """The folder of a MixNet-S trained on photographs; ``python tests/bench/trained.py`` makes it."""
    folder = Path(os.environ.get("MIXNET_TF_TRAINED", Path.home() / ".cache" / "mixnet_tf" / "trained"))
    if not (folder / "bundle" / "manifest.json").is_file():
        pytest.skip(f"no trained network in {folder}: python tests/bench/trained.py --data PHOTOGRAPHS makes it")
    return folder


@contextlib.contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """Yield a folder that all workers share: the first fills it, and the others wait for that."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root / name


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the README's main job: minutes of training, for tests that are marked slow."""
    from mixnet_tf.cli import main

    with made_once(tmp_path_factory, "main_job") as folder:
        if not (folder / "report.json").exists():
            assert main(["pipeline", "mixnet_nano", "--data", "digits", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, for tests that are marked slow; building it leaves files in the checkout."""
    with made_once(tmp_path_factory, "wheel") as folder:
        if not list(folder.glob("mixnet_tf-*.whl")):
            folder.mkdir(exist_ok=True)
            command = [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                "--wheel-dir",
                str(folder),
                str(ROOT),
            ]
            subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        (path,) = folder.glob("mixnet_tf-*.whl")
    return path
