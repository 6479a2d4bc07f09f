"""What each step of the quantization brings, on trained networks: the table of tflite/README.md.

    python tests/bench/bench_quantize.py --models A.keras B.keras --data A B [--split test] [--images 200]
                                         [--readme tflite/README.md]

The float reference is the model itself; "plain" is the model as it is, without the deploy graph.
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from measuring import replace_tables, table

from mixnet_tf.data.sources import load_data
from mixnet_tf.evidence.comparison import Comparison, compare
from mixnet_tf.exporting import export
from mixnet_tf.metrics import decibels
from mixnet_tf.quantization.recipe import Equalization, load_recipe
from mixnet_tf.saving import load_model

_BASELINE = load_recipe("int8_baseline")
_OFF = dataclasses.replace(_BASELINE, backend="litert-quantizer")
_ON = dataclasses.replace(_OFF, equalize=Equalization())
STEPS = {
    "plain graph, TensorFlow's quantizer (`int8_baseline`)": ("plain", _BASELINE),
    "deploy graph, minimum and maximum": ("deploy", _OFF),
    "deploy graph, percentile": ("deploy", dataclasses.replace(_OFF, ranges="percentile")),
    "deploy graph, mse": ("deploy", dataclasses.replace(_OFF, ranges="mse")),
    "deploy graph, error": ("deploy", dataclasses.replace(_OFF, ranges="error")),
    "+ equalization, minimum and maximum": ("deploy", _ON),
    "+ equalization, error": ("deploy", dataclasses.replace(_ON, ranges="error")),
    "+ equalization, error, bias correction": (
        "deploy",
        dataclasses.replace(_ON, ranges="error", bias_correction=True),
    ),
}
"""The graph and the recipe of each row."""


def measure(model: Path, source: str, split: str, images: int) -> dict[str, Comparison]:
    """Return, for every step, how its int8 file compares with the model."""
    data, comparisons = load_data(source), {}
    with tempfile.TemporaryDirectory() as folder:
        for step, (graph, recipe) in STEPS.items():
            path = Path(folder, "int8.tflite")
            export(model, path, recipe=recipe, data=data, graph=graph, images=images, overwrite=True)
            comparisons[step] = compare(model, path, data, split=split)
            print(f"{data.name}: {step}: {text(comparisons[step])}", file=sys.stderr)
    return comparisons


def text(comparison: Comparison) -> str:
    return f"{comparison.top1_b.value:.2%}, {comparison.agreement:.2%}, {decibels(comparison.snr_db)}"


def markdown(results: dict[str, dict[str, Comparison]]) -> str:
    """Return the table: a row for each step, a column for each network."""
    first = {name: next(iter(comparisons.values())) for name, comparisons in results.items()}
    head = ["top-1, agreement, logit SNR", *(f"{name}, {row.count} images" for name, row in first.items())]
    rows = [["the Keras model", *(f"{row.top1_a.value:.2%}" for row in first.values())]]
    rows += [[step, *(text(comparisons[step]) for comparisons in results.values())] for step in STEPS]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    results = {}
    for path, source in zip(args.models, args.data, strict=True):
        model = load_model(path)
        name = f"{Path(source).name}, {model.name} at {model.input_shape[1]} px"
        results[name] = measure(path, source, args.split, args.images)
    print(markdown(results))
    if args.readme:
        replace_tables(args.readme, "bench_quantize.py", markdown(results))


if __name__ == "__main__":
    main()
