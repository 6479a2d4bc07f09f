"""What the deploy graph is worth, against the plain conversion and other networks: the table of tflite/README.md.

    python tests/bench/bench_deploy.py [--models S M L] [--arm ARM64] [--peers ENVIRONMENT FOLDER] [--json]
                                       [--readme tflite/README.md]

Times are taken in turns within one process (timing.py): believe the ratios, not the milliseconds. ARM64 is an emulated
Cortex-A76 to count instructions on, see count_arm.py. ENVIRONMENT and FOLDER are the arguments of an earlier run of
peers.sh. --readme replaces the tables between the markers of a file. Weights and images are random, see networks.py.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measuring import HERE, instructions, ratio, replace_tables, table, times
from networks import CALIBRATION, PEERS, SIZE, foreign, mixnet, noise, write_plain

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.environment import processor
from mixnet_tf.exporting import export
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel

TARGETS = {"float32": "float", "int8": "int8"}
"""The types of the files, and the deploy graph's name for each."""

TIMM = {
    "timm mixnet_s, ONNX Runtime": ("timm_mixnet_s_f.onnx", "timm_mixnet_s_q.onnx"),
    "timm mixnet_s, litert-torch": ("timm_mixnet_s_f.tflite", "timm_mixnet_s_q.tflite"),
}
OTHER_KERNELS = ("arm64", "reference kernels")

Files = Mapping[tuple[str, str], Path]
"""By what it is and by type: ``("deploy", "int8")``."""


def build_mixnet(name: str, folder: Path) -> dict[str, Any]:
    """Write the four files of a MixNet; return them, and what making them showed."""
    model, data = mixnet(name), noise(folder)
    facts: dict[str, Any] = {"parameters": sum(int(np.prod(w.shape)) for w in model.trainable_weights)}
    deployed = (deploy_model(model, image_size=SIZE, target=target) for target in TARGETS.values())
    facts["difference"] = max(verify_deploy(model, graph) for graph in deployed)
    files = {("plain", dtype): path for dtype, path in write_plain(model, name, folder).items()}
    for dtype in TARGETS:
        start, path = time.perf_counter(), folder / f"{name}_deploy_{dtype}.tflite"
        export(model, path, recipe=dtype, data=data, images=CALIBRATION)
        facts[f"seconds {dtype}"] = time.perf_counter() - start
        files["deploy", dtype] = path
    return facts | {"files": {key: files[key] for key in sorted(files, key=lambda key: (key[1], key[0]))}}


def build_peers(folder: Path) -> dict[tuple[str, str], Path]:
    return {
        (name, dtype): path
        for name in PEERS
        for dtype, path in write_plain(foreign(name), name.replace(" ", "_"), folder).items()
    }


def differing_logits(path: Path, arm: Path | None, number: int = 4) -> dict[str, str]:
    """Compare an int8 file here on XNNPACK with LiteRT's reference kernels and with XNNPACK on arm64."""
    inputs = np.random.default_rng(2).integers(-128, 128, (number, SIZE, SIZE, 3)).astype(np.int8)
    models = [LiteModel(path, kernels=kernels) for kernels in ("delegate", "reference")]
    here, reference = (np.stack([model.run_raw(x[None]) for x in inputs]) for model in models)
    texts = {"reference kernels": difference(here, reference)}
    if arm:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/in.npy", inputs)
            script, arrays = str(HERE / "invoke.py"), (f"{folder}/in.npy", f"{folder}/out.npy")
            command = [str(arm / "python"), script, str(path), "1", *arrays]
            subprocess.run(command, check=True, capture_output=True)
            texts["arm64"] = difference(here, np.load(f"{folder}/out.npy"))
    return texts


def difference(a: np.ndarray, b: np.ndarray) -> str:
    steps = np.abs(a.astype(int) - b.reshape(a.shape).astype(int))
    return f"{np.mean(steps > 0):.1%} differ, by at most {steps.max()} steps" if steps.any() else "all equal"


def measure(files: Files, python: Path, rounds: int, arm: Path | None) -> dict[str, dict[str, Any]]:
    """Return what each file costs, by ``"graph type"``."""
    paths = list(files.values())
    one, two = (times(python, paths, threads, rounds) for threads in (1, 2))
    counted = instructions(arm, paths)
    rows: dict[str, dict[str, Any]] = {}
    for (label, dtype), path in files.items():
        row = {"rounds_1_thread": one[path], "rounds_2_threads": two[path], "a76": counted.get(path)}
        rows[f"{label} {dtype}"] = row | {"bytes": path.stat().st_size}
        if path.suffix == ".tflite":
            ops = inspect_model(path)
            rows[f"{label} {dtype}"] |= {"ops": len(ops.ops), "outside": len(ops.outside), "cliffs": len(ops.cliffs)}
    return rows


