"""What each recipe makes of MixNet-S, M and L: the table of tflite/README.md.

    python tests/bench/bench_recipes.py [--models S M L] [--arm ARM64] [--json] [--readme tflite/README.md]

Options and weights are those of bench_deploy.py; size and speed do not depend on the weights, nor on the images the
ranges come from. int8_mixed is shown with one block in float32: which ones a trained network needs, `export` decides.
int8_baseline is the same deploy graph quantized by TensorFlow: equalization and corrected biases cost nothing.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
from measuring import instructions, ratio, replace_tables, table, times
from networks import SIZE, images, mixnet, write

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.quantization.io_types import set_types
from mixnet_tf.quantization.quantize import backend_of
from mixnet_tf.quantization.recipe import load_recipe
from mixnet_tf.quantization.steps import calibrate, int8_graph

RECIPES = ("float32", "float16", "weight_int8", "int8", "int8_uint8_io", "int8_float_io")
FLOAT_BLOCK = "stage4_block1"
BASELINE = "int8_baseline"
MIXED = f"int8_mixed, {FLOAT_BLOCK} in float32"


def build(name: str, folder: Path) -> dict[str, Path]:
    """Write the files of a MixNet; return them by recipe."""
    model = mixnet(name)
    files = {recipe: write(model, recipe, folder / f"{name}_{recipe}.tflite") for recipe in RECIPES}
    files[MIXED] = write_mixed(model, folder / f"{name}_mixed.tflite")
    return files | {BASELINE: write(model, BASELINE, folder / f"{name}_baseline.tflite")}


def write_mixed(model: keras.Model, path: Path) -> Path:
    """Write int8 with FLOAT_BLOCK in float32, whatever it brings."""
    recipe, few = load_recipe("int8_mixed"), list(images(2))
    graph = convert(deploy_model(model, image_size=SIZE), image_size=SIZE)
    graph.input_format = "pixels"
    mixed = int8_graph(calibrate(graph, recipe, few), recipe, backend_of(recipe), few, (FLOAT_BLOCK,))
    set_types(mixed, recipe.input, recipe.output)
    path.write_bytes(mixed.content())
    return path


def measure(files: dict[str, Path], rounds: int, arm: Path | None) -> dict[str, dict[str, Any]]:
    """Return what each file costs, by recipe."""
    paths = list(files.values())
    timed, counted = times(sys.executable, paths, 1, rounds), instructions(arm, paths)
    rows = {}
    for recipe, path in files.items():
        ops = inspect_model(path)
        row = {"rounds": timed[path], "a76": counted.get(path), "bytes": path.stat().st_size}
        rows[recipe] = row | {"ops": len(ops.ops), "outside": len(ops.outside)}
    return rows


def markdown(results: dict[str, dict]) -> str:
    """Return the table; the ratios are paired by round."""
    head = ["network", "recipe", "size", "ops", "outside the delegate", "A76 instructions", "x86, 1 thread"]
    head += ["x86: float32 ÷ recipe", "A76: float32 ÷ recipe"]
    lines = []
    for name, rows in results.items():
        for recipe, row in rows.items():
            cells = [f"MixNet-{name}", recipe, f"{row['bytes'] / 1e6:.2f} MB", str(row["ops"]), str(row["outside"])]
            cells += [f"{row['a76']:.0f} M" if row["a76"] else "–", f"{statistics.median(row['rounds']):.2f} ms"]
            lines.append(cells + [ratio(rows, "float32", recipe, key) for key in ("rounds", "a76")])
    return table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["S", "M", "L"], choices=("S", "M", "L"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--arm", type=Path, metavar="ARM64")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {name: measure(build(name, Path(folder)), args.rounds, args.arm) for name in args.models}
    print(json.dumps(results, indent=2) if args.json else markdown(results))
    if args.readme:
        replace_tables(args.readme, "bench_recipes.py", markdown(results))


if __name__ == "__main__":
    main()
