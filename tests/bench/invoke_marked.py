"""Runs .tflite files one after the other, each RUNS times between two calls of getppid(), which marks.c counts.

python invoke_marked.py RUNS MODEL.tflite ...      needs numpy and ai-edge-litert only
"""

import gc
import os
import sys
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter
from invoke import noise

WARM_UP = 2


def main(runs: int, models: list[str]) -> None:
    gc.disable()
    for path in models:
        interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=1)
        interpreter.allocate_tensors()
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], noise(details["shape"], details["dtype"]))
        for _ in range(WARM_UP):
            interpreter.invoke()
        for _ in range(runs):
            os.getppid()
            interpreter.invoke()
            os.getppid()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
