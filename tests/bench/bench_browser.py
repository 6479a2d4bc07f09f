"""Time a trained network's files in headless Chromium, on one thread of LiteRT.js, beside their plain conversions.

    python -m tests.bench.bench_browser FOLDER

FOLDER is what tests/bench/trained.py writes. It needs Node.js, Chromium, and `npm ci` in tests/web and tflite/web.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from mixnet_tf.bundles.manifest import MODEL, TWIN
from mixnet_tf.demo.page import PLAIN
from tests.chromium import browse, serving

PAIRS = {MODEL: "plain.tflite", TWIN: "plain_float32.tflite"}


def main(folder: Path, runs: int) -> None:
    print("| file | in the browser | plain conversion | times as fast |\n|---|---|---|---|")
    for name, plain in PAIRS.items():
        with tempfile.TemporaryDirectory() as temporary:
            bundle = shutil.copytree(folder / "bundle", Path(temporary) / "bundle")
            shutil.copyfile(folder / plain, bundle / PLAIN)
            with serving(bundle) as url:
                deployed, converted = browse(url, "latency", models=[name, PLAIN], runs=runs)["milliseconds"]
        print(f"| {name} | {deployed:.1f} ms | {converted:.1f} ms | {converted / deployed:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="of each file (default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.runs)
