"""Runs a .tflite, in whatever environment: needs numpy and ai-edge-litert only.

python invoke.py MODEL.tflite RUNS                       RUNS inferences on one random image
python invoke.py MODEL.tflite 1 IMAGES.npy OUTPUTS.npy   one on every image (in the input's own type)
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(model: str, runs: str, images: str | None = None, outputs: str | None = None) -> None:
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    if images is None:
        interpreter.set_tensor(source["index"], noise(source["shape"], source["dtype"]))
        for _ in range(int(runs)):
            interpreter.invoke()
        return
    logits = []
    for image in np.load(images):
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        logits.append(interpreter.get_tensor(result)[0])
    np.save(outputs, np.stack(logits))


def noise(shape: np.ndarray, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape).astype(dtype)


if __name__ == "__main__":
    main(*sys.argv[1:])