def file_table(results: dict) -> str:
    head = ["network", "graph", "type", "x86, 1 thread", "2 threads", "A76 instructions", "size", "ops", "outside"]
    lines = []
    for name, result in results.items():
        for label, row in result["rows"].items():
            graph, dtype = label.rsplit(" ", 1)
            network, graph = (f"MixNet-{name}", graph) if graph in ("plain", "deploy") else (graph, "plain")
            ms = [f"{statistics.median(row[f'rounds_{threads}']):.2f} ms" for threads in ("1_thread", "2_threads")]
            a76 = f"{row['a76']:.0f} M" if row["a76"] else "–"
            ops = [str(row.get(key, "–")) for key in ("ops", "outside", "cliffs")]
            lines.append([network, graph, dtype, *ms, a76, f"{row['bytes'] / 1e6:.2f} MB", *ops])
    return table([*head, "cliffs"], lines)


def ratio_table(results: dict) -> str:
    keys = {"x86, 1 thread": "rounds_1_thread", "x86, 2 threads": "rounds_2_threads", "A76 instructions": "a76"}
    comparisons = [(f"MixNet-{name}: plain ÷ deploy", name, "plain") for name in results]
    if "S" in results:
        labels = dict.fromkeys(label.rsplit(" ", 1)[0] for label in results["S"]["rows"])
        others = [label for label in labels if label not in ("plain", "deploy")]
        comparisons += [(f"{label} ÷ MixNet-S deploy", "S", label) for label in others]
    lines = []
    for title, name, over in comparisons:
        rows = results[name]["rows"]
        cells = [ratio(rows, f"{over} {r}", f"deploy {r}", key) for key in keys.values() for r in TARGETS]
        lines.append([title, *cells])
    return table(["cost ratio", *(f"{head}, {dtype}" for head in keys for dtype in TARGETS)], lines)


def fact_table(results: dict) -> str:
    pairs = [(graph, kernels) for graph in ("deploy", "plain") for kernels in OTHER_KERNELS]
    head = ["network", "largest difference of a logit, deploy graph against Keras", "int8 bytes per parameter"]
    head += [f"deploy, check, convert, quantize on {CALIBRATION} images"]
    head += [f"{graph}: int8 logits here against {kernels}" for graph, kernels in pairs]
    lines = []
    for name, result in results.items():
        cells = [f"MixNet-{name}", f"{result['difference']:.1e} of the largest"]
        cells += [f"{result['rows']['deploy int8']['bytes'] / result['parameters']:.3f}"]
        cells += [", ".join(f"{result[f'seconds {dtype}']:.0f} s {dtype}" for dtype in TARGETS)]
        lines.append(cells + [result["exactness"][graph].get(kernels, "–") for graph, kernels in pairs])
    return table(head, lines)


def markdown(results: dict) -> str:
    machine = f"Measured on {platform.machine()}, {processor()}; {SIZE} px, batch 1, random weights."
    return "\n\n".join([machine, ratio_table(results), file_table(results), fact_table(results)])


def run(args: argparse.Namespace, folder: Path) -> dict:
    python = Path(args.peers[0], "bin", "python") if args.peers else Path(sys.executable)
    results = {}
    for name in args.models:
        result = build_mixnet(name, folder)
        files = result.pop("files")
        result["exactness"] = {g: differing_logits(files[g, "int8"], args.arm) for g in ("deploy", "plain")}
        if name == "S":
            files |= build_peers(folder)
            for label, pair in TIMM.items() if args.peers else ():
                files |= {(label, dtype): Path(args.peers[1], file) for dtype, file in zip(TARGETS, pair, strict=True)}
        print(f"{name}: built, now timing", file=sys.stderr)
        result["rows"] = measure(files, python, args.rounds, args.arm)
        results[name] = result
        print(markdown({name: result}), file=sys.stderr)  # it takes minutes: what is known is shown
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["S", "M", "L"], choices=("S", "M", "L"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--arm", type=Path, metavar="ARM64")
    parser.add_argument("--peers", nargs=2, metavar=("ENVIRONMENT", "FOLDER"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = run(args, Path(folder))
    print(json.dumps(results, indent=2) if args.json else markdown(results))
    if args.readme:
        replace_tables(args.readme, "bench_deploy.py", markdown(results))


if __name__ == "__main__":
    main()
