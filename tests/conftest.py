"""Shared fixtures. Optional reference data lies under MIXNET_TF_SHARED, else in `shared` beside the checkout."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(os.environ.get("MIXNET_TF_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; set MIXNET_TF_SHARED")
    return folder


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the README's main job, shared by all tests that need a trained model."""
    from mixnet_tf.cli import main

    folder = tmp_path_factory.mktemp("main_job") / "nano"
    assert main(["pipeline", "mixnet_nano", "--data", "digits", "--output", str(folder)]) == 0
    return folder
