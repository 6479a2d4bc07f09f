"""What the deploy graph is worth, against the plain conversion and other networks: the table of tflite/README.md.

    python tests/bench/bench_deploy.py [--models S M L] [--arm ARM64] [--peers ENVIRONMENT FOLDER] [--json]
                                       [--readme tflite/README.md]

Times are taken in turns within one process (timing.py): believe the ratios, not the milliseconds. ARM64 is an emulated
Cortex-A76 to count instructions on, see count_arm.py. ENVIRONMENT and FOLDER are the arguments of an earlier run of
peers.sh. --readme replaces the tables between the markers of a file.

Weights and images are random: speed does not depend on them, as long as no two convolutions are equal (the converter
would merge them, and the graph would look cheaper than it is).
"""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from count_arm import count

from mixnet_tf.data.batches import ImageData, load_data
from mixnet_tf.data.pixels import preprocess_input
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.model import create_model
from mixnet_tf.quantization.quantize import quantize

HERE = Path(__file__).resolve().parent
SIZE, CALIBRATION = 224, 16  # images
RECIPES = ("float32", "int8")
OTHERS = {"EfficientNet-B0": keras.applications.EfficientNetB0, "MobileNetV2": keras.applications.MobileNetV2}
TIMM = {
    "timm mixnet_s, ONNX Runtime": ("timm_mixnet_s_f.onnx", "timm_mixnet_s_q.onnx"),
    "timm mixnet_s, litert-torch": ("timm_mixnet_s_f.tflite", "timm_mixnet_s_q.tflite"),
}
OTHER_KERNELS = ("arm64", "reference kernels")


def randomized(model: keras.Model) -> keras.Model:
    """Give a model random scales and biases, and the batch-norm statistics of random images.

    Untouched ones could be folded away; statistics that do not fit make a network which magnifies rounding.
    """
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name == "gamma":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    norms = [own for own in model._flatten_layers() if isinstance(own, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(np.concatenate(list(images(16))), training=True)
    return model


def images(count: int = 8):
    rng = np.random.default_rng(1)
    return (preprocess_input(rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)) for _ in range(count))


def noise(folder: Path) -> ImageData:
    """Return a data set of random images: on others, a network with their statistics would magnify rounding."""
    rng, path = np.random.default_rng(3), folder / "noise.npz"
    pixels = rng.integers(0, 256, (3 * CALIBRATION, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(len(pixels)) % 2
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:2], y_test=labels[:2])
    return load_data(path)


def write(model: keras.Model, recipe: str, path: Path) -> Path:
    path.write_bytes(convert(model, recipe, image_size=SIZE, representative_dataset=images))
    return path


def build_mixnet(name: str, folder: Path) -> dict:
    """Write the four files of a MixNet; return them by graph and recipe, and what was found on the way."""
    keras.utils.set_random_seed(0)
    model = randomized(create_model(f"mixnet_{name.lower()}", input_shape=(SIZE, SIZE, 3), classifier_activation=None))
    found = {"parameters": sum(int(np.prod(w.shape)) for w in model.trainable_weights), "files": {}, "difference": 0.0}
    for recipe, target in zip(RECIPES, ("float", "int8"), strict=True):
        found["difference"] = max(
            found["difference"], verify_deploy(model, deploy_model(model, image_size=SIZE, target=target))
        )
        start, path = time.perf_counter(), folder / f"{name}_deploy_{recipe}.tflite"
        quantize(model, recipe, noise(folder), path, images=CALIBRATION)
        found[f"seconds {recipe}"] = time.perf_counter() - start
        found["files"]["deploy", recipe] = path
        found["files"]["plain", recipe] = write(model, recipe, folder / f"{name}_plain_{recipe}.tflite")
    return found


def build_others(folder: Path) -> dict[tuple[str, str], Path]:
    files = {}
    for name, make in OTHERS.items():
        keras.utils.set_random_seed(0)
        model = randomized(make(weights=None, classifier_activation=None, input_shape=(SIZE, SIZE, 3)))
        for recipe in RECIPES:
            files[name, recipe] = write(model, recipe, folder / f"{name}_{recipe}.tflite")
    return files


def times(python: Path, paths: list[Path], threads: int, rounds: int) -> dict[Path, list[float]]:
    """Return the milliseconds of each file in every round."""
    command = [python, HERE / "timing.py", "--threads", str(threads), "--rounds", str(rounds), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"timing.py failed: {done.stderr[-2000:]}")
    return {Path(path): own for path, own in json.loads(done.stdout).items()}


def instructions(arm: Path | None, paths: list[Path]) -> dict[Path, float]:
    """Return millions of instructions an inference, or nothing without an emulator."""
    return count(arm, [path for path in paths if path.suffix == ".tflite"]) if arm else {}


def differing_logits(path: Path, arm: Path | None, number: int = 4) -> dict[str, str]:
    """Compare an int8 file here on XNNPACK with LiteRT's reference kernels and with XNNPACK on arm64."""
    fast, reference = (LiteModel(path, reference_kernels=plain) for plain in (False, True))
    inputs = np.random.default_rng(2).integers(-128, 128, (number, SIZE, SIZE, 3)).astype(np.int8)
    here, plain = (np.stack([model.run_raw(x[None]) for x in inputs]) for model in (fast, reference))
    found = {"reference kernels": difference(here, plain)}
    if arm:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/in.npy", inputs)
            command = [arm / "python", HERE / "invoke.py", path, "1", f"{folder}/in.npy", f"{folder}/out.npy"]
            subprocess.run(command, check=True, capture_output=True)
            found["arm64"] = difference(here, np.load(f"{folder}/out.npy"))
    return found


def difference(a: np.ndarray, b: np.ndarray) -> str:
    steps = np.abs(a.astype(int) - b.astype(int))
    return f"{np.mean(steps > 0):.1%} differ, by at most {steps.max()} steps" if steps.any() else "all equal"


def measure(files: dict, python: Path, rounds: int, arm: Path | None) -> dict[str, dict]:
    """Return what each file costs, by ``"graph recipe"``."""
    paths = list(files.values())
    one, two = (times(python, paths, threads, rounds) for threads in (1, 2))
    counted = instructions(arm, paths)
    rows = {}
    for (label, recipe), path in files.items():
        rows[f"{label} {recipe}"] = {
            "rounds_1_thread": one[path],
            "rounds_2_threads": two[path],
            "a76": counted.get(path),
            "bytes": path.stat().st_size,
        }
        if path.suffix == ".tflite":
            table = inspect_model(path)
            rows[f"{label} {recipe}"] |= {
                "ops": len(table.ops),
                "outside": len(table.outside),
                "cliffs": len(table.cliffs),
            }
    return rows


def ratio(rows: dict, over: str, under: str, key: str) -> str:
    """Return how many times `over` costs what `under` costs: paired by round for times."""
    a, b = rows.get(over, {}).get(key), rows.get(under, {}).get(key)
    if a is None or b is None:
        return "–"
    pairs = zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]
    return f"{statistics.median(x / y for x, y in pairs):.2f}"


