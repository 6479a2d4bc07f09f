"""Which emphasis of the equalization is best, on trained networks and on rescaled twins: a table of tflite/README.md.

    python tests/bench/bench_equalization.py --models A.keras B.keras --data A B [--images 200]
                                             [--readme tflite/README.md]

A twin computes the same with factors exp(N(0, 1)) on the channels of every residual stream. Cells are the logit SNR of
the median test image, in dB. "chosen" is what ``quantize`` takes, by calibration images alone.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from measuring import replace_tables, table
from rescale import rescale_streams

from mixnet_tf.data.batches import evaluation_batches
from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.data.sources import load_data
from mixnet_tf.float_graphs import KerasSource
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.metrics import image_signal_to_noise
from mixnet_tf.quantization.emphasis import EMPHASES, best_emphasis
from mixnet_tf.quantization.quantize import backend_of
from mixnet_tf.quantization.recipe import load_recipe
from mixnet_tf.quantization.steps import CORRECTION_IMAGES, calibrate, int8_graph
from mixnet_tf.saving import load_model

RECIPE = load_recipe("int8")
PLAIN = load_recipe(
    {"name": "plain", "weights": "int8", "activations": "int8", "equalize": {"streams": False, "relu": False}}
)
TRIED = sorted({*EMPHASES, 0.3, 1.0})


def measure(model: keras.Model, source: str, count: int) -> Iterator[str]:
    """Yield the cells of a row, one after the other."""
    height, width = model.input_shape[1:3]
    data = load_data(source)
    images = list(CalibrationSet.choose(data, image_size=(height, width), count=count, seed=0))
    graph = KerasSource(model).float_graph(RECIPE, images[:4])
    batches = evaluation_batches(data, "test", image_size=height, batch_size=64)
    tests = np.concatenate([pixels for pixels, _ in batches])
    wanted, backend = LiteModel(graph, num_threads=2)(tests), backend_of(RECIPE)

    def median(calibrated) -> str:
        made: FlatGraph = int8_graph(calibrated, RECIPE, backend, images[:CORRECTION_IMAGES])
        snr, _ = image_signal_to_noise(wanted, LiteModel(made, num_threads=2)(tests))
        return f"{snr:.2f}"

    yield median(calibrate(graph, PLAIN, images))
    yield from (median(calibrate(graph, RECIPE, images, emphasis)) for emphasis in TRIED)
    yield f"{best_emphasis(graph, RECIPE, backend, images):g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, help="one for each model")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    rows = []
    for path, source in zip(args.models, args.data, strict=True):
        model = load_model(path)
        for twin, network in ((False, model), (True, rescale_streams(model, seed=5))):
            name = f"{model.name}, {load_data(source).name}"
            rows.append([f"{name}, rescaled" if twin else name, *measure(network, source, args.images)])
            print(rows[-1], file=sys.stderr, flush=True)
    text = table(["median SNR, dB", "none", *(f"e = {emphasis:g}" for emphasis in TRIED), "chosen"], rows)
    print(text)
    if args.readme:
        replace_tables(args.readme, "bench_equalization.py", text)


if __name__ == "__main__":
    main()
