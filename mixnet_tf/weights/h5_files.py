"""Files of Keras weights, opened safely: what libhdf5 reads here, a process of its own has read and written before."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mixnet_tf.errors import printable

MAX_BYTES = 2**29
"""Three times the largest MixNet with the state of its optimizer."""

_COPY = Path(__file__).with_name("h5_copy.py")
_PATIENCE = 60  # seconds by the clock: h5_copy.py limits its CPU time, but not how long it waits for a busy machine
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # it computes nothing


@contextlib.contextmanager
def clean_copy(source: Path) -> Iterator[Path]:
    """Yield a copy of a ``.weights.h5`` file that holds groups, names and arrays only; it is gone after the block.

    Args:
        source: the file.

    Raises:
        ValueError: libhdf5 cannot read it, crashes on it or does not return; it is too large, declares more than it
            holds, or refers to other places or files.
    """
    size = source.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes of weights are too many for a MixNet")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "model.weights.h5")
        # -P: the modules beside h5_copy.py must not stand in for others of their names
        command = [sys.executable, "-P", str(_COPY), str(source), str(target)]
        try:
            result = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, env=os.environ | _THREADS
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"libhdf5 did not return within {_PATIENCE} s") from None
        if result.returncode:
            raise ValueError(_reason(result))
        yield target


def _reason(result: "subprocess.CompletedProcess[bytes]") -> str:
    lines = (result.stdout or result.stderr).decode(errors="replace").split("\n")
    if result.returncode < 0:
        return f"libhdf5 crashed or did not return (signal {-result.returncode})"
    return printable(next(line for line in reversed(["unknown reason", *lines]) if line.strip()).strip())[:200]
