"""What each step of the quantization brings, on a trained network: a Markdown table.

    python tests/bench/bench_quantize.py build/run/model.keras --data DATA [--split test] [--images 200]

The float reference is the model itself, converted; "plain" is the model as it is, without the deploy graph.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

from mixnet_tf.data import load_data
from mixnet_tf.deploy.comparison import compare
from mixnet_tf.deploy.convert import convert
from mixnet_tf.deploy.quantize import quantize
from mixnet_tf.deploy.recipe import Equalization, Recipe
from mixnet_tf.saving import load_model

_OFF = Recipe(
    name="bench",
    weights="int8",
    activations="int8",
    equalize=Equalization(streams=False, relu=False),
    ranges="minmax",
    bias_correction=False,
)
_ON = Equalization()
STEPS = {
    "plain graph, minimum and maximum": ("plain", _OFF),
    "deploy graph": ("deploy", _OFF),
    "deploy graph, percentile": ("deploy", dataclasses.replace(_OFF, ranges="percentile")),
    "deploy graph, mse": ("deploy", dataclasses.replace(_OFF, ranges="mse")),
    "deploy graph, error": ("deploy", dataclasses.replace(_OFF, ranges="error")),
    "+ equalization, minimum and maximum": ("deploy", dataclasses.replace(_OFF, equalize=_ON)),
    "+ equalization, error": ("deploy", dataclasses.replace(_OFF, equalize=_ON, ranges="error")),
    "+ equalization of streams only, error": (
        "deploy",
        dataclasses.replace(_OFF, equalize=Equalization(relu=False), ranges="error"),
    ),
    "+ equalization, error, bias correction": (
        "deploy",
        dataclasses.replace(_OFF, equalize=_ON, ranges="error", bias_correction=True),
    ),
}


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=200)
    args = parser.parse_args()
    data, model = load_data(args.data), load_model(args.model)
    print("| step | top-1 | agreement | logit SNR |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        sources = {name: Path(folder) / f"{name}.tflite" for name in ("plain", "deploy")}
        sources["plain"].write_bytes(convert(model, "float32", image_size=model.input_shape[1:3]))
        quantize(model, "float32", None, sources["deploy"])
        for name, (source, recipe) in STEPS.items():
            target = Path(folder) / "int8.tflite"
            quantize(sources[source], recipe, data, target, images=args.images, overwrite=True)
            own = compare(args.model, target, data, split=args.split)
            print(f"| {name} | {own.top1_b.value:.2%} | {own.agreement:.2%} | {own.snr_db:.1f} dB |", flush=True)


if __name__ == "__main__":
    main()
