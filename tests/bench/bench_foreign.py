"""What the deploy graph and the recipes make of Keras' own networks: the table of tflite/README.md.

    python tests/bench/bench_foreign.py [--networks NAME ...] [--arm ARM64] [--json] [--readme tflite/README.md]

Each network is written four times: its plain graph, in float32 and by TensorFlow's quantizer, and its deploy graph, in
float32 and by recipe int8. Times are taken in turns within one process (timing.py): believe the ratios. ARM64 is an
emulated Cortex-A76 to count instructions on, see count_arm.py. Weights and images are random, see networks.py; the SNR
of int8 logits against the float ones is that of random weights, too: compare the two, and no more.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import instructions, ratio, replace_tables, table, times
from networks import FOREIGN, SIZE, foreign, images, write

from mixnet_tf.environment import processor
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.metrics import signal_to_noise

RECIPES = {
    ("plain", "float32"): "float32",
    ("deploy", "float32"): "float32",
    ("plain", "int8"): "int8_baseline",
    ("deploy", "int8"): "int8",
}
KEYS = {"x86, 1 thread": "rounds", "A76 instructions": "a76"}


def build(name: str, folder: Path) -> dict[str, Path]:
    """Write the files of a network; return them by graph and type."""
    model = foreign(name)
    return {
        f"{graph} {dtype}": write(model, recipe, folder / f"{name}_{graph}_{dtype}.tflite", graph)
        for (graph, dtype), recipe in RECIPES.items()
    }


def measure(files: dict[str, Path], rounds: int, arm: Path | None) -> dict[str, dict[str, Any]]:
    """Return what each file costs, and how near its logits are to those of the plain float file."""
    paths = list(files.values())
    timed, counted = times(sys.executable, paths, 1, rounds), instructions(arm, paths, runs=2)
    wanted = logits(files["plain float32"])
    rows = {}
    for label, path in files.items():
        ops = inspect_model(path)
        row = {"rounds": timed[path], "a76": counted.get(path), "snr_db": signal_to_noise(wanted, logits(path))}
        outside = sorted({op.name for op in ops.outside})
        rows[label] = row | {"outside": len(ops.outside), "kinds": outside, "cliffs": len(ops.cliffs)}
    return rows


def logits(path: Path) -> np.ndarray:
    """Return the logits of random images, without their mean over the images: what tells the images apart."""
    model = LiteModel(path, num_threads=2)
    outputs = np.concatenate([np.reshape(model.run(image)[0], (1, -1)) for image in images(8)])
    return outputs - outputs.mean(axis=0)


def markdown(results: dict[str, dict]) -> str:
    ratios, files = [], []
    for name, rows in results.items():
        cells = [
            ratio(rows, f"plain {dtype}", f"deploy {dtype}", key)
            for key in KEYS.values()
            for dtype in ("float32", "int8")
        ]
        ratios.append([name, *cells])
        for label, row in rows.items():
            a76 = f"{row['a76']:.0f} M" if row["a76"] else "–"
            cells = [name, *label.split(), f"{statistics.median(row['rounds']):.2f} ms", a76]
            outside = f"{row['outside']} ({', '.join(row['kinds'])})" if row["outside"] else "0"
            snr = f"{row['snr_db']:.1f} dB" if row["snr_db"] is not None else "–"
            files.append([*cells, outside, str(row["cliffs"]), snr if label.endswith("int8") else "–"])
    heads = [f"{key}, {dtype}" for key in KEYS for dtype in ("float32", "int8")]
    costs = table(["plain ÷ deploy", *heads], ratios)
    head = ["network", "graph", "type", *KEYS, "outside the delegate", "cliffs", "SNR, random weights"]
    machine = f"Measured on {platform.machine()}, {processor()}; {SIZE} px, batch 1, random weights."
    return f"{machine}\n\n{costs}\n\n{table(head, files)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(FOREIGN), choices=list(FOREIGN))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--arm", type=Path, metavar="ARM64")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.networks:
            results[name] = measure(build(name, Path(folder)), args.rounds, args.arm)
            print(markdown({name: results[name]}), file=sys.stderr)  # it takes long: what is known is shown
    print(json.dumps(results, indent=2) if args.json else markdown(results))
    if args.readme:
        replace_tables(args.readme, "bench_foreign.py", markdown(results))


if __name__ == "__main__":
    main()
