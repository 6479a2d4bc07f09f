"""What each recipe makes of MixNet-S, M and L: the table of tflite/README.md.

    python tests/bench/bench_recipes.py [--models S M L] [--arm ARM64] [--json] [--readme tflite/README.md]

Options and weights are those of bench_deploy.py; size and speed do not depend on the weights, nor on the images the
ranges come from. int8_mixed is shown with one block in float32: which ones a trained network needs, `quantize` finds.
The last row is the same graph quantized by the converter alone: equalization and corrected biases cost nothing.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import keras
from bench_deploy import CALIBRATION, SIZE, images, instructions, noise, randomized, ratio, replace_tables, times

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.model import create_model
from mixnet_tf.quantization.fallback import float_names
from mixnet_tf.quantization.io_types import set_types
from mixnet_tf.quantization.quantize import int8_content, prepare, quantize
from mixnet_tf.quantization.recipe import BACKENDS, load_recipe

RECIPES = ("float32", "float16", "weight_int8", "int8", "int8_uint8_io", "int8_float_io")
FLOAT_BLOCK = "stage4_block1"
MIXED = f"int8_mixed, {FLOAT_BLOCK} in float32"
CONVERTER = "int8 by the converter alone"


def build(name: str, folder: Path) -> dict[str, Path]:
    """Write the files of a MixNet; return them by recipe."""
    keras.utils.set_random_seed(0)
    model = randomized(create_model(f"mixnet_{name.lower()}", input_shape=(SIZE, SIZE, 3), classifier_activation=None))
    data = noise(folder)
    files = {recipe: folder / f"{name}_{recipe}.tflite" for recipe in (*RECIPES, "mixed", "converter")}
    for recipe in RECIPES:
        quantize(model, recipe, data, files[recipe], images=CALIBRATION)
    deployed = deploy_model(model, image_size=SIZE)
    calibration = list(images(2))
    mixed = load_recipe("int8_mixed")
    prepared = prepare(convert(deployed, "float32", image_size=SIZE), mixed, lambda: calibration)
    graph = FlatGraph(int8_content(prepared, mixed, BACKENDS[0], calibration, float_names([FLOAT_BLOCK])))
    set_types(graph, mixed.input, mixed.output)
    files["mixed"].write_bytes(graph.content())
    content = convert(deployed, "int8", image_size=SIZE, representative_dataset=lambda: calibration)
    files["converter"].write_bytes(content)
    return {{"mixed": MIXED, "converter": CONVERTER}.get(recipe, recipe): path for recipe, path in files.items()}


def measure(files: dict[str, Path], rounds: int, arm: Path | None) -> dict[str, dict]:
    """Return what each file costs, by recipe."""
    paths = list(files.values())
    timed, counted = times(Path(sys.executable), paths, 1, rounds), instructions(arm, paths)
    rows = {}
    for recipe, path in files.items():
        table = inspect_model(path)
        rows[recipe] = {"rounds": timed[path], "a76": counted.get(path), "bytes": path.stat().st_size}
        rows[recipe] |= {"ops": len(table.ops), "outside": len(table.outside)}
    return rows


def markdown(results: dict[str, dict]) -> str:
    """Return the table; the ratios are paired by round."""
    heads = ["network", "recipe", "size", "ops", "outside the delegate", "A76 instructions", "x86, 1 thread"]
    heads += ["x86: float32 ÷ recipe", "A76: float32 ÷ recipe"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, rows in results.items():
        for recipe, row in rows.items():
            cells = [f"MixNet-{name}", recipe, f"{row['bytes'] / 1e6:.2f} MB", str(row["ops"]), str(row["outside"])]
            cells += [f"{row['a76']:.0f} M" if row["a76"] else "–", f"{statistics.median(row['rounds']):.2f} ms"]
            cells += [ratio(rows, "float32", recipe, key) for key in ("rounds", "a76")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["S", "M", "L"])
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
