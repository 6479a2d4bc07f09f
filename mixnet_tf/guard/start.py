"""A process that loads one ``.tflite`` and runs it once on zeros: how long that takes, and how much memory.

``python start.py FILE THREADS`` prints a line of JSON. It imports neither TensorFlow nor this package.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(path: str, threads: str) -> None:
    """Print the milliseconds to the first result, and the bytes that the process grew by at most; null if unknown."""
    before, start = memory("VmRSS"), time.perf_counter()
    interpreter = Interpreter(model_path=path, num_threads=int(threads))
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()
    for details in interpreter.get_output_details():
        interpreter.get_tensor(details["index"])
    taken, after = time.perf_counter() - start, memory("VmHWM")
    grown = None if before is None or after is None else after - before
    print(json.dumps({"start_ms": taken * 1e3, "peak_bytes": grown}))


def memory(key: str) -> int | None:
    """Return the bytes in memory now (``VmRSS``) or at most so far (``VmHWM``); None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")]
    return sizes[0] if sizes else None


if __name__ == "__main__":
    # what was imported may have needed more than it keeps: the peak begins anew, where Linux lets it
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    main(*sys.argv[1:])
