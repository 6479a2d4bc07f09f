"""What a report and a record say about where their numbers come from."""

import importlib.metadata
import platform

import numpy as np

from mixnet_tf import environment as module
from mixnet_tf.environment import environment


def test_versions_are_those_of_the_packages():
    import keras

    versions = environment()
    assert versions["keras"] == keras.__version__ and versions["numpy"] == np.__version__
    assert versions["python"] == platform.python_version() and versions["machine"] == platform.machine()
    assert list(versions)[:5] == ["mixnet_tf", "tensorflow", "keras", "ai-edge-litert", "numpy"]


def test_a_package_that_is_not_installed(monkeypatch):
    def version(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(module.importlib.metadata, "version", version)
    versions = environment()
    assert versions["tensorflow"] == "not installed"
    assert "litert-quantizer" not in versions  # optional
