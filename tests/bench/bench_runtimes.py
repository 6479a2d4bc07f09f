"""Which runtimes take which files, and whether they give what LiteRT gives in Python.

    python tests/bench/bench_runtimes.py --images trashnet/test [--arm ARM64] [--mediapipe MP/bin/python]
        [--chromium chromium] [--native tflite/native/classify] [--readme tflite/README.md]

The files are those of the MixNet-S that trained.py makes. Every runtime gets the same pixels: photographs, cropped as
for evaluation. A runtime that is not named is left out.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from measuring import replace_tables, table, times
from trained import FOLDER

from mixnet_tf import export
from mixnet_tf.data.decoding import decode
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.litert.description import labels_of
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel

HERE = Path(__file__).resolve().parent
WEB = HERE.parent / "web"
FILES = {
    "model.tflite": "`mobile`",
    "model_float32.tflite": "`mobile_float32`",
    "int8.tflite": "`int8`",
    "float32.tflite": "`float32`",
}
PLAIN = {"model.tflite": "plain.tflite", "model_float32.tflite": "plain_float32.tflite"}
FEW = 24  # pictures for what is emulated

Answer = tuple[list[str] | None, np.ndarray]
"""Labels as the runtime shows them, or None; and its outputs (n, classes)."""

Runtime = Callable[[Path, np.ndarray], Answer]


class RefusedError(Exception):
    """The runtime does not take the file; the text says why."""


def in_python(path: Path, pixels: np.ndarray) -> Answer:
    return None, LiteModel(path)(pixels)


def on_arm(arm: Path) -> Runtime:
    def run(path: Path, pixels: np.ndarray) -> Answer:
        details = LiteModel(path).input
        given = pixels.astype(np.int16) - 128 if details["dtype"] == np.int8 else pixels
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/in.npy", given.astype(details["dtype"]))
            command = [arm / "python", HERE / "invoke.py", path, "1", f"{folder}/in.npy", f"{folder}/out.npy"]
            subprocess.run(command, check=True, capture_output=True)
            outputs = np.load(f"{folder}/out.npy")
        scale, zero_point = LiteModel(path).output["quantization"]
        return None, (outputs.astype(np.float32) - zero_point) * np.float32(scale) if scale else outputs

    return run


def in_mediapipe(python: Path) -> Runtime:
    def run(path: Path, pixels: np.ndarray) -> Answer:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/in.npy", pixels)
            command = [python, HERE / "mediapipe_outputs.py", path, f"{folder}/in.npy", f"{folder}/out.npy"]
            environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                raise SystemExit(f"mediapipe_outputs.py failed: {done.stderr[-2000:]}")
            answer = json.loads(done.stdout.splitlines()[-1])
            if "refused" in answer:
                raise RefusedError(answer["refused"])
            return answer["labels"], np.load(f"{folder}/out.npy")

    return run


class Browser:
    """LiteRT.js on the page of ``serve-demo``, in headless Chromium."""

    def __init__(self, chromium: str, bundle: Path):
        runtime = HERE.parents[1] / "tflite" / "web" / "node_modules"
        command = [
            sys.executable,
            "-m",
            "mixnet_tf",
            "serve-demo",
            bundle,
            "--port",
            "0",
            "--runtime",
            runtime,
            "--json",
        ]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._server.stdout is not None
        self._url = json.loads("".join(self._server.stdout.readline() for _ in range(4)))["url"]
        self._chromium = shutil.which(chromium) or chromium  # playwright wants a path

    def browse(self, scenario: str, **options: object) -> object:
        given = json.dumps({"url": self._url, "chromium": self._chromium, **options})
        command = ["node", WEB / "browser.mjs", scenario]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            if "Failed to launch" in done.stderr:
                raise SystemExit(f"{self._chromium}: no browser that can be started: {done.stderr[-500:]}")
            line = next((line for line in done.stderr.splitlines() if "Error" in line), done.stderr[-200:])
            raise RefusedError(line.split("Error: ")[-1])
        return json.loads(done.stdout)["result"]

    def __call__(self, path: Path, pixels: np.ndarray) -> Answer:
        encoded = [base64.b64encode(picture.tobytes()).decode() for picture in pixels]
        (outputs,) = self.browse("raw", files=[str(path)], pixels=encoded, shape=[1, *pixels.shape[1:]])
        return None, np.asarray(outputs, np.float32)

    def ratios(self) -> dict[str, float]:
        """Return how many times as fast as their plain twins the page says that the files are."""
        cards = self.browse("example")["cards"]
        found = {card["file"].split(" ")[0]: re.search(r"([\d.]+) × as fast", card["time"]) for card in cards}
        return {name: float(match[1]) for name, match in found.items() if match}

    def close(self) -> None:
        self._server.terminate()
        self._server.communicate()


def in_c(program: Path, photos: Sequence[Path]) -> Runtime:
    """The program reads and crops the photographs by itself, and prints six digits."""

    def run(path: Path, pixels: np.ndarray) -> Answer:
        labels = labels_of(FlatGraph.read(path)) or ()
        outputs = np.zeros((len(pixels), len(labels)), np.float32)
        for probabilities, photo in zip(outputs, photos, strict=False):
            command = [program, path, photo, "--top", str(len(labels))]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RefusedError(done.stderr.strip().splitlines()[-1].split(f"{path}: ")[-1])
            for line in done.stdout.splitlines():
                probability, label = line.split("  ", 1)
                probabilities[labels.index(label)] = float(probability)
        return list(labels), outputs

    return run


def photographs(folder: Path, count: int) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [paths[int(i)] for i in np.linspace(0, len(paths) - 1, min(count, len(paths)))]


def row(name: str, runtime: Runtime, files: dict[str, Path], pixels: np.ndarray) -> list[str]:
    cells = [name]
    for path in files.values():
        try:
            labels, outputs = runtime(path, pixels)
        except RefusedError as refusal:
            cells.append(f"no: “{str(refusal)[:100].strip()}”")
            continue
        expected = in_python(path, pixels)[1]
        same, largest = (outputs.argmax(axis=1) == expected.argmax(axis=1)).mean(), np.abs(outputs - expected).max()
        text = "equal" if largest < 1e-6 else f"within {largest:.1g}" if same == 1 else f"same class {same:.1%}"
        cells.append(f"{text}, labels" if labels and labels[0] else text)
    return cells


def make_files(folder: Path, images: str) -> dict[str, Path]:
    """Return the files to try; the two that trained.py does not make are made in a folder of their own."""
    files = {name: FOLDER / name for name in FILES if (FOLDER / name).exists()}
    for name in set(FILES) - set(files):
        files[name] = folder / name
        export(FOLDER / "run" / "model.keras", files[name], recipe=Path(name).stem, data=images)
    return {name: files[name] for name in FILES}


def plain_bundle(folder: Path) -> Path:
    """Return the bundle with the plain files beside the deployed ones, for the page."""
    shutil.copytree(FOLDER / "bundle", folder / "bundle")
    shutil.copyfile(FOLDER / "plain.tflite", folder / "bundle" / "model_plain.tflite")
    return folder / "bundle"


def main(arguments: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(folder, str(arguments.images.parent))
        photos, size = photographs(arguments.images, arguments.count), FlatGraph.read(files["model.tflite"]).image_size
        pixels = np.stack([evaluation_pixels(decode(path), size, 0.875) for path in photos])
        rows: list[Sequence[str]] = []
        if arguments.native:
            rows.append(row("LiteRT's C API (tflite/native)", in_c(arguments.native, photos), files, pixels))
        if arguments.arm:
            rows.append(row("LiteRT on an emulated Cortex-A76", on_arm(arguments.arm), files, pixels[:FEW]))
        ratios: dict[str, float] = {}
        if arguments.chromium:
            browser = Browser(arguments.chromium, plain_bundle(folder))
            try:
                rows.append(row("LiteRT.js in Chromium (tflite/web)", browser, files, pixels))
                ratios = browser.ratios()
            finally:
                browser.close()
        if arguments.mediapipe:
            rows.append(row("MediaPipe Tasks in Python", in_mediapipe(arguments.mediapipe), files, pixels))
        python = [f"LiteRT in Python, {len(pixels)} photographs", *("reference" for _ in files)]
        tables = [table(["runtime", *FILES.values()], [python, *rows]), latency_table(ratios)]
    return "\n\n".join(tables)


def latency_table(browser: dict[str, float]) -> str:
    paths = [FOLDER / name for pair in PLAIN.items() for name in pair]
    measured = times(sys.executable, paths, 1, 20)
    rows = []
    for name, plain in PLAIN.items():
        pairs = zip(measured[FOLDER / plain], measured[FOLDER / name], strict=True)
        python = f"{float(np.median([a / b for a, b in pairs])):.2f}"
        rows.append([FILES[name], python, f"{browser[name]:.2f}" if name in browser else "–"])
    return table(["latency, plain ÷ deploy", "LiteRT in Python, x86", "LiteRT.js in Chromium"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="the test split of the photographs, a folder")
    parser.add_argument("--count", type=int, default=400, help="of them, evenly chosen (default: 400)")
    parser.add_argument("--arm", type=Path, help="a folder that arm64.sh made")
    parser.add_argument("--mediapipe", type=Path, help="a Python with MediaPipe")
    parser.add_argument("--chromium", help="the browser; node must be installed")
    parser.add_argument("--native", type=Path, help="the program of tflite/native")
    parser.add_argument("--readme", type=Path)
    given = parser.parse_args()
    made = main(given)
    if given.readme:
        replace_tables(given.readme, "bench_runtimes.py", made)
    print(made)
