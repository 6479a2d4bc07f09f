"""Which operators TensorFlow trains with on a CPU. Importing this module does not import TensorFlow."""

import os
import platform

_SWITCH = "TF_ENABLE_ONEDNN_OPTS"


def use_onednn() -> None:
    """Let TensorFlow compute with oneDNN on every x86 CPU, unless the environment says something of it.

    By itself it does so only where there are instructions for neural networks. Elsewhere, on AMD's with AVX2 say, a
    step is faster with it, too (CONTRIBUTING.md has the table). To be called before TensorFlow is imported: afterwards
    it changes nothing.

    Example:
        >>> use_onednn()                                                                         # doctest: +SKIP
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault(_SWITCH, "1")
