"""What numbers and files come from: the versions of the packages, Python's, and the processor."""

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

_PACKAGES = ("mixnet_tf", "tensorflow", "keras", "ai-edge-litert", "numpy")
_OPTIONAL = ("litert-quantizer",)  # without it, recipes fall back on TensorFlow's own quantizer

_CPU_INFO = Path("/proc/cpuinfo")


def environment() -> dict[str, str]:
    """Return package name → version, and ``python`` and ``machine``.

    A package that is needed is always named, ``"not installed"`` at worst; an optional one only where it is installed.

    Example:
        >>> list(environment())[:2]
        ['mixnet_tf', 'tensorflow']
    """
    versions = {name: _version(name) or "not installed" for name in _PACKAGES}
    optional = {name: version for name in _OPTIONAL if (version := _version(name))}
    return versions | {"python": platform.python_version(), "machine": platform.machine()} | optional


def processor() -> str:
    """Return the name of the processor, and how many of its cores this process may use.

    >>> "core" in processor()
    True
    """
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # not Linux
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
        name = next(filter(None, names), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} core{'' if cores == 1 else 's'}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
