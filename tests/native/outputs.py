"""Prints, in bytes, what LiteRT's interpreter makes of images, for the Python of an emulated Arm.

python outputs.py MODEL.tflite FILE       FILE holds the pixels of images, one after the other
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(model: str, file: str) -> None:
    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    for image in np.fromfile(file, np.uint8).reshape(-1, *taken["shape"]):
        interpreter.set_tensor(taken["index"], image.astype(taken["dtype"]))
        interpreter.invoke()
        sys.stdout.buffer.write(interpreter.get_tensor(given["index"]).tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
