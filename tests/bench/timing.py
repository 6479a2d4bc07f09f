"""Times .tflite and .onnx files in turns within one process; prints JSON: milliseconds of every round, by file.

    python tests/bench/timing.py --threads 1 --rounds 20 a.tflite b.tflite c.onnx

Needs ai-edge-litert, and onnxruntime for .onnx files; nothing of mixnet_tf, so that it runs in any environment.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

BLOCK = 4  # timed invocations a turn, after one that pays for the caches the others' turns took


def litert(path: str, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], noise(detail["shape"], detail["dtype"]))
    return interpreter.invoke


def onnx(path: str, threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: noise(session.get_inputs()[0].shape, np.float32)}
    return lambda: session.run(None, feed)


def noise(shape, dtype) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape).astype(dtype)


def turn(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(BLOCK):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    runners = [(onnx if file.endswith(".onnx") else litert)(file, args.threads) for file in args.files]
    for run in runners:
        turn(run)
    rounds = [[turn(run) for run in runners] for _ in range(args.rounds)]
    print(json.dumps(dict(zip(args.files, zip(*rounds, strict=True), strict=True))))


if __name__ == "__main__":
    main()