def file_table(results: dict) -> list[str]:
    lines = [
        "| network | graph | type | x86, 1 thread | 2 threads | A76 instructions | size | ops | outside | cliffs |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        for label, row in result["rows"].items():
            graph, recipe = label.rsplit(" ", 1)
            network, graph = (f"MixNet-{name}", graph) if graph in ("plain", "deploy") else (graph, "plain")
            ms = [f"{statistics.median(row[f'rounds_{threads}']):.2f} ms" for threads in ("1_thread", "2_threads")]
            a76 = f"{row['a76']:.0f} M" if row["a76"] else "–"
            ops = [str(row.get(key, "–")) for key in ("ops", "outside", "cliffs")]
            cells = [network, graph, recipe, *ms, a76, f"{row['bytes'] / 1e6:.2f} MB", *ops]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def ratio_table(results: dict) -> list[str]:
    keys = {"x86, 1 thread": "rounds_1_thread", "x86, 2 threads": "rounds_2_threads", "A76 instructions": "a76"}
    heads = [f"{head}, {recipe}" for head in keys for recipe in RECIPES]
    lines = [f"| cost ratio | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    comparisons = [(f"MixNet-{name}: plain ÷ deploy", name, "plain") for name in results]
    others = [label for label in ("S" in results and results["S"]["rows"]) or () if label.endswith("int8")]
    others = [label.rsplit(" ", 1)[0] for label in others]
    comparisons += [(f"{other} ÷ MixNet-S deploy", "S", other) for other in others if other not in ("plain", "deploy")]
    for title, name, over in comparisons:
        rows = results[name]["rows"]
        cells = [ratio(rows, f"{over} {r}", f"deploy {r}", key) for key in keys.values() for r in RECIPES]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def fact_table(results: dict) -> list[str]:
    exactness = [
        f"{graph}: int8 logits here against {other}" for graph in ("deploy", "plain") for other in OTHER_KERNELS
    ]
    heads = ["network", "largest difference of a logit, deploy graph against Keras", "int8 bytes a parameter"]
    heads += [f"deploy, check, convert, quantize on {CALIBRATION} images", *exactness]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, r in results.items():
        cells = [f"MixNet-{name}", f"{r['difference']:.1e} of the largest"]
        cells += [f"{r['rows']['deploy int8']['bytes'] / r['parameters']:.3f}"]
        cells += [f"{r['seconds float32']:.0f} s float32, {r['seconds int8']:.0f} s int8"]
        cells += [r["exactness"][graph].get(other, "–") for graph in ("deploy", "plain") for other in OTHER_KERNELS]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def markdown(results: dict) -> str:
    machine = f"Measured on {platform.machine()}, {processor()}; {SIZE} px, batch 1, random weights."
    tables = (ratio_table(results), file_table(results), fact_table(results))
    return "\n\n".join([machine, *("\n".join(lines) for lines in tables)])


def processor() -> str:
    found = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if platform.system() == "Linux" else None
    )
    return found.group(1) if found else platform.processor()


def replace_tables(readme: Path, script: str, tables: str) -> None:
    """Replace what stands between the markers of `script` in a file."""
    begin, end = f"<!-- begin: {script} -->", f"<!-- end: {script} -->"
    before, rest = readme.read_text().split(begin)
    readme.write_text(f"{before}{begin}\n{tables}\n{end}{rest.split(end)[1]}")


def run(args: argparse.Namespace, folder: Path) -> dict:
    python = Path(args.peers[0], "bin", "python") if args.peers else Path(sys.executable)
    results = {}
    for name in args.models:
        result = build_mixnet(name, folder)
        files = result.pop("files")
        if name == "S":
            files |= build_others(folder)
            for peer, pair in TIMM.items() if args.peers else ():
                files |= {(peer, recipe): Path(args.peers[1], file) for recipe, file in zip(RECIPES, pair, strict=True)}
        print(f"{name}: built, now timing", file=sys.stderr)
        result["exactness"] = {g: differing_logits(files[g, "int8"], args.arm) for g in ("deploy", "plain")}
        result["rows"] = measure(files, python, args.rounds, args.arm)
        results[name] = result
        print(markdown({name: result}), file=sys.stderr)  # it takes minutes: what is known is shown
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["S", "M", "L"])
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
