"""What numbers and files come from: the versions of the packages, Python's, and the processor."""

import importlib.metadata
import platform

_PACKAGES = ("mixnet_tf", "tensorflow", "keras", "ai-edge-litert", "numpy")
_OPTIONAL = ("litert-quantizer",)  # without it, recipes fall back on TensorFlow's own quantizer


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


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
