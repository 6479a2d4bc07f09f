"""What a report and a record say about where their numbers come from."""

import importlib.metadata
import os
import platform

import numpy as np

from mixnet_tf import environment as module
from mixnet_tf.environment import environment, processor


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


def test_the_processor_has_a_name_and_cores(tmp_path, monkeypatch):
    """The first lines of two computers' /proc/cpuinfo, and a computer without it."""
    cores = len(os.sched_getaffinity(0))
    ending = f", {cores} core{'s' * (cores > 1)}"
    for name, text in (
        ("Intel(R) Xeon(R)", "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\n"),
        ("Pi 5", "Model\t\t: Pi 5\n"),
    ):
        (tmp_path / "cpuinfo").write_text(text * 2)
        monkeypatch.setattr(module, "_CPU_INFO", tmp_path / "cpuinfo")
        assert processor() == name + ending
    monkeypatch.setattr(module, "_CPU_INFO", tmp_path / "none")
    assert processor() == (platform.processor() or platform.machine()) + ending
