"""What a start of training costs with very many images, the first time and the second: a table of CONTRIBUTING.md.

    python tests/bench/bench_many_files.py [--files 200000] [--json] [--readme CONTRIBUTING.md]

Small JPEGs of 100 classes in a folder, and the same in 40 TFRecord shards. A start is all that `train` does before its
first batch: find the images, decode each one that has not been decoded before, and make a batch. Memory is the most
that the process took beyond TensorFlow's own. Each start is a process of its own.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import replace_tables, table

CLASSES, SHARDS, PICTURES = 100, 40, 500


def write_folder(folder: Path, count: int) -> list[Path]:
    """Write the files, whose content repeats; return them in the order of their classes."""
    from PIL import Image

    random, contents, paths = np.random.default_rng(0), [], []
    for _ in range(PICTURES):
        coarse, stream = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)), io.BytesIO()
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=80)
        contents.append(stream.getvalue())
    for label in range(CLASSES):
        inner = folder / "train" / f"class_{label:03}"
        inner.mkdir(parents=True)
        paths += [inner / f"image_{i:05}.jpg" for i in range(count // CLASSES)]
    for i, path in enumerate(paths):
        path.write_bytes(contents[i % PICTURES])
    return paths


def write_shards(folder: Path, paths: list[Path]) -> None:
    import tensorflow as tf

    folder.mkdir()
    per_class = len(paths) // CLASSES
    for number in range(SHARDS):
        with tf.io.TFRecordWriter(str(folder / f"many-train.tfrecord-{number:05}-of-{SHARDS:05}")) as writer:
            for i in range(number, len(paths), SHARDS):
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[paths[i].read_bytes()]))
                label = tf.train.Feature(int64_list=tf.train.Int64List(value=[i // per_class]))
                features = tf.train.Features(feature={"image": image, "label": label})
                writer.write(tf.train.Example(features=features).SerializeToString())


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start_here(source: Path) -> None:
    """Print the seconds of the parts of a start, and its memory."""
    import tensorflow as tf

    from mixnet_tf import load_data
    from mixnet_tf.data.batches import fingerprint, training_dataset

    next(iter(tf.data.Dataset.range(1)))
    before, times = megabytes(), [time.perf_counter()]
    data = load_data(source)
    times.append(time.perf_counter())
    data = data.checked("train", "val", "test")
    times.append(time.perf_counter())
    fingerprint(data)
    next(iter(training_dataset(data, image_size=64, batch_size=32, seed=0, first_epoch=0, epochs=1)))
    times.append(time.perf_counter())
    parts = dict(zip(("find", "check", "batch"), np.diff(times).tolist(), strict=True))
    print(json.dumps(parts | {"megabytes": megabytes() - before}))


def start(source: Path, cache: Path) -> dict[str, float]:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--start", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    if args.start:
        return start_here(args.start)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder / "shards", write_folder(folder / "folder", args.files))
        for source, number in ((source, number) for source in ("folder", "shards") for number in ("first", "second")):
            results.append({"source": source, "start": number} | start(folder / source, folder / "cache"))
            print(results[-1], file=sys.stderr, flush=True)
    header = [f"{args.files:,} images", "start", "to find them", "to decode each", "to the first batch", "memory"]
    rows = [
        [
            row["source"],
            row["start"],
            *(f"{row[part]:.1f} s" for part in ("find", "check", "batch")),
            f"{row['megabytes']:.0f} MB",
        ]
        for row in results
    ]
    text = table(header, rows)
    print(json.dumps(results) if args.json else text)
    if args.readme:
        replace_tables(args.readme, "bench_many_files.py", text)


if __name__ == "__main__":
    main()
