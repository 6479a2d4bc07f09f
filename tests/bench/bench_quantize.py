"""What each step of the quantization brings, on trained networks: the table of tflite/README.md.

    python tests/bench/bench_quantize.py --models A.keras B.keras --data A B [--split test] [--readme tflite/README.md]

The float reference is the model itself; "plain" is the model as it is, without the deploy graph.
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import keras
from bench_deploy import replace_tables

from mixnet_tf.data.batches import load_data
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.evidence.comparison import Comparison, compare
from mixnet_tf.exporting import export
from mixnet_tf.litert.convert import convert
from mixnet_tf.quantization.quantize import quantize
from mixnet_tf.quantization.recipe import Equalization, Recipe
from mixnet_tf.saving import load_model

_OFF = Recipe(
    name="bench",
    weights="int8",
    activations="int8",
    equalize=Equalization(streams=False, relu=False),
    ranges="minmax",
    bias_correction=False,
)
CONVERTER = "plain graph, TensorFlow's converter and quantizer"
_ON = Equalization()
STEPS = {
    "plain graph, minimum and maximum": ("plain", _OFF),
    "deploy graph, minimum and maximum": ("deploy", _OFF),
    "deploy graph, percentile": ("deploy", dataclasses.replace(_OFF, ranges="percentile")),
    "deploy graph, mse": ("deploy", dataclasses.replace(_OFF, ranges="mse")),
    "deploy graph, error": ("deploy", dataclasses.replace(_OFF, ranges="error")),
    "+ equalization, minimum and maximum": ("deploy", dataclasses.replace(_OFF, equalize=_ON)),
    "+ equalization, error": ("deploy", dataclasses.replace(_OFF, equalize=_ON, ranges="error")),
    "+ equalization, error, bias correction": (
        "deploy",
        dataclasses.replace(_OFF, equalize=_ON, ranges="error", bias_correction=True),
    ),
}


def measure(path: Path, model: keras.Model, source: str, split: str, images: int) -> dict[str, Comparison]:
    """Return, for every step, how its int8 file compares with the model, which was read from `path`."""
    data, size, found = load_data(source), model.input_shape[1:3], {}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.tflite" for name in ("plain", "deploy", "int8")}
        files["plain"].write_bytes(convert(model, "float32", image_size=size))
        files["deploy"].write_bytes(convert(deploy_model(model, image_size=size), "float32", image_size=size))
        export(model, "int8", files["int8"], image_size=size, graph="plain", calibration=data, images=images)
        found[CONVERTER] = compare(path, files["int8"], data, split=split)
        for step, (graph, recipe) in STEPS.items():
            quantize(files[graph], recipe, data, files["int8"], images=images, overwrite=True)
            found[step] = compare(path, files["int8"], data, split=split)
            print(f"{data.name}: {step}: {text(found[step])}", file=sys.stderr)
    return found


def text(found: Comparison) -> str:
    return f"{found.top1_b.value:.2%}, {found.agreement:.2%}, {found.snr_db:.1f} dB"


def markdown(results: dict[str, dict[str, Comparison]]) -> str:
    """Return the table: a row for each step, a column for each network."""
    any_step = next(iter(STEPS))
    heads = [f"{name}, {found[any_step].count} images" for name, found in results.items()]
    floats = [f"{found[any_step].top1_a.value:.2%}" for found in results.values()]
    lines = [f"| top-1, agreement, logit SNR | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines.append(f"| the Keras model | {' | '.join(floats)} |")
    for step in (CONVERTER, *STEPS):
        lines.append(f"| {step} | {' | '.join(text(found[step]) for found in results.values())} |")
    return "\n".join(lines)


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
        results[name] = measure(path, model, source, args.split, args.images)
    print(markdown(results))
    if args.readme:
        replace_tables(args.readme, "bench_quantize.py", markdown(results))


if __name__ == "__main__":
    main()
